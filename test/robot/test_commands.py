"""Commands of each kind out of setpoints and paths: numbers, ends, and what is refused."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from worldvla_ros.robot import commands
from worldvla_ros.robot.commands import (
    FIRST_POINT_S,
    LEAST_S,
    TwistCommand,
    gripper_width,
    pose_command,
    position_command,
    shortened,
    trajectory_command,
    unitless,
)
from worldvla_ros.robot.description import load_robot


@dataclass
class Knots:
    start_s: float
    step_s: float
    positions: np.ndarray
    velocities: np.ndarray
    accelerations: np.ndarray


@dataclass
class Tip:
    pose: np.ndarray


@dataclass
class Setpoint:
    tip: Tip | None = None
    joints: Knots | None = None
    width: float = 0.03


def path(start_s=10.0, step_s=0.1, count=5, end_speed=0.0):
    """A path of two joints with knots 0, 1, 2, … that are easily told apart."""
    knots = np.arange(count, dtype=float)
    velocities = np.stack([knots + 100, knots + 200], axis=1)
    velocities[-1] = end_speed
    return Knots(
        start_s, step_s, np.stack([knots, -knots], axis=1), velocities,
        np.stack([knots + 1000, knots + 2000], axis=1),
    )  # fmt: skip


def test_the_rest_of_a_path_is_timed_from_now():
    told = trajectory_command(path(), 10.15, 0.05)
    assert told.start_s == 10.15
    np.testing.assert_allclose(told.times_s[:3], [0.05, 0.15, 0.25])
    np.testing.assert_array_equal(told.positions[:3], [[2, -2], [3, -3], [4, -4]])
    np.testing.assert_array_equal(told.velocities[:3], [[102, 202], [103, 203], [0, 0]])
    np.testing.assert_array_equal(told.accelerations[:3], [[1002, 2002], [1003, 2003], [0, 0]])
    assert told.width == 0.05


def test_a_path_that_has_not_begun_is_told_from_its_first_knot():
    told = trajectory_command(path(), 9.0, 0.0)
    np.testing.assert_allclose(told.times_s, [1.0, 1.1, 1.2, 1.3, 1.4])


def test_a_knot_that_may_pass_on_the_way_is_left_out():
    assert FIRST_POINT_S == 0.02
    assert trajectory_command(path(), 10.079, 0.0).times_s[0] == pytest.approx(0.021)
    assert trajectory_command(path(), 10.081, 0.0).times_s[0] == pytest.approx(0.119)
    told = trajectory_command(path(), 10.095, 0.0, first_s=0.0)
    assert told.times_s[0] == pytest.approx(0.005)


def test_the_end_is_told_however_near_and_nothing_after_it():
    told = trajectory_command(path(), 10.39, 0.0)
    assert told.times_s[0] == pytest.approx(0.01)
    np.testing.assert_array_equal(told.positions[0], [4, -4])
    assert trajectory_command(path(), 10.4, 0.0) is None
    assert trajectory_command(path(), 11.0, 0.0) is None


@pytest.mark.parametrize('now_s', [10.0, 10.3, 10.39])
def test_a_short_one_rests_at_its_end_so_that_it_is_not_over_when_it_arrives(now_s):
    told = trajectory_command(path(), now_s, 0.0)
    assert told.times_s[-1] == LEAST_S
    np.testing.assert_array_equal(told.positions[-2:], [[4, -4], [4, -4]])
    assert not told.velocities[-2:].any()
    assert not told.accelerations[-2:].any()


def test_a_long_one_ends_with_its_path():
    told = trajectory_command(path(count=9), 10.0, 0.0)
    assert told.times_s[-1] == pytest.approx(0.8)
    assert len(told.positions) == 8


def test_positions_only_leaves_the_rest_out():
    told = trajectory_command(path(), 10.0, 0.0, positions_only=True)
    assert told.velocities is None
    assert told.accelerations is None
    assert len(told.positions) == 5


def test_an_end_in_motion_is_refused_and_rounding_is_removed():
    with pytest.raises(ValueError, match='must end at rest'):
        trajectory_command(path(end_speed=2e-5), 10.0, 0.0)
    told = trajectory_command(path(end_speed=9e-6), 10.0, 0.0)
    np.testing.assert_array_equal(told.velocities[-1], [0.0, 0.0])


def test_the_path_stays_as_it_was():
    made = path()
    trajectory_command(made, 10.0, 0.0)
    np.testing.assert_array_equal(made.accelerations[-1], [1004, 2004])


def test_pose_and_position_are_those_of_the_setpoint():
    pose = np.arange(16.0).reshape(4, 4)
    told = pose_command(Setpoint(tip=Tip(pose)))
    np.testing.assert_array_equal(told.pose, pose)
    assert told.width == 0.03
    told = position_command(Setpoint(joints=path()))
    np.testing.assert_array_equal(told.positions, path().positions)
    assert told.width == 0.03
    with pytest.raises(ValueError, match='no joint positions'):
        position_command(Setpoint(tip=Tip(pose)))


def test_unitless_twists_are_shares_of_the_scales():
    told = unitless(TwistCommand(np.array([0.1, 0, 0]), np.array([0, 0.4, 0]), 0.05), 0.4, 0.8)
    np.testing.assert_allclose(told.linear, [0.25, 0, 0])
    np.testing.assert_allclose(told.angular, [0, 0.5, 0])
    assert told.width == 0.05


def test_what_servo_would_cut_is_cut_in_its_direction():
    told = unitless(TwistCommand(np.array([0.6, 0.8, 0]), np.array([0, 0, -8.0]), 0.0), 0.5, 0.8)
    np.testing.assert_allclose(told.linear, [0.6, 0.8, 0])
    np.testing.assert_allclose(told.angular, [0, 0, -1])


def test_shortening_keeps_short_vectors_and_directions():
    np.testing.assert_array_equal(shortened(np.array([0.3, 0.4, 0]), 0.5), [0.3, 0.4, 0])
    np.testing.assert_allclose(shortened(np.array([0.0, 3.0, 4.0]), 0.5), [0, 0.3, 0.4])
    np.testing.assert_array_equal(shortened(np.zeros(3), 0.0), np.zeros(3))


def test_rest_is_slower_than_any_controller_minds():
    assert commands.AT_REST == 1e-5


@pytest.mark.parametrize(('value', 'width'), [(1.0, 0.0), (0.1, 0.0), (0.0, 0.08), (-1.0, 0.08)])
def test_the_gripper_closes_above_its_threshold_and_opens_below(value, width):
    assert gripper_width(load_robot('sim_panda'), value) == width


@pytest.mark.parametrize(('value', 'width'), [(1.0, 0.08), (0.5, 0.08), (0.49, 0.0), (0.0, 0.0)])
def test_where_a_gripper_action_is_an_opening_it_closes_below(value, width):
    robot = load_robot('sim_panda')
    robot = replace(robot, gripper=replace(robot.gripper, close_above=None, close_below=0.5))
    assert gripper_width(robot, value) == width


def test_without_a_threshold_it_closes_above_0():
    robot = load_robot('sim_panda')
    robot = replace(robot, gripper=replace(robot.gripper, close_above=None))
    assert gripper_width(robot, 0.01) == 0.0
    assert gripper_width(robot, 0.0) == 0.08
