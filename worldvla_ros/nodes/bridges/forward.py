"""Joint positions or velocities for ros2_control's forward controllers, in the joints' order.

These controllers neither interpolate nor time out: a gap leaves the last value. Use them at 100 Hz
or more.
"""

from array import array

from builtin_interfaces.msg import Time
from std_msgs.msg import Float64MultiArray

from worldvla_ros.nodes.bridges.bridge import Bridge
from worldvla_ros.nodes.runtime import ManagedNode, seconds
from worldvla_ros.robot.commands import PositionCommand, TrajectoryCommand, VelocityCommand
from worldvla_ros.robot.description import RobotConfig

REPEATED_S = 1.0
"""How long a stop is repeated [s], in case that a message is lost."""


class ForwardBridge(Bridge):
    """Publishes numbers, and repeats those of a stop for a while."""

    def __init__(self, node: ManagedNode, robot: RobotConfig, kind: str) -> None:
        """Create the publisher of 'position' or 'velocity' commands."""
        super().__init__(node, robot, Float64MultiArray, kind)
        self._stop: list[float] = []
        self._until_s = 0.0

    def rest(self, stamp: Time) -> None:
        """Repeat what stands still, a while after a motion."""
        if self._stop and seconds(stamp) <= self._until_s:
            self._publish(self._stop)
        else:
            self._stop = []

    def halt(self, stamp: Time, brake: TrajectoryCommand | None = None) -> None:
        """Send what stands still."""
        if self._stop:
            self._publish(self._stop)
        self._stop = []

    def _send(self, values: list[float], stop: list[float], stamp: Time) -> None:
        self._publish(values)
        self._stop, self._until_s = stop, seconds(stamp) + REPEATED_S

    def _publish(self, values: list[float]) -> None:
        self.publisher.publish(Float64MultiArray(data=array('d', values)))


class PositionBridge(ForwardBridge):
    """Publishes joint targets; the last one stands still."""

    takes = PositionCommand

    def __init__(self, node: ManagedNode, robot: RobotConfig) -> None:
        """Create the publisher."""
        super().__init__(node, robot, 'position')

    def send(self, command: PositionCommand, stamp: Time) -> None:  # type: ignore[override]  # `takes`
        """Send joint targets."""
        values = [float(value) for value in command.positions]
        self._send(values, values, stamp)


class VelocityBridge(ForwardBridge):
    """Publishes joint velocities; zeros stand still, and must arrive."""

    takes = VelocityCommand

    def __init__(self, node: ManagedNode, robot: RobotConfig) -> None:
        """Create the publisher."""
        super().__init__(node, robot, 'velocity')

    def send(self, command: VelocityCommand, stamp: Time) -> None:  # type: ignore[override]  # `takes`
        """Send joint velocities."""
        values = [float(value) for value in command.velocities]
        self._send(values, [0.0] * len(values), stamp)
