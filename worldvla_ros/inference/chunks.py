"""Decoding chunks: all actions side by side, and the proof that nothing else would have come.

Under the chunk mask the K actions of a chunk do not see each other, so all K are decoded side by
side in D passes; `act_sequentially` is the slow, obvious version with the same result.

    pass 0   prompt, start₁ … start_K         positions P + (D+2)·(k-1)
    pass i   bin i of every action, i < D     positions P + (D+2)·(k-1) + i
    proof    bin D and end of every action    is every forced or chosen id the likeliest of all?

`act_verified` adds the last pass, which proves that free decoding over the whole vocabulary, as
the reference does it, would have given the same ids; from the first that differs it goes on
freely. Where the model has a continuous action head, `act_continuous` needs no ids at all.

Knows ids and the grammar of chunks. Must not know prompts' wording, images or robots.
Legend: P prompt length, K horizon, D action dimension, t tokens, d model width.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldvla_ros.errors import DecodingError
from worldvla_ros.inference.caches import Caches, Session, check_finite
from worldvla_ros.inference.free_decoding import decode_freely, well_formed
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.tokenizers.sequence import SHARED_BLOCK, Sequence
from worldvla_ros.tokenizers.vocab import BINS, Vocabulary

Choose = Callable[[Tensor], Tensor]
FREE_IDS_PER_ACTION = 5
"""Ids beside its bins that free decoding may spend on an action (the reference: 12 for D = 7)."""


@dataclass(frozen=True)
class DecodedChunk:
    """What the model chose.

    Attributes:
        bins: int64[K, D] in 1…256; after free decoding there may be fewer or more actions than
            asked for.
        log_probs: float32[K, D], of each chosen bin among all bins.
        passes: Forward passes used.
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
class _Layout:
    """Where the ids of a chunk lie behind its prompt."""

    prompt: Sequence
    horizon: int
    dim: int

    @property
    def size(self) -> int:
        return self.dim + 2

    @property
    def length(self) -> int:
        return len(self.prompt.ids)

    @property
    def starts(self) -> np.ndarray:
        """Positions of the starts: int64[K]."""
        return self.length + self.size * np.arange(self.horizon)

    def blocks(self, room: int) -> np.ndarray:
        """Block of each position, with room for a response: int64[P + room]."""
        blocks = np.full(self.length + room, SHARED_BLOCK)
        blocks[: self.length] = self.prompt.blocks
        blocks[self.length : self.length + self.horizon * self.size] = np.repeat(
            np.arange(1, self.horizon + 1), self.size
        )
        return blocks


@dataclass(frozen=True)
class _Decoded:
    """A chunk as it lies on the device.

    Attributes:
        last: [d], hidden state before the chunk.
        hidden: D times [K, d], hidden states before the bins.
        bins: int64[K, D] in 0…255.
        log_probs: float32[K, D].
    """

    last: Tensor
    hidden: list[Tensor]
    bins: Tensor
    log_probs: Tensor


class ChunkDecoder:
    """Decodes chunks with one transformer and its vocabulary."""

    def __init__(self, model: Transformer, vocab: Vocabulary, caches: Caches) -> None:
        """Keep the model; a cache is leased for each chunk."""
        self._model, self._vocab, self._caches = model, vocab, caches
        self._device = model.lm_head.weight.device
        self._first_bin = vocab.action_bin_base + 1
        self._bin_span = slice(self._first_bin, self._first_bin + BINS)

    @torch.inference_mode()
    def act(
        self, prompt: Sequence, horizon: int, dim: int, choose: Choose = likeliest
    ) -> DecodedChunk:
        """Decode all actions of a chunk side by side; `choose` picks each bin.

        Raises:
            CheckpointError: The sequence is too long for the model, or its scores are not finite.
            MemoryLimitError: Memory is short.
        """
        layout = _Layout(prompt, horizon, dim)
        with self._session(layout, horizon * (dim + 2)) as session:
            return _chunk(self._decode(session, layout, choose), session.passes)

    @torch.inference_mode()
    def act_verified(self, prompt: Sequence, horizon: int, dim: int) -> DecodedChunk:
        """Decode as the reference does, freely and greedily over the whole vocabulary.

        The chunk is decoded side by side and then proven in one more pass; from the first id that
        free decoding would have chosen differently, decoding goes on freely. The chunk then is
        the well-formed actions that the response begins with.

        Raises:
            CheckpointError: The sequence is too long for the model, or its scores are not finite.
            DecodingError: The response does not begin with a well-formed action.
            MemoryLimitError: Memory is short.
        """
        layout = _Layout(prompt, horizon, dim)
        with self._session(layout, horizon * (dim + FREE_IDS_PER_ACTION)) as session:
            made = self._decode(session, layout, likeliest)
            forced, rows = self._forced_response(made), self._prove(session, layout, made)
            chosen = self._likeliest_ids(rows)
            differs = (chosen != forced).nonzero()
            if not len(differs):
                return _chunk(made, session.passes)
            place = int(differs[0])
            response = [*forced[:place].tolist(), int(chosen[place])]
            return self._go_on_freely(session, layout, response, rows[: place + 1])

    @torch.inference_mode()
    def act_freely(self, prompt: Sequence, horizon: int, dim: int) -> DecodedChunk:
        """Decode as the reference does, one id after another: the reference for `act_verified`.

        Raises:
            CheckpointError: The sequence is too long for the model, or its scores are not finite.
            DecodingError: The response does not begin with a well-formed action.
        """
        layout = _Layout(prompt, horizon, dim)
        with self._session(layout, horizon * (dim + FREE_IDS_PER_ACTION)) as session:
            ids, positions = self._rest(session, prompt)
            rows = session.feed(ids, positions, layout.length)[0, -1:]
            response = self._likeliest_ids(rows).tolist()
            return self._go_on_freely(session, layout, response, rows)

    @torch.inference_mode()
    def act_sequentially(
        self, prompt: Sequence, horizon: int, dim: int, choose: Choose = likeliest
    ) -> DecodedChunk:
        """Decode a chunk one token after another: the reference for `act`."""
        layout, vocab = _Layout(prompt, horizon, dim), self._vocab
        bins = np.zeros((horizon, dim), np.int64)
        log_probs = np.zeros((horizon, dim), np.float32)
        with self._session(layout, horizon * (dim + 2)) as session:
            session.feed(*self._rest(session, prompt), layout.length)
            position = layout.length

            def step(token_id: int) -> Tensor:
                nonlocal position
                position += 1
                return session.feed(self._row(token_id), self._row(position - 1), position)[0, 0]

            for k in range(horizon):
                hidden = step(vocab.action_start)
                for i in range(dim):
                    scores = self._bin_scores(hidden)
                    best = int(choose(scores))
                    bins[k, i], log_probs[k, i] = best + 1, float(scores[best])
                    hidden = step(self._first_bin + best)
                step(vocab.action_end)
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
        with self._session(_Layout(prompt, 0, dim), 0, reuse=False) as session:
            actions = head(session.feed(*self._rest(session, prompt), len(prompt.ids)))[0].float()
            check_finite(actions)
            return actions.cpu().numpy()

    def _session(
        self, layout: _Layout, room: int, *, reuse: bool = True
    ) -> AbstractContextManager[Session]:
        what = f'prompt of {layout.length} and {layout.horizon} actions of {layout.size}'
        ids = layout.prompt.ids[None]
        return self._caches.session(ids, layout.blocks(room), what, reuse=reuse)

    def _rest(self, session: Session, prompt: Sequence) -> tuple[Tensor, Tensor]:
        """Return ids and positions of what is not known of a prompt, its last id at least."""
        first = min(session.known, len(prompt.ids) - 1)
        return self._row(prompt.ids[first:]), self._row(np.arange(first, len(prompt.ids)))

    def _decode(self, session: Session, layout: _Layout, choose: Choose) -> _Decoded:
        """Decode all bins of a chunk; nothing is waited for on the way."""
        ids, positions = self._rest(session, layout.prompt)
        at = self._row(layout.starts)  # [1, K]
        starts = torch.full_like(at, self._vocab.action_start)
        ids, positions = torch.cat([ids, starts], 1), torch.cat([positions, at], 1)
        end = layout.length + layout.size * layout.horizon
        all_hidden = session.feed(ids, positions, end)[0]
        hidden = [all_hidden[-layout.horizon :]]
        bins, log_probs = [], []
        for i in range(1, layout.dim + 1):
            scores = self._bin_scores(hidden[-1])  # [K, 256]
            best = choose(scores)
            bins.append(best)
            log_probs.append(scores.gather(-1, best[:, None])[:, 0])
            if i < layout.dim:
                hidden.append(session.feed(best[None] + self._first_bin, at + i, end)[0])
        last = all_hidden[-layout.horizon - 1]
        return _Decoded(last, hidden, torch.stack(bins, 1), torch.stack(log_probs, 1))

    def _prove(self, session: Session, layout: _Layout, made: _Decoded) -> Tensor:
        """Feed the last bins and the ends; return the hidden state before each id, [t, d]."""
        at = self._row(layout.starts)
        last = made.bins[None, :, -1] + self._first_bin
        ids = torch.cat([last, torch.full_like(last, self._vocab.action_end)], 1)
        positions = torch.cat([at + layout.dim, at + layout.dim + 1], 1)
        end = layout.length + layout.size * layout.horizon
        behind = session.feed(ids, positions, end)[0].chunk(2)
        rows = torch.stack([*made.hidden, *behind], 1)  # [K, D + 2, d]
        return torch.cat([made.last[None], rows.flatten(0, 1)])

    def _forced_response(self, made: _Decoded) -> Tensor:
        """Return the response as it was forced and chosen: int64[K · (D + 2) + 1]."""
        edge = torch.ones_like(made.bins[:, :1])
        vocab = self._vocab
        parts = [vocab.action_start * edge, made.bins + self._first_bin, vocab.action_end * edge]
        return torch.cat([torch.cat(parts, 1).flatten(), vocab.sep * edge[0]])

    def _go_on_freely(
        self, session: Session, layout: _Layout, response: list[int], rows: Tensor
    ) -> DecodedChunk:
        """Decode the rest freely; `rows`, [t, d], are the hidden states before the response."""
        place = len(response) - 1
        most = layout.horizon * (layout.dim + FREE_IDS_PER_ACTION)
        response, hidden = decode_freely(
            session, self._model.logits, self._vocab, layout.length, response, most
        )
        bins = well_formed(response, self._vocab, layout.dim)
        if not len(bins):
            raise DecodingError(
                'the answer of the model does not begin with an action',
                expected=f'{layout.horizon} actions of {layout.dim} numbers',
                got=f'ids {response[: layout.size]}',
                remedy='Use a checkpoint trained for this robot, or decoding discrete.',
            )
        rows = torch.cat([rows, *(h[None] for h in hidden)])
        inside = layout.size * np.arange(len(bins))[:, None] + np.arange(1, layout.dim + 1)
        chosen = torch.as_tensor(bins - 1, device=self._device)
        scores = self._bin_scores(rows[torch.as_tensor(inside, device=self._device)])
        log_probs = scores.gather(-1, chosen[..., None])[..., 0].cpu().numpy()
        return DecodedChunk(bins, log_probs, session.passes, free_from=place)

    def _likeliest_ids(self, rows: Tensor) -> Tensor:
        """Return the likeliest id of the whole vocabulary: [t, d] → int64[t]."""
        best, ids = self._model.logits(rows).max(-1)
        check_finite(best)
        return ids

    def _bin_scores(self, hidden: Tensor) -> Tensor:
        """Return log-probabilities among the bins: [..., d] → float32[..., 256]."""
        return self._model.logits(hidden, self._bin_span).log_softmax(-1)

    def _row(self, numbers: object) -> Tensor:
        """Return numbers as one row on the device: int64[1, t]."""
        return torch.as_tensor(numbers, device=self._device).reshape(1, -1)


def _chunk(made: _Decoded, passes: int) -> DecodedChunk:
    check_finite(made.log_probs)
    return DecodedChunk((made.bins + 1).cpu().numpy(), made.log_probs.cpu().numpy(), passes)
