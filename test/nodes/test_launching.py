"""Graphs as processes: two arms, a manager of life cycles, an action, others' launch files."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import threading

import pytest

pytest.importorskip('rclpy')
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from probe import Probe, running
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.action import ActionClient
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSReliabilityPolicy
from std_msgs.msg import String

from worldvla_ros.action import ExecuteInstruction
from worldvla_ros.graph import describe
from worldvla_ros.msg import ActionChunk
from worldvla_ros.nodes.qos import LATCHED_QOS, RELIABLE_QOS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
STARTING_S = 120.0
RED, BLUE = 'pick up the red cube', 'push the blue cube to the left'


class Graph(Probe):
    """Speaks to the nodes of arms in namespaces."""

    def __init__(self, *namespaces):
        super().__init__()
        for side in namespaces:
            self.listen(ActionChunk, f'{side}/action_chunk', RELIABLE_QOS)
            self.listen(TwistStamped, f'{side}/delta_twist_cmds', RELIABLE_QOS)

    def state(self, node):
        answer = self.call(GetState, f'{node}/get_state', GetState.Request(), again_s=2.0)
        return answer.current_state.label

    def started(self, node):
        """Wait until a node answers, which takes long on a busy machine."""
        client = self.node.create_client(GetState, f'{node}/get_state')
        self.until(client.service_is_ready, f'{node} to start', STARTING_S)
        self.node.destroy_client(client)

    def change(self, node, transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.call(ChangeState, f'{node}/change_state', request).success

    def parameter(self, node, name):
        request = GetParameters.Request(names=[name])
        answer = self.call(GetParameters, f'{node}/get_parameters', request, again_s=2.0)
        return parameter_value_to_python(answer.values[0])

    def set(self, node, name, value):
        parameter = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        return self.call(SetParameters, f'{node}/set_parameters', request).results[0].successful

    def bring_up(self, *nodes):
        """Do what a life-cycle manager does."""
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            for node in nodes:
                assert self.change(node, transition), node

    def acts(self, side, instruction):
        """Wait for chunks that follow an instruction, and for commands that follow them."""
        chunks, twists = self.heard[f'{side}/action_chunk'], self.heard[f'{side}/delta_twist_cmds']
        self.until(lambda: any(c.instruction == instruction for c in chunks), f'{side} to act')
        self.until(lambda: any(t.twist.linear.x for t in twists), f'{side} to move')


@pytest.fixture
def graph():
    made = []

    def make(*namespaces):
        made.append(Graph(*namespaces))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_two_arms_in_one_graph_act_apart_from_each_other(graph, tiny_folder):
    """One starts by itself, the other is configured and activated by the test."""
    common = {'checkpoint': str(tiny_folder), 'imagine': 'false', 'max_rate': '50'}
    left = describe({'namespace': 'left', 'instruction': RED, **common})
    right = describe({'namespace': 'right', 'autostart': 'false', **common})
    on = graph('left', 'right')
    with running(*left, *right) as processes:
        assert set(processes.children) == {n.label for n in (*left, *right)}
        managed = [f'right/{n}' for n in ('sim', 'policy', 'action_player')]
        for node in managed:
            on.started(node)
            assert on.state(node) == 'unconfigured'
        assert on.set('right/policy', 'max_rate', 20.0)
        on.bring_up(*managed)
        assert on.parameter('right/policy', 'max_rate') == 20.0
        assert not on.set('right/policy', 'max_rate', 30.0)
        on.acts('left', RED)
        assert not on.heard['right/action_chunk']
        on.say(String(data=BLUE), 'right/instruction', LATCHED_QOS)
        on.acts('right', BLUE)
        on.next('left/action_chunk')
        for side, words in (('left', RED), ('right', BLUE)):
            assert {c.instruction for c in on.heard[f'{side}/action_chunk']} == {words}
        topics = {name for name, _ in on.node.get_topic_names_and_types()}
        ours = {'/image', '/action_chunk', '/joint_states', '/delta_twist_cmds', '/policy/status'}
        assert not topics & ours
        assert {f'/{side}{topic}' for side in ('left', 'right') for topic in ours} <= topics
        assert on.change('right/policy', Transition.TRANSITION_DEACTIVATE)
        assert on.state('right/policy') == 'inactive'
        assert processes.ended() == {}


def test_a_running_graph_follows_the_instruction_of_an_action(graph, tiny_folder):
    nodes = describe({
        'checkpoint': str(tiny_folder), 'imagine': 'false', 'max_rate': '50',
        'instruction_server': 'true', 'namespace': 'arm',
    })  # fmt: skip
    on = graph('arm')
    feedback = []
    client = ActionClient(on.node, ExecuteInstruction, 'arm/execute_instruction')
    with running(*nodes):
        on.until(client.server_is_ready, 'the server', STARTING_S)
        for node in ('sim', 'policy', 'action_player', 'instruction_server'):
            on.started(f'arm/{node}')
            on.until(lambda n=node: on.state(f'arm/{n}') == 'active', f'{node} to be active')
        sent = client.send_goal_async(
            ExecuteInstruction.Goal(instruction=RED),
            lambda message: feedback.append(message.feedback),
        )
        on.until(sent.done, 'acceptance')
        on.acts('arm', RED)
        on.until(lambda: feedback and feedback[-1].chunks > 0, 'feedback')
        on.until(lambda: feedback[-1].success_estimate == 0.0, "the simulation's estimate")
        sent.result().cancel_goal_async()
        asked = sent.result().get_result_async()
        on.until(asked.done, 'the result')
        result = asked.result().result
        assert result.outcome == ExecuteInstruction.Result.CANCELLED
        assert 'holding until ~/enable' in result.message
        before = len(on.heard['arm/action_chunk'])
        again = client.send_goal_async(ExecuteInstruction.Goal(instruction=RED))
        on.until(again.done, 'acceptance')
        asked = again.result().get_result_async()
        on.until(asked.done, 'the result')
        assert asked.result().result.outcome == ExecuteInstruction.Result.FAILED
        assert 'hold' in asked.result().result.message
        assert len(on.heard['arm/action_chunk']) <= before + 3  # what was on its way
    client.destroy()


def test_the_two_halves_of_a_split_graph_act_together(graph, tiny_folder):
    """What split_robot.launch.py and split_gpu.launch.py start, here on one machine."""
    common = {'checkpoint': str(tiny_folder), 'namespace': 'arm'}
    robot = {'policy': 'false', 'tokenizer': 'true', 'instruction': RED}
    gpu = {'input': 'tokens', 'action_player': 'false', 'sim': 'false', 'imagine': 'false'}
    nodes = [*describe(common | robot), *describe(common | gpu)]
    assert [n.executable for n in nodes] == ['sim', 'tokenizer', 'action_player', 'say', 'policy']
    on = graph('arm')
    with running(*nodes):
        for node in ('tokenizer', 'policy'):
            on.started(f'arm/{node}')
        on.acts('arm', RED)
        info = on.node.get_subscriptions_info_by_topic('/arm/image')
        assert {i.node_name for i in info} == {'tokenizer'}


PARENT = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import SetParameter
from launch_ros.substitutions import FindPackageShare

file = PathJoinSubstitution([FindPackageShare('worldvla_ros'), 'launch', 'sim.launch.py'])
arguments = dict(word.split(':=') for word in sys.argv[1:])
description = LaunchDescription([
    SetParameter('max_rate', 2.5),
    SetParameter('control_rate', 30.0),
    SetParameter('qos_overrides./arm/image.subscription.reliability', 'reliable'),
    GroupAction([IncludeLaunchDescription(file, launch_arguments=arguments.items())]),
])
service = LaunchService()
service.include_launch_description(description)
sys.exit(service.run())
"""


@pytest.mark.ros2cli
def test_a_parent_launch_file_sets_parameters_and_qos_and_manages_the_life_cycle(
    graph, tiny_folder, tmp_path
):
    pytest.importorskip('launch_ros', reason='launch_ros is not on PyPI')
    mine = tmp_path / 'mine.yaml'
    mine.write_text('/**:\n  ros__parameters:\n    decoding: discrete\n    control_rate: 25.0\n')
    arguments = {
        'namespace': 'arm', 'checkpoint': str(tiny_folder), 'imagine': 'false',
        'autostart': 'false', 'params_file': str(mine), 'image_transport': 'raw',
    }  # fmt: skip
    on = graph('arm')
    parent = subprocess.Popen(
        [sys.executable, '-c', PARENT, *(f'{k}:={v}' for k, v in arguments.items())],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path,
        env=dict(os.environ, PYTHONUNBUFFERED='1'),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    output = []
    reader = threading.Thread(target=lambda: output.extend(parent.stdout), daemon=True)
    reader.start()
    try:
        nodes = [f'arm/{n}' for n in ('sim', 'policy', 'action_player')]
        for node in nodes:
            on.started(node)
        assert on.parameter('arm/policy', 'max_rate') == 2.5  # the shipped file says 5.0
        assert on.parameter('arm/policy', 'decoding') == 'discrete'
        assert on.parameter('arm/action_player', 'control_rate') == 25.0  # the parameter file
        assert on.set('arm/policy', 'max_image_age', 1.5)
        on.bring_up(*nodes)
        assert on.parameter('arm/policy', 'max_image_age') == 1.5
        (heard,) = on.node.get_subscriptions_info_by_topic('/arm/image')
        assert heard.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
        assert [on.state(node) for node in nodes] == ['active'] * 3
    finally:
        parent.send_signal(signal.SIGINT)
        ended = parent.wait(60)
        reader.join(10)
    assert ended == 0, ''.join(output)
