"""Message types by name: their classes, and their definitions as MCAP stores them.

Names come from the network, so only those of installed ROS packages are imported. Must not know
nodes.
"""

import importlib
from pathlib import Path
import re

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from worldvla_ros.errors import ConfigError

TYPE_NAME = re.compile(r'[a-z][a-z0-9_]*/msg/[A-Z][A-Za-z0-9]*')
PLAIN = ('bool', 'byte', 'char', 'float32', 'float64', 'string', 'wstring',
         *(f'{sign}int{bits}' for sign in ('', 'u') for bits in (8, 16, 32, 64)))  # fmt: skip


def message_class(type_name: str) -> type:
    """Return the class of a message type such as sensor_msgs/msg/Image.

    Raises:
        ConfigError: It is no name of a message type, or its package is not installed.
    """
    folder = _message_folder(type_name)
    package, _, name = type_name.split('/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f'message type {type_name} has no Python class beside {folder}',
            remedy=f'Install the package {package}.',
        ) from error


def message_definition(type_name: str) -> str:
    """Return the definition of a message with those of all messages in it, as MCAP stores it.

    Raises:
        ConfigError: It is no name of a message type, or a definition is not installed.
    """
    parts: list[str] = []
    waiting, known = [type_name], {type_name}
    while waiting:
        current = waiting.pop(0)
        folder = _message_folder(current)
        package, _, name = current.split('/')
        text = _read(folder / f'{name}.msg')
        head = f'{"=" * 80}\nMSG: {package}/{name}\n' if parts else ''
        parts.append(head + text)
        fresh = [t for t in _used_types(text, package) if t not in known]
        known.update(fresh)
        waiting += fresh
    return '\n'.join(parts)


def _message_folder(type_name: str) -> Path:
    """Return the folder of the definitions of a type's package."""
    if not TYPE_NAME.fullmatch(type_name):
        raise ConfigError(
            'message type', expected='a name such as sensor_msgs/msg/Image', got=repr(type_name)
        )
    package = type_name.split('/')[0]
    try:
        return Path(get_package_share_directory(package)) / 'msg'
    except PackageNotFoundError as error:
        raise ConfigError(
            f'message type {type_name} is not installed', remedy=f'Install the package {package}.'
        ) from error


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f'message definition {file} cannot be read: {error}', remedy='Reinstall its package.'
        ) from error


def _used_types(text: str, package: str) -> list[str]:
    """Return the message types of the fields of a definition, in order."""
    found: list[str] = []
    for line in text.splitlines():
        words = line.split('#')[0].split()
        if len(words) < 2:
            continue
        base = words[0].split('[')[0].split('<')[0]
        if base in PLAIN:
            continue
        names = base.split('/')
        full = f'{names[0] if len(names) > 1 else package}/msg/{names[-1]}'
        if full not in found:
            found.append(full)
    return found
