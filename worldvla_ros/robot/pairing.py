"""Which images belong together: those of one instant, and those of the control steps before it.

    front   1.00        1.05        1.10
    wrist       1.01        1.06               a pair: each front image and the nearest wrist image

A checkpoint with M images per camera was trained on images one control step (dt) apart, so it
needs the image of dt ago, not the one that its last chunk answered. Knows stamps and opaque
messages. Must not know ROS. All of it belongs to one thread, the executor's.
"""

import bisect
from collections.abc import Mapping
from dataclasses import dataclass
import math
from typing import Generic, TypeVar

from worldvla_ros.robot.clock import StampClock

Message = TypeVar('Message')

MOST_IMAGES = 512
"""Bounds memory where a camera is much faster than control."""


class CameraImages(Generic[Message]):
    """The images of one camera in the order of their stamps, of the last `keep_s` seconds."""

    def __init__(self, keep_s: float) -> None:
        """Start empty."""
        self._keep_s = keep_s
        self._stamps: list[float] = []
        self._messages: list[Message] = []

    @property
    def newest_s(self) -> float:
        """The newest stamp, minus infinity without an image [s]."""
        return self._stamps[-1] if self._stamps else -math.inf

    @property
    def oldest_s(self) -> float:
        """The oldest stamp, infinity without an image [s]."""
        return self._stamps[0] if self._stamps else math.inf

    @property
    def period_s(self) -> float:
        """The time between the two newest images, infinity before there are two [s]."""
        return self._stamps[-1] - self._stamps[-2] if len(self._stamps) > 1 else math.inf

    def put(self, stamp_s: float, message: Message) -> None:
        """Remember an image at its place in time, and drop those that are too old or too many."""
        index = bisect.bisect_right(self._stamps, stamp_s)
        self._stamps.insert(index, stamp_s)
        self._messages.insert(index, message)
        first = bisect.bisect_left(self._stamps, self.newest_s - self._keep_s)
        first = max(first, len(self._stamps) - MOST_IMAGES)
        del self._stamps[:first], self._messages[:first]

    def nearest(self, stamp_s: float, within_s: float) -> tuple[float, Message] | None:
        """Return stamp and message of the image nearest to a time, or None where none is near."""
        index = bisect.bisect_left(self._stamps, stamp_s)
        near = [i for i in (index - 1, index) if 0 <= i < len(self._stamps)]
        best = min(near, key=lambda i: abs(self._stamps[i] - stamp_s), default=None)
        if best is None or not abs(self._stamps[best] - stamp_s) <= within_s:
            return None
        return self._stamps[best], self._messages[best]

    def newest_until(self, stamp_s: float) -> float:
        """Return the newest stamp that is not after a time, or minus infinity [s]."""
        index = bisect.bisect_right(self._stamps, stamp_s)
        return self._stamps[index - 1] if index else -math.inf

    def settled(self, stamp_s: float, usual_period_s: float) -> bool:
        """Whether no image to come can be nearer to a time than the nearest one that is here.

        That is so once an image at or after the time is here, or one so near before it that the
        next one, a period later, is further away. The period of a camera with a single image is
        `usual_period_s`.
        """
        period_s = self.period_s if self.period_s < math.inf else usual_period_s
        return self.newest_s > -math.inf and stamp_s - self.newest_s <= period_s / 2

    def clear(self) -> None:
        """Drop everything."""
        self._stamps.clear()
        self._messages.clear()


@dataclass(frozen=True)
class Instant(Generic[Message]):
    """The images of one instant: stamps and messages by camera, and the instants before it.

    `history` holds messages by camera, oldest instant first; it is shorter where there was no
    image of a step.
    """

    stamps_s: Mapping[str, float]
    images: Mapping[str, Message]
    history: tuple[Mapping[str, Message], ...]


class ImageHistory(Generic[Message]):
    """The newest images of several cameras: of one instant, and of the steps before."""

    def __init__(self, cameras: tuple[str, ...], steps: int, dt: float, patience_s: float) -> None:
        """Start empty.

        Args:
            cameras: Names, the one whose stamp an answer carries first.
            steps: How many earlier instants belong to one (M - 1).
            dt: Time between them [s].
            patience_s: How long to wait for images of the other cameras [s]; then the newest are
                taken, and whoever asked may judge them.
        """
        self._steps, self._dt, self._patience_s = steps, dt, patience_s
        self._cameras = cameras
        self._kept: dict[str, CameraImages[Message]] = {
            name: CameraImages((steps + 1) * dt + 2 * patience_s) for name in cameras
        }
        self._clock = StampClock()
        self._answered_s = -math.inf

    def put(self, camera: str, stamp_s: float, message: Message) -> bool:
        """Remember an image.

        Returns:
            Whether the clock was set back, so that everything older was dropped.
        """
        set_back = self._clock.set_back(stamp_s)
        if set_back:
            self.clear()
            self._clock.set_back(stamp_s)
        self._kept[camera].put(stamp_s, message)
        return set_back

    def missing(self) -> str:
        """Return the first camera without an image, or nothing."""
        return next((n for n in self._cameras if self._kept[n].newest_s == -math.inf), '')

    def next(self) -> Instant[Message] | None:
        """Return the newest instant, of images nearest in time, that was not returned yet."""
        first = self._kept[self._cameras[0]]
        others = [self._kept[name] for name in self._cameras[1:]]
        if self.missing():
            return None
        stamp_s = first.newest_s
        if not all(other.settled(stamp_s, first.period_s) for other in others):
            # an earlier image of the first camera whose companions are all here
            stamp_s = first.newest_until(min(other.newest_s for other in others))
            waiting_since_s = max(stamp_s, self._answered_s, first.oldest_s)
            if first.newest_s - waiting_since_s > self._patience_s:
                stamp_s = first.newest_s
        if stamp_s <= self._answered_s:
            return None
        self._answered_s = stamp_s
        return self.at(stamp_s)

    def at(self, stamp_s: float) -> Instant[Message]:
        """Return the images nearest to a time, of each camera that has one."""
        near = {n: kept.nearest(stamp_s, math.inf) for n, kept in self._kept.items()}
        here = {name: found for name, found in near.items() if found is not None}
        return Instant(
            {name: found[0] for name, found in here.items()},
            {name: found[1] for name, found in here.items()},
            self.before(stamp_s),
        )

    def before(self, stamp_s: float) -> tuple[Mapping[str, Message], ...]:
        """Return the instants before a time, oldest first; fewer where there was none yet."""
        instants: list[Mapping[str, Message]] = []
        for step in range(1, self._steps + 1):
            due_s = stamp_s - step * self._dt
            near = {n: kept.nearest(due_s, self._dt / 2) for n, kept in self._kept.items()}
            instant = {name: found[1] for name, found in near.items() if found is not None}
            if len(instant) < len(near):
                break
            instants.insert(0, instant)
        return tuple(instants)

    def clear(self) -> None:
        """Drop everything, where time began anew or an episode did."""
        for kept in self._kept.values():
            kept.clear()
        self._clock = StampClock()
        self._answered_s = -math.inf
