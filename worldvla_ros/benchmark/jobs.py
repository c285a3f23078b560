"""What can be measured of a checkpoint, each as a call with the work that it should take.

Knows policy, world model and engine. Must not know clocks or how figures are shown.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from tqdm import tqdm

from worldvla_ros.benchmark.device import Rates
from worldvla_ros.benchmark.passes import (
    Pass,
    chunk_passes,
    image_passes,
    sequential_passes,
)
from worldvla_ros.benchmark.random_model import INSTRUCTION
from worldvla_ros.checkpoint import Checkpoint
from worldvla_ros.engine import CHOICES, Engine
from worldvla_ros.model.cost import ActionHeadCost, Cost, TransformerCost, VQGANCost, total
from worldvla_ros.observation import Observation
from worldvla_ros.policy import Policy

PROGRESS_AFTER_S = 5.0


@dataclass(frozen=True)
class Work:
    """What a call must do.

    Attributes:
        tokens: Tokens fed to the transformer.
        passes: Passes of the transformer.
        products: Cost of each pass, and of the action head.
        convolutions: Cost of each image encoded or decoded.
    """

    tokens: int = 0
    passes: int = 0
    products: tuple[Cost, ...] = ()
    convolutions: tuple[Cost, ...] = ()

    @property
    def cost(self) -> Cost:
        """All of it."""
        return total([*self.products, *self.convolutions])

    def limit_s(self, rates: Rates) -> float:
        """Return the least time [s] on a device: step after step, the slower of its two rates."""
        return sum(c.seconds(rates.bandwidth, rates.matmul) for c in self.products) + sum(
            c.seconds(rates.bandwidth, rates.convolution) for c in self.convolutions
        )


@dataclass(frozen=True)
class Job:
    """Something to be timed.

    Attributes:
        name: Its row.
        call: What is timed; takes what `prepare` made.
        work: What it must do.
        prepare: Called before each time with its number, and not timed.
    """

    name: str
    call: Callable[[object], object]
    work: Work
    prepare: Callable[[int], object] = field(default=lambda number: None)


class Workbench:
    """Makes the jobs of one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, progress: bool = False) -> None:
        """Build prompts of random images; `progress` shows the passes of long images."""
        self._checkpoint, self._progress = checkpoint, progress
        self._spec = checkpoint.spec
        self._engine = Engine(checkpoint.model, self._spec.vocabulary)
        self._policy = Policy(checkpoint)
        self._random = np.random.default_rng(0)
        self._counter = TransformerCost.of(
            checkpoint.model, checkpoint.model.lm_head.weight.element_size()
        )
        self._images = VQGANCost(self._spec.vqgan)
        self._side = self._spec.image_size // self._spec.vqgan.reduction
        views = len(self._spec.cameras)
        codes = [self._codes() for _ in range(self._spec.history * views)]
        build = checkpoint.sequences
        self._prompt = build.action_prompt(INSTRUCTION, codes, self._state())
        moved = np.zeros((self._spec.world.actions_per_image, self._spec.action.dim))
        self._world_prompt = build.world_prompt(codes[:views], moved)

    @property
    def checkpoint(self) -> Checkpoint:
        """The weights and what they mean."""
        return self._checkpoint

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._checkpoint.device

    def prefill(self) -> Job:
        """Up to the first number of an action: the prompt in one pass."""
        return self._decoding('prefill', self._engine.act, chunk_passes, horizon=1, dim=1)

    def chunk(self) -> Job:
        """All bins of a chunk, side by side."""
        return self._decoding('chunk', self._engine.act, chunk_passes)

    def sequential_chunk(self) -> Job:
        """All bins of a chunk, token after token."""
        reference = self._engine.act_sequentially
        return self._decoding('chunk, sequential', reference, sequential_passes)

    def image(self, images: int = 1) -> Job:
        """The codes of one image, or of the first so many views."""
        side, codebook = self._side, self._spec.vqgan.n_embed
        passes = image_passes(len(self._world_prompt.ids), side, side, codebook, images)

        def imagine(_: object) -> np.ndarray:
            steps = self._engine.imagine(self._world_prompt, side, side, images)
            shown = self._shown(steps, len(passes))
            return np.stack([codes for codes in shown if codes is not None])

        return Job('image', imagine, self._work(passes))

    def encode(self) -> Job:
        """An image to codes."""
        size, network = self._spec.image_size, self._checkpoint.vqgan
        work = Work(convolutions=(self._images.encode(size, size),))
        return Job('encode', lambda image: network.encode(image).cpu(), work, self._on_device)

    def decode(self) -> Job:
        """Codes to an image."""
        network, device = self._checkpoint.vqgan, self._checkpoint.device
        work = Work(convolutions=(self._images.decode(self._side, self._side),))

        def codes(_: int) -> torch.Tensor:
            return torch.from_numpy(self._codes())[None].to(device)

        return Job('decode', lambda given: network.decode(given).cpu(), work, codes)

    def end_to_end(self) -> Job:
        """Images never seen before, sentence and state to actions."""
        spec, head = self._spec, self._spec.action_head
        size, length = spec.image_size, len(self._prompt.ids)
        encoded = [self._images.encode(size, size)] * (spec.history * len(spec.cameras))
        if self._policy.decoding == 'discrete':
            work = self._work(chunk_passes(length, spec.action.horizon, spec.action.dim))
        else:
            width = self._checkpoint.model.lm_head.weight.element_size()
            answered = ActionHeadCost(head, width).run(length)
            work = self._work([Pass(length, length)], answered)
        work = Work(work.tokens, work.passes, work.products, tuple(encoded))
        return Job('end to end', self._policy.act, work, self._observation)

    def _decoding(
        self,
        name: str,
        decode: Callable,
        passes: Callable[..., list[Pass]],
        horizon: int | None = None,
        dim: int | None = None,
    ) -> Job:
        action = self._spec.action
        size = (horizon or action.horizon, dim or action.dim)
        choose = CHOICES[action.bin_choice]
        work = self._work(passes(len(self._prompt.ids), *size))
        return Job(name, lambda _: decode(self._prompt, *size, choose).bins, work)

    def _work(self, passes: list[Pass], *more: Cost) -> Work:
        costs = tuple(each.cost(self._counter) for each in passes)
        return Work(sum(p.tokens for p in passes), len(passes), (*costs, *more))

    def _shown(self, steps: object, count: int) -> tqdm:
        return tqdm(
            steps, 'passes', count, leave=False, delay=PROGRESS_AFTER_S, disable=not self._progress
        )

    def _codes(self) -> np.ndarray:
        return self._random.integers(0, self._spec.vqgan.n_embed, (self._side, self._side))

    def _image(self) -> np.ndarray:
        size = self._spec.image_size
        return self._random.integers(0, 256, (size, size, 3), np.uint8)

    def _on_device(self, _: int) -> torch.Tensor:
        return torch.from_numpy(self._image())[None].to(self._checkpoint.device)

    def _state(self) -> np.ndarray | None:
        state = self._spec.state
        return None if state is None else np.array(state.minimum, np.float32)

    def _observation(self, _: int) -> Observation:
        instants = [
            {c: self._image() for c in self._spec.cameras} for _ in range(self._spec.history)
        ]
        return Observation(instants[-1], INSTRUCTION, self._state(), tuple(instants[:-1]))
