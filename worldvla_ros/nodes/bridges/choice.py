"""Which bridge and which gripper a robot description asks for."""

from collections.abc import Callable

from worldvla_ros.errors import ConfigError
from worldvla_ros.nodes.bridges.bridge import Bridge
from worldvla_ros.nodes.bridges.forward import PositionBridge, VelocityBridge
from worldvla_ros.nodes.bridges.franka_gripper import FrankaGripper
from worldvla_ros.nodes.bridges.gripper import Gripper, WidthGripper
from worldvla_ros.nodes.bridges.gripper_command import GripperCommandGripper
from worldvla_ros.nodes.bridges.parallel_gripper import ParallelGripper
from worldvla_ros.nodes.bridges.pose import PoseBridge
from worldvla_ros.nodes.bridges.trajectory import TrajectoryBridge
from worldvla_ros.nodes.bridges.twist import TwistBridge
from worldvla_ros.nodes.runtime import ManagedNode
from worldvla_ros.robot.description import RobotConfig

BRIDGES: dict[str, Callable[[ManagedNode, RobotConfig], Bridge]] = {
    'twist': TwistBridge,
    'pose': PoseBridge,
    'trajectory': TrajectoryBridge,
    'position': PositionBridge,
    'velocity': VelocityBridge,
}
GRIPPERS: dict[str, type[Gripper]] = {
    'width': WidthGripper,
    'gripper_command': GripperCommandGripper,
    'parallel_gripper': ParallelGripper,
    'franka': FrankaGripper,
    'none': Gripper,
}


def make_bridge(node: ManagedNode, robot: RobotConfig, output: str = '') -> Bridge:
    """Return the bridge to a robot's controller, or to another kind.

    Args:
        node: Which creates and undoes the interfaces.
        robot: Its `controller` says what it hears.
        output: Kind to use instead of the description's; '' uses that.

    Raises:
        ConfigError: The kind is unknown.
    """
    kind = output or robot.controller.kind
    if kind not in BRIDGES:
        raise ConfigError('output', expected=f'one of {", ".join(BRIDGES)}', got=repr(kind))
    return BRIDGES[kind](node, robot)


def make_gripper(node: ManagedNode, robot: RobotConfig) -> Gripper:
    """Return what commands a robot's gripper.

    Raises:
        ConfigError: It needs a package that is not installed.
    """
    return GRIPPERS[robot.gripper.output.kind](node, robot)
