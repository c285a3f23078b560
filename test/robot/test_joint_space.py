"""A path of the joints: the tip along it, how far a reference leads, limits, what is refused."""

from dataclasses import replace

from fake_arm import GAIN, HOME, JERK, SPEED, TURN, FakeArm
import numpy as np
import pytest

from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.joint_space import SPEED_SHARE, JointSpace
from worldvla_ros.robot.kinematics import Arm, rotation_vector
from worldvla_ros.robot.line import Line
from worldvla_ros.robot.path import Path, State, rest
from worldvla_ros.robot.places import (
    CATCH_UP,
    LEAD_S,
    NEAR_RAD,
    ROOM,
    SLOWEST,
    Place,
    Way,
)

SIX = np.ones(6)


@pytest.fixture
def space():
    return JointSpace(FakeArm('joint_position'))


def moving(velocities, accelerations=0.0):
    return Place(State(HOME, velocities * SIX, accelerations * SIX))


def path(positions, velocities):
    positions, velocities = np.array(positions, float), np.array(velocities, float)
    return Path(1.0, 0.05, positions, velocities, np.zeros_like(positions))


class TestBeginning:
    def test_it_begins_as_commanded_where_the_arm_is_there(self, space):
        commanded = moving(0.1)
        for off in (0.99 * NEAR_RAD, -0.99 * NEAR_RAD):
            begun = space.begin(HOME + off, commanded).state
            assert begun.positions.tolist() == HOME.tolist()
            assert begun.at_rest

    @pytest.mark.parametrize('commanded', [None, moving(0.0)])
    def test_elsewhere_it_begins_as_measured(self, space, commanded):
        joints = HOME + 1.01 * NEAR_RAD
        assert space.begin(joints, commanded).state.positions.tolist() == joints.tolist()


class TestTip:
    def test_its_speeds_and_accelerations_are_those_of_its_motion(self):
        robot = load_robot('sim_panda')
        arm = Arm(robot)
        start = np.array(robot.joints.start)
        v = np.array([0.3, -0.2, 0.4, 0.5, -0.6, 0.2, 0.7])
        a = np.array([1.0, 0.5, -2.0, 1.5, 0.3, -1.0, 2.0])
        tip = JointSpace(arm).tip(Place(State(start, v, a)))
        step_s = 1e-3
        before, here, after = (
            arm.pose(start + v * t + a * t * t / 2) for t in (-step_s, 0.0, step_s)
        )
        np.testing.assert_allclose(tip.pose, here)
        linear = (after - before)[:3, 3] / (2 * step_s)
        np.testing.assert_allclose(tip.linear, linear, atol=1e-5)
        gain = (after - 2 * here + before)[:3, 3] / step_s**2
        np.testing.assert_allclose(tip.linear_acceleration, gain, atol=1e-3)
        first = rotation_vector(here[:3, :3] @ before[:3, :3].T) / step_s
        second = rotation_vector(after[:3, :3] @ here[:3, :3].T) / step_s
        np.testing.assert_allclose(tip.angular, (first + second) / 2, atol=1e-5)
        np.testing.assert_allclose(tip.angular_acceleration, (second - first) / step_s, atol=1e-3)


class TestLead:
    def test_a_reference_leads_by_what_the_joints_do_in_a_while(self, space):
        lead = LEAD_S * SPEED
        reference = HOME + np.array([2 * lead, -2 * lead, 0.5 * lead, -0.5 * lead, 0, lead])
        led = space.led(reference, Place(rest(HOME)))
        expected = HOME + lead * np.array([1, -1, 0.5, -0.5, 0, 1])
        np.testing.assert_allclose(led, expected, atol=1e-12)

    def test_without_one_it_is_the_joints(self, space):
        assert space.led(None, Place(rest(HOME))).tolist() == HOME.tolist()

    def test_of_actions_of_the_tip_it_is_a_pose_that_leads(self):
        arm = FakeArm()
        far, place = arm.pose(HOME + 1.0), Place(rest(HOME))
        led = JointSpace(arm).led(far, place)
        assert led.shape == (4, 4)
        ahead = led[:3, 3] - HOME[:3]
        assert np.linalg.norm(ahead) == pytest.approx(LEAD_S * SPEED, rel=1e-6)
        np.testing.assert_allclose(JointSpace(arm).led(None, place), arm.pose(HOME))


class TestPace:
    def way(self, rows):
        line = Line(np.arange(len(rows), dtype=float), np.array(rows, float))
        return Way(line, line, None)

    def rows(self, *firsts):
        return [HOME + np.array([first, 0.0, -2 * first, 0, 0, 0]) for first in firsts]

    def test_it_is_the_fastest_of_the_actions(self):
        space = JointSpace(FakeArm('joint_delta'))
        actions, asked = space.pace(self.way(self.rows(0, 0.03, 0.04)), 0.05)
        assert actions == asked
        assert (actions.what, actions.unit) == ('joint c', 'rad/s')
        assert actions.field == 'joints.velocity'
        assert actions.speed == pytest.approx(0.06 / 0.05)
        assert (actions.limit, actions.factor) == (SPEED, pytest.approx(1.2 / SPEED))

    def test_a_slow_joint_with_a_low_limit_counts_more(self):
        arm = FakeArm('joint_delta')
        arm.velocity = np.array([0.05, 1, 1, 1, 1, 1])
        actions, _ = JointSpace(arm).pace(self.way(self.rows(0, 0.01)), 0.05)
        assert (actions.what, actions.factor) == ('joint a', pytest.approx(4.0))

    def test_the_first_move_of_absolute_actions_does_not_count(self, space):
        actions, _ = space.pace(self.way(self.rows(0, 0.03, 0.04)), 0.05)
        assert actions.speed == pytest.approx(0.02 / 0.05)
        assert space.pace(self.way(self.rows(0, 0.03)), 0.05)[0].factor == 0.0


class TestLimits:
    def test_the_speed_is_what_the_line_asks_for_and_little_more(self, space):
        wanted = np.array([0.1, 0.0, 0.05, 0, 0, 10.0])
        found = space.limits(wanted, Place(rest(HOME)), 0.5)
        slow = 0.5 * SLOWEST * SPEED
        expected = [0.5 * CATCH_UP * 0.1 + slow, slow, 0.5 * CATCH_UP * 0.05 + slow, slow, slow]
        np.testing.assert_allclose(found.velocity[:5], expected)
        assert found.velocity[5] == SPEED
        assert found.acceleration.tolist() == (GAIN * SIX).tolist()
        assert found.jerk.tolist() == (JERK * SIX).tolist()

    @pytest.mark.parametrize(
        ('speed', 'gain', 'reached'),
        [(0.2, 0.0, 0.2), (0.2, 2.0, 0.2 + 4 / (2 * JERK)), (-0.2, -2.0, 0.2 + 4 / (2 * JERK)),
         (0.2, -2.0, 0.2)],
    )  # fmt: skip
    def test_it_is_no_less_than_what_the_start_comes_to(self, space, speed, gain, reached):
        """A speed that still grows can only be ended by the jerk that there is."""
        found = space.limits(np.zeros(6), moving(speed, gain), 1.0)
        np.testing.assert_allclose(found.velocity, ROOM * reached)

    def test_a_start_outside_of_the_range_widens_it(self, space):
        outside = HOME + np.array([2.0, -2.0, 0, 0, 0, 0])
        found = space.limits(np.zeros(6), Place(rest(outside)), 1.0)
        assert found.low.tolist() == [-1.5, -2.0, -1.5, -1.5, -1.5, -1.5]
        assert found.high.tolist() == [2.5, 1.5, 1.5, 1.5, 1.5, 1.5]


class TestCheck:
    def along(self, speed, count=3, start=HOME, turn=0.0):
        rates = np.array([speed, 0, 0, 0, 0, turn])
        positions = [start + 0.05 * i * np.array([speed, 0, 0, 0, 0, 0]) for i in range(count)]
        return path(positions, [rates] * count)

    def test_it_says_how_much_too_fast_the_tip_is(self, space):
        factor, refused = space.check(self.along(0.6), 3.0)
        assert refused is None
        # the first knot is as fast, so that the others are no faster than it
        assert factor == pytest.approx(1.0)
        begun = path([HOME, HOME], [0 * SIX, [0.3, 0.4, 0, 0, 0, 0]])
        assert space.check(begun, 3.0)[0] == pytest.approx(0.5 / SPEED_SHARE / SPEED)
        turning = path([HOME, HOME], [0 * SIX, [0, 0, 0, 0, 0, 2.0]])
        assert space.check(turning, 3.0)[0] == pytest.approx(2.0 / SPEED_SHARE / TURN)

    def test_a_slow_beginning_asks_for_nothing(self, space):
        assert space.check(path([HOME], [0.1 * SIX]), 3.0) == (0.0, None)
        slow = path([HOME, HOME], [[0.1, 0, 0, 0, 0, 0], [0.2, 0, 0, 0, 0, 0]])
        assert space.check(slow, 3.0)[0] == pytest.approx(0.2 / SPEED_SHARE / SPEED)

    def test_a_path_out_of_the_box_is_refused_where_it_leaves(self, space):
        high = space._tip.box[1]
        start = HOME.copy()
        start[0] = high[0] - 0.01
        leaving = path([start, start + 0.005 * np.eye(6)[0], start + 0.011 * np.eye(6)[0]],
                       np.zeros((3, 6)))  # fmt: skip
        factor, refused = space.check(leaving, 3.0)
        assert (factor, refused.code, refused.stamp_s) == (0.0, 'workspace', 3.0)
        x = round(float(high[0] + 0.001), 3)
        assert f'a path of the tip through [{x}, 0.0, 0.2] m' in refused.text
        assert space.check(path([start, start + 0.01 * np.eye(6)[0]], np.zeros((2, 6))), 3.0) == (
            0.0, None,
        )  # fmt: skip

    def test_a_path_may_begin_outside_but_not_go_on_outwards(self, space):
        start = HOME.copy()
        start[0] = space._tip.box[1][0] + 0.02
        still = path([start, start, start - 0.01 * np.eye(6)[0]], np.zeros((3, 6)))
        assert space.check(still, 3.0)[1] is None
        outwards = path([start, start + 1e-5 * np.eye(6)[0]], np.zeros((2, 6)))
        assert space.check(outwards, 3.0)[1].code == 'workspace'

    @pytest.mark.parametrize(
        ('pair', 'code'), [(('one', 'two'), 'self_collision'), (('hand', 'table'), 'table')]
    )
    def test_a_path_that_touches_is_refused_but_not_for_how_it_begins(self, pair, code):
        arm = FakeArm('joint_position')
        arm.touching = [pair]
        space = JointSpace(arm)
        assert space.check(self.along(0.1), 3.0)[1] is None  # collisions are not checked
        arm.robot = replace(arm.robot, collision=replace(arm.robot.collision, check=True))
        space = JointSpace(arm)
        assert space.check(self.along(0.1, count=1), 3.0)[1] is None
        refused = space.check(self.along(0.1, count=2), 3.0)[1]
        assert (refused.code, refused.stamp_s) == (code, 3.0)
        assert f'a path on which {pair[0]} touches {pair[1]}' in refused.text
