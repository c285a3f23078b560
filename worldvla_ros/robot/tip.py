"""The tip as six coordinates, so that a `Path` can be planned for it, and back again.

    coordinates   position [m], then the rotation vector r [rad] from an anchor orientation:
                  orientation = exp(r) · anchor
    velocity      angular = J(r) ṙ,  J the left Jacobian of the rotation group

A path is anchored at the orientation that is commanded at its start, where r = 0 and J = 1:
angular velocity and acceleration are ṙ and r̈ there, so that both carry over from path to path
exactly. J shortens and never stretches, |angular| ≤ |ṙ|: a limit on ṙ holds for the tip. Source:
J. Solà et al., A micro Lie theory for state estimation in robotics, 2018, equations 143 to 145.
Must not know robots or joints. Everything is in the axes of the base frame.
"""

from dataclasses import dataclass
import math

import numpy as np

from worldvla_ros.robot.kinematics import rotation_vector
from worldvla_ros.robot.path import State

SMALL = 3e-2
"""Below this angle [rad] series are more exact than quotients."""

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class TipState:
    """Pose of the tip in the base frame and how it moves, float64.

    Attributes:
        pose: [4, 4].
        linear: Velocity of the tip, [3] [m/s].
        angular: [3] [rad/s].
        linear_acceleration: [3] [m/s²].
        angular_acceleration: [3] [rad/s²].
    """

    pose: np.ndarray
    linear: np.ndarray
    angular: np.ndarray
    linear_acceleration: np.ndarray
    angular_acceleration: np.ndarray

    def coordinates(self) -> State:
        """Return the six coordinates, anchored at this very orientation."""
        return State(
            np.concatenate([self.pose[:3, 3], np.zeros(3)]),
            np.concatenate([self.linear, self.angular]),
            np.concatenate([self.linear_acceleration, self.angular_acceleration]),
        )


def resting(pose: np.ndarray) -> TipState:
    """Return the tip at rest at a pose float[4, 4]."""
    still = np.zeros(3)
    return TipState(np.array(pose, np.float64), still, still, still, still)


def coordinates(poses: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    """Return the coordinates of poses that follow one another: float[k, 4, 4] → float64[k, 6].

    Each rotation vector is the one nearest to the one before, the first to none at all, so that a
    tip which turns on past half a turn does not jump.

    Args:
        poses: In the order of time.
        anchor: Orientation at which the rotation vector is 0, float[3, 3].
    """
    rows, before = [], np.zeros(3)
    for pose in poses:
        before = _nearest(rotation_vector(pose[:3, :3] @ anchor.T), before)
        rows.append(np.concatenate([pose[:3, 3], before]))
    return np.array(rows, np.float64).reshape(-1, 6)


def _nearest(turn: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return which of a rotation vector and those a full turn more or less is nearest to one."""
    angle = float(np.linalg.norm(turn))
    if angle == 0.0:
        return turn
    turns = [turn + turn / angle * (2 * np.pi * times) for times in (-1, 0, 1)]
    return min(turns, key=lambda candidate: float(np.linalg.norm(candidate - before)))


def pose_at(positions: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    """Return the pose of coordinates: float[6] → float64[4, 4]."""
    x, y, z, *turn = positions.tolist()
    (a, b, c), (d, e, f), (g, h, i) = _rotation(*turn)
    place = np.array(((a, b, c, x), (d, e, f, y), (g, h, i, z), (0.0, 0.0, 0.0, 1.0)))
    place[:3, :3] = place[:3, :3] @ anchor
    return place


def _rotation(x: float, y: float, z: float) -> tuple[Vector, Vector, Vector]:
    """Return the rotation by a vector (Rodrigues); in floats, as this runs at each instant."""
    angle = math.sqrt(x * x + y * y + z * z)
    half = math.sin(angle / 2) / angle if angle > 0 else 0.5
    s, c = (math.sin(angle) / angle if angle > 0 else 1.0), 2 * half * half
    xy, xz, yz = c * x * y, c * x * z, c * y * z
    xx, yy, zz = c * x * x, c * y * y, c * z * z
    return (
        (1 - yy - zz, xy - s * z, xz + s * y),
        (xy + s * z, 1 - xx - zz, yz - s * x),
        (xz - s * y, yz + s * x, 1 - xx - yy),
    )


def tip_state(state: State, anchor: np.ndarray) -> TipState:
    """Return pose, twist and its rate of change: `state` of the six coordinates."""
    turn, rate, gain = (
        values[3:].tolist() for values in (state.positions, state.velocities, state.accelerations)
    )
    angular, angular_acceleration = _angular(tuple(turn), tuple(rate), tuple(gain))
    return TipState(
        pose_at(state.positions, anchor),
        state.velocities[:3],
        np.array(angular),
        state.accelerations[:3],
        np.array(angular_acceleration),
    )


def _angular(r: Vector, rate: Vector, gain: Vector) -> tuple[Vector, Vector]:
    """Return angular velocity and acceleration from r, ṙ and r̈.

    J = 1 + b [r]× + c [r]×², with b = (1 - cos θ) / θ² and c = (θ - sin θ) / θ³ of θ = |r|.
    """
    b, c, b_rate, c_rate = _factors(math.hypot(*r), _dot(r, rate))
    once, again = _cross(r, rate), _cross(r, gain)
    twice = _cross(r, once)
    angular = _sum((1.0, rate), (b, once), (c, twice))
    acceleration = _sum(
        (1.0, gain),
        (b, again),
        (c, _cross(r, again)),
        (b_rate, once),
        (c_rate, twice),
        (c, _cross(rate, once)),
    )
    return angular, acceleration


def _factors(angle: float, product: float) -> tuple[float, float, float, float]:
    """Return b, c and their rates of change; `product` is r · ṙ."""
    if angle < SMALL:
        square, fourth = angle**2, angle**4
        b, c = 1 / 2 - square / 24 + fourth / 720, 1 / 6 - square / 120 + fourth / 5040
        b_slope, c_slope = square / 180 - 1 / 12, square / 1260 - 1 / 60
        return b, c, b_slope * product, c_slope * product
    sine, cosine = math.sin(angle), math.cos(angle)
    turning = product / angle
    b_rate = (angle * sine - 2 * (1 - cosine)) / angle**3 * turning
    c_rate = (3 * sine - angle * cosine - 2 * angle) / angle**4 * turning
    return (1 - cosine) / angle**2, (angle - sine) / angle**3, b_rate, c_rate


def _dot(u: Vector, v: Vector) -> float:
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


def _cross(u: Vector, v: Vector) -> Vector:
    return (
        u[1] * v[2] - u[2] * v[1],
        u[2] * v[0] - u[0] * v[2],
        u[0] * v[1] - u[1] * v[0],
    )


def _sum(*terms: tuple[float, Vector]) -> Vector:
    x = y = z = 0.0
    for factor, (u, v, w) in terms:
        x, y, z = x + factor * u, y + factor * v, z + factor * w
    return x, y, z
