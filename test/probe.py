"""A node of the tests' own that speaks to nodes in other processes and listens to them."""

from collections.abc import Callable
import contextlib
import io
import time

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile

from worldvla_ros.graph import NodeSpec
from worldvla_ros.processes import Processes

TIMEOUT_S = 40.0
MATCH_S = 0.5
"""After a publisher has found a listener, until the listener has surely found the publisher; what
is sent before that is lost where it is sent as best effort."""


class Probe:
    """Publishes, calls and collects; everything waits with a timeout that fails the test."""

    def __init__(self) -> None:
        self._context = Context()
        rclpy.init(context=self._context)
        self.node = Node('probe', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._publishers = {}
        self.heard: dict[str, list] = {}

    def close(self) -> None:
        self.node.destroy_node()
        self._executor.shutdown()
        rclpy.shutdown(context=self._context)

    def listen(self, cls: type, topic: str, qos: QoSProfile) -> None:
        self.heard[topic] = []
        self.node.create_subscription(cls, topic, self.heard[topic].append, qos)

    def say(self, message: object, topic: str, qos: QoSProfile) -> None:
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(type(message), topic, qos)
            self.until(
                lambda: self._publishers[topic].get_subscription_count() > 0,
                f'a listener on {topic}',
            )
            self.spin(MATCH_S)
        self._publishers[topic].publish(message)

    def call(self, cls: type, name: str, request: object) -> object:
        client = self.node.create_client(cls, name)
        self.until(client.service_is_ready, f'service {name}')
        future = client.call_async(request)
        self.until(future.done, f'an answer of {name}')
        self.node.destroy_client(client)
        return future.result()

    def spin(self, duration_s: float) -> None:
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.02)

    def until(
        self, holds: Callable[[], object], what: str, timeout_s: float = TIMEOUT_S
    ) -> object:
        end = time.monotonic() + timeout_s
        while not (found := holds()):
            assert time.monotonic() < end, f'waited {timeout_s:.0f} s for {what}'
            self._executor.spin_once(timeout_sec=0.02)
        return found

    def next(self, topic: str, fits: Callable[[object], bool] = lambda message: True) -> object:
        """Return the first message from now on that fits."""
        start = len(self.heard[topic])
        return self.until(
            lambda: next((m for m in self.heard[topic][start:] if fits(m)), None),
            f'a message on {topic}',
        )

    def status(self, node: str, words: str) -> str:
        """Return the first status from now on, of those heard, that has these words."""
        topic = f'{node}/status'

        def found() -> str:
            said = [s.message for array in self.heard[topic] for s in array.status]
            return next((m for m in said if words in m), '')

        return self.until(found, f'{words!r} on {topic}')


@contextlib.contextmanager
def running(*nodes: NodeSpec):
    """Run nodes as processes; what they print is in `output` of what is yielded."""
    output = io.StringIO()
    processes = Processes(list(nodes), output)
    processes.output = output
    try:
        yield processes
    finally:
        processes.stop()
