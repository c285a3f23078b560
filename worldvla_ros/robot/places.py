"""Where a path is, where a chunk leads from there, and what is needed of an arm for both.

Must not know time, or limits of motion. Positions [m], angles [rad]; poses in the base frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.kinematics import Solution
from worldvla_ros.robot.line import Line
from worldvla_ros.robot.path import State
from worldvla_ros.robot.tip import pose_at

LEAD_S = 0.15
"""How far the place to which actions lead may be ahead of the commanded one, at full speed [s]."""
NEAR_RAD = 0.01
"""A measured arm this near to where it was commanded is there."""
NEAR_M = 0.002
"""The same for the tip."""
CATCH_UP = 1.15
"""How much faster than its line a path may be, to make good for what it lags."""
SLOWEST = 0.02
"""What a path may do at least where its line stands, as a share of the limit of speed."""
ROOM = 1.03
"""How much more than a moving start needs of a limit it gets, relatively."""


class MotionArm(Protocol):
    """What is needed of an arm; see `kinematics.Arm`."""

    robot: RobotConfig
    minimum: np.ndarray
    maximum: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    jerk: np.ndarray

    def pose(self, joints: np.ndarray) -> np.ndarray:
        """Return the pose of the tip."""

    def jacobian(self, joints: np.ndarray) -> np.ndarray:
        """Return how the tip moves with each joint, linear above angular."""

    def solve(self, start: np.ndarray, target: np.ndarray) -> Solution:
        """Return joints that bring the tip to a pose."""

    def collisions(self, joints: np.ndarray) -> Sequence[tuple[str, str]]:
        """Return pairs of links that touch."""


class Pace(NamedTuple):
    """How fast something goes that has a limit.

    Attributes:
        factor: Times as fast as it may be; 1 is allowed.
        what: The tip, or the name of a joint.
        speed: At its fastest.
        limit: What is allowed.
        unit: Of both.
        field: Where the robot description says so.
    """

    factor: float
    what: str
    speed: float
    limit: float
    unit: str
    field: str


def pace(what: str, speed: float, limit: float, unit: str, field: str) -> Pace:
    """Return how fast something goes beside its limit."""
    return Pace(speed / limit, what, speed, limit, unit, field)


@dataclass(frozen=True)
class Place:
    """Where a path is, in its own coordinates; `anchor` as in `tip`, None for joints."""

    state: State
    anchor: np.ndarray | None = None


@dataclass(frozen=True)
class Way:
    """Where a chunk leads from a place.

    Attributes:
        reference: What its actions lead to, in the coordinates in which they add up.
        line: The same in the coordinates of the path.
        anchor: Of the reference, where it is of the tip.
        clipped: Whether the workspace ended before the actions did.
    """

    reference: Line
    line: Line
    anchor: np.ndarray | None
    clipped: bool = False

    def leads(self, progress: float) -> np.ndarray:
        """Return the pose float[4, 4], or joints float[n], to which actions lead."""
        row = self.reference.at(progress)
        return row if self.anchor is None else pose_at(row, self.anchor)
