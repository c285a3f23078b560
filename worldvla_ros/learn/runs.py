"""The folder of a run: a log of figures, and a state to resume from.

Knows files. Must not know what is trained.
"""

import json
import os
from pathlib import Path
import time

import torch


class Run:
    """One stage of training in its folder: `<stage>.jsonl` and `<stage>.pt`."""

    def __init__(self, folder: Path, stage: str) -> None:
        """Create the folder if needed."""
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / f'{stage}.jsonl'
        self._state = folder / f'{stage}.pt'
        self._start = time.monotonic()

    def log(self, **figures: float) -> None:
        """Append a line of figures, with the seconds since this run (re)started."""
        line = {'seconds': round(time.monotonic() - self._start, 1), **figures}
        with self._log.open('a') as stream:
            stream.write(json.dumps(line) + '\n')

    def save(self, state: dict) -> None:
        """Replace the state; a run that is killed meanwhile keeps the former one."""
        partial = self._state.with_suffix('.partial')
        torch.save(state, partial)
        os.replace(partial, self._state)

    def load(self) -> dict | None:
        """Return the saved state, or None."""
        if not self._state.is_file():
            return None
        return torch.load(self._state, weights_only=True)

    def clear(self) -> None:
        """Forget log and state, for a run from the beginning."""
        for file in (self._log, self._state):
            file.unlink(missing_ok=True)


def trapezoid(step: int, steps: int, warmup: int, decay_share: float) -> float:
    """Return the factor of the learning rate: linear up, flat, linear down to zero."""
    up = min(1.0, (step + 1) / max(1, warmup))
    down = (steps - step) / max(1.0, decay_share * steps)
    return min(up, max(0.0, min(1.0, down)))
