"""The `worldvla` command: thin verbs over the package.

Each verb imports what it needs when it runs, so that `worldvla up --help` does not load torch.
"""

import argparse
from collections.abc import Callable
import json
import logging
from pathlib import Path
import sys

from worldvla_ros.errors import WorldVLAError

TASKS = ('pick', 'push', 'put')
Verb = Callable[[argparse.Namespace], int]


def main(argv: list[str] | None = None) -> int:
    """Run one verb; what a user can mend is one message and status 2."""
    arguments = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    try:
        return arguments.verb(arguments)
    except WorldVLAError as error:
        print(f'worldvla: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    about = 'WorldVLA for ROS 2: act, imagine, train and evaluate.'
    top = argparse.ArgumentParser(prog='worldvla', description=about)
    verbs = top.add_subparsers(required=True, metavar='VERB')
    _add_up(verbs)
    _add_demo(verbs)
    _add_collect(verbs)
    _add_train(verbs)
    _add_eval(verbs)
    _add_imagine(verbs)
    return top


def _add(
    verbs: argparse._SubParsersAction, name: str, verb: Verb, about: str, example: str
) -> argparse.ArgumentParser:
    added = verbs.add_parser(
        name,
        help=about,
        description=about,
        epilog=f'example:  {example}',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    added.set_defaults(verb=verb)
    return added


def _add_up(verbs: argparse._SubParsersAction) -> None:
    from worldvla_ros.graph import ARGUMENTS

    up = _add(
        verbs, 'up', _up, 'Start the graph and keep it running until Ctrl-C.',
        'worldvla up --instruction "pick up the red cube"',
    )  # fmt: skip
    for name, argument in ARGUMENTS.items():
        up.add_argument(
            f'--{name.replace("_", "-")}',
            default=argument.default,
            choices=argument.choices or None,
            help=argument.description,
            dest=name,
        )


def _up(arguments: argparse.Namespace) -> int:
    from worldvla_ros.graph import ARGUMENTS, up

    return up({name: getattr(arguments, name) for name in ARGUMENTS})


def _add_demo(verbs: argparse._SubParsersAction) -> None:
    demo = _add(
        verbs, 'demo', _demo, 'Follow three sentences; write video, strip, bag and table.',
        'worldvla demo --out out/demo',
    )  # fmt: skip
    demo.add_argument('--out', default='out/demo', help='folder to write to')
    demo.add_argument('--seed', type=int, default=None, help='seed of the first scene')
    demo.add_argument('--checkpoint', default='', help='checkpoint folder; empty is the demo one')


def _demo(arguments: argparse.Namespace) -> int:
    from worldvla_ros.nodes.demo import run_demo

    return run_demo(Path(arguments.out), arguments.seed, arguments.checkpoint)


def _add_collect(verbs: argparse._SubParsersAction) -> None:
    collect = _add(
        verbs, 'collect', _collect, 'Record expert episodes; those already there are kept.',
        'worldvla collect --task pick --episodes 100 --seed 0 --out data/pick',
    )  # fmt: skip
    _add_episodes(collect, episodes=100, seed=0)
    collect.add_argument('--out', required=True, help='folder of the episodes')
    collect.add_argument(
        '--cameras', nargs='+', default=['front', 'wrist'], choices=['front', 'wrist'],
        help='cameras to record',
    )  # fmt: skip


def _collect(arguments: argparse.Namespace) -> int:
    from worldvla_ros.sim.collect import collect

    recorded, succeeded = collect(
        arguments.task, arguments.episodes, arguments.seed, arguments.out,
        cameras=tuple(arguments.cameras),
    )  # fmt: skip
    kept = arguments.episodes - recorded
    print(f'{recorded} episodes recorded, {succeeded} succeeded; {kept} were there already')
    return 0


def _add_train(verbs: argparse._SubParsersAction) -> None:
    train = _add(
        verbs, 'train', _train, 'Train image tokenizer and unified model, and write a checkpoint.',
        'worldvla train config/train/demo.yaml --resume',
    )  # fmt: skip
    train.add_argument('config', help='YAML file, see config/train/demo.yaml')
    train.add_argument('--resume', action='store_true', help='go on from the work folder')


def _train(arguments: argparse.Namespace) -> int:
    from worldvla_ros.learn.train import run

    print(f'checkpoint written to {run(arguments.config, resume=arguments.resume)}')
    return 0


def _add_eval(verbs: argparse._SubParsersAction) -> None:
    kinds = verbs.add_parser('eval', help='Measure a checkpoint.').add_subparsers(
        required=True, metavar='WHAT'
    )
    sim = _add(
        kinds, 'sim', _eval_sim, 'Closed-loop success in the simulation.',
        'worldvla eval sim --task pick --episodes 50 --seed 8000 --json pick.json',
    )  # fmt: skip
    _add_episodes(sim, episodes=50, seed=8000)
    sim.add_argument('--instruction', default=None, help='one sentence for all episodes')
    sim.add_argument(
        '--wording', default='canonical', choices=['canonical', 'heldout'],
        help='heldout: wordings that no training sentence has',
    )  # fmt: skip
    sim.add_argument(
        '--cube', default='drawn', choices=['drawn', 'other'],
        help='other: name another cube of the same scene',
    )  # fmt: skip
    _add_model(sim)
    imagination = _add(
        kinds, 'imagination', _eval_imagination, 'Imagined against observed images.',
        'worldvla eval imagination --task pick --episodes 10 --seed 8500',
    )  # fmt: skip
    _add_episodes(imagination, episodes=10, seed=8500)
    imagination.add_argument('--horizon', type=int, default=10, help='actions to look ahead')
    _add_model(imagination)


def _eval_sim(arguments: argparse.Namespace) -> int:
    from worldvla_ros.learn.evaluate import report, trials
    from worldvla_ros.policy import Policy

    made = list(
        trials(
            Policy(_checkpoint(arguments)), arguments.task, arguments.episodes, arguments.seed,
            instruction=arguments.instruction, wording=arguments.wording, cube=arguments.cube,
        )
    )  # fmt: skip
    found = report(made)
    _write_json(arguments.json, found)
    _print_figures(found['summary'])
    return 0


def _eval_imagination(arguments: argparse.Namespace) -> int:
    from worldvla_ros.learn.evaluate import imagination
    from worldvla_ros.world_model import WorldModel

    found = imagination(
        WorldModel(_checkpoint(arguments)), arguments.task, arguments.episodes, arguments.seed,
        arguments.horizon,
    )  # fmt: skip
    _write_json(arguments.json, found)
    _print_figures(found)
    return 0


def _add_imagine(verbs: argparse._SubParsersAction) -> None:
    imagine = _add(
        verbs, 'imagine', _imagine, 'Imagine along an episode; draw it beside what was seen.',
        'worldvla imagine --episode 8500 --horizon 20 --out strip.png',
    )  # fmt: skip
    imagine.add_argument('--episode', type=int, required=True, help='seed of the episode')
    imagine.add_argument('--horizon', type=int, default=20, help='actions to look ahead')
    imagine.add_argument('--start', type=int, default=0, help='step to start from')
    imagine.add_argument('--task', default='pick', choices=TASKS, help='task of the episode')
    imagine.add_argument('--out', required=True, help='PNG file to write')
    _add_model(imagine)


def _imagine(arguments: argparse.Namespace) -> int:
    from worldvla_ros.learn.evaluate import compare, expert_episode
    from worldvla_ros.pictures import difference, grid
    from worldvla_ros.world_model import WorldModel

    world = WorldModel(_checkpoint(arguments))
    episode = expert_episode(world, arguments.task, arguments.episode)
    made = compare(world, episode, arguments.start, arguments.horizon)
    differences = [difference(a, b) for a, b in zip(made.observed, made.imagined, strict=True)]
    rows = [[made.start, *row] for row in (made.observed, made.imagined)]
    rows.append([difference(made.start, made.start), *differences])
    columns = ['start', *(f'{a} actions ahead' for a in made.actions_ahead)]
    picture = grid(rows, ['observed', 'imagined', 'difference'], columns, episode.instruction)
    Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
    picture.save(arguments.out)
    record = {
        'seed': arguments.episode,
        'task': arguments.task,
        'instruction': episode.instruction,
    }
    _write_json(arguments.json, record | {'images': made.figures()})
    for row in made.figures():
        _print_figures(row)
    return 0


def _add_episodes(to: argparse.ArgumentParser, episodes: int, seed: int) -> None:
    to.add_argument('--task', required=True, choices=TASKS, help='what to do')
    to.add_argument('--episodes', type=int, default=episodes, help='how many')
    to.add_argument(
        '--seed', type=int, default=seed,
        help='scene of the first; the i-th uses SEED + i (0–7999 training, 8000–8999 validation)',
    )  # fmt: skip


def _add_model(to: argparse.ArgumentParser) -> None:
    to.add_argument('--checkpoint', default='', help='checkpoint folder; empty is the demo one')
    to.add_argument('--device', default='cpu', help='torch device')
    to.add_argument('--threads', type=int, default=0, help='CPU threads of torch; 0: its choice')
    to.add_argument('--json', default='', help='file for the figures')


def _checkpoint(arguments: argparse.Namespace) -> object:
    import torch

    from worldvla_ros.checkpoint import demo_path, load

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    return load(arguments.checkpoint or demo_path(), arguments.device)


def _write_json(file: str, content: object) -> None:
    if file:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(json.dumps(content, indent=1) + '\n')


def _print_figures(figures: dict[str, object]) -> None:
    def text(value: object) -> str:
        if isinstance(value, tuple):
            return ' … '.join(text(v) for v in value)
        return f'{value:.3f}' if isinstance(value, float) else str(value)

    print('  '.join(f'{name} {text(value)}' for name, value in figures.items()))


if __name__ == '__main__':
    sys.exit(main())
