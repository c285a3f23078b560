"""Signals: each node ended or stopped in the middle of a motion; and whoever started them."""

from collections.abc import Callable
import signal
import time

from studies.faults.contract import AT_ONCE_S, CHUNK_S, JOINTS_S
from studies.faults.fault import Fault
from studies.faults.trial import Scene

NODE = {'sim': 'the arm', 'model': 'the policy', 'action_player': 'the player'}


def _ended(node: str, number: int) -> Callable[[Scene], str]:
    def inject(scene: Scene) -> str:
        scene.graph.signal(node, number)
        code = scene.graph.wait_dead(node)
        return f'status {code}'

    return inject


def _stopped(node: str) -> Callable[[Scene], None]:
    def inject(scene: Scene) -> None:
        scene.graph.signal(node, signal.SIGSTOP)

    return inject


def _continued(node: str) -> Callable[[Scene], None]:
    def remove(scene: Scene) -> None:
        scene.graph.signal(node, signal.SIGCONT)

    return remove


def _hiccup(node: str) -> Callable[[Scene], None]:
    """Return an injection of five stops of 0.3 s each."""

    def inject(scene: Scene) -> None:
        for _ in range(5):
            scene.graph.signal(node, signal.SIGSTOP)
            time.sleep(0.3)
            scene.graph.signal(node, signal.SIGCONT)
            time.sleep(0.3)

    return inject


def _last_is_zero(scene: Scene) -> str:
    """Judge that a twist of zero was sent after the last moving one."""
    return str(scene.kept.get('last', ''))


def _ended_in_order(number: int) -> Callable[[Scene], str]:
    """Return an injection that looks at the last command of a player that ends in order."""

    def inject(scene: Scene) -> str:
        told = _ended('action_player', number)(scene)
        time.sleep(0.5)
        report = scene.monitor.ask(report=True)
        last_moves = report['moving'] and report['moving'][-1] == report['commands'][-1]
        scene.kept['last'] = 'the last command was a moving one' if last_moves else ''
        return told

    return inject


def _end(node: str, number: int, hold_s: float, reason: str = '', **more: object) -> Fault:
    name = signal.Signals(number).name
    return Fault(f'{name} to {NODE[node]}', 'kill', _ended(node, number), hold_s, reason,
                 dies=node, **more)  # type: ignore[arg-type]  # fmt: skip


def _pause(node: str, hold_s: float, reason: str = '', **more: object) -> Fault:
    return Fault(f'SIGSTOP to {NODE[node]}, then SIGCONT', 'kill', _stopped(node), hold_s, reason,
                 _continued(node), **more)  # type: ignore[arg-type]  # fmt: skip


FAULTS = [
    _pause('action_player', AT_ONCE_S, lasts_s=2.0),
    _pause('model', CHUNK_S, 'no chunk', source='policy'),
    _pause('sim', JOINTS_S, 'joints old'),
    Fault('the player stutters', 'five stops of 0.3 s', _hiccup('action_player')),
    Fault('the player stutters, trajectory', 'five stops of 0.3 s', _hiccup('action_player'),
          output='trajectory'),
    Fault('the policy stutters', 'five stops of 0.3 s', _hiccup('model'), source='policy',
          quiet=True),
    Fault('the arm stutters', 'five stops of 0.3 s', _hiccup('sim'), quiet=True),
    _end('action_player', signal.SIGKILL, AT_ONCE_S),
    Fault('SIGTERM to the player', 'kill', _ended_in_order(signal.SIGTERM), 2 * AT_ONCE_S,
          dies='action_player', check=_last_is_zero),
    Fault('SIGINT to the player', 'kill', _ended_in_order(signal.SIGINT), 2 * AT_ONCE_S,
          dies='action_player', check=_last_is_zero),
    Fault('SIGHUP to the player', 'kill', _ended_in_order(signal.SIGHUP), 2 * AT_ONCE_S,
          dies='action_player', check=_last_is_zero),
    _end('sim', signal.SIGKILL, JOINTS_S, 'joints old', enable=None),
    _end('sim', signal.SIGTERM, JOINTS_S + 1.0, 'joints old', enable=None),
    _end('sim', signal.SIGSEGV, JOINTS_S, 'joints old', enable=None),
    _end('model', signal.SIGKILL, CHUNK_S, 'no chunk', source='policy'),
    _end('model', signal.SIGTERM, CHUNK_S, 'no chunk', source='policy'),
    _end('model', signal.SIGINT, CHUNK_S, 'no chunk', source='policy'),
]  # fmt: skip
