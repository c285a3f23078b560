"""From YAML and JSON files to frozen dataclasses, with errors that name the field.

A file is bounded before it is believed: its size, how deep it nests, and how much its aliases
repeat; a key may stand once, and a number must be finite. Knows types and names. Must not know
what any configuration means.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import difflib
import json
import math
import os
from pathlib import Path
import reprlib
import types
import typing
from typing import Any, TypeVar

import yaml

from worldvla_ros.errors import ConfigError, WorldVLAError

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar('T', bound='DataclassInstance')

MAX_YAML_BYTES = 1 << 20
MAX_JSON_BYTES = 1 << 26
"""The largest that is published, a text tokenizer with its vocabulary, has some megabytes."""
MAX_DEPTH = 50
MAX_NODES = 100_000
"""Values of a YAML file, where each alias counts as much as what it stands for."""
MAX_KEY_LENGTH = 100
"""Longer keys are no misspellings; looking for near matches would take long."""
LFS_POINTER = b'version https://git-lfs.github.com/spec/'
"""How the small text file begins that git-lfs leaves in the place of a large one."""

_TAG = 'tag:yaml.org,2002:'
_WORDS = reprlib.Repr()
_WORDS.maxstring = _WORDS.maxother = 120
_WORDS.maxlevel = 2


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Beside YAML's own rules, a key may stand once in a mapping, explicit tags (`!!timestamp`) are
    not taken, and `1:30` and `2020-01-01` are strings, neither base 60 nor dates.

    Raises:
        ConfigError: The file is missing, too large, not YAML, or not a mapping.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise ConfigError(
            f'no configuration file {shown(str(path))}',
            remedy='Check the path; it is read as given.',
        )
    try:
        content = yaml.load(read_document(path, MAX_YAML_BYTES, ConfigError), _Loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # a number of too many digits
        words = ' '.join(str(error).split())
        raise ConfigError(f'{path} is not YAML: {words}', remedy='Correct the file.') from error
    if not isinstance(content, dict):
        raise ConfigError(f'{path}', expected='a mapping', got=type(content).__name__)
    return content


def load_json(path: str | Path, kind: type[WorldVLAError] = ConfigError) -> dict[str, Any]:
    """Read a JSON file that holds a mapping.

    Args:
        path: The file.
        kind: What is raised.

    Raises:
        WorldVLAError: Of that kind; the file is missing, too large, nested too deep, no JSON or
            no mapping, or a key stands twice.
    """
    path = Path(path)
    text = read_document(path, MAX_JSON_BYTES, kind)
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise kind(f'{path} is damaged: {error}', remedy='Restore the file.') from error
    if not isinstance(content, dict):
        raise kind(
            f'{path} is damaged',
            expected='a mapping',
            got=type(content).__name__,
            remedy='Restore the file.',
        )
    return content


def read_document(path: Path, limit: int, kind: type[WorldVLAError]) -> str:
    """Return the text of a file of at most `limit` bytes.

    Raises:
        WorldVLAError: Of that kind; the file cannot be read, is too large, no UTF-8, or the
            pointer that git-lfs leaves in its place.
    """
    refuse_pointer(path, kind)
    try:
        with path.open('rb') as stream:
            content = stream.read(limit + 1)
        text = content.decode()
    except (OSError, ValueError) as error:
        raise kind(f'{path} is damaged: {error}', remedy='Restore the file.') from error
    if len(content) > limit:
        raise kind(f'{path} is too large', expected=f'at most {limit} bytes',
                   remedy='Restore the file.')  # fmt: skip
    return text


def refuse_pointer(path: Path, kind: type[WorldVLAError]) -> None:
    """Name a file that git-lfs has not fetched.

    Raises:
        WorldVLAError: Of that kind; the file is a pointer.
    """
    if not os.path.isfile(path):
        return
    with open(path, 'rb') as stream:
        begin = stream.read(len(LFS_POINTER))
    if begin == LFS_POINTER:
        raise kind(
            f'{path} is a git-lfs pointer, not the file itself',
            expected='the file that the pointer stands for',
            remedy='Run `git lfs pull` in its repository, or download the file.',
        )


def shown(value: object) -> str:
    """Return a value as text for a message, cut off where it is long or nested."""
    return _WORDS.repr(value)


def from_mapping(cls: type[T], mapping: object, *, where: str) -> T:
    """Build a frozen dataclass from a mapping, checking every name and type.

    Args:
        cls: The dataclass; its annotations are the schema.
        mapping: The values, nested mappings for nested dataclasses, lists for tuples.
        where: Where the mapping came from, for messages.

    Raises:
        ConfigError: A key is unknown (near matches are named) or missing, a type is wrong, or a
            number is not finite.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(where, expected='a mapping', got=type(mapping).__name__)
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for key in mapping:
        if key not in fields:
            raise _unknown_key(where, key, fields)
    values = {key: _convert(hints[key], value, f'{where}.{key}') for key, value in mapping.items()}
    for name, field in fields.items():
        needed = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if needed and name not in values:
            raise ConfigError(f'{where}: {name!r} is missing', remedy=f'Add {name}.')
    return cls(**values)


def _unknown_key(where: str, key: object, fields: Iterable[str]) -> ConfigError:
    name = str(key)[: MAX_KEY_LENGTH + 1]
    near = difflib.get_close_matches(name, fields, n=3) if len(name) <= MAX_KEY_LENGTH else []
    return ConfigError(
        f'{where}: unknown key {shown(key)}',
        expected=f'one of {", ".join(fields)}',
        remedy=f'Did you mean {" or ".join(near)}?' if near else 'Remove it.',
    )


def _convert(hint: Any, value: object, where: str) -> object:
    """Return value as the annotated type, or raise ConfigError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast('type[DataclassInstance]', hint), value, where=where)
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(where, expected='a mapping', got=shown(value))
        return {
            k: _convert(arguments[1], v, f'{where}.{str(k)[:MAX_KEY_LENGTH]}')
            for k, v in value.items()
        }
    return _convert_scalar(hint, value, where)


def _convert_tuple(arguments: tuple[Any, ...], value: object, where: str) -> tuple[object, ...]:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise ConfigError(where, expected='a list', got=shown(value))
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise ConfigError(where, expected=f'{len(arguments)} values', got=len(value))
    pairs = zip(arguments, value, strict=True)
    return tuple(_convert(a, v, f'{where}[{i}]') for i, (a, v) in enumerate(pairs))


def _convert_scalar(hint: type, value: object, where: str) -> object:
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value, where)
    if hint is Path and isinstance(value, str):
        return Path(value)
    exact = isinstance(value, hint) and not (hint is not bool and isinstance(value, bool))
    if not exact:
        raise ConfigError(where, expected=hint.__name__, got=shown(value))
    return value


def _finite(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond 1.8e308
        number = math.inf
    if not math.isfinite(number):
        raise ConfigError(where, expected='a finite number', got=shown(value))
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs of a JSON object as a mapping."""
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in mapping if names.count(name) > 1)
        raise ValueError(f'the key {shown(twice)} stands twice in one object')
    return mapping


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader within bounds."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._nodes = 0
        self._sizes: dict[int, int] = {}  # values below each node that is complete

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose what comes next, counting values and depth."""
        parser: Any = self  # its types are not published
        event = parser.peek_event()
        if getattr(event, 'tag', None) is not None:
            raise self._error(event, f'the tag {shown(event.tag)} is not taken here')
        before, self._depth = self._nodes, self._depth + 1
        if self._depth > MAX_DEPTH:
            raise self._error(event, f'nested more than {MAX_DEPTH} deep')
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise self._error(event, 'an alias inside what it stands for')
            self._nodes += self._sizes[id(node)]
        else:
            self._nodes += 1
            self._sizes[id(node)] = self._nodes - before
        if self._nodes > MAX_NODES:
            raise self._error(event, f'more than {MAX_NODES} values, aliases counted in full')
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Compose a mapping, in which each key stands once."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise self._error(key, f'the key {shown(key.value)} stands twice')
                seen.add((key.tag, key.value))
        return node

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """Return the type of an untagged word; dates and numbers of base 60 are strings."""
        resolver: Any = super()  # its types are not published
        tag = resolver.resolve(kind, value, implicit)
        base_60 = tag in (_TAG + 'int', _TAG + 'float') and ':' in value
        return _TAG + 'str' if base_60 or tag == _TAG + 'timestamp' else tag

    @staticmethod
    def _error(place: Any, problem: str) -> yaml.MarkedYAMLError:
        return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)
