"""What published folders do not say, by name: `config/models/*.yaml`.

A profile belongs to one folder and is found by the last components of its path, compared as a
whole, or by name. Folders that were published before under other names are aliases of it. What
several folders share lies once in `config/models/base/`. Must not know weights.
"""

from dataclasses import dataclass
import difflib
import functools
import os
from pathlib import Path
from typing import Any

from worldvla_ros.checkpoint.spec import TASKS, ActionSpec, StateSpec, WorldSpec
from worldvla_ros.config import from_mapping, load_yaml, shown
from worldvla_ros.errors import CheckpointError, ConfigError
from worldvla_ros.package_files import share_folder
from worldvla_ros.tokenizers.sequence import Prompts

EXAMPLE = 'worldvla_256_libero_goal'
MAX_BASES = 8
"""Files that extend each other in a row."""
MAX_NAME = 200
"""Letters of a name that a message repeats."""


@dataclass(frozen=True)
class Download:
    """Where files lie on the Hugging Face Hub: a repository and a folder in it."""

    repo: str
    path: str = ''


@dataclass(frozen=True)
class Profile:
    """Everything about a published folder that its files do not say.

    Attributes:
        name: Name of the YAML file.
        folder: Last components of the folder's path, as it was published; empty for weights that
            were not published, whose profile must be named.
        about: One line.
        robot: See `CheckpointSpec`, as all that follows up to `prompts`.
        cameras: Their names, in sequence order.
        image_size: Side of a square image in the model [px].
        action: Meaning of an action.
        images_per_camera: Images per camera in an action prompt (M).
        state: Meaning of the state block, or None.
        world: What the world model was trained on.
        prompts: Wording.
        tasks: What the weights were trained to do.
        camera_rotation: How far raw images are turned [degrees].
        weights: Where to fetch the folder, or None where its owner must be asked.
        tokenizer: Where to fetch text tokenizer and VQ-GAN.
        aliases: Other last components of paths under which the same weights were published, or
            which the reference's scripts expect.
    """

    name: str
    folder: str
    about: str
    robot: str
    cameras: tuple[str, ...]
    image_size: int
    action: ActionSpec
    images_per_camera: int = 1
    state: StateSpec | None = None
    world: WorldSpec = WorldSpec()
    prompts: Prompts = Prompts()
    tasks: tuple[str, ...] = TASKS
    camera_rotation: int = 0
    weights: Download | None = None
    tokenizer: Download | None = None
    aliases: tuple[str, ...] = ()

    @property
    def folders(self) -> tuple[str, ...]:
        """All last components of paths that belong to this profile."""
        return tuple(name for name in (self.folder, *self.aliases) if name)


def profiles_folder() -> Path:
    """Return the folder of profiles, in the source tree or installed."""
    return share_folder() / 'config/models'


def profile_names() -> list[str]:
    """Return the names of all shipped profiles."""
    return sorted(p.stem for p in profiles_folder().glob('*.yaml'))


def load_profile(name_or_path: str | Path) -> Profile:
    """Load a profile by the name of a shipped one, or by the path of a YAML file.

    Raises:
        ConfigError: There is no such profile, or a field is unknown, missing or of a wrong type.
        CheckpointError: Its statistics make no sense.
    """
    path = Path(name_or_path)
    if path.suffix not in ('.yaml', '.yml'):
        path = profiles_folder() / f'{name_or_path}.yaml'
    if not os.path.isfile(path):
        name = str(name_or_path)[:MAX_NAME]
        near = difflib.get_close_matches(name, profile_names(), n=3)
        raise ConfigError(
            f'no profile {name!r}',
            expected=f'one of {", ".join(profile_names())}, or the path of a YAML file',
            remedy=f'Did you mean {" or ".join(near)}?' if near else 'Take a name of this list.',
        )
    return from_mapping(Profile, {'name': path.stem} | _read(path), where=str(path))


def find_profile(folder: str | Path) -> Profile:
    """Return the profile whose folder the path ends with.

    Raises:
        CheckpointError: There is none, so the folder's statistics are unknown.
    """
    parts = Path(os.path.abspath(folder)).parts
    profiles = [load_profile(name) for name in profile_names()]
    for profile in profiles:
        for folder_name in profile.folders:
            wanted = Path(folder_name).parts
            if parts[-len(wanted) :] == wanted:
                return profile
    meant = _alike(profiles, parts[-1]) or [load_profile(EXAMPLE)]
    raise CheckpointError(
        f'{str(folder)[:MAX_NAME]} does not say its statistics, cameras and prompts, '
        'and no profile is for it',
        expected=f'a path that ends as published, such as {" or ".join(p.folder for p in meant)}',
        got='/'.join(parts[-2:])[:MAX_NAME],
        remedy='Rename the folder as it was published, or name its profile (profile=, --profile, '
        f'profile:=), such as {" or ".join(p.name for p in meant)}; all are in config/models.',
    )


def _alike(profiles: list[Profile], name: str) -> list[Profile]:
    """Return the profiles of folders that are named nearly so, wherever they lie."""
    last = {profile.name: Path(profile.folder).name for profile in profiles if profile.folder}
    near = difflib.get_close_matches(name[:MAX_NAME], set(last.values()), n=1, cutoff=0.8)
    return [profile for profile in profiles if last.get(profile.name) in near]


def _read(path: Path) -> dict[str, Any]:
    """Read a profile's values over those of the files that it extends, in a row.

    Raises:
        ConfigError: A file is missing or damaged, or they extend each other in a circle.
    """
    contents, names = [], [path.stem]
    while True:
        content = load_yaml(path)
        contents.append(content)
        base = content.pop('extends', None)
        if base is None:
            break
        names.append(shown(base))
        if not isinstance(base, str) or len(names) > MAX_BASES:
            raise ConfigError(
                f'{path}: extends',
                expected=f'the name of a profile, at most {MAX_BASES - 1} in a row',
                got=' extends '.join(names),
                remedy='Let no profile extend itself, or one that extends it.',
            )
        path = path.parent / f'{base}.yaml'
    return functools.reduce(_merge, reversed(contents))


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another, nested mappings likewise."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
