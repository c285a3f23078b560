"""Measures a model on a device: the rows asked for, their limits, and references.

Must not know how figures are shown.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
import time
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from worldvla_ros.benchmark.cases import BenchmarkCases, Case
from worldvla_ros.benchmark.device import (
    Rates,
    device_name,
    forget_peak,
    measure_rates,
    peak_memory,
    seconds,
)
from worldvla_ros.benchmark.prompts import SimulatedPrompts
from worldvla_ros.benchmark.report import Comparison, Report, Row
from worldvla_ros.benchmark.target import Target, open_target, resize
from worldvla_ros.checkpoint.folder import Checkpoint
from worldvla_ros.checkpoint.hardware import choose_device
from worldvla_ros.checkpoint.quantise import AUTO, QUANTISED, weight_bytes
from worldvla_ros.checkpoint.spec import CheckpointSpec
from worldvla_ros.errors import ConfigError

CASES: dict[str, Callable[[BenchmarkCases], Case]] = {
    'prefill': BenchmarkCases.prefill,
    'chunk': BenchmarkCases.chunk,
    'image': BenchmarkCases.image,
    'surprise': BenchmarkCases.surprise,
    'encode': BenchmarkCases.encode,
    'decode': BenchmarkCases.decode,
    'end-to-end': BenchmarkCases.end_to_end,
}
REFERENCES: dict[str, Callable[[BenchmarkCases], Case]] = {
    'chunk': BenchmarkCases.sequential_chunk,
    'image': BenchmarkCases.sequential_image,
}
BUDGET_S = 1.0
"""How long each case is repeated where nobody says how often."""
REPEATS = (3, 100)
"""Fewest and most repeats in that time."""
WARM_UPS = {'cpu': 1, 'cuda': 3}
"""Calls that do not count: a GPU's kernels and graphs are prepared when they are first met."""
LONG_S = 5.0
"""A first call that took so long counts, and is enough: what it set up is a small part of it."""


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes:
        model: 'demo', '7b', a folder, or a profile; see target.py.
        device: 'cpu' or 'cuda'.
        dtype: A word of `quantise.WORDS`; 'auto' makes random weights in bfloat16.
        horizon: Actions per chunk (K); the model's own by default.
        images_per_camera: Images per camera (M); likewise.
        resolution: Side of an image [px]; likewise.
        only: Names of `CASES`; all by default.
        references: Whether the slow ways are run too.
        repeats: Times of each case; by default as many as fit `BUDGET_S`.
        progress: Whether progress is shown.
    """

    model: str = 'demo'
    device: str = 'cpu'
    dtype: str = AUTO
    horizon: int | None = None
    images_per_camera: int | None = None
    resolution: int | None = None
    only: tuple[str, ...] = ()
    references: bool = False
    repeats: int | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        """Check names and counts.

        Raises:
            ConfigError: A case or type is unknown, the repeats are below 1, or there is no GPU.
        """
        unknown = [name for name in self.only if name not in CASES]
        if unknown:
            raise ConfigError('--only', expected=f'some of {", ".join(CASES)}', got=unknown[0])
        if self.repeats is not None and self.repeats < 1:
            raise ConfigError('--repeats', expected='1 or more', got=self.repeats)
        choose_device(self.device)


def bench(settings: Settings, target: Target | None = None) -> Report:
    """Load or make a model, and measure it.

    Args:
        settings: What to measure.
        target: The model, where it is not found by its name.

    Raises:
        ConfigError: There is no such model, or a size does not fit it.
        CheckpointError: A folder is damaged.
    """
    target = target or open_target(settings.model)
    target = resize(target, settings.horizon, settings.images_per_camera, settings.resolution)
    device = choose_device(settings.device)
    start = time.perf_counter()
    checkpoint = target.loaded(device, settings.dtype)
    ready_s = time.perf_counter() - start
    weights = weight_bytes(checkpoint.model)
    dtype = checkpoint.model.lm_head.weight.dtype
    loaded = peak_memory(device)
    rates = measure_rates(device, dtype, weights, _levels(checkpoint.spec))
    forget_peak(device)
    prompts = SimulatedPrompts(checkpoint) if target.simulated else None
    cases = BenchmarkCases(checkpoint, prompts, settings.progress)
    rows, comparisons = _rows(cases, settings, rates)
    spec = checkpoint.spec
    return Report(
        model=checkpoint.model_id,
        device=f'{settings.device} ({device_name(device)})',
        dtype=_precision(settings.dtype, dtype),
        threads=torch.get_num_threads(),
        weight_bytes=weights,
        ready_s=ready_s,
        peak_bytes=max(loaded, peak_memory(device)),
        rates=rates,
        horizon=spec.action.horizon,
        images_per_camera=spec.images_per_camera,
        cameras=len(spec.cameras),
        resolution=spec.image_size,
        rows=tuple(rows),
        comparisons=tuple(comparisons),
    )


def repeated(
    case: Case, device: torch.device, repeats: int | None = None
) -> tuple[list[float], list[Any]]:
    """Return the times of a case [s], and its results.

    The first calls set things up and do not count, unless one was long.
    """
    times: list[float] = []
    made: list[Any] = []

    def once() -> float:
        given = case.prepare(len(made))
        took, found = seconds(lambda: case.call(given), device)
        made.append(found)
        return took

    first = once()
    if first > LONG_S:
        times.append(first)
    else:
        first = min([first, *(once() for _ in range(WARM_UPS[device.type] - 1))])
    if repeats is None:
        few, many = REPEATS
        repeats = 1 if times else int(min(max(BUDGET_S / max(first, 1e-9), few), many))
    while len(times) < repeats:
        times.append(once())
    return times, made


def _precision(word: str, dtype: torch.dtype) -> str:
    """Return the word asked for, with the type beside quantised weights."""
    name = str(dtype).removeprefix('torch.')
    return f'{word} beside {name}' if word in QUANTISED else name


def _levels(spec: CheckpointSpec) -> list[tuple[int, int]]:
    """Return channels and side [px] of the image tokenizer's levels."""
    size = spec.vqgan
    return [(size.ch * m, spec.image_size >> i) for i, m in enumerate(size.ch_mult)]


def _rows(
    cases: BenchmarkCases, settings: Settings, rates: Rates
) -> tuple[list[Row], list[Comparison]]:
    names = settings.only or tuple(CASES)
    rows, comparisons = [], []
    bar = tqdm(names, leave=False, disable=not settings.progress)
    for name in bar:
        bar.set_description(name)
        row, made = measured(cases, CASES[name](cases), rates, settings.repeats)
        rows.append(row)
        case = REFERENCES[name](cases) if settings.references and name in REFERENCES else None
        if case is not None and case.name != row.name:
            bar.set_description(f'{name}, reference')
            slow, wanted = measured(cases, case, rates, settings.repeats)
            rows.append(slow)
            comparisons.append(_compared(row, slow, made, wanted, cases.checkpoint))
    return rows, comparisons


def measured(
    cases: BenchmarkCases, case: Case, rates: Rates, repeats: int | None = None
) -> tuple[Row, list[Any]]:
    """Return the figures of a case, and its results."""
    cases.forget()
    times, made = repeated(_counting(cases, case), cases.checkpoint.device, repeats)
    counts = np.array([(tokens, passes) for _, tokens, passes in made[-len(times) :]])
    tokens, passes = counts.mean(0).round().astype(int).tolist()
    work = case.work(tokens, passes)
    row = Row(
        name=case.name,
        times_s=tuple(times),
        passes=work.passes,
        tokens=work.tokens,
        bytes=work.cost.bytes,
        flops=work.cost.flops,
        limit_s=work.limit_s(rates),
    )
    return row, [found for found, _, _ in made]


def _counting(cases: BenchmarkCases, case: Case) -> Case:
    """Let a case return the tokens and passes of each call beside what it made."""

    def call(given: Any) -> tuple[Any, int, int]:
        tokens, passes = cases.counted
        made = case.call(given)
        after = cases.counted
        return made, after[0] - tokens, after[1] - passes

    return replace(case, call=call)


def _compared(
    fast: Row, slow: Row, made: list[Any], wanted: list[Any], checkpoint: Checkpoint
) -> Comparison:
    """Compare two ways; in full precision they must agree, in less rounding may tip a tie."""
    pairs = zip(made, wanted, strict=False)  # the slow way may have been repeated less often
    equal = float(np.mean([np.mean(np.asarray(a) == np.asarray(b)) for a, b in pairs]))
    if equal < 1 and checkpoint.model.lm_head.weight.dtype == torch.float32:
        raise RuntimeError(f'{fast.name} and {slow.name} disagree: {equal:.1%} equal')
    return Comparison(fast.name, slow.name, slow.p50_s / fast.p50_s, equal)
