"""Kinematics: against MuJoCo's, against differences, and there and back."""

import arms
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import numpy as np
import pytest

from worldvla_ros.checkpoint.profiles import load_profile
from worldvla_ros.robot import kinematics
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.state import JointBuffer, robosuite_axis_angle, robot_state
from worldvla_ros.sim.tabletop import TabletopEnv

ROBOT = load_robot('sim_panda')
ARM = kinematics.Arm(ROBOT)
LOW, HIGH = ARM.minimum, ARM.maximum
HOME = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, np.pi / 4])


@pytest.fixture(scope='module')
def env():
    env = TabletopEnv(cameras=(), image_size=0)
    env.reset(seed=8000)
    yield env
    env.close()


def read(arm, positions):
    """Return a joint reading from the positions of the arm and of the fingers."""
    buffer = JointBuffer(arm, max_age_s=1.0)
    buffer.put([*arm.names, *arm.robot.gripper.names], positions, 1.0)
    return buffer.newest(1.0)


def random_joints(count):
    return np.random.default_rng(0).uniform(LOW, HIGH, (count, 7))


def simulated_pose(env, joints):
    import mujoco

    for name, value in zip(ROBOT.joints.names, joints, strict=True):
        env.data.joint(name).qpos[0] = value
    mujoco.mj_forward(env.model, env.data)
    return env.tcp_pose()


def test_the_tip_is_where_mujoco_has_it(env):
    for joints in random_joints(50):
        position, rotation = simulated_pose(env, joints)
        pose = ARM.pose(joints)
        np.testing.assert_allclose(pose[:3, 3], position, atol=1e-6)
        np.testing.assert_allclose(pose[:3, :3], rotation, atol=1e-6)


def test_joint_limits_are_those_of_the_simulation(env):
    limits = [env.model.joint(name).range for name in ROBOT.joints.names]
    np.testing.assert_allclose(limits, np.stack([LOW, HIGH], axis=1))


def test_the_jacobian_is_the_derivative_of_the_tip():
    step = 1e-6
    for joints in random_joints(10):
        matrix = ARM.jacobian(joints)
        for i, offset in enumerate(step * np.eye(7)):
            after, before = (ARM.pose(joints + s * offset) for s in (1, -1))
            linear = (after[:3, 3] - before[:3, 3]) / (2 * step)
            turn = kinematics.rotation_vector(after[:3, :3] @ before[:3, :3].T) / (2 * step)
            np.testing.assert_allclose(matrix[:, i], [*linear, *turn], atol=1e-6)


def test_where_the_base_stands_in_its_urdf_makes_no_difference():
    mount = arms.joint(
        'mount', 'floor', 'base', '0.2 0 0.1', kind='fixed', limit='', rpy='0.3 -0.5 0.7'
    )
    mounted = kinematics.Arm(arms.planar(), arms.urdf(arms.link('floor'), mount, *arms.PLANAR))
    alone = kinematics.Arm(arms.planar(), arms.urdf(*arms.PLANAR))
    joints = np.array([0.4, -0.9])
    assert alone.pose(joints)[:3, 3] == pytest.approx(
        [np.cos(0.4) + np.cos(-0.5), np.sin(0.4) + np.sin(-0.5), 0]
    )
    np.testing.assert_allclose(mounted.pose(joints), alone.pose(joints), atol=1e-12)
    np.testing.assert_allclose(mounted.jacobian(joints), alone.jacobian(joints), atol=1e-12)
    quaternions = mounted.tip_quaternion(joints), alone.tip_quaternion(joints)
    np.testing.assert_allclose(*quaternions, atol=1e-12)


def test_without_a_start_pose_it_is_the_middle_of_the_ranges():
    robot = arms.planar(start=(), joints={'minimum': (-1.0, -1.5), 'maximum': (1.5, 0.5)})
    arm = kinematics.Arm(robot, arms.urdf(*arms.PLANAR))
    assert arm.start.tolist() == [0.25, -0.5]
    assert arm.robot is robot
    assert arm.jerk.tolist() == [50.0, 50.0]


def test_a_slow_joint_has_the_velocity_of_its_urdf():
    slow = '<limit lower="-2" upper="2" velocity="0.5" effort="1"/>'
    parts = [arms.joint('q1', 'base', 'one', limit=slow), *arms.PLANAR[:4], *arms.PLANAR[5:]]
    arm = kinematics.Arm(arms.planar(), arms.urdf(*parts))
    assert arm.velocity.tolist() == [0.5, 1.5]


def test_a_tiny_turn_keeps_its_size():
    for size in (1e-9, 1e-7, 1e-5):
        turn = kinematics.rotation_vector(kinematics.rotation_matrix(np.array([0, size, 0])))
        assert turn == pytest.approx([0, size, 0], rel=1e-6)


def test_inverse_kinematics_reaches_poses_near_home():
    rng = np.random.default_rng(1)
    for _ in range(20):
        target = ARM.pose(HOME + rng.uniform(-0.2, 0.2, 7))
        joints = ARM.solve(HOME, target).joints
        reached = ARM.pose(joints)
        np.testing.assert_allclose(reached, target, atol=1e-4)


def test_inverse_kinematics_stays_within_limits_where_it_cannot_reach():
    target = np.eye(4)
    target[:3, :3] = kinematics.DOWN
    for target[:3, 3] in ([3.0, 0.0, 0.2], [0.0, 0.0, -1.0], [-0.5, 0.5, 0.1]):
        joints = ARM.solve(HOME, target, iterations=30).joints
        assert (joints >= LOW).all()
        assert (joints <= HIGH).all()


def test_inverse_kinematics_does_not_move_where_it_already_is():
    joints = ARM.solve(HOME, ARM.pose(HOME)).joints
    np.testing.assert_allclose(joints, HOME, atol=1e-9)


components = st.floats(-10, 10, allow_subnormal=False)
vectors = arrays(float, 3, elements=components)


@given(vectors)
def test_a_rotation_matrix_is_a_rotation(vector):
    matrix = kinematics.rotation_matrix(vector)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


@given(vectors)
def test_the_vector_of_a_rotation_gives_the_rotation_back(vector):
    matrix = kinematics.rotation_matrix(vector)
    again = kinematics.rotation_vector(matrix)
    assert np.linalg.norm(again) <= np.pi + 1e-9
    np.testing.assert_allclose(kinematics.rotation_matrix(again), matrix, atol=1e-6)


@given(vectors.filter(lambda v: np.linalg.norm(v) > 1e-6), st.floats(1e-6, 3.1))
def test_turns_below_pi_come_back_as_they_were(direction, angle):
    vector = direction / np.linalg.norm(direction) * angle
    back = kinematics.rotation_vector(kinematics.rotation_matrix(vector))
    np.testing.assert_allclose(back, vector, atol=1e-7)


@pytest.mark.parametrize(
    'axis', [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.6, -0.8, 0), (-0.6, 0, 0.8), (0.48, -0.6, 0.64)]
)
def test_half_turns_keep_their_axis(axis):
    turn = np.pi * np.array(axis)
    back = kinematics.rotation_vector(2 * np.outer(axis, axis) - np.eye(3))
    np.testing.assert_allclose(min(back @ turn, -back @ turn), -(np.pi**2), atol=1e-6)


def test_the_state_from_joints_is_the_state_of_the_simulation(env):
    rng = np.random.default_rng(0)
    for width in (0.0, 0.02, 0.04):
        env.data.joint('panda_finger_joint2').qpos[0] = width
        simulated_pose(env, HOME + rng.uniform(-0.3, 0.3, 7))
        state = robot_state(ARM, 'tcp_pose_width', read(ARM, env.joint_positions()))
        assert state.dtype == np.float32
        np.testing.assert_allclose(state, env.state(), atol=2e-6)


LIBERO = kinematics.Arm(load_robot('libero'))
LIBERO_HOME = np.array([0.0, -0.161037389, 0.0, -2.44459747, 0.0, 2.2267522, np.pi / 4])


def test_the_quaternion_of_the_tip_is_its_rotation():
    for joints in random_joints(20):
        w, *axis = LIBERO.tip_quaternion(joints)
        sine = np.linalg.norm(axis)
        turn = np.asarray(axis) / sine * 2 * np.arctan2(sine, w)
        rotation = LIBERO.pose(joints)[:3, :3]
        np.testing.assert_allclose(kinematics.rotation_matrix(turn), rotation, atol=1e-9)


def test_the_quaternion_of_the_tip_is_the_one_that_mujoco_has(env):
    import mujoco

    for joints in random_joints(20):
        for name, value in zip(ROBOT.joints.names, joints, strict=True):
            env.data.joint(name).qpos[0] = value
        mujoco.mj_forward(env.model, env.data)
        expected = np.zeros(4)
        hand = env.model.joint('panda_joint7').bodyid[0]
        mujoco.mju_mulQuat(
            expected, env.data.xquat[hand], [np.cos(np.pi / 8), 0, 0, -np.sin(np.pi / 8)]
        )
        np.testing.assert_allclose(ARM.tip_quaternion(joints), expected, atol=1e-6)


def test_the_state_at_liberos_start_is_within_the_published_statistics():
    reading = read(LIBERO, np.append(LIBERO_HOME, [0.02, 0.02]))
    state = robot_state(LIBERO, 'libero_pose_fingers', reading)
    assert state.dtype == np.float32
    np.testing.assert_allclose(state[:3], [-0.21, 0.0, 1.17], atol=0.02)
    np.testing.assert_allclose(state[3:6], [np.pi, 0, 0], atol=0.15)
    np.testing.assert_allclose(state[6:], [0.02, -0.02])
    wanted = load_profile('rynnvla_vla_256_libero_goal').state
    assert (state >= np.array(wanted.minimum)).all()
    assert (state <= np.array(wanted.maximum)).all()


def quaternion(axis, angle):
    """Return (x, y, z, w) of a turn about a unit axis."""
    return np.append(np.sin(angle / 2) * np.asarray(axis, float), np.cos(angle / 2))


@given(angle=st.floats(0.01, 2 * np.pi - 0.01), tilt=st.floats(0, np.pi), turn=st.floats(0, 6.28))
def test_axis_angle_of_robosuite_keeps_angles_beyond_pi(angle, tilt, turn):
    axis = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)])
    found = robosuite_axis_angle(quaternion(axis, angle))
    np.testing.assert_allclose(found, angle * axis, atol=1e-6)


def test_a_quaternion_and_its_negative_are_told_apart_though_they_are_one_rotation():
    turn = quaternion([1, 0, 0], 3.0)
    one, other = (robosuite_axis_angle(q) for q in (turn, -turn))
    np.testing.assert_allclose(one, [3.0, 0, 0])
    np.testing.assert_allclose(other, [3.0 - 2 * np.pi, 0, 0])
    np.testing.assert_allclose(
        kinematics.rotation_matrix(one), kinematics.rotation_matrix(other), atol=1e-12
    )


@pytest.mark.parametrize('w', [1.0, 1.0000001, -1.0, -1.0000001])
def test_axis_angle_of_robosuite_is_zero_where_there_is_no_axis(w):
    np.testing.assert_array_equal(robosuite_axis_angle([0, 0, 0, w]), np.zeros(3))


def test_axis_angle_of_robosuite_leaves_the_quaternion_alone():
    turn = np.array([0.0, 0.0, 0.0, 1.5])
    robosuite_axis_angle(turn)
    assert turn[3] == 1.5
