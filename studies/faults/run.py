"""Runs the table of faults.

    python -m studies.faults.run [--short] [--only WORDS …] [--family NAME …] [--out FOLDER]

Exit status 0 where every fault held, 1 otherwise.
"""

import argparse
import importlib
from pathlib import Path
import socket
import sys
import time
from types import ModuleType

from studies.faults import table
from studies.faults.fault import Fault
from studies.faults.graph import Graph, Log, isolate
from studies.faults.hands import Hands
from studies.faults.trial import Monitor, Outcome, Scene, attempt

FAMILIES = (
    'joints', 'chunks', 'services', 'images', 'instructions', 'parameters', 'qos', 'resources',
    'lifecycle', 'kills', 'clocks', 'recorder', 'cameras', 'launcher',
)  # fmt: skip
"""In this order: those with a graph of their own, or none, come last."""
DOMAINS = range(215, 232)
LOCK_PORT = 18000
SHORT = {
    'joint states stop',
    'joints frozen under fresh stamps, trajectory',
    'dt NaN',
    'chunks stop',
    'hold while moving',
    'images stop',
    'an empty instruction',
    'use_sim_time True of a running action_player',
    'chunks as best effort',
    'four processes take the cores',
    'player deactivated',
    'SIGKILL to the player',
}
"""A fault or two of each family that needs no graph of its own."""


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--short', action='store_true', help='a fault or two of each family')
    parser.add_argument('--only', nargs='+', default=[], help='faults whose name has these words')
    parser.add_argument('--family', nargs='+', default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument('--out', type=Path, default=Path('out/faults'))
    parser.add_argument('--domain', type=int, default=0, help='0: one that no other run has')
    return parser.parse_args()


def own_domain() -> tuple[int, socket.socket]:
    """Return a ROS domain that no other run on this computer has, and what keeps it."""
    for domain in DOMAINS:
        lock = socket.socket()
        try:
            lock.bind(('127.0.0.1', LOCK_PORT + domain))
        except OSError:
            lock.close()
        else:
            return domain, lock
    raise RuntimeError(f'as many runs as domains: {len(DOMAINS)}')


def chosen(asked: argparse.Namespace, family: str) -> list[Fault]:
    """Return the faults of a family to try."""
    return [
        fault
        for fault in getattr(_module(family), 'FAULTS', [])
        if (not asked.only or any(words in fault.name for words in asked.only))
        and (not asked.short or fault.name in SHORT)
    ]


def _module(family: str) -> ModuleType:
    return importlib.import_module(f'studies.faults.families.{family}')


class Table:
    """Tries family after family, with a new graph where a family needs another one."""

    def __init__(self, asked: argparse.Namespace) -> None:
        """Start nothing yet."""
        self.rows: list[tuple[str, Outcome]] = []
        self.log = Log()
        self.codes: dict[str, int] = {}
        self._asked = asked
        self._hands: Hands | None = None
        self._monitor = Monitor()
        self._arguments: dict[str, str] | None = None
        self._scene: Scene | None = None

    def run(self) -> None:
        """Try all that was asked for."""
        for family in self._asked.family:
            faults, module = chosen(self._asked, family), _module(family)
            if hasattr(module, 'own') and not self._asked.short and not self._asked.only:
                scene = self._scene_of({}, started=False)
                for outcome in module.own(scene):
                    self._tell(family, outcome)
            if faults:
                make = getattr(module, 'arguments', lambda m=module: getattr(m, 'ARGUMENTS', {}))
                scene = self._scene_of(make())
                for fault in faults:
                    self._tell(family, attempt(scene, fault))

    def close(self) -> None:
        """End all processes."""
        self._stop_graph()
        self._monitor.close()
        if self._hands is not None:
            self._hands.close()

    def _scene_of(self, arguments: dict[str, str], *, started: bool = True) -> Scene:
        """Return a scene whose graph was started with these arguments."""
        if started and self._scene is not None and self._arguments == arguments:
            return self._scene
        self._stop_graph()
        if self._hands is None:
            self._hands = Hands()
        graph = Graph({'stop_together': 'false', **arguments}, self.log, start=started)
        self._scene = Scene(graph, self._hands, self._monitor, self.log)
        self._arguments = arguments if started else None
        self._hands.relay_wrist('checkpoint' in arguments)
        for name in graph.names if started else ():
            self._scene.seen_revived(name)
        return self._scene

    def _stop_graph(self) -> None:
        if self._scene is not None:
            self._scene.hands.feeding = False
            self.codes |= self._scene.graph.stop()
            self._scene = None

    def _tell(self, family: str, outcome: Outcome) -> None:
        verdict = 'held' if not outcome.wrong else f'FAILED: {"; ".join(outcome.wrong)}'
        print(f'{family}: {outcome.fault.name}: {verdict} ({outcome.took_s:.1f} s)', flush=True)
        self.rows.append((family, outcome))


def main() -> int:
    """Run the table."""
    asked, began = arguments(), time.monotonic()
    domain, lock = own_domain()
    isolate(asked.domain or domain)
    made = Table(asked)
    try:
        made.run()
    finally:
        made.close()
        lock.close()
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / 'log.txt').write_text('\n'.join(made.log.lines))
        rows, took_s = made.rows, time.monotonic() - began
        figures = {
            'commands judged': sum(o.commands for _, o in rows),
            'farthest that the true tip was outside of the workspace':
                f'{max((o.farthest_mm for _, o in rows), default=0.0):.0f} mm',
            'time for the whole table': f'{took_s / 60:.1f} min',
            'exit status of the nodes when the graph is stopped': made.codes,
        }  # fmt: skip
        table.write(asked.out, rows, figures)
    held = sum(not o.wrong for _, o in rows)
    print(f'{held} of {len(rows)} faults held, {took_s:.0f} s, {asked.out}')
    return 0 if held == len(rows) else 1


if __name__ == '__main__':
    sys.exit(main())
