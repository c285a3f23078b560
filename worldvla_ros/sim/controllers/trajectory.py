"""ros2_control's joint_trajectory_controller (JTC 6.9, ros2_controllers 94e74de35).

What it drops, it drops whole and says so in its own log only. What it takes replaces what it
plays: from its present state it goes to the first point, then from point to point, by straight
lines where only positions are told, cubics with velocities, quintics with accelerations too. Knows
no limits: a step that is told is a step that is made.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from worldvla_ros.sim.controllers.parts import Drops, Point, Trajectory

END_SPEED = 1.2e-7
"""Largest speed of a last point that counts as none: the least step of a float32 at 1."""


@dataclass(frozen=True)
class Desired:
    """Where the joints should be, float64[n] each."""

    positions: np.ndarray
    velocities: np.ndarray
    accelerations: np.ndarray


class JointTrajectoryMock:
    """Plays trajectories; `accept` each message, `sample` at each instant."""

    def __init__(
        self,
        names: Sequence[str],
        joints: np.ndarray,
        *,
        partial: bool = False,
        nonzero_end_velocity: bool = False,
        cmd_timeout_s: float = 0.0,
        tolerance: float = 0.0,
        upsampling: bool = False,
        policy_frequency: float = 20.0,
    ) -> None:
        """Start at rest.

        Args:
            names: The controller's joints.
            joints: Where they are, float[n] [rad].
            partial: Its parameter `allow_partial_joints_goal`.
            nonzero_end_velocity: Its `allow_nonzero_velocity_at_trajectory_end`.
            cmd_timeout_s: Its `cmd_timeout` [s]: so long after a trajectory's end it holds; 0:
                never.
            tolerance: Its `constraints.*.trajectory` [rad]: an arm farther off is held; 0 never.
            upsampling: Its `positions_upsampling.enable`: splines for messages of positions only.
            policy_frequency: Its `positions_upsampling.policy_frequency` [Hz]: spacing of points
                without times.
        """
        self._names = tuple(names)
        self._partial, self._nonzero_end = partial, nonzero_end_velocity
        self._cmd_timeout_s, self._tolerance = cmd_timeout_s, tolerance
        self._upsampling, self._spacing_s = upsampling, 1.0 / policy_frequency
        self._before = _standing(np.array(joints, float))
        self._before_s = -np.inf
        self._points: tuple[Point, ...] = ()
        self._start_s = 0.0
        self._segment: tuple[int, float, np.ndarray] | None = None
        self.drops = Drops()
        self.held = ''

    @property
    def end_s(self) -> float:
        """When the trajectory ends [s]; minus infinity without one."""
        return self._start_s + self._points[-1].time_s if self._points else -np.inf

    def accept(self, message: Trajectory, now_s: float) -> bool:
        """Take a message, or drop it as a whole.

        Returns:
            Whether it was taken, which the real controller tells nobody.
        """
        message = self._timed(message)
        reason = self._fault(message, now_s)
        if reason:
            return self.drops.add(reason)
        now = self.sample(now_s)
        points = self._ordered(message, now)
        if self._upsampling and not any(p.velocities.size for p in points):
            lead_s = 0.0 if message.stamp_s == 0.0 else message.stamp_s - now_s
            points = _splined(now.positions, points, lead_s)
            now = _standing(now.positions)  # an arm in motion is stopped within an instant
        self._before, self._before_s = now, now_s
        self._points, self.held = points, ''
        self._segment = None
        self._start_s = message.stamp_s if message.stamp_s else now_s
        return True

    def sample(self, now_s: float, measured: np.ndarray | None = None) -> Desired:
        """Return where the joints should be.

        Args:
            now_s: Present time [s].
            measured: Where they are, float[n] [rad], for the tolerance.
        """
        wanted = self._wanted(now_s)
        if not self._points:
            return wanted
        far = measured is not None and np.abs(measured - wanted.positions).max() > self._tolerance
        if self._tolerance and far:
            assert measured is not None
            self._hold(np.array(measured, float), 'tolerance')
        elif self._cmd_timeout_s and now_s - self.end_s > self._cmd_timeout_s:
            self._hold(wanted.positions, 'cmd_timeout')
        else:
            return wanted
        return self._before

    def relocate(self, joints: np.ndarray) -> None:
        """Forget the trajectory: the arm was put somewhere else, float[n] [rad]."""
        self._hold(np.array(joints, float), '')

    def _hold(self, joints: np.ndarray, reason: str) -> None:
        self._points, self._before, self.held = (), _standing(joints), reason

    def _wanted(self, now_s: float) -> Desired:
        if not self._points:
            return self._before
        times = [self._start_s + point.time_s for point in self._points]
        if now_s >= times[-1]:
            return _desired(self._points[-1])
        following = int(np.searchsorted(times, now_s, side='right'))
        if self._segment is None or self._segment[0] != following:
            self._segment = (following, *self._joined(following, times[following]))
        _, start_s, coefficients = self._segment
        size = len(coefficients)
        return Desired(*(_powers(now_s - start_s, size, d) @ coefficients for d in range(3)))

    def _joined(self, following: int, end_s: float) -> tuple[float, np.ndarray]:
        """Return when the segment before a point begins, and its polynomial."""
        if following:
            start = self._points[following - 1]
            start_s = self._start_s + start.time_s
        else:
            before, start_s = self._before, self._before_s
            start = Point(0.0, before.positions, before.velocities, before.accelerations)
        return start_s, _polynomial(start, self._points[following], end_s - start_s)

    def _timed(self, message: Trajectory) -> Trajectory:
        """Give times to points that have none, where the controller does that."""
        points = message.points
        if not self._upsampling or any(point.time_s for point in points):
            return message
        timed = [replace(p, time_s=(i + 1) * self._spacing_s) for i, p in enumerate(points)]
        return replace(message, points=tuple(timed))

    def _fault(self, message: Trajectory, now_s: float) -> str:
        """Return why a message is dropped, or ''."""
        names, points = message.names, message.points
        if not names or (len(names) != len(self._names) and not self._partial):
            return 'joints missing'
        if not points:
            return 'no points'
        if message.stamp_s and message.stamp_s + points[-1].time_s < now_s:
            return 'ends in the past'
        if set(names) - set(self._names) or len(set(names)) != len(names):
            return 'unknown joint'
        last = points[-1].velocities
        if not self._nonzero_end and last.size and np.abs(last).max() > END_SPEED:
            return 'velocity at the end'
        times = [point.time_s for point in points]
        if times[0] < 0 or any(b <= a for a, b in zip(times, times[1:], strict=False)):
            return 'times out of order'
        return _misfit(points, len(names))

    def _ordered(self, message: Trajectory, now: Desired) -> tuple[Point, ...]:
        """Return the points in the controller's order; joints that are not named stay."""
        places = [self._names.index(name) for name in message.names]

        def order(values: np.ndarray, rest: np.ndarray) -> np.ndarray:
            if not values.size:
                return values
            whole = rest.copy()
            whole[places] = values
            return whole

        still = np.zeros(len(self._names))
        return tuple(
            Point(
                point.time_s,
                order(point.positions, now.positions),
                order(point.velocities, still),
                order(point.accelerations, still),
            )
            for point in message.points
        )


def _misfit(points: tuple[Point, ...], size: int) -> str:
    """Return what is wrong with the numbers of points, or ''."""
    for point in points:
        for values, needed in (
            (point.positions, True),
            (point.velocities, False),
            (point.accelerations, False),
        ):
            if len(values) != size and (needed or len(values)):
                return 'wrong number of values'
            if not np.isfinite(values).all():  # the real one passes them on to the arm
                return 'not finite'
    return ''


def _standing(positions: np.ndarray) -> Desired:
    return Desired(positions, np.zeros_like(positions), np.zeros_like(positions))


def _desired(point: Point) -> Desired:
    still = np.zeros_like(point.positions)
    return Desired(
        point.positions,
        point.velocities if point.velocities.size else still,
        point.accelerations if point.accelerations.size else still,
    )


def _polynomial(start: Point, end: Point, whole_s: float) -> np.ndarray:
    """Return the coefficients float64[2, 4 or 6, n] that the derivatives of both points allow."""
    if start.velocities.size and end.velocities.size:
        order = 3 if start.accelerations.size and end.accelerations.size else 2
    else:
        order = 1
    ends = [[p.positions, p.velocities, p.accelerations][:order] for p in (start, end)]
    solved: np.ndarray = np.linalg.solve(
        _conditions(whole_s, order), np.array([*ends[0], *ends[1]])
    )
    return solved


def _conditions(whole_s: float, order: int) -> np.ndarray:
    """Return what both ends say of a polynomial's coefficients: float64[2 · order, 2 · order]."""
    rows = [_powers(t, 2 * order, d) for t in (0.0, whole_s) for d in range(order)]
    return np.array(rows)


def _powers(time_s: float, size: int, derivative: int) -> np.ndarray:
    """Return the derivative of 1, t, t², … at a time: float64[size]."""
    factors = np.ones(size)
    for d in range(derivative):
        factors *= np.arange(size) - d
    exponents = np.maximum(np.arange(size) - derivative, 0)
    return np.where(factors == 0, 0.0, factors * float(time_s) ** exponents)


def _splined(start: np.ndarray, points: tuple[Point, ...], lead_s: float) -> tuple[Point, ...]:
    """Return points with the velocities and accelerations of a C2 spline, at rest at both ends.

    Args:
        start: Where the joints are, float64[n].
        points: Positions at times.
        lead_s: How long from now until the time from which those count [s].
    """
    times = np.array([0.0, *(lead_s + point.time_s for point in points)])
    knots = np.array([start, *(point.positions for point in points)])
    steps, slopes = np.diff(times), np.diff(knots, axis=0) / np.diff(times)[:, None]
    matrix, right = np.eye(len(times)), np.zeros_like(knots)  # velocity 0 at both ends
    for i in range(1, len(times) - 1):
        matrix[i, i - 1 : i + 2] = steps[i], 2 * (steps[i - 1] + steps[i]), steps[i - 1]
        right[i] = 3 * (steps[i] * slopes[i - 1] + steps[i - 1] * slopes[i])
    speeds = np.linalg.solve(matrix, right)
    return tuple(replace(point, velocities=speeds[i + 1]) for i, point in enumerate(points))
