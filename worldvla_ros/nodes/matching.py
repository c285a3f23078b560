"""When a chunk's actions are executed, and which observed image an imagined one is compared with.

    chunk      stamp ── action 0 ── 1 ── 2 ── …          executed from `start`, one each dt
    imagined             start + stride, start + 2 · stride, …
    observed   the image nearest to each of these times

Must not know ROS. Times [s] of the clock that stamps use.
"""

from collections import deque
from dataclasses import dataclass
import math
import threading

import numpy as np

from worldvla_ros.robot.pairing import CameraImages, Message

MOST_PENDING = 256


@dataclass(frozen=True, eq=False)
class Imagined:
    """An image uint8[h, w, 3] and the time that it shows [s]."""

    image: np.ndarray
    stamp_s: float


class ChunkTimes:
    """When the player executes each chunk's first action. Belongs to the executor's thread.

    The player counts what it has sent (robot/played.py): a chunk that comes while another
    is being played goes on after as many actions as were sent since its stamp, so its action i
    belongs to stamp + i · dt. Where the player was holding, nothing was sent since the stamp: the
    chunk begins when it arrives, one latency later.
    """

    def __init__(self) -> None:
        """Start holding."""
        self._end_s = -math.inf

    def start(self, stamp_s: float, lasts_s: float, now_s: float) -> float:
        """Return when action 0 of a chunk that arrives now is, or would have been, executed."""
        sent_s = max(0.0, min(now_s, self._end_s) - stamp_s)
        start_s = max(stamp_s, now_s - sent_s)
        self._end_s = start_s + lasts_s
        return start_s

    def clear(self) -> None:
        """Forget the chunk that is being played."""
        self._end_s = -math.inf


def strides_to_skip(start_s: float, stride_s: float, now_s: float, takes_s: float) -> int:
    """Return how many images of a chunk lie in the past or would come too late.

    Args:
        start_s: When the chunk's first action is executed.
        stride_s: Time between imagined images.
        now_s: The present time.
        takes_s: How long imagining one image takes.

    Returns:
        The least k whose next image, of start + (k + 1) · stride, can still come in time; but no
        more than the newest instant that may have been observed, start + k · stride ≤ now, since
        imagining begins with an observed image.
    """
    needed = math.ceil((now_s + takes_s - start_s) / stride_s - 1e-9) - 1
    observed = math.floor((now_s - start_s) / stride_s + 1e-9)
    return max(0, min(needed, observed))


class Pending:
    """Imagined images that wait for the time that they show.

    The worker adds, the executor's thread takes.
    """

    def __init__(self, within_s: float) -> None:
        """Compare with observed images at most `within_s` away."""
        self._within_s = within_s
        self._waiting: deque[Imagined] = deque(maxlen=MOST_PENDING)
        self._lock = threading.Lock()

    def add(self, imagined: Imagined) -> None:
        """Let an image wait."""
        with self._lock:
            self._waiting.append(imagined)

    def due(self, observed: CameraImages[Message]) -> list[tuple[Imagined, Message]]:
        """Return the images whose time has come, each with the observed image nearest to it.

        One without an observed image near enough is dropped.
        """
        with self._lock:
            due = [i for i in self._waiting if observed.newest_s >= i.stamp_s]
            for imagined in due:
                self._waiting.remove(imagined)
        near = [(i, observed.nearest(i.stamp_s, self._within_s)) for i in due]
        return [(imagined, found[1]) for imagined, found in near if found is not None]

    def clear(self) -> None:
        """Drop all."""
        with self._lock:
            self._waiting.clear()
