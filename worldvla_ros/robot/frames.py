"""Coordinate frames that others publish, and whether they agree with the robot description.

A tree of transforms, as TF has it: each frame has one parent. Pure: numpy, times [s] of the stamps
as arguments. Must not know ROS.
"""

from collections.abc import Iterator
from dataclasses import dataclass
import math

import numpy as np

from worldvla_ros.robot.kinematics import rotation_vector

MAX_DISTANCE_M = 0.01
MAX_ANGLE_RAD = 0.05
"""How far TF may be from the description's kinematics: calibration, and what moved meanwhile."""
MAX_SKEW_S = 0.05
"""Joints and transforms of times that are further apart are not compared."""
COMPARISONS = 5
"""A verdict needs this many; the nearest counts, because both may move."""


def matrix(translation: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """Return a transform float64[4, 4] of float[3] [m] and float[4], w last.

    Raises:
        ValueError: It is not finite, or the quaternion is zero.
    """
    x, y, z, w = np.asarray(quaternion, np.float64)
    length = math.sqrt(x * x + y * y + z * z + w * w)
    if not math.isfinite(length) or length < 1e-6 or not np.isfinite(translation).all():
        raise ValueError('a transform is not finite, or its rotation is zero')
    x, y, z, w = x / length, y / length, z / length, w / length
    made = np.eye(4)
    made[:3, 3] = translation
    made[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return made


@dataclass(frozen=True)
class Transform:
    """From a frame to its parent: float64[4, 4], and its time [s], infinite where it is static."""

    parent: str
    pose: np.ndarray
    stamp_s: float


class FrameTree:
    """The newest transform of each frame."""

    def __init__(self) -> None:
        """Know no frame."""
        self._transforms: dict[str, Transform] = {}

    def put(self, child: str, transform: Transform) -> None:
        """Take a transform; names with the leading slash of old days are the same."""
        parent = transform.parent.lstrip('/')
        self._transforms[child.lstrip('/')] = Transform(parent, transform.pose, transform.stamp_s)

    def knows(self, frame: str) -> bool:
        """Whether a frame has a parent, or is one."""
        name = frame.lstrip('/')
        return name in self._transforms or any(
            t.parent == name for t in list(self._transforms.values())
        )

    def pose(self, base: str, frame: str) -> Transform | None:
        """Return the pose of a frame in a base, with its oldest time; None where none leads there.

        Both may stand anywhere in one tree.
        """
        bases = {name: (pose, stamp_s) for name, pose, stamp_s in self._upwards(base)}
        for name, pose, stamp_s in self._upwards(frame):
            if name in bases:
                other, other_s = bases[name]
                return Transform(base, np.linalg.inv(other) @ pose, min(stamp_s, other_s))
        return None

    def _upwards(self, frame: str) -> Iterator[tuple[str, np.ndarray, float]]:
        """Yield each ancestor of a frame, the frame's pose in it, and the oldest time so far."""
        name, pose, stamp_s = frame.lstrip('/'), np.eye(4), math.inf
        passed: set[str] = set()
        while name not in passed:  # a circle would have no end
            passed.add(name)
            yield name, pose, stamp_s
            step = self._transforms.get(name)
            if step is None:
                return
            name, pose, stamp_s = step.parent, step.pose @ pose, min(stamp_s, step.stamp_s)


class TipCheck:
    """Compares the tip in TF with the description's kinematics, until there is a verdict.

    Attributes:
        verdict: What was found, or why there is nothing yet.
        agrees: None without a verdict.
    """

    def __init__(self, base: str, tip: str) -> None:
        """Compare the pose of `tip` in `base`."""
        self._base, self._tip = base, tip
        self._count = 0
        self._nearest = (math.inf, math.inf)
        self.agrees: bool | None = None
        self.verdict = f'no transform from {base} to {tip}'

    def compare(self, tree: FrameTree, pose: np.ndarray, stamp_s: float) -> None:
        """Compare TF with a pose float[4, 4] of the same time."""
        found = tree.pose(self._base, self._tip)
        if self.agrees is not None or found is None:
            return
        if math.isfinite(found.stamp_s) and abs(found.stamp_s - stamp_s) > MAX_SKEW_S:
            self.verdict = (
                f'transforms and joint states are {abs(found.stamp_s - stamp_s):.2f} s apart'
            )
            return
        self._nearest = min(self._nearest, _difference(found.pose, pose))
        self._count += 1
        if self._count >= COMPARISONS:
            self._judge()

    def _judge(self) -> None:
        distance_m, angle_rad = self._nearest
        self.agrees = distance_m <= MAX_DISTANCE_M and angle_rad <= MAX_ANGLE_RAD
        self.verdict = 'agrees'
        if not self.agrees:
            self.verdict = (
                f'{self._tip} is {1000 * distance_m:.0f} mm and {angle_rad:.2f} rad from where '
                'the kinematics of the robot description have it'
            )


def _difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return the distance [m] and the angle [rad] between two poses."""
    turn = rotation_vector(one[:3, :3] @ other[:3, :3].T)
    return float(np.linalg.norm(one[:3, 3] - other[:3, 3])), float(np.linalg.norm(turn))
