"""When to look at the inputs: how often at most, the newest of each, what to say where they stop.

Must not know ROS or messages. Times [s] of a steady clock, given by the caller.
"""

from collections.abc import Sequence
import math
import threading
from typing import Generic, TypeVar

Message = TypeVar('Message')
JITTER = 0.25
"""An event may come this share of a period early and still belong to its period."""


class RateLimit:
    """At most one event per period. `taken` may be called from another thread than `ready`."""

    def __init__(self, rate_hz: float) -> None:
        """Allow `rate_hz` events per second."""
        self._period_s = 1.0 / rate_hz
        self._taken_s = -math.inf

    def ready(self, now_s: float) -> bool:
        """Whether a period has passed since the last event."""
        return now_s - self._taken_s >= self._period_s

    def taken(self, now_s: float) -> None:
        """Begin a period."""
        self._taken_s = now_s


class Pace:
    """Events at most at a rate, on the average: one that comes a little early is not lost.

    A stream at just this rate passes whole, whatever its jitter within `JITTER`; `RateLimit` would
    drop every other message of it. Belongs to one thread.
    """

    def __init__(self, rate_hz: float) -> None:
        """Allow `rate_hz` events per second."""
        self._period_s = 1.0 / rate_hz
        self._due_s = -math.inf

    def take(self, now_s: float) -> bool:
        """Whether an event may happen now; then the next one is due a period later."""
        if now_s < self._due_s - JITTER * self._period_s:
            return False
        self._due_s = max(self._due_s, now_s - JITTER * self._period_s) + self._period_s
        return True


class Mailboxes(Generic[Message]):
    """The newest message of each stream; put by one thread, taken all at once by another.

    Whoever takes them all keeps no stream waiting for a faster one.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._newest: dict[str, Message] = {}
        self._lock = threading.Lock()

    def put(self, stream: str, message: Message) -> None:
        """Leave a message, replacing one that still waits."""
        with self._lock:
            self._newest[stream] = message

    def take(self) -> dict[str, Message]:
        """Return what waits, by stream, and leave nothing."""
        with self._lock:
            taken, self._newest = self._newest, {}
        return taken


class StreamWatch:
    """Notices a stream of messages that stopped. Belongs to the executor's thread."""

    def __init__(self, topics: Sequence[str], limit_s: float) -> None:
        """Call a topic silent after `limit_s`; one that was never heard is not watched."""
        self._limit_s = limit_s
        self._heard_s = dict.fromkeys(topics, math.inf)

    def heard(self, topic: str, now_s: float) -> None:
        """Note a message."""
        self._heard_s[topic] = now_s

    def silent(self, now_s: float) -> tuple[str, float] | None:
        """Return the topic that has been silent longest, and for how long, or None [s]."""
        topic = min(self._heard_s, key=lambda name: self._heard_s[name])
        silent_s = now_s - self._heard_s[topic]
        return (topic, silent_s) if silent_s > self._limit_s else None
