"""The `worldvla` command: thin verbs over the package.

Each verb imports what it needs when it runs, so that `worldvla up --help` does not load torch.
"""

import argparse
import logging
from pathlib import Path
import sys

from worldvla_ros.cli.bench import add_bench
from worldvla_ros.cli.checkpoints import add_checkpoints
from worldvla_ros.cli.doctor import add_doctor
from worldvla_ros.cli.evaluate import add_eval
from worldvla_ros.cli.operate import add_operate
from worldvla_ros.cli.parts import (
    TASKS,
    accept_any_terminal,
    add_episodes,
    add_model,
    add_output,
    add_verb,
    check_outputs,
    complete,
    load_checkpoint,
    print_figures,
    write_json,
)
from worldvla_ros.cli.robots import add_robots
from worldvla_ros.errors import CheckpointError, WorldVLAError


def main(argv: list[str] | None = None) -> int:
    """Run one verb; an error that a user can fix is one message and status 2."""
    accept_any_terminal()
    known = parser()
    complete(known)
    arguments = known.parse_args(argv)
    logging.basicConfig(format='%(message)s')
    logging.getLogger('worldvla_ros').setLevel(logging.INFO)
    try:
        check_outputs(arguments)
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
    add_eval(verbs)
    add_bench(verbs)
    _add_imagine(verbs)
    add_operate(verbs)
    add_checkpoints(verbs)
    add_robots(verbs)
    add_doctor(verbs)
    return top


def _add_up(verbs: argparse._SubParsersAction) -> None:
    from worldvla_ros.graph import ARGUMENTS, BOOLEAN

    up = add_verb(
        verbs, 'up', _up, 'Start the graph and keep it running until Ctrl-C.',
        'worldvla up --instruction "pick up the red cube"',
    )  # fmt: skip
    for name, argument in ARGUMENTS.items():
        flag = up.add_argument(
            f'--{name.replace("_", "-")}',
            default=argument.default,
            choices=argument.choices or None,
            help=argument.description,
            dest=name,
        )
        if set(BOOLEAN) <= set(argument.choices):  # --dry-run is --dry-run true
            flag.nargs, flag.const = '?', 'true'


def _up(arguments: argparse.Namespace) -> int:
    from worldvla_ros.graph import ARGUMENTS
    from worldvla_ros.processes.supervisor import up
    from worldvla_ros.robot.description import load_robot

    load_robot(arguments.robot)  # a wrong name is one message here, before anything starts
    if arguments.checkpoint and not Path(arguments.checkpoint).is_dir():
        raise CheckpointError(
            f'no checkpoint at {arguments.checkpoint}', remedy='Check the path of the folder.'
        )
    return up({name: getattr(arguments, name) for name in ARGUMENTS})


def _add_demo(verbs: argparse._SubParsersAction) -> None:
    demo = add_verb(
        verbs, 'demo', _demo, 'Follow three sentences; write video, strip, bag and table.',
        'worldvla demo --out out/demo',
    )  # fmt: skip
    add_output(demo, '--out', folder=True, default='out/demo', help='folder to write to')
    demo.add_argument('--seed', type=int, default=None, help='seed of the first scene')
    demo.add_argument('--checkpoint', default='', help='checkpoint folder; empty is the demo one')


def _demo(arguments: argparse.Namespace) -> int:
    from worldvla_ros.demo.run import run_demo

    return run_demo(Path(arguments.out), arguments.seed, arguments.checkpoint)


def _add_collect(verbs: argparse._SubParsersAction) -> None:
    collect = add_verb(
        verbs, 'collect', _collect, 'Record expert episodes; those already there are kept.',
        'worldvla collect --task pick --episodes 100 --seed 0 --out data/pick',
    )  # fmt: skip
    add_episodes(collect, episodes=100, seed=0)
    add_output(collect, '--out', folder=True, required=True, help='folder of the episodes')
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
    train = add_verb(
        verbs, 'train', _train, 'Train image tokenizer and unified model, and write a checkpoint.',
        'worldvla train config/train/demo.yaml --resume',
    )  # fmt: skip
    train.add_argument('config', help='YAML file, see config/train/demo.yaml')
    train.add_argument('--resume', action='store_true', help='go on from the work folder')


def _train(arguments: argparse.Namespace) -> int:
    from worldvla_ros.learn.train import run
    from worldvla_ros.sim.wording import SOURCE, TabletopWording

    wordings = {SOURCE: TabletopWording()}
    folder = run(arguments.config, resume=arguments.resume, wordings=wordings)
    print(f'checkpoint written to {folder}')
    return 0


def _add_imagine(verbs: argparse._SubParsersAction) -> None:
    imagine = add_verb(
        verbs, 'imagine', _imagine, 'Imagine along an episode; draw it beside what was seen.',
        'worldvla imagine --episode 8500 --ahead 20 --out strip.png',
    )  # fmt: skip
    imagine.add_argument('--episode', type=int, required=True, help='seed of the episode')
    imagine.add_argument('--ahead', type=int, default=20, help='actions to look ahead')
    imagine.add_argument('--start', type=int, default=0, help='step to start from')
    imagine.add_argument('--task', default='pick', choices=TASKS, help='task of the episode')
    add_output(imagine, '--out', required=True, help='PNG file to write')
    add_model(imagine)


def _imagine(arguments: argparse.Namespace) -> int:
    from worldvla_ros.evaluate.comparison import compare
    from worldvla_ros.pictures import difference, grid
    from worldvla_ros.sim.collect import expert_episode
    from worldvla_ros.world_model import WorldModel

    world = WorldModel(load_checkpoint(arguments))
    episode = expert_episode(arguments.task, arguments.episode, world.checkpoint.spec.cameras)
    made = compare(world, episode, arguments.start, arguments.ahead)
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
    write_json(arguments.json, record | {'images': made.figures()})
    for row in made.figures():
        print_figures(row)
    return 0
