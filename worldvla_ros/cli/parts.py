"""What the verbs of the command share: flags, loading, and figures for people and files.

Imports torch only where a checkpoint is loaded.
"""

import argparse
import codecs
from collections.abc import Callable, Mapping
from importlib.util import find_spec
import io
import json
import os
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # loads torch
    from worldvla_ros.checkpoint.folder import Checkpoint

DTYPE_HELP = (
    'precision of the weights: float32, bfloat16, float16, int8, int4 or float8; '
    'auto: float32 on a CPU, as stored elsewhere'
)
TASKS = ('pick', 'push', 'put')
JSON_HELP = 'write the report as JSON to this file'
ASCII = {'…': '...', '–': '-', '×': 'x', '·': '*', '─': '-', '±': '+-'}
"""What stands for letters that a terminal's encoding lacks."""
Verb = Callable[[argparse.Namespace], int]


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but for those that are empty."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        empty = action.default is None or action.default is False or action.default in ('', [])
        return action.help if empty else super()._get_help_string(action)


def add_verb(
    verbs: argparse._SubParsersAction, name: str, verb: Verb, about: str, example: str
) -> argparse.ArgumentParser:
    """Add a verb with its help and one example line, and return its parser."""
    added = verbs.add_parser(
        name,
        help=about,
        description=about,
        epilog=f'example:  {example}',
        formatter_class=_Formatter,
    )
    added.set_defaults(verb=verb)
    return added


def add_output(
    to: argparse.ArgumentParser, flag: str, *, folder: bool = False, **options: Any
) -> None:
    """Add a flag that names a file or folder to write, which `check_outputs` finds."""
    added = to.add_argument(flag, **options)
    known = to.get_default('outputs') or ()
    to.set_defaults(outputs=(*known, (flag, added.dest, folder)))


def check_outputs(arguments: argparse.Namespace) -> None:
    """Refuse files and folders that cannot be written, before a verb begins its work.

    Raises:
        ConfigError: One cannot be.
    """
    from worldvla_ros.data.outputs import check_file, check_folder

    for flag, name, folder in getattr(arguments, 'outputs', ()):
        value = getattr(arguments, name)
        if value:
            (check_folder if folder else check_file)(value, flag)


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks how a line may go on, where argcomplete is installed."""
    if '_ARGCOMPLETE' in os.environ and find_spec('argcomplete') is not None:
        import argcomplete

        argcomplete.autocomplete(parser)


def add_episodes(to: argparse.ArgumentParser, episodes: int, seed: int) -> None:
    """Add the flags that choose episodes of the built-in simulation."""
    to.add_argument('--task', required=True, choices=TASKS, help='task to do')
    to.add_argument('--episodes', type=int, default=episodes, help='number of episodes')
    to.add_argument(
        '--seed', type=int, default=seed,
        help='seed of the first scene, from 0 up; the i-th uses SEED + i (by convention 0–7999 '
        'are for training, 8000–8999 for validation)',
    )  # fmt: skip


def add_model(to: argparse.ArgumentParser) -> None:
    """Add the flags that choose a checkpoint, where it runs, and the file for the figures."""
    to.add_argument(
        '--checkpoint', default='', help='checkpoint folder; the demo checkpoint if empty'
    )
    add_profile(to)
    to.add_argument('--device', default='cpu', help='device: cpu, cuda or cuda:N')
    to.add_argument('--dtype', default='auto', help=DTYPE_HELP)
    add_threads(to)
    add_output(to, '--json', default='', help=JSON_HELP)


def add_profile(to: argparse.ArgumentParser) -> None:
    """Add the flag for published folders of another name."""
    to.add_argument(
        '--profile', default=None,
        help='name or YAML file of the profile of a published checkpoint whose folder was renamed',
    )  # fmt: skip


def add_threads(to: argparse.ArgumentParser) -> None:
    """Add the flag for CPU threads.

    One by default, as nodes have: the threads of small models wait for each other by spinning,
    which takes many times as long where anything else runs.
    """
    to.add_argument(
        '--threads', type=int, default=1, help='CPU threads; 0: as many as PyTorch chooses'
    )


def load_checkpoint(arguments: argparse.Namespace) -> 'Checkpoint':
    """Load the checkpoint that the flags of `add_model` name."""
    from worldvla_ros.checkpoint.folder import demo_path, load
    from worldvla_ros.checkpoint.hardware import use_threads

    use_threads(arguments.threads)
    folder = arguments.checkpoint or demo_path()
    return load(folder, arguments.device, arguments.dtype, arguments.profile)


def write_json(file: str, content: object) -> None:
    """Write plain values to a file; an empty name writes nothing.

    Raises:
        ConfigError: The file cannot be written.
    """
    if file:
        from worldvla_ros.data.outputs import check_file

        check_file(file, '--json')
        Path(file).write_text(json.dumps(content, indent=1) + '\n')


def accept_any_terminal() -> None:
    """Let output be printed in any encoding: what it lacks is written in ASCII."""
    codecs.register_error('worldvla_ascii', _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='worldvla_ascii')


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return ''.join(ASCII.get(letter, '?') for letter in lacking), error.end


def print_figures(figures: Mapping[str, object]) -> None:
    """Print figures with their names on one line."""

    def text(value: object) -> str:
        if isinstance(value, tuple):
            return ' … '.join(text(v) for v in value)
        return f'{value:.3f}' if isinstance(value, float) else str(value)

    print('  '.join(f'{name} {text(value)}' for name, value in figures.items()))
