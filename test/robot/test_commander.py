"""Which command a kind of controller gets, and how fast the tip may be told to go."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from worldvla_ros.errors import ConfigError
from worldvla_ros.robot.commander import JOINT_KINDS, KINDS, Commander, tip_speeds
from worldvla_ros.robot.commands import (
    PoseCommand,
    PositionCommand,
    TwistCommand,
    VelocityCommand,
)
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.path import Path, State

ROBOT = load_robot('panda_servo')
VELOCITY = np.full(7, 2.0)


@dataclass
class Tip:
    pose: np.ndarray
    linear: np.ndarray
    angular: np.ndarray


@dataclass
class Setpoint:
    joints: State
    tip: Tip
    width: float = 0.04


def setpoint(speed=0.1):
    still = np.zeros(7)
    tip = Tip(np.eye(4), np.array([speed, 0, 0]), np.zeros(3))
    return Setpoint(State(still + 0.5, still + speed, still), tip)


def told(commander, times=(0.0, 0.01), **given):
    for now_s in times:
        command = commander.command(setpoint(**given), np.eye(4), np.full(7, 0.5), now_s, now_s)
    return command


@pytest.mark.parametrize(
    ('kind', 'command'),
    [('twist', TwistCommand), ('pose', PoseCommand), ('position', PositionCommand),
     ('velocity', VelocityCommand)],
)  # fmt: skip
def test_each_kind_gets_its_command(kind, command):
    made = told(Commander(ROBOT, VELOCITY, kind))
    assert type(made) is command
    assert made.width == 0.04


def test_a_trajectory_controller_is_told_paths_only():
    assert told(Commander(ROBOT, VELOCITY, 'trajectory')) is None


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match='one of twist, pose, trajectory'):
        Commander(ROBOT, VELOCITY, 'smoke')
    assert set(JOINT_KINDS) | {'twist', 'pose'} == set(KINDS)


@pytest.mark.parametrize(('only', 'velocities'), [(True, None), (False, np.zeros((1, 7)))])
def test_paths_are_told_as_the_description_says(only, velocities):
    robot = replace(ROBOT, controller=replace(ROBOT.controller, positions_only=only))
    still = np.zeros((2, 7))
    path = Path(10.0, 0.7, still + 1, still, still)
    made = Commander(robot, VELOCITY, 'trajectory').trajectory(path, 10.1, 0.02)
    assert made.times_s == pytest.approx([0.6])
    np.testing.assert_array_equal(made.velocities, velocities)
    assert Commander(robot, VELOCITY, 'trajectory').trajectory(path, 10.8, 0.02) is None


def test_twists_change_no_faster_than_the_limits_allow():
    limits = ROBOT.limits
    made = told(Commander(ROBOT, VELOCITY, 'twist'), times=(0.0, 0.001), speed=0.2)
    assert made.linear[0] == pytest.approx(min(0.2, limits.linear_acceleration * 0.001))


def test_joint_velocities_keep_to_the_tightest_limits():
    commander = Commander(ROBOT, np.full(7, 0.05), 'velocity')
    made = told(commander, times=(0.0, 0.05, 0.1), speed=1.0)
    np.testing.assert_allclose(made.velocities, 0.05)


@pytest.mark.parametrize('kind', ['twist', 'velocity'])
def test_after_a_reset_motion_begins_at_rest(kind):
    commander = Commander(ROBOT, VELOCITY, kind)
    told(commander, times=(0.0, 0.05, 0.1))
    commander.reset()
    made = told(commander, times=(9.0,))
    assert not (made.linear if kind == 'twist' else made.velocities).any()


@pytest.mark.parametrize(
    ('kind', 'scale', 'speeds'),
    [
        ('twist', 0.4, (0.25, 0.8)),
        ('twist', 0.1, (0.1, 0.1)),
        ('pose', 0.1, (0.25, 0.8)),
        ('trajectory', 0.1, (0.25, 0.8)),
    ],
)
def test_servos_scales_bound_the_speed_of_twists(kind, scale, speeds):
    limits = replace(ROBOT.limits, linear_speed=0.25, angular_speed=0.8)
    controller = replace(
        ROBOT.controller, linear_scale=scale, angular_scale=scale if scale < 0.4 else 0.8
    )
    robot = replace(ROBOT, limits=limits, controller=controller)
    assert tip_speeds(robot, kind) == speeds
