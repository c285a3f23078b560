"""One row of the table, before it is tried."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studies.faults.trial import Scene

Act = Callable[['Scene'], object]


def nothing(scene: 'Scene') -> None:
    """Leave all as it is."""


@dataclass(frozen=True)
class Fault:
    """What is injected, what must follow, and how it is undone.

    Attributes:
        name: Unique, a few words.
        how: How it is injected, one line.
        inject: Does it.
        hold_s: The arm must stand still from this long after the injection [s]; None: commands
            must go on.
        reason: Key of `contract.REASONS` that must be said; '' where nothing need be.
        remove: Undoes it.
        enable: Whether ~/enable must be called before commands flow again; None: it is called,
            but they may flow before.
        source: Who makes chunks: 'policy' on images, or 'feeder', legal chunks of the harness.
        output: Command of the player: 'twist' or 'trajectory'.
        lasts_s: How long the fault is in force at least, beyond `hold_s` [s].
        traceback: Pattern of a traceback that is allowed in the log, '' for none.
        dies: Node whose process may end.
        quiet: Whether it is allowed that commands pause while the fault is in force.
        check: A further check after the recovery; returns what is wrong, or ''.
    """

    name: str
    how: str
    inject: Act
    hold_s: float | None = None
    reason: str = ''
    remove: Act = nothing
    enable: bool | None = False
    source: str = 'feeder'
    output: str = 'twist'
    lasts_s: float = 0.8
    traceback: str = ''
    dies: str = ''
    quiet: bool = False
    check: Callable[['Scene'], str] | None = None

    @property
    def expected(self) -> str:
        """What must follow, in words."""
        said = f', "{self.reason}" said' if self.reason else ''
        if self.hold_s is not None:
            way = ', goes on after ~/enable' if self.enable else ', goes on by itself'
            return f'stands still {self.hold_s:.1f} s after it{said}{way}'
        return f'{"may pause" if self.quiet else "commands go on"}{said}'
