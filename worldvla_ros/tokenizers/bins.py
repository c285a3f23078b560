"""Numbers ⇄ bins ⇄ token ids, for actions and for robot state.

"256 bins" of the papers means 256 *edges*, linspace(-1, 1, 256): 255 intervals, and one boundary
bin for values at or beyond the upper edge. The papers number bins from 1, as `numpy.digitize` does
(WorldVLA `data/item_processor.py`): bin d (1…256) holds edges[d-1] ≤ n < edges[d], and bin 256
decodes to the same centre as bin 255. Here, and nowhere else, that number becomes d - 1: elsewhere
a bin is an index from 0 to 255, as an image code is an index.

Knows the range of each dimension. Must not know what the numbers mean.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldvla_ros.errors import CheckpointError
from worldvla_ros.tokenizers.vocab import BINS, Vocabulary

EDGES = np.linspace(-1.0, 1.0, BINS)
CENTRES = (EDGES.astype(np.float32)[:-1] + EDGES.astype(np.float32)[1:]) / 2
RANGE_EPSILON = 1e-8
"""Keeps the range of a constant dimension from being zero (same value as the reference)."""


@dataclass(frozen=True)
class BinTokenizer:
    """One block of numbers: `[start, bin, …, bin, end]`, dim + 2 ids.

    Attributes:
        minimum: Lower end of each dimension's range.
        maximum: Upper end of each dimension's range.
        start: Id before the bins.
        end: Id after the bins.
        first_bin: Id of bin 0; bin i has the id `first_bin + i`.
    """

    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    start: int
    end: int
    first_bin: int

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            CheckpointError: The two ends differ in length, or a range is empty.
        """
        if len(self.minimum) != len(self.maximum) or np.any(self._low > self._high):
            raise CheckpointError(
                'statistics of a quantised block',
                expected='minimum <= maximum for each dimension',
                got=f'{self.minimum} and {self.maximum}',
            )

    @property
    def dim(self) -> int:
        """Numbers per block."""
        return len(self.minimum)

    @property
    def block_length(self) -> int:
        """Ids per block."""
        return self.dim + 2

    @property
    def _low(self) -> NDArray[np.float64]:
        return np.asarray(self.minimum, np.float64)

    @property
    def _high(self) -> NDArray[np.float64]:
        return np.asarray(self.maximum, np.float64)

    @property
    def _span(self) -> NDArray[np.float64]:
        return self._high - self._low + RANGE_EPSILON

    def bins(self, values: np.ndarray) -> NDArray[np.int64]:
        """Quantise values: float[..., dim] → int64[..., dim] in 0…255; out of range is clipped."""
        normalised = 2 * (np.asarray(values, np.float64) - self._low) / self._span - 1
        clipped = np.clip(normalised, -1, 1)
        # the papers' d, 1…256
        numbers: NDArray[np.int64] = np.searchsorted(EDGES, clipped, side='right').astype(np.int64)
        return numbers - 1

    def values(self, bins: np.ndarray) -> NDArray[np.float32]:
        """Return the centres of bins: int[..., dim] in 0…255 → float32[..., dim]."""
        return self.denormalise(CENTRES[np.clip(np.asarray(bins), 0, BINS - 2)])

    def denormalise(self, normalised: np.ndarray) -> NDArray[np.float32]:
        """Scale from [-1, 1] to the range of each dimension: float[..., dim] → float32[..., dim].

        What lies outside [-1, 1] stays outside the range, as in the reference.
        """
        share = (np.asarray(normalised, np.float64) + 1) / 2
        values: NDArray[np.float64] = share * self._span + self._low
        return values.astype(np.float32)

    def encode(self, values: np.ndarray) -> NDArray[np.int64]:
        """Return blocks of ids: float[..., dim] → int64[..., dim + 2].

        Raises:
            ValueError: The last dimension is not `dim`, or a value is NaN.
        """
        values = np.asarray(values)
        if values.shape[-1:] != (self.dim,):
            raise ValueError(f'expected [..., {self.dim}] values, got {list(values.shape)}')
        if np.isnan(values).any():
            raise ValueError('a value is NaN')
        edge = np.ones((*values.shape[:-1], 1), np.int64)
        ids = self.bins(values) + self.first_bin
        return np.concatenate([edge * self.start, ids, edge * self.end], axis=-1)

    def decode(self, ids: np.ndarray) -> NDArray[np.float32]:
        """Return the values of blocks: int64[..., dim + 2] → float32[..., dim].

        An id that is no bin is clipped to the nearest one, as the reference does.

        Raises:
            ValueError: The last dimension is not `dim + 2`.
        """
        ids = np.asarray(ids)
        if ids.shape[-1:] != (self.block_length,):
            raise ValueError(f'expected [..., {self.block_length}] ids, got {list(ids.shape)}')
        return self.values(ids[..., 1:-1] - self.first_bin)


def action_tokenizer(
    vocab: Vocabulary, minimum: tuple[float, ...], maximum: tuple[float, ...]
) -> BinTokenizer:
    """Return the tokenizer of action blocks."""
    first_bin = vocab.action_bins.start
    return BinTokenizer(minimum, maximum, vocab.action_start, vocab.action_end, first_bin)


def state_tokenizer(
    vocab: Vocabulary, minimum: tuple[float, ...], maximum: tuple[float, ...]
) -> BinTokenizer:
    """Return the tokenizer of robot-state blocks."""
    first_bin = vocab.state_bins.start
    return BinTokenizer(minimum, maximum, vocab.state_start, vocab.state_end, first_bin)
