"""What every bridge has, and how packages that may be missing are imported."""

import importlib
from types import ModuleType
from typing import ClassVar

from builtin_interfaces.msg import Time
from rclpy.publisher import Publisher

from worldvla_ros.errors import ConfigError
from worldvla_ros.nodes.bridges.listeners import Listeners
from worldvla_ros.nodes.bridges.problem import Problem
from worldvla_ros.nodes.qos import RELIABLE_QOS
from worldvla_ros.nodes.runtime import ManagedNode
from worldvla_ros.robot.commands import Command, TrajectoryCommand
from worldvla_ros.robot.description import RobotConfig


class Bridge:
    """Speaks to one controller; see the package's docstring. Defaults suit one without manners."""

    takes: ClassVar[type[Command]]

    def __init__(self, node: ManagedNode, robot: RobotConfig, cls: type, kind: str) -> None:
        """Create the publisher of commands, until the node cleans up.

        Args:
            node: Whose it is.
            robot: Its `controller` names the topic.
            cls: Class of the messages.
            kind: Of the commands, see `commander.KINDS`.
        """
        self.node = node
        self.robot = robot
        self.topic = robot.controller.topic_of(kind)
        self.publisher: Publisher = node.publisher(cls, self.topic, RELIABLE_QOS)
        self._listeners = Listeners(self.publisher.get_subscription_count, self.topic)

    def vouch(self) -> None:
        """Take note that somebody else has the controller listen, where this node cannot ask."""

    def enable(self) -> None:
        """Ask the controller to listen."""

    def problem(self) -> Problem | None:
        """Return why nothing may be sent, or None."""
        return self._listeners.problem()

    def send(self, command: Command, stamp: Time) -> None:
        """Send a command of the kind that this bridge takes."""
        raise NotImplementedError

    def rest(self, stamp: Time) -> None:
        """Do what a period without a command asks for."""

    def halt(self, stamp: Time, brake: TrajectoryCommand | None = None) -> None:
        """Stop the arm at once, as if no period would follow."""


def interfaces(package: str, kind: str, purpose: str, instead: str = '') -> ModuleType:
    """Import the interfaces of a package that is not on PyPI.

    Args:
        package: Such as 'control_msgs'.
        kind: 'msg', 'srv' or 'action'.
        purpose: What needs it, for the error.
        instead: A remedy beside installing it, as a sentence.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module(f'{package}.{kind}')
    except ImportError as error:
        raise ConfigError(
            f'{purpose} needs the ROS package {package}, which is not installed',
            remedy=f'Install ros-$ROS_DISTRO-{package.replace("_", "-")} with apt, or build it '
            f'with colcon, and source its setup file.{" " * bool(instead)}{instead}',
        ) from error
