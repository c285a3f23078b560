"""A path of the joints: what each kind of actions means for it, its limits, and the tip along it.

Knows the arm and the description's limits. Must not know time, or what is being played. Positions
[m], angles [rad]; poses in the base frame.
"""

from collections.abc import Sequence

import numpy as np

from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.line import Line, Source, blended, borders, lay_joints
from worldvla_ros.robot.path import Path, rest
from worldvla_ros.robot.places import (
    CATCH_UP,
    LEAD_S,
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
from worldvla_ros.robot.reasons import Reason, refusal
from worldvla_ros.robot.tip import TipState
from worldvla_ros.robot.tip_space import TipSpace, led_tip, tip_pace, tip_way

MISS_M, MISS_RAD = 0.002, 0.02
"""How far from its place inverse kinematics may end."""
SPEED_SHARE = 0.98
"""How much of the tip's speed limits a path of the joints uses at its knots."""


class JointSpace:
    """The joints."""

    def __init__(self, arm: MotionArm) -> None:
        """Keep the arm and the box that its tip is led in."""
        self._arm, self._tip = arm, TipSpace(arm)
        self._kind = arm.robot.action.kind

    def begin(self, joints: np.ndarray, commanded: Place | None) -> Place:
        """Return where a path begins at rest: as commanded if the arm is there, else measured."""
        if commanded is not None:
            ours = commanded.state.positions
            if np.abs(ours - joints).max() <= NEAR_RAD:
                return Place(rest(ours))
        return Place(rest(joints))

    def anew(self, place: Place) -> Place:
        """Return the same place."""
        return place

    def tip(self, place: Place) -> TipState:
        """Return the tip; its accelerations from how the Jacobian changes along the motion."""
        state, side_s = place.state, 1e-4
        matrix = self._arm.jacobian(state.positions)
        after = self._arm.jacobian(state.positions + side_s * state.velocities)
        speed = matrix @ state.velocities
        gain = matrix @ state.accelerations + (after @ state.velocities - speed) / side_s
        pose = self._arm.pose(state.positions)
        return TipState(pose, speed[:3], speed[3:], gain[:3], gain[3:])

    def way(
        self, sources: Sequence[Source], reference: np.ndarray, place: Place, blend: str
    ) -> Way:
        """Return where chunks lead, from the place their actions done lead to.

        A pose that the arm cannot reach ends the line before it.
        """
        if self._kind == 'cartesian_delta':
            anchor = self._arm.pose(place.state.positions)[:3, :3]
            way = tip_way(sources, reference, anchor, self._tip.inner, blend)
            return self._joints_of(way, place)
        ends = borders(sources[-1].progress, sources[-1].chunk.horizon)
        absolute = self._kind == 'joint_position'
        moves = blended(sources, ends, blend, absolute=absolute)
        line = lay_joints(
            reference,
            moves,
            ends,
            low=self._arm.minimum,
            high=self._arm.maximum,
            absolute=absolute,
        )
        return Way(line, line, None)

    def _joints_of(self, way: Way, place: Place) -> Way:
        rows: list[np.ndarray] = []
        joints = place.state.positions
        for border in way.reference.borders:
            found = self._arm.solve(joints, way.leads(border))
            if found.miss_m > MISS_M or found.miss_rad > MISS_RAD:
                break
            joints = found.joints
            rows.append(joints)
        if not rows:
            rows = [joints]
        reached = way.reference.until(len(rows) - 1)
        return Way(reached, Line(reached.borders, np.stack(rows)), way.anchor, way.clipped)

    def led(self, reference: np.ndarray | None, place: Place) -> np.ndarray:
        """Return a reference no further ahead of the commanded joints than `LEAD_S`."""
        joints = place.state.positions
        if self._kind == 'cartesian_delta':
            return led_tip(self._arm.pose(joints), reference, self._arm.robot)
        if reference is None:
            return joints
        lead = LEAD_S * self._arm.velocity
        return np.asarray(joints + np.clip(reference - joints, -lead, lead))

    def target(self, joints: np.ndarray, place: Place) -> np.ndarray:
        """Return the coordinates of a joint pose: float[n] → float64[n]."""
        return np.asarray(joints, np.float64)

    def pace(self, way: Way, dt: float) -> tuple[Pace, Pace]:
        """Return how fast the actions are, and the fastest of what they ask of tip and joints.

        The first move of absolute actions does not count: it also makes good for what the arm
        lags behind, which the path does as fast as limits allow.
        """
        rates = np.abs(way.line.rates()) / dt
        if self._kind == 'joint_position':
            rates = rates[1:]
        fastest, limits = rates.max(axis=0, initial=0.0), self._arm.velocity
        i = int((fastest / limits).argmax())
        name = f'joint {self._arm.robot.joints.names[i]}'
        joint = pace(name, float(fastest[i]), float(limits[i]), 'rad/s', 'joints.velocity')
        if self._kind != 'cartesian_delta':
            return joint, joint
        return (asked := tip_pace(way.reference, dt, self._arm.robot)), max(joint, asked)

    def limits(self, wanted: np.ndarray, place: Place, share: float) -> MotionLimits:
        """Return the limits of the joints, and of speed not much more than their line asks for.

        Else a path that makes good for a lag would pass the limits of the tip. A start outside of
        a position limit widens it.

        Args:
            wanted: Fastest rate of each joint on the line, float[n] [1/s].
            place: Where the path begins.
            share: How much of that speed is allowed.
        """
        arm, here = self._arm, place.state.positions
        v, a = place.state.velocities, place.state.accelerations
        reach = np.maximum(np.abs(v), np.abs(v + a * np.abs(a) / (2 * arm.jerk)))
        speed = np.maximum(ROOM * reach, share * (CATCH_UP * wanted + SLOWEST * arm.velocity))
        return MotionLimits(
            np.minimum(arm.velocity, speed),
            arm.acceleration,
            arm.jerk,
            np.minimum(arm.minimum, here),
            np.maximum(arm.maximum, here),
        )

    def check(self, path: Path, stamp_s: float) -> tuple[float, Reason | None]:
        """Return by what factor the tip is too fast along a path, or why it cannot be played."""
        robot, low, high = self._arm.robot, *self._tip.box
        fastest, begun, outside = 0.0, 1.0, 0.0
        for i, joints in enumerate(path.positions):
            speed = self._arm.jacobian(joints) @ path.velocities[i] / SPEED_SHARE
            fastest = max(
                fastest,
                float(np.linalg.norm(speed[:3])) / robot.limits.linear_speed / begun,
                float(np.linalg.norm(speed[3:])) / robot.limits.angular_speed / begun,
            )
            here = self._arm.pose(joints)[:3, 3]
            excess = float(np.maximum(low - here, here - high).max())
            if i == 0:  # a path is not to blame for how it begins
                outside, begun, fastest = max(0.0, excess), max(1.0, fastest), 0.0
            if excess > outside + 1e-6:
                return fastest, _outside(here, robot, stamp_s)
            if i and robot.collision.check and (pairs := self._arm.collisions(joints)):
                return fastest, _touching(pairs[0], stamp_s)
        return fastest, None


def _outside(here: np.ndarray, robot: RobotConfig, stamp_s: float) -> Reason:
    limits = robot.limits
    value = f'a path of the tip through {(here.round(3) + 0.0).tolist()} m'
    limit = f'workspace {list(limits.workspace_minimum)} to {list(limits.workspace_maximum)} m'
    remedy = 'Move the arm into the workspace, or enlarge it in the robot description.'
    return refusal('workspace', value, limit, stamp_s, remedy)


def _touching(pair: tuple[str, str], stamp_s: float) -> Reason:
    value = f'a path on which {pair[0]} touches {pair[1]}'
    remedy = 'Move the arm away by hand, or correct collision of the robot description.'
    code = 'table' if 'table' in pair else 'self_collision'
    return refusal(code, value, 'no contact of the arm', stamp_s, remedy)
