"""Recorded episodes: one compressed file each.

    observation 0 ─ action 0 → observation 1 ─ action 1 → … observation T   (T actions)

Knows arrays and files. Must not know simulators or tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
import json
import os
from pathlib import Path

import numpy as np

from worldvla_ros.errors import EpisodeError
from worldvla_ros.observation import Observation

ARRAYS = ('state', 'action', 'executed')
META = ('task', 'instruction', 'seed', 'success', 'dt_s', 'objects')
PLACE_DIM = 5
"""A place is x, y, z in the robot's base frame [m], then column and row in the first camera's
image, 0 … 1 where it is in view."""


@dataclass(frozen=True)
class Episode:
    """One episode.

    Attributes:
        images: Camera name → uint8[T + 1, h, w, 3], RGB.
        state: float32[T + 1, state_dim].
        action: float32[T, dim], what the expert does at the visited state.
        executed: float32[T, dim], what was done, noise included.
        task: Kind of task.
        instruction: The sentence.
        seed: Seed of the scene.
        success: Whether the goal was reached.
        dt_s: Time between actions [s].
        objects: Names of the objects whose places are known; the one to move comes first.
        places: float32[T + 1, objects, PLACE_DIM], where they are.
    """

    images: dict[str, np.ndarray]
    state: np.ndarray
    action: np.ndarray
    executed: np.ndarray
    task: str
    instruction: str
    seed: int
    success: bool
    dt_s: float
    objects: tuple[str, ...] = ()
    places: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check that all arrays tell of the same number of steps.

        Raises:
            EpisodeError: They do not.
        """
        steps = len(self.action)
        counts = {name: len(images) - 1 for name, images in self.images.items()}
        counts |= {'state': len(self.state) - 1, 'executed': len(self.executed)}
        if self.places is not None:
            counts['places'] = len(self.places) - 1
        wrong = {name: count for name, count in counts.items() if count != steps}
        if wrong or not steps:
            raise EpisodeError(
                f'episode of seed {self.seed}', expected=f'{steps} > 0 steps in all', got=wrong
            )

    @property
    def length(self) -> int:
        """Number of actions."""
        return len(self.action)

    @property
    def target(self) -> np.ndarray:
        """Where the object to move is: float32[T + 1, PLACE_DIM], NaN where nobody knows."""
        if self.places is None or not self.objects:
            return np.full((self.length + 1, PLACE_DIM), np.nan, np.float32)
        return self.places[:, 0]

    def observation(self, step: int, history: int = 1) -> Observation:
        """Return what was seen before an action; `history` counts the instants seen."""
        steps = [max(0, step - ago) for ago in reversed(range(history))]
        instants = [{n: images[s] for n, images in self.images.items()} for s in steps]
        return Observation(instants[-1], self.instruction, self.state[step], tuple(instants[:-1]))


def episode_file(folder: str | Path, seed: int) -> Path:
    """Return where the episode of a seed lies."""
    return Path(folder) / f'episode_{seed:05d}.npz'


def save_episode(episode: Episode, folder: str | Path) -> Path:
    """Write an episode; a process killed meanwhile leaves no half-written file."""
    file = episode_file(folder, episode.seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    meta = {name: getattr(episode, name) for name in META}
    arrays = {name: getattr(episode, name) for name in ARRAYS}
    if episode.places is not None:
        arrays['places'] = episode.places
    arrays |= {f'image_{name}': images for name, images in episode.images.items()}
    partial = file.with_suffix(f'.{os.getpid()}.partial')
    with partial.open('wb') as stream:
        np.savez_compressed(stream, meta=np.array(json.dumps(meta)), **arrays)
    os.replace(partial, file)
    return file


def load_episode(file: str | Path) -> Episode:
    """Read an episode.

    Raises:
        EpisodeError: The file is missing, damaged or of another format.
    """
    try:
        with np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        meta = json.loads(str(arrays.pop('meta')))
        images = {k.removeprefix('image_'): arrays.pop(k) for k in list(arrays) if 'image_' in k}
        meta['objects'] = tuple(meta['objects'])
        return Episode(images=images, **arrays, **meta)
    except Exception as error:  # numpy and zipfile raise whatever a damaged byte leads them to
        raise EpisodeError(
            f'{file} is no readable episode: {error}', remedy='Delete it and collect it again.'
        ) from error


def episode_files(folder: str | Path) -> list[Path]:
    """Return the episode files of a folder, ordered by seed.

    Raises:
        EpisodeError: There is none.
    """
    files = sorted(Path(folder).glob('episode_*.npz'))
    if not files:
        raise EpisodeError(
            f'no episodes in {folder}',
            remedy=f'Record some: worldvla collect --task pick --seed 0 --out {folder}',
        )
    return files


def load_episodes(folder: str | Path) -> Iterator[Episode]:
    """Yield the successful episodes of a folder, ordered by seed.

    Raises:
        EpisodeError: There is none, or one is damaged.
    """
    for file in episode_files(folder):
        episode = load_episode(file)
        if episode.success:
            yield episode


def spread_observations(folder: str | Path, count: int, history: int = 1) -> list[Observation]:
    """Return observations of a folder's successful episodes, evenly spread over all steps.

    Raises:
        EpisodeError: There is no successful episode, or one is damaged.
    """
    episodes = list(load_episodes(folder))
    steps = [(episode, step) for episode in episodes for step in range(episode.length)]
    if not steps:
        raise EpisodeError(f'no successful episode in {folder}', remedy='Record some more.')
    chosen = np.linspace(0, len(steps) - 1, min(count, len(steps))).round().astype(int)
    return [steps[i][0].observation(steps[i][1], history) for i in chosen]
