"""The verbs of the command around a running arm: what a recording says again, and shows."""

import argparse
import os
from pathlib import Path
import subprocess
import sys
from typing import TYPE_CHECKING

from worldvla_ros.cli.parts import add_model, add_output, add_verb, load_checkpoint, write_json
from worldvla_ros.errors import ConfigError

if TYPE_CHECKING:  # loads torch
    from worldvla_ros.evaluate.replay import Report

DECODINGS = ('recorded', 'discrete', 'verified', 'continuous')
SHOWN = 5
"""How many of a kind of chunk are listed."""


def add_operate(verbs: argparse._SubParsersAction) -> None:
    """Add the verbs `replay` and `view`."""
    _add_view(verbs)
    replay = add_verb(
        verbs, 'replay', _replay,
        'Ask the policy again for every chunk of a recording, and compare.',
        'worldvla replay bag --assert --json replay.json',
    )  # fmt: skip
    replay.add_argument('bag', help='folder of a bag, or an MCAP file; cut-off ones are read too')
    replay.add_argument(
        '--assert', action='store_true', dest='must_hold',
        help='end with status 1 where a chunk differs, or none could be compared; another device, '
        'precision or model is reported instead',
    )  # fmt: skip
    replay.add_argument(
        '--robot', default='', help='robot description; by default the one of the recording'
    )
    replay.add_argument(
        '--topic', action='append', default=[], metavar='NAME=RECORDED',
        help='a topic that was remapped, such as image=/camera/color/image_raw',
    )  # fmt: skip
    replay.add_argument(
        '--decoding', default='recorded', choices=DECODINGS, help='how actions are found'
    )
    replay.add_argument('--most', type=int, default=None, help='chunks to compare at most')
    add_model(replay)


def _add_view(verbs: argparse._SubParsersAction) -> None:
    view = add_verb(
        verbs, 'view', _view,
        'Write a recording as a file for the Rerun viewer, and open it where there is a display.',
        'worldvla view bag --out run.rrd',
    )  # fmt: skip
    view.add_argument('bag', help='folder of a bag, or an MCAP file; cut-off ones are read too')
    add_output(view, '--out', default='', help='file to write; by default BAG.rrd')
    view.add_argument(
        '--robot', default='', help='robot description; by default the one of the recording'
    )
    view.add_argument(
        '--open', choices=('auto', 'true', 'false'), default='auto',
        help='open the viewer; auto: where there is a display and no --out',
    )  # fmt: skip


def _view(arguments: argparse.Namespace) -> int:
    from worldvla_ros.data.bags import Recording
    from worldvla_ros.data.rerun_file import write_rerun
    from worldvla_ros.evaluate.heard import origin, recorded_urdf
    from worldvla_ros.robot.description import URDF_TOPIC, load_robot
    from worldvla_ros.robot.kinematics import Arm

    recording = Recording(arguments.bag)
    told = origin(recording)
    robot = load_robot(arguments.robot or told.robot or 'sim_panda')
    arm = Arm(robot, recorded_urdf(recording, told) if robot.urdf == URDF_TOPIC else None)
    file = Path(arguments.out or f'{str(arguments.bag).rstrip("/").removesuffix(".mcap")}.rrd')
    counts = write_rerun(recording, arm, file)
    for topic, count in counts.items():
        print(f'{count:7} {topic}')
    for problem in recording.problems:
        print(f'not read: {problem}')
    print(f'{file}, {file.stat().st_size / 1e6:.1f} MB: open it with  rerun {file}')
    shown = bool(os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY'))
    if arguments.open == 'true' or (arguments.open == 'auto' and shown and not arguments.out):
        return subprocess.call([sys.executable, '-m', 'rerun', str(file)])
    return 0


def _replay(arguments: argparse.Namespace) -> int:
    from worldvla_ros.data.bags import Recording
    from worldvla_ros.evaluate.heard import origin, recorded_urdf
    from worldvla_ros.evaluate.replay import replay
    from worldvla_ros.policy import Policy
    from worldvla_ros.robot.description import URDF_TOPIC, load_robot
    from worldvla_ros.robot.kinematics import Arm

    recording, names = Recording(arguments.bag), dict(map(_renamed, arguments.topic))
    told = origin(recording, names)
    checkpoint = load_checkpoint(arguments)
    if not arguments.checkpoint and told.model_id != checkpoint.model_id:
        raise ConfigError(
            'the recording is not of the demo checkpoint',
            expected=checkpoint.model_id,
            got=told.model_id,
            remedy=f'Name the folder of {told.model_id} with --checkpoint.',
        )
    asked = told.decoding if arguments.decoding == 'recorded' else arguments.decoding
    robot = load_robot(arguments.robot or told.robot or checkpoint.spec.robot)
    arm = Arm(robot, recorded_urdf(recording, told) if robot.urdf == URDF_TOPIC else None)
    policy = Policy(checkpoint, asked or None)
    report = replay(recording, policy, arm, told, names=names, most=arguments.most)
    write_json(arguments.json, report.as_json())
    _print(report)
    return 1 if arguments.must_hold and not report.holds else 0


def _renamed(text: str) -> tuple[str, str]:
    name, equals, recorded = text.partition('=')
    if not (name and equals and recorded.startswith('/')):
        raise ConfigError('--topic', expected='NAME=/RECORDED', got=repr(text))
    return name, recorded


def _print(report: 'Report') -> None:
    print(f'model       {report.model_id}')
    print(f'arithmetic  {report.arithmetic}')
    print(f'{"chunks":>8} {"same":>8} {"different":>10} {"not compared":>13}')
    same, different = report.count('same'), report.count('different')
    skipped = report.count('not compared')
    print(f'{len(report.chunks):8} {same:8} {different:10} {skipped:13}')
    for outcome in ('different', 'not compared'):
        for chunk in [c for c in report.chunks if c.outcome == outcome][:SHOWN]:
            print(f'  {chunk}')
    for problem in report.problems:
        print(f'  recording: {problem}')
    for unlike in report.unlike:
        print(f'  not asserted, {unlike}')
