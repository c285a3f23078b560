"""Commands: what an action becomes for MoveIt Servo and for ros2_control."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import numpy as np
import pytest

from worldvla_ros.robot.commands import gripper_width, joint_command, tip_motion, twist_command
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm, rotation_vector

BOX = {'workspace_minimum': (0.35, -0.2, 0.1), 'workspace_maximum': (0.55, 0.2, 0.35)}
PANDA = load_robot('sim_panda')
ROBOT = replace(PANDA, limits=replace(PANDA.limits, **BOX))
ARM = Arm(ROBOT)
LIMITS = ROBOT.limits
LOW, HIGH = np.array(LIMITS.workspace_minimum), np.array(LIMITS.workspace_maximum)
VELOCITY = ARM.velocity
HOME = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, np.pi / 4])
DT = 0.05
CLOSE, OPEN = 1.0, -1.0


def action(translation=(0, 0, 0), rotation=(0, 0, 0), gripper=OPEN):
    return np.array([*translation, *rotation, gripper], float)


def at(position):
    """Return joints with the tip at a position, pointing down."""
    pose = ARM.pose(HOME)
    pose[:3, 3] = position
    return ARM.solve(HOME, pose, iterations=40).joints


def test_a_twist_makes_the_action_in_one_period():
    command = twist_command(ARM, HOME, action((0.01, -0.005, 0.002), (0.03, 0.02, -0.05)), DT)
    np.testing.assert_allclose(command.linear, [0.2, -0.1, 0.04])
    np.testing.assert_allclose(command.angular, [0.6, 0.4, -1.0])
    assert not command.clipped


@pytest.mark.parametrize('axis', [0, 1, 2])
@pytest.mark.parametrize('side', [-1, 1])
def test_a_twist_ends_at_the_wall_of_the_workspace(axis, side):
    wall = HIGH if side > 0 else LOW
    position = np.array([0.45, 0.0, 0.2])
    position[axis] = wall[axis] - side * 0.004
    joints = at(position)
    move = np.full(3, 0.001)
    move[axis] = side * 0.02
    command = twist_command(ARM, joints, action(move), DT)
    end = ARM.pose(joints)[:3, 3] + command.linear * DT
    assert end[axis] == pytest.approx(wall[axis], abs=1e-9)
    others = [i for i in range(3) if i != axis]
    np.testing.assert_allclose(command.linear[others] * DT, 0.001)  # it slides along the wall
    assert command.clipped


def test_from_outside_of_the_workspace_a_twist_only_leads_back():
    joints = at([0.45, 0.0, HIGH[2] + 0.03])
    away = twist_command(ARM, joints, action((0, 0, 0.01)), DT)
    assert away.linear[2] == pytest.approx(-0.2)  # no faster than the action
    back = twist_command(ARM, joints, action((0, 0, -0.01)), DT)
    assert back.linear[2] == pytest.approx(-0.2)
    still = twist_command(ARM, joints, action((0, 0, 0)), DT)
    assert still.linear[2] == 0


@pytest.mark.parametrize(('value', 'width'), [(CLOSE, 0.0), (0.1, 0.0), (0.0, 0.08), (OPEN, 0.08)])
def test_the_gripper_closes_above_its_threshold_and_opens_below(value, width):
    assert gripper_width(ROBOT, value) == width
    assert twist_command(ARM, HOME, action(gripper=value), DT).width == width
    assert joint_command(ARM, HOME, action(gripper=value), DT).width == width


@pytest.mark.parametrize(('value', 'width'), [(1.0, 0.08), (0.5, 0.08), (0.49, 0.0), (0.0, 0.0)])
def test_where_a_gripper_action_is_an_opening_it_closes_below(value, width):
    robot = replace(ROBOT, gripper=replace(ROBOT.gripper, close_above=None, close_below=0.5))
    assert gripper_width(robot, value) == width


def test_without_a_threshold_it_closes_above_0():
    robot = replace(ROBOT, gripper=replace(ROBOT.gripper, close_above=None))
    assert gripper_width(robot, 0.01) == 0.0
    assert gripper_width(robot, 0.0) == 0.08


def test_joint_targets_make_the_action():
    move, turn = np.array([0.005, -0.004, -0.006]), np.array([0.02, 0.01, -0.03])
    command = joint_command(ARM, HOME, action(move, turn), DT)
    before, after = ARM.pose(HOME), ARM.pose(command.positions)
    np.testing.assert_allclose(after[:3, 3] - before[:3, 3], move, atol=1e-4)
    np.testing.assert_allclose(rotation_vector(after[:3, :3] @ before[:3, :3].T), turn, atol=1e-3)
    assert not command.clipped


def test_joint_targets_end_at_the_wall_of_the_workspace():
    joints = at([0.45, 0.0, HIGH[2] - 0.004])
    command = joint_command(ARM, joints, action((0, 0, 0.02)), DT)
    assert ARM.pose(command.positions)[2, 3] == pytest.approx(HIGH[2], abs=1e-4)
    assert command.clipped


def test_less_time_makes_a_shorter_step_in_the_same_direction():
    move = action((0.0, 0.02, 0.0))
    whole = joint_command(ARM, HOME, move, DT).positions - HOME
    part = joint_command(ARM, HOME, move, 0.01).positions - HOME
    share = np.linalg.norm(part) / np.linalg.norm(whole)
    assert 0.05 < share < 0.5
    np.testing.assert_allclose(part, share * whole, atol=1e-9)


def test_no_joint_is_faster_than_its_limit():
    joints = HOME.copy()
    joints[5] = 0.02  # close to a singular wrist: a small rotation needs large joint steps
    command = joint_command(ARM, joints, action(rotation=(0.17, 0, 0)), DT)
    speeds = np.abs(command.positions - joints) / DT
    assert (speeds <= VELOCITY).all()
    assert (speeds / VELOCITY).max() > 0.5


unit = st.floats(-1, 1, allow_subnormal=False)


@settings(max_examples=60, deadline=None)
@given(arrays(float, 7, elements=unit), arrays(float, 7, elements=unit), st.floats(0.001, 0.2))
def test_joint_commands_keep_to_every_speed_limit(place, move, duration):
    start = np.clip(HOME + 0.8 * place, ARM.minimum, ARM.maximum)
    command = joint_command(ARM, start, 0.5 * move, duration)
    speeds = np.abs(command.positions - start) / duration
    tip = tip_motion(ARM, start, command.positions)
    assert (speeds <= VELOCITY * (1 + 1e-9)).all()
    assert tip.linear <= LIMITS.linear_speed * duration * (1 + 1e-6)
    assert tip.angular <= LIMITS.angular_speed * duration * (1 + 1e-6)


def test_no_action_means_no_motion():
    np.testing.assert_allclose(joint_command(ARM, HOME, action(), DT).positions, HOME, atol=1e-9)
    np.testing.assert_array_equal(twist_command(ARM, HOME, action(), DT).linear, 0)
