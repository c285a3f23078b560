"""Recorded episodes: one compressed file each.

    observation 0 ─ action 0 → observation 1 ─ action 1 → … observation T   (T actions)

Knows arrays and files. Must not know simulators or tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
import json
import os
from pathlib import Path
import zipfile

import numpy as np

from worldvla_ros.data import places as columns
from worldvla_ros.errors import ConfigError, EpisodeError
from worldvla_ros.observation import Observation

ARRAYS = ('state', 'action', 'executed')
META = ('task', 'instruction', 'seed', 'success', 'source', 'objects')
OBSOLETE = ('dt_s',)
"""In files of earlier versions, and read by nobody."""
IMAGE = 'image_'
"""Begins the name of an array of images; the camera's name follows."""
MAX_BYTES = 2**33
"""Of a file, unpacked: over an hour of one camera of 256 px at 10 Hz."""
MAX_SIDE = 4096
"""Of an image [px]."""
MAX_NUMBERS = 1024
"""Of a state or an action, and of objects."""


@dataclass(frozen=True)
class Episode:
    """One episode.

    Attributes:
        images: Camera name → uint8[T + 1, h, w, 3], RGB.
        state: float32[T + 1, state_dim], finite.
        action: float32[T, dim], finite, what the expert does at the visited state.
        executed: float32[T, dim], finite, what was done, noise included.
        task: Kind of task.
        instruction: The sentence.
        seed: Seed of the scene.
        success: Whether the goal was reached.
        source: Where it was recorded, such as the name of a simulation; see `data.wording`.
        objects: Names of the objects whose places are known; the one to move comes first.
        places: float32[T + 1, objects, 5], where they are, in the columns of `data.places`; NaN
            where nobody knows.
    """

    images: dict[str, np.ndarray]
    state: np.ndarray
    action: np.ndarray
    executed: np.ndarray
    task: str
    instruction: str
    seed: int
    success: bool
    source: str = ''
    objects: tuple[str, ...] = ()
    places: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check that all arrays are what they should be and tell of the same number of steps.

        Raises:
            EpisodeError: They do not, a number is not finite, or a size is absurd.
        """
        for name, images in self.images.items():
            self._check_images(name, images)
        for name in ARRAYS:
            self._check_numbers(name, getattr(self, name))
        self._check_places()
        self._check_steps()
        self._check(self.action.shape[1:] == self.executed.shape[1:], 'executed',
                    'as many numbers as action', self.executed.shape)  # fmt: skip

    @property
    def length(self) -> int:
        """Number of actions."""
        return len(self.action)

    @property
    def target(self) -> np.ndarray:
        """The place of the object to move, float32[T + 1, 5], NaN where nobody knows."""
        if self.places is None or not self.objects:
            return columns.unknown(self.length + 1)
        return self.places[:, 0]

    def observation(self, step: int, images_per_camera: int = 1) -> Observation:
        """Return what was seen before an action, with as many instants as there are images."""
        steps = [max(0, step - ago) for ago in reversed(range(images_per_camera))]
        instants = [{n: images[s] for n, images in self.images.items()} for s in steps]
        return Observation(instants[-1], self.instruction, self.state[step], tuple(instants[:-1]))

    def _check(self, holds: bool, name: str, expected: str, got: object) -> None:
        if not holds:
            raise EpisodeError(
                f'episode of seed {self.seed}: {name}', expected=expected, got=got,
                remedy='Leave this episode out, or record it again.',
            )  # fmt: skip

    def _check_images(self, name: str, images: np.ndarray) -> None:
        shape = images.shape
        holds = images.dtype == np.uint8 and len(shape) == 4 and shape[3] == 3
        self._check(holds, f'images of {name}', 'uint8[n, h, w, 3]', f'{images.dtype}{[*shape]}')
        sides = f'sides of 1 … {MAX_SIDE} px'
        holds = all(1 <= side <= MAX_SIDE for side in shape[1:3])
        self._check(holds, f'images of {name}', sides, [*shape[1:3]])

    def _check_numbers(self, name: str, numbers: np.ndarray) -> None:
        shape = numbers.shape
        holds = numbers.dtype.kind == 'f' and len(shape) == 2 and 1 <= shape[1] <= MAX_NUMBERS
        expected = f'float[n, 1 … {MAX_NUMBERS}]'
        self._check(holds, name, expected, f'{numbers.dtype}{[*shape]}')
        self._check(bool(np.isfinite(numbers).all()), name, 'finite numbers', 'NaN or infinity')

    def _check_places(self) -> None:
        count = len(self.objects)
        if self.places is None:
            self._check(not count, 'places', f'those of {count} objects', None)
            return
        expected = (count, len(columns.COLUMNS))
        holds = self.places.dtype.kind == 'f' and self.places.shape[1:] == expected
        self._check(holds, 'places', f'float[n, {expected[0]}, {expected[1]}]', self.places.shape)
        self._check(not np.isinf(self.places).any(), 'places', 'numbers or NaN', 'infinity')
        self._check(count <= MAX_NUMBERS, 'objects', f'at most {MAX_NUMBERS}', count)

    def _check_steps(self) -> None:
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


@dataclass(frozen=True)
class EpisodeInfo:
    """What an episode is, without its arrays; see `Episode`."""

    task: str
    instruction: str
    seed: int
    success: bool
    source: str = ''
    objects: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, text: str) -> 'EpisodeInfo':
        """Read what `save_episode` wrote.

        Raises:
            ValueError: It is damaged, or a value is of a wrong type.
        """
        meta = json.loads(text)
        if not isinstance(meta, dict):
            raise ValueError(f'expected a mapping, got {type(meta).__name__}')
        given = {k: v for k, v in meta.items() if k not in OBSOLETE}
        info = cls(**given | {'objects': tuple(given.get('objects', ()))})
        texts = (info.task, info.instruction, info.source, *info.objects)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError('task, instruction, source and objects must be text')
        if type(info.seed) is not int or info.seed < 0 or type(info.success) is not bool:
            raise ValueError('seed must be a whole number from 0 up, success true or false')
        return info


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
    arrays |= {f'{IMAGE}{name}': images for name, images in episode.images.items()}
    partial = file.with_suffix(f'.{os.getpid()}.partial')
    with partial.open('wb') as stream:
        np.savez_compressed(stream, meta=np.array(json.dumps(meta)), **arrays)
    os.replace(partial, file)
    return file


def load_episode(file: str | Path) -> Episode:
    """Read an episode.

    Raises:
        EpisodeError: The file is missing, damaged, of another format or of an absurd size.
    """
    try:
        _check_size(file)
        with np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        info = EpisodeInfo.from_json(str(arrays.pop('meta')))
        names = [name for name in arrays if name.startswith(IMAGE)]
        images = {name.removeprefix(IMAGE): arrays.pop(name) for name in names}
        return Episode(images=images, **arrays, **vars(info))
    except Exception as error:  # numpy and zipfile raise whatever a damaged byte leads them to
        raise _unreadable(file, error) from error


def read_info(file: str | Path) -> EpisodeInfo:
    """Read what an episode is, without its arrays.

    Raises:
        EpisodeError: As `load_episode`.
    """
    try:
        _check_size(file)
        with np.load(file, allow_pickle=False) as content:
            return EpisodeInfo.from_json(str(content['meta']))
    except Exception as error:  # as above
        raise _unreadable(file, error) from error


def _check_size(file: str | Path) -> None:
    """Refuse a file that would fill the memory when it is unpacked."""
    with zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MAX_BYTES:
        raise ValueError(f'it holds {size} bytes, more than {MAX_BYTES}')


def _unreadable(file: str | Path, error: Exception) -> EpisodeError:
    return EpisodeError(
        f'{file} is no readable episode: {error}', remedy='Delete it and collect it again.'
    )


def episode_files(folder: str | Path) -> list[Path]:
    """Return the episode files of a folder, ordered by seed.

    Raises:
        EpisodeError: There is none.
    """
    # a longer name is a larger seed
    files = sorted(Path(folder).glob('episode_*.npz'), key=lambda f: (len(f.name), f.name))
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


def spread_observations(
    folder: str | Path, count: int, images_per_camera: int = 1
) -> list[Observation]:
    """Return observations of a folder's successful episodes, evenly spread over all steps.

    Raises:
        ConfigError: None is asked for.
        EpisodeError: There is no successful episode, or one is damaged.
    """
    if count < 1:
        raise ConfigError('observations', expected='at least 1', got=count)
    episodes = list(load_episodes(folder))
    steps = [(episode, step) for episode in episodes for step in range(episode.length)]
    if not steps:
        raise EpisodeError(f'no successful episode in {folder}', remedy='Record some more.')
    chosen = np.linspace(0, len(steps) - 1, min(count, len(steps))).round().astype(int)
    return [steps[i][0].observation(steps[i][1], images_per_camera) for i in chosen]
