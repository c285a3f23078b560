"""Twists and joint velocities that keep to a path: corrections, lag, and limits that hold."""

from dataclasses import dataclass

import numpy as np
import pytest

from worldvla_ros.robot.gate import LATEST_S
from worldvla_ros.robot.kinematics import rotation_matrix
from worldvla_ros.robot.tracking import (
    CORRECTION_SHARE,
    LONGEST_PERIOD_S,
    TwistTracker,
    VelocityTracker,
)

STEP = 0.01


@dataclass
class Joints:
    positions: np.ndarray
    velocities: np.ndarray
    accelerations: np.ndarray | None = None


@dataclass
class Tip:
    pose: np.ndarray
    linear: np.ndarray
    angular: np.ndarray


@dataclass
class Setpoint:
    tip: Tip | None = None
    joints: Joints | None = None
    width: float = 0.08


def pose(position, turn=(0.0, 0.0, 0.0)):
    made = np.eye(4)
    made[:3, 3], made[:3, :3] = position, rotation_matrix(np.array(turn, float))
    return made


def at(position, linear=(0, 0, 0), turn=(0, 0, 0), angular=(0, 0, 0), width=0.08):
    tip = Tip(pose(position, turn), np.array(linear, float), np.array(angular, float))
    return Setpoint(tip=tip, width=width)


def tracker(**given):
    limits = {'linear_speed': 0.25, 'angular_speed': 0.8, 'linear_acceleration': 1e9}
    return TwistTracker(**(limits | {'angular_acceleration': 1e9} | given))


def test_an_arm_on_its_path_is_told_the_speed_of_the_path():
    made = tracker()
    made.command(at([0, 0, 0]), pose([0, 0, 0]), 0.0, 0.0)
    told = made.command(at([0, 0, 0], [0.1, -0.2, 0], angular=[0, 0, 0.5]), np.eye(4), 0.0, STEP)
    np.testing.assert_allclose(told.linear, [0.1, -0.2, 0])
    np.testing.assert_allclose(told.angular, [0, 0, 0.5])
    assert told.width == 0.08


def test_a_deviation_is_made_up_for_by_its_gain():
    made = tracker(gain=2.0, lag_s=0.0)
    made.command(at([0, 0, 0]), np.eye(4), 0.0, 0.0)
    told = made.command(at([0, 0, 0]), pose([0.01, 0, 0], [0, 0.02, 0]), STEP, STEP)
    np.testing.assert_allclose(told.linear, [-0.02, 0, 0], atol=1e-12)
    np.testing.assert_allclose(told.angular, [0, -0.04, 0], atol=1e-12)


def test_no_gain_is_the_speed_of_the_path_alone():
    made = tracker(gain=0.0)
    made.command(at([0, 0, 0]), np.eye(4), 0.0, 0.0)
    told = made.command(at([0, 0, 0], [0.1, 0, 0]), pose([1, 1, 1]), STEP, STEP)
    np.testing.assert_allclose(told.linear, [0.1, 0, 0])


@pytest.mark.parametrize('away', [0.1, 10.0])
def test_a_large_deviation_is_made_up_for_slowly(away):
    made = tracker()
    made.command(at([0, 0, 0]), np.eye(4), 0.0, 0.0)
    told = made.command(at([0, 0, 0]), pose([away, 0, 0]), STEP, STEP)
    np.testing.assert_allclose(told.linear, [-CORRECTION_SHARE * 0.25, 0, 0])


def follow(made, seconds, lag_s, speed=0.2, drift=0.0):
    """Follow a line and stop, by an arm that does everything `lag_s` later; return its places."""
    delay = round(lag_s / STEP)
    told, place, places = [0.0] * delay, 0.0, []
    for i in range(round(seconds / STEP) + 100):
        now = i * STEP
        goal = min(now, seconds) * speed
        moving = speed if now < seconds else 0.0
        command = made.command(at([goal, 0, 0], [moving, 0, 0]), pose([place, 0, 0]), now, now)
        told.append(float(command.linear[0]))
        place += (told[i] + drift) * STEP
        places.append(place)
    return np.array(places)


def test_an_arm_that_lags_as_expected_is_not_hurried_past_its_goal():
    places = follow(tracker(lag_s=0.1), 2.0, 0.1)
    assert places.max() < 0.4 + 0.004
    assert places[-1] == pytest.approx(0.4, abs=0.003)


def test_without_the_lag_it_would_be():
    assert follow(tracker(lag_s=0.0), 2.0, 0.1).max() > 0.4 + 0.008


def test_drift_is_made_up_for():
    assert abs(follow(tracker(gain=0.0), 3.0, 0.0, drift=0.01)[-1] - 0.6) > 0.03
    assert abs(follow(tracker(gain=1.5, lag_s=0), 3.0, 0.0, drift=0.01)[-1] - 0.6) < 0.008


def test_the_first_command_after_a_reset_stands_still():
    made = tracker()
    for i in range(3):
        made.command(at([0, 0, 0], [0.2, 0, 0]), np.eye(4), i * STEP, i * STEP)
    made.reset()
    told = made.command(at([0, 0, 0], [0.2, 0, 0]), np.eye(4), 9.0, 9.0)
    np.testing.assert_array_equal(told.linear, np.zeros(3))


@pytest.mark.parametrize('seed', range(5))
def test_twists_keep_to_all_limits_whatever_is_measured(seed):
    rng = np.random.default_rng(seed)
    made = tracker(linear_acceleration=2.0, angular_acceleration=5.0)
    last, now, before = (np.zeros(3), np.zeros(3)), 0.0, None
    for _ in range(200):
        direction, turning = rng.normal(size=(2, 3))
        path = at(
            rng.normal(size=3), direction / np.linalg.norm(direction) * rng.uniform(0, 0.25),
            rng.normal(size=3), turning / np.linalg.norm(turning) * rng.uniform(0, 0.8),
        )  # fmt: skip
        measured = pose(rng.normal(size=3) * 10, rng.normal(size=3))
        told = made.command(path, measured, now - rng.uniform(0, 0.3), now)
        period = 0.0 if before is None else min(now - before, LONGEST_PERIOD_S)
        assert np.linalg.norm(told.linear) <= 0.25 + 1e-9
        assert np.linalg.norm(told.angular) <= 0.8 + 1e-9
        assert np.linalg.norm(told.linear - last[0]) <= 2.0 * period + 1e-9
        assert np.linalg.norm(told.angular - last[1]) <= 5.0 * period + 1e-9
        last, before = (told.linear, told.angular), now
        now += rng.choice([0.0, 0.002, 0.01, 0.05, 1.0])


def test_a_clock_that_is_set_back_allows_no_change():
    made = tracker(linear_acceleration=1.0)
    made.command(at([0, 0, 0]), np.eye(4), 5.0, 5.0)
    told = made.command(at([0, 0, 0], [0.2, 0, 0]), np.eye(4), 4.0, 4.0)
    np.testing.assert_array_equal(told.linear, np.zeros(3))


def joints(positions, velocities):
    return Setpoint(joints=Joints(np.array(positions, float), np.array(velocities, float)))


def test_joints_on_their_path_are_told_its_velocities():
    made = VelocityTracker([1.0, 2.0], [1e9, 1e9])
    made.command(joints([0, 0], [0, 0]), np.zeros(2), 0.0, 0.0)
    told = made.command(joints([0, 0], [0.5, -1.5]), np.zeros(2), STEP, STEP)
    np.testing.assert_allclose(told.velocities, [0.5, -1.5])
    assert told.width == 0.08


def test_each_joint_is_corrected_for_itself():
    made = VelocityTracker([1.0, 2.0], [1e9, 1e9], gain=2.0, lag_s=0.0)
    made.command(joints([0, 0], [0, 0]), np.zeros(2), 0.0, 0.0)
    told = made.command(joints([0, 0], [0, 0]), np.array([0.01, -9.0]), STEP, STEP)
    np.testing.assert_allclose(told.velocities, [-0.02, CORRECTION_SHARE * 2.0])


@pytest.mark.parametrize('seed', range(5))
def test_joint_velocities_keep_to_all_limits_whatever_is_measured(seed):
    rng = np.random.default_rng(seed)
    most, change = np.array([1.0, 2.0, 3.0]), np.array([4.0, 3.0, 9.0])
    made, last, now, before = VelocityTracker(most, change), np.zeros(3), 0.0, None
    for _ in range(200):
        path = joints(rng.normal(size=3), rng.uniform(-1, 1, 3) * most)
        told = made.command(path, rng.normal(size=3) * 10, now - 0.1, now)
        period = 0.0 if before is None else min(now - before, LONGEST_PERIOD_S)
        assert (np.abs(told.velocities) <= most + 1e-9).all()
        assert (np.abs(told.velocities - last) <= change * period + 1e-9).all()
        last, before = told.velocities, now
        now += rng.choice([0.0, 0.002, 0.01, 1.0])


def test_a_path_of_the_tip_has_no_joint_velocities():
    with pytest.raises(ValueError, match='no joint velocities'):
        VelocityTracker([1.0], [1.0]).command(at([0, 0, 0]), np.zeros(1), 0.0, 0.0)


def test_what_was_told_is_not_changed_afterwards():
    made = VelocityTracker([1.0], [1e9])
    made.command(joints([0], [0]), np.zeros(1), 0.0, 0.0)
    first = made.command(joints([0], [0.5]), np.zeros(1), STEP, STEP)
    made.command(joints([0], [0.9]), np.zeros(1), 2 * STEP, 2 * STEP)
    np.testing.assert_allclose(first.velocities, [0.5])


def test_the_longest_gap_that_counts_is_the_gates():
    assert LONGEST_PERIOD_S == LATEST_S


@pytest.mark.parametrize(('given', 'most'), [({}, LONGEST_PERIOD_S), ({'longest_s': 0.3}, 0.3)])
def test_a_gap_allows_no_larger_change_than_the_longest_period(given, most):
    made = tracker(linear_acceleration=0.5, **given)
    made.command(at([0, 0, 0]), np.eye(4), 0.0, 0.0)
    told = made.command(at([0, 0, 0], [0.25, 0, 0]), np.eye(4), 0.0, 9.0)
    assert told.linear[0] == pytest.approx(0.5 * most)
    made = VelocityTracker([1.0], [0.5], **given)
    made.command(joints([0], [0]), np.zeros(1), 0.0, 0.0)
    told = made.command(joints([0], [1.0]), np.zeros(1), 0.0, 9.0)
    assert told.velocities[0] == pytest.approx(0.5 * most)
