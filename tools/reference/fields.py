"""The fields of a file that is read into dataclasses: robot descriptions, worldvla.json."""

from collections.abc import Iterator
import dataclasses
import inspect
import re
import typing
from typing import Any

from tools.reference.markdown import code, plain, table

ATTRIBUTE = re.compile(r'^    (\w+): (.*(?:\n {5,}\S.*)*)', re.M)


def fields_page(cls: type, head: str) -> str:
    """Return the fields of a dataclass and of those within it, one table each."""
    return '\n\n'.join(block(each, path or head) for path, each in blocks(cls))


def blocks(cls: type, path: str = '') -> Iterator[tuple[str, type]]:
    """Yield a dataclass, and those within it with their dotted names."""
    yield path, cls
    for name, kind in typing.get_type_hints(cls).items():
        for inner in (kind, *typing.get_args(kind)):
            if dataclasses.is_dataclass(inner):
                yield from blocks(typing.cast(type, inner), f'{path}.{name}'.lstrip('.'))


def block(cls: type, title: str) -> str:
    """Return the heading and the table of one dataclass."""
    words, meanings = documented(cls)
    hints = typing.get_type_hints(cls)
    rows = [
        [code(f.name), type_words(hints[f.name]), default(f), meanings.get(f.name, '')]
        for f in dataclasses.fields(typing.cast(Any, cls))
    ]
    shown = code(title) if title.islower() else title
    return f'## {shown}\n\n{words}\n\n{table(["field", "type", "default", "meaning"], rows)}'


def documented(cls: type) -> tuple[str, dict[str, str]]:
    """Return the summary of a class, and what its docstring says of each attribute."""
    words = inspect.getdoc(cls) or ''
    summary, _, attributes = words.partition('\n\nAttributes:\n')
    attributes = re.split(r'^\S', attributes, maxsplit=1, flags=re.M)[0]
    found = ATTRIBUTE.findall(attributes)
    return plain(summary), {name: plain(' '.join(text.split())) for name, text in found}


def type_words(kind: Any) -> str:
    """Return a type in the words of YAML."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        count = '' if inner[-1] is Ellipsis else f'{len(inner)} '
        return f'list of {count}{type_words(inner[0])}s'
    if inner:
        return ' or '.join(type_words(each) for each in inner)
    if dataclasses.is_dataclass(kind):
        return 'block'
    names = {str: 'text', float: 'number', int: 'whole number', bool: 'true or false'}
    return names.get(kind, 'nothing' if kind is type(None) else kind.__name__)


def default(field: 'dataclasses.Field[Any]') -> str:
    """Return a default as YAML has it; a field without one is required."""
    value = field.default
    if value is dataclasses.MISSING:
        return '*required*' if field.default_factory is dataclasses.MISSING else ''
    if value is None or dataclasses.is_dataclass(value):
        return ''
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, tuple):
        return code(f'[{", ".join(map(str, value))}]')
    return code(value) if value != '' else code("''")
