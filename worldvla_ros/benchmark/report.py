"""Figures of a benchmark: for people as a table, for programs as plain values.

Must not know how anything was measured.
"""

from dataclasses import asdict, dataclass

import numpy as np

from worldvla_ros.benchmark.device import Rates

PREFIXES = ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k'), (1, ''))
COLUMNS = ('', 'p50', 'p95', 'passes', 'tokens', 'moved', 'FLOPs', 'limit', 'ratio')


@dataclass(frozen=True)
class Row:
    """Figures of one case.

    Attributes:
        name: The case.
        times_s: Time of each repetition [s].
        passes: Passes of the transformer.
        tokens: Tokens fed to it.
        bytes: Bytes that must be moved.
        flops: Floating-point operations.
        limit_s: Lower bound of the time on this device (roofline) [s].
    """

    name: str
    times_s: tuple[float, ...]
    passes: int
    tokens: int
    bytes: float
    flops: float
    limit_s: float

    @property
    def p50_s(self) -> float:
        """Median time [s]."""
        return float(np.percentile(self.times_s, 50))

    @property
    def p95_s(self) -> float:
        """95th percentile of the times [s]."""
        return float(np.percentile(self.times_s, 95))

    @property
    def ratio(self) -> float:
        """Median time as a multiple of the limit."""
        return self.p50_s / self.limit_s

    def record(self) -> dict[str, object]:
        """Return plain values."""
        derived = {'p50_s': self.p50_s, 'p95_s': self.p95_s, 'ratio': self.ratio}
        return asdict(self) | {'times_s': list(self.times_s)} | derived

    def cells(self) -> tuple[str, ...]:
        """Return the row as texts in the order of `COLUMNS`."""
        times = [duration(t) for t in (self.p50_s, self.p95_s)]
        counts = [str(n) if n else '–' for n in (self.passes, self.tokens)]
        work = (quantity(self.bytes, 'B'), quantity(self.flops, ''))
        return (self.name, *times, *counts, *work, duration(self.limit_s), f'{self.ratio:.1f} ×')


@dataclass(frozen=True)
class Comparison:
    """A way of decoding against its reference.

    Attributes:
        name: The fast row.
        reference: The slow row.
        speedup: How many times faster the median is.
        equal: Share of numbers that are equal, 0 … 1.
    """

    name: str
    reference: str
    speedup: float
    equal: float

    def line(self) -> str:
        """Return a sentence."""
        share = 'same result' if self.equal == 1 else f'{self.equal:.1%} of the result equal'
        return f'{self.name} is {self.speedup:.1f} × faster than {self.reference} ({share})'


@dataclass(frozen=True)
class Report:
    """All figures of one run.

    Attributes:
        model: Name and hash of the weights.
        device: 'cpu' or 'cuda', and the hardware's name.
        dtype: Type of the transformer's weights.
        threads: CPU threads of torch.
        weight_bytes: Bytes of the transformer's weights.
        ready_s: Time until the weights were loaded or made [s].
        peak_bytes: Peak memory, allocated on a GPU or resident on a CPU.
        rates: Measured rates of the device.
        horizon: Actions per chunk (K).
        images_per_camera: Images per camera in an action prompt (M).
        cameras: Views.
        resolution: Side of an image [px].
        rows: What was measured.
        comparisons: Fast against slow ways.
    """

    model: str
    device: str
    dtype: str
    threads: int
    weight_bytes: int
    ready_s: float
    peak_bytes: int
    rates: Rates
    horizon: int
    images_per_camera: int
    cameras: int
    resolution: int
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...] = ()

    def record(self) -> dict[str, object]:
        """Return plain values for JSON."""
        rows = [row.record() for row in self.rows]
        return asdict(self) | {'rows': rows, 'comparisons': [asdict(c) for c in self.comparisons]}

    def table(self) -> str:
        """Return what a terminal shows: a header line, the rows, the comparisons."""
        lines = [COLUMNS, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ['  '.join(_padded(line, widths)).rstrip() for line in lines]
        rule = '─' * (sum(widths) + 2 * (len(widths) - 1))
        return '\n'.join(
            [self._header(), self._sizes(), text[0], rule, *text[1:],
             *(c.line() for c in self.comparisons)]
        )  # fmt: skip

    def _header(self) -> str:
        rates = self.rates
        return ', '.join(
            [
                self.device,
                self.dtype,
                f'{self.threads} thread{"s" * (self.threads != 1)}',
                f'weights {quantity(self.weight_bytes, "B")}',
                f'copy {quantity(rates.bandwidth, "B/s")}',
                f'matmul {quantity(rates.matmul, "FLOP/s")}',
                f'convolution {quantity(rates.convolution, "FLOP/s")}',
                f'peak memory {quantity(self.peak_bytes, "B")}',
            ]
        )

    def _sizes(self) -> str:
        views = f'{self.cameras} camera{"s" * (self.cameras != 1)}'
        return (
            f'{self.model}: {self.horizon} actions, {self.images_per_camera} × {views} of '
            f'{self.resolution} px, ready in {duration(self.ready_s)}'
        )


def duration(seconds: float) -> str:
    """Return a time with three digits: 41.9 ms, 280 s."""
    return f'{_digits(seconds)} s' if seconds >= 1 else f'{_digits(seconds * 1000)} ms'


def quantity(value: float, unit: str) -> str:
    """Return a number with three digits, a prefix and its unit: 13.8 MB."""
    step, prefix = next((p for p in PREFIXES if value >= p[0]), PREFIXES[-1])
    return f'{_digits(value / step)} {prefix}{unit}'.rstrip()


def _digits(value: float) -> str:
    rounded = float(f'{value:.3g}')
    return f'{rounded:.{max(0, 3 - len(str(int(rounded))))}f}'


def _padded(cells: tuple[str, ...], widths: list[int]) -> list[str]:
    """Pad names on the right and figures on the left."""
    first, *rest = zip(cells, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
