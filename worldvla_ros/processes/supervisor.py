"""Starts the nodes of a launch as child processes, where there is no `ros2` command.

Knows command lines and signals. Must not know rclpy or what a node does.
"""

from collections.abc import Mapping
import contextlib
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TextIO

import yaml

from worldvla_ros.errors import ConfigError
from worldvla_ros.graph import NodeSpec, describe
from worldvla_ros.processes import guardian

STOP_TIMEOUT_S = 8.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL_S = 0.2
MODULES = {
    'policy': 'worldvla_ros.nodes.policy',
    'world_model': 'worldvla_ros.nodes.world_model',
    'model': 'worldvla_ros.nodes.model',
    'tokenizer': 'worldvla_ros.nodes.tokenizer',
    'detokenizer': 'worldvla_ros.nodes.detokenizer',
    'action_player': 'worldvla_ros.nodes.action_player',
    'shadow': 'worldvla_ros.nodes.shadow',
    'instruction_server': 'worldvla_ros.nodes.instruction_server',
    'sim': 'worldvla_ros.nodes.sim',
    'recorder': 'worldvla_ros.nodes.recorder',
    'viewer': 'worldvla_ros.nodes.viewer',
    'say': 'worldvla_ros.nodes.say',
    'mock_controller': 'worldvla_ros.nodes.mock_controller',
}


class _Quoted(yaml.SafeDumper):
    """Writes every string in quotes: what looks like a number or a boolean stays a string."""


_Quoted.add_representer(
    str, lambda dumper, text: dumper.represent_scalar('tag:yaml.org,2002:str', text, style='"')
)


def command(node: NodeSpec) -> list[str]:
    """Return the command line that starts a node without the `ros2` command."""
    own = node.package == 'worldvla_ros'
    program = [sys.executable, '-m', MODULES[node.executable]] if own else [node.executable]
    line = [*program, *node.arguments, '--ros-args', *node.ros_arguments()]
    if node.parameter_file:
        line += ['--params-file', node.parameter_file]
    for name, value in node.parameters.items():
        line += ['-p', f'{name}:={_yaml(value)}']
    if node.namespace.strip('/'):
        line += ['-r', f'__ns:=/{node.namespace.strip("/")}']
    if node.name:
        line += ['-r', f'__node:={node.name}']
    for source, target in node.remappings:
        line += ['-r', f'{source}:={target}']
    return line


def _yaml(value: object) -> str:
    """Return a parameter value as the YAML on one line that a ROS command line takes."""
    text = yaml.dump(
        value, Dumper=_Quoted, default_flow_style=True, width=float('inf'), allow_unicode=True
    )
    return text.removesuffix('...\n').strip()


class Processes:
    """The nodes of a launch as child processes of this one, by their labels.

    Each is a process group of its own, so that Ctrl-C in the terminal reaches it through `stop`
    only. Where this process ends without `stop`, the guardian ends them.
    """

    def __init__(self, nodes: list[NodeSpec], output: TextIO | None = None) -> None:
        """Start all; their output goes line by line, prefixed, to `output` (stderr by default).

        Raises:
            ConfigError: A program is not installed; what had started is stopped again.
        """
        self._output = output or sys.stderr
        self.output_lost = threading.Event()
        self.children: dict[str, subprocess.Popen[str]] = {}
        self._required = {node.label for node in nodes if node.required}
        self._readers: list[threading.Thread] = []
        self._guardian = subprocess.Popen(
            [sys.executable, '-I', '-S', guardian.__file__],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._guardian.stdin is not None
        self._groups = self._guardian.stdin
        try:
            for node in nodes:
                self._start(node)
        except BaseException:  # whatever came between: nothing may live on unattended
            self.stop()
            raise

    def _start(self, node: NodeSpec) -> None:
        try:
            child = subprocess.Popen(
                command(node),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors='replace',
                env=dict(os.environ, PYTHONUNBUFFERED='1'),
                start_new_session=True,
            )
        except OSError as error:
            raise ConfigError(
                f'{node.executable} cannot be started: {error.strerror}',
                remedy=f'Install the package {node.package}, or leave this node out.',
            ) from error
        self.children[node.label] = child
        self._report(f'+{child.pid}')
        reader = threading.Thread(target=self._relay, args=(node.label, child), daemon=True)
        self._readers.append(reader)
        reader.start()

    def ended(self) -> dict[str, int]:
        """Return the exit status of each child that has ended."""
        found = {name: child.poll() for name, child in self.children.items()}
        return {name: code for name, code in found.items() if code is not None}

    def dead(self) -> dict[str, int]:
        """Return the exit status of each child that has ended though the graph needs it."""
        return {name: code for name, code in self.ended().items() if name in self._required}

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
        """End all children, with SIGKILL where SIGTERM did not help; return their exit status.

        SIGTERM, because a Python that is still importing ends by it without a traceback.
        """
        for child in self.children.values():
            if child.poll() is None:
                guardian.send(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for child in self.children.values():
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                guardian.send(child.pid, signal.SIGKILL)
                child.wait()
            self._report(f'-{child.pid}')
        for reader in self._readers:
            reader.join(1.0)
        self._groups.close()
        self._guardian.wait()
        return {name: child.returncode for name, child in self.children.items()}

    def _report(self, change: str) -> None:
        """Tell the guardian of a process group."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: stopped a second time
            self._groups.write(f'{change}\n')
            self._groups.flush()

    def _relay(self, name: str, child: subprocess.Popen[str]) -> None:
        """Pass on what a child prints; without a reader, read on, or the child would block."""
        assert child.stdout is not None
        for line in child.stdout:
            try:
                self._output.write(f'[{name}] {line}')
                self._output.flush()
            except (OSError, ValueError):  # `| head` has ended, or the file is closed
                self.output_lost.set()


def up(arguments: Mapping[str, str]) -> int:
    """Run the nodes of a launch until a signal, the end of a node, or of who reads the output.

    Returns:
        0 after SIGINT, SIGTERM or SIGHUP; 1 where a node ended or the output cannot be written.

    Raises:
        ConfigError: An argument is unknown or its value is not allowed.
    """
    nodes = describe(arguments)
    stop = threading.Event()
    for number in STOP_SIGNALS:
        ignored = signal.getsignal(number) == signal.SIG_IGN
        if number != signal.SIGHUP or not ignored:  # under nohup the graph goes on
            signal.signal(number, lambda *_: stop.set())
    processes = Processes(nodes)
    try:
        while not stop.is_set() and not _over(processes):
            stop.wait(POLL_S)
        ended, dead = processes.ended(), processes.dead()
        for name, code in ended.items():
            with contextlib.suppress(OSError):
                sys.stderr.write(f'{name} ended with status {code}; stopping the others\n')
    finally:
        processes.stop()
    failed = bool(dead) or any(ended.values())
    return 1 if failed or processes.output_lost.is_set() else 0


def _over(processes: Processes) -> bool:
    none_left = len(processes.ended()) == len(processes.children)
    return bool(processes.dead()) or none_left or processes.output_lost.is_set()
