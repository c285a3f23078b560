"""The graph under attack: the nodes as processes, started as `worldvla up` starts them.

Each node can be signalled, ended and started alone. The camera, the joints and the clock of the
simulated arm are renamed to truth/…, so that what the others hear passes through `hands`; so are
the trajectories that it hears, which a controller takes by the clock of its graph.
"""

from collections.abc import Mapping
from dataclasses import replace
import os
from pathlib import Path
import re
import threading
import time

from worldvla_ros.graph import NodeSpec, describe
from worldvla_ros.package_files import share_folder
from worldvla_ros.processes.supervisor import Processes

RELAYED = ('image', 'wrist_image', 'joint_states', '/clock', 'joint_trajectory')
TRACEBACK = 'Traceback (most recent call last)'


class Log:
    """What all processes print: lines, in the order in which they came."""

    def __init__(self) -> None:
        """Start empty."""
        self.lines: list[str] = []
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        """Take a line."""
        with self._lock:
            self.lines += text.splitlines()

    def flush(self) -> None:
        """Nothing waits."""

    def tracebacks(self, since: int) -> list[str]:
        """Return what ended each traceback from a line on: the exception's own line."""
        found = []
        for number in range(since, len(self.lines)):
            if TRACEBACK in self.lines[number]:
                found.append(_ending(self.lines[number : number + 60]))
        return found


def _ending(lines: list[str]) -> str:
    """Return the first line after a traceback's stack, without the name of its process."""
    bare = [re.sub(r'^\[\w+\] ', '', line) for line in lines]
    return next((line for line in bare[1:] if line and not line.startswith((' ', '\t'))), 'cut')


class Graph:
    """Processes by the name of their executable."""

    def __init__(self, arguments: Mapping[str, str], log: Log, *, start: bool = True) -> None:
        """Describe the nodes, and start them if asked to."""
        self.log = log
        self._specs = {spec.executable: _changed(spec) for spec in describe(arguments)}
        self._running: dict[str, Processes] = {}
        if start:
            self.start()

    @property
    def names(self) -> list[str]:
        """The executables."""
        return list(self._specs)

    def start(self, *names: str) -> None:
        """Start nodes, by default all of them."""
        for name in names or self._specs:
            self._running[name] = Processes([self._specs[name]], self.log)  # type: ignore[arg-type]

    def pid(self, name: str) -> int:
        """Return the process of a node, which is also its process group."""
        return self._running[name].children[name].pid

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a node."""
        os.kill(self.pid(name), number)

    def dead(self) -> dict[str, int]:
        """Return the exit status of each node that has ended."""
        return {n: code for p in self._running.values() for n, code in p.ended().items()}

    def wait_dead(self, name: str, timeout_s: float = 20.0) -> int | None:
        """Wait for the end of a node; return its exit status, None where it lives on."""
        end = time.monotonic() + timeout_s
        while name not in self.dead() and time.monotonic() < end:
            time.sleep(0.02)
        return self.dead().get(name)

    def revive(self) -> list[str]:
        """Start those that have ended; return their names."""
        ended = list(self.dead())
        for name in ended:
            self._running.pop(name).stop()
        if ended:
            self.start(*ended)
        return ended

    def stop_node(self, name: str) -> int:
        """End a node in order; return its exit status."""
        return self._running.pop(name).stop()[name]

    def stop(self) -> dict[str, int]:
        """End all nodes; return their exit status."""
        return {n: code for p in self._running.values() for n, code in p.stop().items()}

    def memory_mb(self) -> float:
        """Return the sum of the peak memory of all nodes [MB]."""
        return sum(p.peak_memory_mb() for p in self._running.values())


def _changed(spec: NodeSpec) -> NodeSpec:
    """Return a node that neither ends the others nor, if it is the arm, speaks to them itself."""
    if spec.executable != 'sim':
        return replace(spec, required=False)
    renamed = tuple((topic, f'/truth/{topic.strip("/")}') for topic in RELAYED)
    return replace(spec, required=False, remappings=(*spec.remappings, *renamed))


def isolate(domain: int) -> None:
    """Keep all processes from now on to themselves, on the loopback interface."""
    os.environ['ROS_DOMAIN_ID'] = str(domain)
    # LOCALHOST would choose transports by itself, and shared memory among them
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'SYSTEM_DEFAULT'
    os.environ['FASTDDS_DEFAULT_PROFILES_FILE'] = str(share_folder() / 'config/dds/loopback.xml')
    os.environ.setdefault('OMP_NUM_THREADS', '1')


def robot_file() -> Path:
    """Return the description of the simulated arm."""
    return Path(__file__).parent.parent.parent / 'config/robots/sim_panda.yaml'
