"""The verbs of the command that fetch, explain and convert checkpoints: thin, over the package."""

import argparse
from pathlib import Path

from worldvla_ros.cli.parts import JSON_HELP, add_output, add_profile, add_verb, write_json
from worldvla_ros.errors import ConfigError


def add_checkpoints(verbs: argparse._SubParsersAction) -> None:
    """Add the verbs `pull`, `inspect` and `convert`."""
    _add_pull(verbs)
    _add_inspect(verbs)
    _add_convert(verbs)


def _add_pull(verbs: argparse._SubParsersAction) -> None:
    pull = add_verb(
        verbs, 'pull', _pull,
        'Download a published checkpoint; run it again to resume an interrupted download.',
        'worldvla pull worldvla_256_libero_goal --to checkpoints/published',
    )  # fmt: skip
    pull.add_argument('name', nargs='?', help='checkpoint name (see --list)')
    pull.add_argument('--list', action='store_true', help='list all names and exit')
    pull.add_argument('--to', default='checkpoints/published', help='folder to download to')
    pull.add_argument(
        '--revision', default=None,
        help='commit, tag or branch of the checkpoint; the newest of the main branch by default',
    )  # fmt: skip
    pull.add_argument(
        '--tokenizer-revision', default=None, help='the same for the repository of the tokenizers'
    )


def _pull(arguments: argparse.Namespace) -> int:
    from worldvla_ros.checkpoint.profiles import load_profile, profile_names
    from worldvla_ros.checkpoint.pull import pull

    if arguments.list:
        for name in profile_names():
            print(f'{name}: {load_profile(name).about}')
        return 0
    if arguments.name is None:
        raise ConfigError('no checkpoint named', remedy='worldvla pull --list shows the names.')
    revisions = {'revision': arguments.revision, 'tokenizers': arguments.tokenizer_revision}
    print(pull(arguments.name, arguments.to, **revisions))
    return 0


def _add_inspect(verbs: argparse._SubParsersAction) -> None:
    inspect = add_verb(
        verbs, 'inspect', _inspect,
        'Show what a checkpoint is, what it expects, and what is missing.',
        'worldvla inspect checkpoints/published/model_256/libero_goal --json goal.json',
    )  # fmt: skip
    inspect.add_argument('path', help='checkpoint folder, in this format or as published')
    add_profile(inspect)
    inspect.add_argument(
        '--episodes', default='',
        help='folder of recorded episodes: also report which known prompt template the checkpoint '
        'was probably trained with',
    )  # fmt: skip
    inspect.add_argument(
        '--device', default='cpu', help='device for --episodes: cpu, cuda or cuda:N'
    )
    add_output(inspect, '--json', default='', help=JSON_HELP)


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
        verbs, 'convert', _convert,
        'Rewrite a published checkpoint (Meta layout included) in this format.',
        'worldvla convert downloads/models/7b checkpoints/chameleon',
    )  # fmt: skip
    convert.add_argument('source', help='published checkpoint folder')
    convert.add_argument('target', help='folder to create')
    add_profile(convert)


def _convert(arguments: argparse.Namespace) -> int:
    from worldvla_ros.checkpoint.folder import convert

    print(convert(arguments.source, Path(arguments.target), arguments.profile))
    return 0
