"""What published folders do not say, by name: `config/models/*.yaml`.

A profile belongs to one folder and is found by the last components of its path, compared as a
whole, or by name. What several folders share lies once in `config/models/base/`. Must not know
weights.
"""

from dataclasses import dataclass
import difflib
import os
from pathlib import Path

from worldvla_ros.checkpoint.spec import TASKS, ActionSpec, StateSpec, WorldSpec
from worldvla_ros.config import from_mapping, load_yaml
from worldvla_ros.errors import CheckpointError, ConfigError
from worldvla_ros.package_files import share_folder
from worldvla_ros.tokenizers.sequence import Prompts

EXAMPLE = 'worldvla_256_libero_goal'


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
        folder: Last components of the folder's path, as it was published.
        about: One line.
        robot: See `CheckpointSpec`, as all that follows up to `prompts`.
        cameras: Their names, in sequence order.
        image_size: Side of a square image in the model [px].
        action: Meaning of an action.
        history: Images per camera in an action prompt (M).
        state: Meaning of the state block, or None.
        world: What the world model was taught.
        prompts: Wording.
        tasks: What the weights were trained to do.
        camera_rotation: How far raw images are turned [degrees].
        weights: Where to fetch the folder, or None where its owner must be asked.
        tokenizer: Where to fetch text tokenizer and VQ-GAN.
    """

    name: str
    folder: str
    about: str
    robot: str
    cameras: tuple[str, ...]
    image_size: int
    action: ActionSpec
    history: int = 1
    state: StateSpec | None = None
    world: WorldSpec = WorldSpec()
    prompts: Prompts = Prompts()
    tasks: tuple[str, ...] = TASKS
    camera_rotation: int = 0
    weights: Download | None = None
    tokenizer: Download | None = None


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
    if not path.is_file():
        near = difflib.get_close_matches(str(name_or_path), profile_names(), n=3)
        raise ConfigError(
            f'no profile {str(name_or_path)!r}',
            expected=f'one of {", ".join(profile_names())}, or the path of a YAML file',
            remedy=f'Did you mean {" or ".join(near)}?' if near else 'Take a name of this list.',
        )
    return from_mapping(Profile, {'name': path.stem} | _read(path), where=str(path))


def find_profile(folder: str | Path) -> Profile:
    """Return the profile whose folder the path ends with.

    Raises:
        CheckpointError: There is none, so that nobody knows the folder's statistics.
    """
    parts = Path(os.path.abspath(folder)).parts
    profiles = [load_profile(name) for name in profile_names()]
    for profile in profiles:
        wanted = Path(profile.folder).parts
        if parts[-len(wanted) :] == wanted:
            return profile
    meant = _alike(profiles, parts[-1]) or [load_profile(EXAMPLE)]
    raise CheckpointError(
        f'{folder} does not say its statistics, cameras and prompts, and no profile is for it',
        expected=f'a path that ends as published, such as {" or ".join(p.folder for p in meant)}',
        got='/'.join(parts[-2:]),
        remedy='Rename the folder as it was published, or name its profile (profile=, --profile, '
        f'profile:=), such as {" or ".join(p.name for p in meant)}; all are in config/models.',
    )


def _alike(profiles: list[Profile], name: str) -> list[Profile]:
    """Return the profiles of folders that are named nearly so, wherever they lie."""
    last = {profile.name: Path(profile.folder).name for profile in profiles}
    near = difflib.get_close_matches(name, set(last.values()), n=1, cutoff=0.8)
    return [profile for profile in profiles if last[profile.name] in near]


def _read(path: Path) -> dict:
    """Read a profile's values over those of the file that it extends."""
    content = load_yaml(path)
    base = content.pop('extends', None)
    return content if base is None else _merge(_read(path.parent / f'{base}.yaml'), content)


def _merge(below: dict, above: dict) -> dict:
    """Lay one mapping over another, nested mappings likewise."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
