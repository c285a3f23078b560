"""What studies/borders.py measures in an episode, its figures, and their table."""

from dataclasses import dataclass, field

import numpy as np

from worldvla_ros.metrics import wilson_interval

COMMAND_S = 0.01
"""Between twists, as the player's `control_rate` has it."""


@dataclass
class Record:
    """What was commanded in an episode, and what happened at its borders."""

    speeds: list[np.ndarray] = field(default_factory=list)
    velocity_steps: list[float] = field(default_factory=list)
    acceleration_steps: list[float] = field(default_factory=list)
    thought_s: list[float] = field(default_factory=list)
    borders: int = 0
    refused: dict[str, int] = field(default_factory=dict)


def summary(record: Record) -> dict:
    """Return the figures of an episode."""
    speeds = np.array(record.speeds)
    gains, turns = np.split(np.diff(speeds, axis=0) / COMMAND_S, 2, axis=1)
    jerks = np.linalg.norm(np.diff(gains, axis=0), axis=1) / COMMAND_S
    return {
        'borders': record.borders,
        'thought_s': record.thought_s,
        'refused': record.refused,
        'jerk_squares': float((jerks**2).sum()),
        'jerks': len(jerks),
        'jerk': float(jerks.max(initial=0.0)),
        'acceleration': float(np.linalg.norm(gains, axis=1).max(initial=0.0)),
        'angular_acceleration': float(np.linalg.norm(turns, axis=1).max(initial=0.0)),
        'velocity_step': max(record.velocity_steps, default=None),
        'acceleration_step': max(record.acceleration_steps, default=None),
    }


def table(tasks, found: dict[str, dict[str, list[dict]]]) -> str:
    """Return the table as Markdown: a column for each way."""
    lines = ['| | ' + ' | '.join(found) + ' |', '|---' * (len(found) + 1) + '|']
    for task in tasks:
        lines.append(_line(f'{task}, success', [_success(made[task]) for made in found.values()]))
    every = [[e for made in way.values() for e in made] for way in found.values()]
    rows = {
        'chunk borders': lambda es: str(sum(e['borders'] for e in es)),
        'chunks refused': lambda es: str(sum(sum(e['refused'].values()) for e in es)),
        'time to think, median [s]': lambda es: (
            f'{np.median([t for e in es for t in e["thought_s"]]):.3f}'
        ),
        'jerk RMS [m/s³]': lambda es: (
            f'{(sum(e["jerk_squares"] for e in es) / sum(e["jerks"] for e in es)) ** 0.5:.3g}'
        ),
        'largest jerk [m/s³]': lambda es: f'{max(e["jerk"] for e in es):.3g}',
        'largest acceleration [m/s²]': lambda es: f'{max(e["acceleration"] for e in es):.3g}',
        'largest angular acceleration [rad/s²]': lambda es: (
            f'{max(e["angular_acceleration"] for e in es):.3g}'
        ),
        'velocity step of the path at a border [mm/s]': lambda es: _most(es, 'velocity_step', 1e3),
        'acceleration step there [m/s²]': lambda es: _most(es, 'acceleration_step', 1.0),
    }
    for name, figure in rows.items():
        lines.append(_line(name, [figure(es) if 'borders' in es[0] else '–' for es in every]))
    return '\n'.join(lines)


def _line(name: str, cells: list[str]) -> str:
    return '| ' + ' | '.join([name, *cells]) + ' |'


def _most(episodes: list[dict], key: str, scale: float) -> str:
    known = [e[key] for e in episodes if e[key] is not None]
    return f'{scale * max(known):.2g}' if known else '–'


def _success(episodes: list[dict]) -> str:
    good = [e['seconds'] for e in episodes if e['success']]
    low, high = wilson_interval(len(good), len(episodes))
    median = f', {np.median(good):.1f} s' if good else ''
    return f'{len(good)} of {len(episodes)} [{low:.2f}, {high:.2f}]{median}'
