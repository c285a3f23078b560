"""From a moving start through waypoints to a stop, within limits: three ways to make a `Path`.

    plan      follow waypoints that are due at given times, then come to rest
    brake     come to rest as soon as can be
    go_to     from rest along a straight line to rest

`plan` and `brake` solve a quadratic program per coordinate, see `spline`.

Cost: squared distance from the waypoints at their times and from the last one after it, plus
squared jerk, whose weight is the time over which corners are rounded (`SMOOTHING`). Positions are
soft: a start that must overshoot still has a path.

A start that was reached by a path within limits can always stop within them, but not always with
jerks that change at the knots of the new path only. So plans use a little less than the limits
(`SHARES`), and where that fails nearly all of them, and then finer knots. If that fails too:
`PlanError`; the path before ends in a stop and can be played on. `brake` uses the whole limits,
and from a start outside of them lets velocity and acceleration pass them by the least that can be.
Must not know robots or chunks. Times [s] of one clock.
"""

from dataclasses import dataclass, replace
import math
from typing import NamedTuple

import numpy as np

from worldvla_ros.robot.path import Path, State, standing
from worldvla_ros.robot.spline import EDGE, Problem, Task, following, rows_of, solve, stopping

KNOT_S = 0.05
"""The longest time between knots [s]."""
SMOOTHING = 0.7
"""Time over which corners of the waypoints are rounded, as a share of the time between them."""
SHARES = (0.98, 0.95, 0.9)
"""How much of the limits of velocity, acceleration and jerk a plan uses at first."""
STOP_ROOM = 1.5
"""How much longer than needed the stop at the end of a plan may take."""
BRAKE_KNOTS = 24
"""Into how many knots the longest stop is divided."""
NEARLY = (0.995, 0.99, 0.98)
"""The same where the start leaves no path with `SHARES`; the rest is for brakes."""
LATEST_S = 2.0
"""How much longer than its waypoints a path may take to reach a far one [s]."""
MOST_KNOTS = 800
"""A longer path is not planned: that takes seconds, and memory by the square. 3 s of waypoints and
2 s to catch up are 100 knots of 0.05 s; a coordinate that may hardly brake asks for thousands."""
RAMP_KNOT_S = 0.02
"""Time between the knots of `go_to` [s]."""
STILL = 1e-9
"""A way shorter than this is none."""
ONE_WAY, HARD, SOFTLY = 'one way', '', 'softly'
BRAKES = (
    (ONE_WAY, 1.15, 1),
    (ONE_WAY, 1.5, 1),
    (HARD, 1.5, 1),
    (HARD, 1.5, 3),
    (SOFTLY, 1.5, 1),
    (SOFTLY, 6.0, 1),
)
"""How to brake, in the order tried: without turning back, within limits, and as well as can be;
then how much longer than needed it may take, and into how many parts knots are divided."""


class PlanError(Exception):
    """There is no path within the limits from this start; the one before should be played on."""


@dataclass(frozen=True)
class MotionLimits:
    """What a path may do, float64[n] each.

    Attributes:
        velocity: Greatest size [1/s].
        acceleration: Greatest size [1/s²].
        jerk: Greatest size [1/s³].
        low: Least position; soft.
        high: Greatest position; soft.
    """

    velocity: np.ndarray
    acceleration: np.ndarray
    jerk: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __post_init__(self) -> None:
        """Refuse limits with which nothing could move.

        Raises:
            ValueError: Lengths differ, a limit is not positive and finite, or low is above high.
        """
        sizes = (self.velocity, self.acceleration, self.jerk)
        if len({len(values) for values in (*sizes, self.low, self.high)}) != 1:
            raise ValueError('limits of motion must have one number per coordinate')
        if not all(np.isfinite(values).all() and (values > 0).all() for values in sizes):
            raise ValueError('velocity, acceleration and jerk must be positive and finite')
        if not (self.low <= self.high).all():
            raise ValueError('low must not be above high')

    def shared(self, velocity: float, acceleration: float, jerk: float) -> 'MotionLimits':
        """Return limits of which a share each is left; positions stay."""
        return replace(
            self,
            velocity=self.velocity * velocity,
            acceleration=self.acceleration * acceleration,
            jerk=self.jerk * jerk,
        )


class _Grid(NamedTuple):
    """Time of a path: `waypoints`, `every` knots apart, then a stop; `step_s` per knot."""

    step_s: float
    every: int
    waypoints: int
    intervals: int


def _grid(start: State, waypoints: np.ndarray, step_s: float, limits: MotionLimits) -> _Grid:
    """Return knots no further apart than `KNOT_S`, and enough of them to arrive and to stop."""
    every = math.ceil(step_s / KNOT_S - EDGE)
    knot_s, count = step_s / every, len(waypoints)
    asked = np.abs(np.diff(waypoints, axis=0)).max(axis=0, initial=0.0) / step_s
    first = np.abs(waypoints[0] - start.positions) / step_s
    speed = np.minimum(
        limits.velocity, np.maximum(np.maximum(asked, first), _reach(start, limits))
    )
    stop_s = _stop_time(speed, limits) + np.abs(start.accelerations) / limits.jerk
    far_s = np.abs(waypoints - start.positions).max(axis=0) / limits.velocity
    late_s = np.maximum(0.0, np.minimum(far_s, LATEST_S) - (count - 1) * step_s)
    intervals = every * count + math.ceil(((STOP_ROOM * stop_s + late_s) / knot_s).max()) + 4
    return _Grid(knot_s, every, count, intervals)


def _reach(start: State, limits: MotionLimits) -> np.ndarray:
    """Return the greatest speed that follows from a start whatever is done: float64[n]."""
    gained = start.accelerations * np.abs(start.accelerations) / (2 * limits.jerk)
    return np.asarray(np.maximum(np.abs(start.velocities), np.abs(start.velocities + gained)))


def _stop_time(speed: np.ndarray, limits: MotionLimits) -> np.ndarray:
    """Return how long stops from speeds without acceleration take at least: float64[n] [s]."""
    ramp_s = limits.acceleration / limits.jerk
    short_s = 2 * np.sqrt(speed / limits.jerk)
    long_s = speed / limits.acceleration + ramp_s
    return np.asarray(np.where(speed < limits.acceleration * ramp_s, short_s, long_s))


def plan(
    start: State,
    start_s: float,
    waypoints: np.ndarray,
    step_s: float,
    limits: MotionLimits,
) -> Path:
    """Return the path that follows waypoints and comes to rest at the last.

    Args:
        start: Where it begins, moving or not; kept exactly.
        start_s: When it begins [s].
        waypoints: float64[k, n], k ≥ 1; waypoint i is due at start_s + (i + 1) · step_s.
        step_s: Time between waypoints [s].
        limits: What it may do.

    Raises:
        PlanError: The start cannot be continued within the limits.
    """
    if not (np.isfinite(waypoints).all() and len(waypoints) and step_s > 0):
        raise ValueError('a plan needs finite waypoints, at least one, and a time between them')
    for shares, divisor in ((SHARES, 1), (NEARLY, 1), (NEARLY, 2), (NEARLY, 4)):
        allowed = limits.shared(*shares)
        grid = _grid(start, waypoints, step_s, allowed)
        knots = grid.every * divisor
        grid = _Grid(grid.step_s / divisor, knots, grid.waypoints, grid.intervals * divisor)
        if grid.intervals > MOST_KNOTS:
            raise PlanError(f'a path of {grid.intervals * grid.step_s:.0f} s cannot be planned')
        rounding = (SMOOTHING * knots) ** 6 / knots
        problem = following(grid.intervals, knots, grid.waypoints, rounding)
        path = _assemble(problem, grid, start, start_s, waypoints, allowed)
        if path is not None:
            return path
    raise PlanError('the start of the path cannot be continued within the limits of motion')


def brake(start: State, start_s: float, limits: MotionLimits) -> Path:
    """Return the path that comes to rest as soon as limits allow; there always is one.

    A start outside of the limits, or one that must leave them, passes limits of velocity and
    acceleration by as little as can be; never that of jerk.
    """
    if start.at_rest:
        return standing(start.positions, start_s)
    longest_s = (
        _stop_time(_reach(start, limits), limits) + np.abs(start.accelerations) / limits.jerk
    ).max()
    knot_s = min(KNOT_S, longest_s / BRAKE_KNOTS)
    none = np.broadcast_to(start.positions, (1, len(start.positions)))
    free = replace(
        limits, low=np.full_like(limits.low, -np.inf), high=np.full_like(limits.high, np.inf)
    )
    for how, room, divisor in BRAKES:
        intervals = divisor * math.ceil(room * longest_s / knot_s) + 3
        grid = _Grid(knot_s / divisor, 1, 1, intervals)
        path = _assemble(stopping(intervals), grid, start, start_s, none, free, how)
        if path is not None:
            return path
    raise PlanError('no stop was found')


def _assemble(
    problem: Problem,
    grid: _Grid,
    start: State,
    start_s: float,
    waypoints: np.ndarray,
    limits: MotionLimits,
    how: str = HARD,
) -> Path | None:
    """Solve each coordinate and return the path; None where one has no solution."""
    h, intervals, size = grid.step_s, grid.intervals, len(start.positions)
    unit = np.minimum(
        limits.jerk * h**3, np.minimum(limits.acceleration * h**2, limits.velocity * h)
    )
    rounded = h * h * start.accelerations / 2
    fixed = np.stack([h * start.velocities - rounded, h * start.velocities + rounded]) / unit
    targets = np.zeros((intervals + 1, size))
    due = np.minimum(np.arange(intervals + 1) // grid.every, grid.waypoints)
    targets[due > 0] = (waypoints[due[due > 0] - 1] - start.positions) / unit
    forth, back = limits.velocity, -limits.velocity
    if how == ONE_WAY:
        after = start.velocities + start.accelerations * np.abs(start.accelerations) / limits.jerk
        forth = np.where((start.velocities < 0) & (after < 0), 0.0, forth)
        back = np.where((start.velocities > 0) & (after > 0), 0.0, back)
    columns = []
    for i in range(size):
        task = Task(
            fixed[:, i],
            targets[:, i],
            back[i] * h / unit[i],
            forth[i] * h / unit[i],
            limits.acceleration[i] * h * h / unit[i],
            limits.jerk[i] * h**3 / unit[i],
            (limits.low[i] - start.positions[i]) / unit[i],
            (limits.high[i] - start.positions[i]) / unit[i],
        )
        column = solve(problem, task, intervals, soft=how == SOFTLY)
        if column is None:
            return None
        columns.append(column * unit[i])
    moved, rows = np.stack(columns, axis=1), rows_of(intervals)
    return Path(
        start_s,
        h,
        start.positions + rows.positions @ moved,
        (moved[:-1] + moved[1:]) / (2 * h),
        rows.accelerations @ moved / h**2,
    )


def go_to(
    start: np.ndarray, start_s: float, target: np.ndarray, limits: MotionLimits, share: float = 1.0
) -> Path:
    """Return the path from rest at `start` straight to rest at `target`: float64[n] each.

    Seven phases of constant jerk along the line, the shortest of whole knots.

    Args:
        start: Where it begins.
        start_s: When it begins [s].
        target: Where it ends.
        limits: What it may do.
        share: How much of the limits it uses, in (0, 1].

    Raises:
        ValueError: The share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f'a share of the limits lies in (0, 1], not {share}')
    way = np.asarray(target, np.float64) - start
    if np.abs(way).max(initial=0.0) < STILL:
        return standing(start, start_s)
    with np.errstate(divide='ignore'):
        sizes = (limits.velocity, limits.acceleration, limits.jerk)
        velocity, acceleration, jerk = (share * float((s / np.abs(way)).min()) for s in sizes)
    knots = [math.ceil(t / RAMP_KNOT_S - EDGE) for t in _phases(velocity, acceleration, jerk)]
    ramp, hold, cruise = max(knots[0], 1), *knots[1:]
    up = [1.0] * ramp + [0.0] * hold + [-1.0] * ramp
    pattern = np.array(up + [0.0] * cruise + [-sign for sign in up])
    covered = ramp * (ramp + hold) * (2 * ramp + hold + cruise) * RAMP_KNOT_S**3
    jerks = pattern[:, None] * (way / covered)
    return _along(np.asarray(start, np.float64), start_s, jerks)


def _phases(velocity: float, acceleration: float, jerk: float) -> tuple[float, float, float]:
    """Return how long to ramp the acceleration, hold it, and cruise, to cover 1 from rest [s]."""
    ramp_s = min(acceleration / jerk, math.sqrt(velocity / jerk), (0.5 / jerk) ** (1 / 3))
    greatest = jerk * ramp_s
    hold_s = min(
        velocity / greatest - ramp_s, (math.sqrt(ramp_s**2 + 4 / greatest) - 3 * ramp_s) / 2
    )
    hold_s = max(0.0, hold_s)
    cruise_s = 1 / (greatest * (ramp_s + hold_s)) - (2 * ramp_s + hold_s)
    return ramp_s, hold_s, max(0.0, cruise_s)


def _along(start: np.ndarray, start_s: float, jerks: np.ndarray) -> Path:
    """Return the path from rest with these jerks, float[k, n], which end at rest."""
    h, before = RAMP_KNOT_S, np.zeros((1, jerks.shape[1]))
    a = np.vstack([before, np.cumsum(jerks, axis=0) * h])
    v = np.vstack([before, np.cumsum(a[:-1] * h + jerks * h**2 / 2, axis=0)])
    p = np.vstack([before, np.cumsum(v[:-1] * h + a[:-1] * h**2 / 2 + jerks * h**3 / 6, axis=0)])
    v[-1], a[-1] = 0.0, 0.0  # but for rounding they are
    return Path(start_s, h, start + p, v, a)
