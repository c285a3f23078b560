"""The verbs of the command that fetch, explain and convert checkpoints: thin, over the package."""

import argparse
from pathlib import Path

from worldvla_ros.cli.parts import add_output, add_profile, add_verb, write_json


def add_checkpoints(verbs: argparse._SubParsersAction) -> None:
    """Add the verbs `pull`, `inspect` and `convert`."""
    _add_pull(verbs)
    _add_inspect(verbs)
    _add_convert(verbs)


def _add_pull(verbs: argparse._SubParsersAction) -> None:
    pull = add_verb(
        verbs, 'pull', _pull, 'Fetch a published checkpoint; one interrupted goes on.',
        'worldvla pull worldvla_256_libero_goal --to checkpoints/published',
    )  # fmt: skip
    pull.add_argument('name', help='its name; a wrong one lists all')
    pull.add_argument(
        '--to', default='checkpoints/published', help='folder for all that is pulled'
    )


def _pull(arguments: argparse.Namespace) -> int:
    from worldvla_ros.checkpoint.pull import pull

    print(pull(arguments.name, arguments.to))
    return 0


def _add_inspect(verbs: argparse._SubParsersAction) -> None:
    inspect = add_verb(
        verbs, 'inspect', _inspect, 'Say what a checkpoint is, expects and lacks.',
        'worldvla inspect checkpoints/published/model_256/libero_goal --json goal.json',
    )  # fmt: skip
    inspect.add_argument('path', help='checkpoint folder, ours or a published one')
    add_profile(inspect)
    inspect.add_argument(
        '--episodes', default='',
        help='folder of episodes: also measure which wordings of the prompts the weights know',
    )  # fmt: skip
    inspect.add_argument('--device', default='cpu', help='torch device for measuring wordings')
    add_output(inspect, '--json', default='', help='file for what is said')


def _inspect(arguments: argparse.Namespace) -> int:
    from worldvla_ros.checkpoint.inspection import inspect, report_lines

    report = inspect(arguments.path, arguments.profile)
    if arguments.episodes and not report['missing']:
        from worldvla_ros.checkpoint.folder import load
        from worldvla_ros.evaluate.wording import known_words

        loaded = load(arguments.path, arguments.device, profile=arguments.profile)
        report['knows'] = known_words(loaded, arguments.episodes)
    write_json(arguments.json, report)
    print('\n'.join(report_lines(report)))
    return 1 if report['missing'] else 0


def _add_convert(verbs: argparse._SubParsersAction) -> None:
    convert = add_verb(
        verbs, 'convert', _convert, 'Write a published or Meta folder in our own format.',
        'worldvla convert downloads/models/7b checkpoints/chameleon',
    )  # fmt: skip
    convert.add_argument('source', help='folder in a published layout')
    convert.add_argument('target', help='new folder')
    add_profile(convert)


def _convert(arguments: argparse.Namespace) -> int:
    from worldvla_ros.checkpoint.folder import convert

    print(convert(arguments.source, Path(arguments.target), arguments.profile))
    return 0
