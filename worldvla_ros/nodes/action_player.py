"""The action player: chunks in, one command per control period out, and a hold whenever in doubt.

`output` chooses the command: `twist` (geometry_msgs/TwistStamped, as MoveIt Servo takes it: m/s
and rad/s in the base frame) or `trajectory` (trajectory_msgs/JointTrajectory, as ros2_control's
joint_trajectory_controller takes it). What is sent is decided in `robot.player`; this node
converts and publishes. Everything runs in the executor's thread. Must not know models.
"""

from array import array
from dataclasses import dataclass
import time

from geometry_msgs.msg import Point, TwistStamped
import numpy as np
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState
from std_msgs.msg import ColorRGBA, Float64MultiArray
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from visualization_msgs.msg import Marker, MarkerArray

from worldvla_ros.errors import ConfigError, ObservationError, WorldVLAError
from worldvla_ros.msg import ActionChunk
from worldvla_ros.nodes.convert import message_to_chunk
from worldvla_ros.nodes.runtime import (
    JOINTS_QOS,
    RELIABLE_QOS,
    ManagedNode,
    declare,
    seconds,
)
from worldvla_ros.nodes.spin import run
from worldvla_ros.robot.commands import JointCommand, TwistCommand
from worldvla_ros.robot.description import RobotConfig, load_robot
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.player import OUTPUTS, STOP_REPEATS, Player
from worldvla_ros.robot.safety import Mode

TICKS_PER_PERIOD = 2
"""ROS time may pass at another rate than the steady clock that ticks; see `robot.safety.Pace`."""
STANDING = TwistCommand(np.zeros(3), np.zeros(3), 0.0)


@dataclass(frozen=True)
class Configured:
    """What exists from configuring to cleaning up."""

    arm: Arm
    robot: RobotConfig
    output: str
    period_s: float
    player: Player
    twists: Publisher
    trajectories: Publisher
    grippers: Publisher
    paths: Publisher


class ActionPlayerNode(ManagedNode):
    """Not active: sends nothing. Active and enabled: one command per period, or a hold.

    In a dry run chunks are judged and the path is shown, but no command leaves.
    """

    def __init__(self) -> None:
        """Create the node."""
        super().__init__('action_player')
        self._built: Configured | None = None

    def configure(self) -> None:
        """Read parameters and create interfaces.

        Raises:
            WorldVLAError: The robot description cannot be used or a parameter is wrong.
        """
        robot = load_robot(declare(self, 'robot', 'sim_panda', 'robot name or YAML file'))
        arm = Arm(robot)
        output = declare(self, 'output', 'twist', f'command to send: {" or ".join(OUTPUTS)}')
        if output not in OUTPUTS:
            raise ConfigError('parameter output', expected=' or '.join(OUTPUTS), got=repr(output))
        rate = declare(
            self, 'control_rate', 20.0, 'commands per second [Hz]: 1 / dt of chunks', 1.0, 200.0
        )
        age = declare(
            self, 'max_joint_age', 0.3, 'oldest joint state that is acted on [s]', 0.01, 10.0
        )
        enabled = declare(
            self, 'enabled', not robot.dry_run, 'send commands; false is a dry run, see ~/enable'
        )
        player = Player(
            arm, output=output, period_s=1 / rate, max_joint_age_s=age, enabled=enabled
        )
        self._built = self._create_interfaces(arm, output, 1 / rate, player)
        self._report_mode('configured')

    def deactivate(self) -> None:
        """Stop the robot and forget the chunk."""
        if self._built is not None:
            self._stop_now()
            self._built.player.stop()

    def clean_up(self) -> None:
        """Remove all interfaces."""
        self._built = None
        super().clean_up()

    @property
    def _configured(self) -> Configured:
        """What configuring made; callbacks run only while it is there."""
        assert self._built is not None, 'a callback outlived clean_up'
        return self._built

    def _create_interfaces(
        self, arm: Arm, output: str, period_s: float, player: Player
    ) -> Configured:
        self.subscribe(ActionChunk, 'action_chunk', self._on_chunk, RELIABLE_QOS)
        self.subscribe(JointState, 'joint_states', self._on_joints, JOINTS_QOS)
        self.serve(SetBool, '~/enable', self._on_enable)
        self.serve(Trigger, '~/hold', self._on_hold)
        self.every(period_s / TICKS_PER_PERIOD, self._tick)
        return Configured(
            arm=arm,
            robot=arm.robot,
            output=output,
            period_s=period_s,
            player=player,
            twists=self.publisher(TwistStamped, 'delta_twist_cmds', RELIABLE_QOS),
            trajectories=self.publisher(JointTrajectory, 'joint_trajectory', RELIABLE_QOS),
            grippers=self.publisher(Float64MultiArray, 'gripper_command', RELIABLE_QOS),
            paths=self.publisher(MarkerArray, 'planned_path', RELIABLE_QOS),
        )

    # ---- what comes in

    def _on_chunk(self, message: ActionChunk) -> None:
        if not self.active:
            return
        player = self._configured.player
        try:
            problem = player.offer(message_to_chunk(message), self._now_s())
        except WorldVLAError as error:
            problem = player.refuse(str(error), error.problem)
        if problem is None:
            self._publish_path()
        else:
            self._report(problem.text, problem.kind, warn=True)

    def _on_joints(self, message: JointState) -> None:
        try:
            names, positions = list(message.name), np.asarray(message.position)
            self._configured.player.put_joints(names, positions, seconds(message.header.stamp))
        except ObservationError as error:
            self._report(f'joint state refused: {error}', error.problem, warn=True)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._stop_now()
        self._configured.player.enable(request.data)
        response.success = True
        response.message = 'sending commands' if request.data else 'dry run: nothing is sent'
        self._report_mode(response.message)
        return response

    def _on_hold(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._stop_now()
        self._configured.player.hold()
        response.success = True
        response.message = 'holding until ~/enable is called with true'
        self._report_mode(response.message)
        return response

    # ---- what goes out

    def _tick(self) -> None:
        """Send the command that is due, or hold."""
        if not self.active:
            return
        step = self._configured.player.step(self._now_s(), time.monotonic())
        if step is None:
            return
        if step.command is not None:
            self._send(step.command)
            self._publish_path()
        elif step.stop:
            self._send_stop()
        self._report(step.message, step.kind, warn=step.warn)

    def _send(self, command: TwistCommand | JointCommand) -> None:
        configured, stamp = self._configured, self.get_clock().now().to_msg()
        frame = configured.robot.base_frame
        if isinstance(command, TwistCommand):
            configured.twists.publish(twist_message(command, stamp, frame))
        else:
            names = configured.robot.joints.names
            configured.trajectories.publish(
                trajectory_message(command, names, configured.period_s, frame)
            )
        configured.grippers.publish(Float64MultiArray(data=array('d', [command.width])))

    def _send_stop(self) -> None:
        """Send a zero twist; a trajectory ends at its last point by itself.

        The gripper keeps what it has.
        """
        if self._configured.output == 'twist':
            stamp = self.get_clock().now().to_msg()
            message = twist_message(STANDING, stamp, self._configured.robot.base_frame)
            self._configured.twists.publish(message)

    def _stop_now(self) -> None:
        """Send all stops at once, where a command has moved the arm."""
        if self._configured.player.stopping:
            for _ in range(STOP_REPEATS):
                self._send_stop()

    def _publish_path(self) -> None:
        """Show where the rest of the chunk leads: green gripper open, orange closed."""
        configured = self._configured
        player = configured.player
        if player.chunk is None or not configured.paths.get_subscription_count():
            return
        try:
            joints = player.joints(self._now_s())
        except ObservationError:
            return  # the next tick holds and says why
        start = configured.arm.pose(joints.positions)[:3, 3]
        marker = path_marker(start, player.moves, configured.robot.gripper.close_above)
        marker.header.frame_id = configured.robot.base_frame
        marker.header.stamp = self.get_clock().now().to_msg()
        configured.paths.publish(MarkerArray(markers=[marker]))

    # ---- what is said

    def _report_mode(self, message: str) -> None:
        """Report a change, with the mode in its words."""
        if self._configured.player.mode is Mode.DRY_RUN and 'dry run' not in message:
            message += ', dry run'
        self._report(message)

    def _report(self, message: str, kind: str = '', warn: bool = False) -> None:
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


def twist_message(command: TwistCommand, stamp: object, frame: str) -> TwistStamped:
    """Return a twist of the tip as a message."""
    message = TwistStamped()
    message.header.stamp, message.header.frame_id = stamp, frame
    linear, angular = message.twist.linear, message.twist.angular
    linear.x, linear.y, linear.z = np.asarray(command.linear, float).tolist()
    angular.x, angular.y, angular.z = np.asarray(command.angular, float).tolist()
    return message


def trajectory_message(
    command: JointCommand, names: tuple[str, ...], duration_s: float, frame: str
) -> JointTrajectory:
    """Return joint targets as a trajectory of one point; stamp 0 starts it on arrival."""
    point = JointTrajectoryPoint(positions=array('d', command.positions.tolist()))
    nanoseconds = round(duration_s * 1e9)
    point.time_from_start.sec, point.time_from_start.nanosec = divmod(nanoseconds, 10**9)
    message = JointTrajectory(joint_names=list(names), points=[point])
    message.header.frame_id = frame
    return message


def path_marker(start: np.ndarray, moves: np.ndarray, close_above: float) -> Marker:
    """Return the way of the tip as a line that fades out.

    Args:
        start: Where it begins, float[3] [m].
        moves: Actions in SI units, float[n, 7].
        close_above: The gripper action above which it closes.
    """
    marker = Marker(ns='planned_path', type=Marker.LINE_STRIP, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.scale.x = 0.006
    points = np.vstack([start, start + np.cumsum(moves[:, :3], axis=0)])
    closing = [False, *(moves[:, 6] > close_above)]
    for i, (point, closes) in enumerate(zip(points, closing, strict=True)):
        marker.points.append(Point(x=point[0], y=point[1], z=point[2]))
        fade = 1.0 - 0.7 * i / len(points)
        marker.colors.append(
            ColorRGBA(r=1.0, g=0.5, b=0.0, a=fade)
            if closes
            else ColorRGBA(r=0.1, g=0.8, b=0.3, a=fade)
        )
    return marker


def main() -> int:
    """Run the player."""
    return run(ActionPlayerNode)


if __name__ == '__main__':
    raise SystemExit(main())
