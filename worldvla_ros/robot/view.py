"""What the player does, for the operator: figures, and one or two sentences.

Must not know ROS, nor how the player decides.
"""

from dataclasses import dataclass

from worldvla_ros.robot.motion import Motion
from worldvla_ros.robot.notes import ENDED, TO_START
from worldvla_ros.robot.reasons import Reason
from worldvla_ros.robot.safety import Mode

DRY_RUN = 'dry run: nothing is sent. Call ~/enable with true to move the arm.'
NOTICED = 1.05
"""A chunk that is slower by less is not said to be."""


@dataclass(frozen=True)
class View:
    """What the player does, for the operator.

    Attributes:
        message: One or two sentences.
        kind: The same for all messages that differ in numbers only.
        warn: Whether something is wrong.
        mode: What the operator allows.
        moving: Whether a path is being played.
        reasons: All that speaks against moving, the most important first.
        chunk_id: The chunk that is being played, 0 without one.
        remaining_s: Time to the end of the path [s].
        slowdown: How many times slower than meant the chunk is played.
        speed: The operator's speed override, a share.
        following_error_m: From the commanded to the measured tip [m], NaN without a command.
    """

    message: str
    kind: str
    warn: bool
    mode: Mode
    moving: bool
    reasons: tuple[Reason, ...]
    chunk_id: int
    remaining_s: float
    slowdown: float
    speed: float
    following_error_m: float


def view(
    mode: Mode,
    reasons: tuple[Reason, ...],
    motion: Motion,
    *,
    braking: bool,
    to_start: bool,
    following_error_m: float,
) -> View:
    """Return a view.

    Args:
        mode: See `View`.
        reasons: All of them, the most important first.
        motion: What is being played.
        braking: Whether it is a stop.
        to_start: Whether it goes to the start pose.
        following_error_m: See `View`.
    """
    moving = motion.path is not None
    playing = moving and not braking
    if playing:
        reasons = tuple(r for r in reasons if r.code not in ('no_chunk', 'chunk_ended'))
    if playing and not to_start:
        if mode is Mode.DRY_RUN:
            message, kind, warn = DRY_RUN, 'dry run', False
        else:
            message = kind = _playing(motion)
            warn = motion.clipped
    else:
        words = 'dry run: would hold' if mode is Mode.DRY_RUN else 'holding'
        top = reasons[0] if reasons else ENDED
        if playing:
            words, top, reasons = 'moving', TO_START, (*reasons, TO_START)
        message, kind, warn = f'{words}: {top}', f'{words}: {top.code}', not top.quiet
    chunk = motion.chunk if moving else None
    return View(
        message,
        kind,
        warn,
        mode,
        moving,
        reasons,
        0 if chunk is None else chunk.chunk_id,
        motion.remaining_s,
        motion.slowdown,
        motion.speed,
        following_error_m,
    )


def _playing(motion: Motion) -> str:
    words = 'playing'
    if motion.slowdown > NOTICED:
        words += (
            f' {motion.slowdown:.2g} times slower, as the chunk is faster than the limits of the '
            'robot description'
        )
    if motion.speed < 1:
        words += f' at {motion.speed:.0%} of full speed'
    return words + (', motion kept inside the workspace' if motion.clipped else '')
