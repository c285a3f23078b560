"""Which nodes a launch starts: one description as plain data, for two runners.

    describe(arguments) ─┬─ launch/policy.launch.py   where the `ros2` command is
                         └─ processes.up(arguments)   anywhere: the same nodes as processes

Knows executables, parameters and remappings. Must not know rclpy, launch or what a node does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from worldvla_ros.errors import ConfigError
from worldvla_ros.package_files import share_folder


@dataclass(frozen=True)
class Argument:
    """A launch argument: default, description, and choices where they are few."""

    default: str
    description: str
    choices: tuple[str, ...] = ()


BOOLEAN = ('true', 'false')
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
    'imagine': Argument('true', 'Start the world model beside the policy.', BOOLEAN),
    'output': Argument('twist', 'Command that the player sends.', ('twist', 'trajectory')),
    'device': Argument('cpu', 'Torch device of the model, for example cpu or cuda:0.'),
    'dtype': Argument('auto', 'Precision of the weights, for example bfloat16 or int8.'),
    'task': Argument('pick', 'Task of the first simulated scene.', ('pick', 'push', 'put')),
    'seed': Argument('8000', 'Seed of the first simulated scene.'),
    'record': Argument('', 'Folder for an MCAP bag of the run; empty records nothing.'),
    'namespace': Argument('', 'Namespace of all nodes.'),
    'use_sim_time': Argument('false', 'Follow /clock.', BOOLEAN),
    'rviz': Argument('false', 'Start RViz with the shipped layout.', BOOLEAN),
}


@dataclass(frozen=True)
class NodeSpec:
    """One node to start.

    Attributes:
        executable: Name under lib/<package>, see nodes.txt; or a program of another package.
        name: Node name, empty where the executable holds several nodes.
        package: ROS package of the executable.
        namespace: Namespace.
        parameters: Node parameters.
        parameter_file: YAML file with further parameters, which `parameters` override.
        remappings: (from, to) pairs.
        arguments: Further command-line arguments.
    """

    executable: str
    name: str = ''
    package: str = 'worldvla_ros'
    namespace: str = ''
    parameters: Mapping[str, object] = field(default_factory=dict)
    parameter_file: str = ''
    remappings: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ()


def resolve(arguments: Mapping[str, str]) -> dict[str, str]:
    """Return all arguments, given ones over defaults.

    Raises:
        ConfigError: An argument is unknown, not among its choices, or no number where it must be.
    """
    for name, value in arguments.items():
        if name not in ARGUMENTS:
            raise ConfigError(
                f'launch argument {name!r}', expected=f'one of {", ".join(ARGUMENTS)}'
            )
        choices = ARGUMENTS[name].choices
        if choices and value not in choices:
            raise ConfigError(
                f'launch argument {name}', expected=' or '.join(choices), got=repr(value)
            )
    chosen = {name: argument.default for name, argument in ARGUMENTS.items()} | dict(arguments)
    if not chosen['seed'].isdecimal():
        raise ConfigError(
            'launch argument seed', expected='a whole number', got=repr(chosen['seed'])
        )
    return chosen


def describe(arguments: Mapping[str, str]) -> list[NodeSpec]:
    """Return the nodes of a launch.

    Raises:
        ConfigError: An argument is unknown or not among its choices.
    """
    chosen = resolve(arguments)
    sim = chosen['sim'] == 'true' or (
        chosen['sim'] == 'auto' and Path(chosen['robot']).stem.startswith('sim_')
    )
    common = {'use_sim_time': chosen['use_sim_time'] == 'true'}
    robot = common | {'robot': chosen['robot']}
    told = ('checkpoint', 'profile', 'device', 'dtype')
    model = robot | {name: chosen[name] for name in told}
    imagine = chosen['imagine'] == 'true'
    nodes = [
        _node('model' if imagine else 'policy', '' if imagine else 'policy', chosen, model),
        _node('action_player', 'action_player', chosen, robot | {'output': chosen['output']}),
    ]
    if sim:
        scene = {'task': chosen['task'], 'seed': int(chosen['seed'])}
        nodes.insert(0, _node('sim', 'sim', chosen, common | scene))
    if chosen['instruction'].strip():
        words = (chosen['instruction'],)
        nodes.append(NodeSpec('say', 'say', namespace=chosen['namespace'], arguments=words))
    if chosen['record']:
        nodes.append(_node('recorder', 'recorder', chosen, common | {'folder': chosen['record']}))
    if chosen['rviz'] == 'true':
        layout = str(share_folder() / 'config/rviz/worldvla.rviz')
        nodes.append(NodeSpec('rviz2', 'rviz2', 'rviz2', arguments=('-d', layout)))
    return nodes


def _node(
    executable: str, name: str, chosen: Mapping[str, str], parameters: Mapping[str, object]
) -> NodeSpec:
    return NodeSpec(
        executable,
        name,
        namespace=chosen['namespace'],
        parameters=parameters,
        parameter_file=str(share_folder() / 'config/nodes/worldvla.yaml'),
    )
