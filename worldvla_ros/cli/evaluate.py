"""`worldvla eval`: the verbs that measure a checkpoint.

Each imports what it needs when it runs.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldvla_ros.cli.parts import (
    add_episodes,
    add_model,
    add_output,
    add_verb,
    load_checkpoint,
    print_figures,
    write_json,
)

if TYPE_CHECKING:  # loads torch
    from worldvla_ros.checkpoint.spec import CheckpointSpec
    from worldvla_ros.observation import Observation


def add_eval(verbs: argparse._SubParsersAction) -> None:
    """Add `eval` with all that it can measure."""
    kinds = verbs.add_parser('eval', help='Measure a checkpoint.').add_subparsers(
        required=True, metavar='WHAT'
    )
    _add_sim(kinds)
    _add_imagination(kinds)
    _add_libero(kinds)
    _add_world(kinds)
    _add_quantisation(kinds)


def _add_sim(kinds: argparse._SubParsersAction) -> None:
    sim = add_verb(
        kinds, 'sim', _eval_sim, 'Closed-loop success in the simulation.',
        'worldvla eval sim --task pick --episodes 50 --seed 8000 --json pick.json',
    )  # fmt: skip
    add_episodes(sim, episodes=50, seed=8000)
    sim.add_argument('--instruction', default=None, help='one sentence for all episodes')
    sim.add_argument(
        '--wording', default='canonical', choices=['canonical', 'heldout'],
        help='heldout: wordings that no training sentence has',
    )  # fmt: skip
    sim.add_argument(
        '--cube', default='drawn', choices=['drawn', 'other'],
        help='other: name another cube of the same scene',
    )  # fmt: skip
    add_model(sim)


def _add_imagination(kinds: argparse._SubParsersAction) -> None:
    imagination = add_verb(
        kinds, 'imagination', _eval_imagination, 'Imagined against observed images.',
        'worldvla eval imagination --task pick --episodes 10 --seed 8500',
    )  # fmt: skip
    add_episodes(imagination, episodes=10, seed=8500)
    imagination.add_argument('--ahead', type=int, default=10, help='actions to look ahead')
    add_model(imagination)


def _eval_sim(arguments: argparse.Namespace) -> int:
    from worldvla_ros.evaluate.success import report, trials
    from worldvla_ros.policy import Policy

    made = list(
        trials(
            Policy(load_checkpoint(arguments)), arguments.task, arguments.episodes, arguments.seed,
            instruction=arguments.instruction, wording=arguments.wording, cube=arguments.cube,
        )
    )  # fmt: skip
    found = report(made)
    write_json(arguments.json, found)
    print_figures(found['summary'])
    return 0


def _eval_imagination(arguments: argparse.Namespace) -> int:
    from worldvla_ros.evaluate.imagination import imagination
    from worldvla_ros.world_model import WorldModel

    found = imagination(
        WorldModel(load_checkpoint(arguments)), arguments.task, arguments.episodes, arguments.seed,
        arguments.ahead,
    )  # fmt: skip
    write_json(arguments.json, found)
    print_figures(found)
    return 0


def _add_libero(kinds: argparse._SubParsersAction) -> None:
    libero = add_verb(
        kinds, 'libero', _eval_libero, 'Closed-loop success in a suite of LIBERO.',
        'worldvla eval libero --suite goal --checkpoint CKPT --workers 4 --json goal.json',
    )  # fmt: skip
    libero.add_argument(
        '--suite', required=True, choices=['spatial', 'object', 'goal', '10', '90'], help='suite'
    )
    libero.add_argument(
        '--tasks', type=int, nargs='+', default=[], help='numbers of tasks, from 0; all by default'
    )
    libero.add_argument(
        '--trials', type=int, default=50, help='initial states of each task, at most 50'
    )
    libero.add_argument(
        '--delay', type=_delay, default=0.0, metavar='SECONDS',
        help='how long thinking takes while the world goes on; or: measured',
    )  # fmt: skip
    libero.add_argument(
        '--resolution', type=int, default=None, choices=[256, 512],
        help='side of the rendered images [px]; by default as the checkpoint needs',
    )  # fmt: skip
    libero.add_argument(
        '--wording', default='language', choices=['language', 'folder'],
        help='folder: the name of the task, with its scene, as training data of suite 10 has it',
    )  # fmt: skip
    libero.add_argument(
        '--decoding', default='auto', choices=['auto', 'discrete', 'verified', 'continuous'],
        help='auto: the action head where there is one; discrete: bins under the grammar; '
        'verified: proven to be what free decoding gives',
    )  # fmt: skip
    add_output(libero, '--videos', folder=True, default='', help='folder for one video per trial')
    libero.add_argument(
        '--workers', type=int, default=1, help='processes, each with a copy of the weights'
    )
    add_model(libero)


def _delay(text: str) -> float | None:
    return None if text == 'measured' else float(text)


def _eval_libero(arguments: argparse.Namespace) -> int:
    from worldvla_ros.checkpoint.folder import demo_path
    from worldvla_ros.evaluate.libero import LiberoSettings, evaluate
    from worldvla_ros.evaluate.libero_trials import first_error, report, table

    settings = LiberoSettings(
        suite=arguments.suite,
        checkpoint=Path(arguments.checkpoint or demo_path()),
        profile=arguments.profile,
        decoding=arguments.decoding,
        tasks=tuple(arguments.tasks),
        trials=arguments.trials,
        delay_s=arguments.delay,
        resolution=arguments.resolution,
        wording=arguments.wording,
        videos=Path(arguments.videos) if arguments.videos else None,
        device=arguments.device,
        threads=arguments.threads,
        dtype=arguments.dtype,
    )
    record = Path(arguments.json).with_suffix('.jsonl') if arguments.json else None
    made = evaluate(settings, record=record, workers=arguments.workers)
    found = report(made)
    write_json(arguments.json, found)
    print(table(found))
    if found['total']['errors']:
        print(f'{found["total"]["errors"]} of {len(made)} trials ended in an error; the first:')
        print(first_error(made))
        return 1
    return 0


def _add_world(kinds: argparse._SubParsersAction) -> None:
    world = add_verb(
        kinds, 'world', _eval_world, 'Whole episodes imagined, against what was recorded.',
        'worldvla eval world --episodes-dir data/pick --checkpoint CKPT --json world.json',
    )  # fmt: skip
    world.add_argument('--episodes-dir', required=True, help='folder of recorded episodes')
    world.add_argument(
        '--ahead', type=int, default=0, help='actions to look ahead in each episode; 0: all'
    )
    world.add_argument('--lpips', default='', help='TorchScript file of LPIPS')
    world.add_argument('--fvd', default='', help='TorchScript file of the I3D network for FVD')
    add_model(world)


def _eval_world(arguments: argparse.Namespace) -> int:
    from worldvla_ros.evaluate.perceptual import Lpips, VideoFeatures
    from worldvla_ros.evaluate.recorded import VIDEOS, evaluate_world
    from worldvla_ros.world_model import WorldModel

    device = arguments.device
    lpips = Lpips(arguments.lpips, device) if arguments.lpips else None
    features = VideoFeatures(arguments.fvd, device) if arguments.fvd else None
    found = evaluate_world(
        WorldModel(load_checkpoint(arguments)), arguments.episodes_dir,
        ahead=arguments.ahead or None, lpips=lpips, features=features,
    )  # fmt: skip
    write_json(arguments.json, found)
    views = found['by_camera'] if len(found['by_camera']) > 1 else {}
    for camera, figures in {'': found, **views}.items():
        for name in VIDEOS:
            print_figures({'video': f'{name} {camera}'.strip()} | figures[name])
    for name, reason in found['not_measured'].items():
        print(f'{name} was not measured: {reason}')
    return 0


def _add_quantisation(kinds: argparse._SubParsersAction) -> None:
    gate = add_verb(
        kinds, 'quantisation', _eval_quantisation,
        'Actions of one precision against those of another; fails where they are too far apart.',
        'worldvla eval quantisation --dtype int8 --against bfloat16 --json int8.json',
    )  # fmt: skip
    gate.add_argument('--against', default='auto', help='precision to compare with, as --dtype')
    gate.add_argument(
        '--observations', type=int, default=32, help='number of observations to compare'
    )
    gate.add_argument('--seed', type=int, default=0, help='seed of observations that are made')
    gate.add_argument(
        '--episodes-dir', default='', help='folder of recorded episodes to take observations from'
    )
    add_model(gate)
    gate.set_defaults(dtype='int8')


def _eval_quantisation(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from worldvla_ros.evaluate.precision import GATE, compare

    reference = _act_with(arguments, arguments.against)
    candidate = _act_with(arguments, arguments.dtype)
    found = compare(reference.pop('answers'), candidate.pop('answers'))
    figures = asdict(found) | {'passes': found.passes()}
    write_json(
        arguments.json,
        {'reference': reference, 'candidate': candidate, 'quality': figures, 'gate': asdict(GATE)},
    )
    for row in (reference, candidate, figures):
        print_figures(row)
    found.require(arguments.dtype)
    return 0


def _act_with(arguments: argparse.Namespace, dtype: str) -> dict[str, Any]:
    """Load in one precision, act, and let go of the weights before the next is loaded."""
    from worldvla_ros.checkpoint.quantise import weight_bytes
    from worldvla_ros.evaluate.precision import answer

    checkpoint = load_checkpoint(argparse.Namespace(**vars(arguments) | {'dtype': dtype}))
    answers = answer(checkpoint, _observations(arguments, checkpoint.spec))
    return {
        'precision': dtype,
        'model_id': checkpoint.model_id,
        'weights_mb': weight_bytes(checkpoint.model) / 1e6,
        'chunk_ms': answers.chunk_ms,
        'answers': answers,
    }


def _observations(arguments: argparse.Namespace, spec: 'CheckpointSpec') -> 'list[Observation]':
    from worldvla_ros.data.episodes import spread_observations
    from worldvla_ros.evaluate.precision import made_observations

    if not arguments.episodes_dir:
        return made_observations(spec, arguments.observations, arguments.seed)
    return spread_observations(
        arguments.episodes_dir, arguments.observations, spec.images_per_camera
    )
