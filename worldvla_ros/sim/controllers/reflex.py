"""The reflex of Franka's arms: a position that breaks a limit stops the arm until it is reset.

The arm takes joint positions once per millisecond and watches their velocity, acceleration and
jerk. Limits: Franka Control Interface documentation, "Robot and interface specifications", "Limits
for Panda" and "Limits for Franka Research 3". The FR3's velocity limits fall with position; these
are the largest.
"""

from dataclasses import dataclass

import numpy as np

from worldvla_ros.sim.controllers.parts import PERIOD_S


@dataclass(frozen=True)
class ReflexLimits:
    """Of seven joints: [rad/s], [rad/s^2], [rad/s^3]."""

    velocity: tuple[float, ...]
    acceleration: tuple[float, ...]
    jerk: tuple[float, ...]


PANDA = ReflexLimits(
    velocity=(2.1750, 2.1750, 2.1750, 2.1750, 2.6100, 2.6100, 2.6100),
    acceleration=(15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0),
    jerk=(7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0),
)
FR3 = ReflexLimits(
    velocity=(2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26),
    acceleration=(10.0,) * 7,
    jerk=(5000.0,) * 7,
)


class Reflex:
    """Passes joint positions on, one per millisecond, until one breaks a limit."""

    def __init__(self, limits: ReflexLimits, joints: np.ndarray, *, stops: bool = True) -> None:
        """Start at rest.

        Args:
            limits: Of the arm.
            joints: Where it is, float[7] [rad].
            stops: Whether a reflex stops the arm; else it is only counted.
        """
        self._stops = stops
        self._broken = False
        self.trips = 0
        self._limits = [
            ('velocity', np.array(limits.velocity)),
            ('acceleration', np.array(limits.acceleration)),
            ('jerk', np.array(limits.jerk)),
        ]
        self.largest = {name: np.zeros(7) for name, _ in self._limits}
        self.reset(joints)

    def reset(self, joints: np.ndarray) -> None:
        """Recover: start again at rest at float[7] [rad]."""
        self._last = np.array(joints, float)
        self._rates = [np.zeros(7), np.zeros(7)]
        self.tripped = ''

    def step(self, joints: np.ndarray) -> np.ndarray:
        """Return where the arm goes: there, or nowhere after a reflex."""
        if self.tripped and self._stops:
            return self._last.copy()
        velocity = (joints - self._last) / PERIOD_S
        acceleration = (velocity - self._rates[0]) / PERIOD_S
        jerk = (acceleration - self._rates[1]) / PERIOD_S
        broken = self._broken_limit((velocity, acceleration, jerk))
        self.trips += bool(broken and not self._broken)
        self._broken = bool(broken)
        self.tripped = broken or self.tripped
        if not (broken and self._stops):
            self._last, self._rates = np.array(joints, float), [velocity, acceleration]
        return self._last.copy()

    def _broken_limit(self, rates: tuple[np.ndarray, ...]) -> str:
        """Return which limit is broken and by what, or ''."""
        for (name, limit), found in zip(self._limits, rates, strict=True):
            size = np.abs(found)
            self.largest[name] = np.maximum(self.largest[name], size)
            if (size > limit).any():
                worst = int((size / limit).argmax())
                return f'joint {worst + 1}: {name} {size[worst]:.4g}, limit {limit[worst]:.4g}'
        return ''
