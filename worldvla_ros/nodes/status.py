"""What a node is doing, on ~/status (diagnostic_msgs/DiagnosticArray) and in its log.

    ok, warn   replace what was said before
    error      stays until `unlatch`, so that no "waiting for …" hides what must be corrected

The present status is published when it changes and once per second, and logged when it changes.
Must not know what a node is for. May be called from every thread.
"""

from collections import OrderedDict
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile

PERIOD_S = 1.0
CHANGE_PERIOD_S = 0.2
"""Numbers within one kind of message are published this often at most."""
LOG_PERIOD_S = 5.0
"""One kind of message is logged this often at most."""
REMEMBERED_KINDS = 32
LONGEST = 2000
"""Longer messages and values are cut: their text may come from outside."""


def steady_clock() -> rclpy.clock.Clock:
    """Return a clock that runs even where simulated time does not."""
    return rclpy.clock.Clock(clock_type=rclpy.clock.ClockType.STEADY_TIME)


class Status:
    """Publishes what a node is doing, and logs each change."""

    def __init__(self, node: Node, qos: QoSProfile) -> None:
        """Create the publisher and its timer, which live as long as the node."""
        self.state = 'unconfigured'
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, '~/status', qos)
        self._present = DiagnosticStatus(name=node.get_fully_qualified_name())
        self._kind = ''
        self._published_s = -np.inf
        self._logged: OrderedDict[str, float] = OrderedDict()
        self._latched = False
        self._kept: dict[str, object] = {}
        self._lock = threading.Lock()
        node.create_timer(PERIOD_S, self.publish, clock=steady_clock())

    def ok(self, message: str, key: str = '', **values: object) -> None:
        """Report that all is well."""
        self._report(DiagnosticStatus.OK, message, key, values)

    def warn(self, message: str, key: str = '', **values: object) -> None:
        """Report why nothing is done at present."""
        self._report(DiagnosticStatus.WARN, message, key, values)

    def error(self, message: str, key: str = '', *, latch: bool = True, **values: object) -> None:
        """Report what a user must correct.

        Args:
            message: One sentence.
            key: What counts as the same message, where its numbers vary.
            latch: Whether it stays until `unlatch`; false for what concerned one message only.
            values: Figures to go with it.
        """
        self._report(DiagnosticStatus.ERROR, message, key, values, latch=latch)

    def keep(self, **values: object) -> None:
        """Set the figures that go with every message from now on, such as the model's name."""
        with self._lock:
            self._kept = values

    @property
    def present(self) -> DiagnosticStatus:
        """What the node said last."""
        with self._lock:
            return self._present

    def unlatch(self) -> None:
        """Let the next report replace an error: the node is being started anew."""
        with self._lock:
            self._latched = False

    def enter(self, state: str, *, replacing: tuple[str, ...] = ()) -> None:
        """Enter a state of the life cycle; the present message stays.

        Args:
            state: Its name.
            replacing: Messages that the name of the state replaces.
        """
        with self._lock:
            changed, self.state = state != self.state, state
            failed = self._present.level == DiagnosticStatus.ERROR and not self._latched
            stale = failed or self._kind in replacing
        if stale:
            self.ok(state)
        elif changed:
            self.publish()

    def publish(self) -> None:
        """Publish the present status."""
        with self._lock:
            if not self._kind:
                return
            self._published_s = time.monotonic()
            figures = [v for v in self._present.values if v.key != 'state']
            self._present.values = [KeyValue(key='state', value=self.state), *figures]
            array = DiagnosticArray(status=[self._present])
            array.header.stamp = self._node.get_clock().now().to_msg()
            self._publisher.publish(array)

    def _report(
        self,
        level: bytes,
        message: str,
        key: str,
        values: dict[str, object],
        latch: bool = False,
    ) -> None:
        now, kind, message = time.monotonic(), key or message, _cut(message)
        with self._lock:
            figures = self._kept | values
            if self._latched and not latch:
                return
            self._latched = latch
            same_kind = (level, kind) == (self._present.level, self._kind)
            changed = not same_kind or message != self._present.message
            publish = not same_kind or now - self._published_s >= CHANGE_PERIOD_S
            log = changed and self._due_to_log(kind, now)
            self._kind = kind
            self._present = DiagnosticStatus(
                level=level,
                name=self._present.name,
                message=message,
                values=[KeyValue(key=k, value=_cut(str(v))) for k, v in figures.items()],
            )
        if log:
            self._log(level, message)
        if publish:
            self.publish()

    def _due_to_log(self, kind: str, now: float) -> bool:
        """Return whether a kind was not logged lately; the lock is held."""
        if now - self._logged.get(kind, -np.inf) < LOG_PERIOD_S:
            return False
        self._logged[kind] = now
        self._logged.move_to_end(kind)
        if len(self._logged) > REMEMBERED_KINDS:
            self._logged.popitem(last=False)
        return True

    def _log(self, level: bytes, message: str) -> None:
        """Log at the level's severity; rclpy allows one severity per line of code."""
        logger = self._node.get_logger()
        if level == DiagnosticStatus.ERROR:
            logger.error(message)
        elif level == DiagnosticStatus.WARN:
            logger.warning(message)
        else:
            logger.info(message)


def _cut(text: str) -> str:
    """Return a text that a log and a screen can hold: its beginning and, if cut, its length."""
    clean = text.encode('utf-8', 'replace').decode()
    if len(clean) <= LONGEST:
        return clean
    half = LONGEST // 2
    return f'{clean[:half]} … ({len(clean)} characters) … {clean[-half:]}'
