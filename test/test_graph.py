import importlib.util
import io
from pathlib import Path
import sys
import time
import types

import pytest

from worldvla_ros.errors import ConfigError
from worldvla_ros.graph import ARGUMENTS, NodeSpec, describe
from worldvla_ros.processes import MODULES, Processes, command

ROOT = Path(__file__).parent.parent


def names(**arguments):
    return [node.executable for node in describe(arguments)]


def test_no_argument_starts_the_simulated_arm_and_one_process_for_both_models():
    assert names() == ['sim', 'model', 'action_player']


def test_a_real_robot_gets_no_simulation_unless_asked():
    assert 'sim' not in names(robot='franka')
    assert 'sim' in names(robot='franka', sim='true')


def test_without_imagination_the_policy_runs_alone():
    assert 'policy' in names(imagine='false')
    assert 'model' not in names(imagine='false')


def test_the_precision_reaches_the_node_that_holds_the_weights():
    parameters = {node.executable: node.parameters for node in describe({'dtype': 'int8'})}
    assert parameters['model']['dtype'] == 'int8'
    assert 'dtype' not in parameters['action_player']


def test_models_are_told_checkpoint_profile_and_device():
    told = {'checkpoint': 'here', 'profile': 'worldvla_256_libero_goal', 'device': 'cuda:0'}
    for imagine in ('true', 'false'):
        nodes = describe({'imagine': imagine, 'robot': 'libero', **told})
        assert told.items() <= nodes[0].parameters.items()


def test_a_first_sentence_is_said_by_a_node_of_its_own():
    said = describe({'instruction': 'pick up the red cube', 'namespace': 'left'})[-1]
    assert (said.executable, said.namespace) == ('say', 'left')
    line = command(said)
    assert line.index('pick up the red cube') < line.index('--ros-args')
    assert 'say' not in names(instruction=' ')


def test_recorder_and_rviz_start_on_request():
    assert names(record='bag', rviz='true')[-2:] == ['recorder', 'rviz2']


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'robt': 'franka'}, 'robt'),
        ({'output': 'dance'}, 'twist or trajectory'),
        ({'seed': 'high'}, "seed: expected a whole number, got 'high'"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(arguments, words):
    with pytest.raises(ConfigError, match=words):
        describe(arguments)


def test_every_executable_is_installed_and_importable():
    listed = dict(
        line.replace(' ', '').split('=')
        for line in (ROOT / 'nodes.txt').read_text().splitlines()
        if '=' in line and not line.startswith('#')
    )
    assert {name: f'{module}:main' for name, module in MODULES.items()} == listed
    for module in MODULES.values():
        assert importlib.util.find_spec(module)


def test_a_command_line_carries_parameters_and_namespace():
    node = NodeSpec(
        'sim', 'sim', namespace='left', parameters={'seed': 3, 'task': 'pick', 'x': True}
    )
    line = command(node)
    assert line[1:3] == ['-m', 'worldvla_ros.nodes.sim']
    for part in ('seed:=3', "task:='pick'", 'x:=true', '__ns:=/left', '__node:=sim'):
        assert part in line


def test_every_launch_argument_has_a_description():
    assert all(a.description.endswith('.') for a in ARGUMENTS.values())


def test_a_process_that_ignores_sigint_is_ended_all_the_same(monkeypatch):
    code = 'import signal, time; signal.signal(2, signal.SIG_IGN); print("up", flush=True);'
    code += 'time.sleep(99)'
    monkeypatch.setattr(
        'worldvla_ros.processes.command', lambda node: [sys.executable, '-c', code]
    )
    monkeypatch.setattr('worldvla_ros.processes.STOP_TIMEOUT_S', 0.5)
    output = io.StringIO()
    processes = Processes([NodeSpec('stubborn')], output)
    end = time.monotonic() + 20
    while 'up' not in output.getvalue() and time.monotonic() < end:
        time.sleep(0.05)
    assert processes.dead() == {}
    assert processes.stop() == {'stubborn': -9}
    assert output.getvalue() == '[stubborn] up\n'


class FakeLaunch(types.ModuleType):
    """Stands in for launch and launch_ros: keeps what it is given."""

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return lambda *args, **kwargs: types.SimpleNamespace(kind=name, args=args, kwargs=kwargs)


@pytest.fixture
def fake_launch(monkeypatch):
    for name in (
        'launch',
        'launch.actions',
        'launch.substitutions',
        'launch_ros',
        'launch_ros.actions',
    ):
        monkeypatch.setitem(sys.modules, name, FakeLaunch(name))


def launch_file():
    spec = importlib.util.spec_from_file_location(
        'policy_launch', ROOT / 'launch/policy.launch.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_launch_file_declares_every_argument(fake_launch):
    description = launch_file().generate_launch_description()
    declared = [a for a in description.args[0] if a.kind == 'DeclareLaunchArgument']
    assert [a.args[0] for a in declared] == list(ARGUMENTS)
    assert all(a.kwargs['description'] for a in declared)


def test_the_launch_file_starts_the_very_nodes_of_the_graph(fake_launch):
    module = launch_file()
    nodes = describe({'namespace': 'left', 'record': 'bag', 'instruction': 'go on'})
    for made, node in zip(map(module.action, nodes), nodes, strict=True):
        assert made.kwargs['executable'] == node.executable
        assert made.kwargs['namespace'] == 'left'
        assert dict(node.parameters) in made.kwargs['parameters']
        assert made.kwargs['arguments'] == list(node.arguments)


@pytest.mark.ros2cli
def test_the_real_launch_system_reads_the_launch_file():
    pytest.importorskip(
        'launch_ros', reason='launch_ros is not on PyPI; comes with a ROS 2 install'
    )
    from launch import LaunchContext

    description = launch_file().generate_launch_description()
    assert [a.name for a in description.get_launch_arguments()] == list(ARGUMENTS)
    assert description.describe_sub_entities() is not None
    assert LaunchContext() is not None
