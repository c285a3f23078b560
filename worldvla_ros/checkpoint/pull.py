"""Downloading published checkpoints from the Hugging Face Hub, when a user asks for one.

Files land where `published` looks for them: the checkpoint under its published path, the
tokenizers in `chameleon/tokenizer` beside. `pulled.json` in each folder records repository and
commit, so that the same files can be had again. An interrupted pull keeps the files that are
whole. Nothing else in this package downloads anything.
"""

from collections.abc import Iterator
import contextlib
import json
from pathlib import Path
from typing import Any

from worldvla_ros.checkpoint.folder import open_folder
from worldvla_ros.checkpoint.inspection import RECORD_FILE
from worldvla_ros.checkpoint.profiles import Download, Profile, load_profile, profile_names
from worldvla_ros.errors import CheckpointError, ConfigError, MissingDependencyError

DEFAULT_FOLDER = Path('checkpoints/published')
WEIGHT_PATTERNS = ('*.json', '*.safetensors')
TOKENIZER_PATTERNS = ('text_tokenizer.json', 'vqgan.yaml', 'vqgan.ckpt')
MAX_ANSWER_BYTES = 1 << 26
"""Answers of the Hub that are no files: lists of files have some kilobytes."""


def pull(
    name: str,
    to: str | Path = DEFAULT_FOLDER,
    *,
    revision: str | None = None,
    tokenizers: str | None = None,
) -> Path:
    """Download a published checkpoint with its tokenizers.

    Args:
        name: Name of its profile.
        to: Folder for everything that is pulled.
        revision: Commit, tag or branch of the checkpoint's repository; the newest by default.
        tokenizers: The same for the repository of the tokenizers.

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
    weights, tokenizer = profile.weights, profile.tokenizer
    if weights is None or tokenizer is None:
        raise CheckpointError(
            f'{name} cannot be pulled: {profile.about}',
            expected='a checkpoint on the Hugging Face Hub',
            remedy='Get it from its owner, then give its path.',
        )
    commit = _fetch(tokenizer, to, TOKENIZER_PATTERNS, tokenizers)
    _record(to / tokenizer.path, tokenizer, commit)
    commit = _fetch(weights, _root(profile, to), WEIGHT_PATTERNS, revision)
    folder = to / profile.folder
    if not any(folder.glob('*.safetensors')):
        raise CheckpointError(
            f'{weights.repo} has no weights where they were published',
            expected=f'safetensors in {weights.path or "its root"}',
            remedy=f'See https://huggingface.co/{weights.repo} for where they are now.',
        )
    _record(folder, weights, commit)
    open_folder(folder, name)
    return folder


def _root(profile: Profile, to: Path) -> Path:
    """Return where the repository's own paths begin, so that the folder gets its name."""
    return to if profile.weights and profile.weights.path else to / profile.folder


def _record(folder: Path, source: Download, commit: str) -> None:
    """Write where a folder's files came from."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {'repository': source.repo, 'path': source.path, 'commit': commit}
    (folder / RECORD_FILE).write_text(json.dumps(content, indent=1) + '\n')


def _fetch(source: Download, root: Path, patterns: tuple[str, ...], revision: str | None) -> str:
    """Download a folder of a repository and return its commit; what is there already is kept."""
    try:
        from huggingface_hub import model_info, snapshot_download
    except ImportError as error:
        raise MissingDependencyError(
            'the package huggingface_hub is not installed',
            remedy='pip install "worldvla_ros[hub]", or pip install huggingface_hub.',
        ) from error
    prefix = f'{source.path}/' if source.path else ''
    with _failures_named(source), _bounded_answers():
        # without an answer, the download would be content with what is there
        commit = str(model_info(source.repo, revision=revision).sha)
        snapshot_download(
            source.repo,
            revision=commit,
            allow_patterns=[prefix + pattern for pattern in patterns],
            local_dir=root,
        )
    return commit


@contextlib.contextmanager
def _failures_named(source: Download) -> Iterator[None]:
    """Turn what the Hub's library and its HTTP library raise into one message."""
    from huggingface_hub.errors import HfHubHTTPError

    of_http: Any = HfHubHTTPError.__bases__
    failures: tuple[type[Exception], ...] = (*of_http, OSError, ValueError, RecursionError)
    try:
        yield
    except failures as error:
        words = ' '.join([line for line in str(error).splitlines() if line][:2])[:300].rstrip('.')
        raise CheckpointError(
            f'{source.repo} could not be fetched: {words or type(error).__name__}',
            expected=f'{source.path or "all files"} of https://huggingface.co/{source.repo}',
            remedy='Check network and revision, and `hf auth login` where the repository asks for '
            'it; then run this again, whole files are kept.',
        ) from error


@contextlib.contextmanager
def _bounded_answers() -> Iterator[None]:
    """Cut off answers without end, where the Hub's library lets its connection be watched.

    It does so from version 1 on; before, answers are as long as the Hub makes them.
    """
    import huggingface_hub

    session: Any = getattr(huggingface_hub, 'get_session', dict)()
    hooks = getattr(session, 'event_hooks', {'response': []})['response']
    hooks.append(_bound)
    try:
        yield
    finally:
        hooks.remove(_bound)


def _bound(response: Any) -> None:
    """Read an answer that is JSON as the HTTP library does, as long as it is no longer than ours.

    Raises:
        ValueError: It is longer.
    """
    if 'json' not in response.headers.get('content-type', ''):
        return
    content = bytearray()
    for part in response.iter_bytes():
        content += part
        if len(content) > MAX_ANSWER_BYTES:
            raise ValueError(f'an answer of more than {MAX_ANSWER_BYTES} bytes')
    response._content = bytes(content)  # where `read` looks first
