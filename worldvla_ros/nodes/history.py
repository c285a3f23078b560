"""Which images belong together: those of one instant, and those of the control steps before it.

A checkpoint with M images per camera was trained on images one control step (dt) apart, so it
needs the image of dt ago, not the one that its last chunk answered. Knows stamps and opaque
messages. Must not know ROS.
"""

from collections import deque
from collections.abc import Mapping
import math
from typing import Generic, TypeVar

Message = TypeVar('Message')

MOST_IMAGES_PER_STEP = 64
"""Bounds memory where a camera is much faster than control."""


class ImageHistory(Generic[Message]):
    """Remembers the newest messages of each camera, and finds those of earlier steps."""

    def __init__(self, cameras: tuple[str, ...], steps: int, dt: float) -> None:
        """Remember `steps` earlier instants (M - 1), `dt` apart [s]."""
        self._steps, self._dt = steps, dt
        size = steps * MOST_IMAGES_PER_STEP + 1
        self._kept: dict[str, deque[tuple[float, Message]]] = {
            name: deque(maxlen=size) for name in cameras
        }

    def put(self, camera: str, stamp_s: float, message: Message) -> None:
        """Remember a message, and forget those that are too old to be asked for."""
        kept = self._kept[camera]
        kept.append((stamp_s, message))
        while stamp_s - kept[0][0] > (self._steps + 1) * self._dt:
            kept.popleft()

    def before(self, stamp_s: float) -> tuple[Mapping[str, Message], ...]:
        """Return the instants before a time, oldest first; fewer where there was none yet."""
        instants = []
        for step in range(1, self._steps + 1):
            wanted = stamp_s - step * self._dt
            found = {name: self._nearest(name, wanted) for name in self._kept}
            if any(message is None for message in found.values()):
                break
            instants.insert(0, found)
        return tuple(instants)

    def clear(self) -> None:
        """Forget everything, where time jumped or an episode began."""
        for kept in self._kept.values():
            kept.clear()

    def _nearest(self, camera: str, stamp_s: float) -> Message | None:
        """Return the message nearest to a time and within half a step of it, or None."""
        near = [(abs(stamp - stamp_s), i) for i, (stamp, _) in enumerate(self._kept[camera])]
        distance, index = min(near, default=(float('inf'), 0))
        return self._kept[camera][index][1] if distance <= self._dt / 2 else None


class Pairing:
    """Says when the newest images of all cameras are of one instant.

        front   1.0        1.1        1.2
        wrist      1.03       1.13
                   pair       pair              never front 1.1 with wrist 1.03

    Images come one camera after the other, so when one arrives, those of the other cameras may
    still be of the instant before: then the others' are further away than half of the time since
    the camera's own last image.
    """

    def __init__(self, cameras: tuple[str, ...], patience_s: float) -> None:
        """Wait for a pair for `patience_s` at most [s]; then whoever asks may judge."""
        self._cameras, self._patience_s = cameras, patience_s
        self.clear()

    def put(self, camera: str, stamp_s: float) -> bool:
        """Take the stamp of a camera's newest image; return whether to look at all cameras now."""
        period_s = abs(stamp_s - self._stamps.get(camera, -math.inf))
        self._stamps[camera] = stamp_s
        apart_s = max(abs(stamp_s - other) for other in self._stamps.values())
        if len(self._stamps) < len(self._cameras) or apart_s <= period_s / 2:
            self._paired_s = stamp_s
            return True
        return abs(stamp_s - self._paired_s) > self._patience_s

    def clear(self) -> None:
        """Forget everything, where time jumped."""
        self._stamps: dict[str, float] = {}
        self._paired_s = -math.inf
