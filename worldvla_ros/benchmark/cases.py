"""Benchmark cases of a checkpoint: a call to time, and the work that it must do.

Knows policy, engine and image tokenizer. Must not know clocks or how figures are shown.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
import functools
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from worldvla_ros.benchmark.device import Rates
from worldvla_ros.benchmark.passes import (
    Pass,
    chunk_passes,
    image_passes,
    sequential_passes,
    surprise_passes,
    window_passes,
)
from worldvla_ros.benchmark.prompts import Prompts, Scene
from worldvla_ros.checkpoint.folder import Checkpoint
from worldvla_ros.checkpoint.quantise import weight_bytes
from worldvla_ros.inference.chunks import CHOICES
from worldvla_ros.inference.reference import act_sequentially
from worldvla_ros.model.cost import ActionHeadCost, Cost, TransformerCost, VQGANCost, total
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.policy import Policy

PROGRESS_AFTER_S = 5.0


@dataclass(frozen=True)
class Work:
    """What a call must do.

    Attributes:
        tokens: Tokens fed to the transformer.
        passes: Passes of the transformer.
        products: Cost of each pass, and of the action head.
        convolutions: Cost of what is encoded or decoded at a time.
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
class Case:
    """A call to be timed.

    Attributes:
        name: Its row.
        prepare: Called before each time with its number, and not timed.
        call: What is timed; takes the return value of `prepare`.
        work: What a call must do, from the tokens and passes that the engine counted in it.
    """

    name: str
    prepare: Callable[[int], Any]
    call: Callable[[Any], Any]
    work: Callable[[int, int], Work]


def counter_of(model: Transformer) -> TransformerCost:
    """Return the counter for a model's weights as they are stored."""
    head = model.lm_head
    layers, width = weight_bytes(model.model.layers), head.weight.element_size()
    return TransformerCost.stored(model.config, layers, weight_bytes(head), width)


class BenchmarkCases:
    """Makes the cases of one checkpoint."""

    def __init__(
        self, checkpoint: Checkpoint, prompts: Prompts | None = None, progress: bool = False
    ) -> None:
        """Take prompts, random ones by default; `progress` shows the passes of long images."""
        self.checkpoint, self._progress = checkpoint, progress
        self._spec, self._engine = checkpoint.spec, checkpoint.engine
        self._prompts = prompts or Prompts(checkpoint)
        self._policy = Policy(checkpoint)
        self._counter = counter_of(checkpoint.model)
        self._network = VQGANCost(self._spec.vqgan)
        self._grid = (self._prompts.side, self._prompts.side)

    @property
    def counted(self) -> tuple[int, int]:
        """Tokens and passes so far."""
        return self._engine.fast.tokens, self._engine.fast.passes

    def forget(self) -> None:
        """Invalidate all cached prompts."""
        self._engine.forget()

    def prefill(self) -> Case:
        """Up to the first number of an action: the prompt in one pass."""
        return self._chunk('prefill', self._engine.chunks.act, chunk_passes, (1, 1))

    def chunk(self) -> Case:
        """All bins of a chunk, side by side."""
        return self._chunk('chunk', self._engine.chunks.act, chunk_passes, self._size)

    def sequential_chunk(self) -> Case:
        """All bins of a chunk, token after token."""
        sequential = functools.partial(act_sequentially, self._engine)
        return self._chunk('chunk, sequential', sequential, sequential_passes, self._size)

    def image(self) -> Case:
        """The codes of the next image of each view, guessed ahead where guesses can hold."""
        if not self._prompts.guessable:
            return self.sequential_image()

        def work(tokens: int, passes: int) -> Work:
            scene = self._prompts.scene(0)
            codes = self._prompts.views * self._prompts.side**2
            seen = len(scene.prompt.ids) + codes // 2
            window = min(self._engine.images.window, codes)
            return self._work(
                window_passes(tokens, passes, seen, window, self._spec.vqgan.n_embed)
            )

        return Case(self._image_name, self._prompts.scene, self._imagine(True), work)

    def sequential_image(self) -> Case:
        """The codes of the next image of each view, one after another."""

        def work(tokens: int, passes: int) -> Work:
            return self._rest(tokens, self._image_passes())

        name = f'{self._image_name}, sequential'
        return Case(name, self._prompts.scene, self._imagine(False), work)

    def surprise(self) -> Case:
        """How unlikely the images are that were seen."""

        def call(scene: Scene) -> list[np.ndarray]:
            return self._engine.images.surprise(scene.prompt, scene.codes)

        def work(tokens: int, passes: int) -> Work:
            length, views = len(self._prompts.scene(0).prompt.ids), self._prompts.views
            codebook = self._spec.vqgan.n_embed
            return self._rest(tokens, surprise_passes(length, *self._grid, codebook, views))

        return Case('surprise', self._prompts.scene, call, work)

    def encode(self) -> Case:
        """An image to codes."""
        size, network = self._spec.image_size, self.checkpoint.vqgan
        work = Work(convolutions=(self._network.encode(size, size),))

        def image(number: int) -> torch.Tensor:
            image = next(iter(self._prompts.observation(number).images.values()))
            return torch.from_numpy(image)[None].to(self.checkpoint.device)

        return Case('encode', image, lambda image: network.encode(image).cpu(), lambda *_: work)

    def decode(self) -> Case:
        """Codes to an image."""
        network = self.checkpoint.vqgan
        work = Work(convolutions=(self._network.decode(*self._grid),))

        def codes(number: int) -> torch.Tensor:
            return torch.from_numpy(self._prompts.codes(number))[None].to(self.checkpoint.device)

        return Case('decode', codes, lambda codes: network.decode(codes).cpu(), lambda *_: work)

    def end_to_end(self) -> Case:
        """Images never seen before, sentence and state to actions."""
        size, images = self._spec.image_size, self._spec.images_per_camera * self._prompts.views
        encoded = self._network.encode(size, size, images)

        def work(tokens: int, passes: int) -> Work:
            found = self._answer(tokens)
            return Work(found.tokens, found.passes, found.products, (encoded,))

        return Case('end to end', self._prompts.observation, self._policy.act, work)

    @property
    def _size(self) -> tuple[int, int]:
        return self._spec.action.horizon, self._spec.action.dim

    @property
    def _image_name(self) -> str:
        views = self._prompts.views
        return 'image' if views == 1 else f'{views} images'

    def _chunk(
        self,
        name: str,
        decode: Callable[..., Any],
        passes: Callable[..., list[Pass]],
        size: tuple[int, int],
    ) -> Case:
        choose = CHOICES[self._spec.action.bin_choice]

        def work(tokens: int, _: int) -> Work:
            return self._rest(tokens, passes(len(self._prompts.action(0).ids), *size))

        def call(prompt: object) -> np.ndarray:
            return decode(prompt, *size, choose).bins

        return Case(name, self._prompts.action, call, work)

    def _imagine(self, speculative: bool) -> Callable[[Scene], np.ndarray]:
        views, codes = self._prompts.views, len(self._image_passes())

        def call(scene: Scene) -> np.ndarray:
            steps = self._engine.images.imagine(
                scene.prompt, *self._grid, views, speculative=speculative
            )
            return np.stack([found for found in self._shown(steps, codes) if found is not None])

        return call

    def _image_passes(self) -> list[Pass]:
        length, codebook = len(self._prompts.scene(0).prompt.ids), self._spec.vqgan.n_embed
        return image_passes(length, *self._grid, codebook, self._prompts.views)

    def _answer(self, tokens: int) -> Work:
        """Return the work of answering an observation whose images are encoded."""
        length = len(self._prompts.action(0).ids)
        if self._policy.decoding == 'continuous' and self._spec.action_head is not None:
            width = self.checkpoint.model.lm_head.weight.element_size()
            head = ActionHeadCost(self._spec.action_head, width).run(length)
            return self._work([Pass(length, length)], head)
        return self._rest(tokens, chunk_passes(length, *self._size))

    def _rest(self, tokens: int, passes: list[Pass]) -> Work:
        """Return the work of passes whose first one skipped the tokens that were cached."""
        known = sum(each.tokens for each in passes) - tokens
        return self._work([passes[0].without(known), *passes[1:]])

    def _work(self, passes: list[Pass], *more: Cost) -> Work:
        costs = tuple(each.cost(self._counter) for each in passes)
        return Work(round(sum(p.tokens for p in passes)), len(passes), (*costs, *more))

    def _shown(self, steps: Iterable, most: int) -> tqdm:
        """Show passes, of which there may be fewer than codes."""
        hidden = not self._progress
        return tqdm(steps, 'passes', most, leave=False, delay=PROGRESS_AFTER_S, disable=hidden)
