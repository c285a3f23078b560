"""The action player: chunks in, one command per control period out, and a hold whenever in doubt.

`output` chooses the command: `twist` (geometry_msgs/TwistStamped, as MoveIt Servo takes it: m/s
and rad/s in the base frame) or `trajectory` (trajectory_msgs/JointTrajectory, as ros2_control's
joint_trajectory_controller takes it). Limits of the robot description hold here, at the output.
Must not know models.
"""

from array import array

from geometry_msgs.msg import Point, TwistStamped
import numpy as np
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState
from std_msgs.msg import ColorRGBA, Float64MultiArray
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from visualization_msgs.msg import Marker, MarkerArray

from worldvla_ros.errors import ConfigError, WorldVLAError
from worldvla_ros.msg import ActionChunk
from worldvla_ros.nodes.convert import message_to_chunk
from worldvla_ros.nodes.runtime import (
    RELIABLE_QOS,
    SENSOR_QOS,
    ManagedNode,
    declare,
    seconds,
)
from worldvla_ros.nodes.spin import run
from worldvla_ros.observation import ActionChunk as Chunk
from worldvla_ros.robot import guards
from worldvla_ros.robot.description import RobotConfig, load_robot
from worldvla_ros.robot.kinematics import forward, rotation_matrix, solve_ik
from worldvla_ros.robot.motion import ChunkPlayer
from worldvla_ros.robot.state import order_joints

OUTPUTS = ('twist', 'trajectory')
NOTICED_CLAMP_M = 1e-4


class ActionPlayerNode(ManagedNode):
    """Not active: sends nothing. Active and enabled: one command per period, or a hold.

    In a dry run chunks are judged and the path is shown, but no command leaves.
    """

    def __init__(self) -> None:
        """Create the node."""
        super().__init__('action_player')
        self._player = ChunkPlayer()
        self._joints: np.ndarray | None = None
        self._joints_s = -np.inf
        self._command: np.ndarray | None = None
        self._target: np.ndarray | None = None
        self._twists: Publisher | None = None

    def configure(self) -> None:
        """Read parameters and create interfaces.

        Raises:
            WorldVLAError: The robot description cannot be used or a parameter is wrong.
        """
        robot = load_robot(declare(self, 'robot', 'sim_panda', 'robot name or YAML file'))
        output = declare(self, 'output', 'twist', f'command to send: {" or ".join(OUTPUTS)}')
        if output not in OUTPUTS:
            raise ConfigError('parameter output', expected=' or '.join(OUTPUTS), got=repr(output))
        rate = declare(self, 'control_rate', 20.0, 'commands per second [Hz]', 1.0, 1000.0)
        self._max_joint_age_s = declare(
            self, 'max_joint_age', 0.3, 'oldest joint state that is acted on [s]', 0.01, 10.0
        )
        self._enabled = declare(
            self, 'enabled', not robot.dry_run, 'send commands; false is a dry run, see ~/enable'
        )
        self._robot: RobotConfig = robot
        self._output = output
        self._period_s = 1.0 / rate
        self._create_interfaces()
        mode = 'sending' if self._enabled else 'dry run'
        self.status.ok(f'configured, {mode}', robot=robot.name, output=output)

    def deactivate(self) -> None:
        """Stop the robot and forget the chunk."""
        self._player.clear()
        self._send_hold()

    def clean_up(self) -> None:
        """Remove all interfaces."""
        self._twists = None
        super().clean_up()

    def _create_interfaces(self) -> None:
        self._twists = self.publisher(TwistStamped, 'delta_twist_cmds', RELIABLE_QOS)
        self._trajectories = self.publisher(JointTrajectory, 'joint_trajectory', RELIABLE_QOS)
        self._grippers = self.publisher(Float64MultiArray, 'gripper_command', RELIABLE_QOS)
        self._paths = self.publisher(MarkerArray, 'planned_path', RELIABLE_QOS)
        self.subscribe(ActionChunk, 'action_chunk', self._on_chunk, RELIABLE_QOS)
        self.subscribe(JointState, 'joint_states', self._on_joints, SENSOR_QOS)
        self.serve(SetBool, '~/enable', self._on_enable)
        self.serve(Trigger, '~/hold', self._on_hold)
        self.every(self._period_s, self._tick)

    def _now_s(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _on_chunk(self, message: ActionChunk) -> None:
        if not self.active:
            return
        try:
            chunk = message_to_chunk(message)
        except WorldVLAError as error:
            self.status.warn(f'chunk refused: {error}', key=error.problem)
            return
        refusal = self._judge(chunk)
        if refusal is not None:
            self.status.warn(f'chunk refused: {refusal}', key=refusal.guard)
            return
        self._player.offer(chunk)
        self._publish_path()

    def _judge(self, chunk: Chunk) -> guards.Refusal | None:
        """Return the first reason not to play a chunk."""
        return (
            guards.chunk_meaning(chunk, self._robot)
            or guards.chunk_values(chunk, self._robot)
            or guards.chunk_late(chunk, self._now_s())
            or guards.slow_inference(chunk)
            or guards.chunk_speed(chunk, self._robot)
        )

    def _on_joints(self, message: JointState) -> None:
        try:
            names, positions = list(message.name), np.asarray(message.position)
            joints, _ = order_joints(self._robot, names, positions)
        except WorldVLAError as error:
            self.status.warn(f'joint state refused: {error}', key=error.problem)
            return
        self._joints, self._joints_s = joints, seconds(message.header.stamp)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        self._player.clear()
        if not request.data:
            self._send_hold(force=True)
        response.success = True
        response.message = 'sending commands' if request.data else 'dry run: nothing is sent'
        self.status.ok(response.message)
        return response

    def _on_hold(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._player.clear()
        self._send_hold()
        response.success, response.message = True, 'holding until the next chunk'
        return response

    def _tick(self) -> None:
        """Send one command, or hold."""
        if not self.active:
            return
        action = self._player.next_action(self._now_s()) if self._ready() else None
        if action is None:
            self._send_hold()
            return
        self._send(action * self._player.chunk.scale)
        self._publish_path()

    def _ready(self) -> bool:
        """Whether the robot's joints are known and fresh; a chunk does not go on without."""
        age = abs(self._now_s() - self._joints_s)
        if self._joints is None or age > self._max_joint_age_s:
            if self._player.chunk is not None:
                self.status.warn('holding: no fresh joint state', key='joints')
                self._player.clear()
            return False
        return True

    def _send(self, move: np.ndarray) -> None:
        """Send a displacement float[7] in SI units, kept inside the workspace."""
        if self._target is None:
            self._target = forward(self._robot, self._joints)
            self._command = self._joints
        limits = self._robot.limits
        start = forward(self._robot, self._joints)[:3, 3]
        if self._output == 'trajectory':
            start = self._target[:3, 3]
        end = np.clip(start + move[:3], limits.workspace_minimum, limits.workspace_maximum)
        if np.abs(end - start - move[:3]).max() > NOTICED_CLAMP_M:
            self.status.warn('motion kept inside the workspace', key='workspace')
        else:
            self.status.ok('playing')
        translation = np.clip(end - start, -np.abs(move[:3]), np.abs(move[:3]))
        if self._output == 'twist':
            self._send_twist(translation, move[3:6])
        else:
            self._send_trajectory(translation, move[3:6])
        self._send_gripper(move[6])

    def _send_twist(self, translation: np.ndarray, rotation: np.ndarray) -> None:
        if not self._enabled:
            return
        dt = self._player.chunk.dt
        message = TwistStamped()
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = self._robot.base_frame
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z = (translation / dt).tolist()
        angular.x, angular.y, angular.z = (rotation / dt).tolist()
        self._twists.publish(message)

    def _send_trajectory(self, translation: np.ndarray, rotation: np.ndarray) -> None:
        """Move the target pose and send the joints that reach it one period later."""
        self._target[:3, 3] += translation
        self._target[:3, :3] = rotation_matrix(rotation) @ self._target[:3, :3]
        wanted = solve_ik(self._robot, self._command, self._target)
        furthest = np.asarray(self._robot.joints.velocity) * self._player.chunk.dt
        self._command = self._command + np.clip(wanted - self._command, -furthest, furthest)
        self._publish_joints(self._command)

    def _publish_joints(self, joints: np.ndarray) -> None:
        if not self._enabled:
            return
        point = JointTrajectoryPoint(positions=array('d', joints.tolist()))
        point.time_from_start.nanosec = round(self._period_s * 1e9) % 10**9
        point.time_from_start.sec = int(self._period_s)
        message = JointTrajectory(joint_names=list(self._robot.joints.names), points=[point])
        message.header.frame_id = self._robot.base_frame
        self._trajectories.publish(message)

    def _send_gripper(self, action: float) -> None:
        gripper = self._robot.gripper
        width = 0.0 if action > gripper.close_above else gripper.open_width
        if self._enabled:
            self._grippers.publish(Float64MultiArray(data=array('d', [width])))

    def _send_hold(self, force: bool = False) -> None:
        """Stop: a zero twist, or no new trajectory; the gripper keeps what it has."""
        self._target = None
        if self._twists is None or not (self._enabled or force):
            return
        if self._output == 'twist':
            message = TwistStamped()
            message.header.stamp = self.get_clock().now().to_msg()
            message.header.frame_id = self._robot.base_frame
            self._twists.publish(message)

    def _publish_path(self) -> None:
        """Show where the rest of the chunk leads: green gripper open, orange closed."""
        chunk = self._player.chunk
        if chunk is None or self._joints is None or not self._paths.get_subscription_count():
            return
        moves = self._player.remaining * chunk.scale
        start = forward(self._robot, self._joints)[:3, 3]
        marker = Marker(ns='planned_path', type=Marker.LINE_STRIP, action=Marker.ADD)
        marker.header.frame_id = self._robot.base_frame
        marker.header.stamp = self.get_clock().now().to_msg()
        marker.pose.orientation.w = 1.0
        marker.scale.x = 0.006
        points = np.vstack([start, start + np.cumsum(moves[:, :3], axis=0)])
        closing = [False, *(moves[:, 6] > self._robot.gripper.close_above)]
        for i, (point, closes) in enumerate(zip(points, closing, strict=True)):
            marker.points.append(Point(x=point[0], y=point[1], z=point[2]))
            fade = 1.0 - 0.7 * i / len(points)
            marker.colors.append(
                ColorRGBA(r=1.0, g=0.5, b=0.0, a=fade)
                if closes
                else ColorRGBA(r=0.1, g=0.8, b=0.3, a=fade)
            )
        self._paths.publish(MarkerArray(markers=[marker]))


def main() -> int:
    """Run the player."""
    return run(ActionPlayerNode)


if __name__ == '__main__':
    raise SystemExit(main())
