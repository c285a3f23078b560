"""Which nodes a launch starts: one description as plain data, for two runners.

    describe(arguments) ─┬─ launch/policy.launch.py   where the `ros2` command is
                         └─ processes.up(arguments)   anywhere: the same nodes as processes

Knows executables, parameters and remappings. Must not know rclpy, launch or what a node does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
import re

from worldvla_ros.errors import ConfigError
from worldvla_ros.package_files import share_folder


@dataclass(frozen=True)
class Argument:
    """A launch argument: default, description, and choices where they are few."""

    default: str
    description: str
    choices: tuple[str, ...] = ()


BOOLEAN = ('true', 'false')
OUTPUTS = ('twist', 'pose', 'trajectory', 'position', 'velocity')
GRIPPERS = ('width', 'gripper_command', 'parallel_gripper', 'franka', 'none')
SIMULATED = '128x128'
"""Size of the simulated camera's images [px]: `image_size` of the simulated arm."""
TOPICS = {
    'image': 'front camera',
    'wrist_image': 'wrist camera',
    'joint_states': 'joint states',
    'instruction': 'instructions',
    'delta_twist_cmds': 'twist commands, where the robot description names none',
    'joint_trajectory': 'trajectory commands, where the robot description names none',
    'gripper_command': 'gripper commands',
}
"""Topics that a launch may rename, and what they carry."""
RECORDING = 'recording'  # folder of the bags that the page's button starts
COMMON = ('use_sim_time', 'autostart')
TOKENIZERS = ('robot', 'checkpoint', 'profile', 'device', 'camera_size')
MODEL = (*TOKENIZERS, 'dtype', 'max_rate', 'input', 'image_transport')
PARAMETERS = {
    'sim': ('task', 'seed'),
    'tokenizer': (*TOKENIZERS, 'image_transport'),
    'detokenizer': TOKENIZERS,
    'model': MODEL,
    'policy': MODEL,
    'action_player': ('robot', 'output', 'control_rate', 'gripper'),
    'shadow': ('robot',),
    'instruction_server': (),
    'mock_controller': ('robot', 'gripper'),
    'recorder': (),
    'viewer': ('robot', 'image_transport'),
}
"""Arguments that become parameters of a node under the same name.

An argument at its default sets no parameter: then a parameter file counts, or SetParameter of a
launch file that includes this one, or last the node's own default, which is the same.
"""
RATES = ('max_rate', 'control_rate')
ARGUMENTS: dict[str, Argument] = {
    'checkpoint': Argument('', 'Checkpoint folder; empty is the demo checkpoint.'),
    'profile': Argument(
        '',
        'Profile of a published checkpoint whose folder was renamed: a name in config/models, or '
        'the path of a YAML file. Empty: by the path of the folder.',
    ),
    'robot': Argument('sim_panda', 'Robot: a name in config/robots, or the path of a YAML file.'),
    'instruction': Argument('', 'First sentence to follow; later ones come on the topic.'),
    'sim': Argument(
        'auto', 'Start the simulated arm; auto: only for sim_ robots.', ('auto', *BOOLEAN)
    ),
    'mock': Argument(
        'none',
        "Start a strict mock of the robot's controller: sim moves the simulated arm, which has "
        'seven joints; nothing publishes joint states alone.',
        ('none', 'sim', 'nothing'),
    ),
    'policy': Argument(
        'true',
        'Start the policy, with the world model beside it where imagine is true; false leaves '
        'both to another machine.',
        BOOLEAN,
    ),
    'imagine': Argument('true', 'Start the world model beside the policy.', BOOLEAN),
    'input': Argument(
        'images',
        'What policy and world model take: camera images, or the image_tokens of a tokenizer.',
        ('images', 'tokens'),
    ),
    'image_transport': Argument(
        'raw',
        'How camera images come: on the topic of the camera, or on topic/compressed.',
        ('raw', 'compressed'),
    ),
    'camera_size': Argument(
        '',
        'Size of the images, such as 640x480; empty: as the robot description says, and beside a '
        'simulated arm as its camera has it.',
    ),
    'tokenizer': Argument('false', 'Start the tokenizer: camera images to image_tokens.', BOOLEAN),
    'detokenizer': Argument('false', 'Start the detokenizer: image_tokens to images.', BOOLEAN),
    'action_player': Argument(
        'true', 'Start the action player; false leaves it to another machine.', BOOLEAN
    ),
    'output': Argument(
        '',
        'Kind of command that the player sends; empty: as the robot description says.',
        ('', *OUTPUTS),
    ),
    'gripper': Argument(
        '',
        'How the gripper is commanded; empty: as the robot description says, and with a mock by a '
        'width, which needs no further packages.',
        ('', *GRIPPERS),
    ),
    'dry_run': Argument(
        'auto',
        'Judge chunks and send nothing until ~/enable; auto: as the robot description says.',
        ('auto', *BOOLEAN),
    ),
    'instruction_server': Argument(
        'false', 'Start the server of the action execute_instruction.', BOOLEAN
    ),
    'device': Argument('cpu', 'Torch device of the model, for example cpu or cuda:0.'),
    'dtype': Argument('auto', 'Precision of the weights, for example bfloat16 or int8.'),
    'task': Argument('pick', 'Task of the first simulated scene.', ('pick', 'push', 'put')),
    'seed': Argument('8000', 'Seed of the first simulated scene.'),
    'shadow': Argument(
        'false',
        'Start, instead of the player, what compares chunks with another controller.',
        BOOLEAN,
    ),
    'record': Argument('', 'Folder for an MCAP bag of the run; empty records nothing.'),
    'params_file': Argument(
        '',
        'YAML file with node parameters, read after config/nodes/worldvla.yaml; what it leaves '
        'out keeps the value of that file.',
    ),
    'max_rate': Argument('', 'Action chunks per second [Hz]; empty: by the parameter files.'),
    'control_rate': Argument('', 'Commands per second [Hz]; empty: by the parameter files.'),
    'autostart': Argument(
        'true', 'Configure and activate the nodes; false leaves that to a manager.', BOOLEAN
    ),
    'stop_together': Argument(
        'true', 'Stop the launch with an error where one of its nodes ends.', BOOLEAN
    ),
    'namespace': Argument('', 'Namespace of all nodes.'),
    'enclaves': Argument(
        '', 'Where the SROS2 enclaves of the executables lie, such as /worldvla; empty uses none.'
    ),
    **{
        f'{topic}_topic': Argument(topic, f'Topic of the {carries}.')
        for topic, carries in TOPICS.items()
    },
    'use_sim_time': Argument('false', 'Follow /clock.', BOOLEAN),
    'publish_clock': Argument(
        'auto',
        'Publish /clock from the simulated arm; auto: where use_sim_time is true.',
        ('auto', *BOOLEAN),
    ),
    'log_level': Argument('info', 'Log level.', ('debug', 'info', 'warn', 'error', 'fatal')),
    'rviz': Argument('false', 'Start RViz with the shipped layout.', BOOLEAN),
    'view': Argument('false', 'Serve a page that shows the arm and takes orders.', BOOLEAN),
    'view_port': Argument('8080', 'First port that the page tries.'),
}
NAME = r'[A-Za-z_][A-Za-z0-9_]*'
NAMESPACE = re.compile(rf'/?|/?{NAME}(/{NAME})*/?')
ENCLAVES = re.compile(rf'(/{NAME})+/?')
TOPIC = re.compile(rf'/?{NAME}(/{NAME})*')
SIZE = re.compile('[1-9][0-9]{0,4}x[1-9][0-9]{0,4}')
POSITIVE = re.compile(r'(?=.*[1-9])[0-9]{1,6}(\.[0-9]{1,6})?')


@dataclass(frozen=True)
class NodeSpec:
    """One node to start.

    Attributes:
        executable: Name under lib/<package>, see nodes.txt; or a program of another package.
        name: Node name, empty where the executable holds several nodes.
        package: ROS package of the executable.
        namespace: Namespace.
        parameters: Node parameters.
        defaults_file: The shipped YAML file with parameters; whatever else sets them wins.
        parameter_file: YAML file with further parameters, which `parameters` override.
        remappings: (from, to) pairs.
        arguments: Further command-line arguments.
        log_level: Log level, empty for that of the program.
        enclave: SROS2 enclave of the process, see config/security; empty for none.
        required: Whether the graph ends when this node does.
    """

    executable: str
    name: str = ''
    package: str = 'worldvla_ros'
    namespace: str = ''
    parameters: Mapping[str, object] = field(default_factory=dict)
    defaults_file: str = ''
    parameter_file: str = ''
    remappings: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ()
    log_level: str = ''
    enclave: str = ''
    required: bool = True

    @property
    def label(self) -> str:
        """What tells the node from others of a graph: its executable, after its namespace."""
        return '/'.join(part for part in (self.namespace.strip('/'), self.executable) if part)

    def ros_arguments(self) -> list[str]:
        """Return the ROS arguments that come before all others, so that any other value wins."""
        level = ['--log-level', self.log_level] if self.log_level else []
        level += ['--enclave', self.enclave] if self.enclave else []
        return level + (['--params-file', self.defaults_file] if self.defaults_file else [])


def resolve(arguments: Mapping[str, str]) -> dict[str, str]:
    """Return all arguments, given ones over defaults.

    Raises:
        ConfigError: An argument is unknown or its value is not allowed.
    """
    for name, value in arguments.items():
        if name not in ARGUMENTS:
            raise ConfigError(
                f'launch argument {name!r}', expected=f'one of {", ".join(ARGUMENTS)}'
            )
        choices = ARGUMENTS[name].choices
        if choices and value not in choices:
            raise _refusal(name, ' or '.join(c or 'nothing' for c in choices), value)
    chosen = {name: argument.default for name, argument in ARGUMENTS.items()} | dict(arguments)
    _check_values(chosen)
    return chosen


def _check_values(chosen: Mapping[str, str]) -> None:
    """Raise ConfigError where a number, a ROS name or a file is wrong."""
    for name in ('seed', 'view_port'):
        if not (chosen[name].isascii() and chosen[name].isdecimal()):
            raise _refusal(name, 'a whole number', chosen[name])
    for name in RATES:
        if chosen[name] and not POSITIVE.fullmatch(chosen[name]):
            raise _refusal(name, 'a positive number such as 20 or 7.5', chosen[name])
    words = 'letters, digits and underscores, none beginning with a digit, joined by slashes'
    if not NAMESPACE.fullmatch(chosen['namespace']):
        raise _refusal('namespace', words, chosen['namespace'])
    if chosen['enclaves'] and not ENCLAVES.fullmatch(chosen['enclaves']):
        raise _refusal('enclaves', 'a path such as /worldvla', chosen['enclaves'])
    for topic in TOPICS:
        if not TOPIC.fullmatch(chosen[f'{topic}_topic']):
            raise _refusal(f'{topic}_topic', words, chosen[f'{topic}_topic'])
    if chosen['camera_size'] and not SIZE.fullmatch(chosen['camera_size']):
        raise _refusal('camera_size', 'width x height such as 640x480', chosen['camera_size'])
    if chosen['params_file'] and not Path(chosen['params_file']).is_file():
        raise _refusal('params_file', 'an existing YAML file', chosen['params_file'])


def _refusal(name: str, expected: str, got: str) -> ConfigError:
    return ConfigError(f'launch argument {name}', expected=expected, got=repr(got))


def describe(arguments: Mapping[str, str]) -> list[NodeSpec]:
    """Return the nodes of a launch.

    Raises:
        ConfigError: An argument is unknown or its value is not allowed.
    """
    chosen = _stand_ins(resolve(arguments))
    nodes = [_sim(chosen)] if _simulated(chosen) else []
    if _mocked(chosen):
        nodes.append(_mock(chosen))
    if chosen['policy'] == 'true':
        nodes.append(_model(chosen))
    # a shadow commands nothing: it and a player never start together
    last = 'shadow' if chosen['shadow'] == 'true' else 'action_player'
    for executable in ('tokenizer', 'detokenizer', last, 'instruction_server'):
        if chosen[executable] == 'true':
            nodes.append(_managed(executable, chosen))
    if chosen['instruction'].strip():
        nodes.append(replace(_plain('say', chosen), arguments=(chosen['instruction'],)))
    if chosen['record']:
        nodes.append(_managed('recorder', chosen, folder=chosen['record']))
    if chosen['view'] == 'true':
        nodes += _view(chosen)
    if chosen['rviz'] == 'true':
        nodes.append(_rviz(chosen))
    return nodes


def _stand_ins(chosen: dict[str, str]) -> dict[str, str]:
    """Return the arguments with what follows from a mock, or a simulation, of a real robot."""
    implied = {'gripper': 'width'} if _mocked(chosen) else {}
    if _simulated(chosen) and not _is_sim(chosen):
        implied['camera_size'] = SIMULATED
    return chosen | {name: value for name, value in implied.items() if not chosen[name]}


def _is_sim(chosen: Mapping[str, str]) -> bool:
    return Path(chosen['robot']).stem.startswith('sim_')


def _mocked(chosen: Mapping[str, str]) -> bool:
    return chosen['mock'] != 'none'


def _simulated(chosen: Mapping[str, str]) -> bool:
    moved = _is_sim(chosen) or chosen['mock'] == 'sim'
    return chosen['sim'] == 'true' or (chosen['sim'] == 'auto' and moved)


def _mock(chosen: Mapping[str, str]) -> NodeSpec:
    """Return the mocked controller, which takes what the player sends."""
    kind = {'kind': chosen['output']} if chosen['output'] else {}
    return _managed('mock_controller', chosen, drives=chosen['mock'], **kind)


def _sim(chosen: Mapping[str, str]) -> NodeSpec:
    """Return the simulated arm; it is the clock of a graph that follows one."""
    own = {} if _is_sim(chosen) else {'publish_frames': False}  # they would be another arm's
    if chosen['publish_clock'] != 'auto':
        own['publish_clock'] = chosen['publish_clock'] == 'true'
    elif chosen['use_sim_time'] == 'true':
        own['publish_clock'] = True
    return _managed('sim', chosen, **own)


def _model(chosen: Mapping[str, str]) -> NodeSpec:
    """Return the policy, or one process of policy and world model, which keep their names."""
    if chosen['imagine'] == 'true':
        return replace(_managed('model', chosen), name='')
    return _managed('policy', chosen)


def _view(chosen: Mapping[str, str]) -> list[NodeSpec]:
    """Return the viewer, and where nothing is recorded a recorder that its page can start."""
    alone = {'end_on_failure': False}  # the arm does not depend on who looks
    nodes = [_managed('viewer', chosen, port=int(chosen['view_port']), **alone)]
    if not chosen['record']:
        nodes.append(_managed('recorder', chosen, folder=RECORDING, autostart=False, **alone))
    return [replace(node, required=False) for node in nodes]


def _rviz(chosen: Mapping[str, str]) -> NodeSpec:
    layout = str(share_folder() / 'config/rviz/worldvla.rviz')
    parameters = _parameters(('use_sim_time',), chosen)
    return replace(
        _plain('rviz2', chosen), package='rviz2', arguments=('-d', layout),
        parameters=parameters, required=False,
    )  # fmt: skip


def _managed(executable: str, chosen: Mapping[str, str], **further: object) -> NodeSpec:
    """Return a life-cycle node with its parameters and their files."""
    common = {'end_on_failure': True} if chosen['stop_together'] == 'true' else {}
    own = _parameters((*COMMON, *PARAMETERS[executable]), chosen)
    if executable == 'action_player' and chosen['dry_run'] != 'auto':
        own['enabled'] = chosen['dry_run'] == 'false'
    if executable == 'action_player' and _mocked(chosen):
        own['servo_told'] = True  # of a mock, which without moveit_msgs cannot be told
    return replace(
        _plain(executable, chosen),
        parameters=common | own | further,
        defaults_file=str(share_folder() / 'config/nodes/worldvla.yaml'),
        parameter_file=chosen['params_file'],
    )


def _plain(executable: str, chosen: Mapping[str, str]) -> NodeSpec:
    """Return a node in the namespace, with the remappings and the log level of the launch."""
    renamed = ((topic, chosen[f'{topic}_topic']) for topic in TOPICS)
    return NodeSpec(
        executable,
        executable,
        namespace=chosen['namespace'],
        remappings=tuple((topic, target) for topic, target in renamed if topic != target),
        log_level='' if chosen['log_level'] == 'info' else chosen['log_level'],
        enclave=f'{chosen["enclaves"].rstrip("/")}/{executable}' if chosen['enclaves'] else '',
        required=chosen['stop_together'] == 'true',
    )


def _parameters(names: Iterable[str], chosen: Mapping[str, str]) -> dict[str, object]:
    """Return the parameters of those arguments that are not at their default."""
    given = (name for name in names if chosen[name] != ARGUMENTS[name].default)
    return {name: _value(name, chosen[name]) for name in given}


def _value(name: str, text: str) -> object:
    """Return an argument as the type that its parameter has."""
    if ARGUMENTS[name].choices == BOOLEAN:
        return text == 'true'
    if name in RATES:
        return float(text)
    return int(text) if name == 'seed' else text
