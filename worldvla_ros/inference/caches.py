"""Which cache holds which prompts, so that what is cached is not computed again.

A session leases a cache for one sequence, or for several side by side. The cache whose old prompts
begin most alike is taken, and only what differs is fed: the same instruction, the same images
before other actions, the images imagined from before the observed ones.

Compares ids as numbers. Must not know what they mean.
Legend: b sequences side by side, t tokens, p tokens of a prompt, d model width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
import threading

import numpy as np
import torch
from torch import Tensor

from worldvla_ros.errors import CheckpointError
from worldvla_ros.inference.fast import FastTransformer, KVCache
from worldvla_ros.inference.shortage import explain_shortage
from worldvla_ros.tokenizers.sequence import UNDECIDED

CACHES = 3
"""One each for acting, imagining and surprise."""
MIN_SHARED_TOKENS = 4
"""A cache that shares fewer tokens with a prompt is left to prompts that are more like its own."""
GRANULE = 128
"""Caches grow in steps of this many tokens, so that prompts of like lengths share one."""


@dataclass(eq=False)
class CachedPrompts:
    """A cache, and the prompts that it holds: int64[b, p] ids and roles."""

    cache: KVCache
    ids: np.ndarray = field(default_factory=lambda: np.zeros((1, 0), np.int64))
    roles: np.ndarray = field(default_factory=lambda: np.zeros((1, 0), np.int64))
    leased: bool = False

    def fits(self, batch: int, room: int) -> bool:
        """Whether a session of this size may have the cache."""
        return not self.leased and self.cache.batch == batch and self.cache.length >= room

    def shared_tokens(self, ids: np.ndarray, roles: np.ndarray) -> int:
        """Return how many tokens at the start of all prompts are cached: int64[b, p] twice."""
        both = min(self.ids.shape[1], ids.shape[1])
        # what is undecided is on the device alone, and like no other id
        same = (self.ids[:, :both] == ids[:, :both]) & (ids[:, :both] != UNDECIDED)
        same &= self.roles[:, :both] == roles[:, :both]
        return leading(same.all(0))

    def forget(self) -> None:
        """Hold no prompt; the memory stays."""
        self.ids, self.roles = self.ids[:, :0], self.roles[:, :0]


class Session:
    """Sequences on their way through the model, in a leased cache.

    Attributes:
        cached_count: How many tokens of each prompt need not be fed.
        passes: Forward passes so far.
    """

    def __init__(self, fast: FastTransformer, cache: KVCache, cached_count: int) -> None:
        """Go on behind the first `cached_count` tokens that the cache holds."""
        self._fast, self._cache = fast, cache
        self.cached_count = cached_count
        self.passes = 0

    @property
    def padding(self) -> int:
        """The position that no token sees: where ids go that only fill a batch up."""
        return self._cache.length

    def feed(self, ids: Tensor, positions: Tensor, end: int) -> Tensor:
        """Run tokens through the model: int64[b, t], int64[b or 1, t] → hidden [b, t, d].

        No position but the padding's is `end` or greater.
        """
        self.passes += 1
        return self._fast.forward(ids, positions, self._cache, end)

    def set_role(self, position: int, role: int) -> None:
        """Set the mask role of a position, in all sequences."""
        self._cache.roles[:, position] = role

    def copy_first(self, end: int) -> None:
        """Copy the first `end` tokens of the first sequence, fed alone, to all others."""
        self._cache.copy_first(end)


class Caches:
    """A few caches of one model."""

    def __init__(self, fast: FastTransformer) -> None:
        """Make caches when they are asked for."""
        self._fast = fast
        self._bytes_per_token = fast.config.cache_bytes_per_token(fast.dtype)
        self._all: list[CachedPrompts] = []
        self._lock = threading.Lock()

    @contextmanager
    def session(
        self, ids: np.ndarray, roles: np.ndarray, what: str, *, reuse: bool = True
    ) -> Iterator[Session]:
        """Lease a cache.

        Args:
            ids: int64[b, p], the prompts; `UNDECIDED` where an id is on the device alone, and
                behind a prompt that is shorter than others.
            roles: int64[b, room], the mask role of each position that there may be.
            what: What makes up the room, for messages.
            reuse: Whether the start of the prompts that is cached is taken over.

        Raises:
            CheckpointError: There are more positions than the model has.
            MemoryLimitError: The cache, or what is computed, does not fit into memory.
        """
        room = roles.shape[1]
        check_room(room, self._fast.config.max_position_embeddings, what)
        prompt_roles = roles[:, : ids.shape[1]]
        with self._lock:  # a node may be configured while another one computes
            leased = self._lease(ids, prompt_roles, room)
        cached_count = leased.shared_tokens(ids, prompt_roles) if reuse else 0
        leased.forget()
        try:
            with explain_shortage('decoding', self._needed(len(ids), room)):
                leased.cache.roles[:, :room] = torch.as_tensor(roles, device=self._fast.device)
                yield Session(self._fast, leased.cache, cached_count)
            leased.ids, leased.roles = ids, prompt_roles
        finally:
            if leased.ids is not ids:  # it ended early, perhaps with numbers that are not finite
                leased.cache.clear()
            leased.leased = False

    def forget(self) -> None:
        """Invalidate all cached prompts, keep the buffers."""
        for each in self._all:
            each.forget()

    def _lease(self, ids: np.ndarray, roles: np.ndarray, room: int) -> CachedPrompts:
        """Return the cache that shares most with the prompts, or a new one where none does."""
        fitting = [each for each in self._all if each.fits(len(ids), room)]
        shared = {each: each.shared_tokens(ids, roles) for each in fitting}
        best = max(shared, key=lambda each: shared[each], default=None)
        if best is None or (shared[best] < MIN_SHARED_TOKENS and len(self._all) < CACHES):
            best = self._new(len(ids), room)
        self._all = [each for each in self._all if each is not best] + [best]
        best.leased = True
        return best

    def _new(self, batch: int, room: int) -> CachedPrompts:
        idle = [each for each in self._all if not each.leased]
        if len(self._all) >= CACHES and idle:
            self._all.remove(idle[0])  # the one that was used longest ago
        limit = self._fast.config.max_position_embeddings
        length = min(-(-room // GRANULE) * GRANULE, limit)
        with explain_shortage('making a cache', self._needed(batch, length)):
            return CachedPrompts(self._fast.new_cache(length, batch))

    def _needed(self, batch: int, room: int) -> str:
        megabytes = batch * room * self._bytes_per_token / 1e6
        return f'{batch} × {room} tokens in a cache of {megabytes:.0f} MB'


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
    """Refuse scores or actions of which one is not finite; the host waits for the device.

    Raises:
        CheckpointError: One is not.
    """
    if not bool(numbers.isfinite().all()):
        raise not_finite()


def not_finite() -> CheckpointError:
    """Return the error for scores or actions that are not finite."""
    return CheckpointError('the model gives scores that are not finite: its weights are damaged')


def leading(flags: np.ndarray) -> int:
    """Return how many flags are set before the first that is not."""
    return len(flags) if flags.all() else int(flags.argmin())
