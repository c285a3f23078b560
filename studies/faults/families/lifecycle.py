"""Life cycle: nodes deactivated, cleaned up and configured anew in the middle of a motion."""

from collections.abc import Callable

from studies.faults.contract import AT_ONCE_S, CHUNK_S, JOINTS_S
from studies.faults.fault import Fault
from studies.faults.trial import Scene


def steps(node: str, *names: str) -> Callable[[Scene], str]:
    """Return an injection of transitions; it says which were refused."""

    def inject(scene: Scene) -> str:
        refused = [name for name in names if not scene.hands.transition(node, name)]
        return f'refused: {", ".join(refused)}' if refused else ''

    return inject


def _cycles(scene: Scene) -> str:
    for _ in range(5):
        refused = steps('action_player', 'deactivate', 'cleanup', 'configure', 'activate')(scene)
        if refused:
            return refused
    return 'five cycles'


def _out_and_back(scene: Scene) -> None:
    steps('action_player', 'deactivate', 'activate')(scene)


def _world_model_cycle(scene: Scene) -> str:
    return steps('world_model', 'deactivate', 'cleanup', 'configure', 'activate')(scene)


def _policy_cycle(scene: Scene) -> str:
    return steps('policy', 'deactivate', 'cleanup', 'configure', 'activate')(scene)


def _kill_finalised(node: str) -> Callable[[Scene], None]:
    """Return how a finalised node comes back: its process is ended and started anew."""

    def remove(scene: Scene) -> None:
        scene.graph.stop_node(node)
        scene.graph.start(node)
        scene.seen_revived(node)

    return remove


def _player(name: str, down: tuple, up: tuple, reason: str, **further: object) -> Fault:
    return Fault(name, f'transitions {", ".join(down)}', steps('action_player', *down), AT_ONCE_S,
                 reason, steps('action_player', *up), **further)  # type: ignore[arg-type]  # fmt: skip


FAULTS = [
    _player('player deactivated', ('deactivate',), ('activate',), 'inactive'),
    _player('player deactivated, trajectory', ('deactivate',), ('activate',), 'inactive',
            output='trajectory'),
    _player('player cleaned up', ('deactivate', 'cleanup'), ('configure', 'activate'),
            'unconfigured'),
    Fault('player deactivated and activated', 'at once', _out_and_back),
    Fault('player through five whole cycles', 'deactivate, cleanup, configure, activate',
          _cycles),
    Fault('transitions that are not allowed', 'configure, cleanup, activate of an active player',
          steps('action_player', 'configure', 'cleanup', 'activate')),
    Fault('player shut down', 'transition active_shutdown',
          steps('action_player', 'active_shutdown'), AT_ONCE_S, '',
          _kill_finalised('action_player')),
    Fault('policy deactivated', 'transition deactivate', steps('policy', 'deactivate'), CHUNK_S,
          'policy inactive', steps('policy', 'activate'), source='policy'),
    Fault('policy configured anew', 'deactivate, cleanup, configure, activate', _policy_cycle,
          source='policy', quiet=True),
    Fault('world model deactivated', 'transition deactivate', steps('world_model', 'deactivate'),
          remove=steps('world_model', 'activate'), source='policy'),
    Fault('world model configured anew', 'deactivate, cleanup, configure, activate',
          _world_model_cycle, source='policy', quiet=True),
    Fault('arm deactivated', 'transition deactivate of sim', steps('sim', 'deactivate'), JOINTS_S,
          'joints old', steps('sim', 'activate')),
]  # fmt: skip
