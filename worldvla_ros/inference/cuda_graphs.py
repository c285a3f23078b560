"""CUDA graphs: a pass of a shape that was met before is started as one piece.

A pass of a large model is hundreds of small kernels, and starting them one by one takes longer
than running them. Shapes are kept few: attention always looks at all slots of its cache (what lies
behind is hidden), and passes are filled up to whole buckets.

Knows shapes and CUDA. Must not know caches or what an id means.
Legend: b batch, t new tokens, d model width.
"""

from collections.abc import Callable
import threading
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:  # torch has no public name for it
    from torch.cuda import _POOL_HANDLE

Pass = Callable[[Tensor, Tensor], Tensor]
"""Ids int64[b, t] and positions int64[b or 1, t] in, hidden states [b, t, d] out."""
BUCKET = 64
"""Passes of more tokens are filled up to a multiple of this, shorter ones to a power of two."""
WARM_UPS = 2
"""Passes before capture, in which libraries choose kernels and reserve memory."""


class Captured:
    """One pass as a graph, with the buffers that it reads and writes."""

    def __init__(self, run: Pass, ids: Tensor, positions: Tensor, pool: '_POOL_HANDLE') -> None:
        """Capture a pass with copies of these ids and positions."""
        self._ids, self._positions = ids.clone(), positions.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                run(self._ids, self._positions)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._hidden = run(self._ids, self._positions)

    def replay(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Run the pass again: int64[b, t], int64[b or 1, t] → [b, t, d]."""
        self._ids.copy_(ids)
        self._positions.copy_(positions)
        self._graph.replay()
        return self._hidden.clone()


class PassGraphs:
    """Runs passes of one device, each captured once for its shape and cache."""

    def __init__(self, device: torch.device) -> None:
        """Capture nothing yet; graphs live as long as their caches."""
        self._device = device
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()
        self._lock = threading.Lock()

    def run(
        self,
        run: Pass,
        ids: Tensor,
        positions: Tensor,
        padding: int,
        captured: dict[tuple[torch.Size, torch.Size], Captured],
    ) -> Tensor:
        """Run a pass as a graph.

        Args:
            run: The pass; what it reads besides ids and positions must stay where it is.
            ids: int64[b, t].
            positions: int64[b or 1, t].
            padding: The position that no token sees.
            captured: Graphs of this cache by shape; a new one is added.

        Returns:
            float[b, t, d].
        """
        tokens = ids.shape[1]
        ids, positions = padded(ids, positions, padding)
        shape = (ids.shape, positions.shape)
        # graphs share memory, so one must be read before another one runs
        with self._lock, torch.cuda.device(self._device):
            if shape not in captured:
                captured[shape] = Captured(run, ids, positions, self._pool)
            return captured[shape].replay(ids, positions)[:, :tokens]


def padded(ids: Tensor, positions: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Fill a pass up to a whole bucket with ids at the padding's position."""
    tokens = ids.shape[1]
    whole = -(-tokens // BUCKET) * BUCKET if tokens > BUCKET else 1 << (tokens - 1).bit_length()
    more = whole - tokens
    return functional.pad(ids, (0, more)), functional.pad(positions, (0, more), value=padding)
