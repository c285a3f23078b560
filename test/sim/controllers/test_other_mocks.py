"""Forward controllers, the compliant pose controller, the reflex and the gripper."""

from gantry import Gantry
import numpy as np
import pytest

from worldvla_ros.sim.controllers.cartesian import STIFFNESS, CartesianPoseMock
from worldvla_ros.sim.controllers.forward import ForwardPositionMock, ForwardVelocityMock
from worldvla_ros.sim.controllers.gripper import BEGIN_S, STALLED_S, GripperMock
from worldvla_ros.sim.controllers.parts import PERIOD_S
from worldvla_ros.sim.controllers.reflex import FR3, PANDA, Reflex


@pytest.mark.parametrize('kind', [ForwardPositionMock, ForwardVelocityMock])
@pytest.mark.parametrize(
    ('data', 'reason'),
    [([1.0], 'wrong number of values'), ([1.0] * 3, 'wrong number of values'),
     ([], 'wrong number of values'), ([1.0, np.nan], 'not finite')],
)  # fmt: skip
def test_forward_controllers_drop(kind, data, reason):
    made = kind(np.zeros(2))
    assert not made.accept(data)
    assert made.drops.reasons == {reason: 1}
    np.testing.assert_array_equal(made.step(1.0), [0, 0])


def test_a_position_is_a_step_and_stays():
    made = ForwardPositionMock(np.zeros(2))
    assert made.accept([1.0, 2.0])
    for _ in range(3):
        np.testing.assert_array_equal(made.step(PERIOD_S), [1, 2])


def test_a_velocity_goes_on_until_another_one_comes():
    made = ForwardVelocityMock(np.array([1.0, 0.0]))
    made.accept([0.5, -1.0])
    for _ in range(1000):
        found = made.step(PERIOD_S)
    np.testing.assert_allclose(found, [1.5, -1.0])
    made.accept([0.0, 0.0])
    np.testing.assert_allclose(made.step(1.0), [1.5, -1.0])


def test_a_compliant_arm_comes_late_and_softly():
    made = CartesianPoseMock(Gantry(), np.zeros(6))
    target = np.eye(4)
    target[0, 3] = 0.1
    assert made.accept_pose(target, 'panda_link0')
    way = np.array([made.step(PERIOD_S)[0] for _ in range(1000)])
    assert way[0] < 1e-4
    assert 0.02 < way[100] < 0.08
    assert way[-1] == pytest.approx(0.1, abs=1e-3)
    assert way.max() <= 0.1 + 1e-6
    assert made.largest_force == pytest.approx(0.1 * STIFFNESS)


def test_a_compliant_arm_keeps_its_target():
    made = CartesianPoseMock(Gantry(), np.zeros(6))
    for _ in range(100):
        made.step(PERIOD_S)
    assert made.largest_force == 0.0
    assert not made.accept_pose(np.eye(4), 'world')
    assert not made.accept_pose(np.full((4, 4), np.nan), 'panda_link0')
    assert made.drops.reasons == {'unknown frame': 1, 'not finite': 1}


def run(reflex, positions):
    return np.array([reflex.step(q) for q in positions])


def test_limits_are_the_published_ones():
    assert PANDA.velocity == (2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61)
    assert PANDA.acceleration == (15, 7.5, 10, 12.5, 15, 20, 20)
    assert PANDA.jerk == (7500, 3750, 5000, 6250, 7500, 10000, 10000)
    assert FR3.velocity == (2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26)
    assert FR3.acceleration == (10.0,) * 7
    assert FR3.jerk == (5000.0,) * 7


def smooth(top, duration_s):
    """Positions per millisecond of a sine squared, which is smooth at both ends but for jerk."""
    times = np.arange(0, duration_s, PERIOD_S)[:, None]
    return top * (times / duration_s - np.sin(2 * np.pi * times / duration_s) / 2 / np.pi)


def test_a_smooth_motion_passes():
    reflex = Reflex(FR3, np.zeros(7))
    way = run(reflex, smooth(0.5, 2.0) * np.ones(7))
    assert reflex.tripped == ''
    assert way[-1][0] == pytest.approx(0.5, abs=1e-3)
    assert reflex.largest['velocity'].max() == pytest.approx(0.5, rel=1e-2)
    assert reflex.largest['acceleration'].max() == pytest.approx(np.pi * 0.25, rel=1e-2)


@pytest.mark.parametrize(
    ('positions', 'words'),
    [
        ([0.0027], 'joint 1: velocity 2.7'),
        ([0.00002], 'joint 1: acceleration 20'),
        ([0.000006], 'joint 1: jerk 6000'),
    ],
)
def test_a_step_stops_the_arm_until_it_is_reset(positions, words):
    reflex = Reflex(FR3, np.zeros(7))
    steps = [np.r_[p, np.zeros(6)] for p in positions]
    np.testing.assert_array_equal(run(reflex, steps), np.zeros((1, 7)))
    assert reflex.tripped.startswith(words)
    np.testing.assert_array_equal(reflex.step(np.full(7, 1e-9)), np.zeros(7))
    reflex.reset(np.zeros(7))
    assert reflex.tripped == ''
    np.testing.assert_array_equal(reflex.step(np.full(7, 1e-9)), np.full(7, 1e-9))


def test_a_reflex_that_only_counts_lets_the_arm_go_on():
    reflex = Reflex(FR3, np.zeros(7), stops=False)
    stairs = np.repeat([0.1, 0.1, 0.2, 0.2], 5)[:, None] * np.ones(7)
    np.testing.assert_array_equal(run(reflex, stairs), stairs)
    assert reflex.trips == 2
    assert reflex.tripped
    assert Reflex(FR3, np.zeros(7)).trips == 0


def fingers(made, seconds, start_s=0.0, blocked_at=0.0):
    """Run a gripper whose fingers follow at once, down to what is between them."""
    width = made.step(start_s, 0.0, 0.08)
    for i in range(round(seconds / 0.01)):
        width = max(made.step(start_s + 0.01 * (i + 1), 0.01, width), blocked_at)
    return width


def test_a_goal_takes_its_time():
    made = GripperMock(0.08, 0.08)
    assert made.accept(0.0, 0.1, 0.0) == 1
    assert fingers(made, BEGIN_S - 0.01) == 0.08
    assert fingers(made, 0.5, BEGIN_S) == pytest.approx(0.03, abs=0.003)
    assert not made.results
    fingers(made, 0.5, BEGIN_S + 0.5)
    assert [(r.number, r.outcome, r.success) for r in made.results] == [(1, 'reached', True)]


@pytest.mark.parametrize('grasps', [False, True])
def test_something_between_the_fingers_is_success_to_a_grasp_only(grasps):
    made = GripperMock(0.08, 0.08)
    made.accept(0.0, 0.1, 0.0, grasps=grasps)
    assert fingers(made, BEGIN_S + 0.8 + STALLED_S + 0.1, blocked_at=0.047) == 0.047
    assert [(r.outcome, r.success) for r in made.results] == [('stalled', grasps)]


def test_a_grasp_of_nothing_fails():
    made = GripperMock(0.08, 0.08)
    made.accept(0.0, 0.2, 0.0, grasps=True)
    fingers(made, 1.0)
    assert [(r.outcome, r.success) for r in made.results] == [('reached', False)]


def test_a_goal_per_control_period_never_gets_anywhere():
    made = GripperMock(0.08, 0.08)
    width = 0.08
    for i in range(40):
        made.accept(0.0, 0.1, 0.05 * i)
        width = made.step(0.05 * (i + 1), 0.05, width)
    assert width == 0.08
    assert {r.outcome for r in made.results} == {'replaced'}


def test_a_cancelled_goal_leaves_the_fingers_where_they_are():
    made = GripperMock(0.08, 0.08)
    made.accept(0.0, 0.1, 0.0)
    width = fingers(made, BEGIN_S + 0.3)
    made.cancel()
    assert made.step(9.0, 0.01, width) == pytest.approx(width, abs=0.002)
    assert [r.outcome for r in made.results] == ['replaced']
    made.cancel()
    assert len(made.results) == 1


@pytest.mark.parametrize(('width', 'speed'), [(-0.01, 0.1), (0.09, 0.1), (0.0, 0.0), (0.0, -1)])
def test_goals_out_of_range_are_refused(width, speed):
    made = GripperMock(0.08, 0.08)
    assert made.accept(width, speed, 0.0) == 0
    assert made.drops.total == 1
