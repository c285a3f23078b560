"""The interface files of msg/, srv/ and action/ as Markdown: each field, then the file."""

from collections.abc import Iterator
from pathlib import Path
import re

from tools.reference.markdown import code, plain, table

ROOT = Path(__file__).resolve().parents[2]
KINDS = {'msg': 'Messages', 'srv': 'Services', 'action': 'Actions'}
PARTS = {
    'msg': ('Fields',),
    'srv': ('Request', 'Response'),
    'action': ('Goal', 'Result', 'Feedback'),
}
CONSTANT = re.compile(r'^(\w+) +([A-Z][A-Z0-9_]*) *= *(".*?"|\S+) *(?:# *(.*))?$')
FIELD = re.compile(r'^([\w/]+(?:\[\d*\])?) +(\w+) *(?:# *(.*))?$')


def files(kind: str) -> list[Path]:
    """Return the files of a kind of interface: msg, srv or action."""
    return sorted((ROOT / kind).glob(f'*.{kind}'))


def interfaces_page() -> str:
    """Return all interfaces."""
    return '\n\n'.join(
        f'## {title}\n\n' + '\n\n'.join(interface(file) for file in files(kind))
        for kind, title in KINDS.items()
    )


def interface(file: Path) -> str:
    """Return one interface.

    Raises:
        ValueError: A line is neither a field nor a constant.
    """
    kind = file.suffix[1:]
    text = file.read_text()
    sections = [part.strip('\n') for part in re.split(r'^---$', text, flags=re.M)]
    blocks = [f'({anchor(f"worldvla_ros/{kind}/{file.stem}")})=\n### {file.stem}', about(text)]
    for title, section in zip(PARTS[kind], sections, strict=True):
        blocks += [f'**{title}**', *tables(section)]
    blocks.append(f'```{{code-block}} text\n:caption: {kind}/{file.name}\n\n{text.rstrip()}\n```')
    return '\n\n'.join(blocks)


def anchor(type_name: str) -> str:
    """Return the label of an interface of this package, which other pages link to."""
    return type_name.replace('/', '-').lower()


def about(text: str) -> str:
    """Return the comment at the beginning of a file, in paragraphs."""
    lines = []
    for line in text.splitlines():
        if not line.startswith('#'):
            break
        lines.append(line.removeprefix('#').strip())
    return plain('\n'.join(lines))


def tables(section: str) -> Iterator[str]:
    """Yield a table of the fields of a part of an interface, then one of its constants.

    Raises:
        ValueError: A line is neither a field nor a constant.
    """
    fields, constants = [], []
    for line in section.splitlines():
        if not line.strip() or line.startswith('#'):
            continue
        if found := CONSTANT.match(line):
            constants.append([code(found[2]), code(found[3]), plain(found[4] or '')])
        elif found := FIELD.match(line):
            fields.append([code(found[2]), code(found[1]), plain(found[3] or '')])
        else:
            raise ValueError(f'not a line of an interface: {line!r}')
    if fields:
        yield table(['field', 'type', 'meaning'], fields)
    if constants:
        yield table(['constant', 'value', 'meaning'], constants)
