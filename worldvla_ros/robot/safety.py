"""Whether the arm may move: dry run, enabled or held, and a watch on the clock. Pure logic.

    dry run ── enable ──▶ enabled ── hold ──▶ held
       ▲ ◀── disable ───── │  ▲ ◀─── enable ── │
       └──────────── disable ──────────────────┘   hold is also possible from the dry run

Must not know ROS or robots.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from worldvla_ros.robot.guards import Refusal

STANDS_STILL_S = 0.5


class Mode(Enum):
    """What the operator allows."""

    DRY_RUN = 'dry run'
    ENABLED = 'enabled'
    HELD = 'held'


@dataclass(frozen=True)
class Safety:
    """What the operator allows, and how it changes; every change is a new value."""

    mode: Mode

    @property
    def enabled(self) -> bool:
        """Whether commands may leave."""
        return self.mode is Mode.ENABLED

    def enable(self, on: bool) -> 'Safety':
        """Release a hold and let commands leave, or begin a dry run."""
        return Safety(Mode.ENABLED if on else Mode.DRY_RUN)

    def hold(self) -> 'Safety':
        """Hold until `enable(True)`."""
        return Safety(Mode.HELD)


class ClockWatch:
    """Notices a clock that stands still, as without a publisher of /clock in simulated time."""

    def __init__(self) -> None:
        """Start without having seen a clock."""
        self._clock_s = np.nan
        self._changed_s = np.nan

    def check(self, clock_s: float, steady_s: float) -> Refusal | None:
        """Refuse to move by a clock that did not change for `STANDS_STILL_S`.

        Args:
            clock_s: The clock that stamps use [s].
            steady_s: A clock that never stops [s].
        """
        if clock_s != self._clock_s:
            self._clock_s, self._changed_s = clock_s, steady_s
        still_s = steady_s - self._changed_s
        if clock_s > 0 and still_s <= STANDS_STILL_S:
            return None
        value = 'ROS time stands still' if clock_s > 0 else 'ROS time is 0'
        remedy = 'Check that something publishes /clock, or set use_sim_time to false.'
        return Refusal('clock', value, f'for at most {STANDS_STILL_S} s', clock_s, remedy)


class Pace:
    """Says when the next command is due, by a clock that may run slower or faster than ticks."""

    def __init__(self, period_s: float) -> None:
        """Make one command due per period [s]."""
        self._period_s = period_s
        self._due_s = -np.inf

    def due(self, now_s: float) -> bool:
        """Whether a command is due; a little early counts, so that jitter does not skip one."""
        ahead = self._due_s - now_s
        if self._period_s / 4 < ahead < 2 * self._period_s:
            return False
        on_time = abs(ahead) <= self._period_s  # else late or set back: begin anew from now
        self._due_s = (self._due_s if on_time else now_s) + self._period_s
        return True
