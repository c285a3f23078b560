"""Mocked controllers as a node: bridges speak to it by the real messages, and it moves an arm."""

import contextlib
import time

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy')
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from worldvla_ros.nodes import bridges, mock_controller
from worldvla_ros.nodes.mock_controller import MockControllerNode
from worldvla_ros.nodes.qos import SETPOINTS_QOS, STATES_QOS
from worldvla_ros.nodes.runtime import ManagedNode
from worldvla_ros.nodes.sim import SimNode
from worldvla_ros.robot.commands import (
    PoseCommand,
    PositionCommand,
    TrajectoryCommand,
    TwistCommand,
    VelocityCommand,
)
from worldvla_ros.robot.description import load_robot, robots_folder
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.sim.scene import FINGERS, JOINTS

TIMEOUT_S = 90.0


class Rig:
    """The mock and a node with bridges, in this process, spun by hand."""

    def __init__(self, *arguments):
        given = ['autostart:=false', *arguments]
        rclpy.init(args=['--ros-args', *(word for value in given for word in ('-p', value))])
        self.mock, self.user = MockControllerNode(), ManagedNode('user')
        self.executor = SingleThreadedExecutor()
        for node in (self.mock, self.user):
            self.executor.add_node(node)
        self.states, self.setpoints, self.others = [], [], []
        self.user.subscribe(JointState, 'joint_states', self.states.append, STATES_QOS)
        self.user.subscribe(
            JointTrajectory, 'joint_setpoints', self.setpoints.append, SETPOINTS_QOS
        )

    def add(self, node):
        self.others.append(node)
        self.executor.add_node(node)

    def start(self):
        assert self.mock.trigger_configure().name == 'SUCCESS', self.mock.status._present.message
        assert self.mock.trigger_activate().name == 'SUCCESS'

    def now(self):
        return self.user.get_clock().now()

    def now_s(self):
        return self.now().nanoseconds * 1e-9

    def until(self, holds, what):
        end = time.monotonic() + TIMEOUT_S
        while not (found := holds()):
            assert time.monotonic() < end, f'waited {TIMEOUT_S} s for {what}'
            self.executor.spin_once(timeout_sec=0.005)
        return found

    def joints(self):
        return np.array(self.states[-1].position[: len(self.states[-1].name)])

    def status(self):
        return self.mock.status._present.message

    def close(self):
        for node in (self.mock, self.user, *self.others):
            node.close()
        self.executor.shutdown()
        for node in (self.mock, self.user, *self.others):
            node.destroy_node()
        rclpy.shutdown()


@pytest.fixture
def rig():
    with contextlib.ExitStack() as stack:

        def create(*arguments):
            made = Rig(*arguments)
            stack.callback(made.close)
            return made

        yield create


def described(tmp_path, name, **controller):
    """Write a shipped description with another controller; return its robot and its file."""
    robot = load_robot(name)
    source = yaml.safe_load((robots_folder() / f'{name}.yaml').read_text())
    source['controller'] = source['controller'] | controller
    source['urdf'] = robot.urdf
    path = tmp_path / f'{name}.yaml'
    path.write_text(yaml.safe_dump(source))
    return load_robot(str(path)), path


def enabled(rig, robot):
    """Return a bridge that may be sent commands."""
    made = bridges.make_bridge(rig.user, robot)
    rig.until(lambda: rig.user.count_publishers('joint_states') > 0, 'the mock')

    def agreed():
        problem = made.problem()
        if problem is not None and (not problem.pending or problem.code == 'servo_absent'):
            made.enable()
        return problem is None

    made.enable()
    rig.until(agreed, 'the controller to agree')
    topic = robot.controller.topic_of(robot.controller.kind)
    rig.until(lambda: rig.user.count_subscribers(topic) > 0, 'a listener')
    rig.until(lambda: len(rig.states) > 5, 'joint states')
    return made


def command_of(kind, arm, joints, now_s):
    """Return a command that moves the first joint, and the tip, to the left."""
    goal = joints.copy()
    goal[0] += 0.05
    tip = arm.pose(joints).copy()
    tip[1, 3] += 0.1
    n = len(joints)
    return {
        'twist': lambda: TwistCommand(np.array([0, 0.2, 0]), np.zeros(3), 0.0),
        'pose': lambda: PoseCommand(tip, 0.0),
        'position': lambda: PositionCommand(goal, 0.0),
        'velocity': lambda: VelocityCommand(np.r_[0.2, np.zeros(n - 1)], 0.0),
        'trajectory': lambda: TrajectoryCommand(
            now_s, np.array([0.5]), goal[None], np.zeros((1, n)), np.zeros((1, n)), 0.0
        ),
    }[kind]()


@pytest.mark.parametrize(
    ('name', 'controller'),
    [
        ('panda_servo', {}),
        ('panda_servo', {'units': 'unitless'}),
        ('panda_servo', {'kind': 'pose', 'topic': 'servo_node/pose_target_cmds'}),
        ('fr3_crisp', {}),
        ('fr3_jtc', {}),
        ('fr3_jtc', {'kind': 'position', 'topic': 'forward_position_controller/commands'}),
        ('ur5e_jtc', {'kind': 'velocity', 'topic': 'forward_velocity_controller/commands'}),
        ('so101', {}),
        ('ur5e_servo', {}),
    ],
)
def test_a_bridge_moves_the_arm_of_its_controller(rig, lookalikes, tmp_path, name, controller):
    robot, path = described(tmp_path, name, **controller)
    made = rig(f'robot:={path}', 'drives:=nothing')
    made.start()
    bridge, arm = enabled(made, robot), Arm(robot)
    n, kind = len(arm.names), robot.controller.kind
    start = made.joints()[:n]
    assert made.states[-1].name[:n] == list(arm.names)
    once = kind == 'trajectory'
    if once:
        bridge.send(command_of(kind, arm, start, made.now_s()), made.now().to_msg())

    def moved():
        if not once:
            bridge.send(command_of(kind, arm, start, made.now_s()), made.now().to_msg())
        return made.joints()[0] > start[0] + 0.02

    made.until(moved, 'the first joint to move')
    assert 'dropped' not in made.status()
    bridge.halt(made.now().to_msg())
    last = []

    def stands():
        last.append(made.joints()[:n])
        return len(last) > 50 and np.abs(last[-1] - last[-50]).max() < 1e-6

    made.until(stands, 'the arm to stand still')


def test_without_a_command_type_servo_drops_in_silence_and_the_status_says_so(
    rig, lookalikes, tmp_path
):
    robot, path = described(tmp_path, 'panda_servo')
    made = rig(f'robot:={path}', 'drives:=nothing')
    made.start()
    bridge = bridges.make_bridge(made.user, robot)
    made.until(lambda: made.states, 'joint states')
    before = made.joints()

    def dropped():
        bridge.send(TwistCommand(np.array([0, 0.2, 0]), np.zeros(3), 0.0), made.now().to_msg())
        return 'command type has not been set' in made.status()

    made.until(dropped, 'a drop')
    np.testing.assert_array_equal(made.joints(), before)


def test_servo_says_its_status_all_the_time(rig, lookalikes, tmp_path):
    from moveit_msgs.msg import ServoStatus

    _, path = described(tmp_path, 'panda_servo')
    made, heard = rig(f'robot:={path}', 'drives:=nothing'), []
    made.user.subscribe(ServoStatus, 'servo_node/status', heard.append, STATES_QOS)
    made.start()
    made.until(lambda: len(heard) >= 5, 'five statuses')
    assert {message.code for message in heard} == {0}


@pytest.mark.parametrize('kind', ['gripper_command', 'parallel_gripper', 'franka'])
def test_a_gripper_closes_and_opens_by_its_action(rig, lookalikes, tmp_path, kind):
    source = yaml.safe_load((robots_folder() / 'fr3_jtc.yaml').read_text())
    half = kind == 'gripper_command'
    source['gripper']['output'] = {'kind': kind, 'name': 'grip', 'half_width': half}
    source['urdf'] = load_robot('fr3_jtc').urdf
    path = tmp_path / 'robot.yaml'
    path.write_text(yaml.safe_dump(source))
    made = rig(f'robot:={path}', 'drives:=nothing')
    made.start()
    gripper = bridges.make_gripper(made.user, load_robot(str(path)))
    made.until(lambda: made.states, 'joint states')

    def width():
        return sum(made.states[-1].position[-2:])

    for wanted in (0.0, 0.08):

        def there(wanted=wanted):
            gripper.send(wanted, made.now_s())
            return abs(width() - wanted) < 0.002

        made.until(there, f'a width of {wanted}')
    assert gripper.problem() is None


def test_a_reflex_stops_the_arm_until_it_is_recovered(rig, lookalikes, tmp_path):
    robot, path = described(
        tmp_path, 'fr3_jtc', kind='position', topic='forward_position_controller/commands'
    )
    made = rig(f'robot:={path}', 'drives:=nothing', 'reflex:=fr3')
    made.start()
    bridge = enabled(made, robot)
    start = made.joints()[:7]
    step = PositionCommand(start + 0.05, 0.08)

    def tripped():
        bridge.send(step, made.now().to_msg())
        return 'reflex' in made.status()

    made.until(tripped, 'a reflex')
    np.testing.assert_allclose(made.joints()[:7], start, atol=1e-9)
    client = made.user.create_client(Trigger, 'mock_controller/recover')
    made.until(client.service_is_ready, 'the service')
    asked = client.call_async(Trigger.Request())
    made.until(asked.done, 'an answer')
    assert made.mock._reflex.tripped == ''


MEASURED_SEC = 77


def state(joints, names=JOINTS):
    message = JointState(name=[*names, *FINGERS])
    message.header.stamp.sec = MEASURED_SEC
    message.position = [*(float(q) for q in joints), 0.04, 0.04]
    message.velocity = [0.0] * 9
    return message


def test_it_moves_the_simulated_arm_by_setpoints_and_renames_its_joints(rig, lookalikes, tmp_path):
    robot, path = described(tmp_path, 'fr3_jtc')
    made = rig(f'robot:={path}')
    made.start()
    arm = Arm(robot)
    home = arm.start if arm.start is not None else np.zeros(7)
    sim = made.user.publisher(JointState, 'joint_states', STATES_QOS)
    bridge = bridges.make_bridge(made.user, robot)
    assert not made.setpoints

    def renamed():
        sim.publish(state(home))
        return any(message.name[0] == arm.names[0] for message in made.states)

    made.until(renamed, 'joint states under the names of the description')
    assert {message.header.stamp.sec for message in made.states} == {MEASURED_SEC}
    made.until(lambda: made.setpoints, 'setpoints')
    made.until(lambda: made.user.count_subscribers(robot.controller.topic), 'a listener')
    bridge.send(command_of('trajectory', arm, home, made.now_s()), made.now().to_msg())

    def places():
        return np.array([point.positions[0] for m in made.setpoints for point in m.points])

    made.until(lambda: abs(places()[-1] - home[0] - 0.05) < 1e-6, 'the end')
    assert tuple(made.setpoints[0].joint_names) == JOINTS
    assert np.abs(np.diff(places())).max() < 0.05 * 2 / 0.5 * mock_controller.SETPOINT_S


def test_the_simulation_follows_a_controller_under_other_names(rig, lookalikes, tmp_path):
    robot, path = described(tmp_path, 'fr3_jtc')
    made = rig(f'robot:={path}', 'image_size:=32')
    world = SimNode()
    made.add(world)
    assert world.trigger_configure().name == 'SUCCESS'
    assert world.trigger_activate().name == 'SUCCESS'
    made.start()
    bridge, arm = bridges.make_bridge(made.user, robot), Arm(robot)

    def newest(names):
        return next((m for m in reversed(made.states) if tuple(m.name[:7]) == names), None)

    made.until(lambda: newest(arm.names) and newest(JOINTS), 'joint states under both names')
    made.until(lambda: made.user.count_subscribers(robot.controller.topic), 'a listener')
    start = np.array(newest(JOINTS).position[:7])
    bridge.send(command_of('trajectory', arm, start, made.now_s()), made.now().to_msg())
    for names in (JOINTS, arm.names):
        made.until(lambda n=names: newest(n).position[0] > start[0] + 0.04, 'the arm to follow')
    assert newest(JOINTS).position[0] < start[0] + 0.06


def test_a_reset_of_the_scene_is_noticed(rig, lookalikes, tmp_path):
    robot, path = described(tmp_path, 'fr3_jtc')
    made = rig(f'robot:={path}')
    made.start()
    sim = made.user.publisher(JointState, 'joint_states', STATES_QOS)
    home = np.array([0, -0.2, 0, -2.4, 0, 2.2, 0.8])
    for place in (home, home + 0.5):

        def told(place=place):
            sim.publish(state(place))
            last = made.setpoints[-1].points[-1].positions if made.setpoints else [9]
            return abs(last[0] - place[0]) < 1e-9

        made.until(told, f'setpoints at {place[0]}')


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('robot:=sim_panda',), "a topic of Servo's node"),
        (('robot:=ur5e_jtc',), 'cannot move the simulated arm'),
        (('robot:=fr3_jtc', 'reflex:=steel'), 'one of none, panda, fr3'),
        (('robot:=fr3_jtc', 'drives:=me'), 'sim or nothing'),
    ],
)
def test_what_cannot_be_mocked_is_refused(rig, arguments, words):
    made = rig(*arguments)
    assert made.mock.trigger_configure().name == 'FAILURE'
    assert words in made.status()
