"""The mock of MoveIt Servo: command types, stamps, units, caps, halts and status codes."""

from gantry import Gantry
import numpy as np
import pytest

from worldvla_ros.sim.controllers import servo
from worldvla_ros.sim.controllers.parts import PERIOD_S
from worldvla_ros.sim.controllers.servo import ServoMock, ServoSettings

FRAME = 'panda_link0'
X = np.array([1.0, 0, 0])
NOTHING = np.zeros(3)


def mock(units='speed_units', arm=None, kind=servo.TWIST, joints=None, **given):
    made = ServoMock(
        arm or Gantry(),
        np.zeros(6) if joints is None else np.array(joints, float),
        np.full(6, -2.0),
        np.full(6, 2.0),
        np.full(6, 9.0),
        np.full(6, 4.0),
        ServoSettings(units=units, **given),
    )
    if kind is not None:
        assert made.switch_command_type(kind)
    return made


def run(made, start_s, seconds, command=None, every_s=0.05):
    """Step for a while, with a command every so often; return positions [k, n]."""
    found = []
    every = round(every_s / PERIOD_S)
    for i in range(round(seconds / PERIOD_S)):
        now = start_s + i * PERIOD_S
        if command is not None and i % every == 0:
            command(made, now)
        found.append(made.step(now, PERIOD_S))
    return np.array(found)


def twist(linear, angular=NOTHING, frame=FRAME, stamp_s=None):
    return lambda made, now: made.accept_twist(
        np.asarray(linear), np.asarray(angular), now if stamp_s is None else stamp_s, frame
    )


def speed(found):
    return (found[-1] - found[-101]) / 0.1


def test_every_command_is_dropped_until_its_type_is_set():
    made = mock(kind=None)
    found = run(made, 10, 0.3, twist(0.2 * X))
    assert not found.any()
    assert made.drops.reasons == {'command type has not been set': 6}
    assert not made.accept_pose(np.eye(4), 10, FRAME)


def test_another_types_command_is_dropped():
    made = mock(kind=servo.POSE)
    assert not run(made, 10, 0.3, twist(0.2 * X)).any()
    assert made.drops.reasons == {'another command type is set': 6}
    made = mock(kind=servo.TWIST)
    assert not made.accept_pose(np.eye(4), 10, FRAME)


@pytest.mark.parametrize('kind', [-1, 3, 7])
def test_an_unknown_type_is_refused(kind):
    assert not mock().switch_command_type(kind)


def test_the_numbers_are_speeds_or_shares_of_the_scales():
    made = mock()
    assert speed(run(made, 10, 1.0, twist([0.2, 0, 0], [0, 0, 0.4]))) == pytest.approx(
        [0.2, 0, 0, 0, 0, 0.4]
    )
    made = mock('unitless')
    assert speed(run(made, 10, 1.0, twist([0.2, 0, 0], [0, 0, 0.4]))) == pytest.approx(
        [0.2 * 0.4, 0, 0, 0, 0, 0.4 * 0.8]
    )


def test_speeds_are_cut_to_the_scales_in_their_direction():
    found = run(mock(linear_scale=0.25), 10, 1.0, twist([0.6, 0.8, 0], [0, 8.0, 0]))
    assert speed(found) == pytest.approx([0.15, 0.2, 0, 0, 0.8, 0])


def test_shares_beyond_one_are_dropped():
    made = mock('unitless')
    assert not run(made, 10, 0.3, twist([1.01, 0, 0])).any()
    assert made.drops.reasons == {'unitless command beyond 1': 6}
    assert made.status == servo.INVALID
    assert run(mock('unitless'), 10, 0.3, twist([1.0, 0, 0])).any()


def test_it_halts_smoothly_after_its_time_out():
    made = mock()
    run(made, 10, 1.0, twist(0.2 * X))
    found = run(made, 11, 0.5)[:, 0]
    moved = np.diff(found) / PERIOD_S
    assert moved[40] == pytest.approx(0.2)  # the last command is from 10.95
    assert moved[-1] == 0
    assert np.abs(np.diff(moved)).max() <= 4.0 * PERIOD_S + 1e-9
    stopped = int(np.flatnonzero(moved == 0)[0]) * PERIOD_S
    assert 0.05 <= stopped <= 0.05 + 0.2 / 4.0 + 0.015


@pytest.mark.parametrize('stamp_s', [0.0, 9.0])
def test_stamps_that_are_zero_or_old_are_stale(stamp_s):
    made = mock()
    assert not run(made, 10, 0.3, twist(0.2 * X, stamp_s=stamp_s)).any()
    assert made.drops.reasons == {'stale': 6}


def test_silence_after_a_command_is_no_drop():
    made = mock()
    run(made, 10, 0.1, twist(NOTHING))
    run(made, 10.1, 0.5)
    assert made.drops.total == 0


@pytest.mark.parametrize(
    ('wrong', 'reason'),
    [(twist(0.2 * X, frame='tool0'), 'unknown frame'), (twist([np.nan, 0, 0]), 'not finite')],
)
def test_what_it_cannot_use_stops_it(wrong, reason):
    made = mock()
    run(made, 10, 0.5, twist(0.2 * X))
    assert not wrong(made, 10.5)
    found = run(made, 10.5, 0.2)
    assert made.drops.reasons == {reason: 1}
    assert found[-1][0] == found[-20][0]


def test_paused_it_stops_and_hears_nothing():
    made = mock()
    run(made, 10, 0.5, twist(0.2 * X))
    made.paused = True
    found = run(made, 10.5, 0.3, twist(0.2 * X))
    assert found[-1][0] == found[-20][0]
    assert made.drops.reasons == {'paused': 6}


def test_a_pose_is_gone_to_and_reached():
    target = Gantry().pose(np.array([0.1, 0, 0, 0, 0, 0.1]))
    made = mock(kind=servo.POSE, joints=np.zeros(6))
    found = run(made, 10, 2.0, lambda m, now: m.accept_pose(target, now, FRAME))
    assert found[-1][0] == pytest.approx(0.1, abs=0.01)
    assert found[-1][5] == pytest.approx(0.1, abs=0.02)
    assert (np.diff(found[:, 0]) / PERIOD_S).max() <= 0.4 + 1e-9


def test_a_pose_that_stops_coming_is_forgotten():
    target = Gantry().pose(np.array([1.0, 0, 0, 0, 0, 0]))
    made = mock(kind=servo.POSE)
    made.accept_pose(target, 10, FRAME)
    found = run(made, 10, 1.0)
    assert found[-1][0] == found[-500][0]
    assert found[-1][0] < 0.08


def test_at_a_joint_bound_all_joints_halt_and_the_way_back_is_free():
    made = mock(joints=[1.8, 0, 0, 0, 0, 0])
    found = run(made, 10, 2.0, twist([0.1, 0.1, 0]))
    assert made.status == servo.JOINT_BOUND
    assert 1.9 <= found[-1][0] <= 1.91
    assert found[-1][1] == found[-500][1]
    run(made, 12, 0.5, twist([-0.1, 0, 0]))
    assert made.status == servo.NO_WARNING
    assert made.joints[0] < 1.9


class Stretching(Gantry):
    """A gantry whose second axis gets harder to move along the first."""

    def jacobian(self, q):
        made = np.eye(6)
        made[1, 1] = 1.0 / (1.0 + max(0.0, q[0]) * 50)
        return made


def test_it_slows_down_and_halts_before_a_singularity_and_comes_back():
    made = mock(arm=Stretching(), joints=[0.2, 0, 0, 0, 0, 0])
    run(made, 10, 0.3, twist(0.2 * X))
    assert made.status == servo.NO_WARNING
    run(made, 10.3, 0.5, twist(0.2 * X))
    assert made.status == servo.APPROACHING
    run(made, 10.8, 6.0, twist(0.2 * X))
    assert np.linalg.cond(Stretching().jacobian(made.joints)) < 31
    made.joints = made.joints + [0.03, 0, 0, 0, 0, 0]
    run(made, 17, 0.1, twist(0.2 * X))
    assert made.status == servo.SINGULAR
    before = made.joints[0]
    run(made, 17.1, 0.5, twist(0.2 * X))
    assert made.joints[0] == before
    run(made, 18, 0.5, twist(-0.2 * X))
    assert made.status in (servo.LEAVING, servo.NO_WARNING)
    assert made.joints[0] < before


def test_joint_speeds_are_kept_within_their_limits():
    made = mock(linear_scale=100.0)
    made._velocity = np.full(6, 0.5)
    made._acceleration = np.full(6, 100.0)
    assert speed(run(made, 10, 0.5, twist([5.0, 1.0, 0]))) == pytest.approx([0.5, 0.1, 0, 0, 0, 0])
