"""The demonstration: the whole graph, three sentences, and what came of it.

Starts the nodes of `worldvla_ros.graph` as processes, has them spoken to, and makes figures and
pictures of what they published.
"""

from pathlib import Path
import shutil
import sys
import time
from typing import TextIO

import rclpy

from worldvla_ros.checkpoint.folder import demo_path, read_spec
from worldvla_ros.demo.report import write_report
from worldvla_ros.graph import NodeSpec, describe
from worldvla_ros.nodes.demo_client import DemoClient, GraphError
from worldvla_ros.nodes.demo_sample import Sample
from worldvla_ros.processes.discovery import stay_on_this_machine
from worldvla_ros.processes.supervisor import Processes

SCENES = (
    ('pick', 'pick up the red cube'),
    ('push', 'push the blue cube to the left'),
    ('pick', 'please grab the yellow block'),
)
FIRST_SEED = 8000
START_TIMEOUT_S = 90.0


def run_demo(out: Path, seed: int | None = None, checkpoint: str = '') -> int:
    """Run the demonstration and write video, strip, bag and table.

    Args:
        out: Folder to write to; what an earlier run left there is replaced.
        seed: Scene of the first sentence.
        checkpoint: Checkpoint folder; empty is the demo checkpoint.

    Returns:
        0 if every node lived, every sentence brought chunks and imagined images, and the arm did
        what at least one of them says; else 1.

    Raises:
        WorldVLAError: The checkpoint cannot be used.
    """
    spec = read_spec(checkpoint or demo_path())
    bag = out / 'bag'
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(bag, ignore_errors=True)
    # no graph on another machine may hear the demonstration, nor be held and enabled by it
    stay_on_this_machine()
    nodes = describe({'checkpoint': checkpoint, 'record': str(bag)})
    _say('Starting the graph: ' + ', '.join(n.executable for n in nodes))
    try:
        with (out / 'log.txt').open('w') as log:
            first_seed = FIRST_SEED if seed is None else seed
            samples, memory = _run_graph(nodes, log, first_seed)
    except GraphError as error:
        _say(f'The graph failed: {error}\nSee {out / "log.txt"}')
        return 1
    _say('Making video and pictures')
    per_image = spec.world.actions_per_image
    stride_s = per_image * spec.action.dt
    return write_report(out, samples, stride_s, spec.action.horizon // per_image, memory)


def _run_graph(nodes: list[NodeSpec], log: TextIO, seed: int) -> tuple[list[Sample], float]:
    """Run the graph and give it all sentences; return what came and the peak memory [MB].

    Raises:
        GraphError: A node ended, reported an error or did not answer.
    """
    processes = Processes(nodes, log)
    try:
        rclpy.init()
        client = DemoClient()
        try:
            return _perform(client, processes, seed), processes.peak_memory_mb()
        finally:
            client.destroy_node()
    finally:
        rclpy.try_shutdown()
        processes.stop()


def _perform(client: DemoClient, processes: Processes, seed: int) -> list[Sample]:
    """Give all sentences, one after another."""

    def alive() -> None:
        dead = processes.dead()
        if dead or client.errors:
            raise GraphError('; '.join([*client.errors, *(f'{n} ended' for n in dead)]))

    start = time.monotonic()
    while not client.ready():
        alive()
        if time.monotonic() - start > START_TIMEOUT_S:
            raise GraphError(f'not ready after {START_TIMEOUT_S:.0f} s', remedy='See log.txt.')
        client.spin(0.2)
    _say(f'Ready after {time.monotonic() - start:.1f} s')
    samples = []
    for index, (task, sentence) in enumerate(SCENES):
        client.begin(task, sentence, seed + index)
        _say(f'"{sentence}" …', end=' ')
        sample = client.watch(alive)
        samples.append(sample)
        found = sample.time_to_success
        outcome = 'not reached' if found is None else f'done in {found:.1f} s'
        _say(f'{outcome}; {len(sample.chunks)} chunks, {len(sample.imagined)} images imagined')
    return samples


def _say(text: str, end: str = '\n') -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()
