"""Which nodes a launch starts: one description as plain data, for two runners.

    describe(arguments) ─┬─ launch/policy.launch.py   where the `ros2` command is
                         └─ up(arguments)             anywhere: the same nodes as processes

Knows executables, parameters and remappings. Must not know rclpy, launch or what a node does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TextIO

from worldvla_ros.errors import ConfigError
from worldvla_ros.share import share_folder

STOP_TIMEOUT_S = 8.0
MODULES = {
    'policy': 'worldvla_ros.nodes.policy',
    'world_model': 'worldvla_ros.nodes.world_model',
    'model': 'worldvla_ros.nodes.model',
    'action_player': 'worldvla_ros.nodes.action_player',
    'sim': 'worldvla_ros.nodes.sim',
    'recorder': 'worldvla_ros.nodes.recorder',
    'say': 'worldvla_ros.nodes.say',
}


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


def command(node: NodeSpec) -> list[str]:
    """Return the command line that starts a node without the `ros2` command."""
    own = node.package == 'worldvla_ros'
    program = [sys.executable, '-m', MODULES[node.executable]] if own else [node.executable]
    line = [*program, *node.arguments, '--ros-args']
    if node.parameter_file:
        line += ['--params-file', node.parameter_file]
    for name, value in node.parameters.items():
        line += ['-p', f'{name}:={_yaml(value)}']
    if node.namespace:
        line += ['-r', f'__ns:=/{node.namespace.strip("/")}']
    if node.name:
        line += ['-r', f'__node:={node.name}']
    for source, target in node.remappings:
        line += ['-r', f'{source}:={target}']
    return line


def _yaml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) else str(value)


class Processes:
    """The nodes of a launch as child processes of this one."""

    def __init__(self, nodes: list[NodeSpec], output: TextIO | None = None) -> None:
        """Start all; their output goes line by line, prefixed, to `output` (stderr by default)."""
        self._output = output or sys.stderr
        environment = dict(os.environ, PYTHONUNBUFFERED='1')
        self.children = {
            node.executable: subprocess.Popen(
                command(node),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors='replace',
                env=environment,
                start_new_session=True,
            )
            for node in nodes
        }
        self._readers = [
            threading.Thread(target=self._relay, args=item, daemon=True)
            for item in self.children.items()
        ]
        for reader in self._readers:
            reader.start()

    def dead(self) -> dict[str, int]:
        """Return the exit status of each child that has ended."""
        found = {name: child.poll() for name, child in self.children.items()}
        return {name: code for name, code in found.items() if code is not None}

    def peak_memory_mb(self) -> float:
        """Return the sum of the peak memory of each living child [MB]; 0 without /proc."""
        total = 0
        for child in self.children.values():
            status = Path(f'/proc/{child.pid}/status')
            if status.is_file():
                found = re.search(r'VmHWM:\s+(\d+)', status.read_text())
                total += int(found[1]) if found else 0
        return total / 1024

    def stop(self) -> dict[str, int]:
        """End all children, with SIGKILL where SIGINT did not help; return their exit status."""
        for child in self.children.values():
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for child in self.children.values():
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for reader in self._readers:
            reader.join(1.0)
        return {name: child.returncode for name, child in self.children.items()}

    def _relay(self, name: str, child: subprocess.Popen) -> None:
        for line in child.stdout:
            self._output.write(f'[{name}] {line}')
            self._output.flush()


def up(arguments: Mapping[str, str]) -> int:
    """Run the nodes of a launch until SIGINT, SIGTERM or the death of one.

    Returns:
        0 after a signal, 1 where a node died.

    Raises:
        ConfigError: An argument is unknown or not among its choices.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    processes = Processes(describe(arguments))
    while not stop.is_set() and not processes.dead():
        stop.wait(0.2)
    dead = processes.dead()
    for name, code in dead.items():
        sys.stderr.write(f'{name} ended with status {code}; stopping the others\n')
    processes.stop()
    return 1 if dead else 0
