"""The viewer: a page in the browser that shows the running arm and takes a person's orders.

    joints, images, plan, state, chunks ──▶ page ──▶ instruction, hold, enable, reset, record

Topics with many messages are heard only while a browser shows the page. The graph does not depend
on this node: it may end at any time.

    executor's thread   what is heard, shown ten times per second
    threads of viser    orders: messages are published and services asked, which rclpy allows

Must not know models.
"""

from collections.abc import Callable
from dataclasses import dataclass
import math
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
from rclpy.client import Client
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from rclpy.task import Future
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray

from worldvla_ros.errors import ConfigError, ObservationError, WorldVLAError
from worldvla_ros.metrics import psnr
from worldvla_ros.msg import ActionChunk, PlayerState, TaskState
from worldvla_ros.nodes.cameras import COMPRESSED, image_topic, transport
from worldvla_ros.nodes.convert import AnyImage, image_type, message_to_chunk, to_array
from worldvla_ros.nodes.distributions import name_of_service
from worldvla_ros.nodes.player_report import planned_points
from worldvla_ros.nodes.qos import JOINTS_QOS, LATCHED_QOS, RELIABLE_QOS, SENSOR_QOS
from worldvla_ros.nodes.robot_urdf import make_arm
from worldvla_ros.nodes.runtime import ManagedNode, declare, seconds
from worldvla_ros.nodes.spin import run
from worldvla_ros.nodes.viewer_words import (
    LONGEST,
    imagined_words,
    player_words,
    policy_words,
    task_words,
)
from worldvla_ros.robot.description import RobotConfig, load_robot
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.srv import ResetScene

PLAYER, POLICY, SIM, RECORDER = 'action_player', 'policy', 'sim', 'recorder'
PERIOD_S = 0.1
SERVICES_S = 1.0
"""How often it is looked for what there is to order."""
START = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
END = (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)


@dataclass(frozen=True)
class Settings:
    """The parameters."""

    robot: str
    urdf: str
    host: str
    port: int
    token: str
    transport: str


@dataclass(frozen=True)
class Configured:
    """What exists from configuring to cleaning up."""

    arm: Arm
    page: Any
    camera_topic: str
    instructions: Publisher
    hold: Client
    enable: Client
    reset: Client
    record: Client


class ViewerNode(ManagedNode):
    """Active: the page is served."""

    def __init__(self) -> None:
        """Create the node."""
        super().__init__('viewer')
        self._built: Configured | None = None
        self._ears: list[Subscription] = []
        self._newest: dict[str, Any] = {}
        self._joints: dict[str, float] = {}
        self._seed = 0

    def configure(self) -> None:
        """Read the robot description and serve the page.

        Raises:
            WorldVLAError: A parameter is wrong, no port is free, or viser is not installed.
        """
        given = self.read_parameters()
        arm = make_arm(self, load_robot(given.robot), given.urdf)
        page, address = self._open(arm, given)
        self._built = Configured(
            arm=arm,
            page=page,
            camera_topic=self._camera_topic(arm.robot, given.transport),
            instructions=self.publisher(String, 'instruction', LATCHED_QOS),
            hold=self.client(Trigger, f'{PLAYER}/hold'),
            enable=self.client(SetBool, f'{PLAYER}/enable'),
            reset=self.client(ResetScene, f'{SIM}/reset'),
            record=self.client(ChangeState, f'{RECORDER}/change_state'),
        )
        self.subscribe(PlayerState, f'{PLAYER}/state', self._on_state, LATCHED_QOS)
        self.subscribe(DiagnosticArray, f'{POLICY}/status', self._keep('policy'), LATCHED_QOS)
        self.subscribe_latched(String, 'instruction', self._on_instruction)
        self.every(PERIOD_S, self._show)
        self.every(SERVICES_S, self._offer)
        self.status.ok(f'the page is at {address}', address=address)

    def read_parameters(self) -> Settings:
        """Declare and read all parameters.

        Raises:
            ConfigError: A parameter is wrong.
        """
        return Settings(
            robot=declare(self, 'robot', 'sim_panda', 'robot name or YAML file'),
            urdf=declare(self, 'robot_description', '', 'URDF as text, where urdf is `topic`'),
            host=declare(self, 'host', '127.0.0.1', 'address to serve the page at'),
            port=declare(self, 'port', 8080, 'first port that is tried', 1, 65535),
            token=declare(self, 'token', '', 'what ?token= must say; needed beyond loopback'),
            transport=transport(self),
        )

    def clean_up(self) -> None:
        """Close the page."""
        self._deaf()
        built, self._built = self._built, None
        super().clean_up()
        if built is not None:
            built.page.close()

    @property
    def _configured(self) -> Configured:
        """What configuring made; callbacks run only while it is there."""
        assert self._built is not None, 'a callback outlived clean_up'
        return self._built

    def _open(self, arm: Arm, given: Settings) -> tuple[Any, str]:
        """Serve the page; return it and its address."""
        try:  # an extra: everything else runs without it
            from worldvla_ros.page.page import Orders, Page, Scene
            from worldvla_ros.page.server import serve
        except ModuleNotFoundError as error:
            raise ConfigError(
                'the page', expected='the package viser', got=str(error),
                remedy='pip install viser',
            ) from error  # fmt: skip
        limits = arm.robot.limits
        scene = Scene(
            title=arm.robot.name, links=arm.links, low=limits.workspace_minimum,
            high=limits.workspace_maximum, speed_limit=limits.linear_speed,
        )  # fmt: skip
        orders = Orders(self._instruct, self._hold, self._enable, self._reset, self._record)
        server, address = serve(given.host, given.port, given.token)
        return Page(server, scene, orders), address

    def _camera_topic(self, robot: RobotConfig, transport: str) -> str:
        camera = robot.cameras[0]
        packed = transport == 'compressed' or camera.topic.endswith(COMPRESSED)
        topic = self.resolve_topic_name(image_topic(camera))
        return topic + COMPRESSED if packed else topic

    # ---- what is heard

    def _keep(self, name: str) -> Callable[[Any], None]:
        """Return a callback that keeps the newest message."""

        def keep(message: Any) -> None:
            self._newest[name] = message

        return keep

    def _on_state(self, message: PlayerState) -> None:
        self._configured.page.show_state(*player_words(message))

    def _on_instruction(self, message: String) -> None:
        self._configured.page.show_instruction(message.data[:LONGEST])

    def _on_joints(self, message: JointState) -> None:
        pairs = zip(message.name, message.position, strict=False)
        self._joints |= {name: value for name, value in pairs if math.isfinite(value)}
        self._newest['joints'] = message

    def _on_chunk(self, message: ActionChunk) -> None:
        try:
            chunk = message_to_chunk(message)
            joints = np.array([self._joints[name] for name in self._configured.arm.names])
            actions = chunk.actions.astype(np.float64) * chunk.scale
            points = planned_points(self._configured.arm, joints, actions)
        except (ObservationError, WorldVLAError, KeyError, ValueError):
            return  # the player refuses it and says why
        begins_s = chunk.stamp_s + chunk.dt * np.arange(len(actions))
        speeds = np.linalg.norm(np.diff(points, axis=0), axis=1) / chunk.dt
        self._configured.page.speeds.put_coming(begins_s, speeds)

    def _listen(self) -> None:
        """Hear what changes all the time."""
        topic = self._configured.camera_topic
        for cls, name, callback, qos in (
            (JointState, 'joint_states', self._on_joints, JOINTS_QOS),
            (image_type(topic), topic, self._keep('camera'), SENSOR_QOS),
            (Image, 'imagined_strip', self._keep('imagined'), SENSOR_QOS),
            (MarkerArray, 'planned_path', self._keep('path'), SENSOR_QOS),
            (ActionChunk, 'action_chunk', self._on_chunk, RELIABLE_QOS),
            (TaskState, f'{SIM}/task_state', self._keep('task'), SENSOR_QOS),
        ):
            self._ears.append(self._hear(cls, name, callback, qos))

    def _hear(
        self, cls: type, name: str, callback: Callable[[Any], None], qos: QoSProfile
    ) -> Subscription:
        def hear(message: Any) -> None:
            with self._stopping_on_error(f'topic {name}'):
                callback(message)

        return self.create_subscription(cls, name, hear, qos)

    def _deaf(self) -> None:
        """Hear it no more."""
        while self._ears:
            self.destroy_subscription(self._ears.pop())
        if self._built is not None:
            self._built.page.speeds.clear()

    # ---- what is shown

    def _show(self) -> None:
        """Show what has come since the last time, to whoever looks."""
        page = self._configured.page
        if not (self.active and page.watched):
            self._deaf()
            return
        if not self._ears:
            self._listen()
        self._show_joints()
        self._show_images()
        if (path := self._newest.pop('path', None)) is not None:
            page.drawing.show_path(*_line(path))
        if (policy := self._newest.pop('policy', None)) is not None:
            page.show_words('policy', policy_words(policy))
        if (task := self._newest.pop('task', None)) is not None:
            self._seed = task.seed
            page.show_words('task', task_words(task))

    def _show_joints(self) -> None:
        message = self._newest.pop('joints', None)
        if message is None:
            return
        configured = self._configured
        configured.page.drawing.move(self._joints)
        try:
            joints = np.array([self._joints[name] for name in configured.arm.names])
        except KeyError:
            return
        tip = configured.arm.pose(joints)[:3, 3]
        configured.page.speeds.put_tip(seconds(message.header.stamp), tip)
        configured.page.show_chart(self.get_clock().now().nanoseconds * 1e-9)

    def _show_images(self) -> None:
        page = self._configured.page
        for name in ('camera', 'imagined'):
            message = self._newest.pop(name, None)
            image = None if message is None else _readable(message)
            if image is None:
                continue
            page.show_image(name, image)
            if name == 'imagined':
                now_s = self.get_clock().now().nanoseconds * 1e-9
                observed, imagined, _ = np.array_split(image, 3, axis=1)
                age_s = now_s - seconds(message.header.stamp)
                page.show_words('imagined', imagined_words(age_s, psnr(observed, imagined)))

    def _offer(self) -> None:
        configured = self._configured
        configured.page.offer(
            reset=configured.reset.service_is_ready(),
            record=configured.record.service_is_ready(),
        )

    # ---- orders, in threads of viser

    def _instruct(self, text: str) -> None:
        self._configured.instructions.publish(String(data=text[:LONGEST]))

    def _hold(self) -> None:
        self._ask(self._configured.hold, Trigger.Request(), 'hold')

    def _enable(self, on: bool) -> None:
        self._ask(self._configured.enable, SetBool.Request(data=on), 'enable')

    def _reset(self) -> None:
        self._seed += 1
        self._ask(self._configured.reset, ResetScene.Request(seed=self._seed), 'new scene')

    def _record(self, on: bool) -> None:
        first, second = START if on else END
        client = self._configured.record

        def go_on(answer: Future) -> None:
            result = answer.result()
            if result is not None and result.success:
                self._ask(client, _transition(second), 'record')
                self._configured.page.show_recording(on)
            else:
                self._configured.page.notice('record', 'the recorder refused; see its status')

        if client.service_is_ready():
            client.call_async(_transition(first)).add_done_callback(go_on)

    def _ask(self, client: Client, request: Any, what: str) -> None:
        """Ask a service; what is refused is shown."""
        page = self._configured.page
        if not client.service_is_ready():
            page.notice(what, f'nobody answers {name_of_service(client)}')
            return

        def answered(future: Future) -> None:
            answer = future.result()
            if answer is None or not answer.success:
                page.notice(what, getattr(answer, 'message', '') or 'refused')

        client.call_async(request).add_done_callback(answered)


def _transition(number: int) -> ChangeState.Request:
    return ChangeState.Request(transition=Transition(id=number))


def _readable(message: AnyImage) -> np.ndarray | None:
    """Return an image, or None where nobody can show it; the policy says why."""
    try:
        return to_array(message)
    except WorldVLAError:
        return None


def _line(message: MarkerArray) -> tuple[np.ndarray, np.ndarray]:
    """Return points float[k, 3] and colours float[k, 3] of the newest path."""
    marker = message.markers[0]
    points = np.array([(p.x, p.y, p.z) for p in marker.points], float).reshape(-1, 3)
    colors = np.array([(c.r, c.g, c.b) for c in marker.colors], float).reshape(-1, 3)
    return points, colors


def main() -> int:
    """Run the viewer."""
    return run(ViewerNode)


if __name__ == '__main__':
    raise SystemExit(main())
