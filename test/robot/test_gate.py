"""The gate: no command passes a limit, whatever made it."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import numpy as np
import pytest

from worldvla_ros.robot.bounds import ACCELERATION_SLACK, LATE, REPORT_DEFECT, SLACK
from worldvla_ros.robot.commands import (
    PoseCommand,
    PositionCommand,
    TrajectoryCommand,
    TwistCommand,
    VelocityCommand,
)
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.gate import FIRST_M, FIRST_RAD, LATEST_S, Gate, _Last
from worldvla_ros.robot.kinematics import Arm, rotation_matrix
from worldvla_ros.robot.state import JointReading

PANDA = load_robot('sim_panda')
BOX = {'workspace_minimum': (0.35, -0.2, 0.1), 'workspace_maximum': (0.55, 0.2, 0.35)}
FAST = {'linear_speed': 9.0, 'angular_speed': 9.0, 'linear_acceleration': 1e4}
ROBOT = replace(PANDA, limits=replace(PANDA.limits, **BOX))
ARM, LIMITS = Arm(ROBOT), ROBOT.limits
DT = 0.01
NOW = 50.0


def arm_with(**limits):
    return Arm(replace(ROBOT, limits=replace(LIMITS, **limits)))


def at(position):
    """Return joints with the tip at a position, pointing down."""
    home = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, np.pi / 4])
    pose = ARM.pose(home)
    pose[:3, 3] = position
    return ARM.solve(home, pose, iterations=60).joints


HOME = at([0.45, 0.0, 0.2])
POSE = ARM.pose(HOME)
EDGE = np.append(HOME[:6], ARM.maximum[6] - 0.01)


def reading(positions=HOME):
    return JointReading(np.array(positions, float), 0.08, NOW)


def twist(linear=(0, 0, 0), angular=(0, 0, 0), width=0.08):
    return TwistCommand(np.array(linear, float), np.array(angular, float), width)


def moved(joint, by, start=HOME):
    positions = np.array(start)
    positions[joint] += by
    return PositionCommand(positions, 0.08)


def posed(move=(0, 0, 0), turn=(0, 0, 0), start=POSE):
    pose = start.copy()
    pose[:3, 3] += move
    pose[:3, :3] = rotation_matrix(np.array(turn, float)) @ pose[:3, :3]
    return PoseCommand(pose, 0.08)


def speeds(joint, speed):
    values = np.zeros(7)
    values[joint] = speed
    return VelocityCommand(values, 0.08)


def trajectory(rows, times=None, velocities=None, accelerations=None):
    rows = np.array(rows, float)
    times = np.arange(1, len(rows) + 1) * 0.1 if times is None else np.array(times, float)
    return TrajectoryCommand(NOW, times, rows, velocities, accelerations, 0.08)


def gate_last(down):
    """Return what a gate remembers of a twist that went down [m/s] a period ago."""
    speed = np.array([0, 0, -down, 0, 0, 0], float)
    return _Last(speed, speed, DT, NOW)


@pytest.fixture
def gate():
    return Gate(ARM, DT)


def code(reason):
    """Return the code of a reason, which says when it was given; None without one."""
    if reason is None:
        return None
    assert isinstance(reason.stamp_s, float)
    return reason.code


class TestWhatAllCommandsShare:
    COMMANDS = (
        twist(),
        posed(),
        moved(0, 0.0),
        speeds(0, 0.0),
        trajectory([HOME, HOME]),
    )

    @pytest.mark.parametrize('command', COMMANDS)
    def test_an_arm_at_rest_passes(self, command):
        assert Gate(ARM, DT).admit(command, reading(), NOW) is None
        assert Gate(ARM, DT).admit(command, None, NOW) is None

    @pytest.mark.parametrize('command', COMMANDS)
    @pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
    def test_nothing_leaves_that_is_not_finite(self, command, value):
        arrays_of = [k for k, v in vars(command).items() if isinstance(v, np.ndarray)]
        for name in arrays_of:
            broken = getattr(command, name).copy()
            broken.flat[-1] = value
            reason = Gate(ARM, DT).admit(replace(command, **{name: broken}), reading(), NOW)
            assert code(reason) == 'command_invalid'
            assert str(reason) == f'a command with a number that is not finite. {REPORT_DEFECT}'
        assert code(Gate(ARM, DT).admit(replace(command, width=value), reading(), NOW)) == (
            'command_invalid'
        )
        blind = reading(np.append(HOME[:6], value))
        assert code(Gate(ARM, DT).admit(command, blind, NOW)) == 'command_invalid'

    @pytest.mark.parametrize('command', COMMANDS)
    @pytest.mark.parametrize('width', [-0.01, 0.081])
    def test_the_gripper_opens_no_wider_than_it_can(self, command, width):
        reason = Gate(ARM, DT).admit(replace(command, width=width), reading(), NOW)
        assert (code(reason), reason.value, reason.limit) == ('gripper', width, 0.08)
        assert reason.text == f'gripper width {width:.3f} m (0 to 0.08 m)'

    @pytest.mark.parametrize('command', COMMANDS)
    def test_two_at_one_time_are_refused(self, command, gate):
        assert gate.admit(command, reading(), NOW) is None
        for now in (NOW, NOW - 1):
            reason = gate.admit(command, reading(), now)
            assert code(reason) == 'command_invalid'
            assert reason.text == 'two commands at one time (one per control period)'
            assert reason.stamp_s == now

    @pytest.mark.parametrize('command', COMMANDS)
    def test_reasons_say_when_and_what_to_do(self, command, gate):
        blind = gate.admit(command, reading(np.full(7, np.nan)), NOW)
        wide = gate.admit(replace(command, width=1.0), reading(), NOW)
        gate.admit(command, reading(), NOW)
        twice = gate.admit(command, reading(), NOW)
        assert [reason.stamp_s for reason in (blind, wide, twice)] == [NOW] * 3
        assert (wide.remedy, wide.unit) == (REPORT_DEFECT, 'm')
        assert twice.remedy == 'Check the clock.'

    @pytest.mark.parametrize('width', [-0.5 * SLACK, 0.0, 0.08, 0.08 + 0.5 * SLACK])
    def test_a_width_has_room_for_rounding(self, width, gate):
        assert gate.admit(twist(width=width), reading(), NOW) is None

    def test_the_first_has_a_period_and_others_the_time_since_the_last(self, gate):
        assert gate.duration(NOW) == DT
        gate.admit(twist(), reading(), NOW)
        assert gate.duration(NOW + 0.004) == pytest.approx(0.004)
        assert gate.duration(NOW + 10) == LATEST_S
        assert Gate(ARM, 0.2).duration(NOW) == 0.2
        gate.reset()
        assert gate.duration(NOW + 10) == DT


class TestTwist:
    def ramp(self, gate, linear=(0, 0, 0), angular=(0, 0, 0), steps=200, joints=HOME):
        """Command a twist that grows from nothing; return the first refusal."""
        for i in range(1, steps + 1):
            share = i / steps
            command = twist(np.array(linear) * share, np.array(angular) * share)
            reason = gate.admit(command, reading(joints), NOW + i * DT)
            if reason is not None:
                return reason
        return None

    @pytest.mark.parametrize(
        ('motion', 'expected'),
        [
            ({'linear': (0.74, 0, 0)}, None),
            ({'linear': (0.76, 0, 0)}, 'linear_speed'),
            ({'linear': (-0.5, 0.4, 0.45)}, 'linear_speed'),
            ({'angular': (0, 0, -3.4)}, None),
            ({'angular': (0, 0, -3.6)}, 'angular_speed'),
            ({'angular': (2.5, 2.5, 0)}, 'angular_speed'),
        ],
    )
    def test_it_keeps_to_the_speed_limits(self, motion, expected):
        free = Gate(arm_with(workspace_minimum=(-9,) * 3, workspace_maximum=(9,) * 3), DT)
        assert code(self.ramp(free, **motion)) == expected

    def test_what_is_said_of_turning(self):
        gate = Gate(arm_with(angular_acceleration=1e3, angular_speed=0.1), DT)
        reason = gate.admit(twist((0, 0, 0), (0.2, 0, 0)), reading(), NOW)
        assert (
            reason.text == 'angular speed of the tip 0.200 rad/s (limits.angular_speed 0.1 rad/s)'
        )

    def test_what_is_said_of_speed(self):
        gate = Gate(arm_with(linear_acceleration=1e3, linear_speed=0.1), DT)
        reason = gate.admit(twist((0.2, 0, 0)), reading(), NOW)
        assert str(reason) == (
            f'linear speed of the tip 0.200 m/s (limits.linear_speed 0.1 m/s). {REPORT_DEFECT}'
        )
        assert (reason.value, reason.limit, reason.unit, reason.stamp_s) == (
            0.2, 0.1, 'm/s', NOW,
        )  # fmt: skip

    def test_it_begins_at_rest_and_changes_within_limits(self, gate):
        most = LIMITS.linear_acceleration * DT
        assert gate.admit(twist((most, 0, 0)), reading(), NOW) is None
        assert gate.admit(twist((2 * most, 0, 0)), reading(), NOW + DT) is None
        reason = gate.admit(twist((0.9 * most, 0, 0)), reading(), NOW + 2 * DT)
        assert code(reason) == 'linear_acceleration'
        assert reason.text.startswith('linear acceleration of the tip ')
        assert 'limits.linear_acceleration' in reason.text
        assert (reason.value, reason.unit) == (pytest.approx(1.1 * most / DT), 'm/s^2')
        reason = gate.admit(
            twist((2 * most, 0, 0), (0, 1.1 * LIMITS.angular_acceleration * DT, 0)),
            reading(),
            NOW + 2 * DT,
        )
        assert (code(reason), reason.unit) == ('angular_acceleration', 'rad/s^2')
        assert reason.text.startswith('angular acceleration of the tip ')

    def test_after_a_stop_it_begins_at_rest_again(self, gate):
        most = LIMITS.linear_acceleration * DT
        for i in range(3):
            assert gate.admit(twist(((i + 1) * most, 0, 0)), reading(), NOW + i * DT) is None
        gate.reset()
        assert gate.admit(twist((2 * most, 0, 0)), reading(), NOW + 1) is not None

    @pytest.mark.parametrize('axis', [0, 1, 2])
    @pytest.mark.parametrize('side', [-1, 1])
    def test_the_tip_can_always_stop_inside_the_box(self, axis, side):
        arm = arm_with(linear_acceleration=2.0)
        wall = BOX['workspace_maximum' if side > 0 else 'workspace_minimum'][axis]
        position = np.array([0.45, 0.0, 0.2])
        way = 0.1 * DT + 0.1**2 / 4
        for room, expected in ((way + 2e-5, None), (way - 2e-5, 'workspace')):
            position[axis] = wall - side * room
            speed = np.zeros(3)
            gate = Gate(arm, DT)
            for i in range(1, 6):
                speed[axis] = side * 0.02 * i
                reason = gate.admit(twist(speed), reading(at(position)), NOW + i * DT)
            assert code(reason) == expected

    def test_from_outside_the_tip_may_only_come_back(self):
        outside = reading(at([0.45, 0.0, 0.4]))
        for linear, expected in (
            ((0, 0, 0.01), 'workspace'),
            ((0, 0, -0.01), None),
            ((0.01, 0, 0), None),
        ):
            assert code(Gate(ARM, DT).admit(twist(linear), outside, NOW)) == expected

    def test_a_dry_run_has_no_measured_place(self):
        assert Gate(ARM, DT).admit(twist((0, 0, 0.01)), None, NOW) is None


class TestPose:
    def test_it_begins_where_the_arm_is(self, gate):
        assert gate.admit(posed((FIRST_M * 0.99, 0, 0)), reading(), NOW) is None
        gate.reset()
        reason = gate.admit(posed((FIRST_M * 1.01, 0, 0)), reading(), NOW)
        assert code(reason) == 'tip_lag'
        assert str(reason) == (
            'the tip is 0.005 m from its command (limits.tip_lag 0.005 m). '
            'Check that the arm is free, its controller active and no machine overloaded, or '
            'raise limits.tip_lag.'
        )
        assert (reason.value, reason.limit, reason.unit) == (
            pytest.approx(1.01 * FIRST_M), FIRST_M, 'm',
        )  # fmt: skip
        assert reason.stamp_s == NOW

    def test_it_stays_near_the_arm(self):
        gate = Gate(arm_with(linear_acceleration=1e5, linear_speed=99), DT)
        for i in range(1, 200):
            move = np.array([0, 0.002 * i, 0])
            reason = gate.admit(posed(move - [0, 0.002, 0]), reading(), NOW + i * DT)
            if reason is not None:
                break
        assert code(reason) == 'tip_lag'
        assert reason.limit == LIMITS.tip_lag
        assert reason.value == pytest.approx(LIMITS.tip_lag, abs=0.003)

    @pytest.mark.parametrize(
        ('step', 'expected'),
        [
            ((0.0074, 0, 0, 0, 0, 0), None),
            ((0.0076, 0, 0, 0, 0, 0), 'linear_speed'),
            ((0.0044, 0.0044, 0.0044, 0, 0, 0), 'linear_speed'),
            ((0, 0, 0, 0, 0.034, 0), None),
            ((0, 0, 0, 0, 0.036, 0), 'angular_speed'),
        ],
    )
    def test_its_speed_is_that_since_the_last(self, step, expected):
        gate = Gate(arm_with(linear_acceleration=1e5, angular_acceleration=1e6), DT)
        assert gate.admit(posed(), reading(), NOW) is None
        reason = gate.admit(posed(step[:3], step[3:]), reading(), NOW + DT)
        assert code(reason) == expected
        assert (code(gate.admit(posed(step[:3], step[3:]), reading(), NOW + 4 * DT))) is None

    @pytest.mark.parametrize(
        ('since_s', 'remedy', 'words'),
        [(0.04, REPORT_DEFECT, 'm/s)'), (0.12, LATE, f'came 0.12 s apart and not {DT} s')],
    )
    def test_what_only_a_late_one_does_is_a_matter_of_the_machine(self, since_s, remedy, words):
        gate = Gate(arm_with(linear_acceleration=1e5), DT)
        assert gate.admit(posed(), reading(), NOW) is None
        reason = gate.admit(posed((0.06, 0, 0)), reading(), NOW + since_s)
        assert (code(reason), reason.remedy) == ('linear_speed', remedy)
        assert reason.text.endswith(words)

    def test_its_acceleration_is_that_between_the_last_two_motions(self, gate):
        gain = LIMITS.linear_acceleration
        places = [0.0, 0.5 * gain * DT**2, 2.0 * gain * DT**2, 4.5 * gain * DT**2]
        for i, place in enumerate(places):
            assert gate.admit(posed((place, 0, 0)), reading(), NOW + i * DT) is None
        reason = gate.admit(posed((places[-1], 0, 0)), reading(), NOW + 4 * DT)
        assert code(reason) == 'linear_acceleration'

    def test_the_first_one_is_in_the_box_too(self):
        near = reading(at([0.45, 0.0, 0.348]))
        start = ARM.pose(near.positions)
        reason = Gate(ARM, DT).admit(posed((0, 0, 0.004), start=start), near, NOW)
        assert (code(reason), reason.stamp_s) == ('workspace', NOW)
        assert Gate(ARM, DT).admit(posed((0, 0, 0.001), start=start), near, NOW) is None

    def test_it_stays_in_the_box(self):
        gate = Gate(arm_with(linear_acceleration=1e5), DT)
        near = reading(at([0.45, 0.0, 0.345]))
        start = ARM.pose(near.positions)
        assert gate.admit(posed((0, 0, 0.004), start=start), near, NOW) is None
        assert code(gate.admit(posed((0, 0, 0.008), start=start), near, NOW + DT)) == 'workspace'
        gate.reset()
        assert code(Gate(ARM, DT).admit(posed((0, 0, 0.3)), None, NOW)) is None  # its own start


class TestCollisionsOfTheTip:
    """A twist or pose is judged by the joints in which the tip would be there."""

    LOW = replace(PANDA.limits, workspace_minimum=(0.3, -0.3, -0.1), linear_acceleration=1.0)
    ARM = Arm(replace(PANDA, limits=LOW))
    NEAR = replace(reading(at([0.45, 0.0, 0.02])), stamp_s=NOW)
    """The fingers end 5 mm below the tip, the table is 5 mm below 0: 2 cm are left."""

    @pytest.mark.parametrize(('speed', 'expected'), [(0.1, None), (0.3, 'table')])
    def test_a_twist_from_which_the_tip_stops_in_the_table_is_refused(self, speed, expected):
        limits = self.ARM.robot.limits
        stop_m = speed * DT + speed**2 / (2 * limits.linear_acceleration)
        assert (stop_m > 0.02) == (expected is not None)
        gate = Gate(self.ARM, DT)
        gate._last = gate_last(speed)
        reason = gate.admit(twist([0, 0, -speed]), self.NEAR, NOW + DT)
        assert code(reason) == expected
        if reason is not None:
            assert 'would touch table' in reason.text

    def test_a_twist_that_turns_the_hand_into_the_table_is_refused(self):
        wide = replace(self.ARM.robot.limits, angular_speed=9.0, angular_acceleration=1e3)
        gate = Gate(Arm(replace(PANDA, limits=wide)), 0.5)
        assert code(gate.admit(twist(angular=[2.8, 0, 0]), self.NEAR, NOW)) == 'table'

    @pytest.mark.parametrize(('down', 'expected'), [(0.015, None), (0.024, 'table')])
    def test_a_pose_in_the_table_is_refused(self, down, expected):
        gate = Gate(Arm(replace(PANDA, limits=replace(self.LOW, **FAST))), DT)
        pose = self.ARM.pose(self.NEAR.positions)
        gate._last = replace(gate_last(0.0), place=pose)
        reason = gate.admit(posed([0, 0, -down], start=pose), self.NEAR, NOW + DT)
        assert code(reason) == expected

    def test_they_are_looked_for_from_time_to_time_and_only_where_there_are_shapes(self):
        arm, asked = Arm(PANDA), []
        arm.collisions = lambda joints: asked.append(joints) or []
        gate = Gate(arm, DT)
        for tick in range(100):
            assert gate.admit(twist(), reading(), NOW + tick * DT) is None
        assert 17 <= len(asked) <= 20
        np.testing.assert_allclose(asked[0], HOME, atol=1e-9)
        free = replace(PANDA, collision=replace(PANDA.collision, check=False))
        arm = Arm(free)
        arm.collisions = lambda joints: pytest.fail('looked for')
        assert not arm.looks_for_collisions
        assert Gate(arm, DT).admit(twist(), reading(), NOW) is None


class TestPosition:
    def test_it_begins_where_the_arm_is(self, gate):
        assert gate.admit(moved(0, 0.99 * FIRST_RAD), reading(), NOW) is None
        gate.reset()
        reason = gate.admit(moved(0, 0.5), reading(), NOW)
        assert str(reason) == (
            'joint panda_joint1 is 0.500 rad from its command (limits.joint_lag 0.02 rad). '
            'Check that the arm is free, its controller active and no machine overloaded, or '
            'raise limits.joint_lag.'
        )
        assert (reason.code, reason.value, reason.limit, reason.unit) == (
            'joint_lag', pytest.approx(0.5), FIRST_RAD, 'rad',
        )  # fmt: skip
        assert reason.stamp_s == NOW

    def test_the_way_to_the_first_is_no_speed(self):
        arm = Arm(ROBOT)
        arm.velocity = np.full(7, 0.1)
        gate = Gate(arm, DT)
        assert gate.admit(moved(0, 0.99 * FIRST_RAD), reading(), NOW) is None
        reason = gate.admit(moved(0, 0.99 * FIRST_RAD + 0.0011), reading(), NOW + DT)
        assert code(reason) == 'joint_speed'

    def test_a_blocked_arm_is_not_wound_up(self):
        gate, sent, place = Gate(arm_with(**FAST), DT), 0, HOME.copy()
        while True:
            place = place + [min(1.0, 0.1 * sent) * DT, 0, 0, 0, 0, 0, 0]
            reason = gate.admit(PositionCommand(place, 0.08), reading(), NOW + sent * DT)
            if reason is not None:
                break
            sent += 1
        assert code(reason) == 'joint_lag'
        assert reason.limit == LIMITS.joint_lag
        assert place[0] - HOME[0] == pytest.approx(LIMITS.joint_lag, abs=0.011)

    @pytest.mark.parametrize('joint', range(7))
    def test_each_joint_keeps_to_its_speed(self, joint):
        arm = arm_with(**FAST)
        arm.acceleration = np.full(7, 1e5)
        fast = ARM.velocity[joint] * DT
        for share, expected in ((0.99, None), (1 + 0.5 * SLACK, None), (1.01, 'joint_speed')):
            gate = Gate(arm, DT)
            assert gate.admit(moved(joint, 0.0), reading(), NOW) is None
            assert code(gate.admit(moved(joint, share * fast), reading(), NOW + DT)) == expected

    def test_what_is_said_of_speed(self):
        gate = Gate(arm_with(**FAST), DT)
        gate.admit(moved(0, 0.0), reading(), NOW)
        reason = gate.admit(moved(0, -1.01 * ARM.velocity[0] * DT), reading(), NOW + DT)
        assert str(reason) == (
            'joint panda_joint1 commanded at -2.197 rad/s (joints.velocity 2.175 rad/s). '
            + REPORT_DEFECT
        )
        assert (reason.limit, reason.unit) == (2.175, 'rad/s')

    def test_speed_is_judged_by_the_time_since_the_last(self):
        arm = arm_with(**FAST)
        arm.acceleration = np.full(7, 1e5)
        gate = Gate(arm, DT)
        gate.admit(moved(0, 0.0), reading(), NOW)
        assert code(gate.admit(moved(0, 0.02), reading(), NOW + 0.005)) == 'joint_speed'
        assert gate.admit(moved(0, 0.02), reading(), NOW + 0.02) is None
        # a long pause allows no faster motion: the controller is told to be there now
        most = ARM.velocity[0] * LATEST_S
        assert code(gate.admit(moved(0, 0.03 + most), reading(), NOW + 10)) == 'joint_speed'
        assert gate.admit(moved(0, 0.01 + most), reading(), NOW + 10) is None

    def test_a_joint_keeps_to_its_acceleration(self, gate):
        gain = ARM.acceleration[0]
        for i in range(4):
            place = 0.5 * gain * (i * DT) ** 2
            assert gate.admit(moved(0, place), reading(), NOW + i * DT) is None
        reason = gate.admit(moved(0, place), reading(), NOW + 4 * DT)
        assert (code(reason), reason.unit) == ('joint_acceleration', 'rad/s^2')
        assert 'joints.acceleration' in reason.text
        assert reason.value == pytest.approx(-2.5 * gain)

    def test_acceleration_has_room_for_the_grain_of_the_clock(self, gate):
        gain = ARM.acceleration[0] * (1 + 0.9 * ACCELERATION_SLACK)
        for i in range(4):
            place = 0.5 * gain * (i * DT) ** 2
            assert gate.admit(moved(0, place), reading(), NOW + i * DT) is None

    def test_ticks_of_other_lengths_are_no_acceleration(self):
        gate, now = Gate(arm_with(**FAST), DT), NOW
        gate.admit(moved(0, 0.0), reading(), now)
        place = speed = 0.0
        for step in (0.01, 0.012, 0.03, 0.002, 0.01, 0.04, 0.01):
            place, speed = (
                place + speed * step + ARM.acceleration[0] * step**2 / 2,
                (speed + ARM.acceleration[0] * step),
            )
            now += step
            reason = gate.admit(moved(0, place), reading(moved(0, place).positions), now)
            if speed > ARM.velocity[0]:
                break
            assert reason is None

    def test_a_joint_keeps_to_its_range(self):
        arm = Arm(PANDA)
        start = EDGE.copy()
        assert Gate(arm, DT).admit(moved(6, 0.01 + 5e-6, start), reading(start), NOW) is None
        reason = Gate(arm, DT).admit(moved(6, 0.011, start), reading(start), NOW)
        assert str(reason) == (
            'joint panda_joint7 commanded to 2.898 rad (-2.8973 to 2.8973 rad). '
            'Move the arm away from its joint limits.'
        )
        assert (reason.code, reason.limit, reason.unit) == ('joint_position', 2.8973, 'rad')
        assert (reason.value, reason.stamp_s) == (pytest.approx(start[6] + 0.011), NOW)
        low = -start
        low[:6] = start[:6]
        reason = Gate(arm, DT).admit(moved(6, -0.011, low), reading(low), NOW)
        assert (reason.code, reason.limit) == ('joint_position', -2.8973)

    def test_a_joint_that_is_measured_beyond_its_range_may_come_back(self):
        start = EDGE.copy()
        start[6] = ARM.maximum[6] + 0.05
        gate = Gate(Arm(PANDA), DT)
        assert code(gate.admit(moved(6, 0.01, start), reading(start), NOW)) == 'joint_position'
        assert gate.admit(moved(6, -0.01, start), reading(start), NOW) is None

    def test_the_tip_keeps_to_its_speed_and_box(self):
        arm = arm_with(linear_speed=0.1)
        arm.acceleration = np.full(7, 1e5)
        gate = Gate(arm, DT)
        gate.admit(moved(3, 0.0), reading(), NOW)
        reason = gate.admit(moved(3, 0.003), reading(), NOW + DT)
        assert code(reason) == 'linear_speed'
        near = reading(at([0.45, 0.0, 0.347]))
        gate = Gate(arm_with(**FAST), DT)
        inside, outside = at([0.45, 0.0, 0.349]), at([0.45, 0.0, 0.352])
        assert gate.admit(PositionCommand(inside, 0.08), near, NOW) is None
        reason = Gate(ARM, DT).admit(PositionCommand(outside, 0.08), near, NOW)
        assert str(reason) == (
            'tip commanded to [0.45, 0.0, 0.352] m '
            '(workspace [0.35, -0.2, 0.1] to [0.55, 0.2, 0.35] m). '
            'Move the arm into the workspace, or enlarge it in the robot description.'
        )
        assert reason.value == pytest.approx(0.002, abs=1e-5)
        assert (reason.limit, reason.unit) == (0.0, 'm')

    def test_collisions_are_looked_for_from_time_to_time(self):
        arm, found = Arm(ROBOT), []
        arm.collisions = lambda joints: found
        gate = Gate(arm, DT)
        assert gate.admit(moved(0, 0.0), reading(), NOW) is None
        found.append(('hand', 'table'))
        assert gate.admit(moved(0, 0.0), reading(), NOW + 0.04) is None
        reason = gate.admit(moved(0, 0.0), reading(), NOW + 0.06)
        assert code(reason) == 'table'
        assert str(reason) == (
            'hand would touch table. '
            'Move the arm away, or correct collision in the robot description.'
        )
        found[:] = [('hand', 'link2')]
        assert code(gate.admit(moved(0, 0.0), reading(), NOW + 0.12)) == 'self_collision'


class TestVelocity:
    @pytest.mark.parametrize('joint', range(7))
    def test_each_joint_keeps_to_speed_and_acceleration(self, joint):
        arm = arm_with(**FAST, workspace_minimum=(-9,) * 3, workspace_maximum=(9,) * 3)
        most = ARM.acceleration[joint] * DT
        gate = Gate(arm, DT)
        assert gate.admit(speeds(joint, most), reading(), NOW) is None
        assert code(gate.admit(speeds(joint, 2.1 * most), reading(), NOW + DT)) == (
            'joint_acceleration'
        )
        assert gate.admit(speeds(joint, 1.9 * most), reading(), NOW + DT) is None
        assert code(gate.admit(speeds(joint, 0.8 * most), reading(), NOW + 2 * DT)) == (
            'joint_acceleration'
        )
        arm.acceleration = np.full(7, 1e5)
        fast = ARM.velocity[joint]
        assert Gate(arm, DT).admit(speeds(joint, 0.99 * fast), reading(), NOW) is None
        assert code(Gate(arm, DT).admit(speeds(joint, 1.01 * fast), reading(), NOW)) == (
            'joint_speed'
        )

    def test_joints_and_tip_can_always_stop_inside(self):
        arm = arm_with(**FAST)
        speed = ARM.acceleration[6] * DT
        way = speed * DT + speed**2 / (2 * ARM.acceleration[6])
        for room, expected in ((way + 2e-5, None), (way - 2e-5, 'joint_position')):
            start = np.append(HOME[:6], ARM.maximum[6] - room)
            reason = Gate(arm, DT).admit(speeds(6, speed), reading(start), NOW)
            assert code(reason) == expected
        near = reading(at([0.45, 0.0, 0.3499]))
        up = np.linalg.pinv(ARM.jacobian(near.positions)) @ [0, 0, 0.05, 0, 0, 0]
        gate = Gate(arm_with(), DT)
        assert code(gate.admit(VelocityCommand(up, 0.08), near, NOW)) == 'workspace'
        assert Gate(ARM, DT).admit(VelocityCommand(-up, 0.08), near, NOW) is None

    def test_the_tip_keeps_to_its_speed(self):
        arm = arm_with(linear_speed=0.01)
        reason = Gate(arm, DT).admit(speeds(3, 0.03), reading(), NOW)
        assert code(reason) == 'linear_speed'

    def test_collisions_of_the_measured_arm_count(self):
        arm = Arm(ROBOT)
        arm.collisions = lambda joints: [('a', 'b')]
        assert code(Gate(arm, DT).admit(speeds(0, 0.0), reading(), NOW)) == 'self_collision'


class TestTrajectory:
    def rows(self, by=0.01, count=5):
        return [moved(0, by * i).positions for i in range(1, count + 1)]

    def test_a_slow_one_passes(self, gate):
        still = np.zeros((5, 7))
        command = trajectory(self.rows(), velocities=still, accelerations=still)
        assert gate.admit(command, reading(), NOW) is None
        assert gate.admit(command, reading(), NOW + 0.01) is None

    @pytest.mark.parametrize('times', [[0.1, 0.1, 0.2], [0.2, 0.1, 0.3], [0.0, 0.1, 0.2]])
    def test_its_points_are_in_order_of_time(self, gate, times):
        reason = gate.admit(trajectory(self.rows(count=3), times), reading(), NOW)
        assert code(reason) == 'command_invalid'
        assert str(reason) == (
            f'a trajectory whose points are not in order of time. {REPORT_DEFECT}'
        )

    def test_one_without_points_is_refused(self, gate):
        command = trajectory(np.zeros((0, 7)))
        assert code(gate.admit(command, reading(), NOW)) == 'command_invalid'

    @pytest.mark.parametrize('place', [0, 2, 4])
    def test_each_knot_is_judged(self, gate, place):
        for field, limit, expected in (
            ('velocities', ARM.velocity, 'joint_speed'),
            ('accelerations', ARM.acceleration, 'joint_acceleration'),
        ):
            given = np.zeros((5, 7))
            given[place, 3] = 1.1 * limit[3]
            command = replace(trajectory(self.rows()), **{field: given})
            assert code(gate.admit(command, reading(), NOW)) == expected
        rows = self.rows(0.0)
        rows[place] = at([0.45, 0.0, 0.36])
        slow = np.arange(1, 6) * 2.0
        arm = arm_with(joint_lag=3.0)
        assert code(Gate(arm, DT).admit(trajectory(rows, slow), reading(), NOW)) == 'workspace'
        rows[place] = np.append(HOME[:6], 2.95)
        assert code(Gate(arm, DT).admit(trajectory(rows, slow), reading(), NOW)) == (
            'joint_position'
        )

    def test_the_way_between_knots_is_judged(self, gate):
        rows = [moved(0, 0.0).positions, moved(0, 0.23).positions]
        arm = arm_with(**FAST)
        assert code(Gate(arm, DT).admit(trajectory(rows), reading(), NOW)) == 'joint_speed'
        rows = [moved(0, 0.0).positions, moved(0, 0.18).positions]
        assert code(gate.admit(trajectory(rows), reading(), NOW)) == 'linear_speed'
        assert Gate(arm, DT).admit(trajectory(rows), reading(), NOW) is None

    def test_each_knot_is_looked_at_for_collisions(self):
        arm = Arm(ROBOT)
        arm.collisions = lambda joints: [('a', 'b')] if joints[0] > HOME[0] + 0.045 else []
        assert Gate(arm, DT).admit(trajectory(self.rows()[:4]), reading(), NOW) is None
        assert code(Gate(arm, DT).admit(trajectory(self.rows()), reading(), NOW)) == (
            'self_collision'
        )

    def test_it_begins_near_the_arm(self, gate):
        far = reading(moved(0, -0.31).positions)
        reason = gate.admit(trajectory([HOME, HOME]), far, NOW)
        assert (code(reason), reason.limit) == ('joint_lag', LIMITS.joint_lag)
        assert gate.admit(trajectory([HOME, HOME]), None, NOW) is None
        for joint in (0.31, -0.31):
            away = moved(0, joint).positions
            assert code(Gate(ARM, DT).admit(trajectory([away, HOME]), reading(), NOW)) == (
                'joint_lag'
            )

    def test_without_a_measured_arm_it_begins_at_its_first_knot(self):
        arm = arm_with(**FAST)
        low, high = at([0.45, 0.0, 0.34]), at([0.45, 0.0, 0.36])
        command = trajectory([high, low, high], [2.0, 4.0, 6.0])
        assert code(Gate(arm, DT).admit(command, None, NOW)) == 'workspace'
        assert Gate(arm, DT).admit(trajectory([high, low], [2.0, 4.0]), None, NOW) is None


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
@given(st.lists(steps, max_size=12), st.floats(0.002, 0.2))
def test_no_stream_of_positions_passes_a_limit(stream, period):
    gate, now, last = Gate(ARM, period), NOW, None
    position, measured = HOME.copy(), HOME.copy()
    for wait, step, drift, follows in stream:
        now += wait
        if follows:
            position, measured = position + 0.02 * step, measured + 0.1 * drift
        else:
            position = position + step
        if gate.admit(PositionCommand(position.copy(), 0.08), reading(measured), now) is not None:
            continue
        start, lag = (measured, FIRST_RAD) if last is None else (last[0], LIMITS.joint_lag)
        assert np.abs(position - measured).max() <= lag + 1e-4
        assert inside(ARM.pose(position)[:3, 3], ARM.pose(start)[:3, 3])
        if last is not None:
            since = min(now - last[1], max(period, LATEST_S))
            moved_m = np.linalg.norm(ARM.pose(position)[:3, 3] - ARM.pose(start)[:3, 3])
            assert (np.abs(position - start) <= ARM.velocity * since * 1.0001).all()
            assert moved_m <= LIMITS.linear_speed * since * 1.0001
        last = position.copy(), now


fast = arrays(float, 3, elements=st.floats(-4, 4))


@settings(max_examples=200, deadline=None)
@given(fast, fast, arrays(float, 7, elements=st.floats(-0.3, 0.3)), st.floats(0.002, 0.2))
def test_no_twist_passes_a_limit(linear, angular, offset, period):
    measured = HOME + offset
    if Gate(ARM, period).admit(twist(linear, angular), reading(measured), NOW) is not None:
        return
    slack = 1 + ACCELERATION_SLACK
    assert np.linalg.norm(linear) <= LIMITS.linear_speed * 1.0001
    assert np.linalg.norm(angular) <= LIMITS.angular_speed * 1.0001
    assert np.linalg.norm(linear) <= LIMITS.linear_acceleration * period * slack
    start = ARM.pose(measured)[:3, 3]
    assert inside(start + linear * period, start)
