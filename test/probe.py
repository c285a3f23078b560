"""A node of the tests' own that speaks to nodes in other processes and listens to them."""

from collections.abc import Callable
import contextlib
import gc
import io
import json
import math
import time

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile

from worldvla_ros.graph import NodeSpec
from worldvla_ros.nodes.runtime import ManagedNode
from worldvla_ros.processes.supervisor import Processes

TIMEOUT_S = 90.0
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

    def call(self, cls: type, name: str, request: object, again_s: float = math.inf) -> object:
        """Return the answer of a service.

        A process that has just ended may still be listed, and never answers: what may be asked
        twice without harm is asked again after `again_s`.
        """
        client = self.node.create_client(cls, name)
        self.until(client.service_is_ready, f'service {name}')
        asked_s, futures = time.monotonic(), [client.call_async(request)]

        def answered() -> object:
            nonlocal asked_s
            if time.monotonic() - asked_s > again_s:
                asked_s = time.monotonic()
                futures.append(client.call_async(request))
            return next((future for future in futures if future.done()), None)

        done = self.until(answered, f'an answer of {name}')
        self.node.destroy_client(client)
        return done.result()

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
    """Run nodes as processes; what they print is in `output` of what is yielded.

    Where a test fails, that and who had ended is printed.
    """
    output = io.StringIO()
    processes = Processes(list(nodes), output)
    processes.output = output
    try:
        yield processes
    except BaseException:
        print(f'ended: {processes.ended()}\n{output.getvalue()[-6000:]}')
        raise
    finally:
        processes.stop()


class InProcess(Probe):
    """Nodes in this process beside a probe, in one executor: fast, and open to fakes.

    The nodes live in rclpy's default context, so there can be one of these at a time.
    """

    def __init__(self, *factories: Callable[[], ManagedNode], **parameters: object) -> None:
        given = [f'{name}:={json.dumps(value)}' for name, value in parameters.items()]
        rclpy.init(args=['--ros-args', *(word for g in given for word in ('-p', g))])
        self._context = rclpy.get_default_context()
        self.node = Node('probe')
        self._executor = SingleThreadedExecutor()
        self._publishers = {}
        self.heard = {}
        self.nodes = [factory() for factory in factories]
        for node in (self.node, *self.nodes):
            self._executor.add_node(node)

    def close(self) -> None:
        for node in self.nodes:
            node.close()
            node.destroy_node()
        self.node.destroy_node()
        self._executor.shutdown()
        rclpy.shutdown()
        self.nodes.clear()
        self._publishers.clear()
        self._context = self.node = self._executor = None
        gc.collect()  # else the graph lists these nodes until Python frees them

    def wait_state(self, state: str, node: int = 0) -> None:
        """Wait until a node is in a state of the life cycle."""
        self.until(lambda: self.nodes[node].status.state == state, state)

    def send(self, message: object, topic: str, qos: QoSProfile) -> None:
        """Publish once the listener is connected; both ends are in this process."""
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(type(message), topic, qos)
            made = self._publishers[topic]
            self.until(
                lambda: made.get_subscription_count() and self._connected(topic),
                f'a listener on {topic}',
            )
        self._publishers[topic].publish(message)

    def _connected(self, topic: str) -> bool:
        """Whether the nodes' own subscriptions have found the publisher as well."""
        name = self.node.resolve_topic_name(topic)
        heard = [s for n in self.nodes for s in n.subscriptions if s.topic_name == name]
        return any(s.get_publisher_count() for s in heard)

    def message(self, node: int = 0) -> str:
        """Return the present status message of a node."""
        return self.nodes[node].status._present.message

    def wait_message(self, words: str, node: int = 0) -> str:
        """Wait until a node's status says some words."""
        return self.until(
            lambda: words in self.message(node) and self.message(node), f'{words!r} on ~/status'
        )
