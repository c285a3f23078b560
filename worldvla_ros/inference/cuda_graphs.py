"""CUDA graphs: a pass of a shape that was met before is started as one piece.

A pass of a large model is hundreds of small kernels, and starting them one by one takes longer
than running them. Shapes are kept few: attention always looks at all slots of its cache (what lies
behind is hidden), and passes are filled up to whole buckets.

Knows shapes and CUDA. Must not know what an id means.
Legend: b batch, t new tokens, d model width.
"""

import threading

import torch
from torch import Tensor
from torch.nn import functional

from worldvla_ros.inference.fast import FastTransformer, KVCache

BUCKET = 64
"""Passes of more tokens are filled up to a multiple of this, shorter ones to a power of two."""
WARM_UPS = 2
"""Passes before capture, in which libraries choose kernels and reserve memory."""


class Captured:
    """One pass as a graph, with the buffers that it reads and writes."""

    def __init__(
        self, fast: FastTransformer, ids: Tensor, positions: Tensor, cache: KVCache, pool: object
    ) -> None:
        """Capture a pass with copies of these ids and positions."""
        self._ids, self._positions = ids.clone(), positions.clone()

        def forward() -> Tensor:
            return fast.forward(self._ids, self._positions, cache, cache.length)

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                forward()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._hidden = forward()

    def replay(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Run the pass again: int64[b, t], int64[b or 1, t] → [b, t, d]."""
        self._ids.copy_(ids)
        self._positions.copy_(positions)
        self._graph.replay()
        return self._hidden.clone()


class GraphedForward:
    """`FastTransformer.forward`, captured once for each shape and cache."""

    def __init__(self, fast: FastTransformer) -> None:
        """Capture nothing yet; graphs live as long as their caches."""
        self._fast = fast
        with torch.cuda.device(fast.device):
            self._pool = torch.cuda.graph_pool_handle()
        self._lock = threading.Lock()

    def __call__(self, ids: Tensor, positions: Tensor, cache: KVCache, end: int) -> Tensor:
        """Do as `FastTransformer.forward` does; `end` is not needed."""
        tokens = ids.shape[1]
        ids, positions = padded(ids, positions, cache.length)
        key = (ids.shape, positions.shape)
        # graphs share memory, so one must be read before another one runs
        with self._lock, torch.cuda.device(self._fast.device):
            if key not in cache.graphs:
                cache.graphs[key] = Captured(self._fast, ids, positions, cache, self._pool)
            return cache.graphs[key].replay(ids, positions)[:, :tokens]


def padded(ids: Tensor, positions: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Fill a pass up to a whole bucket with ids at the padding's position."""
    tokens = ids.shape[1]
    whole = -(-tokens // BUCKET) * BUCKET if tokens > BUCKET else 1 << (tokens - 1).bit_length()
    more = whole - tokens
    return functional.pad(ids, (0, more)), functional.pad(positions, (0, more), value=padding)
