"""Limits of the tip shared out to its coordinates, and how far a reference may lead."""

from fake_arm import (
    GAIN,
    HOME,
    JERK,
    SPEED,
    TURN,
    TURN_GAIN,
    TURN_JERK,
    FakeArm,
    along_x,
    chunk,
)
import numpy as np
import pytest

from worldvla_ros.robot.kinematics import rotation_matrix, rotation_vector
from worldvla_ros.robot.line import Line, Source
from worldvla_ros.robot.path import State, rest
from worldvla_ros.robot.places import CATCH_UP, LEAD_S, NEAR_M, NEAR_RAD, ROOM, SLOWEST, Place
from worldvla_ros.robot.tip import pose_at
from worldvla_ros.robot.tip_space import (
    EDGE,
    EVEN,
    MARGIN_M,
    STEP_S,
    TipSpace,
    _shared,
    led_tip,
    tip_pace,
)

EYE = np.eye(3)
HERE = Place(rest(HOME), EYE)


@pytest.fixture
def space():
    return TipSpace(FakeArm())


def moving(velocities=(), accelerations=()):
    speeds, gains = np.zeros(6), np.zeros(6)
    speeds[: len(velocities)], gains[: len(accelerations)] = velocities, accelerations
    return Place(State(HOME, speeds, gains), EYE)


class TestSharing:
    def test_a_limit_goes_to_where_the_line_goes_but_for_an_even_part(self):
        box = _shared(2.0, np.array([3.0, 0.0, -4.0]), np.zeros(3))
        even = EVEN / 3
        shares = np.array([even + 0.9 * 0.36, even, even + 0.9 * 0.64])
        assert box == pytest.approx(2.0 * np.sqrt(shares))

    def test_without_a_direction_it_is_even(self):
        assert _shared(2.0, np.zeros(3), np.zeros(3)) == pytest.approx(np.full(3, 2 / 3**0.5))

    def test_what_a_start_needs_comes_first(self):
        box = _shared(1.0, np.array([0.0, 1.0, 0.0]), np.array([0.5, 0.0, 0.0]))
        taken = 0.5 * ROOM
        even = EVEN / 3
        assert box == pytest.approx(np.sqrt([taken**2, 1 - taken**2 - even, even]))

    def test_a_start_that_needs_it_all_leaves_a_trace(self):
        box = _shared(2.0, np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 5.0]))
        trace = (2 * EDGE) ** 2
        assert box == pytest.approx(np.sqrt([trace / 2, trace / 2, 4]))

    def test_the_box_lies_within_the_ball(self):
        generator = np.random.default_rng(0)
        for towards, taken in generator.normal(size=(100, 2, 3)):
            assert np.linalg.norm(_shared(1.0, towards, taken / 3)) <= 1.0 + EDGE


class TestLimits:
    def test_from_rest_speed_is_a_little_more_than_the_line_asks_for(self, space):
        wanted = np.array([0.2, 0, 0, 0, 0.3, 0])
        found = space.limits(wanted, HERE, 1.0)
        along, across = np.sqrt(EVEN / 3 + 0.9), np.sqrt(EVEN / 3)
        linear, angular = CATCH_UP * 0.2 + SLOWEST * SPEED, CATCH_UP * 0.3 + SLOWEST * TURN
        shape = np.array([along, across, across, across, along, across])
        assert found.velocity == pytest.approx(shape * ([linear] * 3 + [angular] * 3))
        assert found.acceleration == pytest.approx(shape * ([GAIN] * 3 + [TURN_GAIN] * 3))
        assert found.jerk == pytest.approx(shape * ([JERK] * 3 + [TURN_JERK] * 3))

    def test_it_is_never_more_than_the_limit(self, space):
        found = space.limits(np.array([9.0, 0, 0, 0, 0, 9.0]), HERE, 1.0)
        assert np.linalg.norm(found.velocity[:3]) == pytest.approx(SPEED)
        assert np.linalg.norm(found.velocity[3:]) == pytest.approx(TURN)

    @pytest.mark.parametrize('side', [1.0, -1.0])
    def test_a_moving_start_has_what_it_will_reach(self, space, side):
        found = space.limits(np.zeros(6), moving([0.2 * side], [2.0 * side]), 1.0)
        jerk = JERK * np.sqrt(EVEN / 3 + 0.9)
        reach = 0.2 + 2.0**2 / (2 * jerk)
        assert found.velocity[0] == pytest.approx(ROOM * reach, rel=1e-5)
        assert found.acceleration[0] == pytest.approx(GAIN * np.sqrt(1 - 2 * EVEN / 3))

    def test_a_start_that_loses_speed_needs_what_it_has(self, space):
        found = space.limits(np.zeros(6), moving([0.2], [-1.0]), 1.0)
        assert found.velocity[0] == pytest.approx(ROOM * 0.2, rel=1e-5)

    def test_accelerations_and_jerks_go_where_the_start_goes_too(self, space):
        found = space.limits(np.array([0.1, 0, 0, 0, 0, 0]), moving([0, 0.1], [0, 0, 2.0]), 1.0)
        towards = np.array([0.1, 0.1, 2.0 * STEP_S])
        assert found.jerk[:3] == pytest.approx(_shared(JERK, towards, np.zeros(3)))
        assert found.acceleration[:3] == pytest.approx(
            _shared(GAIN, np.array([0.1, 0.1, 0]), np.array([0, 0, 2.0]))
        )

    def test_positions_are_those_of_the_inner_box_and_a_start_outside_widens_it(self, space):
        low, high = space.inner
        found = space.limits(np.zeros(6), HERE, 1.0)
        assert found.low.tolist() == [*low, *[-np.inf] * 3]
        assert found.high.tolist() == [*high, *[np.inf] * 3]
        outside = Place(rest(np.array([*(high + 0.1), 0, 0, 0])), EYE)
        assert space.limits(np.zeros(6), outside, 1.0).high[:3] == pytest.approx(high + 0.1)
        outside = Place(rest(np.array([*(low - 0.1), 0, 0, 0])), EYE)
        assert space.limits(np.zeros(6), outside, 1.0).low[:3] == pytest.approx(low - 0.1)


def test_the_tip_is_led_a_little_inside_the_workspace(space):
    limits = FakeArm().robot.limits
    low, high = np.array(limits.workspace_minimum), np.array(limits.workspace_maximum)
    assert np.array(space.box).tolist() == [low.tolist(), high.tolist()]
    assert space.inner[0] == pytest.approx(low + MARGIN_M)
    assert space.inner[1] == pytest.approx(high - MARGIN_M)
    narrow = FakeArm(workspace_minimum=(0.4, -0.2, 0.0), workspace_maximum=(0.404, 0.2, 0.4))
    inner = TipSpace(narrow).inner
    assert [inner[0][0], inner[1][0]] == pytest.approx([0.401, 0.403])


class TestBegin:
    @pytest.mark.parametrize(
        ('off', 'there'),
        [
            ([0.9 * NEAR_M, 0, 0, 0, 0, 0], True),
            ([1.1 * NEAR_M, 0, 0, 0, 0, 0], False),
            ([0, 0, 0, 0, 0.9 * NEAR_RAD, 0], True),
            ([0, 0, 0, 0, 1.1 * NEAR_RAD, 0], False),
        ],
    )
    def test_a_path_begins_as_commanded_where_the_arm_is_there(self, space, off, there):
        measured = HOME + off
        place = space.begin(measured, HERE)
        pose = FakeArm().pose(HOME if there else measured)
        assert space.tip(place).pose == pytest.approx(pose, abs=1e-9)
        assert place.anchor == pytest.approx(pose[:3, :3])
        assert place.state.at_rest

    def test_without_a_command_it_begins_as_measured(self, space):
        assert space.begin(HOME, None).state.positions[:3] == pytest.approx(HOME[:3])


class TestLead:
    ROBOT = FakeArm().robot

    def lead(self, move=(0, 0, 0), turn=(0, 0, 0)):
        pose = pose_at(np.array([0.5, 0, 0.2, 0.3, -0.4, 0.5]), EYE)
        ahead = pose.copy()
        ahead[:3, 3] += move
        ahead[:3, :3] = rotation_matrix(np.array(turn, float)) @ ahead[:3, :3]
        led = led_tip(pose, ahead, self.ROBOT)
        return led[:3, 3] - pose[:3, 3], rotation_vector(led[:3, :3] @ pose[:3, :3].T)

    def test_a_near_reference_is_kept(self):
        most = LEAD_S * SPEED
        move, turn = self.lead((0, 0.9 * most, 0), (0.9 * LEAD_S * TURN, 0, 0))
        assert move == pytest.approx([0, 0.9 * most, 0])
        assert turn == pytest.approx([0.9 * LEAD_S * TURN, 0, 0])

    def test_a_far_one_is_shortened_in_its_direction(self):
        move, turn = self.lead((0.3, 0, -0.4), (0, 0, 1.0))
        assert move == pytest.approx(np.array([0.6, 0, -0.8]) * LEAD_S * SPEED)
        assert turn == pytest.approx([0, 0, LEAD_S * TURN])

    def test_none_is_where_the_tip_is(self):
        pose = pose_at(HOME, EYE)
        assert led_tip(pose, None, self.ROBOT) is pose


def test_a_target_is_told_from_the_anchor(space):
    anchor = rotation_matrix(np.array([0.3, 0, 0]))
    place = Place(rest(HOME), anchor)
    joints = np.array([0.4, 0.1, 0.3, 0.5, 0, 0])
    assert space.target(joints, place) == pytest.approx([0.4, 0.1, 0.3, 0.2, 0, 0])


def test_the_pace_is_that_of_the_faster_of_motion_and_turns(space):
    rows = np.zeros((3, 6))
    rows[1] = [0.03, 0, 0.04, 0, 0, 0]
    rows[2] = [0.03, 0, 0.04, 0, 0.24, 0]
    line = Line(np.array([0.0, 1.0, 2.0]), rows)
    assert tip_pace(line, 0.1, FakeArm().robot).factor == pytest.approx(2.4 / TURN)
    assert tip_pace(line.until(1), 0.1, FakeArm().robot).factor == pytest.approx(0.5 / SPEED)
    assert tip_pace(line.until(0), 0.1, FakeArm().robot).factor == 0.0


def test_a_way_counts_only_in_tip_coordinates_and_is_clipped_at_the_inner_box(space):
    source = Source(chunk(along_x(0.1, 4)), 0.0)
    way = space.way([source], FakeArm().pose(HOME), HERE, 'latest')
    assert way.clipped
    assert way.line is way.reference
    assert way.line.rows[-1, 0] == pytest.approx(space.inner[1][0])
    assert [p.factor for p in space.pace(way, 0.5)] == pytest.approx([0.2 / SPEED] * 2)
    assert space.check(None, 0.0) == (0.0, None)
