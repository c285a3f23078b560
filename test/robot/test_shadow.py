"""How far chunks are from what the joints did, number by number."""

from dataclasses import replace
import math

import numpy as np
import pytest

from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot.description import action_meaning, load_robot
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.shadow import KEPT_S, MOST_WAITING, Shadow, predicted_pose
from worldvla_ros.robot.state import JointReading

ROBOT = load_robot('sim_panda')
ARM = Arm(ROBOT)
HOME = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, math.pi / 4])
START_S = 100.0


def chunk(rows, *, stamp_s=START_S, dt=0.1, scale=None, robot=ROBOT, **changes):
    rows = np.array(rows, np.float32)
    given = {
        'actions': rows, 'names': robot.action.names, 'units': robot.action.units,
        'scale': np.ones(rows.shape[1], np.float32) if scale is None else np.array(scale),
        'dt': dt, 'stamp_s': stamp_s, 'chunk_id': 7,
    }  # fmt: skip
    return ActionChunk(**given | changes)


def move(*numbers, gripper=-1.0):
    return [*numbers, *([0.0] * (6 - len(numbers))), gripper]


def measured(shadow, positions=HOME, *, until_s=START_S + 1, step_s=0.05, width=0.08):
    """Put joint states from the start on; `positions` may be a function of the time since."""
    for i in range(round((until_s - START_S) / step_s) + 1):
        since_s = i * step_s
        joints = positions(since_s) if callable(positions) else positions
        shadow.put(JointReading(np.asarray(joints, float), width, START_S + since_s))


def compared(given, *, arm=ARM, **motion):
    shadow = Shadow(arm, 0.3)
    assert shadow.offer(given) == ''
    measured(shadow, **motion)
    [found] = shadow.due()
    assert shadow.due() == []
    return found


def test_a_chunk_that_does_what_was_done_has_no_error():
    found = compared(chunk([move()] * 4))
    assert (found.chunk_id, found.stamp_s, found.horizon_s) == (7, START_S, pytest.approx(0.4))
    assert (found.translation_error, found.rotation_error, found.travelled) == (0.0, 0.0, 0.0)
    assert found.joint_error.size == 0
    assert found.gripper_agrees


def test_an_arm_that_stands_is_as_far_away_as_the_chunk_leads():
    found = compared(chunk([move(0.03, 0.0, -0.04)] * 4))
    assert found.translation_error == pytest.approx(0.2, abs=1e-6)  # 4 · (0.03, 0, -0.04)
    assert found.rotation_error == pytest.approx(0.0, abs=1e-6)
    assert found.travelled == 0.0


def test_scale_turns_numbers_of_the_checkpoint_into_metres():
    found = compared(chunk([move(1.0)] * 4, scale=[0.02, 1, 1, 1, 1, 1, 1]))
    assert found.translation_error == pytest.approx(0.08, abs=1e-6)


def test_rotations_are_about_the_axes_of_the_base_one_after_another():
    found = compared(chunk([move(0, 0, 0, 0, 0, 0.1)] * 4))
    assert found.rotation_error == pytest.approx(0.4, abs=1e-6)
    quarter = math.pi / 2
    rows = [move(0, 0, 0, 0, 0, quarter), move(0, 0, 0, quarter)]
    turned = predicted_pose(chunk(rows), np.eye(4))[:3, :3]
    # x → y by the first, y → z by the second
    np.testing.assert_allclose(turned @ [1, 0, 0], [0, 0, 1], atol=1e-6)


def test_what_the_arm_did_is_measured_along_its_way():
    """The first joint turns out and back: much travelled, nowhere arrived."""

    def swing(since_s):
        return HOME + [0.2 * (1 - abs(since_s - 0.2) / 0.2) if since_s < 0.4 else 0.0, *[0] * 6]

    found = compared(chunk([move()] * 4), positions=swing)
    radius = np.linalg.norm(ARM.pose(HOME)[:2, 3])
    chord = 2 * radius * math.sin(0.05)  # each of four steps turns 0.1 rad
    assert found.travelled == pytest.approx(4 * chord, rel=1e-6)
    assert found.translation_error == pytest.approx(0.0, abs=1e-9)


def test_the_error_is_at_the_end_and_from_the_measured_start():
    turning = HOME + [0.3, 0, 0, 0, 0, 0, 0]

    def turn(since_s):
        return HOME + (turning - HOME) * min(since_s / 0.4, 1.0)

    found = compared(chunk([move()] * 4), positions=turn)
    gap = np.linalg.norm((ARM.pose(turning) - ARM.pose(HOME))[:3, 3])
    assert found.translation_error == pytest.approx(gap, rel=1e-9)
    assert found.rotation_error == pytest.approx(0.3, abs=1e-9)


def test_joints_between_two_measurements_are_interpolated():
    def turn(since_s):
        return HOME + [since_s, *[0] * 6]

    given = chunk([move()] * 4, stamp_s=START_S + 0.13)
    found = compared(given, positions=turn, step_s=0.1)
    assert found.rotation_error == pytest.approx(0.4, abs=1e-9)


def kind_of_robot(kind):
    names, units = action_meaning(kind, ROBOT.joints.names)
    return replace(ROBOT, action=replace(ROBOT.action, kind=kind, names=names, units=units,
                                         minimum=(-4.0,) * 8, maximum=(4.0,) * 8))  # fmt: skip


@pytest.mark.parametrize('kind', ['joint_delta', 'joint_position'])
def test_actions_of_joints_are_compared_joint_by_joint(kind):
    robot = kind_of_robot(kind)
    target = HOME + [0.1, 0, -0.2, 0, 0, 0, 0]
    row = (target - HOME) / 4 if kind == 'joint_delta' else target
    found = compared(chunk([[*row, -1.0]] * 4, robot=robot), arm=Arm(robot))
    np.testing.assert_allclose(found.joint_error, [0.1, 0, -0.2, 0, 0, 0, 0], atol=1e-6)
    gap = np.linalg.norm((ARM.pose(target) - ARM.pose(HOME))[:3, 3])
    assert found.translation_error == pytest.approx(gap, abs=1e-6)


@pytest.mark.parametrize(
    ('gripper', 'width', 'agrees'),
    [(-1.0, 0.08, True), (1.0, 0.0, True), (1.0, 0.045, True), (-1.0, 0.0, False),
     (1.0, 0.08, False), (1.0, 0.0601, False), (1.0, 0.0599, True)],
)  # fmt: skip
def test_a_gripper_that_holds_something_counts_as_closed(gripper, width, agrees):
    rows = [move(gripper=-gripper)] * 3 + [move(gripper=gripper)]
    assert compared(chunk(rows), width=width).gripper_agrees is agrees


def test_a_chunk_waits_until_the_joints_at_its_end_were_measured():
    shadow = Shadow(ARM, 0.3)
    shadow.offer(chunk([move()] * 4))
    measured(shadow, until_s=START_S + 0.35)
    assert shadow.due() == []
    measured(shadow, until_s=START_S + 0.4)
    assert len(shadow.due()) == 1


@pytest.mark.parametrize('stamp_s', [START_S - 0.1, START_S + 1.5])
def test_a_chunk_whose_time_was_not_measured_is_counted(stamp_s):
    shadow = Shadow(ARM, 0.3)
    measured(shadow)  # until 101
    shadow.put(JointReading(HOME, 0.08, START_S + 1.7))
    measured_again = JointReading(HOME, 0.08, START_S + 2.5)
    shadow.offer(chunk([move()] * 4, stamp_s=stamp_s))
    shadow.put(measured_again)
    assert shadow.due() == []
    assert shadow.unmeasured == 1


def test_a_gap_as_long_as_allowed_is_interpolated_over():
    found = compared(chunk([move()] * 4), step_s=0.25)
    assert found.translation_error == 0.0


def test_a_clock_that_was_set_back_forgets_everything():
    shadow = Shadow(ARM, 0.3)
    measured(shadow)
    shadow.offer(chunk([move()] * 4, stamp_s=START_S + 0.9))
    shadow.put(JointReading(HOME, 0.08, 1.0))
    assert shadow.due() == []
    shadow.offer(chunk([move()] * 4, stamp_s=1.0))
    for i in range(1, 6):
        shadow.put(JointReading(HOME, 0.08, 1.0 + 0.1 * i))
    assert len(shadow.due()) == 1


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'names': ('a',) * 7}, 'its actions are a, a'),
        ({'units': ('m',) * 7}, 'its actions are dx'),
        ({'actions': np.zeros((0, 7), np.float32)}, 'no actions'),
        ({'dt': 0.0}, 'no actions'),
        ({'dt': math.nan}, 'no actions'),
        ({'stamp_s': math.inf}, 'not finite'),
        ({'actions': np.full((2, 7), np.nan, np.float32)}, 'not finite'),
        ({'dt': KEPT_S}, 'longer than 30 s'),
    ],
)
def test_a_chunk_that_cannot_be_compared_is_refused_with_a_reason(changes, words):
    shadow = Shadow(ARM, 0.3)
    assert words in shadow.offer(replace(chunk([move()] * 4), **changes))
    measured(shadow)
    assert shadow.due() == []


def test_memory_is_bounded():
    shadow = Shadow(ARM, 0.3)
    for i in range(3 * round(KEPT_S) * 20):
        shadow.put(JointReading(HOME, 0.08, START_S + 0.05 * i))
    assert len(shadow._stamps) == len(shadow._readings) <= 2 * KEPT_S * 20 + 2
    for _ in range(MOST_WAITING + 10):
        shadow.offer(chunk([move()], stamp_s=1e6))
    assert len(shadow._waiting) == MOST_WAITING
