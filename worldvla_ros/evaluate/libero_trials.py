"""Trials in LIBERO: their record, one line of JSON each, and the figures of many.

Knows records and figures. Must not know how a trial is run.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Any

import numpy as np

from worldvla_ros.config import from_mapping
from worldvla_ros.errors import ConfigError
from worldvla_ros.evaluate.rollout import Rollout
from worldvla_ros.metrics import wilson_interval


@dataclass(frozen=True)
class LiberoTrial:
    """One trial: what was done, and how it went or what it raised.

    Attributes:
        protocol: `LiberoSettings.protocol`.
        task: Number of the task.
        name: Name of the task.
        trial: Number of the initial state.
        instruction: The sentence.
        model_id: Name and content hash of the weights.
        rollout: How it went, or None.
        error: Traceback, or None.
    """

    protocol: dict
    task: int
    name: str
    trial: int
    instruction: str
    model_id: str
    rollout: Rollout | None = None
    error: str | None = None

    @property
    def outcome(self) -> str:
        """Return 'success', 'failure' or 'error'."""
        if self.rollout is None:
            return 'error'
        return 'success' if self.rollout.success else 'failure'


def append(record: Path, trial: LiberoTrial) -> None:
    """Add a trial to a record."""
    record.parent.mkdir(parents=True, exist_ok=True)
    with record.open('a') as stream:
        stream.write(json.dumps(asdict(trial)) + '\n')


def read_record(record: Path, protocol: dict[str, object]) -> list[LiberoTrial]:
    """Return the trials of a record; a last line that was cut off is removed from the file.

    Raises:
        ConfigError: A line is no trial, or a trial is of another protocol.
    """
    if not record.exists():
        return []
    *lines, rest = _read_text(record).split('\n')
    if rest:
        record.write_text(''.join(f'{line}\n' for line in lines))
    found = []
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f'{record}:{number} is no record of a trial: {error}', remedy='Remove the line.'
            ) from error
        trial = from_mapping(LiberoTrial, content, where=f'{record}:{number}')
        if trial.protocol != protocol:
            raise ConfigError(
                f'{record} holds trials of another evaluation',
                expected=_other_than(trial.protocol, protocol),
                got=_other_than(protocol, trial.protocol),
                remedy='Name another --json file, or remove this record.',
            )
        found.append(trial)
    return found


def _read_text(record: Path) -> str:
    try:
        return record.read_text()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f'{record} cannot be read: {error}', remedy='Name another --json file.'
        ) from error


def _refuse(constant: str) -> None:
    raise ValueError(f'{constant} is no figure')


def _other_than(other: dict[str, object], protocol: dict[str, object]) -> str:
    """Return the settings of `protocol` that `other` lacks or has otherwise."""
    missing = object()
    differing = [f'{k} {v}' for k, v in protocol.items() if other.get(k, missing) != v]
    return ', '.join(differing) or 'nothing else'


def report(made: Sequence[LiberoTrial]) -> dict[str, Any]:
    """Return protocol, figures per task and in total, and all trials, as plain values for JSON."""
    by_task: dict[int, list[LiberoTrial]] = {}
    for trial in made:
        by_task.setdefault(trial.task, []).append(trial)
    return {
        'protocol': made[0].protocol,
        'model_id': made[0].model_id,
        'tasks': [
            {'task': task, 'name': trials[0].name, **figures(trials)}
            for task, trials in by_task.items()
        ],
        'total': figures(made),
        'trials': [asdict(trial) for trial in made],
    }


def figures(made: Sequence[LiberoTrial]) -> dict[str, object]:
    """Return successes, their rate and Wilson interval; errors are counted apart."""
    went = [trial.rollout for trial in made if trial.rollout]
    successes = sum(rollout.success for rollout in went)
    return {
        'trials': len(went),
        'successes': successes,
        'success_rate': successes / len(went) if went else None,
        'wilson_95': wilson_interval(successes, len(went)) if went else None,
        'errors': len(made) - len(went),
        'chunk_ms': float(np.median([r.chunk_ms for r in went])) if went else None,
    }


def table(found: dict[str, Any]) -> str:
    """Return the figures of a report as a table for people."""
    rows = [*found['tasks'], {'task': 'all', 'name': '', **found['total']}]
    lines = [f'{"task":>4}  {"success":>9}  {"rate":>6}  {"95 % interval":>15}  {"errors":>6}']
    for row in rows:
        rate = low_high = '–'
        if row['trials']:
            low, high = row['wilson_95']
            rate, low_high = f'{row["success_rate"]:.1%}', f'{low:.1%} … {high:.1%}'
        counts = f'{row["successes"]} / {row["trials"]}'
        lines.append(
            f'{row["task"]:>4}  {counts:>9}  {rate:>6}  {low_high:>15}  {row["errors"]:>6}  '
            f'{row["name"]}'.rstrip()
        )
    return '\n'.join(lines)


def first_error(made: Sequence[LiberoTrial]) -> str:
    """Return where and how the first trial broke, with its traceback; empty if none did."""
    for trial in made:
        if trial.error:
            return f'task {trial.task}, trial {trial.trial}\n{trial.error}'
    return ''
