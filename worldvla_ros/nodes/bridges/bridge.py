"""What every bridge has, and how packages that may be missing are imported."""

from dataclasses import dataclass
import importlib
from types import ModuleType
from typing import ClassVar

from builtin_interfaces.msg import Time

from worldvla_ros.errors import ConfigError
from worldvla_ros.nodes.runtime import ManagedNode
from worldvla_ros.robot.commands import Command, TrajectoryCommand
from worldvla_ros.robot.description import RobotConfig


@dataclass(frozen=True)
class Problem:
    """Why nothing may be sent.

    Attributes:
        code: Stable name, e.g. servo_halted.
        text: One sentence for the operator.
        remedy: What to do.
        pending: Whether it may go away by itself.
    """

    code: str
    text: str
    remedy: str
    pending: bool = False


class Bridge:
    """Speaks to one controller; see the package's docstring. Defaults suit one without manners."""

    takes: ClassVar[type[Command]]

    def __init__(self, node: ManagedNode, robot: RobotConfig) -> None:
        """Create what is published and heard until the node cleans up."""
        self.node = node
        self.robot = robot

    def vouch(self) -> None:
        """Take note that somebody else has the controller listen, where this node cannot ask."""

    def enable(self) -> None:
        """Ask the controller to listen."""

    def problem(self) -> Problem | None:
        """Return why nothing may be sent, or None."""
        return None

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
