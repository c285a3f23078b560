"""Runs the table of faults.

    python -m studies.faults.run [--short] [--only WORDS …] [--family NAME …] [--out FOLDER]

Exit status 0 where every fault held, 1 otherwise.
"""

import argparse
from collections.abc import Iterable
import importlib
import os
from pathlib import Path
import sys
import time

from studies.faults import table
from studies.faults.fault import Fault
from studies.faults.graph import Graph, Log, isolate
from studies.faults.hands import Hands
from studies.faults.trial import Monitor, Outcome, Scene, attempt

FAMILIES = ('joints', 'chunks')
SHORT = {
    'joint states stop',
    'a position is NaN',
    'joints frozen under fresh stamps, trajectory',
    'dt NaN',
    'chunks stop',
}


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--short', action='store_true', help='a few faults of each family')
    parser.add_argument('--only', nargs='+', default=[], help='faults whose name has these words')
    parser.add_argument('--family', nargs='+', default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument('--out', type=Path, default=Path('out/faults'))
    parser.add_argument('--domain', type=int, default=101 + os.getpid() % 100)
    return parser.parse_args()


def chosen(asked: argparse.Namespace) -> list[tuple[str, Fault]]:
    """Return the faults to try, with their families."""
    found = []
    for family in asked.family:
        for fault in importlib.import_module(f'studies.faults.families.{family}').FAULTS:
            wanted = not asked.only or any(words in fault.name for words in asked.only)
            if wanted and (not asked.short or fault.name in SHORT):
                found.append((family, fault))
    return found


def try_all(scene: Scene, faults: Iterable[tuple[str, Fault]]) -> list[tuple[str, Outcome]]:
    """Try faults one after the other, and tell of each."""
    rows = []
    for family, fault in faults:
        outcome = attempt(scene, fault)
        verdict = 'held' if not outcome.wrong else f'FAILED: {"; ".join(outcome.wrong)}'
        print(f'{family}: {fault.name}: {verdict} ({outcome.took_s:.1f} s)', flush=True)
        rows.append((family, outcome))
    return rows


def main() -> int:
    """Run the table."""
    asked = arguments()
    isolate(asked.domain)
    began, log = time.monotonic(), Log()
    hands, monitor = Hands(), Monitor()
    graph = Graph({'instruction': '', 'stop_together': 'false'}, log)
    try:
        scene = Scene(graph, hands, monitor, log)
        for name in ('sim', 'model', 'action_player'):
            scene.seen_revived(name)
        rows = try_all(scene, chosen(asked))
    finally:
        codes = graph.stop()
        monitor.close()
        hands.close()
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / 'log.txt').write_text('\n'.join(log.lines))
    figures = {
        'commands judged': sum(o.commands for _, o in rows),
        'whole table': f'{(time.monotonic() - began) / 60:.1f} min',
        'exit status of the nodes at the end': codes,
    }
    table.write(asked.out, rows, figures)
    held = sum(not o.wrong for _, o in rows)
    print(f'{held} of {len(rows)} faults held, {time.monotonic() - began:.0f} s, {asked.out}')
    return 0 if held == len(rows) else 1


if __name__ == '__main__':
    sys.exit(main())
