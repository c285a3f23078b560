"""The folder of a run: a log of figures, and a state to resume from.

Knows files. Must not know what is trained.
"""

import json
import os
from pathlib import Path
import pickle
import time

import torch

from worldvla_ros.errors import ConfigError


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
        """Return the saved state, or None.

        Raises:
            ConfigError: The file is damaged.
        """
        if not self._state.is_file():
            return None
        try:
            return torch.load(self._state, map_location='cpu', weights_only=True)
        except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
            raise ConfigError(
                f'the state of the run in {self._state} cannot be read',
                remedy='Start anew, without --resume.',
            ) from error

    def clear(self) -> None:
        """Forget log and state, for a run from the beginning."""
        for file in (self._log, self._state):
            file.unlink(missing_ok=True)
