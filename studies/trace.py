"""Which files a chunk and two imagined images pass through, in the order entered.

    python studies/trace.py

Counts calls of functions of this package by `sys.setprofile`, on the demo checkpoint, warmed up
and with an image that was not seen before. A *change of file* is a call from one file into
another.
Straight down means that files never call each other in a circle.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
import sys
from types import FrameType

import numpy as np

import worldvla_ros
from worldvla_ros.checkpoint import demo_path, load
from worldvla_ros.observation import Observation
from worldvla_ros.policy import Policy
from worldvla_ros.world_model import WorldModel

PACKAGE = Path(worldvla_ros.__file__).parent


@dataclass
class Trace:
    """Calls between files of the package.

    Attributes:
        files: In the order entered, relative to the package.
        calls: (caller, callee) → how often a call went from one file into another.
    """

    files: list[str] = field(default_factory=list)
    calls: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def changes(self) -> int:
        """How often a call went from one file into another."""
        return sum(self.calls.values())

    def circle(self) -> list[str]:
        """Return files in a circle of calls, and above one; empty where there is none."""
        below = {file: {b for a, b in self.calls if a == file} for file in self.files}
        while leaves := [file for file, called in below.items() if not called & below.keys()]:
            below = {file: called for file, called in below.items() if file not in leaves}
        return list(below)

    def enter(self, caller: str | None, file: str) -> None:
        """Count the call of a function in `file`."""
        if file not in self.files:
            self.files.append(file)
        if caller is not None and caller != file:
            self.calls[caller, file] = self.calls.get((caller, file), 0) + 1


def trace(call: Callable[[], object]) -> Trace:
    """Return which files of the package a call passes through."""
    found = Trace()

    def on_event(frame: FrameType, event: str, _: object) -> None:
        file = _file(frame)
        if event == 'call' and file is not None:
            found.enter(_caller(frame), file)

    sys.setprofile(on_event)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found


def _file(frame: FrameType) -> str | None:
    path = Path(frame.f_code.co_filename)
    return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else None


def _caller(frame: FrameType) -> str | None:
    """Return the file of the package that a call came from, through whatever else."""
    above = frame.f_back
    while above is not None and _file(above) is None:
        above = above.f_back
    return None if above is None else _file(above)


def trace_demo() -> dict[str, Trace]:
    """Return the traces of one chunk and of two imagined images, observation included."""
    checkpoint = load(demo_path())
    policy, world = Policy(checkpoint), WorldModel(checkpoint)
    policy.warm_up()
    world.warm_up()
    size, rng = checkpoint.spec.image_size, np.random.default_rng(0)
    images = [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(2)]
    state = np.array(checkpoint.spec.state.minimum, np.float32)
    actions = np.zeros((2 * checkpoint.spec.world.actions_per_image, checkpoint.spec.action.dim))

    def act() -> None:
        policy.act(Observation({'front': images[0]}, 'pick up the red cube', state))

    def imagine() -> None:
        world.imagine(Observation({'front': images[1]}), actions)

    return {'one chunk': trace(act), 'two images': trace(imagine)}


def main() -> None:
    """Print both traces."""
    for name, found in trace_demo().items():
        print(f'{name}: {len(found.files)} files, {found.changes} changes of file')
        for file in found.files:
            print(f'    {file}')


if __name__ == '__main__':
    main()
