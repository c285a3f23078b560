"""`worldvla eval`: the verbs that measure a checkpoint.

Each imports what it needs when it runs.
"""

import argparse

from worldvla_ros.cli_parts import (
    add_episodes,
    add_model,
    add_verb,
    load_checkpoint,
    print_figures,
    write_json,
)


def add_eval(verbs: argparse._SubParsersAction) -> None:
    """Add `eval` with all that it can measure."""
    kinds = verbs.add_parser('eval', help='Measure a checkpoint.').add_subparsers(
        required=True, metavar='WHAT'
    )
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
    imagination = add_verb(
        kinds, 'imagination', _eval_imagination, 'Imagined against observed images.',
        'worldvla eval imagination --task pick --episodes 10 --seed 8500',
    )  # fmt: skip
    add_episodes(imagination, episodes=10, seed=8500)
    imagination.add_argument('--horizon', type=int, default=10, help='actions to look ahead')
    add_model(imagination)


def _eval_sim(arguments: argparse.Namespace) -> int:
    from worldvla_ros.learn.evaluate import report, trials
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
    from worldvla_ros.learn.evaluate import imagination
    from worldvla_ros.world_model import WorldModel

    found = imagination(
        WorldModel(load_checkpoint(arguments)), arguments.task, arguments.episodes, arguments.seed,
        arguments.horizon,
    )  # fmt: skip
    write_json(arguments.json, found)
    print_figures(found)
    return 0
