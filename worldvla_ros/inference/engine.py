"""Decoding: from a prompt to a chunk or to images, and the surprise of what was seen.

Only ids that the grammar leaves open are decoded, and only over the span that it allows; starts,
ends, grid and new lines are forced. How chunks are decoded side by side says chunks.py,
how images are guessed ahead images.py.

Knows which device the weights are on. Must not know prompts' wording, pixels or robots.
"""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from worldvla_ros.inference.caches import Caches
from worldvla_ros.inference.chunks import Choose, ChunkDecoder, DecodedChunk, likeliest
from worldvla_ros.inference.cuda_graphs import GraphedForward
from worldvla_ros.inference.fast import FastTransformer
from worldvla_ros.inference.images import ImageDecoder, Sampling, Shape
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.tokenizers.sequence import Sequence
from worldvla_ros.tokenizers.vocab import Vocabulary

WINDOW = {'cpu': 16, 'cuda': 1024}
"""Codes looked at in one pass: a GPU waits for weights, a CPU for arithmetic."""


class Engine:
    """Decodes with one transformer and its vocabulary; the only way from a model to ids.

    Attributes:
        passes: Forward passes so far.
        tokens: Tokens fed in them.
    """

    def __init__(self, model: Transformer, vocab: Vocabulary) -> None:
        """Share the weights of a model, which must be in evaluation mode.

        On a CUDA device each shape of pass is captured as a graph when it is first met, so the
        first chunk and image are slow.
        """
        fast = FastTransformer(model)
        cuda = fast.device.type == 'cuda'
        self._forward = GraphedForward(fast) if cuda else fast.forward
        self._window = WINDOW['cuda' if cuda else 'cpu']
        self._caches = Caches(fast, self._counted)
        self._chunks = ChunkDecoder(model, vocab, self._caches)
        self._images = ImageDecoder(model, vocab, self._caches)
        self.passes = self.tokens = 0

    def act(
        self, prompt: Sequence, horizon: int, dim: int, choose: Choose = likeliest
    ) -> DecodedChunk:
        """Decode a chunk side by side, see `ChunkDecoder.act`."""
        return self._chunks.act(prompt, horizon, dim, choose)

    def act_verified(self, prompt: Sequence, horizon: int, dim: int) -> DecodedChunk:
        """Decode a chunk as free decoding would, see `ChunkDecoder.act_verified`."""
        return self._chunks.act_verified(prompt, horizon, dim)

    def act_freely(self, prompt: Sequence, horizon: int, dim: int) -> DecodedChunk:
        """Decode a chunk id by id, without grammar, see `ChunkDecoder.act_freely`."""
        return self._chunks.act_freely(prompt, horizon, dim)

    def act_sequentially(
        self, prompt: Sequence, horizon: int, dim: int, choose: Choose = likeliest
    ) -> DecodedChunk:
        """Decode a chunk id by id, see `ChunkDecoder.act_sequentially`."""
        return self._chunks.act_sequentially(prompt, horizon, dim, choose)

    def act_continuous(self, prompt: Sequence, horizon: int, dim: int) -> np.ndarray:
        """Ask the continuous action head, see `ChunkDecoder.act_continuous`."""
        return self._chunks.act_continuous(prompt, horizon, dim)

    def imagine(
        self,
        prompt: Sequence,
        rows: int,
        columns: int,
        images: int = 1,
        *,
        speculative: bool = True,
        sampling: Sampling | None = None,
    ) -> Iterator[np.ndarray | None]:
        """Decode the images that follow a world prompt.

        Args:
            prompt: A world prompt.
            rows: Rows of codes of each image, even.
            columns: Columns of codes of each image, even.
            images: How many images, one per camera.
            speculative: Whether to guess ahead, see images.py; the result is the same.
            sampling: How codes are drawn; the likeliest are taken by default.

        Yields:
            None after each pass that did not finish an image, int64[rows, columns] codes for each
            image that is finished.

        Raises:
            CheckpointError: The sequence is too long for the model, or its scores are not finite.
            MemoryLimitError: Memory is short.
        """
        how = {'speculative': speculative, 'sampling': sampling}
        for found in self.rollout([[prompt]], rows, columns, images, **how):
            yield None if found is None else found[0]

    def rollout(
        self,
        steps: list[list[Sequence]],
        rows: int,
        columns: int,
        images: int = 1,
        *,
        speculative: bool = True,
        sampling: Sampling | None = None,
    ) -> Iterator[np.ndarray | None]:
        """Decode images instant after instant, for several sequences side by side.

        Args:
            steps: World prompts of each instant, one per sequence, all of one length; from the
                second instant on, the codes in them stand for those decoded before.
            rows: Rows of codes of each image, even.
            columns: Columns of codes of each image, even.
            images: Images of each instant, one per camera.
            speculative: Whether to guess ahead, see images.py; the result is the same.
            sampling: How codes are drawn; the likeliest are taken by default.

        Yields:
            None after each pass that did not finish an image, int64[sequences, rows, columns]
            codes for each image that is finished by all sequences.

        Raises:
            CheckpointError: A sequence is too long for the model, or its scores are not finite.
            MemoryLimitError: Memory is short.
        """
        shape = Shape(images, rows, columns)
        window = self._window if speculative else 1
        for found in self._images.rollout(steps, shape, window, sampling):
            yield None if found is None else found.cpu().numpy()

    def surprise(self, prompt: Sequence, codes: list[np.ndarray]) -> list[np.ndarray]:
        """Return how unlikely images are behind a world prompt, in one pass.

        Args:
            prompt: A world prompt.
            codes: int64[rows, columns] of each image, one per camera.

        Returns:
            float32[rows, columns] of each: minus log-probability of each code among all codes,
            given the prompt and the codes before it [nat].

        Raises:
            CheckpointError: The sequence is too long for the model, or its scores are not finite.
            MemoryLimitError: Memory is short.
        """
        return self._images.surprise(prompt, codes)

    def forget(self) -> None:
        """Know no prompt any more, so that the next is fed as a whole."""
        self._caches.forget()

    def _counted(self, ids: Tensor, *arguments: object) -> Tensor:
        self.passes += 1
        self.tokens += ids.numel()
        return self._forward(ids, *arguments)
