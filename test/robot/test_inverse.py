"""Inverse kinematics: what is reached, what limits and singular poses do to it."""

from arms import PLANAR, joint, link, planar, urdf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import numpy as np
import pytest

from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import STEP_RAD, Arm

ARMS = {name: Arm(load_robot(name)) for name in ('sim_panda', 'fr3_jtc', 'ur5e_jtc', 'so101')}
SIZES = [('sim_panda', 7), ('ur5e_jtc', 6), ('so101', 5)]


@pytest.mark.parametrize('name', ARMS)
def test_poses_of_random_joints_are_reached_from_nearby(name):
    arm, rng, missed = ARMS[name], np.random.default_rng(2), 0
    for joints in rng.uniform(arm.minimum, arm.maximum, (100, len(arm.names))):
        start = np.clip(joints + rng.uniform(-0.2, 0.2, len(joints)), arm.minimum, arm.maximum)
        target = arm.pose(joints)
        found = arm.solve(start, target)
        assert (found.joints >= arm.minimum).all()
        assert (found.joints <= arm.maximum).all()
        assert found.miss_m < 2e-3
        assert found.miss_rad < 2e-2
        missed += max(found.miss_m, found.miss_rad) > 1e-5
    assert missed <= 8  # near a singular pose joints are held back


@pytest.mark.parametrize('name', ARMS)
def test_what_is_missing_is_said_as_it_is(name):
    arm = ARMS[name]
    target = arm.pose(arm.start)
    target[:3, 3] += [0.02, -0.03, 0.01]
    none = arm.solve(arm.start, target, iterations=0)
    np.testing.assert_array_equal(none.joints, arm.start)
    assert none.miss_m == pytest.approx(np.sqrt(0.0014))
    assert none.miss_rad == pytest.approx(0.0, abs=1e-7)
    found = arm.solve(arm.start, target)
    left = np.linalg.norm(target[:3, 3] - arm.pose(found.joints)[:3, 3])
    assert found.miss_m == pytest.approx(left, abs=1e-12)


def test_a_turn_that_is_missing_is_an_angle():
    arm = ARMS['sim_panda']
    target = arm.pose(arm.start)
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    target[:3, :3] = turn @ target[:3, :3]
    assert arm.solve(arm.start, target, iterations=0).miss_rad == pytest.approx(np.pi / 2)
    assert arm.solve(arm.start, target).miss_rad < 1e-5


def test_more_steps_never_end_further_away():
    arm = ARMS['ur5e_jtc']
    target = np.eye(4)
    target[:3, 3] = [2.0, 0.5, 0.3]
    misses = []
    for steps in (0, 1, 3, 10, 30):
        found = arm.solve(arm.start, target, iterations=steps)
        misses.append(np.hypot(found.miss_m, found.miss_rad))
    assert misses == sorted(misses, reverse=True)
    assert misses[-1] < 0.7 * misses[0]


def test_one_step_moves_no_joint_further_than_that():
    arm = ARMS['sim_panda']
    target = arm.pose(arm.start)
    target[:3, 3] += [0.1, 0.3, 0.1]
    found = arm.solve(arm.start, target, iterations=1)
    assert np.abs(found.joints - arm.start).max() == pytest.approx(STEP_RAD, abs=1e-9)


def test_a_start_outside_the_limits_begins_on_them():
    arm = ARMS['sim_panda']
    outside = np.array(arm.start)
    outside[3] = arm.maximum[3] + 0.05
    found = arm.solve(outside, arm.pose(arm.start), iterations=0)
    assert found.joints[3] == arm.maximum[3]


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(ARMS)),
    place=arrays(float, 3, elements=st.floats(-2, 2)),
    share=st.floats(0, 1),
)
@example(name='sim_panda', place=np.array([0.34375, 0.0, 0.34375]), share=0.8828125)  # a rounding
def test_limits_hold_whatever_is_asked(name, place, share):
    arm = ARMS[name]
    target = np.eye(4)
    target[:3, 3] = place
    start = arm.minimum + share * (arm.maximum - arm.minimum)
    found = arm.solve(start, target)
    assert np.isfinite(found.joints).all()
    assert (found.joints >= arm.minimum).all()
    assert (found.joints <= arm.maximum).all()


def test_a_stretched_arm_does_not_flail_when_asked_a_little_further():
    arm = Arm(planar(start=(0.3, 0.0)), urdf(*PLANAR))
    target = arm.pose(arm.start)
    target[:3, 3] *= 1.001
    found = arm.solve(arm.start, target)
    assert np.abs(found.joints - arm.start).max() < 0.05
    assert found.miss_m == pytest.approx(0.002, abs=1e-4)


@pytest.mark.parametrize(
    ('name', 'singular'),
    [
        ('ur5e_jtc', [0.0, -1.2, 1.5, -1.9, 0.0, 0.3]),  # wrist: axes 4 and 6 parallel
        ('ur5e_jtc', [0.0, -1.2, 0.0, -0.4, -1.57, 0.0]),  # elbow stretched
        ('sim_panda', [0.0, 0.0, 0.0, -0.07, 0.0, 1.6, 0.8]),  # stretched upwards
    ],
)
def test_joints_stay_near_in_and_around_singular_poses(name, singular):
    arm, rng = ARMS[name], np.random.default_rng(3)
    for _ in range(20):
        start = np.clip(
            singular + rng.uniform(-0.01, 0.01, len(singular)), arm.minimum, arm.maximum
        )
        target = arm.pose(start)
        target[:3, 3] += rng.uniform(-0.002, 0.002, 3)
        found = arm.solve(start, target)
        assert np.abs(found.joints - start).max() < 0.5
        assert found.miss_m < 0.004


def test_manipulability_is_the_area_that_trigonometry_gives():
    side = joint('q3', 'two', 'three', '0 0 0', axis='0 1 0')
    parts = (*PLANAR[:4], link('three'), *PLANAR[4:6], side,
             joint('fixed', 'three', 'tip', '1 0 0', kind='fixed', limit=''))  # fmt: skip
    arm = Arm(planar(names=('q1', 'q2', 'q3'), start=(0, 1, 0)), urdf(*parts))
    for q2 in (0.3, 1.0, 1.9):
        matrix = arm.jacobian([0.4, q2, 0.0])
        expected = np.sqrt(np.linalg.det(matrix.T @ matrix))
        assert arm.manipulability([0.4, q2, 0.0]) == pytest.approx(expected)
    panda = ARMS['sim_panda']
    assert panda.manipulability(panda.start) == pytest.approx(
        np.sqrt(np.linalg.det(panda.jacobian(panda.start) @ panda.jacobian(panda.start).T))
    )
    ur = ARMS['ur5e_jtc']
    assert ur.manipulability([0.0, -1.2, 1.5, -1.9, 0.0, 0.3]) < 1e-9


@pytest.mark.parametrize(('name', 'size'), SIZES)
def test_the_jacobian_is_the_derivative_of_the_pose(name, size):
    from worldvla_ros.robot.kinematics import rotation_vector

    arm, step = ARMS[name], 1e-6
    for joints in np.random.default_rng(4).uniform(arm.minimum, arm.maximum, (5, size)):
        matrix = arm.jacobian(joints)
        assert matrix.shape == (6, size)
        for i, offset in enumerate(step * np.eye(size)):
            after, before = (arm.pose(joints + sign * offset) for sign in (1, -1))
            linear = (after[:3, 3] - before[:3, 3]) / (2 * step)
            turn = rotation_vector(after[:3, :3] @ before[:3, :3].T) / (2 * step)
            np.testing.assert_allclose(matrix[:, i], [*linear, *turn], atol=1e-6)


def test_poses_are_those_of_each_row():
    arm = ARMS['sim_panda']
    rows = np.random.default_rng(5).uniform(arm.minimum, arm.maximum, (4, 7))
    np.testing.assert_array_equal(arm.poses(rows), [arm.pose(row) for row in rows])
    assert arm.poses(rows[:0]).shape == (0, 4, 4)


def test_results_are_not_overwritten_by_the_next_call():
    arm = ARMS['sim_panda']
    first, matrix = arm.pose(arm.start), arm.jacobian(arm.start)
    kept, kept_matrix = first.copy(), matrix.copy()
    arm.pose(arm.minimum)
    arm.jacobian(arm.minimum)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(matrix, kept_matrix)
