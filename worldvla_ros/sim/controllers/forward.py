"""ros2_control's forward controllers: numbers in the joints' order, passed on as they are.

No interpolation, no time-out: a gap leaves the last value, a step is a step
(forward_command_controller, position_controllers/JointGroupPositionController).
"""

from collections.abc import Sequence

import numpy as np

from worldvla_ros.sim.controllers.parts import Drops


class ForwardPositionMock:
    """Joint targets."""

    def __init__(self, joints: np.ndarray) -> None:
        """Start at float[n] [rad]."""
        self._target = np.array(joints, float)
        self.drops = Drops()

    def accept(self, data: Sequence[float]) -> bool:
        """Take one number per joint [rad], or drop the message."""
        values = _values(data, len(self._target), self.drops)
        if values is None:
            return False
        self._target = values
        return True

    def relocate(self, joints: np.ndarray) -> None:
        """Start again: the arm was put somewhere else, float[n] [rad]."""
        self._target = np.array(joints, float)

    def step(self, dt: float) -> np.ndarray:
        """Return the joint targets float64[n] [rad]."""
        return self._target.copy()


class ForwardVelocityMock:
    """Joint velocities, kept until others come."""

    def __init__(self, joints: np.ndarray) -> None:
        """Start at float[n] [rad], at rest."""
        self._joints = np.array(joints, float)
        self.velocities = np.zeros_like(self._joints)
        self.drops = Drops()

    def accept(self, data: Sequence[float]) -> bool:
        """Take one number per joint [rad/s], or drop the message."""
        values = _values(data, len(self._joints), self.drops)
        if values is None:
            return False
        self.velocities = values
        return True

    def relocate(self, joints: np.ndarray) -> None:
        """Start again at rest: the arm was put somewhere else, float[n] [rad]."""
        self._joints = np.array(joints, float)
        self.velocities = np.zeros_like(self._joints)

    def step(self, dt: float) -> np.ndarray:
        """Return where the joints are after a time [s]: float64[n] [rad]."""
        self._joints = self._joints + self.velocities * dt
        return self._joints.copy()


def _values(data: Sequence[float], size: int, drops: Drops) -> np.ndarray | None:
    values = np.array(data, float)
    if values.shape != (size,):
        drops.add('wrong number of values')
        return None
    if not np.isfinite(values).all():  # the real one passes them on to the arm
        drops.add('not finite')
        return None
    return values
