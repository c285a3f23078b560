"""The demonstration's client: speaks to the graph as a user would, and keeps what it publishes.

Knows topics and services. Must not know who started the graph or what is made of the samples.
"""

from collections.abc import Callable
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import rclpy
from rclpy.client import Client
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from worldvla_ros.errors import WorldVLAError
from worldvla_ros.msg import ActionChunk, TaskState
from worldvla_ros.nodes.convert import image_to_array
from worldvla_ros.nodes.demo_sample import Sample
from worldvla_ros.nodes.distributions import name_of_service
from worldvla_ros.nodes.qos import LATCHED_QOS, RELIABLE_QOS, SENSOR_QOS
from worldvla_ros.nodes.runtime import seconds
from worldvla_ros.srv import ResetScene

SERVICE_TIMEOUT_S = 10.0
SENTENCE_LIMIT_S = 16.0
AFTER_SUCCESS_S = 1.5
SETTLE_S = 0.6


class GraphError(WorldVLAError):
    """The graph did not do what it is there for."""


class DemoClient(Node):
    """Speaks to the graph and listens to it."""

    def __init__(self) -> None:
        """Create clients, publisher and subscriptions."""
        super().__init__('demo')
        self.sample: Sample | None = None
        self.errors: list[str] = []
        self._configured: set[str] = set()
        self._instruction = self.create_publisher(String, 'instruction', LATCHED_QOS)
        self._reset: Client[Any, Any] = self.create_client(ResetScene, 'sim/reset')
        self._enable: Client[Any, Any] = self.create_client(SetBool, 'policy/enable')
        self._hold: Client[Any, Any] = self.create_client(Trigger, 'action_player/hold')
        self._release: Client[Any, Any] = self.create_client(SetBool, 'action_player/enable')
        listen = self.create_subscription
        listen(Image, 'image', self._on_image, SENSOR_QOS)
        listen(Image, 'imagined_image', self._on_imagined, RELIABLE_QOS)
        listen(ActionChunk, 'action_chunk', self._on_chunk, RELIABLE_QOS)
        listen(TaskState, 'sim/task_state', self._on_task, RELIABLE_QOS)
        for name in ('policy', 'world_model'):
            listen(DiagnosticArray, f'{name}/status', self._on_status, LATCHED_QOS)

    def ready(self) -> bool:
        """Whether model nodes are configured and all services are there."""
        clients = (self._reset, self._enable, self._hold, self._release)
        return len(self._configured) == 2 and all(c.service_is_ready() for c in clients)

    def begin(self, task: str, sentence: str, seed: int) -> None:
        """Stop acting, lay out a scene, and give the sentence.

        Raises:
            GraphError: A service refuses or does not answer.
        """
        self.sample = None
        self._call(self._enable, SetBool.Request(data=False))
        self._call(self._hold, Trigger.Request())
        self._call(self._reset, ResetScene.Request(seed=seed, task=task, instruction=sentence))
        self.spin(SETTLE_S)
        self.sample = Sample(sentence)
        self._instruction.publish(String(data=sentence))
        self._call(self._release, SetBool.Request(data=True))
        self._call(self._enable, SetBool.Request(data=True))

    def watch(self, alive: Callable[[], None]) -> Sample:
        """Listen until success or the end of time; `alive` raises when a node has died."""
        sample, end = self.sample, time.monotonic() + SENTENCE_LIMIT_S
        assert sample is not None, 'begin comes before watch'
        while time.monotonic() < end:
            succeeded = sample.time_to_success is not None
            self.spin(0.1)
            if sample.time_to_success is not None and not succeeded:
                end = time.monotonic() + AFTER_SUCCESS_S
            alive()
        return sample

    def spin(self, duration_s: float) -> None:
        """Listen for a while."""
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            rclpy.spin_once(self, timeout_sec=0.02)

    def _call(self, client: 'Client[Any, Any]', request: object) -> None:
        future = client.call_async(request)
        rclpy.spin_until_future_complete(self, future, timeout_sec=SERVICE_TIMEOUT_S)
        answer = future.result() if future.done() else None
        if answer is None or not answer.success:
            message = answer.message if answer is not None else 'no answer'
            raise GraphError(
                f'service {name_of_service(client)}: {message}', remedy='See log.txt.'
            )

    def _on_image(self, message: Image) -> None:
        if self.sample is not None:
            self.sample.images.append((seconds(message.header.stamp), image_to_array(message)))

    def _on_imagined(self, message: Image) -> None:
        if self.sample is not None:
            self.sample.imagined.append((seconds(message.header.stamp), image_to_array(message)))

    def _on_chunk(self, message: ActionChunk) -> None:
        if self.sample is not None and message.instruction == self.sample.sentence:
            self.sample.chunks.append((seconds(message.header.stamp), message.latency))

    def _on_task(self, message: TaskState) -> None:
        sample = self.sample
        if sample is None or message.instruction != sample.sentence or not sample.chunks:
            return
        sample.slowest = min(sample.slowest, message.real_time_factor)
        if message.success and sample.time_to_success is None:
            sample.time_to_success = seconds(message.header.stamp) - sample.images[0][0]

    def _on_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.level == DiagnosticStatus.ERROR:
                self.errors.append(f'{status.name}: {status.message}')
            elif any(v.key == 'state' and v.value == 'active' for v in status.values):
                self._configured.add(status.name)
