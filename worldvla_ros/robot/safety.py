"""Whether the arm may move: dry run, enabled, held or stopped, and what changes that. Pure logic.

    event           │ dry run   enabled   held      stopped
    ────────────────┼──────────────────────────────────────
    enable(true)    │ enabled   enabled   enabled   stopped
    enable(false)   │ dry run   dry run   dry run   dry run
    hold            │ held      held      held      stopped
    stop            │ stopped   stopped   stopped   stopped

So a hold ends with `enable(true)`; a stop needs `enable(false)` and then `enable(true)`, so that
no single message sets a stopped arm in motion. Guards that only the operator can answer (the arm
does not do what is commanded) hold in the same way. Nothing else leads to `enabled`.

Must not know ROS or robots. Times [s].
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from worldvla_ros.robot.reasons import Reason

STANDS_STILL_S = 0.5

HELD_BY_OPERATOR = Reason(
    'operator_hold', '~/hold was called', 'Call ~/enable with true to go on.'
)
STOPPED_BY_TOPIC = Reason(
    'operator_stop',
    'the stop topic said true',
    'Call ~/enable with false, then with true, to go on.',
)


class Mode(Enum):
    """What the operator allows; the values are those of msg/PlayerState."""

    DRY_RUN = 'dry run'
    ENABLED = 'enabled'
    HELD = 'held'
    STOPPED = 'stopped'


@dataclass(frozen=True)
class Safety:
    """What the operator allows, and how it changes; every change is a new value.

    Attributes:
        mode: The mode.
        why: Why the arm is held or stopped; None in other modes.
    """

    mode: Mode
    why: Reason | None = None

    @property
    def enabled(self) -> bool:
        """Whether commands may leave."""
        return self.mode is Mode.ENABLED

    def enable(self, on: bool) -> 'Safety':
        """Release a hold and let commands leave, or begin a dry run; a stop is not released."""
        if not on:
            return Safety(Mode.DRY_RUN)
        return self if self.mode is Mode.STOPPED else Safety(Mode.ENABLED)

    def hold(self, why: Reason = HELD_BY_OPERATOR) -> 'Safety':
        """Hold until `enable(True)`."""
        return self if self.mode is Mode.STOPPED else Safety(Mode.HELD, why)

    def stop(self, why: Reason = STOPPED_BY_TOPIC) -> 'Safety':
        """Stop until `enable(False)`; the first reason stays."""
        return self if self.mode is Mode.STOPPED else Safety(Mode.STOPPED, why)


class Heartbeat:
    """The operator's heartbeat, a dead man's handle: a missing beat is a reason to stop."""

    def __init__(self, timeout_s: float) -> None:
        """Wait for beats.

        Args:
            timeout_s: The longest time between two beats [s]; 0 asks for none.
        """
        self._timeout_s = timeout_s
        self._last_s: float | None = None

    def beat(self, steady_s: float) -> None:
        """Take a beat, at a time of a clock that never stops [s]."""
        self._last_s = steady_s

    def check(self, steady_s: float) -> Reason | None:
        """Return why to stop now [s], or None."""
        if self._timeout_s <= 0:
            return None
        silent_s = np.inf if self._last_s is None else steady_s - self._last_s
        if silent_s <= self._timeout_s:
            return None
        found = 'never heard' if self._last_s is None else f'silent for {silent_s:.2f} s'
        return Reason(
            'heartbeat',
            f'heartbeat {found} (heartbeat_timeout {self._timeout_s} s)',
            'Start the heartbeat of the operator, then call ~/enable with false and with true.',
            silent_s,
            self._timeout_s,
            's',
        )


class ClockWatch:
    """Notices a clock that stands still, as without a publisher of /clock in simulated time.

    Attributes:
        still_s: How long it has not changed, when it was last looked at [s].
    """

    def __init__(self) -> None:
        """Start without having seen a clock."""
        self._clock_s = np.nan
        self._changed_s = np.nan
        self.still_s = 0.0

    def check(self, clock_s: float, steady_s: float) -> Reason | None:
        """Refuse to move by a clock that did not change for `STANDS_STILL_S`.

        Args:
            clock_s: The clock that stamps use [s].
            steady_s: A clock that never stops [s].
        """
        if clock_s != self._clock_s:
            self._clock_s, self._changed_s = clock_s, steady_s
        self.still_s = steady_s - self._changed_s
        if clock_s > 0 and self.still_s <= STANDS_STILL_S:
            return None
        found = 'ROS time stands still' if clock_s > 0 else 'ROS time is 0'
        return Reason(
            'clock',
            f'{found} (for at most {STANDS_STILL_S} s)',
            'Check that something publishes /clock, or set use_sim_time to false.',
            self.still_s,
            STANDS_STILL_S,
            's',
            clock_s,
        )
