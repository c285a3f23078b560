"""Twists for MoveIt Servo and whatever else takes geometry_msgs/TwistStamped.

Servo stops by itself 0.1 s after the last stamp; a stop is a few zeros, then silence, which lets
others command.
"""

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TwistStamped
import numpy as np

from worldvla_ros.nodes.bridges.bridge import Bridge
from worldvla_ros.nodes.bridges.problem import Problem
from worldvla_ros.nodes.bridges.servo import ServoLink, servo_node
from worldvla_ros.nodes.runtime import ManagedNode
from worldvla_ros.robot.commands import TrajectoryCommand, TwistCommand, unitless
from worldvla_ros.robot.description import RobotConfig

ZEROS = 4
"""Zero twists that end a motion."""
STANDING = TwistCommand(np.zeros(3), np.zeros(3), 0.0)


class TwistBridge(Bridge):
    """Publishes twists, in m/s and rad/s or as shares of Servo's scales."""

    takes = TwistCommand

    def __init__(self, node: ManagedNode, robot: RobotConfig) -> None:
        """Create the publisher and the link to Servo."""
        super().__init__(node, robot, TwistStamped, 'twist')
        self._servo = ServoLink(node, servo_node(self.topic), 'twist')
        self._zeros = 0

    def vouch(self) -> None:
        """Take note that Servo was told what comes."""
        self._servo.vouch()

    def enable(self) -> None:
        """Have Servo listen to twists."""
        self._servo.enable()

    def problem(self) -> Problem | None:
        """Return why Servo would not take a twist."""
        listens = super().problem()  # looked at in every period: finding a listener takes time
        return self._servo.problem() or listens

    def send(self, command: TwistCommand, stamp: Time) -> None:  # type: ignore[override]  # `takes`
        """Send a twist."""
        self._publish(command, stamp)
        self._zeros = ZEROS

    def rest(self, stamp: Time) -> None:
        """Send a zero twist, a few times after a motion."""
        if self._zeros:
            self._zeros -= 1
            self._publish(STANDING, stamp)

    def halt(self, stamp: Time, brake: TrajectoryCommand | None = None) -> None:
        """Send all zeros at once, where the arm was told to move."""
        while self._zeros:
            self.rest(stamp)

    def _publish(self, command: TwistCommand, stamp: Time) -> None:
        controller = self.robot.controller
        if controller.units == 'unitless':
            command = unitless(command, controller.linear_scale, controller.angular_scale)
        self.publisher.publish(twist_message(command, stamp, self.robot.base_frame))


def twist_message(command: TwistCommand, stamp: Time, frame: str) -> TwistStamped:
    """Return a twist of the tip as MoveIt Servo takes it."""
    message = TwistStamped()
    message.header.stamp, message.header.frame_id = stamp, frame
    for part, values in (
        (message.twist.linear, command.linear),
        (message.twist.angular, command.angular),
    ):
        part.x, part.y, part.z = (float(value) for value in values)
    return message
