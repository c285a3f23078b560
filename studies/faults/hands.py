"""What injects: a node that relays sensors, feeds and forges chunks, speaks and calls services."""

from array import array
from collections.abc import Callable, Mapping
import threading
import time

from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from studies.faults.limits import pose
from worldvla_ros.msg import ActionChunk
from worldvla_ros.srv import ResetScene

SENSOR = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
JOINTS = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1,
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)
TYPES = {'image': Image, 'wrist_image': Image, 'joint_states': JointState, 'clock': Clock}
NAMES = ('dx', 'dy', 'dz', 'drx', 'dry', 'drz', 'gripper')
UNITS = ('m', 'm', 'm', 'rad', 'rad', 'rad', '1')
SCALE = (0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 1.0)
HORIZON, DT_S = 10, 0.05
FEED_S = 0.2
SPEED = 0.4
"""Share of the greatest action; 0.16 m/s to and fro."""
CALL_S = 30.0
WAIT_S = 0.05
"""Entities made in the other thread are seen after this long at the latest."""
Filter = Callable[[object], object]


class Hands:
    """A node in a thread of its own. `filters[topic]` maps a message to one, several or none."""

    def __init__(self) -> None:
        """Begin to relay."""
        rclpy.init()
        self.node = Node('fault_hands')
        self.filters: dict[str, Filter] = {}
        self.feeding = False
        self.warp: Callable[[object], object] | None = None
        self.joints = np.zeros(7)
        self.stamp = self.node.get_clock().now().to_msg()
        self.home = np.array([0.45, 0.0, 0.2])
        self._publishers: dict[tuple, object] = {}
        self._count = 0
        self._ears: dict[str, Callable] = {}
        self._wrist = None
        self._relays = {topic: self._relay(topic) for topic in TYPES}
        self._relay_trajectories()
        self.node.create_timer(FEED_S, self._feed)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        rclpy.try_shutdown()
        self._thread.join(5.0)

    def _spin(self) -> None:
        try:
            while self.node.context.ok():
                self._executor.spin_once(timeout_sec=WAIT_S)
        except rclpy.executors.ExternalShutdownException:
            return

    # ---- the relay

    def _relay(self, topic: str) -> object:
        """Publish what comes under truth/; without a filter as the bytes that came."""
        name = '/clock' if topic == 'clock' else topic
        to = self.node.create_publisher(TYPES[topic], name, SENSOR)

        def hear(data: bytes) -> None:
            message = None
            if topic == 'joint_states':
                message = deserialize_message(data, JointState)
                self.joints, self.stamp = np.array(message.position[:7]), message.header.stamp
            change = self.filters.get(topic)
            if change is None:
                to.publish(data)
                return
            found = change(message or deserialize_message(data, TYPES[topic]))
            for out in found if isinstance(found, list) else [found]:
                if out is not None:
                    to.publish(out)

        self._ears[topic] = hear
        if topic != 'wrist_image':
            self._listen(topic)
        return to

    def _listen(self, topic: str) -> object:
        qos = JOINTS if topic == 'joint_states' else SENSOR
        hear = self._ears[topic]
        return self.node.create_subscription(TYPES[topic], f'truth/{topic}', hear, qos, raw=True)

    def _relay_trajectories(self) -> None:
        """Pass on what the arm is told; a filter puts it into the arm's own time."""
        to = self.node.create_publisher(JointTrajectory, 'truth/joint_trajectory', RELIABLE)

        def hear(data: bytes) -> None:
            change = self.filters.get('joint_trajectory')
            to.publish(change(deserialize_message(data, JointTrajectory)) if change else data)

        self.node.create_subscription(
            JointTrajectory, 'joint_trajectory', hear, RELIABLE, raw=True
        )

    def relay_wrist(self, on: bool) -> None:
        """Relay the wrist camera, which is rendered only where somebody listens."""
        if self._wrist is not None:
            self.node.destroy_subscription(self._wrist)
        self._wrist = self._listen('wrist_image') if on else None

    def publish_as_sensor(self, topic: str, message: object) -> None:
        """Publish beside the relay, from the same publisher."""
        self._relays[topic].publish(message)

    # ---- chunks

    def chunk(self, actions: np.ndarray | None = None, **changes: object) -> ActionChunk:
        """Return a legal chunk that answers the newest joints, changed where asked."""
        self._count += 1
        if actions is None:
            actions = self._to_and_fro()
        actions = np.asarray(actions, np.float32)
        message = ActionChunk(
            chunk_id=self._count, model_id='feeder@0', instruction='to and fro', dt=DT_S,
            horizon=actions.shape[0], dim=actions.shape[1], action_names=list(NAMES),
            action_units=list(UNITS), action_scale=array('f', SCALE),
            data=array('f', actions.ravel().tolist()), latency=0.02,
        )  # fmt: skip
        message.header.stamp = self.warp(self.stamp) if self.warp else self.stamp
        message.header.frame_id = 'panda_link0'
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    def _to_and_fro(self) -> np.ndarray:
        """Return actions float[10, 7] along y, 1 s each way, and back to the middle."""
        way = SPEED if int(time.monotonic()) % 2 else -SPEED
        back = np.clip(2.0 * (self.home - pose(self.joints)[:3, 3]), -SPEED, SPEED)
        actions = np.zeros((HORIZON, 7), np.float32)
        actions[:, :3] = back
        actions[:, 1] += way
        actions[:, 6] = -1.0
        return actions

    def _feed(self) -> None:
        if self.feeding:
            self.say(self.chunk(), 'action_chunk')

    # ---- topics and services

    def say(self, message: object, topic: str, qos: QoSProfile = RELIABLE) -> None:
        """Publish a message."""
        key = (topic, int(qos.reliability), int(qos.durability))
        if key not in self._publishers:
            self._publishers[key] = self.node.create_publisher(type(message), topic, qos)
            end = time.monotonic() + 5.0
            while not self._publishers[key].get_subscription_count() and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(0.2)  # the listener must have found the publisher as well
        self._publishers[key].publish(message)

    def instruct(self, text: str, qos: QoSProfile = LATCHED) -> None:
        """Give an instruction."""
        self.say(String(data=text), 'instruction', qos)

    def call(self, cls: type, name: str, request: object, timeout_s: float = CALL_S) -> object:
        """Call a service; None where no answer came.

        A process that has just ended may still be listed: asked again each few seconds.
        """
        client = self.node.create_client(cls, name)
        end, again, futures = time.monotonic() + timeout_s, 0.0, []
        try:
            while time.monotonic() < end:
                if time.monotonic() > again and client.service_is_ready():
                    futures.append(client.call_async(request))
                    again = time.monotonic() + 8.0
                done = next((f for f in futures if f.done()), None)
                if done is not None:
                    return done.result()
                time.sleep(0.01)
            return None
        finally:
            self.node.destroy_client(client)

    def enable(self, node: str, on: bool) -> bool:
        """Call ~/enable of policy or action_player."""
        answer = self.call(SetBool, f'{node}/enable', SetBool.Request(data=on))
        return bool(answer and answer.success)

    def hold(self) -> bool:
        """Call ~/hold of the player."""
        answer = self.call(Trigger, 'action_player/hold', Trigger.Request())
        return bool(answer and answer.success)

    def reset(self, seed: int, task: str = 'pick', instruction: str = '') -> object:
        """Lay out a scene."""
        request = ResetScene.Request(seed=seed, task=task, instruction=instruction)
        return self.call(ResetScene, 'sim/reset', request)

    def transition(self, node: str, name: str) -> bool:
        """Change a node's state of the life cycle, for example 'deactivate'."""
        number = getattr(Transition, f'TRANSITION_{name.upper()}')
        request = ChangeState.Request(transition=Transition(id=number))
        answer = self.call(ChangeState, f'{node}/change_state', request)
        return bool(answer and answer.success)

    def state(self, node: str) -> str:
        """Return a node's state of the life cycle."""
        answer = self.call(GetState, f'{node}/get_state', GetState.Request())
        return answer.current_state.label if answer else 'silent'

    def set_parameters(self, node: str, values: Mapping[str, object]) -> list[str]:
        """Set parameters; return why each was refused, '' where it was not."""
        listed = [
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()
        ]
        request = SetParameters.Request(parameters=listed)
        answer = self.call(SetParameters, f'{node}/set_parameters', request)
        return [r.reason or ('' if r.successful else 'refused') for r in answer.results]

    def twist(self, x: float, frame: str = 'panda_link0') -> TwistStamped:
        """Return a twist along x [m/s]."""
        message = TwistStamped()
        message.header.stamp = self.node.get_clock().now().to_msg()
        message.header.frame_id = frame
        message.twist.linear.x = x
        return message
