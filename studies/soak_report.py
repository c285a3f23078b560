"""What a soak found: read from its journal, judged, and told as a page. See soak.py."""

from dataclasses import dataclass, field
import json
from pathlib import Path
from typing import Any

import numpy as np

GROWTH = 0.02
"""Most that a process may grow after the warm-up, as a share."""
ROUNDING = 1e-9
GROWS = f'memory grows by at most {GROWTH:.0%} after the warm-up'
HOLDS = 'no missed hold, and some while the arm moved'
SHOWN = 50
"""Problems that are listed."""
WARM_UP_S = 300.0
WINDOW_S = 60.0
"""Memory is the median over so long, at the beginning and at the end."""


@dataclass
class Segment:
    """What one run of the program measured."""

    warm_up_s: float = WARM_UP_S
    samples: list[dict[str, Any]] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    holds: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def duration_s(self) -> float:
        """Time from the first sample to the last [s]."""
        return self.samples[-1]['at_s'] - self.samples[0]['at_s'] if self.samples else 0.0

    def memory(self) -> dict[str, dict[str, float]]:
        """Return memory [MB] of each process after the warm-up and at the end, and its growth."""
        if not self.samples:
            return {}
        start_s, end_s = self.samples[0]['at_s'] + self.warm_up_s, self.samples[-1]['at_s']
        window_s = min(WINDOW_S, (end_s - start_s) / 4)
        if window_s <= 0:
            return {}
        found = {}
        for name in self.samples[-1]['rss_mb']:
            first = self._median(name, start_s, start_s + window_s)
            last = self._median(name, end_s - window_s, end_s)
            found[name] = {'first_mb': first, 'last_mb': last, 'growth': last / first - 1}
        return found

    def _median(self, name: str, low_s: float, high_s: float) -> float:
        values = [
            s['rss_mb'][name]
            for s in self.samples
            if low_s <= s['at_s'] <= high_s and name in s['rss_mb']
        ]
        return float(np.median(values)) if values else float('nan')


def read(file: Path) -> list[Segment]:
    """Return what runs have written; a last line that was cut off is left out."""
    segments: list[Segment] = []
    for line in file.read_text().splitlines() if file.is_file() else []:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if entry['kind'] == 'start':
            segments.append(Segment(entry['warm_up_s']))
        elif entry['kind'] == 'sample':
            segments[-1].samples.append(entry)
            segments[-1].latencies += entry['latencies_s']
            segments[-1].problems += entry['problems']
        elif entry['kind'] == 'hold':
            segments[-1].holds.append(entry)
    return [segment for segment in segments if segment.samples]


def judge(segments: list[Segment]) -> dict[str, Any]:
    """Return all figures, and which criteria are met."""
    latencies = [latency for segment in segments for latency in segment.latencies]
    holds = [hold for segment in segments for hold in segment.holds]
    problems = [problem for segment in segments for problem in segment.problems]
    memory = [segment.memory() for segment in segments]
    growths = [process['growth'] for each in memory for process in each.values()]
    centiles = {
        f'p{p}_s': float(np.percentile(latencies, p)) if latencies else None for p in (50, 95, 99)
    }
    missed = [hold for hold in holds if hold['missed']]
    moving = sum(hold['moving'] for hold in holds)
    return {
        'minutes': sum(segment.duration_s for segment in segments) / 60,
        'segments': len(segments),
        'memory': memory,
        'chunks': len(latencies),
        'latency': centiles | {'max_s': max(latencies, default=None)},
        'holds': {'called': len(holds), 'while_moving': moving, 'missed': missed},
        'problems': problems,
        'met': {
            GROWS: bool(growths) and max(growths) <= GROWTH + ROUNDING,
            HOLDS: not missed and moving > 0,
            'chunks came': bool(latencies),
            'no exception and no error in the log': not problems,
        },
    }


def markdown(found: dict[str, Any]) -> str:
    """Return the figures as a page."""
    lines = [f'# Soak: {found["minutes"]:.1f} minutes, {found["segments"]} run(s)', '']
    lines += ['| criterion | met |', '|---|---|']
    lines += [f'| {name} | {"yes" if met else "**no**"} |' for name, met in found['met'].items()]
    lines += ['', '| run | process | after warm-up [MB] | at the end [MB] | growth |']
    lines += ['|---|---|---|---|---|']
    for number, memory in enumerate(found['memory'], 1):
        for name, row in memory.items():
            sizes = f'{row["first_mb"]:.1f} | {row["last_mb"]:.1f} | {row["growth"]:+.2%}'
            lines.append(f'| {number} | {name} | {sizes} |')
    known = {name: value for name, value in found['latency'].items() if value is not None}
    shown = ', '.join(f'{name.removesuffix("_s")} {value:.3f} s' for name, value in known.items())
    holds, missed = found['holds'], len(found['holds']['missed'])
    lines += ['', f'{found["chunks"]} chunks; latency {shown or "unknown"}.', '']
    lines.append(
        f'{holds["called"]} holds, {holds["while_moving"]} while the arm moved, {missed} missed.'
    )
    lines += ['', *(f'* {problem}' for problem in found['problems'][:SHOWN])]
    return '\n'.join(lines).rstrip() + '\n'
