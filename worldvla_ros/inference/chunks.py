"""Decoding chunks: all actions side by side, and the proof that free decoding gives the same.

The response to an action prompt of P tokens, for K = 2 actions of D = 3 numbers, where s is
action_start, e is action_end and a to f are bins:

    column    P    P+1  P+2  P+3  P+4   P+5  P+6  P+7  P+8  P+9   P+10
              s    a    b    c    e     s    d    e    f    e     sep
    role      1    1    1    1    1     2    2    2    2    2     0

Under the chunk mask (model/masks.py) the two actions do not see each other, so all K are decoded
side by side in D passes; reference.py has the slow, obvious version with the same result.

    pass 0   prompt, s of every action    → hidden states before bin 1 of every action
    pass i   bin i of every action, i < D → hidden states before bin i + 1
    proof    bin D and e of every action  → is every id above the likeliest of the vocabulary?

`act_verified` adds the last pass, which proves that free decoding over the whole vocabulary, as
the official code does it, would have given the same ids; from the first that differs it goes on
freely. Where the model has a continuous action head, `act_continuous` needs no ids at all.

Several prompts may be decoded in one batch, of different lengths too: each row lies in a sequence
of the cache as if it were alone. In pass 0 shorter rows are filled up on the left, at a position
that no token sees, so that the starts of all rows end the pass:

    row 0   prompt of 5 tokens  . . 0 1 2 3 4 s s
    row 1   prompt of 7 tokens  0 1 2 3 4 5 6 s s

Knows ids and the grammar of chunks. Must not know prompts' wording, images or robots.
Legend: b prompts, P prompt length, K horizon, D action dimension, t tokens, d model width.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldvla_ros.inference.caches import Caches, Session, check_finite
from worldvla_ros.inference.fast import FastTransformer
from worldvla_ros.inference.free_decoding import FreeDecoder
from worldvla_ros.tokenizers.sequence import SHARED_ROLE, UNDECIDED, Sequence
from worldvla_ros.tokenizers.vocab import Vocabulary

Choose = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class DecodedChunk:
    """What the model chose.

    Attributes:
        bins: int64[K, D] in 0…255; after free decoding there may be fewer or more actions than
            asked for.
        log_probs: float32[K, D], of each chosen bin among all bins.
        passes: Forward passes used, by all prompts of the batch together.
        free_from: Where free decoding took over, counted in ids of the response; None where what
            was forced is proven to be what free decoding gives, or where nothing was proven.
    """

    bins: np.ndarray
    log_probs: np.ndarray
    passes: int
    free_from: int | None = None


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


@dataclass(frozen=True)
class ChunkLayout:
    """Where the ids of chunks lie behind their prompts."""

    prompts: list[Sequence]
    horizon: int
    dim: int

    @property
    def action_length(self) -> int:
        """Ids of an action."""
        return self.dim + 2

    @property
    def chunk_length(self) -> int:
        """Ids of a chunk, without the sep."""
        return self.horizon * self.action_length

    @property
    def lengths(self) -> list[int]:
        """Tokens of each prompt."""
        return [len(prompt.ids) for prompt in self.prompts]

    @property
    def end(self) -> int:
        """Position behind the last id of any chunk."""
        return max(self.lengths) + self.chunk_length

    @property
    def starts(self) -> np.ndarray:
        """Positions of the starts of all actions: int64[b, K]."""
        places = self.action_length * np.arange(self.horizon)
        return np.array(self.lengths)[:, None] + places

    @property
    def ids(self) -> np.ndarray:
        """Prompts as a cache compares them: int64[b, P], undecided behind shorter ones."""
        ids = np.full((len(self.prompts), max(self.lengths)), UNDECIDED)
        for row, prompt in enumerate(self.prompts):
            ids[row, : len(prompt.ids)] = prompt.ids
        return ids

    def roles(self, room: int) -> np.ndarray:
        """Return the mask role of each position, with room for a response: int64[b, P + room]."""
        roles = np.full((len(self.prompts), max(self.lengths) + room), SHARED_ROLE)
        of_chunk = np.repeat(np.arange(1, self.horizon + 1), self.action_length)
        for row, (prompt, length) in enumerate(zip(self.prompts, self.lengths, strict=True)):
            roles[row, :length] = prompt.roles
            roles[row, length : length + self.chunk_length] = of_chunk
        return roles


@dataclass(frozen=True)
class _Decoded:
    """Chunks as they lie on the device.

    Attributes:
        hidden_before_chunk: [b, d], hidden states before the first start.
        hidden_before: D times [b, K, d], hidden states before the bins.
        bins: int64[b, K, D] in 0…255.
        log_probs: float32[b, K, D].
    """

    hidden_before_chunk: Tensor
    hidden_before: list[Tensor]
    bins: Tensor
    log_probs: Tensor

    def chunks(self, passes: int) -> list[DecodedChunk]:
        """Bring the chunks to the host, which waits here for the first time."""
        check_finite(self.log_probs)
        rows = zip(self.bins.cpu().numpy(), self.log_probs.cpu().numpy(), strict=True)
        return [DecodedChunk(bins, log_probs, passes) for bins, log_probs in rows]


class ChunkDecoder:
    """Decodes chunks with one transformer and its vocabulary."""

    def __init__(self, fast: FastTransformer, vocab: Vocabulary, caches: Caches) -> None:
        """Keep the model; a cache is leased for each batch of prompts."""
        self._fast, self._vocab, self._caches = fast, vocab, caches
        self._free = FreeDecoder(fast, vocab)
        self._bin_span = vocab.action_bins

    def act(
        self, prompt: Sequence, horizon: int, dim: int, choose: Choose = likeliest
    ) -> DecodedChunk:
        """Decode all actions of a chunk side by side; `choose` picks each bin.

        Raises:
            CheckpointError: The sequence is too long for the model, or its scores are not finite.
            MemoryLimitError: Memory is short.
        """
        return self.act_many([prompt], horizon, dim, choose)[0]

    @torch.inference_mode()
    def act_many(
        self, prompts: list[Sequence], horizon: int, dim: int, choose: Choose = likeliest
    ) -> list[DecodedChunk]:
        """Do what `act` does for several prompts in one batch, with the same bins."""
        layout = ChunkLayout(prompts, horizon, dim)
        with self._session(layout, layout.chunk_length) as session:
            return self._decode(session, layout, choose).chunks(session.passes)

    def act_verified(self, prompt: Sequence, horizon: int, dim: int) -> DecodedChunk:
        """Decode as the official code does, freely and greedily over the whole vocabulary.

        The chunk is decoded side by side and then proven in one more pass; from the first id that
        free decoding would have chosen differently, decoding goes on freely. The chunk then is
        the well-formed actions that the response begins with.

        Raises:
            CheckpointError: The sequence is too long for the model, or its scores are not finite.
            DecodingError: The response does not begin with a well-formed action.
            MemoryLimitError: Memory is short.
        """
        layout = ChunkLayout([prompt], horizon, dim)
        room = self._free.room(len(prompt.ids), layout.chunk_length)
        with torch.inference_mode(), self._session(layout, room) as session:
            made = self._decode(session, layout, likeliest)
            hidden, response, agreed = self._prove(session, layout, made)
            if agreed[0] == response.shape[1]:
                return made.chunks(session.passes)[0]
            ids = response[0, : agreed[0] + 1].tolist()
            rows = hidden[0, : len(ids)]
            bins, log_probs = self._free.go_on(
                session, len(prompt.ids), ids, rows, dim=dim, room=room
            )
            return DecodedChunk(bins, log_probs, session.passes, free_from=agreed[0])

    def act_verified_many(
        self, prompts: list[Sequence], horizon: int, dim: int
    ) -> list[DecodedChunk]:
        """Do what `act_verified` does for several prompts.

        They are decoded and proven in one batch; those that the proof does not hold for are
        decoded anew alone, since what follows is one id after another.
        """
        layout = ChunkLayout(prompts, horizon, dim)
        with torch.inference_mode(), self._session(layout, layout.chunk_length) as session:
            made = self._decode(session, layout, likeliest)
            _, response, agreed = self._prove(session, layout, made)
            chunks = made.chunks(session.passes)
        return [
            chunk if count == response.shape[1] else self.act_verified(prompt, horizon, dim)
            for prompt, chunk, count in zip(prompts, chunks, agreed, strict=True)
        ]

    def act_continuous(self, prompt: Sequence, horizon: int, dim: int) -> np.ndarray:
        """Return the chunk that the continuous action head gives, in one pass.

        Returns:
            float32[K, D] in the normalised range of the action tokenizer, mostly in [-1, 1].

        Raises:
            CheckpointError: The prompt is too long for the model, or an action is not finite.
            ValueError: The model has no head, or one for chunks of another size.
        """
        return self.act_continuous_many([prompt], horizon, dim)[0]

    @torch.inference_mode()
    def act_continuous_many(
        self, prompts: list[Sequence], horizon: int, dim: int
    ) -> list[np.ndarray]:
        """Do what `act_continuous` does for several prompts in one batch."""
        head = self._fast.action_head
        size = None if head is None else (head.config.horizon, head.config.dim)
        if head is None or size != (horizon, dim):
            raise ValueError(f'expected an action head for {(horizon, dim)}, got one for {size}')
        layout = ChunkLayout(prompts, 0, dim)
        with self._session(layout, 0, reuse=False) as session:
            ids, positions = self._prompt_pass(session, layout)
            hidden = session.feed(ids, positions, layout.end)  # [b, t, d]
            # row by row, since some heads attend to the padding of shorter prompts
            rows = [hidden[row : row + 1, -length:] for row, length in enumerate(layout.lengths)]
            actions = torch.cat([head(row) for row in rows]).float()  # [b, K, D]
            check_finite(actions)
            return list(actions.cpu().numpy())

    def _session(
        self, layout: ChunkLayout, room: int, *, reuse: bool = True
    ) -> AbstractContextManager[Session]:
        what = f'prompt of {max(layout.lengths)} and {layout.horizon} actions of {layout.dim + 2}'
        return self._caches.session(layout.ids, layout.roles(room), what, reuse=reuse)

    def _prompt_pass(self, session: Session, layout: ChunkLayout) -> tuple[Tensor, Tensor]:
        """Return what pass 0 feeds: what is not cached of each prompt, and all starts.

        Returns:
            Ids and positions, int64[b, t], shorter rows filled up on the left. The last id of each
            prompt is always fed, for the hidden state behind it.
        """
        rows = []
        for prompt, starts in zip(layout.prompts, layout.starts, strict=True):
            length = len(prompt.ids)
            first = min(session.cached_count, length - 1)
            start_ids = np.full(layout.horizon, self._vocab.action_start)
            ids = np.concatenate([prompt.ids[first:], start_ids])
            rows.append((ids, np.concatenate([np.arange(first, length), starts])))
        longest = max(len(ids) for ids, _ in rows)
        all_ids = np.zeros((len(rows), longest), np.int64)
        all_positions = np.full((len(rows), longest), session.padding)
        for row, (ids, positions) in enumerate(rows):
            all_ids[row, longest - len(ids) :] = ids
            all_positions[row, longest - len(ids) :] = positions
        return self._tensor(all_ids), self._tensor(all_positions)

    def _decode(self, session: Session, layout: ChunkLayout, choose: Choose) -> _Decoded:
        """Decode all bins of all chunks; the host waits for nothing on the way."""
        starts = self._tensor(layout.starts)  # [b, K]
        hidden = session.feed(*self._prompt_pass(session, layout), layout.end)  # [b, t, d]
        hidden_before = [hidden[:, -layout.horizon :]]  # [b, K, d] each
        bins, log_probs = [], []
        for i in range(1, layout.dim + 1):
            scores = self._bin_scores(hidden_before[-1])  # [b, K, 256]
            best = choose(scores)  # [b, K]
            bins.append(best)
            log_probs.append(scores.gather(-1, best[..., None])[..., 0])
            if i < layout.dim:
                ids = best + self._bin_span.start
                hidden_before.append(session.feed(ids, starts + i, layout.end))
        before_chunk = hidden[:, -layout.horizon - 1]  # behind the last token of each prompt
        return _Decoded(
            before_chunk, hidden_before, torch.stack(bins, -1), torch.stack(log_probs, -1)
        )

    def _prove(
        self, session: Session, layout: ChunkLayout, made: _Decoded
    ) -> tuple[Tensor, Tensor, list[int]]:
        """Compare what was forced and chosen with the likeliest ids of the vocabulary.

        Returns:
            [b, n, d], the hidden state before each id of the response, n = K · (D + 2) + 1;
            int64[b, n], the likeliest ids behind them; and how many of them each response begins
            with, for which the host waits, since they decide what comes next.
        """
        starts = self._tensor(layout.starts)  # [b, K]
        last = made.bins[..., -1] + self._bin_span.start  # [b, K]
        ids = torch.cat([last, torch.full_like(last, self._vocab.action_end)], 1)  # [b, 2 · K]
        positions = torch.cat([starts + layout.dim, starts + layout.dim + 1], 1)
        behind = session.feed(ids, positions, layout.end).chunk(2, 1)  # 2 × [b, K, d]
        inside = torch.stack([*made.hidden_before, *behind], 2)  # [b, K, D + 2, d]
        hidden = torch.cat(
            [made.hidden_before_chunk[:, None], inside.flatten(1, 2)], 1
        )  # [b, n, d]
        best, chosen = self._fast.logits(hidden).max(-1)  # [b, n]
        check_finite(best)
        agree = (chosen == self._response(made)).int()
        return hidden, chosen, agree.cumprod(1).sum(1).tolist()

    def _response(self, made: _Decoded) -> Tensor:
        """Return the response as it was forced and chosen: int64[b, K · (D + 2) + 1]."""
        vocab, edge = self._vocab, torch.ones_like(made.bins[..., :1])  # [b, K, 1]
        numbers = made.bins + self._bin_span.start  # [b, K, D]
        actions = torch.cat([vocab.action_start * edge, numbers, vocab.action_end * edge], -1)
        return torch.cat([actions.flatten(1), vocab.sep * edge[:, 0]], 1)

    def _bin_scores(self, hidden: Tensor) -> Tensor:
        """Return log-probabilities among the bins: [..., d] → float32[..., 256]."""
        return self._fast.logits(hidden, self._bin_span).log_softmax(-1)

    def _tensor(self, numbers: np.ndarray) -> Tensor:
        return torch.as_tensor(numbers, device=self._fast.device)
