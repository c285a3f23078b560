"""Bridges: what is published for a command, what ends a motion, what Servo must agree to."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')
from builtin_interfaces.msg import Time
from rclpy.task import Future

from worldvla_ros.errors import ConfigError
from worldvla_ros.nodes import bridges
from worldvla_ros.nodes.bridges import bridge as bridge_module
from worldvla_ros.nodes.bridges import forward, listeners, pose, servo, twist
from worldvla_ros.robot.commands import (
    PoseCommand,
    PositionCommand,
    TrajectoryCommand,
    TwistCommand,
    VelocityCommand,
)
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import rotation_matrix

SIM = load_robot('sim_panda')
SERVO = load_robot('panda_servo')
STAMP = Time(sec=100, nanosec=5)


class FakeClient:
    """A service's client: `answers` are given when `answer` is called."""

    def __init__(self):
        self.ready, self.asked = True, []

    def service_is_ready(self):
        return self.ready

    def call_async(self, request):
        self.asked.append((request, Future()))
        return self.asked[-1][1]

    def answer(self, success):
        self.asked[-1][1].set_result(SimpleNamespace(success=success))


class FakeNode:
    """Takes the place of a node: keeps what is published, and what is heard and asked."""

    def __init__(self):
        self.sent, self.hears, self.clients = {}, {}, {}
        self.listeners = 1

    def publisher(self, cls, topic, qos):
        messages = self.sent.setdefault(topic, [])
        return SimpleNamespace(
            publish=messages.append, get_subscription_count=lambda: self.listeners
        )

    def subscribe(self, cls, topic, callback, qos):
        self.hears[topic] = callback

    def client(self, cls, name):
        return self.clients.setdefault(name, FakeClient())


@pytest.fixture(autouse=True)
def matched(monkeypatch):
    """Whoever listens has found the publisher."""
    monkeypatch.setattr(listeners, 'MATCH_S', 0.0)


def at(seconds):
    return Time(sec=int(seconds), nanosec=round(seconds % 1 * 1e9))


def bridge(robot=SIM, output=''):
    node = FakeNode()
    return bridges.make_bridge(node, robot, output), node


def moving(linear=(0.1, -0.2, 0.3), angular=(0.4, 0.5, -0.6)):
    return TwistCommand(np.array(linear), np.array(angular), 0.08)


def components(message):
    parts = (message.twist.linear, message.twist.angular)
    return [value for part in parts for value in (part.x, part.y, part.z)]


@pytest.mark.parametrize(
    ('output', 'takes', 'topic'),
    [
        ('', TwistCommand, 'delta_twist_cmds'),
        ('twist', TwistCommand, 'delta_twist_cmds'),
        ('pose', PoseCommand, 'pose_target_cmds'),
        ('trajectory', TrajectoryCommand, 'joint_trajectory'),
        ('position', PositionCommand, 'position_commands'),
        ('velocity', VelocityCommand, 'velocity_commands'),
    ],
)
def test_the_output_chooses_bridge_and_topic(output, takes, topic):
    made, node = bridge(output=output)
    assert made.takes is takes
    assert list(node.sent) == [topic]
    assert made.problem() is None


def test_an_unknown_output_is_refused():
    with pytest.raises(ConfigError, match='one of twist, pose, trajectory, position, velocity'):
        bridge(output='smoke')


@pytest.mark.parametrize(
    ('name', 'topic'),
    [
        ('fr3_jtc', 'fr3_arm_controller/joint_trajectory'),
        ('fr3_crisp', 'target_pose'),
        ('so101', 'forward_position_controller/commands'),
        ('ur5e_jtc', 'scaled_joint_trajectory_controller/joint_trajectory'),
    ],
)
def test_shipped_descriptions_name_the_topic(name, topic):
    made, node = bridge(load_robot(name))
    assert list(node.sent) == [topic]
    assert not node.clients
    made.enable()
    assert made.problem() is None


@pytest.mark.parametrize('output', ['twist', 'pose', 'trajectory', 'position', 'velocity'])
def test_a_bridge_that_nobody_hears_says_which_topic(output, monkeypatch):
    monkeypatch.setattr(listeners, 'PERIOD_S', 0.0)
    made, node = bridge(output=output)
    node.listeners = 0
    problem = made.problem()
    assert problem.code == 'controller_absent'
    assert problem.pending
    assert f'commands on {made.topic}' in problem.text
    node.listeners = 1
    assert made.problem() is None


# ---- who listens


def listening(counts):
    """Return what is said at 0.0, 0.1, … s, by the number of listeners at each instant."""
    now_s = 0.0
    heard = listeners.Listeners(lambda: counts[round(now_s * 10)], 'commands', lambda: now_s)
    said = []
    for i in range(len(counts)):
        now_s = i / 10
        said.append(heard.problem() is None)
    return said


@pytest.mark.parametrize(
    ('counts', 'said'),
    [
        ([0, 0, 1, 1, 1, 1, 1], '0000011'),
        ([1, 1, 2, 2, 2, 2, 2], '0000011'),  # the controller is found after the recorder
        ([1, 1, 1, 1, 2, 2, 1, 1, 1], '000111111'),  # somebody looks on for a while
        ([1, 1, 1, 1, 0, 1, 1, 1, 1, 1], '0001000011'),
    ],
)
def test_a_listener_counts_after_it_has_had_time_to_find_the_publisher(counts, said, monkeypatch):
    monkeypatch.setattr(listeners, 'MATCH_S', 0.3)
    assert listening(counts) == [letter == '1' for letter in said]


def test_listeners_are_counted_20_times_per_second_at_most():
    asked, now_s = [], 0.0
    heard = listeners.Listeners(lambda: asked.append(1) or 1, 'commands', lambda: now_s)
    for i in range(1000):
        now_s = i / 1000
        heard.problem()
    assert len(asked) == 20


# ---- twists


def test_a_twist_is_stamped_and_in_the_base_frame():
    made, node = bridge()
    made.send(moving(), STAMP)
    [message] = node.sent['delta_twist_cmds']
    assert components(message) == [0.1, -0.2, 0.3, 0.4, 0.5, -0.6]
    assert message.header.stamp == STAMP
    assert message.header.frame_id == 'panda_link0'


def test_a_twist_for_a_unitless_servo_is_a_share_of_its_scales():
    controller = replace(SIM.controller, units='unitless', linear_scale=0.4, angular_scale=0.8)
    made, node = bridge(replace(SIM, controller=controller))
    made.send(moving((0.1, 0, 0), (0, 0.2, 0)), STAMP)
    assert components(node.sent['delta_twist_cmds'][0]) == pytest.approx([0.25, 0, 0, 0, 0.25, 0])


def test_a_twist_ends_with_four_zeros_and_then_silence():
    made, node = bridge()
    made.rest(STAMP)
    assert not node.sent['delta_twist_cmds'], 'nothing to end'
    made.send(moving(), STAMP)
    for _ in range(9):
        made.rest(at(101))
    first, *zeros = node.sent['delta_twist_cmds']
    assert twist.ZEROS == 4
    assert [components(m) for m in zeros] == [[0.0] * 6] * 4
    assert all(m.header.stamp == at(101) for m in zeros)


def test_a_halt_sends_all_zeros_at_once():
    made, node = bridge()
    made.halt(STAMP)
    assert not node.sent['delta_twist_cmds']
    made.send(moving(), STAMP)
    made.rest(STAMP)
    made.halt(STAMP)
    made.rest(STAMP)
    assert len(node.sent['delta_twist_cmds']) == 5


# ---- poses


def test_a_pose_is_published_with_a_unit_quaternion():
    made, node = bridge(output='pose')
    target = np.eye(4)
    target[:3, :3], target[:3, 3] = rotation_matrix(np.array([0, 0, np.pi / 2])), (1, 2, 3)
    made.send(PoseCommand(target, 0.08), STAMP)
    [message] = node.sent['pose_target_cmds']
    position, turn = message.pose.position, message.pose.orientation
    assert (position.x, position.y, position.z) == (1, 2, 3)
    assert [turn.w, turn.x, turn.y, turn.z] == pytest.approx([2**-0.5, 0, 0, 2**-0.5])
    assert (message.header.stamp, message.header.frame_id) == (STAMP, 'panda_link0')


@pytest.mark.parametrize('angle', [0.0, 1e-9, 0.3, 3.1415, np.pi])
def test_quaternions_mean_the_rotation(angle):
    axis = np.array([0.6, 0.0, 0.8])
    found = pose.quaternion_message(rotation_matrix(angle * axis))
    assert found.w == pytest.approx(np.cos(angle / 2), abs=1e-6)
    vector = np.array([found.x, found.y, found.z])
    assert abs(vector @ axis) == pytest.approx(np.sin(angle / 2), abs=1e-6)
    assert found.w**2 + vector @ vector == pytest.approx(1)


def test_the_last_pose_is_repeated_for_a_second():
    made, node = bridge(output='pose')
    made.rest(at(1))
    made.send(PoseCommand(np.eye(4), 0.08), at(10))
    for i in range(30):
        made.rest(at(10.05 + 0.05 * i))
    assert len(node.sent['pose_target_cmds']) == 1 + 20
    assert node.sent['pose_target_cmds'][-1].header.stamp.sec in (10, 11)


def test_after_a_halt_no_pose_is_repeated():
    made, node = bridge(output='pose')
    made.send(PoseCommand(np.eye(4), 0.08), at(10))
    made.halt(at(10.1))
    made.rest(at(10.2))
    assert len(node.sent['pose_target_cmds']) == 2


# ---- trajectories


def rest_of_path(positions_only=False):
    values = np.arange(14.0).reshape(2, 7)
    return TrajectoryCommand(
        100.25, np.array([0.05, 1.5]), values, None if positions_only else values + 20,
        None if positions_only else values + 40, 0.08,
    )  # fmt: skip


def test_a_trajectory_is_told_whole():
    made, node = bridge(output='trajectory')
    made.send(rest_of_path(), STAMP)
    [message] = node.sent['joint_trajectory']
    assert tuple(message.joint_names) == SIM.joints.names
    assert message.header.stamp == Time(sec=100, nanosec=250_000_000)
    first, last = message.points
    assert (first.time_from_start.sec, first.time_from_start.nanosec) == (0, 50_000_000)
    assert (last.time_from_start.sec, last.time_from_start.nanosec) == (1, 500_000_000)
    assert list(last.positions) == list(range(7, 14))
    assert list(last.velocities) == list(range(27, 34))
    assert list(last.accelerations) == list(range(47, 54))


def test_positions_only_leaves_derivatives_empty():
    made, node = bridge(output='trajectory')
    made.send(rest_of_path(positions_only=True), STAMP)
    [message] = node.sent['joint_trajectory']
    assert [list(p.velocities) + list(p.accelerations) for p in message.points] == [[], []]


def test_a_trajectory_ends_by_itself_and_a_halt_is_the_planned_stop():
    made, node = bridge(output='trajectory')
    made.send(rest_of_path(), STAMP)
    made.rest(STAMP)
    made.halt(STAMP)
    assert len(node.sent['joint_trajectory']) == 1
    made.halt(STAMP, rest_of_path())
    assert len(node.sent['joint_trajectory']) == 2


# ---- forward controllers


@pytest.mark.parametrize(
    ('output', 'topic', 'command', 'stop'),
    [
        ('position', 'position_commands', PositionCommand(np.arange(7.0), 0.08), np.arange(7.0)),
        ('velocity', 'velocity_commands', VelocityCommand(np.arange(7.0), 0.08), np.zeros(7)),
    ],
)
def test_what_stands_still_is_repeated_for_a_second(output, topic, command, stop):
    made, node = bridge(output=output)
    made.rest(at(1))
    made.halt(at(1))
    assert not node.sent[topic]
    made.send(command, at(10))
    for i in range(150):
        made.rest(at(10 + 0.01 * (i + 1)))
    first, *stops = node.sent[topic]
    assert list(first.data) == list(range(7))
    assert forward.REPEATED_S == 1.0
    assert len(stops) == 100
    assert all(list(m.data) == list(stop) for m in stops)
    made.send(command, at(20))
    made.halt(at(20))
    made.rest(at(20.01))
    assert len(node.sent[topic]) == 103
    assert list(node.sent[topic][-1].data) == list(stop)


# ---- MoveIt Servo


@pytest.mark.parametrize(
    ('topic', 'node'),
    [
        ('servo_node/delta_twist_cmds', 'servo_node'),
        ('/left/servo_node/pose_target_cmds', '/left/servo_node'),
        ('delta_twist_cmds', ''),
        ('crisp/target_pose', ''),
    ],
)
def test_servo_is_known_by_its_topics(topic, node):
    assert servo.servo_node(topic) == node


@pytest.fixture
def servo_bridge(lookalikes):
    made, node = bridge(SERVO)
    return made, node, node.clients['servo_node/switch_command_type']


def test_nothing_may_be_sent_until_servo_has_agreed(servo_bridge):
    made, node, client = servo_bridge
    assert made.problem().code == 'servo_not_ready'
    made.enable()
    assert made.problem().pending
    assert [request.command_type for request, _ in client.asked] == [1]
    client.answer(True)
    assert made.problem() is None


def test_the_pose_bridge_asks_for_poses(lookalikes):
    controller = replace(SERVO.controller, kind='pose', topic='servo_node/pose_target_cmds')
    made, node = bridge(replace(SERVO, controller=controller))
    made.enable()
    client = node.clients['servo_node/switch_command_type']
    assert client.asked[0][0].command_type == 2


def test_a_refusal_is_said_and_may_be_tried_again(servo_bridge):
    made, _, client = servo_bridge
    made.enable()
    client.answer(False)
    problem = made.problem()
    assert problem.code == 'servo_refused'
    assert 'success = false' in problem.text
    assert made.problem() == problem
    made.enable()
    client.answer(True)
    assert made.problem() is None


def test_enabling_again_asks_again(servo_bridge):
    made, _, client = servo_bridge
    made.enable()
    client.answer(True)
    assert made.problem() is None
    made.enable()
    assert made.problem().pending
    assert len(client.asked) == 2


def test_an_answer_that_does_not_come_is_said(servo_bridge, monkeypatch):
    made, _, client = servo_bridge
    now = [50.0]
    monkeypatch.setattr(servo.time, 'monotonic', lambda: now[0])
    made.enable()
    now[0] += servo.ANSWER_S - 0.1
    assert made.problem().pending
    now[0] += 0.2
    assert 'did not answer within' in made.problem().text
    client.answer(True)
    assert made.problem().code == 'servo_refused', 'too late: it may have started anew since'


def test_a_servo_that_is_not_there_is_waited_for_and_then_said(servo_bridge, monkeypatch):
    made, _, client = servo_bridge
    now = [100.0]
    monkeypatch.setattr(servo.time, 'monotonic', lambda: now[0])
    client.ready = False
    made.enable()
    assert made.problem().pending
    now[0] += servo.START_S + 0.1
    problem = made.problem()
    assert problem.code == 'servo_absent'
    assert 'servo_node/switch_command_type' in problem.text
    assert not client.asked


def test_a_servo_that_starts_after_enabling_is_asked(servo_bridge):
    made, _, client = servo_bridge
    client.ready = False
    made.enable()
    assert made.problem().code == 'servo_not_ready'
    client.ready = True
    assert made.problem().pending
    client.answer(True)
    assert made.problem() is None


@pytest.mark.parametrize(
    ('code', 'words'), [(2, 'singularity'), (5, 'collision'), (6, 'joint limit')]
)
def test_servos_halts_hold_until_the_operator_enables(servo_bridge, code, words):
    from moveit_msgs.msg import ServoStatus

    made, node, client = servo_bridge
    made.enable()
    client.answer(True)
    assert made.problem() is None
    hear = node.hears['servo_node/status']
    hear(ServoStatus(code=code, message='of its own words'))
    hear(ServoStatus(code=0))
    problem = made.problem()
    assert problem.code == 'servo_halted'
    assert words in problem.text
    assert 'of its own words' in problem.text
    assert not problem.pending
    made.enable()
    client.answer(True)
    assert made.problem() is None


@pytest.mark.parametrize('code', [-1, 0, 1, 3, 4])
def test_servo_that_only_slows_down_does_not_hold(servo_bridge, code):
    from moveit_msgs.msg import ServoStatus

    made, node, client = servo_bridge
    made.enable()
    client.answer(True)
    node.hears['servo_node/status'](ServoStatus(code=code))
    assert made.problem() is None


def test_a_halt_is_kept_while_servo_is_asked_again(servo_bridge):
    from moveit_msgs.msg import ServoStatus

    made, node, client = servo_bridge
    made.enable()
    client.answer(True)
    assert made.problem() is None
    made.enable()
    node.hears['servo_node/status'](ServoStatus(code=6))
    client.answer(True)
    assert made.problem().code == 'servo_halted'


@pytest.fixture
def bare(monkeypatch):
    """An environment in which no package of others is installed."""

    def missing(name, package=None):
        raise ImportError(name)

    monkeypatch.setattr(bridge_module.importlib, 'import_module', missing)


def test_without_moveit_msgs_the_operator_types_the_call_and_vouches(bare):
    made, node = bridge(SERVO)
    assert not node.clients
    assert made.problem().code == 'servo_not_ready'
    made.enable()
    problem = made.problem()
    assert problem.code == 'servo_command_type'
    assert (
        'ros2 service call servo_node/switch_command_type '
        'moveit_msgs/srv/ServoCommandType "{command_type: 1}"'
    ) in problem.remedy
    made.enable()
    assert made.problem() is None


def test_without_moveit_msgs_enabling_is_enough_where_servo_was_told_otherwise(bare):
    made, _ = bridge(SERVO)
    made.vouch()
    made.enable()
    assert made.problem() is None


def test_humbles_servo_is_started(monkeypatch, lookalikes):
    import moveit_msgs.srv

    monkeypatch.delattr(moveit_msgs.srv, 'ServoCommandType')
    made, node = bridge(SERVO)
    assert list(node.clients) == ['servo_node/start_servo']
    made.enable()
    node.clients['servo_node/start_servo'].answer(True)
    assert made.problem() is None


@pytest.mark.parametrize(
    ('kind', 'package'),
    [('gripper_command', 'control_msgs'), ('parallel_gripper', 'control_msgs'),
     ('franka', 'franka_msgs')],
)  # fmt: skip
def test_a_package_that_is_missing_is_named_with_what_to_do(bare, kind, package):
    output = replace(SIM.gripper.output, kind=kind)
    robot = replace(SIM, gripper=replace(SIM.gripper, output=output))
    words = f'gripper.output {kind} needs the ROS package {package}'
    with pytest.raises(ConfigError, match=words) as error:
        bridges.make_gripper(FakeNode(), robot)
    assert f'ros-$ROS_DISTRO-{package.replace("_", "-")}' in str(error.value)
    assert 'gripper:=width' in str(error.value)
