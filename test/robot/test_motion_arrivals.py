"""Whatever arrives, and whenever: facts that hold at every millisecond. The clock is a number."""

from fake_arm import (
    GAIN,
    HOME,
    JERK,
    SPEED,
    TURN,
    TURN_GAIN,
    TURN_JERK,
    FakeArm,
    chunk,
    reading,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from worldvla_ros.robot.motion import GAP_S, Motion

TICK = 0.001
SLACK = 1.001


class World:
    """A motion, an arm that follows it exactly, and what was commanded at each tick."""

    def __init__(self, kind, output, blending):
        self.kind = kind
        self.motion = Motion(FakeArm(kind), output=output, blending=blending)
        self.now_s = 100.0
        self.joints = HOME
        self.runs = [[]]  # rows without a gap in between
        self.played = []  # (time, seconds of actions)
        self.progress = None  # of the newest chunk
        self.newest = None
        self.taken = 0  # how often a chunk took over
        self.stalled = set()  # runs that end in the middle of a motion
        self.again = False
        self.number = 0
        self.chunks = []

    def tick(self, seconds):
        for _ in range(round(seconds / TICK)):
            self.now_s += TICK
            point = self.ask()
            if point is None:
                self.part()
                continue
            self.note(point)

    def ask(self):
        """Return what is commanded now, and take note of the chunk that is played."""
        before = self.motion._playing
        point = self.motion.at(self.now_s)
        playing = self.motion._playing or before
        self.source = playing and playing.source  # the newest chunk may wait for a pause to end
        return point

    def part(self):
        self.again = False
        if self.runs[-1]:
            self.runs.append([])

    def note(self, point):
        if point.joints is not None:
            state = point.joints
            self.joints = state.positions
            row = [state.positions, state.velocities, state.accelerations]
        else:
            tip = point.tip
            self.joints = self.motion._space._arm.solve(None, tip.pose).joints
            row = [
                [*tip.pose[:3, 3], 0, 0, 0],
                [*tip.linear, *tip.angular],
                [*tip.linear_acceleration, *tip.angular_acceleration],
            ]
        row = np.concatenate(row)
        if self.again and self.runs[-1]:
            # nobody knows how long a clock that was set back took: all is as it was last
            assert row == pytest.approx(self.runs[-1].pop(), abs=1e-9)
        self.again = False
        self.runs[-1].append(row)
        if not np.isnan(point.progress):
            self.count(point.progress)

    def count(self, progress):
        """Compare the progress of a chunk with what was played since its stamp."""
        newest = self.source.chunk
        if newest.chunk_id != self.newest:  # also one that was stopped, and came again
            since = sum(share for at_s, share in self.played if at_s > newest.stamp_s + TICK / 2)
            unseen = (3 + self.taken) * TICK  # the tick after each arrival
            assert progress == pytest.approx(since / newest.dt, abs=unseen / newest.dt)
            self.newest, self.taken = newest.chunk_id, self.taken + 1
        else:
            assert progress >= self.progress - 1e-9
            self.played.append((self.now_s, (progress - self.progress) * newest.dt))
        assert progress <= newest.horizon + 1e-9
        self.progress = progress

    def arrive(self, seed, age_s, dt):
        self.number += 1
        moves = some_moves(seed)
        if self.kind == 'joint_position':
            moves = np.clip(HOME + np.cumsum(moves, axis=0), [0.3, -0.25, 0.05, -1, -1, -1], 0.7)
        came = chunk(moves, self.now_s - age_s, dt=dt, kind=self.kind, number=self.number)
        self.chunks.append(came)
        self.offer(came)

    def offer(self, came):
        self.motion.offer(came, self.now_s, reading(self.joints, stamp_s=self.now_s))

    def jump_back(self, seconds):
        self.now_s -= seconds
        self.again = True
        self.played.clear()
        self.chunks.clear()
        self.newest, self.taken = None, 0
        point = self.ask()
        if point is not None:
            self.note(point)

    def stall(self):
        """Nobody asks for a while: what was to be played meanwhile was not."""
        self.now_s += GAP_S + 0.1
        assert self.motion.at(self.now_s) is None
        self.stalled.add(len(self.runs) - 1)
        self.part()


def some_moves(seed):
    """Return a steady motion with noise, 1 to 12 actions, up to twice as fast as allowed."""
    generator = np.random.default_rng(seed)
    steady, noise = generator.uniform(-0.02, 0.02, 6), generator.choice([0.0, 0.003, 0.02])
    count = generator.integers(1, 13)
    return np.clip(steady + generator.normal(0, noise, (count, 6)), -0.03, 0.03)


arrival = st.tuples(
    st.just('chunk'),
    st.integers(0, 999),
    st.sampled_from([0.0, 0.04, 0.1, 0.17, 0.33, 0.9]),
    st.sampled_from([0.04, 0.05, 0.1]),
)
other = st.tuples(
    st.sampled_from(
        ['again', 'older', 'stop', 'pause', 'resume', 'step', 'back', 'slower', 'full', 'stall']
    ),
)
waits = st.sampled_from([0.0, 0.013, 0.05, 0.12, 0.25, 0.6])
events = st.lists(st.tuples(st.one_of(arrival, arrival, other), waits), min_size=2, max_size=9)


def happen(world, event):
    kind, motion, now_s = event[0], world.motion, world.now_s
    if kind == 'chunk':
        world.arrive(*event[1:])
    elif kind == 'again' and world.chunks:
        world.offer(world.chunks[-1])
    elif kind == 'older' and len(world.chunks) > 1:
        world.offer(world.chunks[-2])
    elif kind in ('stop', 'pause', 'resume', 'step'):
        getattr(motion, kind)(now_s)
    elif kind == 'slower':
        motion.override(0.3, now_s)
    elif kind == 'full':
        motion.override(1.0, now_s)
    elif kind == 'back':
        world.jump_back(5.0)
    elif kind == 'stall':
        world.stall()


def play(happenings, kind, output, blending):
    world = World(kind, output, blending)
    for event, wait_s in happenings:
        happen(world, event)
        world.tick(wait_s)
    assert world.motion.remaining_s < 60
    world.motion.override(1.0, world.now_s)
    world.tick(world.motion.remaining_s + 0.01)
    for _ in range(20):  # where a path was not long enough for all actions
        if world.motion.path is not None:
            world.tick(0.2)
    assert world.motion.path is None
    for i, rows in enumerate(world.runs):
        if rows:
            yield np.array(rows), i not in world.stalled


def assert_rests(rows):
    """At the end nothing moves."""
    _, v, a = np.split(rows[-1], 3)
    assert np.abs(v).max() <= 1e-5
    assert np.abs(a).max() <= 1e-4


def assert_smooth(rows, limits):
    """No limit passed, no step; `limits` of speed, gain and jerk per group."""
    _, v, a = np.split(rows, 3, axis=1)
    for group, (speed, gain, jerk), lengths in limits:
        size = lengths or (lambda values: np.abs(values).max(axis=1))
        assert size(v[:, group]).max() <= speed * SLACK
        assert size(a[:, group]).max() <= gain * SLACK
        if len(rows) > 1:
            assert size(np.diff(v[:, group], axis=0) / TICK).max() <= gain * SLACK
            assert size(np.diff(a[:, group], axis=0) / TICK).max() <= jerk * SLACK


def assert_moves_as_told(rows, group, jerk):
    """The positions move by the velocities: no step."""
    p, v, _ = np.split(rows, 3, axis=1)
    moved = np.diff(p[:, group], axis=0) - TICK * (v[1:, group] + v[:-1, group]) / 2
    assert np.abs(moved).max(initial=0.0) <= jerk * TICK**3


def length(values):
    return np.linalg.norm(values, axis=1)


def test_a_chunk_that_was_stopped_and_comes_again_goes_on_after_what_was_played():
    steps = [(0, 0.05, 0.0), (998, 0.05, 0.0), (0, 0.0, 0.17)]
    happenings = [(('chunk', seed, age_s, 0.04), wait_s) for seed, wait_s, age_s in steps]
    happenings[2:2] = [(('stop',), 0.0), (('older',), 0.12)]
    assert list(play(happenings, 'cartesian_delta', 'twist', 'latest'))


def test_an_action_is_stepped_to_its_end_though_a_newer_chunk_waits():
    arrival = ('chunk', 0, 0.0, 0.04)
    happenings = [(('pause',), 0.0), (arrival, 0.0), (('step',), 0.013), (arrival, 0.0)]
    assert list(play(happenings, 'cartesian_delta', 'twist', 'latest'))


FAST = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@FAST
@given(happenings=events, blending=st.sampled_from(['latest', 'blend', 'ensemble']))
def test_a_path_of_the_tip_has_no_step_and_passes_no_limit(happenings, blending):
    linear, angular = slice(0, 3), slice(3, 6)
    # the second derivative of the orientation is a little more than that of the rotation vector
    turn = TURN, TURN_GAIN * 1.05, TURN_JERK * 1.2
    for rows, whole in play(happenings, 'cartesian_delta', 'twist', blending):
        limits = [(linear, (SPEED, GAIN, JERK), length), (angular, turn, length)]
        assert_smooth(rows, limits)
        assert_moves_as_told(rows, linear, JERK)
        if whole:
            assert_rests(rows)


@FAST
@given(happenings=events, kind=st.sampled_from(['joint_delta', 'joint_position']))
def test_a_path_of_the_joints_has_no_step_and_passes_no_limit(happenings, kind):
    for rows, whole in play(happenings, kind, 'position', 'latest'):
        assert_smooth(rows, [(slice(0, 6), (SPEED, GAIN, JERK), None)])
        assert_moves_as_told(rows, slice(0, 6), JERK)
        if whole:
            assert_rests(rows)
