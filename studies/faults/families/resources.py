"""Resources: cores, memory and priority taken away while the arm moves."""

from collections.abc import Callable
import os
from pathlib import Path
import resource
import subprocess
import sys
import time

import numpy as np

from studies.faults.fault import Fault
from studies.faults.trial import Scene

BUSY = 'while True: pass'
TAKE_MEMORY = 'b = bytearray(1 << 30)\nfor i in range(0, len(b), 4096): b[i] = 1\nprint(len(b))'


def _hogs(count: int) -> Callable[[Scene], None]:
    def inject(scene: Scene) -> None:
        scene.kept['hogs'] = [subprocess.Popen([sys.executable, '-c', BUSY]) for _ in range(count)]

    return inject


def _no_hogs(scene: Scene) -> None:
    for hog in scene.kept.pop('hogs'):
        hog.kill()
        hog.wait()


def _nice(*nodes: str) -> Callable[[Scene], None]:
    """Return an injection: nodes come last, and two others take the cores."""

    def inject(scene: Scene) -> None:
        for node in nodes:
            for thread in Path(f'/proc/{scene.graph.pid(node)}/task').iterdir():
                os.setpriority(os.PRIO_PROCESS, int(thread.name), 10)
        _hogs(2)(scene)

    return inject


def _in_turn_again(*nodes: str) -> Callable[[Scene], None]:
    def remove(scene: Scene) -> None:
        _no_hogs(scene)
        for node in nodes:
            for thread in Path(f'/proc/{scene.graph.pid(node)}/task').iterdir():
                os.setpriority(os.PRIO_PROCESS, int(thread.name), 0)

    return remove


def _no_memory(node: str) -> Callable[[Scene], None]:
    """Return an injection: a node may take 16 MB more, and gets chunks of 20 000 actions."""

    def inject(scene: Scene) -> None:
        pid = scene.graph.pid(node)
        pages = int(Path(f'/proc/{pid}/statm').read_text().split()[0])
        most = pages * resource.getpagesize() + (16 << 20)
        resource.prlimit(pid, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        big = scene.hands.chunk(np.zeros((20000, 7), np.float32))
        for _ in range(5):
            scene.hands.say(big, 'action_chunk')
            time.sleep(0.1)

    return inject


def _memory_again(node: str) -> Callable[[Scene], None]:
    def remove(scene: Scene) -> None:
        free = resource.RLIM_INFINITY
        resource.prlimit(scene.graph.pid(node), resource.RLIMIT_AS, (free, free))

    return remove


def _take_memory(scene: Scene) -> None:
    subprocess.run([sys.executable, '-c', TAKE_MEMORY], check=True, capture_output=True)


def _no_files(scene: Scene) -> None:
    """Let the player open nothing more, and have publishers come that it must find."""
    limits = (3, resource.prlimit(scene.graph.pid('action_player'), resource.RLIMIT_NOFILE)[1])
    resource.prlimit(scene.graph.pid('action_player'), resource.RLIMIT_NOFILE, limits)
    made = scene.hands.node.create_publisher(type(scene.hands.chunk()), 'action_chunk', 10)
    for _ in range(5):
        made.publish(scene.hands.chunk())
        time.sleep(0.1)
    scene.hands.node.destroy_publisher(made)


def _files_again(scene: Scene) -> None:
    pid = scene.graph.pid('action_player')
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


FAULTS = [
    Fault('four processes take the cores', 'busy loops', _hogs(4), remove=_no_hogs, quiet=True,
          lasts_s=2.0),
    Fault('four processes take the cores, policy', 'busy loops', _hogs(4), remove=_no_hogs,
          quiet=True, source='policy', lasts_s=2.0),
    Fault('four processes take the cores, trajectory', 'busy loops', _hogs(4), remove=_no_hogs,
          quiet=True, output='trajectory', lasts_s=2.0),
    Fault('the player comes last', 'nice 10 and two busy loops', _nice('action_player'),
          remove=_in_turn_again('action_player'), quiet=True, lasts_s=2.0),
    Fault('the arm comes last', 'nice 10 and two busy loops', _nice('sim'),
          remove=_in_turn_again('sim'), quiet=True, lasts_s=2.0),
    Fault('1 GiB of memory taken', 'by another process', _take_memory, quiet=True),
    Fault('no more memory for the player', 'RLIMIT_AS 16 MB above its size, large chunks',
          _no_memory('action_player'), remove=_memory_again('action_player'), quiet=True),
    Fault('no more files for the player', 'RLIMIT_NOFILE 3', _no_files, remove=_files_again),
]  # fmt: skip
