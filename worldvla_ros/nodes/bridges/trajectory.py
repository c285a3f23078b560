"""Whole trajectories for ros2_control's joint_trajectory_controller.

A message replaces what the controller plays; it joins its present state to the first point. So the
rest of the path goes out whenever the path has changed, and at its end, which is a stop, nothing
more is needed. Single points, 50 ms ahead, would start and stop the arm 20 times a second.
"""

from array import array

from builtin_interfaces.msg import Duration, Time
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from worldvla_ros.nodes.bridges.bridge import Bridge
from worldvla_ros.nodes.convert import time_message
from worldvla_ros.nodes.runtime import ManagedNode
from worldvla_ros.robot.commands import TrajectoryCommand
from worldvla_ros.robot.description import RobotConfig


class TrajectoryBridge(Bridge):
    """Publishes the rest of a path, stamped with its start."""

    takes = TrajectoryCommand

    def __init__(self, node: ManagedNode, robot: RobotConfig) -> None:
        """Create the publisher."""
        super().__init__(node, robot, JointTrajectory, 'trajectory')

    def send(self, command: TrajectoryCommand, stamp: Time) -> None:  # type: ignore[override]  # `takes`
        """Send the rest of a path; its own start is the stamp."""
        self.publisher.publish(trajectory_message(command, self.robot.joints.names))

    def halt(self, stamp: Time, brake: TrajectoryCommand | None = None) -> None:
        """Send the planned stop; without one the arm ends where its last trajectory does."""
        if brake is not None:
            self.send(brake, stamp)


def trajectory_message(command: TrajectoryCommand, names: tuple[str, ...]) -> JointTrajectory:
    """Return a trajectory as the controller takes it: all joints, all points timed."""
    message = JointTrajectory(joint_names=list(names))
    message.header.stamp = time_message(command.start_s)
    for i, time_s in enumerate(command.times_s):
        seconds, nanoseconds = divmod(round(float(time_s) * 1e9), 10**9)
        point = JointTrajectoryPoint(
            positions=array('d', command.positions[i]),
            time_from_start=Duration(sec=seconds, nanosec=nanoseconds),
        )
        if command.velocities is not None and command.accelerations is not None:
            point.velocities = array('d', command.velocities[i])
            point.accelerations = array('d', command.accelerations[i])
        message.points.append(point)
    return message
