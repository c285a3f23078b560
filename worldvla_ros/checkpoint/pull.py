"""Fetching published checkpoints from the Hugging Face Hub, when a user asks for one.

Files land where `published` looks for them: the checkpoint under its published path, the
tokenizers in `chameleon/tokenizer` beside. An interrupted pull keeps the files that are whole.
Nothing else in this package downloads anything.
"""

from pathlib import Path

from worldvla_ros.checkpoint.folder import open_folder
from worldvla_ros.checkpoint.profiles import Download, Profile, load_profile, profile_names
from worldvla_ros.errors import CheckpointError, ConfigError, MissingDependencyError

DEFAULT_FOLDER = Path('checkpoints/published')
WEIGHT_PATTERNS = ('*.json', '*.safetensors')
TOKENIZER_PATTERNS = ('text_tokenizer.json', 'vqgan.yaml', 'vqgan.ckpt')


def pull(name: str, to: str | Path = DEFAULT_FOLDER) -> Path:
    """Fetch a published checkpoint with its tokenizers.

    Args:
        name: Name of its profile.
        to: Folder for everything that is pulled.

    Returns:
        The checkpoint's folder.

    Raises:
        ConfigError: There is no such checkpoint.
        MissingDependencyError: huggingface_hub is not installed.
        CheckpointError: The checkpoint must be asked for, the download failed, or what is there
            afterwards is no whole checkpoint.
    """
    if name not in profile_names():
        load_profile(name)  # names the near matches
        raise ConfigError(f'{name!r} is a file', expected=f'one of {", ".join(profile_names())}')
    profile, to = load_profile(name), Path(to)
    if profile.weights is None or profile.tokenizer is None:
        raise CheckpointError(
            f'{name} cannot be pulled: {profile.about}',
            expected='a checkpoint on the Hugging Face Hub',
            remedy='Get it from its owner, then give its path.',
        )
    _fetch(profile.tokenizer, to, TOKENIZER_PATTERNS)
    _fetch(profile.weights, _root(profile, to), WEIGHT_PATTERNS)
    folder = to / profile.folder
    if not any(folder.glob('*.safetensors')):
        raise CheckpointError(
            f'{profile.weights.repo} has no weights where they were published',
            expected=f'safetensors in {profile.weights.path or "its root"}',
            remedy=f'See https://huggingface.co/{profile.weights.repo} for where they are now.',
        )
    open_folder(folder, name)
    return folder


def _root(profile: Profile, to: Path) -> Path:
    """Return where the repository's own paths begin, so that the folder gets its name."""
    return to if profile.weights.path else to / profile.folder


def _fetch(source: Download, root: Path, patterns: tuple[str, ...]) -> None:
    """Download a folder of a repository; what is there already is kept."""
    try:
        from huggingface_hub import model_info, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise MissingDependencyError(
            'the package huggingface_hub is not installed',
            remedy='pip install "worldvla_ros[hub]", or pip install huggingface_hub.',
        ) from error
    prefix = f'{source.path}/' if source.path else ''
    try:
        model_info(source.repo)  # without an answer, the next line is content with what is there
        snapshot_download(
            source.repo,
            allow_patterns=[prefix + pattern for pattern in patterns],
            local_dir=root,
        )
    except (*HfHubHTTPError.__bases__, OSError, ValueError) as error:  # those of its HTTP library
        words = ' '.join([line for line in str(error).splitlines() if line][:2]).rstrip('.')
        raise CheckpointError(
            f'{source.repo} could not be fetched: {words or type(error).__name__}',
            expected=f'{source.path or "all files"} of https://huggingface.co/{source.repo}',
            remedy='Check the network, and `hf auth login` where the repository asks for it; '
            'then run this again, whole files are kept.',
        ) from error
