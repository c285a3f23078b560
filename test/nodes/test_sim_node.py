"""The simulated arm as a node, in this process: resets, the clock, and the end of its thread."""

import contextlib
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from worldvla_ros.nodes import sim
from worldvla_ros.nodes.qos import RELIABLE_QOS, SENSOR_QOS, STATES_QOS
from worldvla_ros.nodes.sim import SimNode
from worldvla_ros.srv import ResetScene


class World:
    """A node of the simulation in this process, spun by hand."""

    def __init__(self, *arguments, namespace=''):
        given = ['autostart:=false', 'image_size:=32', *arguments]
        words = [word for value in given for word in ('-p', value)]
        rclpy.init(args=['--ros-args', *words, '-r', f'__ns:=/{namespace}'])
        self.node, self.user = SimNode(), rclpy.create_node('user')
        self.executor = SingleThreadedExecutor()
        for node in (self.node, self.user):
            self.executor.add_node(node)

    def start(self):
        assert self.node.trigger_configure().name == 'SUCCESS'
        assert self.node.trigger_activate().name == 'SUCCESS'
        self.until(lambda: self.node._simulated_s > 0, 'the world to move')

    def until(self, holds, what, timeout_s=30):
        end = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < end, f'waited {timeout_s} s for {what}'
            self.executor.spin_once(timeout_sec=0.02)

    def reset(self, seed=8001, task='pick', instruction='pick up the red cube'):
        """Ask as the service does; return its response."""
        request = ResetScene.Request(seed=seed, task=task, instruction=instruction)
        return self.node._on_reset(request, ResetScene.Response())

    def steps(self, count=3):
        """Wait until the world has moved on."""
        goal = self.node._simulated_s + count * sim.CONTROL_DT_S
        self.until(lambda: self.node._simulated_s >= goal, 'the world to move on')

    def close(self):
        self.node.close()
        self.executor.shutdown()
        for node in (self.node, self.user):
            node.destroy_node()
        rclpy.shutdown()


@pytest.fixture
def world():
    """Yield a function that creates the node with parameters."""
    with contextlib.ExitStack() as stack:

        def create(*arguments):
            made = World(*arguments)
            stack.callback(made.close)
            return made

        yield create


@pytest.fixture
def running(world):
    made = world()
    made.start()
    return made


@pytest.mark.parametrize(
    ('request_fields', 'words'),
    [
        ({'seed': -1}, 'seed: expected 0 or more, got -1'),
        ({'task': 'dance'}, 'task: expected one of'),
        ({'instruction': 'be nice'}, 'which cube'),
        ({'task': 'push', 'instruction': 'push the red cube'}, 'where to push'),
    ],
)
def test_a_wrong_reset_is_answered_at_once_and_leaves_the_scene(running, request_fields, words):
    assert running.reset(seed=8005).success
    start = time.monotonic()
    answer = running.reset(**request_fields)
    assert time.monotonic() - start < sim.RESET_TIMEOUT_S
    assert not answer.success
    assert words in answer.message
    assert answer.instruction == 'pick up the red cube'
    running.steps()
    assert running.node.active
    assert running.reset(seed=8006).success


def test_the_answer_brings_the_sentence_of_the_new_scene(running):
    for colour in ('red', 'green', 'blue', 'yellow') * 2:
        sentence = f'pick up the {colour} cube'
        assert running.reset(instruction=sentence).instruction == sentence
    drawn = running.reset(seed=8003, instruction='')
    assert drawn.success
    assert running.reset(seed=-1).instruction == drawn.instruction


def test_an_empty_task_keeps_the_present_one(running):
    running.reset(task='push', instruction='push the red cube to the left')
    assert running.reset(task='', instruction='').instruction.startswith('push')


def test_a_reset_of_an_inactive_node_is_refused_and_not_kept(world):
    made = world()
    made.start()
    made.node.trigger_deactivate()
    answer = made.reset(seed=8123)
    assert not answer.success
    assert 'Activate the node first' in answer.message
    made.node.trigger_activate()
    made.steps()
    assert made.node._resets.empty()
    seeds = []
    made.user.create_subscription(
        sim.TaskState, 'sim/task_state', lambda m: seeds.append(m.seed), RELIABLE_QOS
    )
    made.until(lambda: seeds, 'the state of the task')
    assert set(seeds) == {8000}


def test_requests_that_wait_when_the_node_stops_are_cancelled(running, monkeypatch):
    monkeypatch.setattr(running.node, '_serve_resets', lambda env: None)
    waiting = sim.Reset(8123, 'pick', '')
    running.node._resets.put(waiting)
    running.node.trigger_deactivate()
    assert waiting.done.cancelled()
    assert running.node._resets.empty()


def test_a_reset_that_nobody_takes_is_withdrawn(running, monkeypatch):
    monkeypatch.setattr(sim, 'RESET_TIMEOUT_S', 0.1)
    monkeypatch.setattr(running.node, '_serve_resets', lambda env: None)
    running.steps()
    answer = running.reset()
    assert 'did not answer within' in answer.message
    assert running.node._resets.get().done.cancelled()


def test_the_end_of_the_simulation_ends_the_process(running, monkeypatch):
    def broken(self):
        raise RuntimeError('no more world')

    monkeypatch.setattr(sim.TabletopEnv, 'advance', broken)
    running.until(lambda: running.node.fatal, 'the end')
    running.until(lambda: not running.node.active, 'the node to stop')


def test_a_reset_that_fails_inside_is_answered_and_ends_the_process(running, monkeypatch):
    def broken(self, **given):
        raise RuntimeError('no more scenes')

    monkeypatch.setattr(sim.TabletopEnv, 'reset', broken)
    answer = running.reset()
    assert 'no more scenes' in answer.message
    running.until(lambda: running.node.fatal, 'the end')


@pytest.mark.parametrize('raised', [RuntimeError('no display'), ImportError('no glfw')])
def test_a_world_that_cannot_be_built_ends_the_process(world, monkeypatch, raised):
    def broken(*given, **named):
        raise raised

    monkeypatch.setattr(sim, 'TabletopEnv', broken)
    made = world()
    made.node.trigger_configure()
    made.node.trigger_activate()
    made.until(lambda: made.node.fatal, 'the end')


def test_a_wrong_task_leaves_the_node_unconfigured(world):
    made = world('task:=dance')
    assert made.node.trigger_configure().name == 'FAILURE'


def test_it_is_the_clock_where_it_is_asked_to_be(world):
    made = world('publish_clock:=true', 'use_sim_time:=true')
    ticks = []
    made.user.create_subscription(
        Clock, '/clock', lambda m: ticks.append(m.clock.sec + m.clock.nanosec * 1e-9), SENSOR_QOS
    )
    made.start()
    made.until(lambda: len(ticks) > 5, 'ticks')
    assert ticks == sorted(ticks)
    assert min(b - a for a, b in zip(ticks, ticks[1:], strict=False)) >= sim.CONTROL_DT_S - 1e-6
    made.node.trigger_deactivate()
    before = len(ticks)
    made.node.trigger_activate()
    made.until(lambda: len(ticks) > before + 3, 'more ticks')
    assert ticks == sorted(ticks), 'time must not jump back when the node is activated again'


def test_it_is_no_clock_otherwise(running):
    running.steps()
    assert running.user.get_publishers_info_by_topic('/clock') == []


@pytest.mark.parametrize('qos', [RELIABLE_QOS], ids=['volatile, as `ros2 topic pub`'])
def test_an_instruction_of_a_plain_publisher_is_heard(running, qos):
    running.reset(instruction='pick up the red cube')
    publisher = running.user.create_publisher(String, 'instruction', qos)
    running.until(publisher.get_subscription_count, 'the node to listen')

    def heard():
        publisher.publish(String(data='push the blue cube to the left'))
        return running.node._scene == ('push', 'push the blue cube to the left')

    running.until(heard, 'the new sentence')


def joint_message(*points, names=sim.JOINTS):
    """A trajectory of joint positions: (time [s], positions) each."""
    message = JointTrajectory(joint_names=list(names))
    for time_s, positions in points:
        point = JointTrajectoryPoint(positions=[float(q) for q in positions])
        point.time_from_start.nanosec = round(time_s * 1e9)
        message.points.append(point)
    return message


def hear_states(world):
    states = []
    world.user.create_subscription(JointState, 'joint_states', states.append, STATES_QOS)
    world.until(lambda: states, 'joint states')
    return states


def first_joint(states):
    return np.array([m.position[0] for m in states])


def test_joint_states_are_reliable_and_have_velocities(running):
    states = hear_states(running)
    assert len(states[0].velocity) == len(states[0].position) == len(states[0].name) == 9
    [publisher] = running.user.get_publishers_info_by_topic('joint_states')
    assert publisher.qos_profile.reliability.name == 'RELIABLE'
    running.node._on_trajectory(joint_message((0.5, np.array(states[-1].position[:7]) + 0.1)))
    running.until(lambda: states[-1].velocity[0] > 0.05, 'a velocity')


def test_a_trajectory_is_played_in_its_time(running):
    states = hear_states(running)
    start = np.array(states[-1].position[:7])
    running.node._on_trajectory(joint_message((0.4, start + 0.1), (0.8, start)))
    begun = len(states)
    running.until(lambda: first_joint(states).max() > start[0] + 0.06, 'the way there')
    running.until(lambda: states[-1].position[0] < start[0] + 0.01, 'the way back')
    way = first_joint(states)[begun:]
    assert np.abs(np.diff(way)).max() < 0.1 / 0.4 * sim.CONTROL_DT_S * 2.5
    assert len(way) >= 0.8 / sim.CONTROL_DT_S * 0.5


def test_a_trajectory_that_the_real_controller_drops_is_refused(running):
    states = hear_states(running)
    start = np.array(states[-1].position[:7])
    running.node._on_trajectory(joint_message((0.4, start + 0.1), (0.4, start)))
    running.until(
        lambda: 'times out of order' in running.node.status._present.message, 'a refusal'
    )
    running.steps(5)
    assert states[-1].position[0] == pytest.approx(start[0], abs=2e-3)


def test_setpoints_of_a_controller_outside_are_followed(running):
    states = hear_states(running)
    start = np.array(states[-1].position[:7])
    ramp = [(0.0, start + 0.002 * (i + 1)) for i in range(2 * sim.SETPOINTS_PER_PERIOD)]
    running.node._on_setpoints(joint_message(*ramp))
    running.until(lambda: states[-1].position[0] > start[0] + 0.03, 'the arm to follow')
    running.steps(6)
    assert states[-1].position[0] == pytest.approx(start[0] + 0.04, abs=5e-3)


@pytest.mark.parametrize(
    ('names', 'value', 'words'),
    [(sim.JOINTS[::-1], 0.0, 'expected positions of'), (sim.JOINTS, np.nan, 'not finite')],
)
def test_setpoints_that_make_no_sense_are_refused(running, names, value, words):
    running.node._on_setpoints(joint_message((0.0, np.full(7, value)), names=names))
    assert words in running.node.status._present.message
    assert running.node._moved_by == 'twist'


def test_a_reset_forgets_trajectories_and_setpoints(running):
    states = hear_states(running)
    start = np.array(states[-1].position[:7])
    running.node._on_trajectory(joint_message((0.9, start + 0.5)))
    running.until(lambda: states[-1].position[0] > start[0] + 0.02, 'the arm to move')
    assert running.reset().success
    running.steps(8)
    assert states[-1].position[0] == pytest.approx(0.0, abs=0.05)
