"""A path of the tip: what Cartesian actions mean for it, and limits for its coordinates.

Knows the arm's pose and the description's limits of the tip. Must not know time, or what is being
played. Positions [m], angles [rad]; poses in the base frame.
"""

from collections.abc import Sequence

import numpy as np

from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.kinematics import rotation_matrix, rotation_vector
from worldvla_ros.robot.line import Line, Source, blended, borders, lay_tip
from worldvla_ros.robot.path import Path
from worldvla_ros.robot.places import (
    CATCH_UP,
    LEAD_S,
    NEAR_M,
    NEAR_RAD,
    ROOM,
    SLOWEST,
    MotionArm,
    Pace,
    Place,
    Way,
    pace,
)
from worldvla_ros.robot.planner import MotionLimits
from worldvla_ros.robot.reasons import Reason
from worldvla_ros.robot.tip import TipState, resting, tip_state

MARGIN_M = 0.003
"""How far inside the workspace the tip is led, as a path rounds corners [m]."""
EVEN = 0.1
"""The part of a limit of the tip's speed that is shared evenly between x, y and z, at least."""
EDGE = 1e-3
"""What is left of a limit that a start needs wholly, as a share."""
SCANT_ROOM = 1.0105
"""What a moving start gets at least where there is little, relatively: a plan uses up to 0.99 of a
limit (`planner.NEARLY`), so that boxes of one plan after the other need not grow."""
STEP_S = 0.05
"""Accelerations and jerks are shared as if a path changed its speed in about this time [s]."""


class TipSpace:
    """Six coordinates of the tip."""

    def __init__(self, arm: MotionArm) -> None:
        """Keep the arm and the box that its tip is led in."""
        self._arm, self._limits = arm, arm.robot.limits
        low, high = (
            np.array(corner)
            for corner in (self._limits.workspace_minimum, self._limits.workspace_maximum)
        )
        self.box = low, high
        margin = np.minimum(MARGIN_M, (high - low) / 4)
        self.inner = low + margin, high - margin

    def begin(self, joints: np.ndarray, commanded: Place | None) -> Place:
        """Return where a path begins at rest: as commanded if the arm is there, else measured."""
        pose = self._arm.pose(joints)
        if commanded is not None:
            ours = self.tip(commanded).pose
            turned = rotation_vector(pose[:3, :3] @ ours[:3, :3].T)
            if (
                np.linalg.norm(pose[:3, 3] - ours[:3, 3]) <= NEAR_M
                and np.linalg.norm(turned) <= NEAR_RAD
            ):
                pose = ours
        return Place(resting(pose).coordinates(), pose[:3, :3])

    def anew(self, place: Place) -> Place:
        """Return the same place anchored where it is."""
        tip = self.tip(place)
        return Place(tip.coordinates(), tip.pose[:3, :3])

    def tip(self, place: Place) -> TipState:
        """Return the tip."""
        assert place.anchor is not None
        return tip_state(place.state, place.anchor)

    def way(
        self, sources: Sequence[Source], reference: np.ndarray, place: Place, blend: str
    ) -> Way:
        """Return where chunks lead, from the place their actions done lead to: float[4, 4]."""
        return tip_way(sources, reference, place.anchor, self.inner, blend)

    def led(self, reference: np.ndarray | None, place: Place) -> np.ndarray:
        """Return a reference no further ahead of the commanded tip than `LEAD_S`: float[4, 4]."""
        return led_tip(self.tip(place).pose, reference, self._arm.robot)

    def target(self, joints: np.ndarray, place: Place) -> np.ndarray:
        """Return the coordinates of a joint pose: float[n] → float64[6]."""
        pose = self._arm.pose(joints)
        assert place.anchor is not None
        return np.concatenate([pose[:3, 3], rotation_vector(pose[:3, :3] @ place.anchor.T)])

    def pace(self, way: Way, dt: float) -> tuple[Pace, Pace]:
        """Return how fast the actions of the tip are, twice."""
        asked = tip_pace(way.line, dt, self._arm.robot)
        return asked, asked

    def limits(self, wanted: np.ndarray, place: Place, share: float) -> MotionLimits:
        """Return limits per coordinate whose boxes lie within the limits of the tip.

        A limit on the length of a vector is shared out to x, y and z so that the box touches it:
        first what the moving start needs, the rest by the direction in which the line goes. An
        even share, limit / √3, would slow a straight line down by up to 1.7. Speed is not much
        more than the line asks for, so that making good for a lag is no jump.

        Args:
            wanted: Fastest rate of each coordinate on the line, float[6] [1/s].
            place: Where the path begins.
            share: Not used here: the boxes hold by themselves.
        """
        own, state = self._limits, place.state
        spaces = (
            (slice(0, 3), own.linear_speed, own.linear_acceleration, own.linear_jerk),
            (slice(3, 6), own.angular_speed, own.angular_acceleration, own.angular_jerk),
        )
        boxes = []
        for part, speed, gain, jerk in spaces:
            towards, v, a = wanted[part], state.velocities[part], state.accelerations[part]
            jerks = _shared(jerk, towards + (np.abs(v) + np.abs(a) * STEP_S), np.zeros(3))
            gains = _shared(gain, towards + np.abs(v), np.abs(a))
            reach = np.maximum(np.abs(v), np.abs(v + a * np.abs(a) / (2 * jerks)))
            boxes.append((_speeds(speed, towards, reach), gains, jerks))
        velocity, acceleration, jerk_ = (np.concatenate(both) for both in zip(*boxes, strict=True))
        here = state.positions[:3]
        low = np.concatenate([np.minimum(self.inner[0], here), np.full(3, -np.inf)])
        high = np.concatenate([np.maximum(self.inner[1], here), np.full(3, np.inf)])
        return MotionLimits(velocity, acceleration, jerk_, low, high)

    def check(self, path: Path, stamp_s: float) -> tuple[float, Reason | None]:
        """Return by what factor a path is too fast, and why it cannot be played: never here."""
        return 0.0, None  # its limits hold by themselves


def tip_way(
    sources: Sequence[Source],
    reference: np.ndarray,
    anchor: np.ndarray | None,
    box: tuple[np.ndarray, np.ndarray],
    blend: str,
) -> Way:
    """Return where Cartesian chunks lead from a pose; the arguments are those of `lay_tip`."""
    assert anchor is not None
    ends = borders(sources[-1].progress, sources[-1].chunk.horizon)
    moves = blended(sources, ends, blend, absolute=False)
    line, clipped = lay_tip(reference, moves, ends, low=box[0], high=box[1], anchor=anchor)
    return Way(line, line, anchor, clipped)


def led_tip(pose: np.ndarray, reference: np.ndarray | None, robot: RobotConfig) -> np.ndarray:
    """Return a pose on the way to the reference, at most `LEAD_S` at full speed ahead."""
    if reference is None:
        return pose
    ahead = reference[:3, 3] - pose[:3, 3]
    turn = rotation_vector(reference[:3, :3] @ pose[:3, :3].T)
    led: np.ndarray = np.array(pose)
    led[:3, 3] += _at_most(ahead, LEAD_S * robot.limits.linear_speed)
    led[:3, :3] = (
        rotation_matrix(_at_most(turn, LEAD_S * robot.limits.angular_speed)) @ led[:3, :3]
    )
    return led


def _at_most(vector: np.ndarray, length: float) -> np.ndarray:
    size = float(np.linalg.norm(vector))
    return vector if size <= length else vector * (length / size)


def tip_pace(line: Line, dt: float, robot: RobotConfig) -> Pace:
    """Return how fast a line of the tip's coordinates is, by the tighter of both limits."""
    rates, limits = line.rates() / dt, robot.limits
    linear, angular = (
        float(np.linalg.norm(part, axis=1).max(initial=0.0))
        for part in (rates[:, :3], rates[:, 3:])
    )
    return max(
        pace('the tip', linear, limits.linear_speed, 'm/s', 'limits.linear_speed'),
        pace('the tip', angular, limits.angular_speed, 'rad/s', 'limits.angular_speed'),
    )


def _speeds(limit: float, towards: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return speeds within a ball: not much more than a line asks for, or a start needs."""
    most = min(limit, CATCH_UP * float(np.linalg.norm(towards)) + SLOWEST * limit)
    box = np.maximum(_shared(most, towards, np.zeros(3)), ROOM * reach)
    return box if box @ box <= limit**2 else _shared(limit, towards, reach)


def _shared(limit: float, towards: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Return a box within a ball: float64[3].

    First what is taken, then what each coordinate must have at least, the rest by direction. A
    start that leaves the others too little for themselves gets no more room than it must have.
    """
    least = EVEN / 3 * limit**2
    for room in (ROOM, SCANT_ROOM):
        squares = _at_most(taken * room, limit) ** 2
        left = max(limit**2 - float(squares.sum()), (EDGE * limit) ** 2)
        lacking = np.maximum(0.0, least - squares)
        if lacking.sum() <= left:
            break
    size = float(np.linalg.norm(towards))
    shares = (towards / size) ** 2 if size > 0 else np.full(3, 1 / 3)
    lacks = float(lacking.sum())
    if lacks > left:
        return np.asarray(np.sqrt(squares + left * lacking / lacks))
    return np.asarray(np.sqrt(squares + lacking + (left - lacks) * shares))
