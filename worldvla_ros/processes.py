"""Starts the nodes of a launch as child processes, where there is no `ros2` command.

Knows command lines and signals. Must not know rclpy or what a node does.
"""

from collections.abc import Mapping
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TextIO

from worldvla_ros.graph import NodeSpec, describe

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
