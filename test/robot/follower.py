"""An arm that does what commands say, as a perfect controller would make it."""

import numpy as np

from worldvla_ros.robot.commands import (
    PoseCommand,
    PositionCommand,
    TrajectoryCommand,
    TwistCommand,
    VelocityCommand,
)


class Follower:
    """Joint positions that follow commands; `advance` lets time pass."""

    def __init__(self, arm, joints):
        self.arm, self.joints = arm, np.array(joints, float)
        self._speed = np.zeros(len(self.joints))
        self._twist = None
        self._trajectory = None

    def take(self, command):
        self._twist, self._speed = None, np.zeros(len(self.joints))
        if isinstance(command, TwistCommand):
            self._twist = np.concatenate([command.linear, command.angular])
        elif isinstance(command, PoseCommand):
            self.joints = self.arm.solve(self.joints, command.pose).joints
        elif isinstance(command, PositionCommand):
            self.joints = command.positions.copy()
        elif isinstance(command, VelocityCommand):
            self._speed = command.velocities.copy()
        elif isinstance(command, TrajectoryCommand):
            self._trajectory = (
                np.append(command.start_s, command.start_s + command.times_s),
                np.vstack([self.joints, command.positions]),
            )

    def stand(self):
        """A speed that is not repeated ends."""
        self._twist, self._speed = None, np.zeros(len(self.joints))

    def advance(self, now_s, period_s):
        if self._twist is not None:
            step = np.linalg.pinv(self.arm.jacobian(self.joints)) @ self._twist
            self.joints = self.joints + step * period_s
        self.joints = self.joints + self._speed * period_s
        if self._trajectory is not None:
            times, rows = self._trajectory
            self.joints = np.array([np.interp(now_s, times, row) for row in rows.T])
