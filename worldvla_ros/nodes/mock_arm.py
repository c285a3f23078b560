"""A mocked controller behind the real topics: messages in, joint positions per millisecond out.

One class per kind of controller. Must not know what is driven by the positions; messages are
handed over as they are, with the node's clock.
"""

import math
from typing import Any

from geometry_msgs.msg import PoseStamped, TwistStamped
import numpy as np
from rclpy.publisher import Publisher
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from worldvla_ros.errors import ConfigError
from worldvla_ros.nodes.bridges.servo import COMMAND_TYPES, moveit_msgs, servo_node
from worldvla_ros.nodes.qos import RELIABLE_QOS
from worldvla_ros.nodes.runtime import ManagedNode, seconds
from worldvla_ros.nodes.sim_trajectory import message_to_trajectory
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.sim.controllers.cartesian import CartesianPoseMock
from worldvla_ros.sim.controllers.forward import ForwardPositionMock, ForwardVelocityMock
from worldvla_ros.sim.controllers.parts import Drops
from worldvla_ros.sim.controllers.servo import ServoMock, ServoSettings
from worldvla_ros.sim.controllers.trajectory import JointTrajectoryMock

COMMANDS_QOS = RELIABLE_QOS
STATUS_PERIOD_S = 0.1
"""Servo says its status as often as it moves the arm; here less often."""


class MockArm:
    """What the mocked controllers have in common."""

    drops: Drops

    def step(self, now_s: float, dt: float) -> np.ndarray:
        """Return the joint positions after a time [s]: float64[n] [rad]."""
        raise NotImplementedError

    def relocate(self, joints: np.ndarray) -> None:
        """Start again at rest at float[n] [rad]."""
        raise NotImplementedError


class ServoArm(MockArm):
    """MoveIt Servo: twists or poses, the command type as a service, its status as a topic."""

    def __init__(self, node: ManagedNode, arm: Arm, kind: str, joints: np.ndarray) -> None:
        """Offer Servo's interfaces; without moveit_msgs it listens to the kind from the start."""
        robot = arm.robot
        topic, servo = robot.controller.topic_of(kind), servo_node(robot.controller.topic_of(kind))
        controller = robot.controller
        self._mock = ServoMock(
            arm, joints, arm.minimum, arm.maximum, arm.velocity, arm.acceleration,
            ServoSettings(
                units=controller.units,
                linear_scale=controller.linear_scale,
                angular_scale=controller.angular_scale,
                frame=robot.base_frame,
            ),
        )  # fmt: skip
        self.drops = self._mock.drops
        if kind == 'twist':
            node.subscribe(TwistStamped, topic, self._on_twist, COMMANDS_QOS)
        else:
            node.subscribe(PoseStamped, topic, self._on_pose, COMMANDS_QOS)
        node.serve(SetBool, f'{servo}/pause_servo', self._on_pause)
        self._said, self._said_s = 0, -math.inf
        self._status: Any = None
        self._statuses: Publisher | None = None
        moveit = moveit_msgs()
        if moveit is None:
            self._mock.switch_command_type(COMMAND_TYPES[kind])
            return
        self._status = moveit['msg'].ServoStatus
        self._statuses = node.publisher(self._status, f'{servo}/status', RELIABLE_QOS)
        switch = moveit['srv'].ServoCommandType
        node.serve(switch, f'{servo}/switch_command_type', self._on_type)

    def step(self, now_s: float, dt: float) -> np.ndarray:
        """Return joint positions, and say the status: now and then, and a new one at once."""
        joints = self._mock.step(now_s, dt)
        due = self._mock.status != self._said or abs(now_s - self._said_s) >= STATUS_PERIOD_S
        if due and self._statuses is not None:
            self._said, self._said_s = self._mock.status, now_s
            self._statuses.publish(self._status(code=self._said))
        return joints

    def relocate(self, joints: np.ndarray) -> None:
        """Start again at rest; the command type stays."""
        self._mock.relocate(joints)

    def _on_type(self, request: Any, response: Any) -> Any:
        response.success = self._mock.switch_command_type(request.command_type)
        return response

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._mock.paused = request.data
        response.success = True
        return response

    def _on_twist(self, message: TwistStamped) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        self._mock.accept_twist(
            np.array([linear.x, linear.y, linear.z]),
            np.array([angular.x, angular.y, angular.z]),
            seconds(message.header.stamp),
            message.header.frame_id,
        )

    def _on_pose(self, message: PoseStamped) -> None:
        stamp_s = seconds(message.header.stamp)
        self._mock.accept_pose(message_to_pose(message), stamp_s, message.header.frame_id)


class CartesianArm(MockArm):
    """A compliant controller of the tip's pose."""

    def __init__(self, node: ManagedNode, arm: Arm, joints: np.ndarray) -> None:
        """Hear poses."""
        self._mock = CartesianPoseMock(arm, joints, frame=arm.robot.base_frame)
        self.drops = self._mock.drops
        topic = arm.robot.controller.topic_of('pose')
        node.subscribe(PoseStamped, topic, self._on_pose, COMMANDS_QOS)

    def step(self, now_s: float, dt: float) -> np.ndarray:
        """Return joint positions."""
        return self._mock.step(dt)

    def relocate(self, joints: np.ndarray) -> None:
        """Start again at rest."""
        self._mock.relocate(joints)

    def _on_pose(self, message: PoseStamped) -> None:
        self._mock.accept_pose(message_to_pose(message), message.header.frame_id)


class TrajectoryArm(MockArm):
    """joint_trajectory_controller."""

    def __init__(self, node: ManagedNode, arm: Arm, joints: np.ndarray) -> None:
        """Hear trajectories."""
        controller = arm.robot.controller
        self._node = node
        self._mock = JointTrajectoryMock(arm.names, joints, upsampling=controller.positions_only)
        self.drops = self._mock.drops
        topic = controller.topic_of('trajectory')
        node.subscribe(JointTrajectory, topic, self._on_trajectory, COMMANDS_QOS)

    def step(self, now_s: float, dt: float) -> np.ndarray:
        """Return joint positions."""
        return self._mock.sample(now_s).positions

    def relocate(self, joints: np.ndarray) -> None:
        """Start again at rest."""
        self._mock.relocate(joints)

    def _on_trajectory(self, message: JointTrajectory) -> None:
        now_s = self._node.get_clock().now().nanoseconds * 1e-9
        self._mock.accept(message_to_trajectory(message), now_s)


class ForwardArm(MockArm):
    """A forward controller of positions or velocities."""

    def __init__(self, node: ManagedNode, arm: Arm, kind: str, joints: np.ndarray) -> None:
        """Hear numbers."""
        made = ForwardPositionMock if kind == 'position' else ForwardVelocityMock
        self._mock = made(joints)
        self.drops = self._mock.drops
        topic = arm.robot.controller.topic_of(kind)
        node.subscribe(Float64MultiArray, topic, self._on_values, COMMANDS_QOS)

    def step(self, now_s: float, dt: float) -> np.ndarray:
        """Return joint positions."""
        return self._mock.step(dt)

    def relocate(self, joints: np.ndarray) -> None:
        """Start again at rest."""
        self._mock.relocate(joints)

    def _on_values(self, message: Float64MultiArray) -> None:
        self._mock.accept(message.data)


def make_mock_arm(node: ManagedNode, arm: Arm, kind: str, joints: np.ndarray) -> MockArm:
    """Return the mock of what a description says that it commands.

    Args:
        node: Which creates and undoes the interfaces.
        arm: With its description.
        kind: Of controller.
        joints: Where the arm is, float[n] [rad].

    Raises:
        ConfigError: There is no controller of this kind, or its interfaces are not installed.
    """
    topic = arm.robot.controller.topic_of(kind)
    if kind in ('twist', 'pose') and servo_node(topic):
        return ServoArm(node, arm, kind, joints)
    if kind == 'twist':
        raise ConfigError(
            'controller.topic',
            expected="a topic of Servo's node, such as servo_node/delta_twist_cmds",
            got=repr(topic),
            remedy='The simulated arm takes this twist itself: no mock is needed.',
        )
    if kind == 'pose':
        return CartesianArm(node, arm, joints)
    if kind == 'trajectory':
        return TrajectoryArm(node, arm, joints)
    return ForwardArm(node, arm, kind, joints)


def message_to_pose(message: PoseStamped) -> np.ndarray:
    """Return a pose as float64[4, 4]; not finite where its quaternion is none."""
    position, turn = message.pose.position, message.pose.orientation
    w, x, y, z = turn.w, turn.x, turn.y, turn.z
    length = np.sqrt(w * w + x * x + y * y + z * z)
    if not abs(length - 1) < 1e-3:
        return np.full((4, 4), np.nan)
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = position.x, position.y, position.z
    return pose
