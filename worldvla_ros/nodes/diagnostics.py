"""/diagnostics by the conventions of diagnostic_updater, which is not on PyPI.

Every node that matters has some tasks; each says once per second how it is, under the name
"node: task", with the robot or the model as hardware id. A robot monitor or diagnostic_aggregator
groups them. Knows levels, rates and ages. Must not know what a node is for. `Rate` may be told
from every thread; the rest runs in the executor's.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from worldvla_ros.nodes.qos import RELIABLE_QOS
from worldvla_ros.nodes.runtime import ManagedNode

TOPIC = '/diagnostics'
PERIOD_S = 1.0
WINDOW_S = 5.0
"""Rates are counted over this time."""

OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)


@dataclass(frozen=True)
class Finding:
    """How one thing is.

    Attributes:
        level: OK, WARN, ERROR or STALE.
        message: One sentence.
        values: Figures to go with it.
    """

    level: bytes
    message: str
    values: Mapping[str, object] = field(default_factory=dict)


class Diagnostics:
    """The tasks of one node, from configure to clean_up."""

    def __init__(self, node: ManagedNode, hardware_id: str) -> None:
        """Create publisher and timer.

        Args:
            node: Whose tasks they are.
            hardware_id: The robot or the model.
        """
        self._node, self._hardware_id = node, hardware_id
        self._tasks: dict[str, Callable[[], Finding]] = {}
        self.add('status', self._status)
        self._publisher = node.publisher(DiagnosticArray, TOPIC, RELIABLE_QOS)
        node.every(PERIOD_S, self.publish)

    def _status(self) -> Finding:
        """Say again what the node says on ~/status."""
        present = self._node.status.present
        return Finding(present.level, present.message, {v.key: v.value for v in present.values})

    def add(self, task: str, ask: Callable[[], Finding]) -> None:
        """Add a task: a function that says how something is."""
        self._tasks[task] = ask

    def publish(self) -> None:
        """Publish how everything is."""
        name = full_name(self._node.get_name(), self._node.get_namespace())
        array = DiagnosticArray()
        array.header.stamp = self._node.get_clock().now().to_msg()
        for task, ask in self._tasks.items():
            found = (
                ask() if self._node.active else Finding(OK, f'node is {self._node.status.state}')
            )
            array.status.append(
                DiagnosticStatus(
                    level=found.level,
                    name=f'{name}: {task}',
                    message=found.message,
                    hardware_id=self._hardware_id,
                    values=[KeyValue(key=k, value=str(v)) for k, v in found.values.items()],
                )
            )
        self._publisher.publish(array)


def full_name(node: str, namespace: str) -> str:
    """Return the name of a node that tells two arms apart: `left/action_player`."""
    return f'{namespace}/{node}'.strip('/').replace('//', '/')


class Rate:
    """How often something happens, and how old it was, over the last `WINDOW_S`."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._events: deque[tuple[float, float]] = deque()
        self._lock = threading.Lock()
        self.total = 0

    def tick(self, delay_s: float = 0.0, now_s: float | None = None) -> None:
        """Count an event.

        Args:
            delay_s: How old it was, such as an image on arrival [s].
            now_s: A steady time; now where not given.
        """
        now_s = time.monotonic() if now_s is None else now_s
        with self._lock:
            self.total += 1
            self._events.append((now_s, delay_s))
            self._forget(now_s)

    def figures(self, now_s: float | None = None) -> dict[str, object]:
        """Return rate and delays under the names that diagnostic_updater gives them."""
        now_s = time.monotonic() if now_s is None else now_s
        with self._lock:
            self._forget(now_s)
            delays = [delay for _, delay in self._events]
        found: dict[str, object] = {
            'Events in window': len(delays),
            'Events since startup': self.total,
            'Duration of window (s)': WINDOW_S,
            'Actual frequency (Hz)': f'{len(delays) / WINDOW_S:.2f}',
        }
        if delays:
            found['Earliest timestamp delay'] = f'{min(delays):.4f}'
            found['Latest timestamp delay'] = f'{max(delays):.4f}'
        return found

    def finding(self, what: str, now_s: float | None = None, **values: object) -> Finding:
        """Return whether events come, with further figures."""
        figures = self.figures(now_s) | values
        if figures['Events in window']:
            return Finding(OK, f'{what}: {figures["Actual frequency (Hz)"]} Hz', figures)
        message = f'no {what} in {WINDOW_S:.0f} s' if self.total else f'no {what} yet'
        return Finding(STALE, message, figures)

    def _forget(self, now_s: float) -> None:
        while self._events and now_s - self._events[0][0] > WINDOW_S:
            self._events.popleft()
