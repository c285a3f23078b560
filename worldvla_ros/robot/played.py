"""What was played when: how much of a chunk's actions is done since its observation was taken.

    observation at s ───────────── chunk arrives ── goes on at action c
        │ ▓▓▓▓▓▓▓▓▓░░░▓▓▓▓▓▓▓▓▓▓▓▓▓▓ │            c = what was played since s (▓)

Actions that were played since an observation did what the first actions of its answer were meant
to do. Counting what was really played, and not what the clock says, keeps this right when nothing
was played for a while, as before the first chunk or in a pause, or when it was played slower.
Played time is counted in seconds of actions: an action of dt counts as dt however long it took.
Must not know robots or paths. Times [s] of one clock.
"""

from collections import deque
from typing import NamedTuple

REMEMBERED_S = 60.0
"""Older intervals are forgotten; no chunk answers an observation as old."""


class Interval(NamedTuple):
    """Actions were played from one time to another [s], so many seconds of them per second."""

    from_s: float
    to_s: float
    rate: float

    def since(self, stamp_s: float) -> float:
        """Return the seconds of actions that were played in it after a time [s]."""
        return max(0.0, self.to_s - max(self.from_s, stamp_s)) * self.rate


class Played:
    """The intervals in which actions were played."""

    def __init__(self) -> None:
        """Start with nothing played."""
        self._intervals: deque[Interval] = deque()

    def add(self, interval: Interval) -> None:
        """Note that actions were played."""
        if interval.to_s <= interval.from_s:
            return
        self._intervals.append(interval)
        while self._intervals[0].to_s < interval.to_s - REMEMBERED_S:
            self._intervals.popleft()

    def since(self, stamp_s: float) -> float:
        """Return the seconds of actions played after a time [s]."""
        return sum(interval.since(stamp_s) for interval in self._intervals)

    def clear(self) -> None:
        """Forget everything, as when the clock was set back."""
        self._intervals.clear()
