"""Trajectory messages as the simulated controllers take them, and setpoints as the arm does."""

from array import array

import numpy as np
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from worldvla_ros.nodes.runtime import seconds
from worldvla_ros.sim.controllers.parts import Point, Trajectory


def message_to_trajectory(message: JointTrajectory) -> Trajectory:
    """Return a trajectory as plain values, whatever is in it."""
    points = [
        Point(
            time_s=point.time_from_start.sec + point.time_from_start.nanosec * 1e-9,
            positions=np.array(point.positions, float),
            velocities=np.array(point.velocities, float),
            accelerations=np.array(point.accelerations, float),
        )
        for point in message.points
    ]
    return Trajectory(tuple(message.joint_names), tuple(points), seconds(message.header.stamp))


def setpoints_message(names: tuple[str, ...], targets: list[np.ndarray]) -> JointTrajectory:
    """Return joint targets that follow each other as a message for `joint_setpoints`."""
    points = [JointTrajectoryPoint(positions=array('d', target)) for target in targets]
    return JointTrajectory(joint_names=list(names), points=points)
