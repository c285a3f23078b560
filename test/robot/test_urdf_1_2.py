"""URDF 1.2: limits of acceleration and jerk, rotations as quaternions, capsules."""

import math

from arms import BALL, PLANAR, joint, link, planar, urdf
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pinocchio as pin
import pytest

from worldvla_ros.errors import RobotError
from worldvla_ros.robot.check import check_robot
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.links import links
from worldvla_ros.robot.output import Output
from worldvla_ros.robot.urdf import arm_urdf
from worldvla_ros.robot.urdf_1_2 import along_z, roll_pitch_yaw

Q = np.array([0.3, 0.6])
HALF = math.sqrt(0.5)
numbers = st.floats(-1, 1).filter(lambda x: abs(x) > 1e-6)


def matrix(rpy):
    return pin.rpy.rpyToMatrix(*rpy)


def quaternion_matrix(quaternion):
    x, y, z, w = np.array(quaternion) / np.linalg.norm(quaternion)
    return pin.Quaternion(w, x, y, z).matrix()


@given(st.tuples(numbers, numbers, numbers, numbers))
def test_angles_turn_as_their_quaternion_does(quaternion):
    np.testing.assert_allclose(
        matrix(roll_pitch_yaw(quaternion)), quaternion_matrix(quaternion), atol=1e-9
    )


@given(st.floats(-3, 3), st.sampled_from([math.pi / 2, -math.pi / 2]), st.floats(-3, 3))
def test_straight_up_and_down_are_turned_too(roll, pitch, yaw):
    turn = pin.Quaternion(matrix((roll, pitch, yaw)))
    found = roll_pitch_yaw((turn.x, turn.y, turn.z, turn.w))
    np.testing.assert_allclose(matrix(found), matrix((roll, pitch, yaw)), atol=1e-6)


@given(st.tuples(*[st.floats(-3, 3)] * 3), st.floats(-2, 2))
def test_along_z_is_where_the_rotation_points(rpy, distance):
    expected = np.array([1.0, 2.0, 3.0]) + distance * matrix(rpy)[:, 2]
    np.testing.assert_allclose(along_z((1.0, 2.0, 3.0), rpy, distance), expected, atol=1e-12)


def turned(rotation):
    """Return a planar arm whose second joint is turned by an attribute of its origin."""
    second = joint('q2', 'one', 'two', '1 0 0').replace('rpy="0 0 0"', rotation)
    assert rotation in second
    return urdf(*PLANAR[:5], second, PLANAR[6])


def test_an_arm_with_a_quaternion_is_the_one_with_its_angles():
    arm, same = (
        Arm(planar(), turned(rotation))
        for rotation in (f'quat_xyzw="0 {HALF} 0 {HALF}"', f'rpy="0 {math.pi / 2} 0"')
    )
    np.testing.assert_allclose(arm.pose(Q), same.pose(Q), atol=1e-9)
    straight = Arm(planar(), urdf(*PLANAR))
    assert not np.allclose(arm.pose(Q), straight.pose(Q), atol=1e-3)


@pytest.mark.parametrize(
    'rotation',
    ['quat_xyzw="0 0 0 0"', 'quat_xyzw="0 0 0 2"', 'quat_xyzw="0 0 1"',
     'quat_xyzw="0 0 0 1" rpy="0 0 0"', 'quat_xyzw="nan 0 0 1"'],
)  # fmt: skip
def test_what_is_no_rotation_is_refused(rotation):
    with pytest.raises(RobotError, match='origin of q2'):
        Arm(planar(), turned(rotation))


def limited(limit):
    first = joint(
        'q1', 'base', 'one', limit=f'<limit lower="-2" upper="2" velocity="1.5" {limit}/>'
    )
    return urdf(*PLANAR[:4], first, *PLANAR[5:])


@pytest.mark.parametrize(
    ('limit', 'acceleration', 'jerk'),
    [
        ('acceleration="3" deceleration="4" jerk="20"', 3.0, 20.0),
        ('acceleration="4" deceleration="2"', 2.0, 50.0),
        ('deceleration="2.5"', 2.5, 50.0),
        ('acceleration="9" jerk="90"', 5.0, 50.0),
        ('acceleration="0" deceleration="0" jerk="0"', 5.0, 50.0),
        ('', 5.0, 50.0),
    ],
)
def test_the_tighter_limit_of_file_and_description_holds(limit, acceleration, jerk):
    arm = Arm(planar(), limited(limit))
    assert arm.acceleration.tolist() == [acceleration, 5.0]
    assert arm.jerk.tolist() == [jerk, 50.0]
    assert arm.velocity.tolist() == [1.5, 1.5]


def test_commands_keep_the_files_limit_of_acceleration():
    arm = Arm(planar(), limited('deceleration="2"'))
    output = Output(arm, 'velocity', 0.01)
    assert output._commander._velocities._acceleration.tolist() == [2.0, 5.0]


def test_a_description_that_is_looser_than_the_file_is_told():
    found = [f for f in check_robot(planar(), limited('acceleration="3"'))
             if f.field == 'joints.acceleration']  # fmt: skip
    assert len(found) == 1
    assert '5 rad/s² is looser than the URDF allows, 3 rad/s²' in found[0].text


def test_a_capsule_is_a_cylinder_between_two_balls():
    capsule = link('one', '<capsule radius="0.1" length="0.6"/>', '0.5 0 0').replace(
        '<origin xyz="0.5 0 0"/>', '<origin xyz="0.5 0 0" rpy="0 1.5707963267948966 0"/>'
    )
    part = arm_urdf(urdf(PLANAR[0], capsule, *PLANAR[2:]), planar())
    assert part.meshes == ()
    shapes = {found.name: found for found in links(part)}['one'].shapes
    assert [shape.kind for shape in shapes] == ['cylinder', 'sphere', 'sphere']
    assert shapes[0].size == (0.1, 0.6)
    np.testing.assert_allclose([s.position for s in shapes],
                               [[0.5, 0, 0], [0.8, 0, 0], [0.2, 0, 0]], atol=1e-9)  # fmt: skip


def test_capsules_touch():
    """A finger on the second link points back at the base, and reaches it or not."""

    def touching(length):
        capsule = link('two', f'<capsule radius="0.05" length="{length}"/>').replace(
            '<origin xyz="0 0 0"/>', '<origin xyz="0 0 0" rpy="0 1.5707963267948966 0"/>'
        )
        robot = planar(start=(0.3, 1.5))
        parts = (link('base', BALL), link('one'), capsule, *PLANAR[3:])
        return Arm(robot, urdf(*parts)).collisions(np.array([0.0, 0.0]))

    assert touching(0.5) == []
    assert len(touching(1.9)) == 1


@pytest.mark.parametrize(
    'size', ['radius="0" length="1"', 'radius="0.1"', 'radius="a" length="1"']
)
def test_a_capsule_that_is_none_is_refused(size):
    with pytest.raises(RobotError, match='capsule of link one'):
        arm_urdf(urdf(PLANAR[0], link('one', f'<capsule {size}/>'), *PLANAR[2:]), planar())
