"""One copy of the weights and one thread for all nodes of a process.

Knows loading and devices. Must not know what the nodes do with the weights. Loading runs in the
executor's thread, everything that uses the weights later in the worker's.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from worldvla_ros.checkpoint.folder import Checkpoint, demo_path, load
from worldvla_ros.checkpoint.tokenizers import Tokenizers, load_tokenizers
from worldvla_ros.errors import ConfigError, MemoryLimitError, WorldVLAError
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
        chosen, dtype = choice(node), precision(node)
        torch.set_num_threads(chosen.threads)
        key = (chosen.folder, chosen.device, dtype, chosen.profile)
        if self._loaded is None or self._loaded[0] != key:
            device = _device(chosen.device)
            self._loaded = (key, load(chosen.folder, device, dtype, chosen.profile or None))
        return self._loaded[1]

    def tokenizers(self, node: ManagedNode) -> Tokenizers:
        """Return the tokenizers, and no more, of the checkpoint that a node's parameters name.

        Raises:
            CheckpointError: The folder is missing, damaged or foreign.
            ConfigError: The device or the profile is not there.
        """
        chosen = choice(node)
        torch.set_num_threads(chosen.threads)
        return load_tokenizers(chosen.folder, _device(chosen.device), chosen.profile or None)

    def watch(self, on_death: Callable[[str], None]) -> None:
        """Call a node back with the traceback if the worker dies."""
        self._on_death_callbacks.append(on_death)

    def _on_death(self, trace: str) -> None:
        for callback in self._on_death_callbacks:
            callback(trace)


@dataclass(frozen=True)
class Choice:
    """Which checkpoint a node uses, and where it computes."""

    folder: str
    profile: str
    device: str
    threads: int


def choice(node: ManagedNode) -> Choice:
    """Declare and read what every node with a checkpoint is told.

    Raises:
        ConfigError: A parameter is wrong.
    """
    folder = declare(node, 'checkpoint', '', 'checkpoint folder; empty is the demo checkpoint')
    return Choice(
        folder=folder or str(demo_path()),
        profile=declare(node, 'profile', '', 'name or YAML file of a renamed published folder'),
        device=declare(node, 'device', 'cpu', 'torch device, for example cpu or cuda:0'),
        threads=declare(node, 'threads', 1, 'CPU threads of torch', 1, 256),
    )


def precision(node: ManagedNode) -> str:
    """Declare and read the precision of a transformer's weights.

    Raises:
        ConfigError: The parameter is wrong.
    """
    names = 'auto, float32, bfloat16, float16, int8, int4 or float8'
    return declare(node, 'dtype', 'auto', names)


class ModelNode(ManagedNode):
    """A node that computes in a host's worker; nodes of one process share a host."""

    NO_ANSWER = 'no answer'
    """How a report begins that there is no answer to one message."""

    def __init__(self, name: str, host: ModelHost | None) -> None:
        """Create the node, with a host of its own if none is given."""
        super().__init__(name)
        self._host = host or ModelHost()
        self._host.watch(self._on_death)
        self._tasks: list[Task] = []
        self.refused = 0
        """Messages without an answer, counted for /diagnostics."""

    def read_parameters(self) -> object:
        """Declare what the host reads; subclasses declare their own as well.

        Raises:
            ConfigError: A parameter is wrong.
        """
        return choice(self)

    def work(self, handler: Callable[[Any], Iterator[None]], *, urgent: bool) -> None:
        """Let the worker handle one kind of this node's items until clean_up."""
        self._tasks.append(self._host.worker.add(handler, self._on_item_error, urgent=urgent))
        self._host.worker.start()

    def hand_over(self, item: object, kind: int = 0) -> None:
        """Leave an item for the worker, replacing one of its kind that still waits.

        Args:
            item: The item.
            kind: Which kind of `work` it is, counted from 0 in the order of their calls.
        """
        if self._tasks:
            self._host.worker.put(self._tasks[kind], item)

    def max_camera_skew(self) -> float:
        """Return the largest time between images of one instant [s], the same for all nodes.

        Raises:
            ConfigError: The parameter is wrong.
        """
        return declare(self, 'max_camera_skew', 0.1, 'largest time between cameras [s]', 0.0, 10.0)

    def now_s(self) -> float:
        """Return the time of the clock that stamps use [s]."""
        return self.get_clock().now().nanoseconds * 1e-9

    def refuse(self, problem: object, key: str) -> None:
        """Report why there is no answer to one message; the next one may have an answer."""
        self.refused += 1
        self.status.warn(f'{self.NO_ANSWER}: {problem}', key=key)

    def clean_up(self) -> None:
        """Leave the worker, once its present step is done, and remove all interfaces."""
        tasks, self._tasks = self._tasks, []
        if not all([self._host.worker.remove(task) for task in tasks]):
            self.status.error('the worker did not end its present step in time')
        super().clean_up()

    def close(self) -> None:
        """Stop the worker with the node."""
        super().close()
        self._host.worker.stop()

    def _on_item_error(self, error: Exception, trace: str) -> None:
        """Report what one item brought about; runs in the worker."""
        if isinstance(error, MemoryLimitError):
            self.fail(error)
        elif isinstance(error, WorldVLAError):
            self.refuse(error, key=error.problem)
        else:
            self.get_logger().error(trace)
            problem = f'{self.NO_ANSWER}: {type(error).__name__}: {error}. See the log'
            self.status.error(problem, key=type(error).__name__, latch=False)

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
