"""Which cache holds which sequence, so that what is known already is not computed again.

A session leases a cache for one sequence, or for several of equal length side by side. The cache
whose old sequence begins most alike is taken, and only what differs is fed: the same instruction,
the same images before other actions, the images imagined from before the observed ones.

Knows ids as numbers to compare. Must not know what they mean.
Legend: b sequences side by side, t tokens, p tokens of a prompt, d model width.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
import threading

import numpy as np
import torch
from torch import Tensor

from worldvla_ros.errors import CheckpointError
from worldvla_ros.inference.fast import FastTransformer, KVCache
from worldvla_ros.inference.shortage import explain_shortage

CACHES = 3
"""One each for acting, imagining and surprise."""
UNKNOWN = -1
"""Stands for an id that is on the device alone; comparing prompts, it is like no other."""
WORTH_SHARING = 4
"""A cache that knows fewer tokens of a prompt is left to prompts that are more like its own."""
GRANULE = 128
"""Caches grow in steps of this many tokens, so that prompts of like lengths share one."""


@dataclass(eq=False)
class Held:
    """A cache, and the prompt that it holds: int64[b, p] ids and int64[p] blocks."""

    cache: KVCache
    ids: np.ndarray = field(default_factory=lambda: np.zeros((1, 0), np.int64))
    blocks: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    leased: bool = False

    def fits(self, batch: int, room: int) -> bool:
        """Whether a session of this size may have the cache."""
        return not self.leased and self.cache.batch == batch and self.cache.length >= room

    def in_common(self, ids: np.ndarray, blocks: np.ndarray) -> int:
        """How many tokens of a prompt the cache holds already."""
        both = min(self.ids.shape[1], ids.shape[1])
        same = (self.ids[:, :both] == ids[:, :both]) & (ids[:, :both] != UNKNOWN)
        return _leading(same.all(0) & (self.blocks[:both] == blocks[:both]))


class Session:
    """Sequences on their way through the model, in a leased cache.

    Attributes:
        known: How many tokens of the prompt need not be fed.
        passes: Forward passes so far.
    """

    def __init__(self, forward: Callable, cache: KVCache, known: int) -> None:
        """Go on behind the first `known` tokens that the cache holds."""
        self._forward, self._cache = forward, cache
        self.known = known
        self.passes = 0

    @property
    def device(self) -> torch.device:
        """Where ids are expected."""
        return self._cache.blocks.device

    @property
    def padding(self) -> int:
        """The position that no token sees: where ids go that only fill a batch up."""
        return self._cache.length

    def feed(self, ids: Tensor, positions: Tensor, end: int) -> Tensor:
        """Run tokens through the model: int64[b, t], int64[b or 1, t] → hidden [b, t, d].

        No position but the padding's is `end` or greater.
        """
        self.passes += 1
        return self._forward(ids, positions, self._cache, end)

    def mark(self, position: int, block: int) -> None:
        """Say of which block the token at a position will be."""
        self._cache.blocks[position] = block

    def spread(self, end: int) -> None:
        """Let all sequences begin as the first does, which was fed alone."""
        self._cache.spread(end)


class Caches:
    """A few caches of one model."""

    def __init__(self, fast: FastTransformer, forward: Callable) -> None:
        """Make caches when they are asked for; `forward` is called as `fast.forward` is."""
        self._fast, self._forward = fast, forward
        self._held: list[Held] = []
        self._lock = threading.Lock()

    @contextmanager
    def session(
        self, ids: np.ndarray, blocks: np.ndarray, what: str, *, reuse: bool = True
    ) -> Iterator[Session]:
        """Lease a cache.

        Args:
            ids: int64[b, p], the prompts, `UNKNOWN` where an id is on the device alone.
            blocks: int64[room], the block of each position that there may be.
            what: What makes up the room, for messages.
            reuse: Whether what the cache knows of the prompt is taken over.

        Raises:
            CheckpointError: There are more positions than the model has.
            MemoryLimitError: The cache, or what is computed, does not fit into memory.
        """
        room = len(blocks)
        check_room(room, self._fast.config.max_position_embeddings, what)
        with self._lock:  # a node may be configured while another one thinks
            held = self._lease(ids, blocks, room)
        prompt = blocks[: ids.shape[1]]
        known = held.in_common(ids, prompt) if reuse else 0
        held.ids = ids[:, :0]
        try:
            with explain_shortage('decoding', self._needed(len(ids), room)):
                held.cache.blocks[:room] = torch.as_tensor(blocks, device=self._fast.device)
                yield Session(self._forward, held.cache, known)
            held.ids, held.blocks = ids, prompt
        finally:
            if held.ids is not ids:  # it ended early, perhaps with numbers that are not finite
                held.cache.clear()
            held.leased = False

    def forget(self) -> None:
        """Let no cache know any prompt; they keep their memory."""
        for held in self._held:
            held.ids, held.blocks = held.ids[:, :0], held.blocks[:0]

    def _lease(self, ids: np.ndarray, blocks: np.ndarray, room: int) -> Held:
        """Return the cache that knows most of a prompt, or a new one where none knows much."""
        prompt = blocks[: ids.shape[1]]
        known = {h: h.in_common(ids, prompt) for h in self._held if h.fits(len(ids), room)}
        held = max(known, key=known.get, default=None)
        if held is None or (known[held] < WORTH_SHARING and len(self._held) < CACHES):
            held = self._new(len(ids), room)
        self._held = [h for h in self._held if h is not held] + [held]
        held.leased = True
        return held

    def _new(self, batch: int, room: int) -> Held:
        idle = [h for h in self._held if not h.leased]
        if len(self._held) >= CACHES and idle:
            self._held.remove(idle[0])  # the one that was used longest ago
        limit = self._fast.config.max_position_embeddings
        length = min(-(-room // GRANULE) * GRANULE, limit)
        with explain_shortage('making a cache', self._needed(batch, length)):
            return Held(self._fast.new_cache(length, batch))

    def _needed(self, batch: int, room: int) -> str:
        bytes_per_token = self._fast.config.cache_bytes_per_token(self._fast.dtype)
        return (
            f'{batch} × {room} tokens in a cache of {batch * room * bytes_per_token / 1e6:.0f} MB'
        )


def check_room(room: int, limit: int, what: str) -> None:
    """Refuse a sequence that is longer than the model can have.

    Raises:
        CheckpointError: It is; the message names the limit.
    """
    if room > limit:
        raise CheckpointError(
            'sequence too long for this model',
            expected=f'at most {limit} tokens',
            got=f'{room} ({what})',
            remedy='Use a shorter chunk, less history, smaller images or a shorter instruction.',
        )


def check_finite(numbers: Tensor) -> None:
    """Refuse scores or actions of which one is not finite.

    Raises:
        CheckpointError: One is not.
    """
    if not bool(numbers.isfinite().all()):
        raise CheckpointError(
            'the model gives scores that are not finite: its weights are damaged'
        )


def _leading(flags: np.ndarray) -> int:
    """Return how many flags are set before the first that is not."""
    return len(flags) if flags.all() else int(flags.argmin())
