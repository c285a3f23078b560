"""The player's decisions, instant by instant: what is sent, when it holds, and what it says."""

from dataclasses import replace

from follower import Follower
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import numpy as np
import pytest

from worldvla_ros.errors import RobotError
from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot.commander import KINDS
from worldvla_ros.robot.commands import PositionCommand, TrajectoryCommand, TwistCommand
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.player import Player
from worldvla_ros.robot.reasons import Reason
from worldvla_ros.robot.safety import STANDS_STILL_S, Mode
from worldvla_ros.robot.state import JointError
from worldvla_ros.robot.view import DRY_RUN

PANDA = Arm(load_robot('sim_panda'))
ROBOT, LIMITS = PANDA.robot, PANDA.robot.limits
NAMES = [*ROBOT.joints.names, *ROBOT.gripper.names]
HOME = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, np.pi / 4])
SCALE = np.array([0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 1.0], np.float32)
DT = 0.05
PERIOD = 0.01
LEFT = [0, 0.5, 0, 0, 0, 0, 1]  # 0.2 m/s
SLOWLY = [0, 0.2, 0, 0, 0, 0, 1]
RIGHT = [0, -0.5, 0, 0, 0, 0, 1]
LOW, HIGH = np.array(LIMITS.workspace_minimum), np.array(LIMITS.workspace_maximum)


def chunk(stamp_s, actions=(LEFT,) * 10, **changes):
    actions = np.array(actions, np.float32)
    made = ActionChunk(actions, ROBOT.action.names, ROBOT.action.units, SCALE, DT, stamp_s)
    return replace(made, **changes)


class Rig:
    """A player with an arm that follows its commands, and both clocks."""

    def __init__(self, output='twist', arm=PANDA, enabled=True, period_s=PERIOD, **changes):
        self.period_s = period_s
        self.player = Player(
            arm, output=output, period_s=period_s, max_joint_age_s=0.3, enabled=enabled, **changes
        )
        self.arm = Follower(arm, HOME)
        self.now_s, self.steady_s = 100.0, 500.0
        self.follows, self.measures, self.clock_goes = True, True, True
        self.trembles = 0.0
        self.halts = 0
        self.steps = []
        self.measure()
        self.tick()

    def measure(self):
        if self.measures:
            self.trembles = -self.trembles
            positions = [*(self.arm.joints + self.trembles), 0.04, 0.04]
            self.player.put_joints(NAMES, np.array(positions), self.now_s)

    def offer(self, actions=(LEFT,) * 10, **changes):
        return self.player.offer(chunk(self.now_s, actions, **changes), self.now_s)

    def tick(self):
        self.measure()
        step = self.player.step(self.now_s, self.steady_s)
        self.halts += step.halt
        if step.command is not None and self.follows:
            self.arm.take(step.command)
        elif step.command is None and not self.player.moving:
            self.arm.stand()
        self.steady_s += self.period_s
        if self.clock_goes:
            self.now_s += self.period_s
        if self.follows:
            self.arm.advance(self.now_s, self.period_s)
        self.steps.append(step)
        return step

    def run(self, seconds):
        start = len(self.steps)
        for _ in range(round(seconds / self.period_s)):
            self.tick()
        return self.steps[start:]

    def says(self):
        return self.player.view().message

    def codes(self):
        return [reason.code for reason in self.player.view().reasons]

    def enable(self, on=True):
        return self.player.enable(on, self.now_s, self.steady_s)

    def hold(self):
        self.player.hold(self.now_s)

    def stop(self):
        self.player.halt(self.now_s)

    def tip(self):
        return PANDA.pose(self.arm.joints)[:3, 3]


def tip_at(trajectory, time_s):
    times_s = trajectory.start_s + trajectory.times_s
    joints = [np.interp(time_s, times_s, column) for column in trajectory.positions.T]
    return PANDA.pose(np.array(joints))[:3, 3]


def commands(steps):
    return [step.command for step in steps if step.command is not None]


@pytest.fixture(params=KINDS)
def rig(request):
    return Rig(request.param)


@pytest.fixture
def joints():
    return Rig('position')


class TestPlaying:
    def test_a_chunk_is_played_whole_then_it_rests(self, rig):
        start = rig.tip()
        assert rig.offer() is None
        steps = rig.run(0.3)
        assert commands(steps)
        assert rig.says() == 'playing'
        rig.run(1.2)
        assert not commands(rig.run(0.5))
        assert rig.says() == (
            'holding: the chunk has ended and no newer one came. Check the policy.'
        )
        assert rig.player.view().warn
        np.testing.assert_allclose(rig.tip() - start, [0, 0.1, 0], atol=0.01)

    def test_before_the_first_chunk_it_holds_without_sending_anything(self, rig):
        assert not commands(rig.run(0.5))
        assert rig.says() == (
            'holding: no action chunk. Start the policy and give it an instruction.'
        )
        assert not rig.player.view().warn
        assert rig.codes() == ['no_chunk']

    @pytest.mark.parametrize('rate', [20.0, 100.0, 500.0])
    def test_motion_is_the_same_at_every_control_rate(self, rate):
        rig = Rig('position', period_s=1 / rate)
        start = rig.tip()
        rig.offer([LEFT] * 20)
        rig.run(0.5)
        sent = commands(rig.run(0.25))
        assert len(sent) == pytest.approx(0.25 * rate, abs=1)
        tips = np.array([PANDA.pose(c.positions)[:3, 3] for c in sent])
        speeds = np.diff(tips[:, 1]) * rate
        assert speeds == pytest.approx(0.2, abs=0.02)
        rig.run(1.5)
        assert rig.tip()[1] - start[1] == pytest.approx(0.2, abs=5e-3)

    def test_the_gripper_opens_and_closes_with_its_actions(self, rig):
        rig.offer([[0, 0.1, 0, 0, 0, 0, -1]] * 5 + [[0, 0.1, 0, 0, 0, 0, 1]] * 5)
        widths = [step.width for step in rig.run(0.5) if step.width is not None]
        changes = [i for i in range(1, len(widths)) if widths[i] != widths[i - 1]]
        assert (widths[0], widths[-1]) == (0.08, 0.0)
        assert changes == [pytest.approx(25, abs=2)]

    def test_a_newer_chunk_goes_on_where_the_one_before_has_come(self, joints):
        start, stamp = joints.tip(), joints.now_s
        joints.offer([LEFT] * 20)
        joints.run(0.5)
        late = chunk(stamp + 0.25, [LEFT] * 20)  # answers what was seen a quarter second ago
        assert joints.player.offer(late, joints.now_s) is None
        joints.run(2.5)
        assert joints.tip()[1] - start[1] == pytest.approx(0.05 + 0.2, abs=6e-3)

    def test_a_chunk_faster_than_the_arm_is_played_slower_and_said_so(self):
        real = Arm(load_robot('panda_servo'))
        rig = Rig('twist', arm=real)
        start = rig.tip()
        assert rig.offer([[0, 0.9, 0, 0, 0, 0, 1]] * 10) is None  # 0.36 m/s, 0.25 allowed
        rig.run(0.4)
        assert rig.says().startswith('playing 1.')
        assert 'times slower, as the chunk is faster than the limits' in rig.says()
        assert rig.player.view().slowdown > 1.4
        speeds = [np.linalg.norm(c.linear) for c in commands(rig.run(1.5))]
        assert max(speeds) <= real.robot.limits.linear_speed * 1.0001
        assert rig.tip()[1] - start[1] == pytest.approx(0.18, abs=8e-3)

    def test_motion_ends_at_the_wall_and_the_status_says_so(self, joints):
        said = set()
        for _ in range(4):
            joints.offer([[0, 0, 1, 0, 0, 0, 0]] * 10)
            joints.run(0.3)
            said.add(joints.says())
            joints.run(0.7)
        assert any('kept inside the workspace' in words for words in said)
        assert HIGH[2] - 0.006 < joints.tip()[2] < HIGH[2]

    def test_every_command_of_joints_continues_the_one_before(self, joints):
        joints.offer([LEFT] * 10)
        sent = commands(joints.run(0.25))
        joints.offer([[0.5, 0, 0, 0, 0, 0, 1]] * 10)
        sent += commands(joints.run(2.0))
        places = np.array([c.positions for c in sent])
        gains = np.diff(places, n=2, axis=0) / PERIOD**2
        assert (np.abs(gains) <= PANDA.acceleration * 1.02).all()


@pytest.mark.parametrize('output', ['twist', 'velocity'])
def test_speeds_change_within_limits_up_to_their_very_end(output):
    rig = Rig(output)
    rig.offer()
    sent = []
    for _ in range(150):
        command = rig.tick().command
        rig.arm.joints = HOME + 0.5 * (rig.arm.joints - HOME)  # it never gets there
        if command is not None:
            sent.append(command)
    if output == 'twist':
        speeds = np.array([c.linear for c in sent])
        changes = np.linalg.norm(np.diff(speeds, axis=0), axis=1)
        assert (changes <= LIMITS.linear_acceleration * PERIOD * 1.001).all()
    else:
        speeds = np.array([c.velocities for c in sent])
        assert (np.abs(np.diff(speeds, axis=0)) <= PANDA.acceleration * PERIOD * 1.001).all()
    assert not speeds[-1].any()


class TestRefusedChunks:
    @pytest.mark.parametrize(
        ('changes', 'code', 'words'),
        [
            ({'actions': np.zeros((400, 7), np.float32)}, 'chunk_duration', 'chunk_duration'),
            ({'dt': 1e9}, 'chunk_duration', 'limits.chunk_duration'),
            ({'scale': SCALE * 3}, 'chunk_speed', 'limits.max_slowdown'),
            ({'dt': 0.001}, 'chunk_speed', 'times as fast as the arm may be'),
            ({'names': ('q1',) * 7}, 'chunk_meaning', 'q1[m]'),
            ({'actions': np.full((4, 7), 2, np.float32)}, 'chunk_values', 'dx 2.000'),
            ({'actions': np.full((4, 7), np.nan, np.float32)}, 'chunk_values', 'not finite'),
            ({'latency_s': 7.0}, 'inference_latency', 'inference took 7.000 s'),
            ({'stamp_s': 90.0}, 'chunk_late', '10.0'),
            ({'stamp_s': 101.0}, 'chunk_late', 'ahead'),
        ],
    )
    def test_are_named_and_move_nothing(self, rig, changes, code, words):
        reason = (
            rig.offer(**({'actions': [[1, 1, 1, 0, 0, 0, 1]] * 4} | changes))
            if ('stamp_s' not in changes)
            else rig.player.offer(chunk(changes['stamp_s']), rig.now_s)
        )
        assert reason.code == code
        assert reason.text.startswith('chunk refused: ')
        assert words in str(reason)
        assert not commands(rig.run(0.3))
        assert words in rig.says()
        assert rig.codes() == [code, 'no_chunk']
        assert rig.player.refused_chunks == 1

    def test_actions_in_another_frame_are_refused_by_name(self, rig):
        reason = rig.player.offer(chunk(rig.now_s), rig.now_s, frame='camera')
        assert reason.code == 'chunk_frame'
        assert "frame 'camera' (base_frame panda_link0)" in reason.text
        assert rig.player.offer(chunk(rig.now_s), rig.now_s, frame='panda_link0') is None

    def test_the_chunk_before_is_played_on(self, rig):
        start = rig.tip()
        rig.offer()
        rig.run(0.2)
        assert rig.offer([LEFT] * 10, names=()) is not None
        assert rig.says() == 'playing'
        rig.run(2.0)
        assert rig.tip()[1] - start[1] == pytest.approx(0.1, abs=0.01)

    def test_a_good_one_ends_the_reason(self, rig):
        rig.offer(names=())
        rig.offer()
        assert rig.codes() == []

    @pytest.mark.parametrize('output', ['twist', 'pose'])
    def test_actions_of_joints_need_an_output_of_joints(self, output):
        action = replace(
            ROBOT.action,
            kind='joint_delta',
            names=(*(f'd_{name}' for name in ROBOT.joints.names), 'gripper'),
            units=('rad',) * 7 + ('1',),
            minimum=(),
            maximum=(),
        )
        arm = Arm(replace(ROBOT, action=action))
        with pytest.raises(RobotError, match=f'joint_delta cannot be played as {output}'):
            Rig(output, arm=arm)


class TestDryRun:
    def test_nothing_is_sent_and_the_view_says_so(self, rig):
        rig.enable(False)
        rig.offer()
        assert not commands(rig.run(0.3))
        assert rig.says() == DRY_RUN
        rig.run(1.5)
        assert rig.says().startswith('dry run: would hold: the chunk has ended')
        assert rig.player.mode is Mode.DRY_RUN

    def test_it_does_not_drift_so_that_enabling_makes_no_jump(self, rig):
        rig.enable(False)
        for _ in range(20):
            assert rig.offer([LEFT] * 10) is None
            rig.run(0.2)
        start = rig.arm.joints.copy()
        np.testing.assert_array_equal(start, HOME)
        rig.offer([LEFT] * 10)
        rig.enable(True)
        assert not commands(rig.run(0.2))  # nothing of the dry run is played
        rig.offer([LEFT] * 10)
        first = commands(rig.run(0.05))[0]
        if isinstance(first, PositionCommand):
            assert np.abs(first.positions - start).max() < 1e-3
        if isinstance(first, TrajectoryCommand):
            assert np.abs(first.positions[0] - start).max() < 0.02

    def test_each_chunk_is_shown_from_where_the_arm_is(self, rig):
        rig.enable(False)
        for _ in range(5):
            rig.offer([LEFT] * 10)
            rig.run(0.2)
            assert len(rig.player.actions_left) in (6, 7)

    def test_nothing_is_sent_either_when_joint_states_stop(self, rig):
        rig.enable(False)
        rig.offer([LEFT] * 20)
        rig.run(0.3)
        rig.measures = False
        assert not commands(rig.run(1.0))
        assert rig.codes()[0] == 'joints_old'
        rig.measures = True
        rig.run(0.1)
        rig.offer()
        assert not commands(rig.run(0.3))
        assert rig.says() == DRY_RUN
        assert not rig.halts

    def test_a_motion_that_it_ends_is_braked_for(self, joints):
        joints.offer([LEFT] * 20)
        joints.run(0.5)
        joints.enable(False)
        assert commands(joints.run(1.0))
        joints.offer()
        assert not commands(joints.run(0.3))


class TestHold:
    def test_it_brakes_within_limits_and_stays_until_enabled(self, joints):
        joints.offer([LEFT] * 30)
        joints.run(0.5)
        joints.hold()
        sent = [joints.steps[-1].command, *commands(joints.run(1.0))]
        assert len(sent) > 5  # along a path, not at once
        places = np.array([c.positions for c in sent])
        gains = np.diff(places, n=2, axis=0) / PERIOD**2
        assert (np.abs(gains) <= PANDA.acceleration * 1.02).all()
        assert not joints.halts
        assert joints.says() == 'holding: ~/hold was called. Call ~/enable with true to go on.'
        for _ in range(3):
            assert joints.offer() is None
            assert not commands(joints.run(0.3))
        assert joints.enable() is None
        assert not commands(joints.run(0.3))  # no chunk of the hold is played
        joints.offer()
        assert commands(joints.run(0.3))

    def test_it_stops_every_kind_of_arm(self, rig):
        rig.offer([LEFT] * 30)
        rig.run(0.5)
        rig.hold()
        rig.run(0.6)
        stopped = rig.tip()
        assert not commands(rig.run(1.0))
        np.testing.assert_allclose(rig.tip(), stopped, atol=1e-6)
        assert not rig.player.moving

    def test_the_gripper_is_told_nothing_while_it_brakes(self, rig):
        rig.offer([LEFT] * 30)
        rig.run(0.5)
        rig.hold()
        assert {step.width for step in rig.run(1.0)} == {None}

    def test_a_dry_run_can_be_held(self, rig):
        rig.enable(False)
        rig.hold()
        assert rig.player.mode is Mode.HELD

    def test_disabling_brakes_too(self, rig):
        rig.offer([LEFT] * 30)
        rig.run(0.5)
        rig.enable(False)
        rig.run(0.6)
        stopped = rig.tip()
        rig.offer([LEFT] * 30)
        rig.run(0.5)
        np.testing.assert_allclose(rig.tip(), stopped, atol=1e-6)

    def test_a_stop_of_the_node_does_not_release_it(self, rig):
        rig.hold()
        rig.player.stop(rig.now_s)
        assert rig.player.mode is Mode.HELD


class TestStop:
    def test_it_lasts_until_false_and_then_true(self, rig):
        rig.offer([LEFT] * 30)
        rig.run(0.5)
        rig.stop()
        rig.run(1.0)
        stopped = rig.tip()
        refused = rig.enable(True)
        assert refused.code == 'operator_stop'
        assert rig.player.mode is Mode.STOPPED
        rig.offer()
        assert not commands(rig.run(0.3))
        assert rig.says().startswith('holding: the stop topic said true')
        assert rig.player.view().warn
        np.testing.assert_allclose(rig.tip(), stopped, atol=1e-6)
        assert rig.enable(False) is None
        assert rig.enable(True) is None
        rig.offer()
        assert commands(rig.run(0.3))

    def test_a_missing_heartbeat_stops_and_refuses_to_enable(self):
        rig = Rig('twist', heartbeat_timeout_s=0.2)
        rig.run(0.1)
        assert rig.player.mode is Mode.STOPPED
        assert rig.codes()[0] == 'heartbeat'
        rig.enable(False)
        assert rig.enable(True).code == 'heartbeat'
        assert rig.player.mode is Mode.DRY_RUN
        rig.player.beat(rig.steady_s)
        assert rig.enable(True) is None
        rig.offer([LEFT] * 30)
        assert commands(rig.run(0.19))
        rig.run(0.5)
        assert rig.player.mode is Mode.STOPPED
        assert not rig.player.moving
        assert rig.says().startswith('holding: heartbeat silent for 0.2')

    def test_a_dry_run_needs_no_heartbeat(self):
        rig = Rig('twist', enabled=False, heartbeat_timeout_s=0.2)
        rig.run(1.0)
        assert rig.player.mode is Mode.DRY_RUN


class TestOperator:
    def test_a_pause_brakes_and_what_is_left_is_played_after_it(self, joints):
        start = joints.tip()
        joints.offer([LEFT] * 20)
        joints.run(0.4)
        joints.player.pause(True, joints.now_s)
        joints.run(0.6)
        assert not joints.player.moving
        assert joints.says() == 'holding: ~/pause was called. Call ~/pause with false to go on.'
        assert not joints.player.view().warn
        assert joints.player.pause(False, joints.now_s) is None
        joints.run(2.0)
        assert joints.tip()[1] - start[1] == pytest.approx(0.2, abs=8e-3)

    def test_a_pause_is_the_reason_until_it_ends(self, joints):
        joints.player.pause(True, joints.now_s)
        assert joints.codes() == ['paused']
        joints.offer([LEFT] * 20)
        assert joints.codes() == ['paused']
        joints.player.pause(False, joints.now_s)
        assert joints.codes() == []  # it is played
        joints.run(2.0)
        assert joints.codes() == ['chunk_ended']
        joints.enable(False)
        joints.player.pause(True, joints.now_s)
        joints.player.pause(False, joints.now_s)
        assert joints.codes() == ['no_chunk']

    def test_a_single_step_plays_one_action(self, joints):
        joints.player.pause(True, joints.now_s)
        assert joints.player.single_step(joints.now_s).code == 'no_step'
        joints.offer([LEFT] * 20)
        assert not commands(joints.run(0.3))
        start = joints.tip()
        assert joints.player.single_step(joints.now_s) is None
        joints.run(1.0)
        assert joints.tip()[1] - start[1] == pytest.approx(0.01, abs=2e-3)
        assert joints.says().startswith('holding: ~/pause was called')

    def test_a_single_step_needs_an_enabled_arm(self, joints):
        joints.enable(False)
        assert joints.player.single_step(joints.now_s).code == 'not_enabled'

    @pytest.mark.parametrize('share', [0.25, 0.5])
    def test_a_speed_override_slows_motion_down(self, joints, share):
        assert joints.player.set_speed(share, joints.now_s) is None
        joints.offer([LEFT] * 20)
        joints.run(0.6)
        tips = [PANDA.pose(c.positions)[1, 3] for c in commands(joints.run(0.2))]
        assert np.diff(tips) / PERIOD == pytest.approx(0.2 * share, abs=0.015)
        assert joints.says() == f'playing at {share:.0%} of full speed'
        assert joints.player.view().speed == share

    def test_speed_override_and_pause_outlast_a_dry_run(self, joints):
        joints.player.set_speed(0.5, joints.now_s)
        joints.player.pause(True, joints.now_s)
        joints.enable(False)
        joints.offer()
        joints.enable(True)
        assert joints.player.view().speed == 0.5
        joints.offer()
        assert not commands(joints.run(0.3))

    def test_it_goes_to_the_start_pose_slowly_and_ignores_chunks_meanwhile(self, joints):
        joints.arm.joints = HOME + 0.2
        joints.run(0.1)
        assert joints.player.go_to_start(joints.now_s) is None
        assert joints.says() == 'moving: going to the start pose. Wait, or call ~/hold.'
        sent = commands(joints.run(0.5))
        assert joints.offer() is None
        sent += commands(joints.run(6.0))
        places = np.array([c.positions for c in sent])
        speeds = np.abs(np.diff(places, axis=0)) / PERIOD
        assert (speeds <= 0.26 * PANDA.velocity).all()
        np.testing.assert_allclose(joints.arm.joints, PANDA.start, atol=1e-3)
        joints.offer()
        assert commands(joints.run(0.2))

    def test_the_way_to_the_start_is_no_faster_than_the_operator_allows(self, joints):
        joints.arm.joints = HOME + 0.2
        joints.player.set_speed(0.1, joints.now_s)
        joints.run(0.1)
        assert joints.player.go_to_start(joints.now_s) is None
        places = np.array([c.positions for c in commands(joints.run(8.0))])
        speeds = np.abs(np.diff(places, axis=0)) / PERIOD
        assert (speeds <= 0.104 * PANDA.velocity).all()
        np.testing.assert_allclose(joints.arm.joints, PANDA.start, atol=1e-3)

    def test_a_hold_ends_the_way_to_the_start(self, joints):
        joints.arm.joints = HOME + 0.2
        joints.run(0.1)
        joints.player.go_to_start(joints.now_s)
        assert [r.code for r in joints.player.view().reasons] == ['going_to_start']
        joints.run(0.5)
        joints.hold()
        joints.run(1.0)
        assert np.abs(joints.arm.joints - PANDA.start).max() > 0.05
        assert not joints.player.moving

    def test_the_way_to_the_start_needs_an_enabled_arm_at_rest_and_a_start(self, joints):
        joints.offer([LEFT] * 30)
        joints.run(0.3)
        assert joints.player.go_to_start(joints.now_s).code == 'moving'
        joints.enable(False)
        assert joints.player.go_to_start(joints.now_s).code == 'not_enabled'
        nowhere = replace(ROBOT, joints=replace(ROBOT.joints, start=()))
        assert Rig('position', Arm(nowhere)).player.go_to_start(100.0).code == 'no_start'
        blind = Rig('position')
        blind.measures = False
        blind.run(0.5)
        assert blind.player.go_to_start(blind.now_s).code == 'joints_old'


class TestJoints:
    def test_without_joint_states_it_holds_and_names_the_joint(self, rig):
        rig.player.stop(rig.now_s)
        rig.measures = False
        rig.offer()
        assert not commands(rig.run(0.2))
        assert 'holding: joint panda_joint1 is missing' in rig.says()
        assert rig.codes() == ['joints_missing', 'no_chunk']

    def test_when_they_stop_it_brakes_and_the_chunk_is_not_resumed(self, rig):
        rig.offer([LEFT] * 40)
        rig.run(0.3)
        rig.measures = False
        rig.run(1.5)
        assert not rig.player.moving
        assert 'panda_joint1 is too old' in rig.says()
        rig.measures = True
        assert not commands(rig.run(0.3))
        assert 'the chunk has ended and no newer one came' in rig.says()

    def test_one_part_that_stops_is_enough(self, rig):
        rig.offer([LEFT] * 40)
        rig.run(0.2)
        rig.measures = False
        for _ in range(150):
            rig.player.put_joints(NAMES[:7], rig.arm.joints, rig.now_s)
            rig.tick()
        assert 'panda_finger_joint1 is too old' in rig.says()
        assert not commands(rig.run(0.2))

    @pytest.mark.parametrize(('index', 'value'), [(0, np.nan), (3, -0.1 + np.pi * 3), (8, 100.0)])
    def test_one_that_cannot_be_true_is_a_reason_for_a_second(self, rig, index, value):
        positions = np.append(HOME, [0.04, 0.04])
        positions[index] = value
        with pytest.raises(JointError):
            rig.player.put_joints(NAMES, positions, rig.now_s)
        assert rig.codes()[0] == 'joints_invalid'
        assert rig.player.refused_joints == 1
        rig.run(0.9)
        assert rig.codes()[0] == 'joints_invalid'
        rig.run(0.3)
        assert rig.codes() == ['no_chunk']


class TestAnArmThatDoesSomethingElse:
    def drive(self, rig, seconds, action=LEFT):
        """Play chunks one after another; return how many commands left."""
        sent = 0
        for _ in range(round(seconds / 0.25)):
            rig.offer([action] * 10)
            sent += len(commands(rig.run(0.25)))
        return sent

    def test_frozen_joint_states_hold_until_the_operator_enables(self, rig):
        rig.follows = False
        self.drive(rig, 3.0)
        assert rig.player.mode is Mode.HELD
        assert rig.codes()[0] in ('command_not_applied', 'tip_lag')
        assert not commands(rig.run(1.0))
        rig.follows = True
        rig.offer()
        assert not commands(rig.run(0.3))
        rig.enable(True)
        rig.offer([LEFT] * 4)
        assert commands(rig.run(0.2))

    def test_so_does_an_arm_that_is_told_to_move_slowly(self, rig):
        rig.follows = False
        self.drive(rig, 6.0, [0, 0.02, 0, 0, 0, 0, 1])  # 8 mm/s
        assert rig.player.mode is Mode.HELD
        assert rig.codes()[0] == 'command_not_applied'

    def test_a_blocked_arm_that_trembles_is_not_wound_up(self, joints):
        joints.follows = False
        joints.trembles = 0.0015
        sent = []
        for _ in range(12):
            joints.offer()
            sent += commands(joints.run(0.25))
        far = max(np.abs(c.positions - HOME).max() for c in sent)
        assert far <= LIMITS.joint_lag + 0.01
        assert joints.player.mode is Mode.HELD

    FAST = [0, 1.0, 0, 0, 0, 0, 1]

    @pytest.mark.parametrize('output', ['trajectory', 'position'])
    def test_one_that_is_behind_is_not_told_to_jump_back(self, output):
        rig = Rig(output)
        rig.offer()
        rig.run(0.2)
        rig.follows = False
        told = []
        for _ in range(100):
            if not len(told) % 5:
                rig.offer([self.FAST] * 10)
            told += [c for c in commands(rig.run(0.05)) if c is not None]
        first = [c.positions if output == 'position' else c.positions[0] for c in told]
        steps = np.abs(np.diff(first, axis=0)).max(axis=1)
        assert steps.max() < 0.25
        back = [now[0] - before[0] for before, now in zip(first, first[1:], strict=False)]
        assert min(back) > -0.01
        assert rig.codes()[0] == 'command_not_applied'
        assert rig.player.mode is Mode.HELD

    @pytest.mark.parametrize('late_s', [0.2, 1.2])
    def test_one_that_comes_after_goes_on_by_itself_unless_it_is_too_late(self, joints, late_s):
        joints.player = Player(
            PANDA, output='position', period_s=PERIOD, max_joint_age_s=0.3, enabled=True,
            follow_timeout_s=0.6,
        )  # fmt: skip
        joints.follows = False
        told = []
        while not {'tip_lag', 'joint_lag'} & set(joints.codes()):
            joints.offer([self.FAST] * 10)
            told += commands(joints.run(0.05))
        while joints.player.moving:
            told += commands([joints.tick()])
        joints.offer()
        assert not commands(joints.run(late_s))
        joints.arm = Follower(PANDA, told[-1].positions)
        joints.run(0.1)
        joints.follows = True
        joints.offer()
        assert bool(commands(joints.run(0.2))) == (late_s < 0.6)

    def test_an_arm_moved_by_another_is_noticed(self, rig):
        rig.offer([LEFT] * 40)
        rig.run(0.2)
        rig.follows = False
        for _ in range(30):
            rig.arm.joints[0] += 4.0 * PERIOD
            rig.tick()
        assert set(rig.codes()) & {'measured_speed', 'tip_lag', 'joint_lag', 'measured_workspace'}
        rig.run(1.0)
        assert not rig.player.moving

    @pytest.mark.parametrize('last', [0.1, 0.3])
    def test_what_was_commanded_without_joint_states_is_not_held_against_it(self, rig, last):
        for _ in range(3):
            self.drive(rig, 0.5)
            rig.measures = False
            self.drive(rig, last)
            rig.run(1.0)
            rig.measures = True
            rig.tick()
            for action in (LEFT, RIGHT):
                assert self.drive(rig, 0.75, action) >= 3
            assert rig.player.mode is Mode.ENABLED, rig.says()

    @pytest.mark.parametrize('gap', ['pause', 'hold', 'disable', 'stop', 'clock'])
    def test_nor_is_what_was_commanded_before_a_gap(self, rig, gap):
        for seconds in (0.3, 0.45):
            rig.follows = False  # what it did meanwhile is another matter
            self.drive(rig, seconds - 0.25, SLOWLY)
            rig.offer([SLOWLY] * 10)
            rig.run(0.25)
            self.leave(rig, gap)
            if gap == 'pause':
                rig.arm.take(commands(rig.steps)[-1])  # what goes on later begins there
            rig.arm.stand()
            rig.follows = True
            self.come_back(rig, gap)
            assert self.drive(rig, 1.5, RIGHT)
            assert rig.player.mode is Mode.ENABLED, rig.says()

    def leave(self, rig, gap):
        if gap == 'pause':
            rig.player.pause(True, rig.now_s)
        elif gap == 'hold':
            rig.hold()
        elif gap == 'disable':
            rig.enable(False)
        elif gap == 'stop':
            rig.player.stop(rig.now_s)
        else:
            rig.clock_goes = False
        rig.run(1.0)

    def come_back(self, rig, gap):
        rig.clock_goes = True
        if gap == 'pause':
            rig.player.pause(False, rig.now_s)
        elif gap in ('hold', 'disable'):
            rig.enable(True)
        rig.run(0.1)

    def test_an_arm_put_elsewhere_at_rest_goes_on_from_there(self, rig):
        self.drive(rig, 0.5)
        rig.run(1.5)
        rig.arm = Follower(PANDA, HOME + np.array([0.5, 0.1, 0, 0.2, 0, 0, 0]))
        rig.tick()
        assert self.drive(rig, 1.0)
        assert rig.player.mode is Mode.ENABLED, rig.says()

    def test_an_arm_put_elsewhere_in_motion_needs_the_operator(self, rig):
        self.drive(rig, 0.5)
        rig.offer([LEFT] * 10)
        rig.run(0.1)
        rig.arm = Follower(PANDA, HOME + np.array([0.5, 0.1, 0, 0.2, 0, 0, 0]))
        rig.run(1.0)
        assert rig.player.mode is Mode.HELD
        assert {'measured_speed', 'command_not_applied'} & set(rig.codes())
        assert not self.drive(rig, 0.5)
        rig.enable(True)
        assert self.drive(rig, 1.0)
        assert rig.player.mode is Mode.ENABLED, rig.says()

    def test_the_following_error_is_measured(self, joints):
        joints.offer([LEFT] * 20)
        joints.run(0.5)
        assert joints.player.view().following_error_m < 5e-3
        joints.follows = False
        joints.run(0.1)
        assert joints.player.view().following_error_m > 5e-3
        joints.run(3.0)
        assert np.isnan(joints.player.view().following_error_m)


class TestClocks:
    def test_one_that_stands_still_stops_at_once_and_is_named(self, rig):
        rig.offer([LEFT] * 40)
        rig.run(0.2)
        rig.clock_goes = False
        rig.run(2.0)
        assert rig.halts == 1
        assert rig.says().startswith('holding: ROS time stands still')
        rig.clock_goes = True
        assert not commands(rig.run(0.3))
        rig.offer()
        assert commands(rig.run(0.3))

    def test_one_that_goes_in_steps_or_slowly_is_no_reason(self, joints):
        joints.offer([LEFT] * 20)
        start = joints.tip()
        for _ in range(200):
            joints.clock_goes = False
            joints.run(0.03)
            joints.clock_goes = True
            joints.tick()
        assert joints.tip()[1] - start[1] == pytest.approx(0.2, abs=5e-3)

    def test_one_that_is_set_back_stops(self, rig):
        rig.offer([LEFT] * 40)
        rig.run(0.2)
        rig.now_s = 20.0
        rig.run(1.0)
        assert not rig.player.moving

    @pytest.mark.parametrize(('stood_s', 'told'), [(0.0, True), (0.7, False)])
    def test_how_far_the_arm_went_while_time_was_set_back_a_little_is_no_speed(
        self, stood_s, told
    ):
        rig = Rig('twist', follow_timeout_s=9.0)
        rig.offer([SLOWLY] * 40)
        rig.run(0.3)
        rig.now_s -= stood_s
        rig.run(stood_s)
        rig.arm.joints[0] += 0.2  # 0.1 m, in one step of the stamps
        rig.run(0.1)
        assert ('measured_speed' in rig.codes()) is told

    def test_a_controller_that_plays_on_meanwhile_brakes_where_it_is_by_then(self):
        rig = Rig('trajectory')
        rig.offer([LEFT] * 40)
        sent = commands(rig.run(0.2))[-1]
        last_s = rig.now_s
        rig.clock_goes = False
        brake = next(step.brake for step in rig.run(1.0) if step.halt)
        assert brake.start_s - last_s == pytest.approx(STANDS_STILL_S, abs=2 * PERIOD)
        gone = tip_at(sent, brake.start_s) - tip_at(sent, last_s)
        assert gone[1] == pytest.approx(0.2 * STANDS_STILL_S, rel=0.1)
        first_s = brake.start_s + brake.times_s[0]
        assert tip_at(brake, first_s)[1] == pytest.approx(tip_at(sent, first_s)[1], abs=5e-3)

    @pytest.mark.parametrize(('output', 'gone_m'), [('trajectory', 0.02), ('position', 0.0)])
    def test_one_that_is_set_back_late_brakes_where_the_arm_was_told_to_be(self, output, gone_m):
        rig = Rig(output)
        rig.offer([LEFT] * 40)
        rig.run(0.3)
        before = rig.player._motion.at(rig.now_s).tip.pose[1, 3]
        rig.now_s -= 50.0
        rig.steady_s += 0.1
        rig.tick()
        after = rig.player._motion.at(rig.now_s - PERIOD).tip.pose[1, 3]
        assert after - before == pytest.approx(gone_m, abs=2.5e-3)


def test_an_absent_controller_stops_at_once_and_chunks_wait(rig):
    rig.offer([LEFT] * 40)
    rig.run(0.2)
    rig.player.controller(Reason('servo_halted', 'Servo halted', 'Free it.'))
    assert rig.tick().halt
    assert rig.codes()[0] == 'servo_halted'
    rig.offer()
    assert not commands(rig.run(0.2))
    rig.player.controller(None)
    rig.offer()
    assert commands(rig.run(0.2))


def test_a_controller_that_is_absent_is_no_matter_in_a_dry_run(rig):
    rig.player.controller(Reason('servo_absent', 'Servo does not answer', 'Start it.'))
    assert rig.codes()[0] == 'servo_absent'
    rig.enable(False)
    rig.player.controller(Reason('servo_absent', 'Servo does not answer', 'Start it.'))
    assert rig.codes() == ['no_chunk']
    rig.offer()
    rig.run(0.1)
    assert rig.says() == DRY_RUN


def test_a_gripper_that_is_absent_is_a_reason_and_does_not_stop_the_arm(rig):
    rig.player.gripper(Reason('gripper_absent', 'nobody answers', 'Start it.'))
    rig.offer()
    assert commands(rig.run(0.2))
    assert rig.codes() == ['gripper_absent']


def test_a_trajectory_that_must_end_at_once_ends_with_a_planned_stop():
    rig = Rig('trajectory')
    rig.offer([LEFT] * 30)
    rig.run(0.4)
    rig.player.controller(Reason('servo_halted', 'halted', 'Free it.'))
    step = rig.tick()
    assert step.halt
    assert step.brake.times_s[-1] < 0.6
    assert not step.brake.velocities[-1].any()


def test_a_stop_of_the_node_plans_the_end_of_a_trajectory():
    rig = Rig('trajectory')
    assert rig.player.stop(rig.now_s) is None
    rig.measure()
    rig.offer([LEFT] * 30)
    rig.run(0.5)
    brake = rig.player.stop(rig.now_s)
    assert isinstance(brake, TrajectoryCommand)
    assert not brake.velocities[-1].any()
    assert not commands(rig.run(0.2))


def test_news_have_another_version(rig):
    before = rig.player.version
    rig.run(0.3)
    assert rig.player.version == before
    rig.offer()
    rig.tick()
    playing = rig.player.version
    assert playing > before
    rig.run(0.2)
    assert rig.player.version == playing
    rig.hold()
    assert rig.player.version > playing


stream = st.lists(
    st.tuples(
        arrays(np.float32, (10, 7), elements=st.sampled_from([-1.0, -0.3, 0.0, 1.0])),
        st.integers(1, 40),
        st.floats(0.0, 0.03),
        st.sampled_from(['', '', '', 'hold', 'block', 'pause']),
    ),
    max_size=5,
)


@settings(max_examples=15, deadline=None)
@given(stream, st.sampled_from(['twist', 'position']))
def test_whatever_comes_no_command_passes_a_limit(chunks, output):
    rig = Rig(output)
    last = None
    for actions, ticks, late, event in chunks:
        rig.offer(actions)
        rig.follows = event != 'block'
        for _ in range(ticks):
            rig.now_s += late
            rig.steady_s += late
            step = rig.tick()
            command = step.command
            if isinstance(command, TwistCommand):
                assert np.linalg.norm(command.linear) <= LIMITS.linear_speed * 1.0001
                assert np.linalg.norm(command.angular) <= LIMITS.angular_speed * 1.0001
            if isinstance(command, PositionCommand):
                tip = PANDA.pose(command.positions)[:3, 3]
                assert ((tip >= LOW - 1e-4) & (tip <= HIGH + 1e-4)).all()
                assert (command.positions >= PANDA.minimum - 1e-4).all()
                assert (command.positions <= PANDA.maximum + 1e-4).all()
                assert np.abs(command.positions - rig.arm.joints).max() <= LIMITS.joint_lag + 0.1
                if last is not None:
                    moved = np.abs(command.positions - last)
                    assert (moved <= PANDA.velocity * (PERIOD + late) * 1.001).all()
            last = command.positions if isinstance(command, PositionCommand) else None
        if event == 'hold':
            rig.hold()
            rig.run(0.1)
            rig.enable()
        if event == 'pause':
            rig.player.pause(True, rig.now_s)
            rig.run(0.1)
            rig.player.pause(False, rig.now_s)
        last = None
