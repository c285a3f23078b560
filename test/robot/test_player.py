"""The player's decisions, instant by instant: what is sent, when it holds, and what it says."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import numpy as np
import pytest

from worldvla_ros.errors import ObservationError
from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot.commands import TwistCommand
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.player import STOP_REPEATS, Player
from worldvla_ros.robot.safety import Mode

ROBOT = load_robot('sim_panda')
ARM = Arm(ROBOT)
NAMES = [*ROBOT.joints.names, *ROBOT.gripper.names]
HOME = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, np.pi / 4, 0.04, 0.04])
SCALE = np.array([0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 1.0], np.float32)
DT = 0.05
LEFT = [0, 0.5, 0, 0, 0, 0, 1]  # 0.2 m/s


def chunk(stamp_s, actions=(LEFT,) * 10, **changes):
    actions = np.array(actions, np.float32)
    made = ActionChunk(actions, ROBOT.action.names, ROBOT.action.units, SCALE, DT, stamp_s)
    return replace(made, **changes)


class Rig:
    """A player with an arm that follows its commands, and both clocks."""

    def __init__(self, output='twist', arm=ARM, enabled=True, period_s=DT):
        self.player = Player(
            arm, output=output, period_s=period_s, max_joint_age_s=0.3, enabled=enabled
        )
        self.joints, self.now_s, self.steady_s = HOME.copy(), 100.0, 500.0
        self.follows, self.measures, self.clock_goes = True, True, True
        self.tick_s = period_s / 2
        self.measure()

    def measure(self):
        if self.measures:
            self.player.put_joints(NAMES, self.joints, self.now_s)

    def offer(self, actions=(LEFT,) * 10, **changes):
        return self.player.offer(chunk(self.now_s, actions, **changes), self.now_s)

    def tick(self):
        self.measure()
        step = self.player.step(self.now_s, self.steady_s)
        if step is not None and step.command is not None:
            self.move(step.command)
        self.steady_s += self.tick_s
        if self.clock_goes:
            self.now_s += self.tick_s
        return step

    def move(self, command):
        if not self.follows:
            return
        if isinstance(command, TwistCommand):
            self.joints[:7] += 0.01  # somewhere else; twists are of the tip
        else:
            self.joints[:7] = command.positions

    def run(self, seconds):
        steps = (self.tick() for _ in range(round(seconds / self.tick_s)))
        return [step for step in steps if step is not None]


def commands(steps):
    return [step.command for step in steps if step.command is not None]


@pytest.fixture(params=['twist', 'trajectory'])
def rig(request):
    return Rig(request.param)


def test_a_chunk_is_played_once_then_stopped_then_silent(rig):
    assert rig.offer() is None
    steps = rig.run(1.0)
    assert len(commands(steps)) == 10
    assert [s.message for s in steps[:10]] == ['playing'] * 10
    assert [s.stop for s in steps[10:]] == [True] * STOP_REPEATS + [False] * 5
    assert steps[-1].message.startswith('holding: the chunk has ended and no newer one came')
    assert steps[-1].warn


def test_before_the_first_chunk_it_holds_without_sending_anything(rig):
    steps = rig.run(0.5)
    assert not commands(steps)
    assert not any(step.stop for step in steps)
    assert {s.message for s in steps} == {
        'holding: no action chunk. Start the policy and give it an instruction.'
    }


def test_a_twist_is_that_of_the_action():
    rig = Rig('twist')
    rig.offer([[0.5, -0.25, 0.1, 0.2, -0.1, 0.3, -1]] * 3)
    command = commands(rig.run(0.2))[0]
    np.testing.assert_allclose(command.linear, [0.2, -0.1, 0.04], rtol=1e-6)
    np.testing.assert_allclose(command.angular, [0.4, -0.2, 0.6], rtol=1e-6)
    assert command.width == 0.08


def test_joint_targets_go_on_from_each_other():
    rig = Rig('trajectory')
    start = ARM.pose(HOME[:7])
    rig.offer([[0, 0, -0.2, 0, 0, 0.1, 1]] * 10)
    sent = commands(rig.run(0.6))
    end = ARM.pose(sent[-1].positions)
    np.testing.assert_allclose(end[:3, 3] - start[:3, 3], [0, 0, -0.04], atol=1e-3)
    turned = end[:3, :3] @ start[:3, :3].T
    assert np.arctan2(turned[1, 0], turned[0, 0]) == pytest.approx(0.1, abs=5e-3)


class TestDryRun:
    def test_nothing_leaves(self, rig):
        rig.player.enable(False)
        rig.offer()
        steps = rig.run(1.0)
        assert not commands(steps)
        assert not any(step.stop for step in steps)

    def test_it_is_called_a_dry_run(self, rig):
        rig.player.enable(False)
        rig.offer()
        messages = [step.message for step in rig.run(1.0)]
        assert messages[0] == 'dry run: nothing is sent. Call ~/enable with true to move the arm.'
        assert messages[-1].startswith('dry run: would hold: the chunk has ended')
        assert not any('playing' in message for message in messages)

    def test_nothing_is_integrated_that_the_first_command_would_jump_to(self):
        rig = Rig('trajectory', enabled=False)
        for _ in range(8):
            rig.offer()
            rig.run(0.5)  # 4 s and 0.8 m of chunks, with an arm that stands still
        rig.player.enable(True)
        rig.offer()
        first = commands(rig.run(0.1))[0]
        assert np.abs(first.positions - HOME[:7]).max() < 0.05

    def test_an_arm_that_rightly_stands_still_is_no_reason_to_hold(self, rig):
        rig.player.enable(False)
        rig.offer([LEFT] * 40)
        assert {step.message[:8] for step in rig.run(2.0)} == {'dry run:'}
        rig.offer([LEFT] * 40)
        assert not any('would hold' in step.message for step in rig.run(1.9))

    def test_what_was_offered_before_enabling_is_not_played(self, rig):
        rig.player.enable(False)
        rig.offer()
        rig.player.enable(True)
        assert not commands(rig.run(0.3))

    def test_disabling_stops_the_arm(self, rig):
        rig.offer()
        rig.run(0.2)
        rig.player.enable(False)
        steps = rig.run(0.5)
        assert not commands(steps)
        assert sum(step.stop for step in steps) == STOP_REPEATS

    def test_it_says_what_would_not_pass(self, rig):
        rig.player.enable(False)
        rig.measures = False
        rig.offer()
        rig.now_s += 1.0
        assert 'dry run: would hold: the position of joint' in rig.tick().message


class TestHold:
    def test_it_stays_until_it_is_released(self, rig):
        rig.offer()
        rig.run(0.2)
        rig.player.hold()
        for _ in range(10):
            assert rig.offer() is None
            steps = rig.run(0.5)
            assert not commands(steps)
            assert steps[-1].message == (
                'holding: ~/hold was called. Call ~/enable with true to go on.'
            )
        rig.player.enable(True)
        assert not commands(rig.run(0.3))  # no chunk of the hold is played
        rig.offer()
        assert commands(rig.run(0.3))

    def test_it_stops_the_arm(self, rig):
        rig.offer()
        rig.run(0.2)
        assert rig.player.stopping
        rig.player.hold()
        assert sum(step.stop for step in rig.run(1.0)) == STOP_REPEATS
        assert not rig.player.stopping

    def test_a_dry_run_can_be_held(self, rig):
        rig.player.enable(False)
        rig.player.hold()
        assert rig.player.mode is Mode.HELD

    def test_a_stop_of_the_node_does_not_release_it(self, rig):
        rig.player.hold()
        rig.player.stop()
        assert rig.player.mode is Mode.HELD


def test_joint_targets_begin_where_the_arm_is_after_every_hold():
    rig = Rig('trajectory')
    rig.offer()
    rig.run(0.3)
    rig.player.hold()
    rig.joints = HOME + np.array([0.4, 0, 0, 0, 0, 0, 0, 0, 0])  # moved by hand
    rig.run(0.2)
    rig.player.enable(True)
    rig.offer()
    first = commands(rig.run(0.1))[0]
    np.testing.assert_allclose(first.positions, rig.joints[:7], atol=0.06)


class TestJoints:
    def test_without_joint_states_it_holds_and_names_the_joint(self, rig):
        rig.player.stop()
        rig.measures = False
        rig.offer()
        steps = rig.run(0.2)
        assert not commands(steps)
        assert 'holding: joint panda_joint1 is missing' in steps[0].message
        assert steps[0].warn

    def test_when_they_stop_the_chunk_is_not_resumed(self, rig):
        rig.offer([LEFT] * 40)
        rig.run(0.2)
        rig.measures = False
        steps = rig.run(0.5)
        assert 'panda_joint1 is too old' in steps[-1].message
        assert 'max_joint_age' in steps[-1].message
        rig.measures = True
        after = rig.run(0.3)
        assert not commands(after)
        assert 'the chunk has ended and no newer one came' in after[-1].message
        assert after[-1].kind == 'holding: chunk ended'

    def test_one_part_that_stops_is_enough(self, rig):
        rig.offer([LEFT] * 40)
        rig.run(0.2)
        rig.measures = False
        for _ in range(20):
            rig.player.put_joints(NAMES[:7], rig.joints[:7], rig.now_s)
            rig.tick()
        steps = rig.run(0.2)
        assert 'panda_finger_joint1 is too old' in steps[-1].message
        assert not commands(steps)

    def test_a_reason_that_has_gone_is_not_said_any_more(self, rig):
        rig.measures = False
        rig.player.stop()
        assert 'is missing' in rig.run(0.2)[-1].message
        rig.measures = True
        assert 'no action chunk' in rig.run(0.2)[-1].message

    def test_a_joint_state_that_is_refused_moves_nothing(self, rig):
        with pytest.raises(ObservationError):
            rig.player.put_joints(NAMES, np.append(HOME[:8], np.nan), rig.now_s)


def test_frozen_joint_states_under_motion_hold_until_enabled(rig):
    rig.follows = False
    sent, messages = 0, set()
    for _ in range(8):
        rig.offer([[0, 0.1, 0, 0, 0, 0, 1]] * 20)  # 0.04 m/s: 2 mm a period
        steps = rig.run(1.0)
        sent += len(commands(steps))
        messages |= {step.message for step in steps}
    assert any('joints stand still though' in message for message in messages)
    assert sent < 40  # of 160
    rig.player.enable(True)
    rig.offer([LEFT] * 4)
    assert commands(rig.run(0.2))


def test_a_blocked_arm_is_not_wound_up():
    rig = Rig('trajectory')
    rig.follows = False
    sent = []
    for _ in range(8):
        rig.offer()
        rig.joints[0] = 0.003 - rig.joints[0]  # it trembles, so that it is not taken for frozen
        sent += commands(rig.run(0.5))
    lag = max(np.abs(c.positions - HOME[:7]).max() for c in sent)
    assert lag <= ROBOT.limits.joint_lag + 0.01


def test_a_clock_that_stands_still_holds_stops_and_is_named(rig):
    rig.offer([LEFT] * 40)
    rig.run(0.2)
    rig.clock_goes = False
    steps = rig.run(2.0)
    assert len(commands(steps)) <= 1
    assert steps[-1].message.startswith('holding: ROS time stands still')
    assert sum(step.stop for step in steps) == STOP_REPEATS
    rig.clock_goes = True
    assert not commands(rig.run(0.3))
    rig.offer()
    assert commands(rig.run(0.3))


def test_a_clock_that_is_set_back_holds(rig):
    rig.offer([LEFT] * 40)
    rig.run(0.2)
    rig.now_s = 20.0
    assert not commands(rig.run(0.2))


class TestChunks:
    @pytest.mark.parametrize(
        ('changes', 'words'),
        [
            ({'dt': 0.01}, 'Set control_rate of action_player to 100'),
            ({'actions': np.zeros((400, 7), np.float32)}, 'limits.chunk_duration'),
            ({'scale': SCALE * 2}, 'limits.linear_speed'),
            ({'names': ('q1',) * 7}, 'q1[m]'),
            ({'actions': np.full((4, 7), 2, np.float32)}, 'dx 2.000'),
            ({'latency_s': 7.0}, 'inference took 7.000 s'),
        ],
    )
    def test_a_chunk_that_must_not_be_played_is_refused(self, rig, changes, words):
        reason = rig.offer(**({'actions': [[1, 1, 1, 0, 0, 0, 1]] * 4} | changes))
        assert reason.text.startswith('chunk refused: ')
        assert words in reason.text
        steps = rig.run(0.3)
        assert not commands(steps)
        assert words in steps[-1].message  # it stays on the status

    def test_the_chunk_before_is_played_on(self, rig):
        rig.offer([LEFT] * 10)
        rig.run(0.2)
        assert rig.offer([LEFT] * 10, dt=1.0) is not None
        assert len(commands(rig.run(0.5))) == 6

    def test_a_chunk_is_not_played_beyond_its_end_by_a_slow_loop(self):
        rig = Rig()
        rig.offer()
        rig.tick_s = 0.2
        assert len(commands(rig.run(2.0))) <= 4  # 0.5 s and the overrun

    def test_a_chunk_that_is_too_fast_is_played_slower_where_the_robot_allows(self):
        panda = load_robot('panda_servo')
        rig = Rig('twist', arm=Arm(panda))
        rig.offer([[0.7, 0.7, 0.7, 0, 0, 0, 1]] * 10)
        steps = rig.run(2.0)
        sent = commands(steps)
        assert len(sent) == 20
        assert all(np.linalg.norm(c.linear) <= panda.limits.linear_speed for c in sent)
        travelled = sum(c.linear for c in sent) * DT
        np.testing.assert_allclose(travelled, 10 * 0.014, rtol=1e-5)
        assert 'playing 2 times slower' in steps[0].message
        assert {c.width for c in sent} == {0.0}


@pytest.mark.parametrize('rate', [10.0, 20.0, 100.0])
def test_the_speed_is_that_of_the_action_at_every_rate(rate):
    period = 1 / rate
    rig = Rig('trajectory', period_s=period)
    scale = SCALE * np.float32(period / DT)
    rig.offer([LEFT] * 10, dt=period, scale=scale)
    sent = commands(rig.run(10 * period))
    assert len(sent) == 10
    tips = [ARM.pose(c.positions)[1, 3] for c in sent]
    np.testing.assert_allclose(np.diff(tips) / period, 0.2, atol=0.01)


def test_motion_ends_at_the_wall_and_the_status_says_so():
    rig = Rig('trajectory')
    for _ in range(4):
        rig.offer([[0, 0, 1, 0, 0, 0, 0]] * 10)
        steps = rig.run(0.5)
    assert 'kept inside the workspace' in steps[5].message
    assert steps[5].warn
    top = ROBOT.limits.workspace_maximum[2]
    assert ARM.pose(rig.joints[:7])[2, 3] == pytest.approx(top, abs=2e-3)


chunks = st.tuples(
    arrays(np.float32, (10, 7), elements=st.sampled_from([-1.0, -0.3, 0.0, 1.0])),
    st.integers(1, 12),
    st.floats(0.0, 0.04),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(chunks, max_size=6), st.sampled_from([True, False]))
def test_whatever_chunks_come_no_command_passes_a_limit(stream, follows):
    rig, limits = Rig('trajectory'), ROBOT.limits
    rig.follows = follows
    low, high = np.array(limits.workspace_minimum), np.array(limits.workspace_maximum)
    for actions, ticks, late in stream:
        rig.offer(actions)
        for _ in range(ticks):
            rig.now_s += late
            rig.steady_s += late
            rig.measure()
            measured = rig.joints[:7].copy()
            step = rig.tick()
            if step is None or step.command is None:
                continue
            positions = step.command.positions
            tip = ARM.pose(positions)[:3, 3]
            assert ((tip >= low - 1e-4) & (tip <= high + 1e-4)).all()
            assert (positions >= ARM.minimum - 1e-4).all()
            assert (positions <= ARM.maximum + 1e-4).all()
            assert np.abs(positions - measured).max() <= limits.joint_lag + 1e-4
            if follows:
                step_m = np.linalg.norm(tip - ARM.pose(measured)[:3, 3])
                assert step_m <= limits.linear_speed * DT * 1.001
                assert (np.abs(positions - measured) <= 1.001 * DT * 2.61).all()
