"""Decoding one id after another: slow and obvious, what the decoders must agree with.

Used by tests, and by `worldvla bench --against reference`.

Knows ids and the grammar of chunks. Must not know prompts' wording, images or robots.
Legend: K horizon, D action dimension.
"""

import numpy as np
import torch

from worldvla_ros.inference.caches import Session
from worldvla_ros.inference.chunks import Choose, ChunkLayout, DecodedChunk, likeliest
from worldvla_ros.inference.engine import Engine
from worldvla_ros.inference.free_decoding import FreeDecoder
from worldvla_ros.tokenizers.sequence import Sequence


@torch.inference_mode()
def act_sequentially(
    engine: Engine, prompt: Sequence, horizon: int, dim: int, choose: Choose = likeliest
) -> DecodedChunk:
    """Decode a chunk one token after another, inside the grammar; compare `ChunkDecoder.act`.

    Raises:
        CheckpointError: The sequence is too long for the model.
        MemoryLimitError: Memory is short.
    """
    layout, vocab = ChunkLayout([prompt], horizon, dim), engine.vocab
    bins = np.zeros((horizon, dim), np.int64)
    log_probs = np.zeros((horizon, dim), np.float32)
    roles = layout.roles(layout.chunk_length)
    with engine.caches.session(layout.ids, roles, _described(layout)) as session:
        tokens = _Tokens(engine, session, prompt)
        for k in range(horizon):
            hidden = tokens.feed([vocab.action_start])
            for i in range(dim):
                scores = engine.fast.logits(hidden, vocab.action_bins).log_softmax(-1)
                best = int(choose(scores))
                bins[k, i], log_probs[k, i] = best, float(scores[best])
                hidden = tokens.feed([vocab.action_bins.start + best])
            tokens.feed([vocab.action_end])
        return DecodedChunk(bins, log_probs, session.passes)


@torch.inference_mode()
def act_freely(engine: Engine, prompt: Sequence, horizon: int, dim: int) -> DecodedChunk:
    """Decode one id after another, without grammar; compare `ChunkDecoder.act_verified`.

    Raises:
        CheckpointError: The sequence is too long for the model.
        DecodingError: The response does not begin with a well-formed action.
        MemoryLimitError: Memory is short.
    """
    layout, free = ChunkLayout([prompt], horizon, dim), FreeDecoder(engine.fast, engine.vocab)
    room = free.room(len(prompt.ids), layout.chunk_length)
    with engine.caches.session(layout.ids, layout.roles(room), _described(layout)) as session:
        hidden = _Tokens(engine, session, prompt).hidden
        first = int(engine.fast.logits(hidden).argmax())
        bins, log_probs = free.go_on(
            session, len(prompt.ids), [first], hidden[None], dim=dim, room=room
        )
        return DecodedChunk(bins, log_probs, session.passes, free_from=0)


class _Tokens:
    """Feeds one token after another behind a prompt; `hidden` is the state [d] behind the last."""

    def __init__(self, engine: Engine, session: Session, prompt: Sequence) -> None:
        """Feed what is not cached of the prompt, its last id at least."""
        self._session, self._device = session, engine.fast.device
        self._position = min(session.cached_count, len(prompt.ids) - 1)
        self.hidden = self.feed(prompt.ids[self._position :].tolist())

    def feed(self, ids: list[int]) -> torch.Tensor:
        """Feed ids at the next positions; return the hidden state behind the last, [d]."""
        end = self._position + len(ids)
        row = torch.tensor([ids], device=self._device)
        positions = torch.arange(self._position, end, device=self._device)[None]
        self._position = end
        return self._session.feed(row, positions, end)[0, -1]


def _described(layout: ChunkLayout) -> str:
    return f'prompt of {layout.lengths[0]} and {layout.horizon} actions of {layout.dim + 2}'
