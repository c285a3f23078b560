"""Which action of which chunk is due: time, splicing and holding. Pure logic, no clock of its own.

    observation at s ───────────── chunk arrives ── action c is next
        │ sent: x  x  x (c = 3 actions sent since s, which the observation has not seen)

A chunk answers the observation taken at its stamp. Actions that were sent since then did what its
first actions were meant to do, so the new chunk goes on after as many; counting what was really
sent, and not what the clock says, keeps this right when the player was holding meanwhile. At a
chunk's end the player holds.

Must not know ROS, robots or torch. Times are seconds of one clock, whichever the caller uses.
"""

from collections import deque

import numpy as np

from worldvla_ros.observation import ActionChunk

REMEMBERED = 4096
CLOCK_SLACK_S = 1e-6


class ChunkPlayer:
    """Plays chunks one action at a time; call `next_action` once per control period."""

    def __init__(self) -> None:
        """Start with nothing to play."""
        self._chunk: ActionChunk | None = None
        self._cursor = 0
        self._sent: deque[float] = deque(maxlen=REMEMBERED)
        self._now_s = -np.inf

    @property
    def chunk(self) -> ActionChunk | None:
        """The chunk that is being played, or None."""
        return self._chunk

    @property
    def remaining(self) -> np.ndarray:
        """The actions still to come: float32[n, dim]; [0, 0] without a chunk."""
        if self._chunk is None:
            return np.zeros((0, 0), np.float32)
        return self._chunk.actions[self._cursor :]

    def offer(self, chunk: ActionChunk) -> bool:
        """Take a chunk unless a newer one is being played.

        Returns:
            Whether it was taken.
        """
        if self._chunk is not None and chunk.stamp_s < self._chunk.stamp_s:
            return False
        self._cursor = sum(sent >= chunk.stamp_s for sent in self._sent)
        self._chunk = chunk
        return True

    def next_action(self, now_s: float) -> np.ndarray | None:
        """Return the action that is due, float32[dim], or None to hold.

        A clock that jumps back empties everything: stamps of before mean nothing any more.
        """
        if now_s < self._now_s - CLOCK_SLACK_S:
            self.clear()
        self._now_s = now_s
        if self._chunk is None or self._cursor >= self._chunk.horizon:
            return None
        action = self._chunk.actions[self._cursor]
        self._cursor += 1
        self._sent.append(now_s)
        return action

    def clear(self) -> None:
        """Forget the chunk and what was sent; the player holds."""
        self._chunk = None
        self._cursor = 0
        self._sent.clear()
        self._now_s = -np.inf
