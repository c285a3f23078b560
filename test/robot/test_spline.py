"""The quadratic program of one coordinate: bounds of the first step, rows, and weights."""

import math

import numpy as np
import pytest

from worldvla_ros.robot.path import rest
from worldvla_ros.robot.planner import plan
from worldvla_ros.robot.spline import (
    ARRIVING,
    Task,
    _first_bound,
    following,
    rows_of,
    solve,
    stopping,
)


@pytest.mark.parametrize(
    ('fixed', 'bound', 'expected'),
    [
        ((0.5, 1.0), 1.0, math.inf),  # d[0] is in its bound: the hull is
        ((0.5, 1.2), 1.0, 1.2 + 0.7 - 0.7**2 / 0.3),
        ((0.0, 1.5), 1.0, 1.5 + 1.5 - 1.5**2 / 0.5),
        ((-0.5, 1.2), 1.0, 1.2 + 1.7 - 1.7**2 / 1.3),
        ((0.8, 1.2), 1.0, -math.inf),  # the start is at its bound and still gains
        ((0.9, 1.4), 1.0, -math.inf),
    ],
)
def test_the_first_step_bounds_the_velocity_where_it_turns(fixed, bound, expected):
    assert _first_bound(np.array(fixed), bound) == pytest.approx(expected)


def test_that_bound_is_the_one_with_which_the_velocity_just_reaches_its_limit():
    before, after, bound = 0.5, 1.2, 1.0
    step = _first_bound(np.array([before, after]), bound)
    v, a, jerk = (before + after) / 2, after - before, (step - after) - (after - before)
    assert v - a**2 / (2 * jerk) == pytest.approx(bound)


def test_rows_are_those_of_a_cubic_spline():
    rows = rows_of(3)
    assert rows.accelerations.tolist() == [
        [-1, 1, 0, 0, 0], [0, -1, 1, 0, 0], [0, 0, -1, 1, 0], [0, 0, 0, -1, 1],
    ]  # fmt: skip
    assert rows.jerks.tolist() == [[1, -2, 1, 0, 0], [0, 1, -2, 1, 0], [0, 0, 1, -2, 1]]
    steady = rows.positions @ np.ones(5)
    assert steady == pytest.approx([0, 1, 2, 3])
    assert rows.positions[1] == pytest.approx([1 / 6, 1 - 1 / 6 - 1 / 6, 1 / 6, 0, 0])


def test_waypoints_weigh_one_and_the_end_more():
    problem = following(6, 2, 2, 0.0)
    rows = rows_of(6).positions
    weights = np.array([0, 0, 1, 0, 1, 1, ARRIVING])
    assert problem.pull == pytest.approx(rows[:, 2:6].T * weights)
    assert problem.hessian == pytest.approx((rows[:, 2:6].T * weights) @ rows[:, 2:6])
    assert problem.push == pytest.approx((rows[:, 2:6].T * weights) @ rows[:, :2])


def test_jerk_costs_by_its_weight():
    jerks, plain, dear = rows_of(6).jerks, following(6, 1, 3, 0.0), following(6, 1, 3, 2.0)
    assert dear.hessian - plain.hessian == pytest.approx(2 * jerks[:, 2:6].T @ jerks[:, 2:6])
    assert dear.push - plain.push == pytest.approx(2 * jerks[:, 2:6].T @ jerks[:, :2])


def test_a_stop_costs_squared_velocity_and_a_trace_of_jerk():
    problem, jerks = stopping(4), rows_of(4).jerks
    means = np.array([[0.5 if j in (i, i + 1) else 0.0 for j in range(6)] for i in range(5)])
    cost = means.T @ means + 1e-4 * jerks.T @ jerks
    assert problem.hessian == pytest.approx(cost[2:4, 2:4])
    assert problem.push == pytest.approx(cost[2:4, :2])
    assert not problem.pull.any()


@pytest.mark.parametrize('side', [1.0, -1.0])
def test_a_start_that_must_pass_its_bound_has_no_solution_unless_it_is_soft(side):
    fixed = np.array([0.9, 1.4]) * side
    task = Task(fixed, np.zeros(21), -1.0, 1.0, 1.0, 1.0, -99.0, 99.0)
    problem = following(20, 1, 1, 0.1)
    assert solve(problem, task, 20, soft=False) is None
    found = solve(problem, task, 20, soft=True)
    assert found[:2] == pytest.approx(fixed)
    assert found[-2:].tolist() == [0.0, 0.0]
    jerks = rows_of(20).jerks @ found
    assert np.abs(jerks).max() <= 1.0


@pytest.mark.parametrize('side', [1.0, -1.0])
def test_a_moving_start_is_kept_within_bounds_of_position(side):
    task = Task(np.full(2, 0.2 * side), np.full(31, 9.0 * side), -1.0, 1.0, 0.5, 0.5, -3.0, 3.0)
    found = solve(following(30, 1, 5, 0.1), task, 30, soft=False)
    places = rows_of(30).positions @ found * side
    assert places.max() == pytest.approx(3.0, abs=1e-3)
    assert places.min() > -1e-9


@pytest.mark.parametrize('side', [1.0, -1.0])
def test_velocities_use_their_bound_and_keep_to_it(side):
    task = Task(np.zeros(2), np.full(31, 20.0 * side), -0.7, 0.7, 0.5, 0.5, -99.0, 99.0)
    found = solve(following(30, 1, 5, 0.1), task, 30, soft=False) * side
    assert 0.7 * (1 - 1e-5) < found.max() <= 0.7
    one_way = task._replace(velocity=0.0) if side > 0 else task._replace(back=0.0)
    assert np.abs(solve(following(30, 1, 5, 0.1), one_way, 30, soft=False)).max() < 1e-6


def test_nothing_to_do_is_exactly_nothing():
    task = Task(np.zeros(2), np.zeros(9), -1.0, 1.0, 1.0, 1.0, -1.0, 1.0)
    assert solve(following(8, 1, 2, 0.1), task, 8, soft=False).tolist() == [0.0] * 10


def test_a_velocity_that_turns_after_its_start_keeps_to_its_limit():
    from test_planner import limits, moving

    start = moving(0.0, 0.8, 1.9)
    path = plan(start, 0.0, np.full((6, 1), 0.5), 0.05, limits())
    assert path.greatest.velocity[0] <= 1.0 + 1e-6
    path = plan(moving(0.0, -0.8, -1.9), 0.0, np.full((6, 1), -0.5), 0.05, limits())
    assert path.greatest.velocity[0] <= 1.0 + 1e-6
    assert plan(rest(np.zeros(1)), 0.0, np.zeros((2, 1)), 0.05, limits()).positions.max() == 0.0
