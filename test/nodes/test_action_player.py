"""The action player as a node, in this process: what it hears, sends, serves and says."""

import gc
import re
import signal
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import numpy as np
import pytest

pytest.importorskip('rclpy')
from geometry_msgs.msg import TwistStamped
from probe import MATCH_S, Probe, running
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Empty, Float64MultiArray, Header
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from worldvla_ros.errors import ObservationError
from worldvla_ros.graph import NodeSpec
from worldvla_ros.msg import ActionChunk, PlayerState
from worldvla_ros.nodes.action_player import ActionPlayerNode
from worldvla_ros.nodes.bridges import listeners
from worldvla_ros.nodes.convert import time_message
from worldvla_ros.nodes.qos import LATCHED_QOS, RELIABLE_QOS, SENSOR_QOS
from worldvla_ros.nodes.runtime import seconds
from worldvla_ros.nodes.spin import spin
from worldvla_ros.robot.description import load_robot, robots_folder
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.srv import SetSpeedOverride

ROBOT = load_robot('sim_panda')
ARM = Arm(ROBOT)
NAMES = [*ROBOT.joints.names, *ROBOT.gripper.names]
HOME = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, np.pi / 4, 0.04, 0.04])
LEFT = [0, 0.5, 0, 0, 0, 0, 1]  # 0.2 m/s
OUTPUTS = {
    'delta_twist_cmds': TwistStamped,
    'joint_trajectory': JointTrajectory,
    'gripper_command': Float64MultiArray,
}
EVERYTHING = QoSProfile(depth=200, reliability=RELIABLE_QOS.reliability)
"""Of a slow listener with a shorter queue, the newest message would replace those before it."""
ALL_STATUSES = QoSProfile(
    depth=200, reliability=LATCHED_QOS.reliability, durability=LATCHED_QOS.durability
)
PATIENT = {'max_joint_age': 5.0, 'follow_timeout': 10.0}
"""Older joints make a player brake and drop its chunk; a busy machine may be slow to deliver."""
PAUSE_S = 1.0
"""Twists farther apart are of two motions."""
IDLE_S = 1.5
"""A chunk that has not begun after this is over: a busy machine was not there in time."""


class Feeder(Probe):
    """Hears what a player sends and says, and feeds it chunks and joints of an arm that obeys."""

    def __init__(self) -> None:
        super().__init__()
        for topic, cls in OUTPUTS.items():
            self.listen(cls, topic, EVERYTHING)
        self.listen(MarkerArray, 'planned_path', EVERYTHING)
        self.listen(DiagnosticArray, 'action_player/status', ALL_STATUSES)
        self.listen(PlayerState, 'action_player/state', ALL_STATUSES)
        self.listen(DiagnosticArray, '/diagnostics', EVERYTHING)
        self.joints = HOME.copy()
        self._followed = (None, 0.0)

    def connect(self):
        """Find the player's subscriptions, so that what is sent first is not lost or late."""
        for cls, topic, qos in (
            (JointState, 'joint_states', SENSOR_QOS),
            (ActionChunk, 'action_chunk', RELIABLE_QOS),
        ):
            self._publishers[topic] = self.node.create_publisher(cls, topic, qos)
        self.until(
            lambda: all(p.get_subscription_count() for p in self._publishers.values()),
            'the player to listen',
        )
        self.spin(MATCH_S)

    def now_s(self):
        return self.node.get_clock().now().nanoseconds * 1e-9

    def follow(self):
        """Move as the twists since the last look say, or as the newest trajectory does."""
        twists, trajectories = self.heard['delta_twist_cmds'], self.heard['joint_trajectory']
        last, last_s = self._followed
        start = next((i + 1 for i, t in enumerate(twists) if t is last), 0)
        for twist in twists[start:]:
            stamp_s = seconds(twist.header.stamp)
            since_s = stamp_s - last_s  # a busy machine may leave a long way between two
            period = since_s if since_s < PAUSE_S else 0.01
            step = np.linalg.pinv(ARM.jacobian(self.joints[:7])) @ numbers(twist)
            self.joints[:7] += step * period
            self._followed = last, last_s = twist, stamp_s
        if trajectories:
            message = trajectories[-1]
            since = self.now_s() - seconds(message.header.stamp)
            times = [
                p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in message.points
            ]
            rows = np.array([p.positions for p in message.points])
            if since >= times[0]:
                self.joints[:7] = [np.interp(since, times, column) for column in rows.T]

    def joint_state(self, names=NAMES, positions=None):
        values = self.joints if positions is None else positions
        message = JointState(name=list(names), position=[float(v) for v in values])
        message.header.stamp = time_message(self.now_s())
        return message

    def measure(self, names=NAMES, positions=None):
        self.follow()
        self.say(self.joint_state(names, positions), 'joint_states', SENSOR_QOS)

    def offer(self, actions=(LEFT,) * 10, **changes):
        """Send a chunk, once the player has fresh joints."""
        since_s = self.now_s()

        def known():
            self.measure()
            return self.has_joints(since_s)

        self.until(known, 'the player to have fresh joints')
        self.send(actions, **changes)

    def has_joints(self, since_s):
        """Whether the player has joints, as far as its status says so."""
        return 'no action chunk' in self.last()

    def send(self, actions, **changes):
        """Send a chunk of the present time."""
        actions = np.asarray(actions, float)
        message = ActionChunk(
            chunk_id=1, model_id='test', instruction='go', dt=0.05, horizon=len(actions), dim=7,
            action_names=list(ROBOT.action.names), action_units=list(ROBOT.action.units),
            action_scale=[0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 1.0], data=actions.ravel().tolist(),
        )  # fmt: skip
        message.header.stamp = time_message(self.now_s())
        for name, value in changes.items():
            setattr(message, name, value)
        self.say(message, 'action_chunk', RELIABLE_QOS)

    def moves(self):
        """Return the twists heard that are not a stop."""
        return [m for m in self.heard['delta_twist_cmds'] if any(numbers(m))]

    def until_fed(self, holds, what):
        """Keep the arm's joint states coming until something holds."""

        def fed():
            self.measure()
            return holds()

        return self.until(fed, what)

    def play(self, actions, holds, what, **changes):
        """Play a chunk until something holds; one that was over before it began is sent again."""
        self.offer(actions, **changes)
        idle_since = time.monotonic()

        def held():
            nonlocal idle_since
            if self.plays.moving:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > IDLE_S and not holds():
                self.send(actions, **changes)
                idle_since = time.monotonic()
            return holds()

        return self.until_fed(held, what)

    def said(self, words, fed=True):
        """Return the first status with these words, as soon as there is one."""

        def found():
            heard = [s for a in self.heard['action_player/status'] for s in a.status]
            return next((s for s in heard if words in s.message), None)

        until = self.until_fed if fed else self.until
        return until(found, f'{words!r} on the status')

    def last(self):
        """Return the newest status."""
        heard = self.heard['action_player/status']
        return heard[-1].status[0].message if heard else ''

    def state(self, holds, what):
        """Return the newest state, as soon as it is as wanted."""

        def found():
            heard = self.heard['action_player/state']
            return heard[-1] if heard and holds(heard[-1]) else None

        return self.until_fed(found, what)

    def forget(self):
        for messages in self.heard.values():
            messages.clear()


class InProcess(Feeder):
    """The same, with a player in this process, whose executor is spun in turn with the probe's."""

    def __init__(self, **parameters) -> None:
        parameters = PATIENT | parameters
        words = [w for name, value in parameters.items() for w in ('-p', f'{name}:={value}')]
        rclpy.init(args=['--ros-args', *words] if words else None)
        self.player = ActionPlayerNode()
        self.spun = SingleThreadedExecutor()
        self.spun.add_node(self.player)
        super().__init__()
        self.until(lambda: self.player.active, 'the player to be active')

    def until(self, holds, what, timeout_s=20.0):
        def after_a_spin():
            for _ in range(5):  # a real executor is faster than who publishes
                self.spun.spin_once(timeout_sec=0.001)
            for _ in range(5):  # and who listens must not fall behind on a busy machine
                self._executor.spin_once(timeout_sec=0.0)
            return holds()

        return super().until(after_a_spin, what, timeout_s)

    @property
    def plays(self):
        """What decides in the node."""
        return self.player._configured.player

    def has_joints(self, since_s):
        """Whether the player has joints not older than a time."""
        try:
            return self.plays.joints(self.now_s()).stamp_s >= since_s - 1e-6
        except ObservationError:
            return False

    def spin(self, duration_s):
        end = time.monotonic() + duration_s
        self.until(lambda: time.monotonic() >= end, 'time to pass')

    def connect(self):
        """Find each other, both ways."""
        super().connect()
        publishers = [p for p in self.player.publishers if 'rosout' not in p.topic_name]
        names = tuple(OUTPUTS)
        outputs = [p for p in publishers if p.topic_name.endswith(names)]
        self.until(
            lambda: len(outputs) == 2 and all(p.get_subscription_count() for p in outputs),
            'the probe to hear the player',
        )

    def end(self):
        self.player.close()
        self.player.destroy_node()
        self.spun.shutdown()
        self.close()
        rclpy.try_shutdown()
        self.player = self.spun = None
        gc.collect()  # else the graph lists the player until Python frees it


def numbers(twist):
    linear, angular = twist.twist.linear, twist.twist.angular
    return [linear.x, linear.y, linear.z, angular.x, angular.y, angular.z]


@pytest.fixture(autouse=True)
def in_one_process(monkeypatch):
    """Both ends are in this process and find each other at once."""
    monkeypatch.setattr(listeners, 'MATCH_S', 0.1)


@pytest.fixture
def start():
    """Start a player with parameters, active; it ends with the test."""
    rigs = []

    def begin(**parameters):
        rigs.append(InProcess(**parameters))
        rigs[-1].connect()
        return rigs[-1]

    yield begin
    for rig in rigs:
        rig.end()


@pytest.fixture
def rig(start):
    return start()


def speeds(rig):
    return np.array([numbers(m) for m in rig.heard['delta_twist_cmds']]).reshape(-1, 6)


def at_rest(rig):
    moved = bool(rig.moves()) and not rig.plays.moving
    return moved and not any(numbers(rig.heard['delta_twist_cmds'][-1]))


def test_a_twist_is_the_action_in_the_base_frame(rig):
    def moved():
        return at_rest(rig) and rig.heard['gripper_command']

    rig.play([[0.5, -0.25, 0.1, 0.2, -0.1, 0.3, 1]] * 20, moved, 'a motion')
    twist = rig.moves()[0]
    assert twist.header.frame_id == 'panda_link0'
    # under way; a busy machine lets the arm of this test stray, and other twists bring it back
    wanted = [0.2, -0.1, 0.04, 0.4, -0.2, 0.6]
    nearest = min(speeds(rig), key=lambda twist: np.abs(twist - wanted).max())
    np.testing.assert_allclose(nearest, wanted, rtol=0.2, atol=0.02)
    age = rig.now_s() - seconds(twist.header.stamp)
    assert 0 <= age < 20
    assert rig.heard['gripper_command'][0].data[0] == 0.0
    assert not rig.heard['joint_trajectory']


def test_commands_change_their_speed_within_limits(rig):
    rig.play([LEFT] * 10, lambda: at_rest(rig), 'a motion and its end')
    stamps = np.array([seconds(m.header.stamp) for m in rig.heard['delta_twist_cmds']])
    changes = np.linalg.norm(np.diff(speeds(rig)[:, :3], axis=0), axis=1)
    assert (changes <= ROBOT.limits.linear_acceleration * np.diff(stamps) * 1.03 + 1e-3).all()


def test_the_gripper_opens_and_closes_as_it_is_told(rig):
    def both():
        return {m.data[0] for m in rig.heard['gripper_command']} == {0.0, 0.08}

    open_then_closed = [[0, 0.1, 0, 0, 0, 0, -1]] * 8 + [[0, 0.1, 0, 0, 0, 0, 1]] * 8
    rig.play(open_then_closed, both, 'both widths')
    widths = [m.data[0] for m in rig.heard['gripper_command']]
    assert widths == sorted(widths, reverse=True)


def test_a_chunk_is_played_once_then_stopped_then_silent(rig):
    rig.play([LEFT] * 20, lambda: at_rest(rig), 'a motion and its end')
    assert rig.said('playing').level == DiagnosticStatus.OK
    ended = rig.said('holding: the chunk has ended')
    assert ended.level == DiagnosticStatus.WARN
    rig.spin(0.3)
    count = len(rig.heard['delta_twist_cmds'])
    assert not speeds(rig)[-4:].any()
    rig.spin(0.3)
    assert len(rig.heard['delta_twist_cmds']) == count  # then others may command the arm


def test_the_rest_of_a_chunk_goes_out_as_one_trajectory(start):
    rig = start(output='trajectory')

    def both():
        return rig.heard['joint_trajectory'] and rig.heard['gripper_command']

    rig.play([[0, 0.25, 0, 0, 0.2, -0.3, -1]] * 8, both, 'both commands')
    rig.said('the chunk has ended')
    (message,) = rig.heard['joint_trajectory']
    assert list(message.joint_names) == list(ROBOT.joints.names)
    times = [p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in message.points]
    assert times[0] > 0
    assert (np.diff(times) > 0).all()
    assert not any(message.points[-1].velocities)
    before, after = ARM.pose(HOME[:7]), ARM.pose(np.array(message.points[-1].positions))
    np.testing.assert_allclose(after[:3, 3] - before[:3, 3], [0, 0.04, 0], atol=4e-3)
    assert rig.heard['gripper_command'][0].data[0] == 0.08
    assert not rig.heard['delta_twist_cmds']


@pytest.mark.parametrize('output', ['twist', 'trajectory'])
def test_motion_ends_at_the_wall_of_the_workspace(start, output):
    rig = start(output=output)
    wall = ROBOT.limits.workspace_maximum[1]
    radius = np.linalg.norm(ARM.pose(HOME[:7])[:2, 3])
    rig.joints[0] = np.arcsin((wall - 0.02) / radius)
    rig.offer([[0, 1, 0, 0, 0, 0, 1]] * 6)  # 0.12 m
    rig.said('kept inside the workspace')
    rig.said('the chunk has ended')
    if output == 'trajectory':
        rows = np.array([p.positions for p in rig.heard['joint_trajectory'][-1].points])
        assert ARM.poses(rows)[:, 1, 3].max() <= wall
    rig.measure()
    end = ARM.pose(rig.joints[:7])[1, 3]
    assert wall - 0.015 < end < wall + 0.005


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'data': [float('nan')] * 70}, 'not finite'),
        ({'data': [0.0] * 5}, '10 × 7'),
        ({'data': [40.0] * 70}, 'dx 40.000'),
        ({'action_names': ['q'] * 7}, 'q[m]'),
        ({'action_scale': [0.1] * 7}, 'times as fast as the arm may be'),
        ({'dt': 0.0}, 'dt 0.0'),
        ({'dt': 1e9}, 'limits.chunk_duration'),
        ({'latency': 9.0}, 'inference took 9.000 s'),
        ({'header': 'old'}, 'old'),
        ({'header': 'camera'}, "frame 'camera'"),
    ],
)
def test_a_chunk_that_must_not_be_played_is_refused_by_name(rig, changes, words):
    header = Header(stamp=time_message(rig.now_s()))
    if changes.get('header') == 'old':
        changes = {'header': Header(stamp=time_message(rig.now_s() - 5))}
    elif changes.get('header') == 'camera':
        rig.measure()
        header.frame_id = 'camera'
        changes = {'header': header}
    rig.offer([[0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 1]] * 10, **changes)
    assert words in rig.said('chunk refused').message
    rig.said('holding: chunk refused')
    assert not rig.heard['delta_twist_cmds']


def test_a_chunk_of_many_actions_is_refused(rig):
    rig.offer([LEFT] * 400)
    assert 'limits.chunk_duration' in rig.said('chunk refused').message
    assert not rig.heard['delta_twist_cmds']


class TestDryRun:
    def test_nothing_is_sent_and_the_status_says_so(self, start):
        rig = start(enabled=False)
        rig.offer()
        assert rig.said('dry run: nothing is sent')
        assert rig.said('dry run: would hold: the chunk has ended')
        assert not any(rig.heard[topic] for topic in OUTPUTS)
        values = rig.heard['action_player/status'][-1].status[0].values
        assert {v.key: v.value for v in values}['mode'] == 'dry run'

    def test_a_real_robot_starts_with_it_and_plays_slowly_when_enabled(self, start, tmp_path):
        text = (robots_folder() / 'panda_servo.yaml').read_text()
        # control_msgs is not on PyPI
        text = re.sub(r'output: {kind: gripper_command.*}', 'output: {kind: width}', text)
        text = text.replace('urdf/panda.urdf', str(robots_folder() / 'urdf/panda.urdf'))
        (tmp_path / 'arm.yaml').write_text(text)
        rig = start(robot=str(tmp_path / 'arm.yaml'), output='trajectory')
        rig.offer([[0, 0.9, 0, 0, 0, 0, 1]] * 10)  # 0.36 m/s, 0.25 allowed
        assert rig.said('dry run: nothing is sent')
        assert not rig.heard['joint_trajectory']
        answer = rig.call(SetBool, 'action_player/enable', SetBool.Request(data=True))
        assert (answer.success, answer.message) == (True, 'sending commands')
        rig.offer([[0, 0.9, 0, 0, 0, 0, 1]] * 10)
        assert rig.said('times slower')
        assert rig.heard['joint_trajectory']

    @pytest.mark.parametrize('output', ['twist', 'trajectory'])
    def test_the_first_command_after_it_begins_where_the_arm_is(self, start, output):
        rig = start(enabled=False, output=output)
        for _ in range(6):
            rig.play([LEFT] * 10, lambda: len(rig.plays.actions_left) in (5, 6), 'some actions')
        rig.call(SetBool, 'action_player/enable', SetBool.Request(data=True))
        topic = 'joint_trajectory' if output == 'trajectory' else 'delta_twist_cmds'
        rig.play([LEFT] * 10, lambda: rig.heard[topic], 'a command')
        if output == 'trajectory':
            first = np.array(rig.heard[topic][0].points[0].positions)
            assert np.abs(first - HOME[:7]).max() < 0.02
        else:
            assert np.linalg.norm(speeds(rig)[0]) < 0.1


class TestHold:
    def test_it_stops_the_arm_and_stays_until_released(self, rig):
        rig.play([LEFT] * 30, lambda: len(rig.moves()) >= 3, 'some twists')
        answer = rig.call(Trigger, 'action_player/hold', Trigger.Request())
        assert answer.success
        assert answer.message == 'holding until ~/enable is called with true'
        assert rig.said('holding: ~/hold was called. Call ~/enable with true')
        rig.until_fed(lambda: at_rest(rig), 'a stop')
        rig.forget()
        for _ in range(3):
            rig.offer()
            rig.spin(0.1)
        assert not rig.moves()
        rig.call(SetBool, 'action_player/enable', SetBool.Request(data=True))
        rig.play([LEFT] * 10, rig.moves, 'motion')

    def test_disabling_stops_the_arm(self, rig):
        rig.play([LEFT] * 30, lambda: len(rig.moves()) >= 3, 'some twists')
        rig.call(SetBool, 'action_player/enable', SetBool.Request(data=False))
        rig.until_fed(lambda: at_rest(rig), 'a stop')
        rig.forget()
        rig.offer()
        rig.said('dry run')
        assert not rig.moves()


class TestStop:
    @pytest.mark.parametrize('qos', [RELIABLE_QOS, SENSOR_QOS, LATCHED_QOS])
    def test_any_publisher_stops_the_arm_and_none_starts_it(self, rig, qos):
        rig.play([LEFT] * 30, lambda: len(rig.moves()) >= 3, 'some twists')
        rig.say(Bool(data=True), 'stop', qos)
        rig.state(lambda s: s.mode == PlayerState.STOPPED, 'the stop')
        rig.until_fed(lambda: at_rest(rig), 'a stop')
        rig.say(Bool(data=False), 'stop', qos)
        answer = rig.call(SetBool, 'action_player/enable', SetBool.Request(data=True))
        assert not answer.success
        assert 'the stop topic said true' in answer.message
        assert rig.plays.mode.value == PlayerState.STOPPED
        rig.forget()
        rig.offer()
        rig.spin(0.2)
        assert not rig.moves()
        for on in (False, True):
            assert rig.call(SetBool, 'action_player/enable', SetBool.Request(data=on)).success
        rig.play([LEFT] * 10, rig.moves, 'motion')

    def test_a_heart_that_does_not_beat_stops_the_arm(self, start):
        rig = start(heartbeat_timeout=2.0)
        state = rig.state(lambda s: s.mode == PlayerState.STOPPED, 'the stop')
        assert state.reasons[0].code == 'heartbeat'
        assert 'never heard' in state.reasons[0].text
        rig.say(Empty(), 'heartbeat', SENSOR_QOS)
        for on in (False, True):
            assert rig.call(SetBool, 'action_player/enable', SetBool.Request(data=on)).success
        rig.state(lambda s: s.mode == PlayerState.STOPPED, 'the stop')


class TestOperator:
    def test_a_pause_lets_one_action_after_the_other_through(self, rig):
        answer = rig.call(SetBool, 'action_player/pause', SetBool.Request(data=True))
        assert (answer.success, answer.message) == (True, 'paused')
        rig.offer([LEFT] * 20)
        rig.said('holding: ~/pause was called')
        assert not rig.moves()
        assert rig.call(Trigger, 'action_player/step', Trigger.Request()).success
        rig.until_fed(lambda: at_rest(rig), 'a step')
        rig.measure()
        moved = ARM.pose(rig.joints[:7])[1, 3] - ARM.pose(HOME[:7])[1, 3]
        assert moved == pytest.approx(0.01, abs=4e-3)
        answer = rig.call(SetBool, 'action_player/pause', SetBool.Request(data=False))
        assert answer.message == 'going on'

    def test_a_step_without_a_pause_is_refused(self, rig):
        answer = rig.call(Trigger, 'action_player/step', Trigger.Request())
        assert not answer.success
        assert 'Pause first' in answer.message

    def test_the_speed_can_be_overridden(self, rig):
        request = SetSpeedOverride.Request(share=0.25)
        answer = rig.call(SetSpeedOverride, 'action_player/set_speed', request)
        assert (answer.success, answer.message) == (True, 'playing at 25% of full speed')
        rig.offer([LEFT] * 10)
        assert rig.said('playing at 25% of full speed')
        assert rig.state(lambda s: s.moving, 'motion').speed_override == 0.25
        rig.until_fed(lambda: at_rest(rig), 'a motion and its end')
        stamps = [seconds(m.header.stamp) for m in rig.moves()]
        assert stamps[-1] - stamps[0] > 1.8  # of 0.5 s

    @pytest.mark.parametrize('share', [0.0, 0.009, 1.01, float('nan')])
    def test_a_share_that_is_none_is_refused(self, rig, share):
        request = SetSpeedOverride.Request(share=share)
        answer = rig.call(SetSpeedOverride, 'action_player/set_speed', request)
        assert not answer.success
        assert 'expected 0.01 to 1' in answer.message

    def test_the_arm_goes_to_its_start_pose_until_it_is_held(self, rig):
        rig.joints[:7] = ARM.start + 0.1
        rig.until_fed(lambda: rig.has_joints(rig.now_s() - 1), 'joints')
        assert rig.call(Trigger, 'action_player/go_to_start', Trigger.Request()).success
        rig.said('moving: going to the start pose')
        rig.until_fed(lambda: len(rig.moves()) >= 3, 'motion')
        rig.call(Trigger, 'action_player/hold', Trigger.Request())
        rig.until_fed(lambda: at_rest(rig), 'a stop')
        answer = rig.call(Trigger, 'action_player/go_to_start', Trigger.Request())
        assert not answer.success


def test_the_state_tells_all_that_a_program_may_want(rig):
    state = rig.state(lambda s: s.reasons, 'a state')
    assert (state.mode, state.output, state.moving) == ('enabled', 'twist', False)
    assert state.header.frame_id == 'panda_link0'
    rig.offer([LEFT] * 30, chunk_id=7)
    state = rig.state(lambda s: s.moving, 'motion')
    assert (state.chunk_id, state.slowdown, state.speed_override) == (7, 1.0, 1.0)
    assert 0 < state.remaining < 3
    assert not state.reasons
    rig.state(lambda s: s.following_error < 0.05, 'a following error')
    rig.call(Trigger, 'action_player/hold', Trigger.Request())
    state = rig.state(lambda s: s.mode == PlayerState.HELD and not s.moving, 'the hold')
    assert [r.code for r in state.reasons] == ['operator_hold', 'no_chunk']
    assert 0 <= rig.now_s() - seconds(state.reasons[0].stamp) < 20
    assert state.reasons[0].remedy == 'Call ~/enable with true to go on.'
    assert state.chunk_id == 0


def test_diagnostics_are_as_a_robot_monitor_wants_them(rig):
    rig.offer([LEFT] * 30)

    def found():
        heard = {s.name: s for a in rig.heard['/diagnostics'] for s in a.status}
        chunks = heard.get('action_player: chunks')
        return heard if chunks and chunks.message.startswith('chunks: ') else None

    heard = rig.until_fed(found, 'diagnostics')
    assert set(heard) == {
        f'action_player: {task}'
        for task in ('status', 'guards', 'chunks', 'joint states', 'control loop', 'following')
    }
    assert {status.hardware_id for status in heard.values()} == {'sim_panda'}
    values = {v.key: v.value for v in heard['action_player: chunks'].values}
    assert values['Events since startup'] == '1'
    assert values['Refused'] == '0'
    values = {v.key: v.value for v in heard['action_player: guards'].values}
    assert values['mode'] == 'enabled'


class TestJointStates:
    def test_arm_and_gripper_may_have_a_publisher_each(self, rig):
        parts = [
            (NAMES[7:], HOME[7:]),
            (NAMES[:7], HOME[:7]),
            (['left_wheel'], [float('nan')]),
        ]
        publishers = [
            rig.node.create_publisher(JointState, 'joint_states', SENSOR_QOS) for _ in parts
        ]

        def publish():
            for publisher, part in zip(publishers, parts, strict=True):
                publisher.publish(rig.joint_state(*part))

        def all_known():
            publish()
            return 'no action chunk' in rig.last()

        def moving():
            publish()
            if not rig.plays.moving:  # also where joints came late, and the player paused
                rig.send([LEFT] * 30)
            return rig.moves()

        rig.until(all_known, 'all joints')
        rig.until(moving, 'a twist')

    def test_without_them_it_holds_and_names_what_is_missing(self, rig):
        rig.measure(NAMES[:7], HOME[:7])
        status = rig.said('panda_finger_joint1 is missing', fed=False)
        assert status.level == DiagnosticStatus.WARN

    def test_a_position_that_is_not_finite_is_refused_by_name(self, rig):
        rig.measure(positions=np.append(np.nan, HOME[1:]))
        assert 'panda_joint1 is not finite' in rig.said('joint state refused').message


def test_the_path_to_come_is_shown(rig):
    down = [[0, 0, -0.2, 0, 0, 0, -1]] * 10 + [[0, 0, -0.2, 0, 0, 0, 1]] * 10
    rig.play(down, lambda: rig.heard['planned_path'], 'a path')
    marker = rig.heard['planned_path'][0].markers[0]
    start = ARM.pose(HOME[:7])[:3, 3]
    assert marker.header.frame_id == 'panda_link0'
    assert [marker.points[0].x, marker.points[0].y] == pytest.approx(start[:2], abs=2e-3)
    assert 15 <= len(marker.points) == len(marker.colors) <= 21
    left = (len(marker.points) - 1) * 0.004
    assert marker.points[0].z - marker.points[-1].z == pytest.approx(left, abs=1e-6)
    assert marker.colors[1].g > marker.colors[1].r  # open
    assert marker.colors[-1].r > marker.colors[-1].g  # closed


class SimulatedTime(InProcess):
    """Everything by /clock, which goes as long as `goes`."""

    def __init__(self) -> None:
        self.goes, self._time_s, self._clock = True, 100.0, None
        self._ticked_s = time.monotonic()
        super().__init__(use_sim_time=True)
        self._clock = self.node.create_publisher(Clock, '/clock', SENSOR_QOS)

    def now_s(self):
        return self._time_s

    def until(self, holds, what, timeout_s=20.0):
        def with_time():
            now = time.monotonic()
            if self.goes and self._clock is not None and now - self._ticked_s > 0.005:
                self._time_s += now - self._ticked_s
                self._ticked_s = now
                self.tick(self._time_s)
            return holds()

        return super().until(with_time, what, timeout_s)

    def tick(self, time_s):
        clock = Clock()
        clock.clock.sec, clock.clock.nanosec = int(time_s // 1), int(time_s % 1 * 1e9)
        self._clock.publish(clock)


@pytest.fixture
def simulated():
    rig = SimulatedTime()
    rig.connect()
    rig.until(lambda: rig.player.get_clock().now().nanoseconds > 0, 'the clock')
    rig.play([LEFT] * 40, lambda: len(rig.moves()) >= 3, 'some twists')
    yield rig
    rig.end()


def test_a_ros_clock_that_stands_still_holds_stops_and_is_named(simulated):
    simulated.goes = False
    assert simulated.said('holding: ROS time stands still').level == DiagnosticStatus.WARN
    simulated.until(
        lambda: not any(numbers(simulated.heard['delta_twist_cmds'][-1])), 'a zero twist'
    )
    moves = len(simulated.moves())
    simulated.spin(0.3)
    assert len(simulated.moves()) == moves


def test_a_clock_that_goes_negative_stops_the_arm_and_not_the_process(simulated):
    simulated.goes = False
    simulated.tick(-5.0)
    stop = threading.Event()
    ending = threading.Timer(0.5, stop.set)
    ending.start()
    assert spin(simulated.spun, [simulated.player], stop) == 0
    assert not simulated.player.active
    simulated.until(
        lambda: not any(numbers(simulated.heard['delta_twist_cmds'][-1])), 'a zero twist'
    )


@pytest.mark.parametrize('end', ['trigger_deactivate', 'trigger_shutdown', 'close'])
def test_the_last_twist_before_the_publisher_goes_is_a_stop(rig, end):
    for _ in range(3 if end == 'trigger_deactivate' else 1):
        rig.play([LEFT] * 40, lambda: len(rig.moves()) >= 3, 'some twists')
        getattr(rig.player, end)()
        Probe.until(rig, lambda: not any(numbers(rig.heard['delta_twist_cmds'][-1])), 'a stop')
        rig.forget()
        if end == 'trigger_deactivate':
            rig.player.trigger_activate()
            rig.offer([LEFT] * 40)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_last_twist_of_a_process_that_is_stopped_is_zero(number):
    with running(NodeSpec('action_player', parameters=PATIENT)) as processes:
        feeder = Feeder()
        feeder.status('action_player', 'holding')
        feeder.connect()
        feeder.offer([LEFT] * 40)
        feeder.until_fed(lambda: len(feeder.moves()) >= 3, 'some twists')
        processes.children['action_player'].send_signal(number)
        assert processes.children['action_player'].wait(15) == 0
        twists = feeder.heard['delta_twist_cmds']
        feeder.until(lambda: not any(numbers(twists[-1])), 'a stop')
        feeder.close()
