"""Poses of the tip: for MoveIt Servo's pose tracking, CRISP and other Cartesian controllers.

A target that stops coming is one that Servo forgets after 0.1 s, so the last one is repeated until
the arm has had time to arrive. To a compliant controller a jump of the target is a force: the path
makes none.
"""

from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, Quaternion
import numpy as np

from worldvla_ros.nodes.bridges.bridge import Bridge
from worldvla_ros.nodes.bridges.problem import Problem
from worldvla_ros.nodes.bridges.servo import ServoLink, servo_node
from worldvla_ros.nodes.runtime import ManagedNode, seconds
from worldvla_ros.robot.commands import PoseCommand, TrajectoryCommand
from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.kinematics import rotation_vector

REPEATED_S = 1.0
"""How long the last target is repeated [s]."""


class PoseBridge(Bridge):
    """Publishes where the tip should be, in the base frame."""

    takes = PoseCommand

    def __init__(self, node: ManagedNode, robot: RobotConfig) -> None:
        """Create the publisher, and the link to Servo."""
        super().__init__(node, robot, PoseStamped, 'pose')
        self._servo = ServoLink(node, servo_node(self.topic), 'pose')
        self._last: PoseStamped | None = None
        self._until_s = 0.0

    def vouch(self) -> None:
        """Take note that Servo was told what comes."""
        self._servo.vouch()

    def enable(self) -> None:
        """Have Servo listen to poses."""
        self._servo.enable()

    def problem(self) -> Problem | None:
        """Return why Servo would not take a pose."""
        listens = super().problem()  # looked at in every period: finding a listener takes time
        return self._servo.problem() or listens

    def send(self, command: PoseCommand, stamp: Time) -> None:  # type: ignore[override]  # `takes`
        """Send a pose."""
        self._last = pose_message(command, stamp, self.robot.base_frame)
        self._until_s = seconds(stamp) + REPEATED_S
        self.publisher.publish(self._last)

    def rest(self, stamp: Time) -> None:
        """Repeat the last pose for a while."""
        if self._last is not None and seconds(stamp) <= self._until_s:
            self._last.header.stamp = stamp
            self.publisher.publish(self._last)
        else:
            self._last = None

    def halt(self, stamp: Time, brake: TrajectoryCommand | None = None) -> None:
        """Leave the arm at its last target: one that is ever farther away would not stop it."""
        self.rest(stamp)
        self._last = None


def pose_message(command: PoseCommand, stamp: Time, frame: str) -> PoseStamped:
    """Return a pose of the tip as a message."""
    message = PoseStamped()
    message.header.stamp, message.header.frame_id = stamp, frame
    position = message.pose.position
    position.x, position.y, position.z = (float(v) for v in command.pose[:3, 3])
    message.pose.orientation = quaternion_message(command.pose[:3, :3])
    return message


def quaternion_message(rotation: np.ndarray) -> Quaternion:
    """Return a rotation float[3, 3] as a message, its w not negative."""
    vector = rotation_vector(rotation)
    half = float(np.linalg.norm(vector)) / 2
    x, y, z = (float(v) for v in 0.5 * np.sinc(half / np.pi) * vector)
    return Quaternion(w=float(np.cos(half)), x=x, y=y, z=z)
