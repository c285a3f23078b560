"""The chart of the tip's speed: what was measured, what is to come, and the limit.

Must not know where the numbers come from. Times [s] of one clock, speeds [m/s].
"""

from collections import deque

import numpy as np

BEFORE_S, AFTER_S = 3.0, 1.5
STEP_S = 0.05
WINDOW_S = 0.1
"""A measured speed is the way of this time: stamps and positions are not exact."""


class Speeds:
    """Collects positions and chunks; `rows` is what a chart shows now."""

    def __init__(self, limit: float) -> None:
        """Start empty.

        Args:
            limit: The greatest speed allowed [m/s].
        """
        self.limit = limit
        self._tips: deque[tuple[float, np.ndarray]] = deque(maxlen=400)
        self._coming: tuple[np.ndarray, np.ndarray] = np.zeros(0), np.zeros(0)

    def clear(self) -> None:
        """Forget everything."""
        self._tips.clear()
        self._coming = np.zeros(0), np.zeros(0)

    def put_tip(self, stamp_s: float, position: np.ndarray) -> None:
        """Take where the tip was measured, float[3] [m]."""
        if self._tips and stamp_s < self._tips[-1][0]:
            self.clear()
        if not self._tips or stamp_s > self._tips[-1][0]:
            self._tips.append((stamp_s, np.array(position, float)))

    def put_coming(self, begins_s: np.ndarray, speeds: np.ndarray) -> None:
        """Take when each action of the newest chunk begins, and how fast it is: float[k] each."""
        self._coming = np.asarray(begins_s, float), np.asarray(speeds, float)

    def rows(self, now_s: float) -> tuple[np.ndarray, ...]:
        """Return times from now, measured, to come and limit: float64[n] each, NaN unknown."""
        grid = np.arange(round(-BEFORE_S / STEP_S), round(AFTER_S / STEP_S) + 1) * STEP_S
        return (
            grid,
            self._measured(now_s + grid),
            self._expected(now_s + grid, now_s),
            np.full(len(grid), self.limit),
        )

    def _measured(self, times_s: np.ndarray) -> np.ndarray:
        if len(self._tips) < 2:
            return np.full(len(times_s), np.nan)
        stamps = np.array([stamp for stamp, _ in self._tips])
        places = np.array([place for _, place in self._tips])
        known = (times_s - WINDOW_S >= stamps[0]) & (times_s <= stamps[-1])
        ends, starts = (
            np.stack([np.interp(times, stamps, column) for column in places.T], axis=1)
            for times in (times_s, times_s - WINDOW_S)
        )
        return np.where(known, np.linalg.norm(ends - starts, axis=1) / WINDOW_S, np.nan)

    def _expected(self, times_s: np.ndarray, now_s: float) -> np.ndarray:
        begins, speeds = self._coming
        if not len(begins):
            return np.full(len(times_s), np.nan)
        place = np.searchsorted(begins, times_s, side='right') - 1
        last_s = begins[-1] + (begins[-1] - begins[-2] if len(begins) > 1 else STEP_S)
        known = (place >= 0) & (times_s < last_s) & (times_s >= now_s - STEP_S)
        return np.where(known, speeds[np.clip(place, 0, None)], np.nan)
