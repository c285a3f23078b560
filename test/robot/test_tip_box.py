"""Boxes within the limits of the tip: what each coordinate may do."""

from fake_arm import GAIN, SPEED, FakeArm
import numpy as np
import pytest

from worldvla_ros.robot.path import State
from worldvla_ros.robot.places import Place
from worldvla_ros.robot.planner import NEARLY, PlanError, plan
from worldvla_ros.robot.tip_space import TipSpace

TOWARDS = np.array([0.1, 0.02, 0.3, 0, 0, 0])


def limits(velocities=(0, 0, 0), accelerations=(0, 0, 0), wanted=TOWARDS):
    here = np.array([0.5, 0.0, 0.2, 0, 0, 0])
    more = np.zeros(3)
    state = State(here, np.append(velocities, more), np.append(accelerations, more))
    return TipSpace(FakeArm()).limits(wanted, Place(state, np.eye(3)), 1.0)


@pytest.mark.parametrize('axis', [0, 1, 2])
@pytest.mark.parametrize('part', [0.0, 0.5, 0.9, 0.97, 1.0])
def test_boxes_lie_within_the_limits_and_hold_the_start(axis, part):
    start = np.zeros(3)
    start[axis] = 1.0
    found = limits(start * part * SPEED * 0.97, start * part * GAIN * 0.97)
    assert np.linalg.norm(found.velocity[:3]) <= SPEED * 1.001
    assert np.linalg.norm(found.acceleration[:3]) <= GAIN * 1.001
    assert found.velocity[axis] >= part * SPEED * 0.97
    assert found.acceleration[axis] >= part * GAIN * 0.97


def test_a_start_that_used_its_box_up_leaves_the_others_theirs_border_after_border():
    gain, straight = 0.0, np.array([0, 0, 0.3, 0, 0, 0])
    for _ in range(20):
        found = limits(accelerations=(0, 0, gain), wanted=straight)
        assert found.acceleration[:2].min() > 0.1 * GAIN
        gain = NEARLY[1] * found.acceleration[2]


def test_a_fast_coordinate_leaves_the_others_what_their_line_asks_for():
    """0.38 m/s along z is more than the line's 0.3, and less than the limit."""
    found = limits(velocities=(0, 0, 0.36), wanted=np.array([0.1, 0, 0.1, 0, 0, 0]))
    assert found.velocity[0] >= 0.1


def test_a_path_whose_stop_would_take_for_ever_is_not_planned():
    found = limits()
    low = found.acceleration.copy()
    low[0] = 1e-5
    crawling = type(found)(found.velocity, low, found.jerk, found.low, found.high)
    start = State(np.array([0.5, 0, 0.2, 0, 0, 0]), np.zeros(6), np.zeros(6))
    with pytest.raises(PlanError, match='cannot be planned'):
        plan(start, 0.0, start.positions + np.outer(np.arange(1, 9), TOWARDS / 20), 0.05, crawling)
