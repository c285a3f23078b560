"""Tables and code of Markdown."""

from collections.abc import Iterable, Sequence
import re

MARKUP = re.compile(r'[*_<>\[\]~]')


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [row(head), row(['---'] * len(head)), *map(row, rows)]
    return '\n'.join(lines)


def row(cells: Sequence[str]) -> str:
    """Return a row of a table; an empty cell stays empty."""
    return '| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |'


def code(text: object) -> str:
    """Return words as code."""
    return f'`{text}`'


def plain(text: str) -> str:
    """Return words that are no Markdown, but for code in backticks."""
    parts = text.split('`')  # what is between backticks has an odd number
    words = [part if i % 2 else MARKUP.sub(r'\\\g<0>', part) for i, part in enumerate(parts)]
    return '`'.join(words)
