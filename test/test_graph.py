import importlib.util
from pathlib import Path
import re
import sys
import types

import pytest

from worldvla_ros.errors import ConfigError
from worldvla_ros.graph import ARGUMENTS, BOOLEAN, COMMON, PARAMETERS, NodeSpec, describe
from worldvla_ros.processes.supervisor import MODULES, command

ROOT = Path(__file__).parent.parent


def names(**arguments):
    return [node.executable for node in describe(arguments)]


def test_no_argument_starts_the_simulated_arm_and_one_process_for_both_models():
    assert names() == ['sim', 'model', 'action_player']


def test_a_real_robot_gets_no_simulation_unless_asked():
    assert 'sim' not in names(robot='panda_servo')
    assert 'sim' in names(robot='panda_servo', sim='true')


def test_without_imagination_the_policy_runs_alone():
    assert 'policy' in names(imagine='false')
    assert 'model' not in names(imagine='false')


def test_the_robots_computer_encodes_and_the_gpus_computer_thinks():
    assert names(policy='false', tokenizer='true') == ['sim', 'tokenizer', 'action_player']
    elsewhere = describe({'sim': 'false', 'action_player': 'false', 'input': 'tokens'})
    assert [(n.executable, n.parameters['input']) for n in elsewhere] == [('model', 'tokens')]
    assert names(sim='false', policy='false', action_player='false', detokenizer='true') == [
        'detokenizer'
    ]


def test_tokenizers_are_told_whose_they_are():
    told = {'checkpoint': 'here', 'device': 'cuda:0', 'robot': 'libero'}
    nodes = describe({'tokenizer': 'true', 'detokenizer': 'true', 'dtype': 'int8', **told})
    for node in nodes[1:3]:
        assert told.items() <= node.parameters.items()
        assert not {'dtype', 'input'} & set(node.parameters)


def test_a_dry_run_is_the_robots_choice_unless_it_is_asked_for():
    assert 'enabled' not in graph()['action_player'].parameters
    assert graph(dry_run='true')['action_player'].parameters['enabled'] is False
    assert graph(dry_run='false')['action_player'].parameters['enabled'] is True
    assert 'enabled' not in graph(dry_run='true')['model'].parameters


def test_a_mock_of_the_controller_moves_the_simulated_arm():
    assert names(robot='fr3_jtc', mock='sim')[:2] == ['sim', 'mock_controller']
    assert names(robot='ur5e_jtc', mock='nothing')[0] == 'mock_controller'
    mock = graph(robot='fr3_jtc', mock='sim')['mock_controller']
    assert mock.parameters['drives'] == 'sim'
    assert mock.parameters['robot'] == 'fr3_jtc'
    assert 'kind' not in mock.parameters
    other = graph(robot='panda_servo', mock='sim', output='pose')['mock_controller']
    assert other.parameters['kind'] == 'pose'


def test_beside_a_mock_no_package_is_needed_and_cameras_are_the_simulated_ones():
    nodes = graph(robot='fr3_servo', mock='sim', tokenizer='true')
    for name in ('action_player', 'mock_controller'):
        assert nodes[name].parameters['gripper'] == 'width'
    assert nodes['action_player'].parameters['servo_told'] is True
    for name in ('model', 'tokenizer'):
        assert nodes[name].parameters['camera_size'] == '128x128'
    chosen = graph(robot='fr3_servo', mock='sim', gripper='franka', camera_size='256x256')
    assert chosen['action_player'].parameters['gripper'] == 'franka'
    assert chosen['model'].parameters['camera_size'] == '256x256'
    for plain in (graph(robot='fr3_servo'), graph()):
        said = {name for node in plain.values() for name in node.parameters}
        assert not said & {'gripper', 'servo_told', 'camera_size'}
    assert 'camera_size' not in graph(robot='ur5e_jtc', mock='nothing')['model'].parameters
    assert graph(robot='ur5e_jtc', sim='true')['model'].parameters['camera_size'] == '128x128'


def test_compressed_images_are_heard_by_whoever_hears_images():
    nodes = graph(image_transport='compressed', tokenizer='true', detokenizer='true')
    told = [n for n, node in nodes.items() if node.parameters.get('image_transport')]
    assert told == ['model', 'tokenizer']


def test_the_nodes_of_two_arms_are_told_apart_by_their_namespaces():
    labels = [n.label for side in ('left', '/right/') for n in describe({'namespace': side})]
    assert labels == [f'{s}/{n}' for s in ('left', 'right') for n in names()]
    assert [n.label for n in describe({})] == names()


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


def test_a_shadow_starts_instead_of_what_commands():
    for further in ({}, {'action_player': 'true'}, {'action_player': 'false'}):
        started = names(shadow='true', **further)
        assert 'shadow' in started
        assert 'action_player' not in started
    assert graph(shadow='true', robot='panda_servo')['shadow'].parameters['robot'] == 'panda_servo'
    assert 'shadow' not in names()


def test_recorder_and_rviz_start_on_request():
    assert names(record='bag', rviz='true')[-2:] == ['recorder', 'rviz2']


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'robt': 'panda_servo'}, 'robt'),
        ({'input': 'pixels'}, 'images or tokens'),
        ({'output': 'dance'}, 'nothing or twist or pose or trajectory'),
        ({'seed': 'high'}, "seed: expected a whole number, got 'high'"),
        ({'seed': '²'}, 'seed: expected a whole number'),
        ({'namespace': 'arm-1'}, "namespace: expected letters.*got 'arm-1'"),
        ({'namespace': 'left//right'}, 'namespace'),
        ({'image_topic': '/camera/1st'}, "image_topic: expected letters.*got '/camera/1st'"),
        ({'joint_states_topic': ''}, 'joint_states_topic'),
        ({'max_rate': '0'}, 'max_rate: expected a positive number'),
        ({'control_rate': 'nan'}, 'control_rate: expected a positive number'),
        ({'camera_size': '640'}, 'camera_size: expected width x height'),
        ({'params_file': '/nowhere.yaml'}, 'params_file: expected an existing YAML file'),
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


def graph(**arguments):
    return {node.executable: node for node in describe(arguments)}


def test_a_command_line_carries_parameters_and_namespace():
    node = NodeSpec(
        'sim', 'sim', namespace='/left/', parameters={'seed': 3, 'task': 'pick', 'x': True}
    )
    line = command(node)
    assert line[1:3] == ['-m', 'worldvla_ros.nodes.sim']
    for part in ('seed:=3', 'task:="pick"', 'x:=true', '__ns:=/left', '__node:=sim'):
        assert part in line


@pytest.mark.parametrize('namespace', ['', '/', 'left', '/left', 'arms/left_1/'])
def test_a_namespace_of_ros_is_accepted(namespace):
    assert graph(namespace=namespace)['sim'].namespace == namespace


def test_every_launch_argument_has_a_description():
    assert all(a.description.endswith('.') for a in ARGUMENTS.values())


def test_an_argument_at_its_default_leaves_the_parameter_to_files_and_parents():
    for node in graph(record='bag').values():
        assert set(node.parameters) <= {'end_on_failure', 'folder'}


def test_each_argument_reaches_the_nodes_that_declare_it(tmp_path):
    given = {
        'robot': 'fr3_jtc', 'checkpoint': 'c', 'profile': 'p', 'device': 'cuda:0', 'dtype': 'int8',
        'max_rate': '7', 'control_rate': '12.5', 'output': 'trajectory', 'task': 'push',
        'seed': '8001', 'use_sim_time': 'true', 'autostart': 'false', 'input': 'tokens',
        'image_transport': 'compressed', 'camera_size': '64x48', 'gripper': 'none',
    }  # fmt: skip
    assert set(given) == {*COMMON, *(name for names in PARAMETERS.values() for name in names)}
    nodes = graph(
        sim='true',
        tokenizer='true',
        detokenizer='true',
        instruction_server='true',
        mock='sim',
        **given,
    )
    as_types = {**given, 'max_rate': 7.0, 'control_rate': 12.5, 'seed': 8001}
    as_types |= {'use_sim_time': True, 'autostart': False}
    for name, node in nodes.items():
        for argument in (*COMMON, *PARAMETERS[name]):
            value = node.parameters[argument]
            assert (type(value), value) == (type(as_types[argument]), as_types[argument])


def test_the_simulated_arm_is_the_clock_of_a_graph_that_follows_one():
    assert 'publish_clock' not in graph()['sim'].parameters
    assert graph(use_sim_time='true')['sim'].parameters['publish_clock'] is True
    off = graph(use_sim_time='true', publish_clock='false')
    assert off['sim'].parameters['publish_clock'] is False


def test_a_topic_is_renamed_for_every_node():
    nodes = graph(image_topic='/camera/color/image_raw', record='bag', rviz='true')
    for node in nodes.values():
        assert node.remappings == (('image', '/camera/color/image_raw'),)
    assert '/camera/color/image_raw' in ' '.join(command(nodes['model']))
    assert graph()['model'].remappings == ()


def test_rviz_lives_in_the_namespace_and_may_be_closed():
    rviz = graph(rviz='true', namespace='left')['rviz2']
    assert rviz.namespace == 'left'
    assert not rviz.required
    assert graph()['model'].required
    assert not graph(stop_together='false')['model'].required


def test_a_parameter_file_is_read_after_the_shipped_one_and_before_arguments(tmp_path):
    mine = tmp_path / 'mine.yaml'
    mine.write_text('{}')
    line = command(graph(params_file=str(mine), device='cuda:0')['model'])
    files = [i for i, word in enumerate(line) if word == '--params-file']
    assert [Path(line[i + 1]).name for i in files] == ['worldvla.yaml', 'mine.yaml']
    assert line.index('device:="cuda:0"') > max(files)


def test_a_log_level_reaches_every_node():
    for node in graph(log_level='debug', rviz='true', instruction='go').values():
        line = command(node)
        assert line[line.index('--log-level') + 1] == 'debug'


HARD = ["o'brien", 'a "b"', '8000', '1e5', 'yes', 'null', ' x ', 'ä/€/🦾', 'a: b # c', '', '\\n']


@pytest.mark.parametrize('text', HARD)
def test_every_string_reaches_a_node_as_it_is(text):
    rclpy = pytest.importorskip('rclpy')
    line = command(NodeSpec('sim', parameters={'text': text, 'many': [text, text]}))
    context = rclpy.Context()
    rclpy.init(args=line, context=context)
    try:
        node = rclpy.create_node('sim', context=context)
        assert node.declare_parameter('text', 'other').value == text
        assert node.declare_parameter('many', ['other']).value == [text, text]
    finally:
        rclpy.shutdown(context=context)


def test_what_a_parent_sets_wins_over_the_shipped_parameters():
    """The launch system puts SetParameter of a parent after the ROS arguments of a node."""
    rclpy = pytest.importorskip('rclpy')
    line = command(graph(imagine='false')['policy'])
    line += ['-p', 'max_rate:=2.5', '-p', 'qos_overrides./image.subscription.depth:=9']
    context = rclpy.Context()
    rclpy.init(args=line, context=context)
    try:
        node = rclpy.create_node('policy', context=context)
        assert node.declare_parameter('max_rate', 1.0).value == 2.5
        assert node.declare_parameter('max_image_age', 1.0).value == 0.5  # of the shipped file
        assert node.declare_parameter('qos_overrides./image.subscription.depth', 1).value == 9
    finally:
        rclpy.shutdown(context=context)


class Recorded:
    """What a stand-in of launch was created with, by keyword."""

    def __init__(self, **given):
        self.given = given


def strict_launch():
    """Return stand-ins for launch and launch_ros with the very signatures of the real classes."""

    class LaunchDescription:
        def __init__(self, initial_entities=None):
            self.entities = initial_entities

    class DeclareLaunchArgument(Recorded):
        def __init__(self, name, *, default_value=None, description=None, choices=None):
            super().__init__(
                name=name, default_value=default_value, description=description, choices=choices
            )

    class OpaqueFunction(Recorded):
        def __init__(self, *, function, args=None, kwargs=None):
            super().__init__(function=function)

    class LaunchConfiguration:
        def __init__(self, variable_name, *, default=None):
            self.name = variable_name

        def perform(self, context):
            return context.launch_configurations[self.name]

    class Node(Recorded):
        def __init__(
            self, *, executable, package=None, name=None, namespace=None, parameters=None,
            remappings=None, ros_arguments=None, arguments=None, output='log',
            emulate_tty=False, on_exit=None,
        ):  # fmt: skip
            given = {k: v for k, v in locals().items() if k not in ('self', '__class__')}
            super().__init__(**given)

    class IncludeLaunchDescription(Recorded):
        def __init__(self, launch_description_source, *, launch_arguments=None):
            super().__init__(source=launch_description_source)

    class PythonLaunchDescriptionSource:
        def __init__(self, launch_file_path):
            self.path = launch_file_path

    warnings = []
    log = types.SimpleNamespace(warning=warnings.append)
    parts = {
        'launch': {'LaunchDescription': LaunchDescription},
        'launch.actions': {
            'DeclareLaunchArgument': DeclareLaunchArgument, 'OpaqueFunction': OpaqueFunction,
            'IncludeLaunchDescription': IncludeLaunchDescription,
        },
        'launch.launch_description_sources': {
            'PythonLaunchDescriptionSource': PythonLaunchDescriptionSource,
        },
        'launch.logging': {'get_logger': lambda name: log},
        'launch.substitutions': {'LaunchConfiguration': LaunchConfiguration},
        'launch_ros': {},
        'launch_ros.actions': {'Node': Node},
    }  # fmt: skip
    return parts, warnings


@pytest.fixture
def fake_launch(monkeypatch):
    """Put the stand-ins in place; yields the warnings that are logged."""
    parts, warnings = strict_launch()
    for name, members in parts.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return warnings


def launch_file(path='launch/policy.launch.py'):
    spec = importlib.util.spec_from_file_location('launch_file', ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def started(**arguments):
    """Return the nodes that the launch file starts with these arguments."""
    entities = launch_file().generate_launch_description().entities
    *declared, start = [entity.given for entity in entities]
    given = {a['name']: a['default_value'] for a in declared} | arguments
    return start['function'](types.SimpleNamespace(launch_configurations=given))


def test_the_launch_file_declares_every_argument(fake_launch):
    entities = launch_file().generate_launch_description().entities
    declared = [e.given for e in entities if 'default_value' in e.given]
    assert [a['name'] for a in declared] == list(ARGUMENTS)
    for given in declared:
        argument = ARGUMENTS[given['name']]
        assert given['default_value'] == argument.default
        assert given['description'] == argument.description
        assert given['choices'] == (list(argument.choices) or None)


def test_the_launch_file_starts_the_very_nodes_of_the_graph(fake_launch):
    chosen = {'namespace': 'left', 'record': 'bag', 'instruction': 'go on', 'rviz': 'true'}
    nodes = describe(chosen)
    made = [node.given for node in started(**chosen)]
    assert [m['executable'] for m in made] == [n.executable for n in nodes]
    for given, node in zip(made, nodes, strict=True):
        assert given['namespace'] == 'left'
        assert given['name'] == (node.name or None)
        assert given['parameters'] == ([dict(node.parameters)] if node.parameters else [])
        assert given['arguments'] == list(node.arguments)
        assert given['ros_arguments'] == node.ros_arguments()
        assert (given['on_exit'] is not None) == node.required
    assert fake_launch == []


def included(name, **arguments):
    """Return the arguments with which a thin launch file includes policy.launch.py."""
    entities = launch_file(f'launch/{name}.launch.py').generate_launch_description().entities
    *declared, include = [entity.given for entity in entities]
    assert Path(include['source'].path) == ROOT / 'launch/policy.launch.py'
    chosen = {}
    for given in declared:
        value = arguments.get(given['name'], given['default_value'])
        if not isinstance(value, str):  # words and LaunchConfigurations
            value = ''.join(chosen[p.name] if hasattr(p, 'name') else p for p in value)
        assert given['choices'] is None or value in given['choices']
        chosen[given['name']] = value
    assert set(chosen) | set(arguments) <= {*ARGUMENTS, 'controller'}
    return {k: v for k, v in (chosen | arguments).items() if k in ARGUMENTS}


@pytest.mark.parametrize(
    ('name', 'arguments', 'equal'),
    [
        ('sim', {}, {}),
        ('sim', {'task': 'push'}, {'task': 'push'}),
        ('franka', {}, {'robot': 'fr3_servo'}),
        ('franka', {'controller': 'jtc'}, {'robot': 'fr3_jtc'}),
        ('franka', {'controller': 'crisp'}, {'robot': 'fr3_crisp'}),
        ('franka', {'robot': 'mine.yaml'}, {'robot': 'mine.yaml'}),
        ('ur', {}, {'robot': 'ur5e_servo'}),
        ('ur', {'controller': 'jtc'}, {'robot': 'ur5e_jtc'}),
        ('moveit_servo', {'output': 'pose'}, {'robot': 'panda_servo', 'output': 'pose'}),
        ('split_robot', {}, {'policy': 'false', 'tokenizer': 'true'}),
        ('split_gpu', {'device': 'cpu'},
         {'input': 'tokens', 'action_player': 'false', 'sim': 'false'}),
        ('split_gpu', {}, {'input': 'tokens', 'action_player': 'false', 'sim': 'false',
                           'device': 'cuda:0'}),
    ],
)  # fmt: skip
def test_a_launch_file_is_policy_launch_with_other_defaults(fake_launch, name, arguments, equal):
    assert describe(included(name, **arguments)) == describe(equal)


def test_every_robot_of_the_launch_files_is_shipped(fake_launch):
    shipped = {path.stem for path in (ROOT / 'config/robots').glob('*.yaml')}
    for name in ('franka', 'ur'):
        entities = launch_file(f'launch/{name}.launch.py').generate_launch_description().entities
        for controller in entities[0].given['choices']:
            assert included(name, controller=controller)['robot'] in shipped
    assert included('moveit_servo')['robot'] in shipped


DOCUMENTED = sorted(
    {
        (page.name, *line.split()[3:])
        for page in (ROOT / 'docs').rglob('*.md')
        for line in re.findall(r'^ *ros2 launch worldvla_ros .*$', page.read_text(), re.M)
    }
)


@pytest.mark.parametrize(('page', 'file', 'words'), [(d[0], d[1], d[2:]) for d in DOCUMENTED])
def test_every_launch_command_of_the_documents_names_arguments_that_exist(page, file, words):
    assert (ROOT / 'launch' / file).is_file()
    given = [word.split(':=')[0] for word in words if ':=' in word]
    assert set(given) <= {*ARGUMENTS, 'controller'}


def test_two_machines_have_each_node_once(fake_launch):
    here, there = (describe(included(n, robot='fr3_jtc')) for n in ('split_robot', 'split_gpu'))
    assert [n.executable for n in here] == ['tokenizer', 'action_player']
    assert [n.executable for n in there] == ['model']


def test_a_parameter_file_comes_before_the_launch_arguments(fake_launch, tmp_path):
    mine = tmp_path / 'mine.yaml'
    mine.write_text('{}')
    model = started(params_file=str(mine), device='cuda:0')[1].given
    assert model['parameters'] == [str(mine), {'end_on_failure': True, 'device': 'cuda:0'}]
    # the shipped defaults are ROS arguments: SetParameter of a parent comes after them and wins
    assert model['ros_arguments'][0] == '--params-file'
    assert model['ros_arguments'][1].endswith('config/nodes/worldvla.yaml')


def test_a_misspelt_launch_argument_is_named(fake_launch):
    started(robott='panda_servo', something_of_the_parent='x')
    assert len(fake_launch) == 1
    assert "'robott'" in fake_launch[0]
    assert 'Did you mean robot?' in fake_launch[0]


def test_a_node_that_ends_ends_the_launch_with_an_error(fake_launch):
    on_exit = started()[1].given['on_exit']
    event = types.SimpleNamespace(process_name='model-2', returncode=1)
    with pytest.raises(RuntimeError, match='model-2 ended with status 1'):
        on_exit(event, types.SimpleNamespace(is_shutdown=False))
    assert on_exit(event, types.SimpleNamespace(is_shutdown=True)) is None
    assert started(stop_together='false')[1].given['on_exit'] is None


@pytest.mark.ros2cli
def test_the_real_launch_system_starts_the_nodes_of_the_graph():
    pytest.importorskip(
        'launch_ros', reason='launch_ros is not on PyPI; comes with a ROS 2 install'
    )
    from launch import LaunchContext

    description = launch_file().generate_launch_description()
    assert [a.name for a in description.get_launch_arguments()] == list(ARGUMENTS)
    context = LaunchContext()
    context.launch_configurations['global_params'] = [('max_rate', '2.5')]
    *declared, start = description.entities
    for action in declared:
        action.visit(context)
    context.launch_configurations['control_rate'] = '10'
    nodes = start.visit(context)
    assert [n.node_executable for n in nodes] == ['sim', 'model', 'action_player']
    nodes[2]._perform_substitutions(context)
    words = [''.join(part.perform(context) for part in word) for word in nodes[2].cmd[1:4]]
    files = [w for w in words if w.endswith('worldvla.yaml')]
    rest = [str(part.text) for word in nodes[2].cmd[4:] for part in word if hasattr(part, 'text')]
    # the shipped file first, then what a parent sets, then what was chosen here
    assert files
    assert 'max_rate:=2.5' in rest
    assert rest.index('max_rate:=2.5') < rest.index('--params-file')


def test_booleans_are_told_from_words():
    assert [n for n, a in ARGUMENTS.items() if a.choices == BOOLEAN] == [
        'policy', 'imagine', 'tokenizer', 'detokenizer', 'action_player', 'instruction_server',
        'shadow',
        'autostart', 'stop_together', 'use_sim_time', 'rviz', 'view',
    ]  # fmt: skip
