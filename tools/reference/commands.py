"""The `worldvla` command and the launch arguments, as their parsers have them."""

import argparse
from collections.abc import Iterator

from tools.reference.markdown import code, plain, table
from worldvla_ros.cli.verbs import parser
from worldvla_ros.graph import ARGUMENTS

UP = 'worldvla up'


def commands_page() -> str:
    """Return all verbs with their options; those of `up` are the launch arguments."""
    return '\n\n'.join(f'## {verb.prog}\n\n{described(verb)}' for verb in verbs(parser()))


def verbs(of: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers that do something: those without parsers of their own."""
    groups = [a for a in of._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        yield of
    for group in groups:
        for verb in group.choices.values():
            yield from verbs(verb)


def described(verb: argparse.ArgumentParser) -> str:
    """Return description, example and arguments of a verb."""
    blocks = [plain(verb.description or '')]
    example = (verb.epilog or '').removeprefix('example:').strip()
    if example:
        blocks.append(f'```text\n{example}\n```')
    if verb.prog == UP:
        blocks.append('Its arguments are the [launch arguments](launch-arguments.md) as flags.')
        return '\n\n'.join(blocks)
    rows = [argument(a) for a in verb._actions if not isinstance(a, argparse._HelpAction)]
    if rows:
        blocks.append(table(['argument', 'default', 'meaning'], rows))
    return '\n\n'.join(blocks)


def argument(action: argparse.Action) -> list[str]:
    """Return the row of an argument."""
    value = action.metavar or action.dest.upper()
    takes = '' if action.nargs == 0 or not action.option_strings else f' {value}'
    name = ', '.join(action.option_strings) or str(value)
    words = plain(str(action.help or ''))
    if action.choices:
        words += f' ({", ".join(code(choice) for choice in action.choices)})'
    return [code(f'{name}{takes}'), default(action), words]


def default(action: argparse.Action) -> str:
    """Return the default of an argument, empty where it has none."""
    if action.required:
        return '*required*'
    value = action.default
    if value is None or value is False or value in ('', []):
        return ''
    return code(' '.join(map(str, value)) if isinstance(value, list) else value)


def launch_page() -> str:
    """Return the arguments of all launch files."""
    rows = [
        [
            code(name),
            code(argument.default) if argument.default else '',
            ', '.join(code(choice) for choice in argument.choices if choice),
            plain(argument.description),
        ]
        for name, argument in ARGUMENTS.items()
    ]
    return table(['argument', 'default', 'choices', 'meaning'], rows)
