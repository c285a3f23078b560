"""The simplest arm: six joints that are the tip's position and a small rotation vector."""

import numpy as np

from worldvla_ros.robot.kinematics import rotation_matrix


class Gantry:
    """Kinematics that can be read off."""

    def pose(self, q):
        made = np.eye(4)
        made[:3, 3], made[:3, :3] = q[:3], rotation_matrix(q[3:])
        return made

    def jacobian(self, q):
        return np.eye(6)
