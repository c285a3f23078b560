"""Parameters: set on running nodes, and absurd values at configuring."""

from collections.abc import Callable
import math
from pathlib import Path
import tempfile

from studies.faults.contract import AT_ONCE_S
from studies.faults.families.lifecycle import steps
from studies.faults.fault import Fault
from studies.faults.graph import robot_file
from studies.faults.trial import Scene


def _running(node: str, **values: object) -> Fault:
    """Return a fault: a parameter of an active node is set, and nothing changes."""
    name = ', '.join(f'{key} {value}' for key, value in values.items())

    def inject(scene: Scene) -> str:
        refused = scene.hands.set_parameters(node, values)
        scene.kept['accepted'] = '' if all(refused) else f'{name} was accepted'
        return '; '.join(refused)

    return Fault(f'{name} of a running {node}', 'set_parameters', inject,
                 check=lambda scene: str(scene.kept['accepted']))  # fmt: skip


def _absurd(name: str, node: str = 'action_player', **values: object) -> Fault:
    """Return a fault: a node is cleaned up, given a value, and must not be configured."""

    def inject(scene: Scene) -> str:
        steps(node, 'deactivate', 'cleanup')(scene)
        scene.kept['before'] = dict.fromkeys(values)
        refused = scene.hands.set_parameters(node, values)
        started = scene.hands.transition(node, 'configure')
        scene.kept['started'] = f'{node} was configured with {name}' if started else ''
        return '; '.join(why for why in refused if why) or 'set; configuring failed'

    def remove(scene: Scene) -> str:
        if scene.kept['started']:
            steps(node, 'cleanup')(scene)
        scene.hands.set_parameters(node, {key: GOOD[key] for key in values})
        return steps(node, 'configure', 'activate')(scene)

    def check(scene: Scene) -> str:
        accepted = scene.kept['started']
        return str(accepted) if name not in REFUSED_WHEN_SET else ''

    return Fault(name, 'set while unconfigured, then configured', inject, AT_ONCE_S + 1.0,
                 '' if name in REFUSED_WHEN_SET else 'not configured', remove,
                 check=check)  # fmt: skip


GOOD = {'control_rate': 20.0, 'max_joint_age': 0.3, 'output': 'twist', 'robot': 'sim_panda',
        'enabled': True}  # fmt: skip
REFUSED_WHEN_SET = {
    'control_rate 0', 'control_rate 1e9', 'control_rate NaN', 'max_joint_age -1',
    'max_joint_age 1e9', 'output of a wrong type', 'control_rate of a wrong type',
}  # fmt: skip
"""Refused at once, so that configuring goes on with the value before: that is right too."""


def _robot(old: str, new: str) -> str:
    """Write the description of the arm with one change; return the file."""
    text = robot_file().read_text()
    assert old in text, old
    folder = Path(tempfile.mkdtemp(prefix='faults-'))
    file = folder / 'sim_changed.yaml'
    file.write_text(text.replace(old, new))
    return str(file)


def _described(name: str, old: str, new: str) -> Fault:
    return _absurd(name, robot=_robot(old, new))


def _policy_rate(scene: Scene) -> None:
    scene.hands.set_parameters('policy', {'max_rate': math.nan})


def _flood() -> Callable[[Scene], None]:
    def inject(scene: Scene) -> None:
        for number in range(50):
            scene.hands.set_parameters('action_player', {'control_rate': float(number)})

    return inject


FAULTS = [
    _running('action_player', use_sim_time=True),
    _running('policy', use_sim_time=True),
    _running('sim', use_sim_time=True),
    _running('action_player', control_rate=200.0),
    _running('action_player', max_joint_age=9.0),
    _running('action_player', output='trajectory'),
    _running('action_player', robot='fr3_servo'),
    _running('action_player', no_such_parameter=1),
    _running('policy', max_rate=200.0),
    _running('policy', checkpoint='/nowhere'),
    Fault('parameters set fifty times', 'set_parameters', _flood()),
    _absurd('control_rate 0', control_rate=0.0),
    _absurd('control_rate 1e9', control_rate=1e9),
    _absurd('control_rate NaN', control_rate=math.nan),
    _absurd('control_rate of a wrong type', control_rate='fast'),
    _absurd('max_joint_age -1', max_joint_age=-1.0),
    _absurd('max_joint_age 1e9', max_joint_age=1e9),
    _absurd('output "dance"', output='dance'),
    _absurd('output of a wrong type', output=7),
    _absurd('robot "nobody"', robot='nobody'),
    _absurd('robot /dev/null', robot='/dev/null'),
    _described('a description with a NaN workspace', '[0.25, -0.30, 0.005]', '[.nan, -0.3, 0.0]'),
    _described('a description with infinite speed', 'linear_speed: 0.75', 'linear_speed: .inf'),
    _described('a description with two limits of speed', 'linear_speed: 0.75',
               'linear_speed: 0.75\n  linear_speed: 99.0'),
]  # fmt: skip
