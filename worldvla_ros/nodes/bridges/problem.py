"""Why a controller or a gripper would not take a command."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """Why nothing may be sent.

    Attributes:
        code: Stable name, e.g. servo_halted.
        text: One sentence for the operator.
        remedy: What to do.
        pending: Whether it may go away by itself.
    """

    code: str
    text: str
    remedy: str
    pending: bool = False
