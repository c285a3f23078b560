"""One copy of the weights and one thread for all nodes of a process.

Knows loading and devices. Must not know what the nodes do with the weights.
"""

from collections.abc import Callable

import torch

from worldvla_ros.checkpoint.folder import Checkpoint, demo_path, load
from worldvla_ros.errors import ConfigError
from worldvla_ros.nodes.runtime import ManagedNode, declare
from worldvla_ros.nodes.worker import Task, Worker


class ModelHost:
    """Loads a checkpoint once, and runs the worker that uses it."""

    def __init__(self) -> None:
        """Load nothing yet."""
        self._loaded: tuple[tuple[str, ...], Checkpoint] | None = None
        self._on_death_callbacks: list[Callable[[str], None]] = []
        self.worker = Worker(self._on_death)

    def checkpoint(self, node: ManagedNode) -> Checkpoint:
        """Return the checkpoint that a node's parameters name.

        Raises:
            CheckpointError: The folder is missing, damaged or foreign.
            ConfigError: The device or the profile is not there, or the precision is not for it.
            MissingDependencyError: The precision needs torchao, which is not installed.
        """
        path = str(
            declare(node, 'checkpoint', '', 'checkpoint folder; empty is the demo checkpoint')
        )
        profile = str(
            declare(node, 'profile', '', 'name or YAML file of a renamed published folder')
        )
        device = str(declare(node, 'device', 'cpu', 'torch device, for example cpu or cuda:0'))
        dtype = str(
            declare(
                node, 'dtype', 'auto', 'auto, float32, bfloat16, float16, int8, int4 or float8'
            )
        )
        threads = declare(node, 'threads', 1, 'CPU threads of torch', 1, 256)
        key = (path or str(demo_path()), device, dtype, profile)
        if self._loaded is None or self._loaded[0] != key:
            torch.set_num_threads(threads)
            self._loaded = (key, load(key[0], _device(device), dtype, profile or None))
        return self._loaded[1]

    def watch(self, on_death: Callable[[str], None]) -> None:
        """Call a node back with the traceback if the worker dies."""
        self._on_death_callbacks.append(on_death)

    def _on_death(self, trace: str) -> None:
        for callback in self._on_death_callbacks:
            callback(trace)


class ModelNode(ManagedNode):
    """A node that thinks in a host's worker; nodes of one process share a host."""

    def __init__(self, name: str, host: ModelHost | None) -> None:
        """Create the node, with a host of its own if none is given."""
        super().__init__(name)
        self._host = host or ModelHost()
        self._host.watch(self._on_death)
        self._task: Task | None = None

    def clean_up(self) -> None:
        """Stop listening and leave the worker."""
        if self._task is not None:
            self._host.worker.remove(self._task)
            self._task = None
        super().clean_up()

    def close(self) -> None:
        """Stop the worker with the node."""
        super().close()
        self._host.worker.stop()

    def _on_death(self, trace: str) -> None:
        self.end_process(f'its worker died: {trace}')


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f'parameter device: {name!r} cannot be used: {str(error).splitlines()[0]}',
            expected='cpu, or cuda:N on a machine with a GPU',
            remedy='Set device to cpu.',
        ) from error
    return device
