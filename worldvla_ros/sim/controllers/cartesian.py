"""A compliant Cartesian controller as CRISP's (crisp_controllers 8093548): a spring to the target.

The arm is pulled to the last `target_pose` by a spring and a damper, critically damped: it gets
there late and softly, a jump of the target is a force at once, and there is no time-out.
"""

import numpy as np

from worldvla_ros.robot.kinematics import rotation_vector
from worldvla_ros.sim.controllers.parts import Drops, Kinematics

STIFFNESS = 400.0
"""Translational stiffness [N/m]."""
RATE = 20.0
"""How fast the arm goes to its target [1/s]: it has arrived after about 5 / RATE seconds."""
DAMPING = 0.02
FORCE_LIMIT = 40.0
"""What a person should not feel [N]; more is counted."""


class CartesianPoseMock:
    """Follows a target of the tip."""

    def __init__(self, arm: Kinematics, joints: np.ndarray, *, frame: str = 'panda_link0') -> None:
        """Start at rest at float[n] [rad], which is the target too."""
        self._arm, self._frame = arm, frame
        self.relocate(joints)
        self.drops = Drops()
        self.largest_force = 0.0

    def relocate(self, joints: np.ndarray) -> None:
        """Start again at rest: the arm was put somewhere else, float[n] [rad]."""
        self._joints = np.array(joints, float)
        self._speeds = np.zeros_like(self._joints)
        self._target = self._arm.pose(self._joints)

    def accept_pose(self, pose: np.ndarray, frame: str) -> bool:
        """Take a target float[4, 4] in the base frame, or drop it."""
        if frame != self._frame:
            return self.drops.add('unknown frame')
        if not np.isfinite(pose).all():
            return self.drops.add('not finite')
        self._target = np.array(pose, float)
        return True

    def step(self, dt: float) -> np.ndarray:
        """Return where the joints are after a time [s]: float64[n] [rad]."""
        pose = self._arm.pose(self._joints)
        error = np.concatenate(
            [
                self._target[:3, 3] - pose[:3, 3],
                rotation_vector(self._target[:3, :3] @ pose[:3, :3].T),
            ]
        )
        force = STIFFNESS * float(np.linalg.norm(error[:3]))
        self.largest_force = max(self.largest_force, force)
        jacobian = self._arm.jacobian(self._joints)
        damped = jacobian @ jacobian.T + DAMPING**2 * np.eye(6)
        pull = RATE**2 * (jacobian.T @ np.linalg.solve(damped, error))
        self._speeds = self._speeds + (pull - 2 * RATE * self._speeds) * dt
        self._joints = self._joints + self._speeds * dt
        return self._joints.copy()
