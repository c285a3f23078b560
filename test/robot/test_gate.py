"""The gate: no command passes a limit, whatever made it."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import numpy as np
import pytest

from worldvla_ros.robot.commands import JointCommand, TwistCommand, tip_motion
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.gate import STILL_S, Gate
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.state import JointReading

PANDA = load_robot('sim_panda')
BOX = {'workspace_minimum': (0.35, -0.2, 0.1), 'workspace_maximum': (0.55, 0.2, 0.35)}
ROBOT = replace(PANDA, limits=replace(PANDA.limits, **BOX))
WHOLE, ARM = Arm(PANDA), Arm(ROBOT)
LIMITS = ROBOT.limits
VELOCITY = ARM.velocity
DT = 0.05
NOW = 50.0


def at(position):
    """Return joints with the tip at a position, pointing down."""
    home = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, np.pi / 4])
    pose = ARM.pose(home)
    pose[:3, 3] = position
    return ARM.solve(home, pose, iterations=40).joints


HOME = at([0.45, 0.0, 0.2])


def reading(positions=HOME):
    return JointReading(np.array(positions, float), 0.08, NOW)


def twist(linear=(0, 0, 0), angular=(0, 0, 0), width=0.08):
    return TwistCommand(np.array(linear, float), np.array(angular, float), width)


def moved(joint, by, start=HOME):
    positions = np.array(start)
    positions[joint] += by
    return JointCommand(positions, 0.08)


@pytest.fixture
def gate():
    return Gate(ARM, DT)


def test_a_command_within_all_limits_passes(gate):
    assert gate.admit(twist((0.1, 0, 0), (0, 0, 0.5)), reading(), NOW) is None
    assert Gate(ARM, DT).admit(moved(0, 0.02), reading(), NOW) is None


def test_a_refusal_says_what_was_commanded_which_limit_and_what_to_do(gate):
    refusal = gate.admit(twist((2, 0, 0)), reading(), NOW)
    assert str(refusal).startswith(
        'linear speed of the tip 2.000 m/s (limits.linear_speed 0.75 m/s). '
    )
    assert refusal.stamp_s == NOW


NEAR_JOINT_7 = np.append(HOME[:6], WHOLE.maximum[6] - 0.01)
DEFECT = 'Report this as a defect of worldvla_ros, with the log.'


@pytest.mark.parametrize(
    ('command', 'start', 'words'),
    [
        (
            moved(6, 0.011, NEAR_JOINT_7),
            NEAR_JOINT_7,
            'joint panda_joint7 commanded to 2.898 rad (-2.8973 to 2.8973 rad). '
            'Move the arm away from its joint limits.',
        ),
        (
            moved(0, 1.01 * VELOCITY[0] * DT),
            HOME,
            f'joint panda_joint1 commanded at 2.197 rad/s (joints.velocity 2.175 rad/s). {DEFECT}',
        ),
        (
            moved(0, 0.5),
            HOME,
            'joint panda_joint1 is 0.500 rad from its command (limits.joint_lag 0.3 rad). '
            'Check that the arm is free and its controller active, or raise limits.joint_lag.',
        ),
        (
            JointCommand(at([0.45, 0.0, 0.353]), 0.08),
            at([0.45, 0.0, 0.345]),
            'tip commanded to [0.45, 0.0, 0.353] m '
            '(workspace [0.35, -0.2, 0.1] to [0.55, 0.2, 0.35] m). '
            'Move the arm into the workspace, or enlarge it in the robot description.',
        ),
        (
            moved(3, 0.05),
            HOME,
            'linear speed of the tip 0.603 m/s (limits.linear_speed 0.1 m/s). ' + DEFECT,
        ),
    ],
)
def test_each_refusal_of_joint_targets_tells_value_limit_and_remedy(command, start, words):
    slow = 0.1 if 'limits.linear_speed' in words else 9.0
    robot = replace(ROBOT, limits=replace(LIMITS, linear_speed=slow, angular_speed=9.0))
    refusal = Gate(Arm(robot), DT).admit(command, reading(start), NOW)
    assert str(refusal) == words
    assert refusal.stamp_s == NOW


def test_what_lies_on_a_limit_passes():
    # a sum of floats may lie beyond by its last bits, and must not stop the arm
    free = replace(ROBOT, limits=replace(LIMITS, linear_speed=9.0, angular_speed=9.0))
    assert (
        Gate(Arm(free), DT).admit(moved(0, VELOCITY[0] * DT * (1 + 5e-6)), reading(), NOW) is None
    )
    lagging = reading(HOME - np.append(LIMITS.joint_lag + 5e-6, np.zeros(6)))
    gate = Gate(Arm(free), DT)
    assert gate.admit(moved(0, -LIMITS.joint_lag), lagging, NOW) is None
    # its lag passes, which is judged before its speed
    assert gate.admit(moved(0, 0.0), lagging, NOW + 0.2).guard == 'joint speed'
    whole = Gate(WHOLE, DT)
    assert whole.admit(moved(6, 0.01 + 5e-6, NEAR_JOINT_7), reading(NEAR_JOINT_7), NOW) is None


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('part', ['linear', 'angular', 'width', 'positions', 'joints'])
def test_nothing_leaves_that_is_not_finite(gate, part, value):
    command, joints = twist(), reading()
    if part in ('linear', 'angular'):
        command = twist(**{part: (0, value, 0)})
    elif part == 'width':
        command = twist(width=value)
    elif part == 'positions':
        command = moved(3, value)
    else:
        joints = reading(np.append(HOME[:6], value))
    assert gate.admit(command, joints, NOW).guard == 'finite command'


@pytest.mark.parametrize('width', [-0.01, 0.081])
def test_the_gripper_opens_no_wider_than_it_can(gate, width):
    assert gate.admit(twist(width=width), reading(), NOW).guard == 'gripper'
    assert gate.admit(JointCommand(HOME, width), reading(), NOW).guard == 'gripper'


@pytest.mark.parametrize(
    ('command', 'guard'),
    [
        (twist((0.76, 0, 0)), 'linear speed'),
        (twist((-0.5, 0.4, 0.45)), 'linear speed'),
        (twist(angular=(0, 0, -3.6)), 'angular speed'),
        (twist(angular=(2.5, 2.5, 0)), 'angular speed'),
    ],
)
def test_a_twist_keeps_to_the_speed_limits(gate, command, guard):
    assert gate.admit(command, reading(), NOW).guard == guard


@pytest.mark.parametrize('axis', [0, 1, 2])
@pytest.mark.parametrize('side', [-1, 1])
def test_a_twist_is_looked_ahead_by_one_period(gate, axis, side):
    wall = BOX['workspace_maximum' if side > 0 else 'workspace_minimum'][axis]
    position = np.array([0.45, 0.0, 0.2])
    position[axis] = wall - side * 0.01
    velocity = np.zeros(3)
    velocity[axis] = side * 0.19
    assert gate.admit(twist(velocity), reading(at(position)), NOW) is None
    velocity[axis] = side * 0.21
    refusal = gate.admit(twist(velocity), reading(at(position)), NOW)
    assert (refusal.guard, refusal.stamp_s) == ('workspace', NOW)


def test_from_outside_the_tip_may_only_come_back(gate):
    outside = reading(at([0.45, 0.0, 0.4]))
    assert gate.admit(twist((0, 0, 0.1)), outside, NOW).guard == 'workspace'
    assert gate.admit(twist((0, 0, -0.1)), outside, NOW) is None
    assert gate.admit(twist((0.1, 0, 0)), outside, NOW) is None
    further_out = JointCommand(at([0.45, 0.0, 0.42]), 0.08)
    assert Gate(ARM, DT).admit(further_out, outside, NOW).guard == 'workspace'


def test_the_tip_of_joint_targets_stays_in_the_workspace(gate):
    near = at([0.45, 0.0, 0.345])
    assert gate.admit(JointCommand(at([0.45, 0.0, 0.349]), 0.08), reading(near), NOW) is None
    gate.reset()
    refusal = gate.admit(JointCommand(at([0.45, 0.0, 0.353]), 0.08), reading(near), NOW)
    assert refusal.guard == 'workspace'


def test_a_joint_keeps_to_its_range():
    gate, start = Gate(WHOLE, DT), HOME.copy()
    start[6] = WHOLE.maximum[6] - 0.01
    assert gate.admit(moved(6, 0.009, start), reading(start), NOW) is None
    gate.reset()
    refusal = gate.admit(moved(6, 0.011, start), reading(start), NOW)
    assert refusal.guard == 'joint position'
    assert 'panda_joint7 commanded to 2.898 rad' in str(refusal)


def test_a_joint_that_is_measured_beyond_its_range_may_come_back():
    gate, start = Gate(WHOLE, DT), HOME.copy()
    start[6] = WHOLE.maximum[6] + 0.05
    assert gate.admit(moved(6, 0.01, start), reading(start), NOW).guard == 'joint position'
    assert gate.admit(moved(6, -0.01, start), reading(start), NOW) is None


@pytest.mark.parametrize('joint', range(7))
def test_a_joint_keeps_to_its_speed(joint):
    limits = replace(LIMITS, linear_speed=9.0, angular_speed=9.0)
    robot = replace(ROBOT, limits=limits)
    fast = 1.01 * VELOCITY[joint] * DT
    assert Gate(Arm(robot), DT).admit(moved(joint, fast), reading(), NOW).guard == 'joint speed'
    assert (
        Gate(Arm(robot), DT).admit(moved(joint, 0.9 * VELOCITY[joint] * DT), reading(), NOW)
        is None
    )


def test_speed_is_judged_by_the_time_since_the_last_command(gate):
    assert gate.admit(moved(0, 0.03), reading(), NOW) is None
    soon = NOW + 0.01
    assert gate.admit(moved(0, 0.06), reading(), soon).guard == 'joint speed'
    assert gate.admit(moved(0, 0.035), reading(), soon) is None
    assert gate.admit(moved(0, 0.065), reading(), soon + DT) is None


def test_a_long_pause_allows_no_faster_motion(gate):
    # the controller is told to arrive one period from now, however long ago the last command is
    assert gate.admit(moved(0, 0.03), reading(), NOW) is None
    assert gate.admit(moved(0, 0.2), reading(), NOW + 10).guard == 'joint speed'


def test_two_commands_at_one_time_are_refused(gate):
    assert gate.admit(moved(0, 0.01), reading(), NOW) is None
    assert gate.admit(moved(0, 0.01), reading(), NOW).guard == 'joint speed'
    assert gate.admit(moved(0, 0.01), reading(), NOW - 1).guard == 'joint speed'


def test_tip_speeds_hold_for_joint_targets():
    slow = replace(ROBOT, limits=replace(LIMITS, linear_speed=0.1))
    assert Gate(Arm(slow), DT).admit(moved(0, 0.05), reading(), NOW).guard == 'linear speed'
    slow = replace(ROBOT, limits=replace(LIMITS, angular_speed=0.1))
    assert Gate(Arm(slow), DT).admit(moved(6, 0.05), reading(), NOW).guard == 'angular speed'


def test_the_first_command_begins_where_the_arm_is(gate):
    refusal = gate.admit(moved(0, 0.5), reading(), NOW)
    assert refusal.guard == 'joint lag'
    assert 'panda_joint1 is 0.500 rad from its command' in str(refusal)


def test_a_blocked_arm_is_not_wound_up(gate):
    position, now, sent = HOME.copy(), NOW, 0
    jitter = 0.0
    while True:
        position[0] += 0.05
        now += DT
        jitter = 0.003 - jitter  # an arm that trembles is no arm that stands still
        held = reading(HOME + jitter)
        refusal = gate.admit(JointCommand(position.copy(), 0.08), held, now)
        if refusal is not None:
            break
        sent += 1
    assert refusal.guard == 'joint lag'
    assert sent == pytest.approx(LIMITS.joint_lag / 0.05, abs=1)


def test_after_a_reset_commands_begin_where_the_arm_is(gate):
    assert gate.admit(moved(0, 0.05), reading(), NOW) is None
    assert gate.joints[0] == pytest.approx(HOME[0] + 0.05)
    gate.reset()
    assert gate.joints is None
    assert gate.duration(NOW) == DT
    assert gate.admit(moved(0, 0.09), reading(), NOW + DT).guard == 'linear speed'


class TestAnArmThatDoesNotFollow:
    def drive(self, gate, seconds, joints=HOME, start=NOW, speed=0.1):
        """Command a twist at 20 Hz; return the first refusal and its time."""
        for i in range(round(seconds / DT)):
            now = start + i * DT
            where = joints(now) if callable(joints) else joints
            refusal = gate.admit(twist((0, speed, 0)), reading(where), now)
            if refusal is not None:
                return refusal, now
        return None, None

    def test_frozen_joint_states_are_noticed(self, gate):
        refusal, when = self.drive(gate, 2.0)
        assert refusal.guard == 'arm does not follow'
        assert 'joint states are live' in refusal.remedy
        assert STILL_S < when - NOW < STILL_S + 0.3

    def test_it_stays_so_over_stops_until_the_operator_enables(self, gate):
        self.drive(gate, 2.0)
        gate.reset()
        assert self.drive(gate, DT, start=NOW + 30)[0].guard == 'arm does not follow'
        gate.release()
        assert self.drive(gate, 0.3, start=NOW + 40)[0] is None

    def test_it_ends_when_the_joints_move(self, gate):
        self.drive(gate, 2.0)
        assert self.drive(gate, 0.3, HOME + 0.01, NOW + 3)[0] is None

    def test_an_arm_that_moves_is_no_such_arm(self, gate):
        def swaying(now):
            return HOME + 0.05 * np.sin(now)

        assert self.drive(gate, 5.0, swaying)[0] is None

    def test_a_still_command_asks_for_no_motion(self, gate):
        assert self.drive(gate, 5.0, speed=0.0)[0] is None

    def test_a_pause_before_a_motion_does_not_count(self, gate):
        assert self.drive(gate, 5.0, speed=0.0)[0] is None
        assert self.drive(gate, 0.45, start=NOW + 5)[0] is None

    def test_rotations_count_too(self, gate):
        for i in range(40):
            now = NOW + i * DT
            refusal = gate.admit(twist(angular=(0, 0, 1)), reading(), now)
        assert refusal.guard == 'arm does not follow'

    def test_joint_targets_count_too(self):
        limits = replace(LIMITS, joint_lag=3.0)
        gate, position = Gate(Arm(replace(ROBOT, limits=limits)), DT), HOME.copy()
        for i in range(20):
            position[0] += 0.01
            refusal = gate.admit(JointCommand(position.copy(), 0.08), reading(), NOW + i * DT)
        assert refusal.guard == 'arm does not follow'


steps = st.tuples(
    st.floats(-0.02, 0.2),
    arrays(float, 7, elements=st.floats(-0.3, 0.3)),
    arrays(float, 7, elements=st.floats(-0.05, 0.05)),
    st.booleans(),
)


def inside(position, start):
    low, high = np.array(LIMITS.workspace_minimum), np.array(LIMITS.workspace_maximum)
    room = np.maximum(np.maximum(low - start, start - high), 0) + 1e-4
    return ((position >= low - room) & (position <= high + room)).all()


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=12), st.floats(0.005, 0.2))
def test_no_stream_of_joint_targets_passes_a_limit(stream, period):
    gate, now, last = Gate(ARM, period), NOW, None
    position, measured = HOME.copy(), HOME.copy()
    for wait, step, drift, follows in stream:
        now += wait
        if follows:
            position, measured = position + 0.1 * step, measured + drift
        else:
            position = position + step
        if gate.admit(JointCommand(position.copy(), 0.08), reading(measured), now) is not None:
            continue
        start, since = (
            (measured, period) if last is None else (last[0], min(now - last[1], period))
        )
        tip = tip_motion(ARM, start, position)
        assert (np.abs(position - start) <= VELOCITY * since * 1.0001).all()
        assert tip.linear <= LIMITS.linear_speed * since * 1.0001
        assert tip.angular <= LIMITS.angular_speed * since * 1.0001
        assert np.abs(position - measured).max() <= LIMITS.joint_lag + 1e-4
        assert inside(ARM.pose(position)[:3, 3], ARM.pose(start)[:3, 3])
        last = position.copy(), now


speeds = arrays(float, 3, elements=st.floats(-4, 4))


@settings(max_examples=200, deadline=None)
@given(speeds, speeds, arrays(float, 7, elements=st.floats(-0.3, 0.3)), st.floats(0.005, 0.2))
def test_no_twist_passes_a_limit(linear, angular, offset, period):
    measured = HOME + offset
    if Gate(ARM, period).admit(twist(linear, angular), reading(measured), NOW) is not None:
        return
    assert np.linalg.norm(linear) <= LIMITS.linear_speed * 1.0001
    assert np.linalg.norm(angular) <= LIMITS.angular_speed * 1.0001
    start = ARM.pose(measured)[:3, 3]
    assert inside(start + linear * period, start)
