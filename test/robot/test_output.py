"""From setpoints to commands that may leave: what is made, remembered, faded out and planned."""

from dataclasses import replace
import math

import numpy as np
import pytest

from worldvla_ros.errors import ConfigError
from worldvla_ros.robot.commands import (
    PoseCommand,
    PositionCommand,
    TrajectoryCommand,
    TwistCommand,
    VelocityCommand,
)
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.gate import LATEST_S
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.output import Output
from worldvla_ros.robot.path import Path, State
from worldvla_ros.robot.places import Place
from worldvla_ros.robot.playing import Setpoint
from worldvla_ros.robot.reasons import Reason
from worldvla_ros.robot.spaces import space_of
from worldvla_ros.robot.state import JointReading

PANDA = load_robot('sim_panda')
ARM = Arm(PANDA)
LIMITS = PANDA.limits
HOME = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, np.pi / 4])
POSE = ARM.pose(HOME)
DT = 0.01
STILL = np.zeros(7)


def setpoint(kind, speed=0.0, joints=HOME):
    """Return a setpoint at a place, on its way: [m/s] to the left, or [rad/s] of joint 1."""
    space = space_of(ARM, kind)
    place = space.begin(np.array(joints), None)
    rates = np.zeros(len(place.state.positions))
    rates[1 if place.anchor is not None else 0] = speed
    state = State(place.state.positions, rates, np.zeros_like(rates))
    place = Place(state, place.anchor)
    return Setpoint(None if place.anchor is not None else state, 0.05, math.nan, place, space)


def reading(stamp_s, joints=HOME):
    return JointReading(np.array(joints), 0.08, stamp_s)


def path(start_s=10.0):
    return Path(start_s, 0.5, np.tile(HOME, (3, 1)), np.zeros((3, 7)), np.zeros((3, 7)))


def make(output, kind, now_s, speed=0.0, measured=True):
    given = (reading(now_s), POSE) if measured else (None, None)
    return output.make(setpoint(kind, speed), path(), *given, now_s)


KINDS = [
    ('twist', TwistCommand), ('pose', PoseCommand), ('position', PositionCommand),
    ('velocity', VelocityCommand), ('trajectory', TrajectoryCommand),
]  # fmt: skip


@pytest.mark.parametrize(('kind', 'command'), KINDS)
@pytest.mark.parametrize('measured', [True, False])
def test_each_kind_is_made_with_and_without_a_measured_arm(kind, command, measured):
    output = Output(ARM, kind, DT)
    made = make(output, kind, 10.0, measured=measured)
    assert output.kind == kind
    assert type(made) is command
    assert made.width == 0.05


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match='output'):
        Output(ARM, 'smoke', DT)


def test_a_measured_arm_is_judged_by_itself_and_its_stamp():
    output = Output(ARM, 'position', DT)
    away = HOME + [0.1, 0, 0, 0, 0, 0, 0]
    made = output.make(setpoint('position'), path(), reading(10.0, away), ARM.pose(away), 10.0)
    assert (made.code, made.value) == ('joint_lag', pytest.approx(0.1))
    twist = Output(ARM, 'twist', DT)
    away = POSE.copy()
    away[1, 3] -= 0.01
    for i in range(3):
        now_s = 10.0 + i * DT
        made = twist.make(setpoint('twist'), None, reading(now_s), away, now_s)
    assert made.linear[1] > 0  # back to where it should be
    assert np.abs(made.linear[[0, 2]]).max() < 1e-9


def test_a_trajectory_is_told_once_and_again_after_a_reset_or_for_another_path():
    output, told = Output(ARM, 'trajectory', DT), setpoint('trajectory')
    first, other = path(), path()

    def make(path, now_s):
        return output.make(told, path, reading(now_s), POSE, now_s)

    made = make(first, 10.0)
    np.testing.assert_allclose(made.times_s, [0.5, 1.0])
    assert make(first, 10.1) is None
    assert make(None, 10.2) is None
    assert isinstance(make(other, 10.3), TrajectoryCommand)
    assert make(other, 10.35) is None
    output.reset()
    made = make(other, 10.4)
    np.testing.assert_allclose(made.times_s, [0.1, 0.6])


def test_only_a_controller_that_plays_by_itself_needs_a_planned_stop():
    stop = Output(ARM, 'trajectory', DT).planned_stop(path(), 10.1)
    np.testing.assert_allclose(stop.times_s, [0.4, 0.9])
    assert stop.width == PANDA.gripper.open_width
    assert Output(ARM, 'trajectory', DT).planned_stop(None, 10.1) is None
    assert Output(ARM, 'position', DT).planned_stop(path(), 10.1) is None


@pytest.mark.parametrize('kind', ['twist', 'velocity'])
@pytest.mark.parametrize('period_s', [0.01, 0.2])
@pytest.mark.parametrize('gap_s', [0.06, 0.1, 1.0])
def test_a_speed_after_a_gap_changes_by_no_more_than_the_gate_allows(kind, period_s, gap_s):
    joints = replace(PANDA.joints, acceleration=(1.0,) * 7)
    limits = replace(LIMITS, linear_acceleration=1.0)
    output = Output(Arm(replace(PANDA, joints=joints, limits=limits)), kind, period_s)
    make(output, kind, 10.0)
    made = make(output, kind, 10.0 + gap_s, speed=0.4)
    assert not isinstance(made, Reason)
    speed = made.linear[1] if kind == 'twist' else made.velocities[0]
    assert speed == pytest.approx(min(0.4, gap_s, max(LATEST_S, period_s)))


class TestFade:
    def moving(self, kind, speed, arm=ARM):
        """Return an output that has just told a speed at 11.0 s."""
        output = Output(arm, kind, DT)
        for i in range(101):
            made = make(output, kind, 10.0 + i * DT, speed)
            assert not isinstance(made, Reason)
        return output, made

    def test_a_twist_ends_within_limits_in_its_direction(self):
        output, told = self.moving('twist', 0.2)
        assert told.linear == pytest.approx([0, 0.2, 0])
        gain, now_s, speed = LIMITS.linear_acceleration, 11.0, 0.2
        while speed > 0:
            now_s += DT
            made = output.fade(reading(now_s), now_s)
            speed = max(0.0, speed - gain * DT)
            assert made.linear == pytest.approx([0, speed, 0], abs=1e-6)
            assert made.width == told.width
        assert output.fade(reading(now_s + DT), now_s + DT) is None

    def test_turning_ends_by_its_own_limit(self):
        output = Output(ARM, 'twist', DT)
        told, now_s = setpoint('twist'), 10.0
        rates = np.array([0, 0, 0, 0, 0, 0.5])
        state = State(told.place.state.positions, rates, np.zeros(6))
        told = replace(told, place=Place(state, told.place.anchor))
        for _ in range(50):
            made = output.make(told, None, reading(now_s), POSE, now_s)
            now_s += DT
        before = made.angular[2]
        made = output.fade(reading(now_s), now_s)
        assert before - made.angular[2] == pytest.approx(LIMITS.angular_acceleration * DT)
        assert not made.linear.any()

    @pytest.mark.parametrize('speed', [0.3, -0.3])
    def test_joint_velocities_end_within_their_limits(self, speed):
        output, told = self.moving('velocity', speed)
        assert told.velocities[0] == pytest.approx(speed)
        made = output.fade(reading(11.0 + DT), 11.0 + DT)
        left = math.copysign(abs(speed) - ARM.acceleration[0] * DT, speed)
        assert made.velocities == pytest.approx([left, 0, 0, 0, 0, 0, 0])
        assert made.width == told.width
        for i in range(2, 100):
            made = output.fade(reading(11.0 + i * DT), 11.0 + i * DT)
            if made is None:
                break
            assert abs(made.velocities[0]) < abs(left)
        assert made is None

    @pytest.mark.parametrize(
        ('wait_s', 'counted_s'), [(0.0, None), (-1.0, None), (0.02, 0.02), (5.0, LATEST_S)]
    )
    @pytest.mark.parametrize('kind', ['twist', 'velocity'])
    def test_it_needs_time_and_no_longer_than_the_gate_counts(self, kind, wait_s, counted_s):
        joints = replace(PANDA.joints, acceleration=(2.0,) * 7)
        limits = replace(LIMITS, linear_acceleration=2.0)
        arm = Arm(replace(PANDA, joints=joints, limits=limits))
        output, told = self.moving(kind, 0.3, arm)
        made = output.fade(None, 11.0 + wait_s)
        if counted_s is None:
            assert made is None
        else:
            slower = (
                told.linear - made.linear
                if kind == 'twist'
                else (told.velocities - made.velocities)
            )
            assert np.abs(slower).max() == pytest.approx(2.0 * counted_s)

    @pytest.mark.parametrize('kind', ['pose', 'position', 'trajectory'])
    def test_what_is_no_speed_does_not_fade(self, kind):
        output = Output(ARM, kind, DT)
        make(output, kind, 10.0)
        assert output.fade(reading(10.1), 10.1) is None

    def test_nothing_fades_before_the_first_command_after_a_refusal_or_a_reset(self):
        output = Output(ARM, 'twist', DT)
        assert output.fade(reading(10.0), 10.0) is None
        output, _ = self.moving('twist', 0.2)
        output.reset()
        assert output.fade(reading(11.1), 11.1) is None
        output = Output(ARM, 'velocity', DT)
        blind = reading(10.0, np.full(7, np.nan))
        refused = output.make(setpoint('velocity', 0.01), None, blind, POSE, 10.0)
        assert refused.code == 'command_invalid'
        assert output.fade(reading(10.1), 10.1) is None

    def test_what_fades_is_judged_too(self):
        output, _ = self.moving('twist', 0.2)
        refused = output.fade(reading(11.01, np.full(7, np.nan)), 11.01)
        assert refused.code == 'command_invalid'
