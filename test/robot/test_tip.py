import math

import numpy as np
import pytest

from worldvla_ros.robot.kinematics import DOWN, rotation_matrix, rotation_vector
from worldvla_ros.robot.path import State
from worldvla_ros.robot.tip import (
    SMALL,
    TipState,
    _factors,
    coordinates,
    pose_at,
    resting,
    tip_state,
)

ANCHOR = rotation_matrix(np.array([0.3, -0.8, 0.4])) @ DOWN
SIDE = 1e-5


def turning(turn, rate, gain):
    """Return the state of the coordinates at a time; the rotation vector is quadratic in it."""

    def at(t):
        still = np.arange(3.0)
        return State(
            np.concatenate([still, turn + rate * t + gain * t**2 / 2]),
            np.concatenate([still + 1, rate + gain * t]),
            np.concatenate([still + 2, gain]),
        )

    return at


@pytest.mark.parametrize('angle', [0.0, 1e-3, SMALL * 0.99, SMALL * 1.01, 0.5, 2.0, 3.1, 4.5])
def test_angular_velocity_and_acceleration_are_the_rates_of_the_orientation(angle):
    generator = np.random.default_rng(3)
    axis, rate, gain = generator.normal(size=(3, 3))
    at = turning(axis / np.linalg.norm(axis) * angle, rate, gain)
    before, now, after = (tip_state(at(t), ANCHOR) for t in (-SIDE, 0.0, SIDE))
    turned = rotation_vector(after.pose[:3, :3] @ before.pose[:3, :3].T)
    assert now.angular == pytest.approx(turned / (2 * SIDE), abs=1e-8)
    rate_of_change = (after.angular - before.angular) / (2 * SIDE)
    assert now.angular_acceleration == pytest.approx(rate_of_change, abs=1e-8)


def test_the_tip_never_turns_faster_than_its_rotation_vector():
    generator = np.random.default_rng(4)
    for turn, rate in generator.normal(size=(200, 2, 3)) * 2:
        state = tip_state(turning(turn, rate, np.zeros(3))(0.0), ANCHOR)
        assert np.linalg.norm(state.angular) <= np.linalg.norm(rate) + 1e-12


def test_position_and_linear_motion_are_the_first_three():
    state = tip_state(turning(np.ones(3), np.ones(3), np.ones(3))(0.0), ANCHOR)
    assert state.pose[:3, 3].tolist() == [0.0, 1.0, 2.0]
    assert state.linear.tolist() == [1.0, 2.0, 3.0]
    assert state.linear_acceleration.tolist() == [2.0, 3.0, 4.0]
    assert state.pose[3].tolist() == [0.0, 0.0, 0.0, 1.0]


def test_anchoring_anew_keeps_the_tip_and_all_its_motion():
    turn, rate, gain = np.array([[0.4, -0.2, 0.9], [0.5, 0.1, -0.7], [1.0, -2.0, 0.3]])
    before = tip_state(turning(turn, rate, gain)(0.0), ANCHOR)
    after = tip_state(before.coordinates(), before.pose[:3, :3])
    for name in ('pose', 'linear', 'angular', 'linear_acceleration', 'angular_acceleration'):
        assert getattr(after, name) == pytest.approx(getattr(before, name), abs=1e-12)


@pytest.mark.parametrize('angle', [0.01, SMALL * 0.999])
def test_series_are_the_quotients_that_they_stand_for(angle):
    sine, cosine = math.sin(angle), math.cos(angle)
    b, c, b_rate, c_rate = _factors(angle, 2.0)
    assert b == pytest.approx((1 - cosine) / angle**2, rel=1e-11, abs=0)
    assert c == pytest.approx((angle - sine) / angle**3, rel=1e-10, abs=0)
    slope = (angle * sine - 2 * (1 - cosine)) / angle**4
    assert b_rate == pytest.approx(2 * slope, rel=1e-7, abs=0)
    slope = (3 * sine - angle * cosine - 2 * angle) / angle**5
    assert c_rate == pytest.approx(2 * slope, rel=1e-5, abs=0)


@pytest.mark.parametrize('turn', [np.zeros(3), np.array([1e-9, 0, 0]), np.array([0.5, -2.0, 1.0])])
def test_a_pose_is_the_rotation_vector_before_the_anchor(turn):
    pose = pose_at(np.concatenate([[0.1, 0.2, 0.3], turn]), ANCHOR)
    assert pose[:3, :3] == pytest.approx(rotation_matrix(turn) @ ANCHOR, abs=1e-9)
    assert pose[:3, 3].tolist() == [0.1, 0.2, 0.3]


def test_coordinates_of_poses_are_what_they_were_made_of():
    rows = np.array([[0.1, 0.2, 0.3, 0.0, 0.0, 0.0], [0.4, 0.5, 0.6, 0.3, -0.7, 1.2]])
    poses = np.stack([pose_at(row, ANCHOR) for row in rows])
    assert coordinates(poses, ANCHOR) == pytest.approx(rows)
    assert coordinates(poses[:0], ANCHOR).shape == (0, 6)


@pytest.mark.parametrize('direction', [1.0, -1.0])
def test_a_tip_that_turns_on_past_half_a_turn_does_not_jump(direction):
    axis = np.array([0.0, 0.6, 0.8]) * direction
    rows = np.array([[0.0, 0.0, 0.0, *(axis * angle)] for angle in np.arange(0.5, 6.0, 0.5)])
    poses = np.stack([pose_at(row, ANCHOR) for row in rows])
    assert coordinates(poses, ANCHOR) == pytest.approx(rows)


def test_a_resting_tip_has_no_motion():
    state = resting(pose_at(np.arange(6.0), ANCHOR))
    assert isinstance(state, TipState)
    assert not np.concatenate([state.linear, state.angular]).any()
    assert state.coordinates().at_rest
    assert state.coordinates().positions.tolist() == [0.0, 1.0, 2.0, 0.0, 0.0, 0.0]
