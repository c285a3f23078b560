"""Files and folders that a command will write: checked before the work, not after it.

Knows files only.
"""

from pathlib import Path
import tempfile

from worldvla_ros.errors import ConfigError


def check_file(file: str | Path, what: str) -> None:
    """Refuse a file that cannot be written; its folder is created.

    Args:
        file: What will be written. Its content is left as it is.
        what: The flag or setting that names it, for the message.

    Raises:
        ConfigError: It cannot be written.
    """
    path = Path(file)
    fresh = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open('ab'):
            pass
        if fresh:
            path.unlink()
    except OSError as error:
        raise _refusal(what, 'a file that can be written', path, error) from error


def check_folder(folder: str | Path, what: str) -> None:
    """Refuse a folder that cannot be written to; those above it are created, it is not.

    Raises:
        ConfigError: It cannot be created, or no file can be created in it.
    """
    path = Path(folder)
    fresh = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        if fresh:
            path.rmdir()
    except OSError as error:
        raise _refusal(what, 'a folder that can be written to', path, error) from error


def _refusal(what: str, expected: str, path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f'{what} cannot be written',
        expected=expected,
        got=f'{path} ({error.strerror or error})',
        remedy='Name another place, or change its permissions.',
    )
