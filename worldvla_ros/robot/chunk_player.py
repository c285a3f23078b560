"""Which action of which chunk is due: time, splicing and holding. Pure logic, no clock of its own.

    observation at s ───────────── chunk arrives ── action c is next
        │ sent: x  x  x (c = 3 actions sent since s, which the observation has not seen)

A chunk answers the observation taken at its stamp. Actions that were sent since then did what its
first actions were meant to do, so the new chunk goes on after as many; counting what was really
sent, and not what the clock says, keeps this right when the player was holding meanwhile. At a
chunk's end the player holds.

A chunk may be played slower: each action is then divided over several control periods, and a
period counts as that share of an action.

Must not know ROS, robots or torch. Times are seconds of one clock, whichever the caller uses.
"""

from collections import deque
from dataclasses import replace

import numpy as np

from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot.clock import StampClock

REMEMBERED = 4096
OVERRUN_S = 0.1
"""How much longer than planned a chunk may be played, for late ticks."""


def slowed(chunk: ActionChunk, slowdown: int) -> ActionChunk:
    """Return the chunk with each displacement divided over `slowdown` periods.

    The last number of an action, the gripper's, is repeated as it is. Log-probabilities belong to
    whole actions and are left out.
    """
    if slowdown == 1:
        return chunk
    shares = np.full(chunk.dim, 1.0 / slowdown, np.float32)
    shares[-1] = 1.0
    return replace(
        chunk,
        actions=np.repeat(chunk.actions * shares, slowdown, axis=0),
        log_probs=np.zeros((0, 0), np.float32),
    )


class ChunkPlayer:
    """Plays chunks one action at a time; call `next_action` once per control period."""

    def __init__(self) -> None:
        """Start with nothing to play."""
        self._sent: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)  # (time, actions)
        self._clock = StampClock()
        self._chunk: ActionChunk | None = None
        self._slowdown = 1
        self._cursor = 0
        self._ends_s = -np.inf

    @property
    def chunk(self) -> ActionChunk | None:
        """The chunk that is being played, slowed as it is, or None."""
        return self._chunk

    @property
    def slowdown(self) -> int:
        """How many control periods each action of the chunk lasts."""
        return self._slowdown

    @property
    def remaining(self) -> np.ndarray:
        """The actions still to come: float32[n, dim]; [0, 0] without a chunk."""
        if self._chunk is None:
            return np.zeros((0, 0), np.float32)
        return self._chunk.actions[self._cursor :]

    def offer(self, chunk: ActionChunk, now_s: float, slowdown: int = 1) -> bool:
        """Take a chunk unless a newer one is being played.

        Args:
            chunk: The chunk as it came.
            now_s: When it came [s].
            slowdown: Control periods per action.

        Returns:
            Whether it was taken.
        """
        if self._chunk is not None and chunk.stamp_s < self._chunk.stamp_s:
            return False
        done = sum(share for sent_s, share in self._sent if sent_s >= chunk.stamp_s)
        self._cursor = round(done * slowdown)
        playing = slowed(chunk, slowdown)
        self._chunk, self._slowdown = playing, slowdown
        self._ends_s = now_s + playing.horizon * chunk.dt + OVERRUN_S
        return True

    def next_action(self, now_s: float) -> np.ndarray | None:
        """Return the action that is due, float32[dim], or None to hold.

        A chunk is played for no longer than it lasts, counted from its arrival. A clock that was
        set back empties everything: earlier stamps mean nothing any more.
        """
        if self._clock.set_back(now_s):
            self.clear()
        if self._chunk is None or self._cursor >= self._chunk.horizon or now_s > self._ends_s:
            return None
        action: np.ndarray = self._chunk.actions[self._cursor]
        self._cursor += 1
        self._sent.append((now_s, 1.0 / self._slowdown))
        return action

    def clear(self) -> None:
        """Forget the chunk and what was sent; the player holds."""
        self._chunk = None
        self._slowdown = 1
        self._sent.clear()
