"""The watches together: what is looked at, how often, and what begins anew."""

from dataclasses import replace
import math

import numpy as np
import pytest

from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.path import rest
from worldvla_ros.robot.places import Place
from worldvla_ros.robot.playing import Setpoint
from worldvla_ros.robot.spaces import space_of
from worldvla_ros.robot.state import JointReading
from worldvla_ros.robot.watch import PERIOD_S, Watch

PANDA = load_robot('sim_panda')
LIMITS = replace(PANDA.limits, tip_lag=1.0)  # so that other watches are heard
ARM = Arm(replace(PANDA, limits=LIMITS))
HOME = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, np.pi / 4])
LOW = np.array([0.0, 0.9, 0.0, -2.2, 0.0, 3.0, np.pi / 4])  # the tip is under the table
TIMEOUT_S = 0.5


def reading(joints, stamp_s):
    return JointReading(np.array(joints), 0.08, stamp_s)


def setpoint(joints, output):
    """Return where the path is, as a controller of a kind is told."""
    space = space_of(ARM, output)
    place = space.begin(joints, None)
    state = Place(rest(joints)).state if output == 'position' else None
    return Setpoint(state, 0.08, math.nan, place, space)


def turned(by):
    return HOME + [by, 0, 0, 0, 0, 0, 0]


@pytest.fixture
def watch():
    return Watch(ARM, TIMEOUT_S)


def stand(watch, output, seconds, start_s=10.0, speed=0.2):
    """Command a motion that nobody makes; return the first reason, and when it came."""
    for i in range(round(seconds / PERIOD_S) + 1):
        now_s = start_s + i * PERIOD_S
        told = setpoint(turned(speed * i * PERIOD_S), output)
        reason = watch.check(reading(HOME, now_s), told, now_s)
        if reason is not None:
            return reason, now_s
    return None, None


@pytest.mark.parametrize(
    ('output', 'unit', 'begins_s'), [('twist', 'm', 0.11), ('position', 'rad', 0.26)]
)
def test_a_command_that_is_not_applied_is_named_in_its_own_unit(watch, output, unit, begins_s):
    reason, now_s = stand(watch, output, 3.0)
    assert (reason.code, reason.unit, reason.stamp_s) == ('command_not_applied', unit, now_s)
    assert f' {unit} were commanded' in reason.text
    assert now_s == pytest.approx(10.0 + begins_s + TIMEOUT_S, abs=0.05)


@pytest.mark.parametrize('output', ['twist', 'position'])
def test_an_arm_that_follows_passes(watch, output):
    for i in range(100):
        now_s = 10.0 + i * PERIOD_S
        joints = turned(0.2 * i * PERIOD_S)
        assert watch.check(reading(joints, now_s), setpoint(joints, output), now_s) is None
    assert watch.error_m == pytest.approx(0.0, abs=1e-9)


def test_the_error_is_that_of_the_tip(watch):
    told = setpoint(turned(0.1), 'position')
    watch.check(reading(HOME, 10.0), told, 10.0)
    radius = math.hypot(*ARM.pose(HOME)[:2, 3])
    assert watch.error_m == pytest.approx(2 * radius * math.sin(0.05))


def test_it_looks_once_a_period_and_after_a_clock_was_set_back(watch):
    near, far = setpoint(HOME, 'position'), setpoint(turned(0.1), 'position')
    watch.check(reading(HOME, 10.0), near, 10.0)
    for now_s, looked in ((10.0, False), (10.0 + 0.9 * PERIOD_S, False), (9.99, True)):
        watch.check(reading(HOME, now_s), far, now_s)
        assert (watch.error_m > 0.01) == looked
    watch.check(reading(HOME, 10.02), near, 9.99 + 1.01 * PERIOD_S)
    assert watch.error_m == 0.0


@pytest.mark.parametrize('output', ['twist', 'position'])
@pytest.mark.parametrize(('share', 'code'), [(1.0, None), (0.5, 'tip_lag')])
def test_a_tip_is_compared_with_its_command_of_that_instant(output, share, code):
    limits = replace(LIMITS, tip_lag=0.05)
    watch, late_s = Watch(Arm(replace(PANDA, limits=limits)), TIMEOUT_S), 0.2  # a busy machine
    codes = set()
    for i in range(60):
        now_s = 10.0 + i * PERIOD_S
        told, seen_s = -0.5 + 0.9 * i * PERIOD_S, i * PERIOD_S - late_s
        seen = -0.5 + share * 0.9 * max(0.0, seen_s)
        reason = watch.check(
            reading(turned(seen), now_s - late_s), setpoint(turned(told), output), now_s
        )
        codes.add(reason and reason.code)
    assert codes == {None, code}


def test_a_tip_far_from_its_command_is_named_at_once():
    reason = Watch(Arm(PANDA), TIMEOUT_S).check(
        reading(HOME, 10.0), setpoint(turned(1.0), 'position'), 10.5
    )
    assert (reason.code, reason.limit, reason.stamp_s) == ('tip_lag', PANDA.limits.tip_lag, 10.5)


def test_measured_speed_counts_by_the_stamps_of_joint_states(watch):
    reasons = []
    for i in range(8):
        joints, stamp_s = turned(4.0 * i * PERIOD_S), 7.0 + i * PERIOD_S
        told = setpoint(joints, 'position')
        reasons.append(watch.check(reading(joints, stamp_s), told, 10.0 + i * PERIOD_S))
    assert [reason and reason.code for reason in reasons[:5]] == [None] * 5
    found = next(reason for reason in reasons if reason is not None)
    assert found.code == 'measured_speed'
    assert 7.1 <= found.stamp_s < 7.15


def test_a_measured_tip_outside_of_the_box_may_stay_but_not_get_there(watch):
    told = setpoint(LOW, 'position')
    assert watch.check(reading(LOW, 7.0), told, 10.0) is None  # it may start there
    watch.forget()
    assert watch.check(reading(HOME, 7.0), setpoint(HOME, 'position'), 11.0) is None
    reason = watch.check(reading(LOW, 8.0), told, 12.0)
    assert (reason.code, reason.stamp_s) == ('measured_workspace', 8.0)


@pytest.mark.parametrize('output', ['twist', 'position'])
def test_forgetting_begins_everything_anew(watch, output):
    assert stand(watch, output, 3.0)[0] is not None
    watch.forget()
    assert math.isnan(watch.error_m)
    assert stand(watch, output, 0.4, start_s=13.0)[0] is None
    watch.forget()
    assert watch.check(reading(LOW, 14.0), setpoint(LOW, output), 14.0) is None


@pytest.mark.parametrize('output', ['twist', 'position'])
def test_a_restart_forgets_places_but_not_what_is_missing(watch, output):
    assert stand(watch, output, 0.4)[0] is None
    watch.restart()
    assert math.isnan(watch.error_m)
    far = turned(0.5)  # moved by hand meanwhile
    assert watch.check(reading(far, 10.45), setpoint(far, output), 10.45) is None
    watch.restart()
    reason, now_s = stand(watch, output, 3.0, start_s=10.5)
    assert reason.code == 'command_not_applied'
