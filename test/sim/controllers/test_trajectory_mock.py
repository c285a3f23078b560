"""The mock of joint_trajectory_controller: what it drops, and what it makes of points."""

import numpy as np
import pytest

from worldvla_ros.sim.controllers.parts import Point, Trajectory
from worldvla_ros.sim.controllers.trajectory import JointTrajectoryMock

NAMES = ('a', 'b')
NOW = 100.0


def mock(**given):
    return JointTrajectoryMock(NAMES, np.array([0.0, 1.0]), **given)


def point(time_s, positions=(1.0, 2.0), velocities=(), accelerations=()):
    return Point(time_s, *(np.array(v, float) for v in (positions, velocities, accelerations)))


def message(*points, names=NAMES, stamp_s=0.0):
    return Trajectory(tuple(names), points, stamp_s)


def ramp(start, end, share, order):
    """Return what a textbook polynomial between two rests gives at a share of the way."""
    s = share
    if order == 'linear':
        return start + (end - start) * s
    if order == 'cubic':
        return start + (end - start) * (3 * s**2 - 2 * s**3)
    return start + (end - start) * (10 * s**3 - 15 * s**4 + 6 * s**5)


@pytest.mark.parametrize(
    ('wrong', 'reason'),
    [
        (message(), 'no points'),
        (message(point(1), names=()), 'joints missing'),
        (message(point(1, [1.0]), names=('a',)), 'joints missing'),
        (message(point(1), names=('a', 'c')), 'unknown joint'),
        (message(point(1), names=('a', 'a')), 'unknown joint'),
        (message(point(2), point(2)), 'times out of order'),
        (message(point(2), point(1)), 'times out of order'),
        (message(point(-1), point(1)), 'times out of order'),
        (message(point(1, [1.0])), 'wrong number of values'),
        (message(point(1, [])), 'wrong number of values'),
        (message(point(1, velocities=[0.0])), 'wrong number of values'),
        (message(point(1, accelerations=[0.0])), 'wrong number of values'),
        (message(point(1, [1.0, np.nan])), 'not finite'),
        (message(point(1, velocities=[0.0, 1e-6])), 'velocity at the end'),
        (message(point(1), stamp_s=NOW - 1.001), 'ends in the past'),
    ],
)
def test_the_whole_message_is_dropped_in_silence(wrong, reason):
    made = mock()
    assert made.accept(message(point(1, (5.0, 5.0))), NOW)
    assert not made.accept(wrong, NOW)
    assert made.drops.reasons == {reason: 1}
    np.testing.assert_array_equal(made.sample(NOW + 2).positions, [5, 5])


def test_joints_may_come_in_any_order():
    made = mock()
    assert made.accept(message(point(1, (7.0, 9.0)), names=('b', 'a')), NOW)
    np.testing.assert_array_equal(made.sample(NOW + 1).positions, [9, 7])


def test_some_joints_are_enough_where_that_is_allowed():
    made = mock(partial=True)
    assert made.accept(message(point(1, [9.0]), names=('a',)), NOW)
    np.testing.assert_array_equal(made.sample(NOW + 1).positions, [9, 1])


def test_motion_at_the_end_is_taken_where_that_is_allowed():
    assert mock(nonzero_end_velocity=True).accept(message(point(1, velocities=[1, 1])), NOW)


@pytest.mark.parametrize('share', [0.0, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(
    ('order', 'velocities', 'accelerations'),
    [
        ('linear', (), ()),
        ('cubic', (0, 0), ()),
        ('quintic', (0, 0), (0, 0)),
        ('linear', (), (0, 0)),
    ],
)
def test_points_are_joined_by_what_their_derivatives_allow(
    order, velocities, accelerations, share
):
    made = mock()
    made.accept(message(point(2, (1.0, 3.0), velocities, accelerations)), NOW)
    found = made.sample(NOW + 2 * share).positions
    np.testing.assert_allclose(found, [ramp(0, 1, share, order), ramp(1, 3, share, order)])


def test_derivatives_are_those_of_the_polynomial():
    made = mock()
    points = [
        point(1, (0.1, 1.2), (0.3, -0.1), (1.0, 2.0)),
        point(1.5, (0.3, 1.0), (0.1, 0.2), (-1.0, 0.5)),
        point(2, (0.3, 1.0), (0, 0), (0, 0)),
    ]
    made.accept(message(*points), NOW)
    for one in points:
        found = made.sample(NOW + one.time_s)
        np.testing.assert_allclose(found.positions, one.positions, atol=1e-9)
        np.testing.assert_allclose(found.velocities, one.velocities, atol=1e-9)
        np.testing.assert_allclose(found.accelerations, one.accelerations, atol=1e-9)
    h = 1e-5
    for time_s in (0.4, 1.2, 1.7):
        before, at, after = (made.sample(NOW + time_s + d) for d in (-h, 0, h))
        slope = (after.positions - before.positions) / (2 * h)
        bend = (after.velocities - before.velocities) / (2 * h)
        np.testing.assert_allclose(at.velocities, slope, atol=1e-6)
        np.testing.assert_allclose(at.accelerations, bend, atol=1e-5)


def test_a_stamp_of_zero_starts_on_arrival_and_another_one_then():
    made = mock()
    made.accept(message(point(1)), NOW)
    assert made.end_s == NOW + 1
    made.accept(message(point(1), stamp_s=NOW + 5), NOW)
    assert made.end_s == NOW + 6
    np.testing.assert_allclose(made.sample(NOW + 3).positions, [0.5, 1.5])


def test_a_new_message_starts_from_where_the_joints_should_be():
    made = mock()
    made.accept(message(point(1, (1.0, 1.0), (0, 0), (0, 0))), NOW)
    before = made.sample(NOW + 0.4)
    assert before.velocities[0] > 1
    made.accept(message(point(1, (0.0, 1.0), (0, 0), (0, 0))), NOW + 0.4)
    after = made.sample(NOW + 0.4)
    for one, other in zip(vars(before).values(), vars(after).values(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_a_point_that_passed_on_the_way_is_a_step():
    """What `commands.FIRST_POINT_S` is for."""
    made = mock()
    points = [point(0.0, (0.5, 1.0), (1, 0), (0, 0)), point(1, (1.5, 1.0), (0, 0), (0, 0))]
    made.accept(message(*points, stamp_s=NOW - 0.1), NOW)
    assert made.sample(NOW).positions[0] > 0.5


def test_points_without_velocities_are_steps_of_velocity():
    made = mock()
    made.accept(message(point(1, (1.0, 1.0)), point(2, (0.0, 1.0))), NOW)
    assert made.sample(NOW + 0.999).velocities[0] == pytest.approx(1)
    assert made.sample(NOW + 1.001).velocities[0] == pytest.approx(-1)


def test_at_its_end_it_stays_and_holds_after_its_time_out():
    made = mock(cmd_timeout_s=0.5)
    made.accept(message(point(1)), NOW)
    np.testing.assert_array_equal(made.sample(NOW + 1.4).positions, [1, 2])
    assert made.held == ''
    made.sample(NOW + 1.6)
    assert made.held == 'cmd_timeout'
    np.testing.assert_array_equal(made.sample(NOW + 9).positions, [1, 2])


def test_an_arm_that_is_too_far_off_is_held_where_it_is():
    made = mock(tolerance=0.2)
    made.accept(message(point(1)), NOW)
    made.sample(NOW + 0.5, np.array([0.4, 1.5]))
    assert made.held == ''
    found = made.sample(NOW + 0.6, np.array([0.3, 1.5]))
    assert made.held == 'tolerance'
    np.testing.assert_array_equal(found.positions, [0.3, 1.5])
    np.testing.assert_array_equal(made.sample(NOW + 1).positions, [0.3, 1.5])
    assert made.accept(message(point(1)), NOW + 2)
    assert made.held == ''


def test_upsampling_makes_a_spline_that_rests_at_both_ends():
    made = mock(upsampling=True)
    places = [(0.2, 1.1), (0.5, 1.0), (0.9, 1.4), (1.0, 1.5)]
    made.accept(message(*(point(0.1 * (i + 1), p) for i, p in enumerate(places))), NOW)
    for i, place in enumerate(places):
        np.testing.assert_allclose(made.sample(NOW + 0.1 * (i + 1)).positions, place, atol=1e-9)
    np.testing.assert_allclose(made.sample(NOW).velocities, 0, atol=1e-9)
    np.testing.assert_allclose(made.sample(NOW + 0.4 - 1e-9).velocities, 0, atol=1e-6)
    for time_s in (0.1, 0.2, 0.3):
        before, after = made.sample(NOW + time_s - 1e-7), made.sample(NOW + time_s + 1e-7)
        np.testing.assert_allclose(before.velocities, after.velocities, atol=1e-4)
        np.testing.assert_allclose(before.accelerations, after.accelerations, atol=1e-2)


def test_upsampling_stops_an_arm_in_motion_at_the_next_message():
    made = mock(upsampling=True)
    made.accept(message(point(1, (1.0, 1.0)), point(2, (2.0, 1.0))), NOW)
    assert made.sample(NOW + 1).velocities[0] > 0.5
    made.accept(message(point(1, (2.0, 1.0))), NOW + 1)
    assert made.sample(NOW + 1).velocities[0] == pytest.approx(0)


def test_upsampling_gives_times_to_points_without():
    made = mock(upsampling=True, policy_frequency=10.0)
    assert made.accept(message(point(0, (1.0, 1.0)), point(0, (2.0, 1.0))), NOW)
    assert made.end_s == pytest.approx(NOW + 0.2)
    assert not mock().accept(message(point(0), point(0)), NOW)


def test_upsampling_leaves_points_with_velocities_alone():
    made = mock(upsampling=True)
    made.accept(message(point(1, (1.0, 1.0), (0.5, 0)), point(2, (1, 1), (0, 0))), NOW)
    assert made.sample(NOW + 1).velocities[0] == pytest.approx(0.5)
