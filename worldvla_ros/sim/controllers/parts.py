"""What the mocks share: kinematics, messages as plain values, and a log of drops."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

PERIOD_S = 0.001
"""Arms of Franka take a position per millisecond; all mocks run at this rate."""


class Kinematics(Protocol):
    """Where the tip is; `robot.kinematics.Arm` is one."""

    def pose(self, q: np.ndarray) -> np.ndarray:
        """Return the pose of the tip: float[n] → float64[4, 4]."""

    def jacobian(self, q: np.ndarray) -> np.ndarray:
        """Return how the tip moves with each joint: float[n] → float64[6, n]."""


class Drops:
    """Counts dropped messages by reason; real controllers tell only their own log."""

    def __init__(self) -> None:
        """Start with none."""
        self.reasons: Counter[str] = Counter()
        self.newest = ''

    def add(self, reason: str) -> bool:
        """Count a drop; returns False, as `accept` does for it."""
        self.reasons[reason] += 1
        self.newest = reason
        return False

    @property
    def total(self) -> int:
        """How many messages were dropped."""
        return sum(self.reasons.values())


@dataclass(frozen=True)
class Point:
    """A point of a trajectory; what is not told is empty."""

    time_s: float
    positions: np.ndarray
    velocities: np.ndarray = field(default_factory=lambda: np.zeros(0))
    accelerations: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Trajectory:
    """A trajectory_msgs/JointTrajectory: stamp 0 starts on arrival."""

    names: tuple[str, ...]
    points: tuple[Point, ...]
    stamp_s: float = 0.0
