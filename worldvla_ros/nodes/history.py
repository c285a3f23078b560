"""The images of the control steps before the present one, for checkpoints that look back.

A checkpoint with M images per camera was trained on images one control step (dt) apart, so it
needs the image of dt ago, not the one that its last chunk answered. Knows stamps and opaque
messages. Must not know ROS.
"""

from collections import deque
from collections.abc import Mapping
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
