"""The action player: chunks in, commands at the control rate out, and a hold whenever in doubt.

What is sent is decided in `robot.player`, and how a controller wants it in `bridges`; this node
converts, publishes and lets the operator in. Messages and services are answered in the executor's
thread; joint states are taken and commands leave in a thread of its own, a loop of steady period.
One lock holds both apart. Must not know models.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
import math
import threading
import time
from typing import Any, TypeVar

from builtin_interfaces.msg import Time
import numpy as np
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Empty
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray

from worldvla_ros.errors import WorldVLAError
from worldvla_ros.msg import ActionChunk, PlayerState
from worldvla_ros.nodes.bridges import Bridge, Gripper, Problem, make_bridge, make_gripper
from worldvla_ros.nodes.control_loop import ControlLoop
from worldvla_ros.nodes.convert import message_to_chunk
from worldvla_ros.nodes.diagnostics import Diagnostics, Rate
from worldvla_ros.nodes.player_diagnostics import PlayerDiagnostics
from worldvla_ros.nodes.player_report import path_marker, planned_points, state_message
from worldvla_ros.nodes.player_settings import Settings, read_settings
from worldvla_ros.nodes.qos import EVERY_JOINT_QOS, LATCHED_QOS, RELIABLE_QOS, SENSOR_QOS
from worldvla_ros.nodes.robot_urdf import make_arm
from worldvla_ros.nodes.runtime import ManagedNode, seconds
from worldvla_ros.nodes.spin import run
from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.output import Step
from worldvla_ros.robot.player import Player
from worldvla_ros.robot.reasons import Reason
from worldvla_ros.robot.safety import Mode
from worldvla_ros.robot.state import JointError
from worldvla_ros.srv import SetSpeedOverride

CHANGE_PERIOD_S = 0.05
STATE_PERIOD_S = 0.5
"""~/state is published on a change, this far apart at least, and this often at most apart."""
PATH_PERIOD_S = 0.1
SLOWEST = 0.01

Answer = TypeVar('Answer', bound=Any)


@dataclass(frozen=True)
class Configured:
    """What exists from configuring to cleaning up."""

    arm: Arm
    output: str
    player: Player
    bridge: Bridge
    gripper: Gripper
    loop: ControlLoop
    states: Publisher
    paths: Publisher
    chunk_rate: Rate
    joint_rate: Rate
    joint_states: Callable[[], Iterator[JointState]]

    @property
    def robot(self) -> RobotConfig:
        """The description."""
        return self.arm.robot


class ActionPlayerNode(ManagedNode):
    """Not active: sends nothing. Active and enabled: commands at the control rate, or a hold.

    In a dry run chunks are judged and the path is shown, but no command leaves.
    """

    def __init__(self) -> None:
        """Create the node."""
        super().__init__('action_player')
        self._built: Configured | None = None
        self._lock = threading.RLock()
        self._version = -1
        self._reported_s = self._shown_s = -math.inf

    def configure(self) -> None:
        """Read parameters and create interfaces.

        Raises:
            WorldVLAError: The robot description cannot be used or a parameter is wrong.
        """
        given = self.read_parameters()
        robot = given.robot.with_gripper(given.gripper)
        arm = make_arm(self, robot, given.urdf)
        output = given.output or robot.controller.kind
        player = Player(
            arm,
            output=output,
            period_s=given.period_s,
            max_joint_age_s=given.max_joint_age_s,
            enabled=given.enabled,
            blending=given.blending,
            follow_timeout_s=given.follow_timeout_s,
            heartbeat_timeout_s=given.heartbeat_timeout_s,
        )
        self._built = self._create_interfaces(arm, output, given.period_s, player)
        if given.servo_told:
            self._built.bridge.vouch()
        self.status.ok('configured', mode=player.mode.value, robot=robot.name, output=output)

    def read_parameters(self) -> Settings:
        """Declare and read all parameters.

        Raises:
            WorldVLAError: The robot description cannot be used or a parameter is wrong.
        """
        return read_settings(self)

    def activate(self) -> None:
        """Begin to send, or to rehearse."""
        configured = self._configured
        if configured.player.mode is Mode.ENABLED:
            configured.bridge.enable()
        self._version = -1
        configured.loop.start()

    def deactivate(self) -> None:
        """Stop the robot and forget the chunk."""
        if self._built is None:
            return
        self._built.loop.stop()
        with self._lock:
            now = self.get_clock().now()
            brake = self._built.player.stop(now.nanoseconds * 1e-9)
            self._built.bridge.halt(now.to_msg(), brake)
            self._built.gripper.release()

    def clean_up(self) -> None:
        """Remove all interfaces."""
        super().clean_up()
        self._built = None

    @property
    def _configured(self) -> Configured:
        """What configuring made; callbacks run only while it is there."""
        assert self._built is not None, 'a callback outlived clean_up'
        return self._built

    def _create_interfaces(
        self, arm: Arm, output: str, period_s: float, player: Player
    ) -> Configured:
        self._listen()
        self._serve()
        configured = Configured(
            arm=arm,
            output=output,
            player=player,
            bridge=make_bridge(self, arm.robot, output),
            gripper=make_gripper(self, arm.robot),
            loop=ControlLoop(period_s, self._tick, self._on_loop_failed),
            states=self.publisher(PlayerState, '~/state', LATCHED_QOS),
            paths=self.publisher(MarkerArray, 'planned_path', RELIABLE_QOS),
            chunk_rate=Rate(),
            joint_rate=Rate(),
            joint_states=self.poll(JointState, 'joint_states', EVERY_JOINT_QOS),
        )
        diagnostics = Diagnostics(self, arm.robot.name)
        PlayerDiagnostics(
            player, configured.loop, configured.chunk_rate, configured.joint_rate, self._lock
        ).add_to(diagnostics, 1 / period_s)
        return configured

    def _listen(self) -> None:
        self.subscribe(ActionChunk, 'action_chunk', self._on_chunk, RELIABLE_QOS)
        # any publisher may stop the arm: reliable or not, latched or not
        self.subscribe_latched(Bool, 'stop', self._on_stop)
        self.subscribe(Bool, 'stop', self._on_stop, SENSOR_QOS)
        self.subscribe(Empty, 'heartbeat', self._on_heartbeat, SENSOR_QOS)

    def _serve(self) -> None:
        self.serve(SetBool, '~/enable', self._on_enable)
        self.serve(Trigger, '~/hold', self._on_hold)
        self.serve(SetBool, '~/pause', self._on_pause)
        self.serve(SetSpeedOverride, '~/set_speed', self._on_set_speed)
        self._serve_trigger('~/step', lambda now_s: self._configured.player.single_step(now_s))
        self._serve_trigger(
            '~/go_to_start', lambda now_s: self._configured.player.go_to_start(now_s)
        )

    def _serve_trigger(self, name: str, act: Callable[[float], Reason | None]) -> None:
        def on_trigger(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            with self._lock:
                return _answer(response, act(self._now_s()), 'started')

        self.serve(Trigger, name, on_trigger)

    # ---- what comes in, in the executor's thread

    def _on_chunk(self, message: ActionChunk) -> None:
        if not self.active:
            return
        now_s = self._now_s()
        configured = self._configured
        configured.chunk_rate.tick(now_s - seconds(message.header.stamp))
        with self._lock:
            try:
                chunk = message_to_chunk(message)
            except WorldVLAError as error:
                remedy = error.remedy or 'Check the publisher of the chunk.'
                text = str(error).removesuffix(f'. {remedy}')
                refused: Reason | None = configured.player.refuse(
                    Reason('chunk_size', text, remedy, stamp_s=now_s)
                )
            else:
                refused = configured.player.offer(chunk, now_s, frame=message.header.frame_id)
        if refused is not None:
            self._say(str(refused), refused.code, warn=True)

    def _on_stop(self, message: Bool) -> None:
        if message.data:
            with self._lock:
                self._configured.player.halt(self._now_s())

    def _on_heartbeat(self, message: Empty) -> None:
        self._configured.player.beat(time.monotonic())

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        configured = self._configured
        with self._lock:
            refused = configured.player.enable(request.data, self._now_s(), time.monotonic())
            if request.data and refused is None:
                configured.bridge.enable()
        done = 'sending commands' if request.data else 'dry run: nothing is sent'
        return _answer(response, refused, done)

    def _on_hold(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            self._configured.player.hold(self._now_s())
        return _answer(response, None, 'holding until ~/enable is called with true')

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        with self._lock:
            refused = self._configured.player.pause(request.data, self._now_s())
        return _answer(response, refused, 'paused' if request.data else 'going on')

    def _on_set_speed(
        self, request: SetSpeedOverride.Request, response: SetSpeedOverride.Response
    ) -> SetSpeedOverride.Response:
        if not SLOWEST <= request.share <= 1:
            response.message = f'share {request.share:g}: expected {SLOWEST} to 1'
            return response
        with self._lock:
            refused = self._configured.player.set_speed(request.share, self._now_s())
        return _answer(response, refused, f'playing at {request.share:.0%} of full speed')

    # ---- joints in and commands out, in the loop's thread

    def _tick(self) -> None:
        """Send what is due now, and say what has changed."""
        with self._lock:
            if not self.active:
                return
            configured, steady_s = self._configured, time.monotonic()
            now = self.get_clock().now()
            player = configured.player
            for message in configured.joint_states():
                self._put_joints(message)
            player.controller(_reason(configured.bridge.problem()))
            player.gripper(_reason(configured.gripper.problem()))
            step = player.step(now.nanoseconds * 1e-9, steady_s)
            self._send(step, now.to_msg(), now.nanoseconds * 1e-9)
            self._report(steady_s)
            if steady_s - self._shown_s >= PATH_PERIOD_S:
                self._shown_s = steady_s
                self._show_path()

    def _put_joints(self, message: JointState) -> None:
        configured, stamp_s = self._configured, seconds(message.header.stamp)
        configured.joint_rate.tick(self._now_s() - stamp_s)
        try:
            configured.player.put_joints(message.name, np.asarray(message.position), stamp_s)
        except JointError as error:
            self._say(f'joint state refused: {error}', error.problem, warn=True)

    def _send(self, step: Step, stamp: Time, now_s: float) -> None:
        configured = self._configured
        if step.width is not None:
            configured.gripper.send(step.width, now_s)
        if step.command is not None:
            configured.bridge.send(step.command, stamp)
        elif step.halt:
            configured.bridge.halt(stamp, step.brake)
            configured.gripper.release()
        elif not configured.player.moving:
            configured.bridge.rest(stamp)

    def _on_loop_failed(self, error: Exception) -> None:
        self.fail(f'control loop: {type(error).__name__}: {error}')

    def _report(self, steady_s: float) -> None:
        """Publish what the player does, on changes and from time to time."""
        configured, since_s = self._configured, steady_s - self._reported_s
        changed = configured.player.version != self._version
        if since_s < (CHANGE_PERIOD_S if changed else STATE_PERIOD_S):
            return
        self._reported_s, self._version = steady_s, configured.player.version
        view = configured.player.view()
        stamp = self.get_clock().now().to_msg()
        frame = configured.robot.base_frame
        configured.states.publish(state_message(view, configured.output, frame, stamp))
        self._say(view.message, view.kind, warn=view.warn)

    def _show_path(self) -> None:
        """Show where the rest of the chunk leads, to whoever looks."""
        configured = self._configured
        player = configured.player
        if not player.moving or not configured.paths.get_subscription_count():
            return
        actions = player.actions_left
        try:
            joints = player.joints(self._now_s())
        except JointError:
            return  # the next tick brakes and says why
        if not len(actions):
            return
        points = planned_points(configured.arm, joints.positions, actions)
        closing = np.array([configured.robot.gripper.closes(value) for value in actions[:, -1]])
        marker = path_marker(points, closing)
        marker.header.frame_id = configured.robot.base_frame
        marker.header.stamp = self.get_clock().now().to_msg()
        configured.paths.publish(MarkerArray(markers=[marker]))

    # ---- what is said

    def _say(self, message: str, kind: str = '', warn: bool = False) -> None:
        configured = self._configured
        report = self.status.warn if warn else self.status.ok
        report(
            message,
            kind,
            mode=configured.player.mode.value,
            robot=configured.robot.name,
            output=configured.output,
        )

    def _now_s(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9


def _reason(problem: Problem | None) -> Reason | None:
    """Return what a bridge has against sending as a reason."""
    if problem is None:
        return None
    return Reason(problem.code, problem.text.rstrip('.'), problem.remedy)


def _answer(response: Answer, refused: Reason | None, done: str) -> Answer:
    """Fill in the answer of a service."""
    response.success = refused is None
    response.message = done if refused is None else str(refused)
    return response


def main() -> int:
    """Run the player."""
    return run(ActionPlayerNode)


if __name__ == '__main__':
    raise SystemExit(main())
