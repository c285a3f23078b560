"""The shipped descriptions: published poses and limits, legal start poses, nothing to complain."""

import numpy as np
import pytest

from worldvla_ros.robot.check import check_robot
from worldvla_ros.robot.description import load_robot, robots_folder
from worldvla_ros.robot.kinematics import Arm, rotation_vector

SHIPPED = sorted(p.stem for p in robots_folder().glob('*.yaml'))
GENERIC = (robots_folder() / 'urdf/ur5e.urdf').read_text()
for _number, _name in enumerate(load_robot('ur5e_jtc').joints.names, 1):
    GENERIC = GENERIC.replace(f'"{_name}"', f'"joint_{_number}"')


def text_of(name):
    """Return the URDF of a description that leaves it to the user."""
    return GENERIC if load_robot(name).urdf == 'topic' else None


@pytest.mark.parametrize('name', SHIPPED)
def test_it_builds_an_arm_whose_start_is_legal(name):
    robot = load_robot(name)
    arm = Arm(robot, text_of(name))
    assert (arm.minimum < arm.start).all()
    assert (arm.start < arm.maximum).all()
    assert arm.ignored == ()
    assert arm.meshes == ()
    assert arm.collisions(arm.start) == []
    if robot.joints.start:
        tip = arm.pose(arm.start)[:3, 3]
        assert (tip > robot.limits.workspace_minimum).all()
        assert (tip < robot.limits.workspace_maximum).all()
        assert arm.manipulability(arm.start) > 0.005


@pytest.mark.parametrize('name', SHIPPED)
def test_nothing_in_it_is_a_problem(name):
    problems = [f for f in check_robot(load_robot(name), text_of(name)) if f.problem]
    assert problems == []


def test_a_ur5e_of_zeros_is_where_its_maker_has_it():
    # Universal Robots' DH parameters: a2, a3 and d1, d4, d5, d6 as below
    pose = Arm(load_robot('ur5e_jtc')).pose(np.zeros(6))
    expected = [0.425 + 0.3922, 0.1333 + 0.0996, 0.1625 - 0.0997]
    np.testing.assert_allclose(pose[:3, 3], expected, atol=1e-9)
    np.testing.assert_allclose(pose[:3, :3], [[-1, 0, 0], [0, 0, 1], [0, 1, 0]], atol=1e-9)


def test_a_ur5e_upright_has_its_flange_on_top():
    arm = Arm(load_robot('ur5e_jtc'))
    pose = arm.pose([0, -np.pi / 2, 0, -np.pi / 2, 0, 0])
    top = 0.1625 + 0.425 + 0.3922 + 0.0997
    np.testing.assert_allclose(pose[:3, 3], [0, 0.1333 + 0.0996, top], atol=1e-9)


@pytest.mark.parametrize('name', ['fr3_jtc', 'panda_servo'])
def test_a_franka_arm_in_its_ready_pose_points_straight_down(name):
    arm = Arm(load_robot(name))
    pose = arm.pose(arm.start)
    # by hand: the upper arm leans back by 45 degrees, the forearm is level, the hand hangs down
    slant = np.sqrt(0.5)
    x = (0.0825 - 0.316) * slant + 0.384 + 0.088
    z = 0.333 + (0.0825 + 0.316) * slant + 0.0825 - 0.107 - 0.1034
    np.testing.assert_allclose(pose[:3, 3], [x, 0.0, z], atol=1e-9)
    np.testing.assert_allclose(rotation_vector(pose[:3, :3] @ np.diag([1, -1, -1])), 0, atol=1e-9)


def test_limits_of_the_fr3_are_the_published_ones():
    arm = Arm(load_robot('fr3_jtc'))
    low = [-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159]
    high = [2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159]
    np.testing.assert_array_equal(arm.minimum, low)
    np.testing.assert_array_equal(arm.maximum, high)
    np.testing.assert_array_equal(arm.velocity, [1.31, 1.31, 1.31, 1.31, 2.63, 2.09, 2.63])


def test_limits_of_the_panda_are_the_published_ones():
    arm = Arm(load_robot('panda_servo'))
    low = [-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973]
    high = [2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973]
    np.testing.assert_array_equal(arm.minimum, low)
    np.testing.assert_array_equal(arm.maximum, high)
    np.testing.assert_array_equal(arm.velocity, [2.175] * 4 + [2.61] * 3)


def test_the_grip_site_of_libero_is_as_far_from_joint_7_as_robosuite_has_it():
    libero, panda = Arm(load_robot('libero')), Arm(load_robot('sim_panda'))
    near, far = libero.pose(libero.start), panda.pose(libero.start)
    np.testing.assert_allclose(near[:3, :3], far[:3, :3], atol=1e-12)
    offset = near[:3, :3].T @ (far[:3, 3] - near[:3, 3])
    np.testing.assert_allclose(offset, [0, 0, 0.2104 - 0.2035], atol=1e-12)


def test_an_so101_of_zeros_stretches_along_minus_y():
    arm = Arm(load_robot('so101'))
    tip = arm.pose(np.zeros(5))[:3, 3]
    assert tip[1] < -0.35
    assert abs(tip[0] - 0.0208) < 0.02
    turned = arm.pose([np.pi / 2, 0, 0, 0, 0])[:3, 3]
    assert abs(turned[0] - 0.0208) > 0.3  # the first joint turns it sideways


def test_the_so101s_gripper_is_read_from_its_angle():
    from worldvla_ros.robot.state import JointBuffer

    arm = Arm(load_robot('so101'))
    for angle, width in ((-0.174533, 0.0), (1.74533, 0.10), (0.7853985, 0.05), (-0.3, 0.0)):
        buffer = JointBuffer(arm, 1.0)
        buffer.put([*arm.names, 'gripper'], [*arm.start, angle], 1.0)
        assert buffer.newest(1.0).width == pytest.approx(width, abs=1e-6)
