"""Joint states: merged from several publishers, judged by age, and refused where implausible."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from worldvla_ros.errors import ObservationError
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.state import JointBuffer, JointError, robot_state

ROBOT = load_robot('sim_panda')
PANDA = Arm(ROBOT)
ARM, FINGERS = list(ROBOT.joints.names), list(ROBOT.gripper.names)
NAMES = [*ARM, *FINGERS]
HOME = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, 0.8, 0.04, 0.03])
NOW = 100.0


@pytest.fixture
def buffer():
    return JointBuffer(PANDA, max_age_s=0.3)


@pytest.fixture
def filled(buffer):
    buffer.put(NAMES, HOME, NOW)
    return buffer


def changed(index, value):
    positions = HOME.copy()
    positions[index] = value
    return positions


def test_one_message_with_all_joints_is_enough(filled):
    reading = filled.newest(NOW + 0.1)
    np.testing.assert_array_equal(reading.positions, HOME[:7])
    assert reading.width == pytest.approx(0.07)
    assert reading.stamp_s == NOW


@settings(max_examples=30)
@given(st.permutations(range(11)))
def test_joints_are_ordered_by_name(order):
    names, values = [*NAMES, 'wheel', 'lid'], np.append(HOME, [77.0, np.nan])
    buffer = JointBuffer(PANDA, 0.3)
    buffer.put([names[i] for i in order], values[order], NOW)
    reading = buffer.newest(NOW)
    np.testing.assert_array_equal(reading.positions, HOME[:7])
    assert reading.width == pytest.approx(0.07)


def test_arm_and_gripper_may_come_apart(buffer):
    buffer.put(ARM, HOME[:7], NOW)
    buffer.put(FINGERS, HOME[7:], NOW + 0.02)
    reading = buffer.newest(NOW + 0.05)
    np.testing.assert_array_equal(reading.positions, HOME[:7])
    assert reading.width == pytest.approx(0.07)
    assert reading.stamp_s == NOW  # of the older part


def test_fingers_may_come_one_by_one(buffer):
    for name, value in zip(NAMES, HOME, strict=True):
        buffer.put([name], np.array([value]), NOW)
    np.testing.assert_array_equal(buffer.newest(NOW).positions, HOME[:7])


def test_a_publisher_of_other_joints_is_ignored(filled):
    filled.put(['left_wheel', 'right_wheel'], np.array([np.nan, 1e9]), 0.0)
    assert filled.newest(NOW).stamp_s == NOW


def test_a_missing_joint_is_named(buffer):
    buffer.put(ARM, HOME[:7], NOW)
    with pytest.raises(ObservationError, match='panda_finger_joint1 is missing'):
        buffer.newest(NOW)


def test_a_publisher_that_stops_is_noticed_while_another_goes_on(filled):
    filled.put(ARM, HOME[:7], NOW + 0.4)
    with pytest.raises(
        ObservationError, match=r'panda_finger_joint1 is too old: .*0\.3 s \(max_joint_age\)'
    ):
        filled.newest(NOW + 0.4)
    filled.put(FINGERS, HOME[7:], NOW + 0.4)
    assert filled.newest(NOW + 0.4).stamp_s == NOW + 0.4


@pytest.mark.parametrize('age', [-0.09, 0.0, 0.29])
def test_fresh_joints_pass(filled, age):
    assert filled.newest(NOW + age)


def test_joints_of_the_future_are_refused(filled):
    with pytest.raises(ObservationError, match='panda_joint1 is stamped in the future'):
        filled.newest(NOW - 0.2)


@pytest.mark.parametrize('stamp', [0.0, -1.0, np.nan, np.inf])
def test_a_joint_state_without_a_stamp_is_refused(filled, stamp):
    with pytest.raises(ObservationError, match='without a time stamp'):
        filled.put(NAMES, HOME, stamp)


def test_a_message_that_was_overtaken_is_ignored(filled):
    filled.put(NAMES, changed(0, 0.5), NOW - 0.5)
    assert filled.newest(NOW).positions[0] == 0.0
    assert filled.newest(NOW).stamp_s == NOW


def test_a_clock_that_was_set_back_drops_what_was_known(filled):
    filled.put(ARM, changed(0, 0.5)[:7], NOW - 50)
    with pytest.raises(ObservationError, match='panda_finger_joint1 is missing'):
        filled.newest(NOW - 50)
    filled.put(FINGERS, HOME[7:], NOW - 50)
    assert filled.newest(NOW - 50).positions[0] == 0.5


def test_clear_drops_all(filled):
    filled.clear()
    with pytest.raises(ObservationError, match='got no joint'):
        filled.newest(NOW)


def test_a_joint_that_is_named_twice_is_refused(filled):
    names = [*NAMES, ARM[3]]
    with pytest.raises(ObservationError, match='panda_joint4 is named twice'):
        filled.put(names, np.append(HOME, -2.0), NOW + 0.1)
    assert filled.newest(NOW).stamp_s == NOW  # a refused message changes nothing


def test_names_without_positions_are_refused(buffer):
    with pytest.raises(ObservationError, match='expected 9 positions, one per name, got 0'):
        buffer.put(NAMES, np.zeros(0), NOW)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('index', [2, 7])
def test_a_position_that_is_not_finite_is_refused_by_name(filled, index, value):
    with pytest.raises(ObservationError, match=f'{NAMES[index]} is not finite'):
        filled.put(NAMES, changed(index, value), NOW + 0.1)
    assert filled.newest(NOW).stamp_s == NOW


@pytest.mark.parametrize('offset', [-0.05, 0.05])
def test_a_joint_may_rest_a_little_beyond_its_limit(buffer, offset):
    limit = PANDA.minimum[3] if offset < 0 else PANDA.maximum[3]
    buffer.put(NAMES, changed(3, limit + offset), NOW)
    assert buffer.newest(NOW)


@pytest.mark.parametrize('offset', [-0.11, 0.11, 10.0])
def test_a_joint_far_beyond_its_limits_is_not_believed(buffer, offset):
    limit = PANDA.minimum[3] if offset < 0 else PANDA.maximum[3]
    with pytest.raises(ObservationError, match=r'panda_joint4 is not plausible.*radians'):
        buffer.put(NAMES, changed(3, limit + offset), NOW)


def test_degrees_are_not_believed(buffer):
    with pytest.raises(ObservationError, match='Publish radians'):
        buffer.put(ARM, np.degrees(HOME[:7]), NOW)


@pytest.mark.parametrize('finger', [50.0, 1.0, 100.0, -0.04])
def test_fingers_in_per_cent_or_with_another_sign_are_not_believed(buffer, finger):
    with pytest.raises(
        ObservationError, match=r'finger_joint2 is not plausible.*metres.*absolute'
    ):
        buffer.put(NAMES, changed(8, finger), NOW)


def test_a_width_beyond_that_of_the_gripper_is_not_believed(buffer):
    buffer.put(NAMES, np.append(HOME[:7], [0.08, 0.08]), NOW)
    with pytest.raises(ObservationError, match=r'opening width.*at most 0\.08 m, got 0\.16 m'):
        buffer.newest(NOW)


@pytest.mark.parametrize('fingers', [(0.04, -0.04), (-0.04, 0.04), (0.04, 0.04)])
def test_robosuites_fingers_are_as_wide_as_they_are(fingers):
    buffer = JointBuffer(Arm(load_robot('libero')), 0.3)
    buffer.put(NAMES, np.append(HOME[:7], fingers), NOW)
    assert buffer.newest(NOW).width == pytest.approx(0.08)


def test_absolute_fingers_are_bounded_on_both_sides():
    gripper = replace(ROBOT.gripper, absolute_fingers=True)
    buffer = JointBuffer(Arm(replace(ROBOT, gripper=gripper)), 0.3)
    with pytest.raises(ObservationError, match='finger_joint2 is not plausible'):
        buffer.put(NAMES, changed(8, -0.2), NOW)


def test_a_reading_gives_the_state_of_a_recipe(filled):
    state = robot_state(PANDA, 'tcp_pose_width', filled.newest(NOW))
    assert state.dtype == np.float32
    assert state[6] == pytest.approx(0.07)
    with pytest.raises(ObservationError, match="expected one of .*, got 'joints'"):
        robot_state(PANDA, 'joints', filled.newest(NOW))


def test_a_reading_is_the_same_until_a_newer_one_comes_or_it_is_too_old(filled):
    reading = filled.newest(NOW)
    assert filled.newest(NOW + 0.3) is reading
    filled.put(ARM, HOME[:7] + 0.01, NOW + 0.1)
    newer = filled.newest(NOW + 0.2)
    assert newer is not reading
    assert newer.positions[0] == pytest.approx(0.01)
    assert filled.newest(NOW + 0.29) is newer  # the fingers are of NOW
    with pytest.raises(JointError, match='panda_finger_joint1 is too old'):
        filled.newest(NOW + 0.31)
    with pytest.raises(JointError, match='stamped in the future'):
        filled.newest(NOW - 0.01)
    filled.clear()
    with pytest.raises(JointError, match='is missing'):
        filled.newest(NOW)


class TestReasons:
    """What is wrong with joint states, for programs."""

    def reason(self, act):
        with pytest.raises(JointError) as caught:
            act()
        assert str(caught.value.reason) == str(caught.value)
        return caught.value.reason

    def test_a_missing_joint(self, buffer):
        reason = self.reason(lambda: buffer.newest(NOW))
        assert reason.code == 'joints_missing'
        assert reason.text.startswith('joint panda_joint1 is missing from the joint states: ')
        assert reason.remedy.startswith('Publish all joints')

    def test_an_old_one(self, filled):
        reason = self.reason(lambda: filled.newest(NOW + 0.5))
        assert (reason.code, reason.value, reason.limit, reason.unit) == (
            'joints_old', pytest.approx(0.5), 0.3, 's',
        )  # fmt: skip

    def test_one_from_the_future(self, filled):
        reason = self.reason(lambda: filled.newest(NOW - 0.5))
        assert (reason.code, reason.value, reason.limit, reason.unit) == (
            'joints_old', pytest.approx(-0.5), -0.1, 's',
        )  # fmt: skip

    @pytest.mark.parametrize(('value', 'limit'), [(9.0, 2.9973), (-9.0, -2.9973)])
    def test_one_that_cannot_be(self, buffer, value, limit):
        reason = self.reason(lambda: buffer.put(NAMES, changed(0, value), NOW))
        assert (reason.code, reason.value, reason.limit, reason.unit) == (
            'joints_invalid', value, pytest.approx(limit), 'rad',
        )  # fmt: skip

    def test_a_gripper_that_is_too_wide(self, buffer):
        positions = changed(7, 0.09)
        positions[8] = 0.03
        buffer.put(NAMES, positions, NOW)
        reason = self.reason(lambda: buffer.newest(NOW))
        assert (reason.code, reason.value, reason.limit, reason.unit) == (
            'joints_invalid', pytest.approx(0.12), 0.08, 'm',
        )  # fmt: skip

    @pytest.mark.parametrize(
        ('names', 'positions', 'stamp'),
        [
            (NAMES, HOME, 0.0),
            (NAMES, HOME[:3], NOW),
            ([*NAMES, ARM[0]], np.append(HOME, 0.0), NOW),
            (NAMES, changed(2, np.nan), NOW),
        ],
    )
    def test_messages_that_make_no_sense(self, buffer, names, positions, stamp):
        reason = self.reason(lambda: buffer.put(names, positions, stamp))
        assert reason.code == 'joints_invalid'
        assert np.isnan(reason.value)
