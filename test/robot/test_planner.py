import daqp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from worldvla_ros.robot.path import REST, Path, State, rest
from worldvla_ros.robot.planner import (
    SHARES,
    SMOOTHING,
    MotionLimits,
    PlanError,
    _grid,
    _reach,
    _stop_time,
    brake,
    go_to,
    plan,
)

FAR = 100.0


def limits(velocity=1.0, acceleration=2.0, jerk=10.0, *, reach=FAR, n=1) -> MotionLimits:
    sizes = (np.full(n, float(value)) for value in (velocity, acceleration, jerk))
    return MotionLimits(*sizes, np.full(n, -float(reach)), np.full(n, float(reach)))


def moving(position=0.0, velocity=0.0, acceleration=0.0) -> State:
    return State(*(np.array([value]) for value in (position, velocity, acceleration)))


def assert_within(path: Path, allowed: MotionLimits) -> None:
    greatest = path.greatest
    assert (greatest.velocity <= allowed.velocity * (1 + 1e-6)).all()
    assert (greatest.acceleration <= allowed.acceleration * (1 + 1e-6)).all()
    assert (greatest.jerk <= allowed.jerk * (1 + 1e-6)).all()


def assert_consistent(path: Path) -> None:
    """Each knot follows from the one before by constant jerk."""
    h, jerks = path.step_s, path.jerks
    p, v, a = path.positions[:-1], path.velocities[:-1], path.accelerations[:-1]
    assert path.positions[1:] == pytest.approx(p + v * h + a * h**2 / 2 + jerks * h**3 / 6)
    assert path.velocities[1:] == pytest.approx(v + a * h + jerks * h**2 / 2)


def assert_starts(path: Path, start: State, start_s: float) -> None:
    first = path.at(start_s)
    assert path.start_s == start_s
    assert first.positions == pytest.approx(start.positions, abs=1e-12)
    assert first.velocities == pytest.approx(start.velocities, abs=REST)
    assert first.accelerations == pytest.approx(start.accelerations, abs=REST)


def test_a_plan_starts_as_it_is_told_and_ends_at_rest_at_the_last_waypoint():
    start = moving(0.3, 0.4, -0.5)
    waypoints = 0.3 + 0.02 * np.arange(1, 11)[:, None]
    path = plan(start, 7.0, waypoints, 0.05, limits())
    assert_starts(path, start, 7.0)
    assert_consistent(path)
    assert_within(path, limits())
    assert path.at_rest(path.end_s)
    assert path.velocities[-1] == path.accelerations[-1] == 0.0
    assert path.positions[-1] == pytest.approx([0.5], abs=1e-3)


def test_a_plan_without_anything_to_do_stands_still():
    start = rest(np.array([0.2, -0.1]))
    path = plan(start, 0.0, np.tile(start.positions, (4, 1)), 0.05, limits(n=2))
    assert (path.positions == start.positions).all()
    assert not path.velocities.any()


def test_a_plan_goes_on_at_the_speed_of_its_waypoints():
    speed, step_s = 0.4, 0.05
    waypoints = speed * step_s * np.arange(1, 21)[:, None]
    path = plan(moving(0.0, speed), 0.0, waypoints, step_s, limits(jerk=100))
    for i in range(10):
        state = path.at((i + 1) * step_s)
        assert state.positions == pytest.approx(waypoints[i], abs=2e-4)
        assert state.velocities == pytest.approx([speed], abs=5e-3)


def test_long_steps_are_divided_into_knots_of_at_most_a_twentieth_of_a_second():
    for step_s, knot_s in ((0.05, 0.05), (0.1, 0.05), (0.06, 0.03), (0.02, 0.02), (0.16, 0.04)):
        path = plan(rest(np.zeros(1)), 0.0, np.full((3, 1), 0.01), step_s, limits())
        assert path.step_s == pytest.approx(knot_s)


def test_waypoints_are_reached_at_their_times():
    # slow enough for limits not to matter: twice the time between waypoints, twice the times
    waypoints = 0.002 * np.sin(np.arange(1, 16) / 4)[:, None]
    for step_s in (0.05, 0.1):
        path = plan(rest(np.zeros(1)), 3.0, waypoints, step_s, limits(10, 100, 10_000))
        for i in range(2, 13):
            reached = path.at(3.0 + (i + 1) * step_s).positions
            assert reached == pytest.approx(waypoints[i], abs=2e-4)


def test_the_shortest_stop_takes_as_long_as_two_ramps_or_with_a_hold_between():
    # v / A + A / J, or 2 √(v / J) where A is not reached; both where it just is
    times = _stop_time(np.array([1.0, 0.1, 0.4]), limits(n=3))
    assert times == pytest.approx([0.7, 0.2, 0.4])


def test_a_start_that_gains_speed_reaches_more_whatever_is_done():
    start = State(np.zeros(3), np.array([0.5, -0.5, -0.5]), np.array([1.0, 1.0, -1.0]))
    assert _reach(start, limits(n=3)) == pytest.approx([0.55, 0.5, 0.55])


@pytest.mark.parametrize(
    ('way', 'every', 'intervals'),
    [
        # reaches 0.3: stops in 2 √0.03 + 0.5 / 10 = 0.396 s, half as long again is 12 knots
        ([0.03, 0.06, 0.09], 2, 6 + 12 + 4),
        # full speed: 1.5 · 0.75 s to stop, 0.9 s - 0 to arrive
        ([0.9], 2, 2 + 41 + 4),
        # at most 2 s are waited for
        ([5.0], 2, 2 + 63 + 4),
        ([-5.0, -5.0, -5.0, -5.0, -5.0], 2, 10 + 55 + 4),
    ],
)
def test_a_plan_has_knots_enough_to_arrive_and_to_stop(way, every, intervals):
    start = moving(0.1, 0.2, 0.5)
    grid = _grid(start, 0.1 + np.array(way)[:, None], 0.1, limits())
    assert grid == (0.05, every, len(way), intervals)


def by_jerks(start: State, waypoints, step_s, intervals, allowed: MotionLimits) -> np.ndarray:
    """Return the knots' positions from the same problem with jerks as unknowns; h = step_s."""
    h, k = step_s, intervals
    p, v, a = (np.zeros((k + 1, k)) for _ in range(3))
    p0, v0, a0 = (np.zeros(k + 1) for _ in range(3))
    p0[0], v0[0], a0[0] = start.positions[0], start.velocities[0], start.accelerations[0]
    for i in range(k):
        jerk = np.eye(k)[i]
        p[i + 1] = p[i] + h * v[i] + h**2 / 2 * a[i] + h**3 / 6 * jerk
        v[i + 1] = v[i] + h * a[i] + h**2 / 2 * jerk
        a[i + 1] = a[i] + h * jerk
        p0[i + 1] = p0[i] + h * v0[i] + h**2 / 2 * a0[i]
        v0[i + 1], a0[i + 1] = v0[i] + h * a0[i], a0[i]
    count = len(waypoints)
    targets = np.array([waypoints[min(i, count - 1)][0] for i in range(k)])
    weights = np.ones(k)
    weights[-1] = 30.0
    cost = p[1:].T @ (weights[:, None] * p[1:]) + (SMOOTHING * h) ** 6 * np.eye(k)
    gradient = p[1:].T @ (weights * (p0[1:] - targets))
    middle, middle0 = v + h / 2 * a, v0 + h / 2 * a0
    rows = np.vstack([a[1:-1], middle[1:-2], v[-1:], a[-1:]])
    known = np.concatenate([a0[1:-1], middle0[1:-2], v0[-1:], a0[-1:]])
    size = np.concatenate(
        [
            np.full(k - 1, allowed.acceleration[0]),
            np.full(k - 2, allowed.velocity[0]),
            np.zeros(2),
        ]
    )
    bound = np.full(k, allowed.jerk[0])
    upper, lower = np.concatenate([bound, size - known]), np.concatenate([-bound, -size - known])
    sense = np.zeros(len(upper), np.int32)
    sense[-2:] = 5
    scale = 1e6  # of the cost, for the solver's tolerance
    answer, _, flag, _ = daqp.solve(cost * scale, gradient * scale, rows, upper, lower, sense)
    assert flag == 1
    return p0 + p @ answer


@pytest.mark.parametrize('velocity', [0.0, 0.25, -0.3])
@pytest.mark.parametrize('acceleration', [0.0, 1.2])
@pytest.mark.parametrize('pace', [0.01, 0.06])
def test_a_plan_is_the_best_of_all_jerks(velocity, acceleration, pace):
    start = moving(0.1, velocity, acceleration)
    waypoints = 0.1 + pace * np.cumsum([1, 1, 0, 1, -1, -1, 1, 0.5])[:, None]
    allowed = limits(0.8, 4.0, 60.0)
    path = plan(start, 0.0, waypoints, 0.05, allowed)
    expected = by_jerks(start, waypoints, 0.05, path.knots - 1, allowed.shared(*SHARES))
    assert path.positions[:, 0] == pytest.approx(expected, abs=1e-5)


def test_positions_are_kept_within_bounds_where_that_can_be():
    waypoints = 0.05 * np.arange(1, 9)[:, None]
    path = plan(rest(np.zeros(1)), 0.0, waypoints, 0.05, limits(reach=0.2))
    assert path.positions.max() == pytest.approx(0.2, abs=1e-4)
    path = plan(rest(np.zeros(1)), 0.0, -waypoints, 0.05, limits(reach=0.2))
    assert path.positions.min() == pytest.approx(-0.2, abs=1e-4)


def test_a_start_that_must_overshoot_a_bound_does_so_by_the_least():
    start = moving(0.0, 0.9)
    path = plan(start, 0.0, np.zeros((4, 1)), 0.05, limits(reach=0.1))
    # the shortest stop from 0.9 takes 0.65 s, at half the speed on average
    assert 0.29 < path.positions.max() < 0.34
    assert_within(path, limits())


def test_a_far_waypoint_is_reached_a_little_late():
    path = plan(rest(np.zeros(1)), 0.0, np.full((2, 1), 0.9), 0.05, limits())
    assert path.positions[-1] == pytest.approx([0.9], abs=1e-2)
    assert_within(path, limits())


def test_one_waypoint_is_enough():
    path = plan(rest(np.zeros(1)), 0.0, np.full((1, 1), 0.01), 0.1, limits())
    assert path.positions[-1] == pytest.approx([0.01], abs=1e-4)
    assert path.at_rest(path.end_s)


def test_a_start_beyond_the_limits_cannot_be_planned_from_but_braked():
    for start in (moving(0.0, 1.2), moving(0.0, 0.99, 1.5), moving(0.0, -0.99, -1.5)):
        with pytest.raises(PlanError):
            plan(start, 0.0, np.zeros((3, 1)), 0.05, limits())
        path = brake(start, 0.0, limits())
        assert_starts(path, start, 0.0)
        assert path.at_rest(path.end_s)
        assert path.greatest.jerk <= limits().jerk * (1 + 1e-6)
        passed = max(1.0, abs(start.velocities[0]) + start.accelerations[0] ** 2 / 20)
        assert path.greatest.velocity <= passed + 0.02


@pytest.mark.parametrize('bad', [np.zeros((0, 1)), np.full((2, 1), np.nan)])
def test_waypoints_must_be_finite_and_at_least_one(bad):
    with pytest.raises(ValueError, match='finite waypoints'):
        plan(rest(np.zeros(1)), 0.0, bad, 0.05, limits())
    with pytest.raises(ValueError, match='time between them'):
        plan(rest(np.zeros(1)), 0.0, np.zeros((2, 1)), 0.0, limits())


@pytest.mark.parametrize(
    ('velocity', 'acceleration', 'shortest_s', 'shortest'),
    [(1.0, 0.0, 0.7, 0.35), (-1.0, 0.0, 0.7, -0.35), (0.1, 0.0, 0.2, 0.01)],
)
def test_a_brake_is_nearly_the_shortest_stop(velocity, acceleration, shortest_s, shortest):
    """From v without acceleration: v / A + A / J seconds, or 2 √(v / J), at v / 2 on average."""
    path = brake(moving(0.0, velocity, acceleration), 4.0, limits())
    assert_within(path, limits())
    assert_consistent(path)
    assert path.at_rest(path.end_s)
    assert abs(shortest) - 1e-6 <= abs(path.positions[-1, 0]) <= abs(shortest) * 1.08
    slow = path.at(4.0 + shortest_s * 1.15)
    assert abs(slow.velocities[0]) < 0.02 * abs(velocity)


def test_a_brake_from_rest_stands():
    path = brake(rest(np.array([0.4])), 1.0, limits())
    assert path.knots == 1
    assert path.at(5.0).positions == [0.4]


def test_a_brake_stops_all_coordinates_and_turns_none_back():
    start = State(np.zeros(3), np.array([0.5, -0.2, 0.0]), np.zeros(3))
    path = brake(start, 0.0, limits(n=3))
    assert path.positions[-1, 0] > 0
    assert path.positions[-1, 1] < 0
    assert not path.positions[:, 2].any()
    assert path.velocities[:, 0].min() > -1e-3


@pytest.mark.parametrize(
    ('way', 'lasts_s', 'velocity', 'acceleration', 'jerk'),
    [
        (2.0, 2.7, 1.0, 2.0, 10.0),  # ramp 0.2, hold 0.3, cruise 1.3
        (-2.0, 2.7, 1.0, 2.0, 10.0),
        (0.3, 1.0, 0.6, 2.0, 10.0),  # ramp 0.2, hold 0.1
        (0.02, 0.4, 0.1, 1.0, 10.0),  # ramp 0.1
    ],
)
def test_going_to_a_target_takes_the_seven_phases(way, lasts_s, velocity, acceleration, jerk):
    path = go_to(np.array([1.0]), 3.0, np.array([1.0 + way]), limits())
    assert path.end_s == pytest.approx(3.0 + lasts_s)
    assert path.positions[-1] == pytest.approx([1.0 + way])
    assert path.positions[0] == [1.0]
    assert path.greatest.velocity == pytest.approx([velocity])
    assert path.greatest.acceleration == pytest.approx([acceleration])
    assert path.greatest.jerk == pytest.approx([jerk])
    assert path.at(3.0 + lasts_s / 2).positions == pytest.approx([1.0 + way / 2])
    assert path.at_rest(path.end_s)
    assert_consistent(path)


def test_a_slow_velocity_limit_shortens_the_ramp():
    # ramp √(V / J) = 0.06 s, cruise 0.1 / 0.036 - 0.12 s, rounded up to whole knots
    path = go_to(np.zeros(1), 0.0, np.array([0.1]), limits(velocity=0.036))
    assert path.end_s == pytest.approx(4 * 0.06 + 2.66)
    assert 0.98 * 0.036 < path.greatest.velocity[0] <= 0.036


def test_a_line_keeps_all_coordinates_together():
    path = go_to(np.zeros(3), 0.0, np.array([1.0, -0.5, 0.0]), limits(n=3), 0.5)
    assert path.positions[:, 1] == pytest.approx(path.positions[:, 0] * -0.5)
    assert not path.positions[:, 2].any()
    assert path.greatest.velocity[0] <= 0.5 + 1e-9
    assert path.greatest.acceleration[0] <= 1.0 + 1e-9
    assert path.greatest.jerk[0] <= 5.0 + 1e-9


def test_the_tightest_coordinate_sets_the_pace():
    allowed = MotionLimits(
        np.array([1.0, 0.1]), np.ones(2), np.ones(2) * 10, np.full(2, -9.0), np.full(2, 9.0)
    )
    path = go_to(np.zeros(2), 0.0, np.array([1.0, 1.0]), allowed)
    assert path.greatest.velocity == pytest.approx([0.1, 0.1], rel=0.01)


def test_going_nowhere_stands():
    assert go_to(np.ones(2), 0.0, np.ones(2), limits(n=2)).knots == 1


@pytest.mark.parametrize('share', [0.0, 1.01, -0.5, float('nan')])
def test_a_share_of_the_limits_is_above_0_and_at_most_1(share):
    with pytest.raises(ValueError, match='share'):
        go_to(np.zeros(1), 0.0, np.ones(1), limits(), share)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'velocity': np.zeros(1)}, 'positive'),
        ({'jerk': np.array([-1.0])}, 'positive'),
        ({'acceleration': np.array([np.inf])}, 'finite'),
        ({'velocity': np.ones(2)}, 'one number per coordinate'),
        ({'low': np.ones(2)}, 'one number per coordinate'),
        ({'low': np.array([FAR + 1])}, 'low must not be above'),
        ({'high': np.array([np.nan])}, 'low must not be above'),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(change, words):
    fields = {
        'velocity': np.ones(1),
        'acceleration': np.ones(1),
        'jerk': np.ones(1),
        'low': np.zeros(1),
        'high': np.array([FAR]),
    }
    MotionLimits(**fields)
    with pytest.raises(ValueError, match=words):
        MotionLimits(**{**fields, **change})


def test_shares_of_limits_leave_positions():
    part = limits().shared(0.5, 0.25, 0.1)
    assert (part.velocity, part.acceleration, part.jerk) == (0.5, 0.5, 1.0)
    assert part.high == FAR


jerky = st.lists(st.floats(-1, 1), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    chunks=st.lists(st.tuples(jerky, st.floats(0.0, 1.0)), min_size=1, max_size=6),
    pace=st.floats(0.001, 0.2),
    step_s=st.floats(0.02, 0.12),
    jerk=st.floats(5, 500),
)
def test_paths_that_follow_one_another_stay_within_limits_and_can_always_stop(
    chunks, pace, step_s, jerk
):
    """Whatever waypoints come, and whenever: no limit passed, and a stop within the limits."""
    allowed = limits(jerk=jerk)
    path, now_s = None, 0.0
    for steps, share in chunks:
        start = rest(np.zeros(1)) if path is None else path.at(now_s)
        waypoints = start.positions + pace * np.cumsum(steps)[:, None]
        try:
            path = plan(start, now_s, waypoints, step_s, allowed)
        except PlanError:
            assert path is not None  # the path before is played on
        assert_within(path, allowed)
        assert path.at_rest(path.end_s)
        now_s += share * (path.end_s - now_s)
        state = path.at(now_s)
        stop = brake(state, now_s, allowed)
        assert_within(stop, allowed)
        assert_starts(stop, state, now_s)
