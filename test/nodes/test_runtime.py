"""What all nodes share: parameters, status, life cycle, failures, and the spin of a process."""

import importlib
import os
import signal
import subprocess
import sys
import threading

import pytest

pytest.importorskip('rclpy')
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from probe import InProcess
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String
from std_srvs.srv import SetBool
import yaml

from worldvla_ros.errors import ConfigError
from worldvla_ros.nodes import spin as spin_module
from worldvla_ros.nodes.qos import LATCHED_QOS, RELIABLE_QOS, SENSOR_QOS
from worldvla_ros.nodes.runtime import ManagedNode, declare
from worldvla_ros.package_files import share_folder


class Node(ManagedNode):
    """Does what a test tells it to."""

    def __init__(self):
        self.steps = []
        self.raises = {}
        super().__init__('node')

    def _step(self, name):
        self.steps.append(name)
        if name in self.raises:
            raise self.raises[name]

    def read_parameters(self):
        self.rate = declare(self, 'rate', 2.0, 'events per second [Hz]', 0.1, 10.0)
        self.count = declare(self, 'count', 3, 'how many', 0, 9)
        self.topics = declare(self, 'topics', ['image'], 'names')
        self.word = declare(self, 'word', 'a', 'a word')
        self.twice = declare(self, 'twice', 2 * self.count, 'twice count, if nothing else')

    def configure(self):
        self.read_parameters()
        self.out = self.publisher(String, 'out', RELIABLE_QOS)
        self.subscribe(String, 'in', self.on_in, RELIABLE_QOS)
        self.serve(SetBool, '~/ask', self.on_ask)
        self.every(0.01, lambda: self._step('tick'))
        self._step('configure')

    def activate(self):
        self._step('activate')

    def deactivate(self):
        self._step('deactivate')

    def on_in(self, message):
        self._step('in')

    def on_ask(self, request, response):
        self._step('ask')
        response.success = True
        return response


@pytest.fixture
def bench():
    made = []

    def make(factory=Node, **parameters):
        made.append(InProcess(factory, **parameters))
        return made[-1]

    yield make
    for each in made:
        each.close()


def active(bench, **parameters):
    """Return a bench with its node, active."""
    on = bench(**parameters)
    on.wait_state('active')
    return on, on.nodes[0]


# ---- parameters


def test_parameters_have_the_given_values_and_their_types(bench):
    _, node = active(bench, rate=5, count=4, topics=['a', 'b'], word='b')
    assert (node.rate, node.count, node.topics, node.word) == (5.0, 4, ['a', 'b'], 'b')
    assert type(node.rate) is float


def test_an_empty_list_is_a_list(bench):
    _, node = active(bench, topics=[])
    assert node.topics == []


@pytest.mark.parametrize(
    ('name', 'value'),
    [('rate', 100.0), ('rate', 'fast'), ('count', 2.5), ('count', 10), ('word', 3),
     ('topics', 'image'), ('topics', [1, 2]), ('rate', True)],
)  # fmt: skip
def test_a_wrong_parameter_is_named_and_leaves_the_node_unconfigured(bench, name, value):
    on = bench(**{name: value})
    assert f'parameter {name}' in on.wait_message('not configured: ')
    assert on.nodes[0].status.state == 'unconfigured'
    assert on.nodes[0]._undo == []


def test_a_range_can_be_described(bench):
    _, node = active(bench)
    descriptor = node.describe_parameter('rate')
    assert descriptor.floating_point_range[0].to_value == 10.0
    assert descriptor.description == 'events per second [Hz]'
    assert node.describe_parameter('count').integer_range[0].to_value == 9


def set_parameter(node, name, value):
    return node.set_parameters([Parameter(name, value=value)])[0]


def test_a_parameter_is_set_while_unconfigured_and_read_when_configured(bench):
    _, node = active(bench)
    refused = set_parameter(node, 'rate', 4.0)
    assert not refused.successful
    assert 'clean up' in refused.reason
    node.trigger_deactivate()
    assert not set_parameter(node, 'rate', 4.0).successful
    node.trigger_cleanup()
    assert not set_parameter(node, 'rate', 99.0).successful
    assert not set_parameter(node, 'rate', 'fast').successful
    assert set_parameter(node, 'rate', 4).successful
    node.trigger_configure()
    assert node.rate == 4.0


def test_a_parameter_is_set_before_the_node_was_ever_configured(bench):
    on = bench(autostart=False)
    node = on.nodes[0]
    assert {'rate', 'count', 'topics', 'word'} <= {p.name for p in node._parameters.values()}
    request = SetParameters.Request(parameters=[Parameter('rate', value=5).to_parameter_msg()])
    assert on.call(SetParameters, 'node/set_parameters', request).results[0].successful
    assert not set_parameter(node, 'rate', 99.0).successful
    node.trigger_configure()
    assert node.rate == 5.0


def test_a_wrong_value_from_a_file_hides_no_other_parameter_and_can_be_corrected(bench):
    on = bench(autostart=False, rate=99.0)
    node = on.nodes[0]
    assert node.has_parameter('word')
    node.trigger_configure()
    assert 'parameter rate' in on.message()
    assert set_parameter(node, 'rate', 5.0).successful
    node.trigger_configure()
    assert node.status.state == 'inactive'


@pytest.mark.parametrize(('given', 'twice'), [({}, 8), ({'twice': 6}, 6), ({'twice': 5}, 5)])
def test_a_default_follows_what_it_depends_on_unless_a_value_was_given(bench, given, twice):
    on = bench(autostart=False, **given)
    node = on.nodes[0]
    assert node.get_parameter('twice').value == given.get('twice', 6)
    assert set_parameter(node, 'count', 4).successful
    node.trigger_configure()
    assert node.twice == twice


NODES = (
    'policy',
    'world_model',
    'tokenizer',
    'detokenizer',
    'action_player',
    'sim',
    'recorder',
    'mock_controller',
    'shadow',
    'instruction_server',
)


@pytest.mark.parametrize('name', NODES)
def test_every_node_declares_its_parameters_before_it_is_configured(bench, name, tmp_path):
    module = importlib.import_module(f'worldvla_ros.nodes.{name}')
    factory = getattr(module, f'{name.title().replace("_", "")}Node')
    robot = 'ur5e_jtc' if name == 'mock_controller' else 'sim_panda'
    given = {'folder': str(tmp_path / 'bag'), 'robot': robot, 'drives': 'nothing'}
    on = bench(factory, autostart=False, **given)
    node = on.nodes[0]
    before = set(node._parameters)
    node.trigger_configure()
    assert node.status.state == 'inactive', on.message()
    after = {n for n in node._parameters if not n.startswith('qos_overrides.')}
    assert after == before


# ---- QoS


def test_qos_is_overridden_by_parameters_of_the_topic(bench):
    _, node = active(bench, **{
        'qos_overrides./in.subscription.reliability': 'best_effort',
        'qos_overrides./in.subscription.depth': 7,
        'qos_overrides./out.publisher.durability': 'transient_local',
    })  # fmt: skip
    (heard,) = node.get_subscriptions_info_by_topic('/in')
    assert heard.qos_profile.reliability == QoSReliabilityPolicy.BEST_EFFORT
    assert node.get_parameter('qos_overrides./in.subscription.depth').value == 7
    assert node.out.get_info if False else True
    (said,) = node.get_publishers_info_by_topic('/out')
    assert said.qos_profile.durability == LATCHED_QOS.durability
    # the profiles that other topics share are as they were
    assert (RELIABLE_QOS.depth, RELIABLE_QOS.reliability) == (1, QoSReliabilityPolicy.RELIABLE)
    assert RELIABLE_QOS.durability == QoSProfile(depth=1).durability


def test_an_overridden_qos_outlives_a_clean_up(bench):
    _, node = active(bench, **{'qos_overrides./in.subscription.reliability': 'best_effort'})
    node.trigger_deactivate()
    node.trigger_cleanup()
    node.trigger_configure()
    (heard,) = node.get_subscriptions_info_by_topic('/in')
    assert heard.qos_profile.reliability == QoSReliabilityPolicy.BEST_EFFORT


@pytest.mark.parametrize(
    ('given', 'first'), [({}, 'reliable'), ({'reliability': 'best_effort'}, 'best_effort')]
)
def test_a_second_subscription_of_a_topic_keeps_its_own_qos(bench, given, first):
    class Listener(ManagedNode):
        def configure(self):
            self.subscribe_latched(String, 'stop', lambda m: None)
            self.subscribe(String, 'stop', lambda m: None, SENSOR_QOS)

    parameters = {f'qos_overrides./stop.subscription.{k}': v for k, v in given.items()}
    _, node = active(bench, factory=lambda: Listener('node'), **parameters)
    for _ in range(2):
        infos = node.get_subscriptions_info_by_topic('/stop')
        heard = sorted(i.qos_profile.reliability.name.lower() for i in infos)
        assert heard == sorted(['reliable', first, 'best_effort'])
        node.trigger_deactivate()
        node.trigger_cleanup()
        node.trigger_configure()


@pytest.mark.parametrize(
    ('policy', 'value'), [('reliability', 'perhaps'), ('depth', 'deep'), ('history', 3)]
)
def test_a_wrong_override_is_named_and_leaves_the_node_unconfigured(bench, policy, value):
    on = bench(**{f'qos_overrides./in.subscription.{policy}': value})
    said = on.wait_message('not configured: ')
    assert 'parameter qos_overrides./in' in said
    assert 'transient_local' in said
    assert on.nodes[0].status.state == 'unconfigured'


def test_a_sentence_is_heard_from_plain_and_latched_publishers_and_what_was_latched(bench):
    class Listener(ManagedNode):
        def __init__(self):
            self.words = []
            super().__init__('listener')

        def configure(self):
            self.subscribe_latched(String, 'words', lambda m: self.words.append(m.data))

    on = bench(Listener, autostart=False)
    node = on.nodes[0]
    on.node.create_publisher(String, 'words', LATCHED_QOS).publish(String(data='before'))
    node.trigger_configure()
    on.until(lambda: 'before' in node.words, 'what was latched')
    for word, profile in (('plain', QoSProfile(depth=10)), ('latched', LATCHED_QOS)):
        publisher = on.node.create_publisher(String, 'words', profile)

        def heard(word=word, publisher=publisher):
            publisher.publish(String(data=word))
            return word in node.words

        on.until(heard, f'a {word} publisher')


def test_the_clock_of_a_running_node_cannot_be_exchanged(bench):
    on, node = active(bench)
    request = SetParameters.Request(
        parameters=[Parameter('use_sim_time', value=True).to_parameter_msg()]
    )
    result = on.call(SetParameters, 'node/set_parameters', request).results[0]
    assert not result.successful
    assert 'restart' in result.reason
    assert not node.get_clock().ros_time_is_active


def test_the_defaults_of_the_models_nodes_are_those_of_the_parameter_file(tiny_checkpoint):
    from fakes import FakeHost

    from worldvla_ros.nodes.policy import PolicyNode
    from worldvla_ros.nodes.world_model import WorldModelNode

    file = yaml.safe_load((share_folder() / 'config/nodes/worldvla.yaml').read_text())
    host = FakeHost(tiny_checkpoint)
    on = InProcess(lambda: PolicyNode(host), lambda: WorldModelNode(host))
    try:
        for number, node in enumerate(on.nodes):
            on.wait_state('active', number)
            given = file[f'/**/{node.get_name()}']['ros__parameters']
            for name, value in given.items():
                if name not in ('dtype', 'threads'):  # declared by the host that is faked
                    assert node.get_parameter(name).value == value, name
    finally:
        on.close()


# ---- status


def values(node):
    return {v.key: v.value for v in node.status._present.values}


def test_the_present_status_is_published_each_second_with_the_state(bench):
    on, node = active(bench)
    on.listen(DiagnosticArray, 'node/status', LATCHED_QOS)
    node.status.ok('working', figure=3)
    heard = on.heard['node/status']
    on.until(lambda: [m.status[0].message for m in heard].count('working') >= 3, 'three of it')
    status = heard[-1].status[0]
    assert {v.key: v.value for v in status.values} == {'state': 'active', 'figure': '3'}
    assert status.name == '/node'


def test_an_error_is_not_overwritten_until_the_node_is_activated(bench):
    _, node = active(bench)
    node.status.error('broken')
    node.status.ok('waiting for images')
    node.status.warn('no chunk')
    assert node.status._present.message == 'broken'
    node.status.error('broken otherwise')
    assert node.status._present.message == 'broken otherwise'
    node.trigger_deactivate()
    assert node.status._present.message == 'broken otherwise'
    node.trigger_activate()
    assert node.status._present.level == DiagnosticStatus.OK


def test_an_error_of_one_message_is_replaced_by_the_next_report(bench):
    _, node = active(bench)
    node.status.error('one item', latch=False)
    node.status.ok('working')
    assert node.status._present.message == 'working'


def test_long_text_is_cut_and_what_was_logged_is_bounded(bench):
    _, node = active(bench)
    node.status.warn('x' * 10**6, value='y' * 10**6)
    assert len(node.status._present.message) < 3000
    assert len(values(node)['value']) < 3000
    for i in range(500):
        node.status.warn(f'message {i}')
    assert len(node.status._logged) <= 32


def test_a_kind_of_message_is_logged_on_change_but_not_each_time(bench, monkeypatch):
    _, node = active(bench)
    logged = []
    monkeypatch.setattr(node.status, '_log', lambda level, message: logged.append(message))
    for i in range(20):
        node.status.warn(f'image {i} s old', key='image age')
        node.status.ok('working')
    assert logged == ['image 0 s old', 'working']


def test_a_deactivated_node_does_not_say_what_it_did(bench):
    _, node = active(bench)
    node.status.ok('working')
    node.trigger_deactivate()
    assert node.status._present.message == 'inactive'
    node.trigger_activate()
    assert node.status._present.message == 'active'
    assert values(node)['state'] == 'active'


# ---- failures


@pytest.mark.parametrize(
    ('error', 'words'), [(ValueError('boom'), 'ValueError: boom'), (ConfigError('bad'), 'bad')]
)
@pytest.mark.parametrize('step', ['configure', 'activate'])
def test_whatever_goes_wrong_at_the_start_is_reported(bench, step, error, words):
    def broken():
        node = Node()
        node.raises[step] = error
        return node

    on = bench(broken)
    on.wait_message(words)
    node = on.nodes[0]
    assert node.status.state == ('unconfigured' if step == 'configure' else 'inactive')
    assert not node.active
    node.raises.clear()
    if step == 'configure':
        assert node._undo == []
        node.trigger_configure()
    node.trigger_activate()
    assert node.active
    assert node.status._present.level == DiagnosticStatus.OK


def test_a_callback_that_raises_stops_the_node_with_a_reason(bench):
    on, node = active(bench)
    node.raises['in'] = KeyError('x')
    on.send(String(), 'in', RELIABLE_QOS)
    said = on.wait_message('stopped: topic in: KeyError')
    assert said.endswith('Fix the cause, then activate the node.')
    on.wait_state('inactive')
    assert node.steps[-1] in ('deactivate', 'tick')


def test_a_service_that_raises_answers_and_stops_the_node(bench):
    on, node = active(bench)
    node.raises['ask'] = KeyError('x')
    answer = on.call(SetBool, 'node/ask', SetBool.Request())
    assert not answer.success
    assert '~/status' in answer.message
    on.wait_state('inactive')


def test_a_timer_that_raises_stops_the_node(bench):
    on, node = active(bench)
    node.raises['tick'] = KeyError('x')
    on.wait_message('stopped: timer: KeyError')
    on.wait_state('inactive')


def test_a_deactivation_that_raises_still_ends_inactive(bench):
    on, node = active(bench)
    node.raises['deactivate'] = KeyError('x')
    node.trigger_deactivate()
    assert node.status.state == 'inactive'
    assert 'deactivation failed: KeyError' in on.message()
    node.raises.clear()


def test_clean_up_removes_every_interface(bench):
    on, node = active(bench)
    node.trigger_deactivate()
    node.trigger_cleanup()
    assert not [p for p in node.publishers if p.topic_name == '/out']
    assert not [s for s in node.subscriptions if s.topic_name == '/in']
    assert not [s for s in node.services if s.service_name.endswith('/ask')]
    node.steps.clear()
    ticks = []
    on.node.create_timer(0.01, lambda: ticks.append('tick'))  # as often as the node's own
    on.until(lambda: len(ticks) > 3, 'time to pass')
    assert node.steps == []


def test_timers_go_on_where_ros_time_stands_still(bench):
    on, node = active(bench, use_sim_time=True)
    node.steps.clear()
    on.until(lambda: 'tick' in node.steps, 'a tick')


def test_the_last_message_arrives_before_its_publisher_is_destroyed(bench):
    on, node = active(bench)
    on.listen(String, 'out', QoSProfile(depth=50, reliability=QoSReliabilityPolicy.RELIABLE))
    on.until(lambda: node.out.get_subscription_count(), 'a listener')
    node.trigger_deactivate()
    for i in range(5):
        node.out.publish(String(data=str(i)))
    node.trigger_cleanup()
    on.until(lambda: on.heard['out'] and on.heard['out'][-1].data == '4', 'the last message')


def test_publishers_of_another_qos_are_named_with_the_remedy(bench, capfd):
    on, _ = active(bench)
    on.node.create_publisher(String, 'in', SENSOR_QOS)
    said = ''

    def warned():
        nonlocal said
        said += capfd.readouterr().err
        return 'ros2 topic info -v in' in said

    on.until(warned, 'a warning')
    assert 'a publisher of /in has another QoS' in said
    assert 'reliability' in said


# ---- the spin of a process


def test_an_exception_of_rclpys_own_stops_the_nodes_and_not_the_process(bench):
    on, node = active(bench, use_sim_time=True)
    stop = threading.Event()
    clock = on.node.create_publisher(Clock, '/clock', SENSOR_QOS)
    on.until(lambda: clock.get_subscription_count() > 0, 'the node to hear /clock')
    bad = Clock()
    bad.clock.sec = -5

    def publish_until_inactive():
        if node.status.state == 'inactive':
            stop.set()
        clock.publish(bad)

    on.node.create_timer(0.02, publish_until_inactive, clock=rclpy.clock.Clock(
        clock_type=rclpy.clock.ClockType.STEADY_TIME))  # fmt: skip
    threading.Timer(20.0, stop.set).start()
    assert spin_module.spin(on._executor, on.nodes, stop) == 0
    assert node.status.state == 'inactive'
    assert 'stopped: rclpy: ' in on.message()
    assert 'deactivate' in node.steps


def test_a_node_that_ends_its_process_ends_it_with_an_error(bench):
    on, node = active(bench)
    threading.Timer(0.2, lambda: node.end_process('no worker')).start()
    assert spin_module.spin(on._executor, on.nodes, threading.Event()) == 1
    assert on.message() == 'the process ends: no worker'


DYING = """
import sys
from worldvla_ros.nodes.runtime import ManagedNode
from worldvla_ros.nodes.spin import run

class Dying(ManagedNode):
    def __init__(self):
        super().__init__('dying')
    def activate(self):
        self.end_process('as it was asked to')
    def deactivate(self):
        print('stopped first', flush=True)

raise SystemExit(run(Dying))
"""


def run_node(program, *arguments, **environment):
    env = os.environ | environment
    for name in [name for name, value in environment.items() if value is None]:
        del env[name]
    return subprocess.run(
        [sys.executable, '-c', program, *arguments],
        env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_process_of_a_dead_worker_stops_its_robot_and_fails():
    ended = run_node(DYING)
    assert ended.returncode == 1, ended.stderr
    assert 'stopped first' in ended.stdout
    assert 'as it was asked to' in ended.stderr


@pytest.mark.parametrize(
    ('arguments', 'environment', 'words'),
    [
        (['--ros-args', '-r', '__ns:=/arm-1'], {}, 'letters, digits and _ only'),
        (['--ros-args', '-p', 'x:=[1,a'], {}, 'the parameter file'),
        ([], {'ROS_LOG_DIR': '/proc/nowhere'}, 'Set ROS_LOG_DIR'),
        ([], {'HOME': None}, 'set HOME'),
    ],
)
def test_ros_that_cannot_start_is_one_message(arguments, environment, words):
    ended = run_node(DYING, *arguments, **environment)
    assert ended.returncode == 2
    assert 'Traceback' not in ended.stderr
    assert words in ended.stderr
    assert ended.stderr.count('ROS cannot start') == 1


def test_a_signal_stops_the_robot_and_ends_well():
    program = DYING.replace("self.end_process('as it was asked to')", "print('up', flush=True)")
    child = subprocess.Popen([sys.executable, '-c', program], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline().strip() == 'up'
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=30)
    assert child.returncode == 0
    assert 'stopped first' in out
