"""How a path for actions is found: what is slowed down, by how much, and what is refused."""

from dataclasses import replace
import math

from fake_arm import HOME, along_x, chunk, fake_robot
import numpy as np
import pytest

from worldvla_ros.robot import playing
from worldvla_ros.robot.line import Line, Source
from worldvla_ros.robot.path import Path, rest, standing
from worldvla_ros.robot.places import Pace, Place, Way
from worldvla_ros.robot.planner import MotionLimits, PlanError
from worldvla_ros.robot.playing import (
    FURTHER,
    HORIZON_S,
    TRIES,
    WAYPOINT_S,
    Playing,
    Request,
    prepare,
)
from worldvla_ros.robot.reasons import Reason

LIMITS = MotionLimits(*(np.full(6, size) for size in (1.0, 10.0, 1000.0, -9.0, 9.0)))
OUT = Reason('workspace', 'outside', 'Come back.')
DT = 0.05


class FakeSpace:
    """Says what it is told of the pace of a way and of the paths that are tried."""

    def __init__(self, pace=(0.5, 0.5), checks=()):
        self.says = [Pace(p, 'the tip', p, 1.0, 'm/s', 'limits.linear_speed') for p in pace]
        self.checks = list(checks)
        self.shares, self.wanted, self.paths, self.stamps = [], [], [], []

    def pace(self, way, dt):
        return self.says

    def limits(self, wanted, place, share):
        self.shares.append(share)
        self.wanted.append(wanted)
        return LIMITS

    def check(self, path, stamp_s):
        self.paths.append(path)
        self.stamps.append(stamp_s)
        return self.checks.pop(0) if self.checks else (1.0, None)


def way(count=10, start=0.0):
    ends = np.concatenate([[start], np.arange(math.floor(start) + 1.0, count + 1.0)])
    rows = np.zeros((len(ends), 6))
    rows[:, 0] = 0.01 * (ends - start)
    line = Line(ends, rows + HOME)
    return Way(line, line, None)


def request(space, *, speed=1.0, most=1.0, dt=DT, line=None):
    made = chunk(along_x(0.01), 7.0, dt=dt)
    robot = fake_robot(max_slowdown=most)
    start = Place(rest(HOME))
    return Request(robot, space, Source(made, 0.0), line or way(), start, 100.0, speed, 0.03)


def found(space, limits=None, **given):
    return prepare(request(space, **given), limits)


class TestPace:
    def test_a_way_that_is_slow_enough_is_played_as_it_is(self):
        space = FakeSpace()
        made = found(space)
        assert (made.slowdown, made.step_s, made.last, made.width) == (1.0, DT, 10.0, 0.03)
        assert space.shares == [1.0]
        assert space.wanted[0] == pytest.approx([0.2, 0, 0, 0, 0, 0])
        assert space.stamps == [7.0]
        assert made.limits is LIMITS

    def test_limits_of_the_path_before_are_kept_to(self):
        space, own = FakeSpace(), replace(LIMITS, velocity=np.full(6, 2.0))
        assert found(space, own).limits is own
        assert not space.shares

    @pytest.mark.parametrize('speed', [1.0, 0.5])
    def test_what_is_needed_slows_it_down_and_so_does_the_override(self, speed):
        made = found(FakeSpace((1.4, 1.6)), speed=speed, most=1.5)
        assert made.slowdown == 1.6
        assert made.step_s == pytest.approx(DT * 1.6 / speed)

    @pytest.mark.parametrize(
        ('pace', 'factor'),
        [((1.5 + 1e-6, 1.0), None), ((1.50001, 1.0), 1.50001), ((1.0, 3.0), None),
         ((1.0, 3.01), 3.01), ((1.6, 2.0), 2.0)],
    )  # fmt: skip
    def test_actions_may_ask_for_max_slowdown_and_joints_need_twice_as_much(self, pace, factor):
        made = found(FakeSpace(pace), most=1.5)
        if factor is None:
            assert isinstance(made, Playing)
            return
        assert (made.code, made.value, made.limit, made.unit, made.stamp_s) == (
            'chunk_speed', pace[0] if pace[0] > 1.5 else factor, 1.0, 'm/s', 7.0,
        )  # fmt: skip
        assert f'{made.value:.3g} m/s (limits.linear_speed 1 m/s' in str(made)


class TestTries:
    @pytest.mark.parametrize(
        ('check', 'slower'),
        [((1.5, None), 1.5), ((1.01, None), 1.06), ((1.01, OUT), 1.25), ((1.5, OUT), 1.5)],
    )
    def test_a_path_that_is_too_fast_or_leaves_is_planned_slower(self, check, slower):
        space = FakeSpace(checks=[check])
        made = found(space)
        assert made.slowdown == pytest.approx(slower)
        assert made.step_s == pytest.approx(DT * slower)
        assert space.shares == [1.0, 1.0]
        assert space.wanted[1] == pytest.approx(space.wanted[0] / slower)

    def test_where_it_may_be_no_slower_speeds_are_shared(self):
        space = FakeSpace(checks=[(4.0, None), (1.25, None)])
        made = found(space)
        assert made.slowdown == 2.0  # twice max_slowdown
        assert space.shares == pytest.approx([1.0, 0.5, 0.4])

    def test_after_some_tries_it_is_refused_by_what_is_wrong(self):
        space = FakeSpace(checks=[(1.1, None)] * TRIES)
        reason = found(space, most=4.0)
        assert len(space.paths) == TRIES
        assert (reason.code, reason.limit) == ('chunk_speed', 4.0 * FURTHER)
        assert reason.value == pytest.approx(1.1 ** (TRIES + 1))
        assert found(FakeSpace(checks=[(1.0, OUT)] * TRIES)) is OUT

    def test_a_start_that_cannot_be_continued_is_named(self, monkeypatch):
        def fail(*_):
            raise PlanError('no way on')

        monkeypatch.setattr(playing, 'plan', fail)
        reason = found(FakeSpace())
        assert (reason.code, reason.stamp_s) == ('chunk_path', 7.0)
        assert str(reason) == (
            'no way on (a path). '
            'The path before is played on; nothing is to be done if it is rare.'
        )

    def test_a_way_without_a_place_within_reach_is_named(self):
        reason = found(FakeSpace(), line=way(0))
        assert (reason.code, reason.stamp_s) == ('chunk_path', 7.0)
        assert str(reason) == (
            'a pose that the arm cannot reach (a pose within reach). Move the arm to where it can.'
        )


class TestWaypoints:
    def waypoints(self, monkeypatch, **given):
        """Return what the planner is asked for."""
        asked = []

        def note(start, start_s, waypoints, step_s, limits):
            asked.append((start_s, waypoints, step_s, limits))
            return standing(start.positions, start_s)

        monkeypatch.setattr(playing, 'plan', note)
        made = found(FakeSpace(), **given)
        return made, *asked[0]

    def test_there_is_one_for_each_action(self, monkeypatch):
        made, start_s, rows, step_s, limits = self.waypoints(monkeypatch)
        assert (start_s, step_s, limits) == (100.0, DT, LIMITS)
        assert rows[:, 0] - HOME[0] == pytest.approx(0.01 * np.arange(1, 11))
        assert made.last == 10.0
        assert not made.unfinished

    def test_a_way_that_begins_within_an_action_has_one_after_each_time(self, monkeypatch):
        _, _, rows, step_s, _ = self.waypoints(monkeypatch, line=way(start=8.5))
        assert step_s == DT
        assert rows[:, 0] - HOME[0] == pytest.approx([0.01, 0.015])

    @pytest.mark.parametrize(
        ('dt', 'step_s', 'count'),
        [(WAYPOINT_S, WAYPOINT_S, 10), (0.3, 0.15, 20), (0.5, 0.5 / 3, 18), (40.0, 0.2, 15)],
    )
    def test_slow_actions_are_divided_and_followed_for_a_while(
        self, monkeypatch, dt, step_s, count
    ):
        made, _, rows, step, _ = self.waypoints(monkeypatch, dt=dt)
        assert step == pytest.approx(step_s)
        assert len(rows) == count
        assert step * len(rows) <= HORIZON_S + 1e-9
        assert made.last == pytest.approx(min(10.0, count * step / dt))
        assert made.unfinished == (made.last < 9.9)


def played(last=4.0, start=1.5, step_s=0.1, grip=(1, 1, -1, -1)):
    """Return a chunk of 4 actions of 0.05 s that is played from 1.5 on at half speed."""
    made = chunk(along_x(0.01, 4), grip=np.array(grip))
    path = Path(100.0, 0.1, np.zeros((4, 6)), np.zeros((4, 6)), np.zeros((4, 6)))
    return Playing(path, None, LIMITS, 0.03, Source(made, start), way(4, start), last, step_s)


class TestPlaying:
    def test_progress_goes_from_its_start_to_its_end(self):
        made = played()
        assert made.played_s == pytest.approx(100.25)
        assert [made.progress(t) for t in (99.0, 100.0, 100.1, 100.25, 101.0)] == pytest.approx(
            [1.5, 1.5, 2.5, 4.0, 4.0]
        )

    def test_what_was_played_counts_in_seconds_of_actions(self):
        assert tuple(played().interval(100.1)) == pytest.approx((100.0, 100.1, 0.5))
        assert tuple(played().interval(103.0)) == pytest.approx((100.0, 100.25, 0.5))

    def test_without_a_chunk_nothing_is_played(self):
        made = Playing(played().path, None, LIMITS, 0.03)
        assert math.isnan(made.progress(100.2))
        assert made.interval(100.2).since(100.0) == 0.0
        assert made.played_s == 100.0
        assert not made.unfinished
        assert made.width_at(fake_robot(), 100.2) == 0.03

    def test_it_is_unfinished_where_the_path_ends_before_the_actions(self):
        assert played(last=3.0).unfinished
        assert not played(last=4.0 - 1e-7).unfinished

    def test_the_gripper_belongs_to_the_action_in_progress(self):
        robot, made = fake_robot(), played()
        shut, wide = (made.width_at(robot, 100.0 + t) for t in (0.0, 0.2))
        assert {shut, wide} == {0.0, robot.gripper.open_width}
        assert made.width_at(robot, 100.049) == shut
        assert made.width_at(robot, 100.05 - 1e-9) == wide  # a progress of 2, but for rounding
        assert made.width_at(robot, 100.3) == wide
        assert played(last=2.0).width_at(robot, 100.3) == shut

    def test_the_gripper_has_a_scale_of_its_own(self):
        made, robot = played(), fake_robot()
        scale = np.array([1, 1, 1, 1, 1, -1, 1], np.float32)
        source = Source(replace(made.source.chunk, scale=scale), 1.5)
        assert replace(made, source=source).width_at(robot, 100.0) == made.width_at(robot, 100.0)
