"""One coordinate of a path as a cubic spline that a small quadratic program (QP) finds.

A curve of constant jerk between equal knots *is* a uniform cubic B-spline. Its unknowns are the
displacements d from one control point to the next, which makes the QP small and well conditioned:

    at knot k   v = (d[k-1] + d[k]) / 2h    a = (d[k] - d[k-1]) / h²    jerk = (a[k+1] - a[k]) / h

* The start (position, velocity, acceleration) is d[-1] and d[0], exactly; rest at the end is
  d[N-1] = d[N] = 0. Neither needs an equation.
* |d| ≤ V h holds the velocity between knots too (it lies in the hull of neighbouring d / h); the
  acceleration is linear between knots, the jerk constant: bounds at knots are bounds everywhere.
* Units of J h³, or A h² or V h if less, make bounds of order one. The condition number of the cost
  stays below some thousands, where jerks as unknowns have 10¹¹; a coordinate takes some 10 µs.

Positions are soft, and counted only where a path without them passes one. Must not know units,
robots or chunks.
"""

from functools import lru_cache
import math
from typing import NamedTuple

import daqp
import numpy as np

EDGE = 1e-6
"""Relative room for the solver's tolerance."""
ARRIVING = 30.0
"""Weight of the last waypoint at the end of the stop; that of the others is 1."""
SOFT = 8
"""daqp's mark of a constraint that may be passed at a price."""
SOLVED = (1, 2)
"""daqp's exit flags: optimal, and optimal with soft constraints passed."""


class Rows(NamedTuple):
    """What is linear in the displacements d[-1] … d[N] of the control points, a row per knot."""

    positions: np.ndarray  # relative to the start, [N + 1, N + 2]
    accelerations: np.ndarray  # in units of 1 / h², [N + 1, N + 2]
    jerks: np.ndarray  # in units of 1 / h³, [N, N + 2]


@lru_cache(maxsize=256)
def rows_of(intervals: int) -> Rows:
    """Return the rows of a path of so many intervals between knots."""
    knots, columns = intervals + 1, intervals + 2
    place = np.arange(knots)
    accelerations = np.zeros((knots, columns))
    accelerations[place, place + 1], accelerations[place, place] = 1.0, -1.0
    positions = np.zeros((knots, columns))
    for knot in range(1, knots):
        positions[knot, 1 : 1 + knot] = 1.0
    positions += (accelerations - accelerations[0]) / 6
    return Rows(positions, accelerations, np.diff(accelerations, axis=0))


class Problem(NamedTuple):
    """The part of the QP that is the same for all coordinates and starts."""

    hessian: np.ndarray
    bounded: np.ndarray  # accelerations, then jerks, of the free displacements
    pull: np.ndarray  # gradient by the knots' targets
    push: np.ndarray  # gradient by the two displacements that the start fixes


@lru_cache(maxsize=256)
def following(intervals: int, every: int, count: int, rounding: float) -> Problem:
    """Return the QP for waypoints at every `every`-th knot, `count` of them, then a stop."""
    rows = rows_of(intervals)
    weights = np.zeros(intervals + 1)
    weights[every : every * count : every] = 1.0
    weights[every * count :] = 1.0
    weights[-1] = ARRIVING
    free, fixed = slice(2, intervals), slice(0, 2)
    positions, jerks = rows.positions, rows.jerks
    weighted = positions[:, free].T * weights
    hessian = weighted @ positions[:, free] + rounding * jerks[:, free].T @ jerks[:, free]
    bounded = np.vstack([rows.accelerations[1:intervals, free], jerks[:, free]])
    push = weighted @ positions[:, fixed] + rounding * jerks[:, free].T @ jerks[:, fixed]
    return Problem(hessian, np.ascontiguousarray(bounded), weighted, push)


@lru_cache(maxsize=256)
def stopping(intervals: int) -> Problem:
    """Return the QP whose cost is the squared velocity, and a trace of jerk."""
    jerks = rows_of(intervals).jerks
    knots = np.arange(intervals + 1)
    velocities = np.zeros((intervals + 1, intervals + 2))
    velocities[knots, knots] = velocities[knots, knots + 1] = 0.5
    free, fixed = slice(2, intervals), slice(0, 2)
    cost = np.vstack([velocities, 1e-2 * jerks])
    problem = following(intervals, 1, 1, 1.0)
    hessian, push = cost[:, free].T @ cost[:, free], cost[:, free].T @ cost[:, fixed]
    return Problem(hessian, problem.bounded, np.zeros_like(problem.pull), push)


class Task(NamedTuple):
    """One coordinate in units of its own: its start, its targets and its bounds."""

    fixed: np.ndarray  # d[-1] and d[0], float64[2]
    targets: np.ndarray  # of the knots, relative to the start, float64[N + 1]
    back: float  # least velocity
    velocity: float  # greatest
    acceleration: float
    jerk: float
    low: float
    high: float


def solve(problem: Problem, task: Task, intervals: int, *, soft: bool) -> np.ndarray | None:
    """Return the displacements d[-1] … d[N] of one coordinate, or None where there are none.

    Position limits count only where the path without them passes one. With `soft`, velocity and
    acceleration may pass theirs.
    """
    if not task.fixed.any() and not task.targets.any():
        return np.zeros(intervals + 2)
    rows, free = rows_of(intervals), slice(2, intervals)
    gradient = problem.push @ task.fixed - problem.pull @ task.targets
    known = np.concatenate(
        [rows.accelerations[1:intervals, :2] @ task.fixed, rows.jerks[:, :2] @ task.fixed]
    )
    size = np.full(len(known), task.jerk * (1 - EDGE))
    size[: intervals - 1] = task.acceleration * (1 - EDGE)
    forth, back = (
        np.full(intervals - 2, speed * (1 - EDGE)) for speed in (task.velocity, task.back)
    )
    upper, lower = np.concatenate([forth, size - known]), np.concatenate([back, -size - known])
    if not soft:
        upper[0] = min(upper[0], _first_bound(task.fixed, task.velocity))
        lower[0] = max(lower[0], -_first_bound(-task.fixed, -task.back))
    sense = np.zeros(len(upper), np.int32)
    if soft:
        sense[: len(forth) + intervals - 1] = SOFT
    answer = _daqp(problem.hessian, gradient, problem.bounded, upper, lower, sense)
    if answer is None:
        return None
    places = rows.positions[:, :2] @ task.fixed + rows.positions[:, free] @ answer
    if places.min() < task.low or places.max() > task.high:
        begun = rows.positions[1:, :2] @ task.fixed
        answer = _daqp(
            problem.hessian,
            gradient,
            np.vstack([problem.bounded, rows.positions[1:, free]]),
            np.concatenate([upper, task.high - begun]),
            np.concatenate([lower, task.low - begun]),
            np.concatenate([sense, np.full(intervals, SOFT, np.int32)]),
        )
    return None if answer is None else np.concatenate([task.fixed, answer, np.zeros(2)])


def _first_bound(fixed: np.ndarray, bound: float) -> float:
    """Return the greatest d[1] with which the velocity, while it still rises, stays in its bound.

    From knot 0 to 1 the velocity lies in the hull of d[0], which is given, and both knots'. Where
    d[0] is beyond the bound, the velocity must turn in between: its greatest value there,
    v + a² / 2j, bounds the jerk and so d[1]. A start that is beyond its bound and still gains has
    no such d[1].
    """
    before, after = float(fixed[0]), float(fixed[1])
    room, gain = bound - (before + after) / 2, after - before
    if after <= bound:
        return math.inf
    if room <= 0:
        return -math.inf
    return after + gain - gain * gain / (2 * room)


def _daqp(
    hessian: np.ndarray,
    gradient: np.ndarray,
    rows: np.ndarray,
    upper: np.ndarray,
    lower: np.ndarray,
    sense: np.ndarray,
) -> np.ndarray | None:
    """Return what minimises ½ x'Hx + g'x with bounds on x, then on rows · x; None without one."""
    answer, _, flag, _ = daqp.solve(hessian, gradient, rows, upper, lower, sense)
    return np.asarray(answer) if flag in SOLVED else None
