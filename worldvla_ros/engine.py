"""Decoding: from a prompt to the ids of a chunk or of an image, never malformed.

Only ids that the grammar leaves open are decoded, and only over the span that it allows; starts,
ends, grid and new lines are forced. Under the chunk mask the K actions of a chunk do not see each
other, so all K are decoded side by side in D steps; `act_sequentially` is the slow, obvious
version with the same result.

    step 0   prompt, start₁ … start_K        one pass, positions P + (D+2)·(k-1)
    step i   bin i of every action           one pass of K ids, positions P + (D+2)·(k-1) + i

Where the model has a continuous action head, `act_continuous` needs no ids at all: the prompt goes
through the transformer once, and its hidden states through the head once.

Knows ids and the two grammars. Must not know prompts' wording, pixels or robots.
Legend: P prompt length, K horizon, D action dimension, b batch, t tokens, s tokens seen.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldvla_ros.errors import CheckpointError
from worldvla_ros.model.masks import chunk_mask
from worldvla_ros.model.transformer import KVCache, Transformer
from worldvla_ros.sequence import Sequence
from worldvla_ros.tokenizers.image import CODES_PER_CELL
from worldvla_ros.vocab import BINS, Vocabulary

Select = Callable[[Tensor], int]
Choose = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class DecodedChunk:
    """What the model chose.

    Attributes:
        bins: int64[K, D] in 1…256.
        log_probs: float32[K, D], of each chosen bin among all bins.
        passes: Forward passes used.
    """

    bins: np.ndarray
    log_probs: np.ndarray
    passes: int


def likeliest(log_probs: Tensor) -> Tensor:
    """Choose the likeliest bin of each number: [..., 256] → int64[...]."""
    return log_probs.argmax(-1)


def median(log_probs: Tensor) -> Tensor:
    """Choose the bin in the middle of each number's probability: [..., 256] → int64[...].

    Bins are ordered, and the median is the choice with the least expected distance. Where a
    model is certain of one number (stand still) with a small probability, and vague about many
    with the rest (go on at about this speed), the likeliest bin is the first, the median is not.
    """
    passed = log_probs.exp().cumsum(-1) < 0.5
    return passed.sum(-1).clamp(max=log_probs.shape[-1] - 1)


CHOICES: dict[str, Choose] = {'greedy': likeliest, 'median': median}
"""By the names that `spec.ActionSpec.bin_choice` has for them."""


def greedy(logits: Tensor) -> int:
    """Choose the most likely of [ids]."""
    return int(logits.argmax())


def sampler(temperature: float, top_k: int, generator: torch.Generator) -> Select:
    """Return a function that samples among the `top_k` most likely ids.

    Raises:
        ValueError: The temperature is not positive, or `top_k` is below 1.
    """
    if not temperature > 0 or top_k < 1:
        raise ValueError(f'expected temperature > 0 and top_k >= 1, got {temperature}, {top_k}')

    def select(logits: Tensor) -> int:
        best, ids = logits.topk(min(top_k, logits.shape[-1]))
        chosen = torch.multinomial((best / temperature).softmax(-1), 1, generator=generator)
        return int(ids[chosen])

    return select


def _check_room(model: Transformer, tokens: int) -> None:
    limit = model.config.max_position_embeddings
    if tokens > limit:
        raise CheckpointError(
            'sequence too long for this model',
            expected=f'at most {limit} tokens',
            got=tokens,
            remedy='Use a shorter instruction, fewer images or a shorter chunk.',
        )


def _check_finite(numbers: np.ndarray) -> None:
    if not np.isfinite(numbers).all():
        raise CheckpointError(
            'the model gives scores that are not finite: its weights are damaged'
        )


class _Session:
    """One sequence being decoded: the cache with the positions and blocks of what it holds."""

    def __init__(self, model: Transformer, room: int) -> None:
        _check_room(model, room)
        weight = model.lm_head.weight
        self._model = model
        self._cache = KVCache(model.config, room, weight.device, weight.dtype)
        self._positions = torch.empty(room, dtype=torch.long, device=weight.device)
        self._blocks = torch.empty(room, dtype=torch.long, device=weight.device)
        self.passes = 0

    def feed(self, ids: np.ndarray, positions: np.ndarray, blocks: np.ndarray) -> Tensor:
        """Run ids through the model: int64[t] each → hidden states [t, d]."""
        start, end = self._cache.used, self._cache.used + len(ids)
        device = self._positions.device
        self._positions[start:end] = torch.as_tensor(positions, device=device)
        self._blocks[start:end] = torch.as_tensor(blocks, device=device)
        mask = chunk_mask(
            self._positions[start:end],
            self._blocks[start:end],
            self._positions[:end],
            self._blocks[:end],
        )
        batch = torch.as_tensor(ids, device=device)[None]
        self.passes += 1
        hidden = self._model(batch, self._positions[start:end], mask[None, None], self._cache)
        return hidden[0]


class Engine:
    """Decodes with one transformer and its vocabulary."""

    def __init__(self, model: Transformer, vocab: Vocabulary) -> None:
        """Keep the model; it must be in evaluation mode."""
        self._model = model
        self._vocab = vocab
        self._bin_span = slice(vocab.action_bin_base + 1, vocab.action_bin_base + BINS + 1)
        self._code_span = slice(vocab.code_base, vocab.code_base + vocab.codebook_size)

    @torch.inference_mode()
    def act(
        self, prompt: Sequence, horizon: int, dim: int, choose: Choose = likeliest
    ) -> DecodedChunk:
        """Decode all actions of a chunk side by side; `choose` picks each bin.

        Raises:
            CheckpointError: The sequence is too long for the model, or its scores are not finite.
        """
        size, length = dim + 2, len(prompt.ids)
        session = _Session(self._model, length + horizon * dim)
        blocks = np.arange(1, horizon + 1)
        positions = length + size * np.arange(horizon)
        hidden = session.feed(
            np.append(prompt.ids, np.full(horizon, self._vocab.action_start)),
            np.append(np.arange(length), positions),
            np.append(prompt.blocks, blocks),
        )[-horizon:]
        bins, log_probs = [], []
        for i in range(1, dim + 1):
            scores = self._model.logits(hidden, self._bin_span).log_softmax(-1)  # [K, 256]
            best = choose(scores)
            bins.append(best + 1)
            log_probs.append(scores.gather(-1, best[:, None])[:, 0])
            if i < dim:
                ids = best.cpu().numpy() + self._bin_span.start
                hidden = session.feed(ids, positions + i, blocks)
        chosen = torch.stack(log_probs, 1).cpu().numpy()
        _check_finite(chosen)
        return DecodedChunk(torch.stack(bins, 1).cpu().numpy(), chosen, session.passes)

    @torch.inference_mode()
    def act_sequentially(
        self, prompt: Sequence, horizon: int, dim: int, choose: Choose = likeliest
    ) -> DecodedChunk:
        """Decode a chunk one token after another: the reference for `act`."""
        length = len(prompt.ids)
        session = _Session(self._model, length + horizon * (dim + 2))
        session.feed(prompt.ids, np.arange(length), prompt.blocks)
        position = length
        bins = np.zeros((horizon, dim), np.int64)
        log_probs = np.zeros((horizon, dim), np.float32)

        def step(token_id: int, block: int) -> Tensor:
            nonlocal position
            hidden = session.feed(np.array([token_id]), np.array([position]), np.array([block]))
            position += 1
            return hidden[-1]

        for k in range(horizon):
            hidden = step(self._vocab.action_start, k + 1)
            for d in range(dim):
                scores = self._model.logits(hidden, self._bin_span).log_softmax(-1)
                best = int(choose(scores))
                bins[k, d], log_probs[k, d] = best + 1, float(scores[best])
                hidden = step(self._vocab.action_bin_base + int(bins[k, d]), k + 1)
            step(self._vocab.action_end, k + 1)
        return DecodedChunk(bins, log_probs, session.passes)

    @torch.inference_mode()
    def act_continuous(self, prompt: Sequence, horizon: int, dim: int) -> np.ndarray:
        """Return the chunk that the continuous action head gives, in one pass.

        Returns:
            float32[K, D] in the normalised range of the action tokenizer, mostly in [-1, 1].

        Raises:
            CheckpointError: The prompt is too long for the model, or an action is not finite.
            ValueError: The model has no head, or one for chunks of another size.
        """
        head = self._model.action_head
        size = None if head is None else (head.config.horizon, head.config.dim)
        if size != (horizon, dim):
            raise ValueError(f'expected an action head for {(horizon, dim)}, got one for {size}')
        _check_room(self._model, len(prompt.ids))
        # a prompt is causal throughout: the chunk mask concerns actions of the chunk alone
        ids = torch.as_tensor(prompt.ids, device=self._model.lm_head.weight.device)
        actions = head(self._model(ids[None]))[0].float().cpu().numpy()
        _check_finite(actions)
        return actions

    def imagine(
        self, prompt: Sequence, rows: int, columns: int, images: int = 1, select: Select = greedy
    ) -> Iterator[np.ndarray | None]:
        """Decode the image blocks that follow a world prompt.

        Args:
            prompt: A world prompt.
            rows: Rows of codes of each image, even.
            columns: Columns of codes of each image, even.
            images: How many images, one per camera.
            select: Chooses a code from the scores of all codes.

        Yields:
            None after each step that did not finish an image, int64[rows, columns] codes after one
            that did.
        """
        vocab = self._vocab
        grid = [vocab.grid_base + n // CODES_PER_CELL for n in (rows, columns)]
        room = len(prompt.ids) + images * (rows * (columns + 1) + 4)
        session = _Session(self._model, room)
        waiting = list(prompt.ids)
        position = 0
        for _ in range(images):
            waiting += [vocab.image_start, *grid]
            codes = np.zeros((rows, columns), np.int64)
            for row, column in np.ndindex(rows, columns):
                ids = np.asarray(waiting)
                code = self._next_code(session, ids, position, select)
                position += len(ids)
                codes[row, column] = code
                waiting = [vocab.code_base + code]
                if column == columns - 1:
                    waiting.append(vocab.new_line)
                    if row == rows - 1:
                        break
                yield None
            waiting.append(vocab.image_end)
            yield codes

    @torch.inference_mode()
    def _next_code(self, session: _Session, ids: np.ndarray, position: int, select: Select) -> int:
        """Feed ids and choose the code that follows."""
        positions = np.arange(position, position + len(ids))
        hidden = session.feed(ids, positions, np.zeros(len(ids), np.int64))
        return select(self._model.logits(hidden[-1], self._code_span))
