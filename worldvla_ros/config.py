"""From YAML or JSON mappings to frozen dataclasses, with errors that name the field.

Knows types and names. Must not know what any configuration means.
"""

from collections.abc import Mapping
import dataclasses
import difflib
from pathlib import Path
import types
import typing

import yaml

from worldvla_ros.errors import ConfigError

T = typing.TypeVar('T')


def load_yaml(path: str | Path) -> dict:
    """Read a YAML file that holds a mapping.

    Raises:
        ConfigError: The file is missing, not YAML, or not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(
            f'no configuration file {path}', remedy='Check the path; it is read as given.'
        )
    try:
        content = yaml.safe_load(path.read_text())
    except (
        yaml.YAMLError,
        ValueError,
    ) as error:  # ValueError: no UTF-8, or a date such as 2020-13-45
        raise ConfigError(f'{path} is not YAML: {error}', remedy='Mend the file.') from error
    if not isinstance(content, dict):
        raise ConfigError(f'{path}', expected='a mapping', got=type(content).__name__)
    return content


def from_mapping(cls: type[T], mapping: Mapping, *, where: str) -> T:
    """Build a frozen dataclass from a mapping, checking every name and type.

    Args:
        cls: The dataclass; its annotations are the schema.
        mapping: The values, nested mappings for nested dataclasses, lists for tuples.
        where: Where the mapping came from, for messages.

    Raises:
        ConfigError: A key is unknown (near matches are named) or missing, or a type is wrong.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(where, expected='a mapping', got=type(mapping).__name__)
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for key in mapping:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=3)
            raise ConfigError(
                f'{where}: unknown key {key!r}',
                expected=f'one of {", ".join(fields)}',
                remedy=f'Did you mean {" or ".join(near)}?' if near else 'Remove it.',
            )
    values = {key: _convert(hints[key], value, f'{where}.{key}') for key, value in mapping.items()}
    for name, field in fields.items():
        needed = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if needed and name not in values:
            raise ConfigError(f'{where}: {name!r} is missing', remedy=f'Add {name}.')
    return cls(**values)


def _convert(hint: object, value: object, where: str) -> object:
    """Return value as the annotated type, or raise ConfigError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, where=where)
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(where, expected='a mapping', got=repr(value))
        return {k: _convert(arguments[1], v, f'{where}.{k}') for k, v in value.items()}
    return _convert_scalar(hint, value, where)


def _convert_tuple(arguments: tuple, value: object, where: str) -> tuple:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise ConfigError(where, expected='a list', got=repr(value))
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise ConfigError(where, expected=f'{len(arguments)} values', got=len(value))
    pairs = zip(arguments, value, strict=True)
    return tuple(_convert(a, v, f'{where}[{i}]') for i, (a, v) in enumerate(pairs))


def _convert_scalar(hint: object, value: object, where: str) -> object:
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    exact = isinstance(value, hint) and not (hint is not bool and isinstance(value, bool))
    if not exact:
        raise ConfigError(where, expected=hint.__name__, got=repr(value))
    return value
