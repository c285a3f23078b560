"""Test the tests: change the code in small ways, and see which changes no test notices.

    python tools/mutants.py                          all modules of pyproject.toml, [tool.mutmut]
    python tools/mutants.py robot.gate robot.path    some of them
    python tools/mutants.py robot.gate --again       those of before that survived, once more

mutmut makes the mutants; `mutmut show NAME` prints one. `mutmut run` would ask for a pytest
session for each. Here the tests are collected once, which functions each of them calls is noted
once, and each mutant is a fork that runs the tests of the changed function, up to the first that
fails: those of the module's own file first, then the quickest. Results are kept after each mutant,
so that a run may be stopped and goes on where it was: one line of mutants/results.jsonl each.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
import contextlib
from dataclasses import dataclass, field
import importlib
import io
import json
import os
from pathlib import Path
import signal
import sys
import time
from typing import Any

from _pytest.runner import runtestprotocol
import hypothesis
import pytest

PACKAGE, FOLDER, FILE = 'worldvla_ros', Path('mutants'), 'results.jsonl'
TESTS = {
    'robot': ['test/robot'],
    'tokenizers': ['test/tokenizers', 'test/checkpoint/test_published.py'],
    'inference': ['test/inference'],
    'learn': ['test/learn/test_learning.py', 'test/learn/test_same_losses.py'],
    'sim': [f'test/sim/test_{what}.py' for what in ('tasks', 'tabletop', 'success_judge')],
}
"""Tests by the room of what they test."""
ONLY = {'sim.tabletop': ('_goal_holds', 'info')}
"""Functions of modules of which not everything decides what is right."""
PATIENCE, PATIENCE_S = 10.0, 20.0
"""A mutant that takes so many times as long as its tests do, and so much more, never ends."""
KILLED, SURVIVED, ENDLESS, UNTESTED = 'killed', 'survived', 'endless', 'no test'


@dataclass
class Results:
    """What became of each mutant: a file with a line for each, of which the last one counts."""

    path: Path
    of: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read what was found before."""
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                self.of |= json.loads(line)

    def put(self, mutant: str, result: str) -> None:
        """Note one result."""
        self.of[mutant] = result
        with self.path.open('a') as file:
            file.write(json.dumps({mutant: result}) + '\n')

    def table(self) -> str:
        """Return how many of each module were killed."""
        rows: dict[str, Counter[str]] = {}
        for mutant, result in self.of.items():
            rows.setdefault(_module(mutant), Counter())[result] += 1
        lines = []
        for module, counts in sorted(rows.items()):
            killed, all_of = counts[KILLED] + counts[ENDLESS], counts.total()
            lines.append(f'{module:24} {killed:5} of {all_of:5} killed, {killed / all_of:4.0%}')
        return '\n'.join(lines)


class MutantRunner:
    """A pytest plugin that runs the tests of each mutant instead of all tests."""

    def __init__(self, mutants: Sequence[str], results: Results, budget_s: float) -> None:
        """Remember what to run.

        Args:
            mutants: Names as mutmut gives them.
            results: Where the results go.
            budget_s: Of the tests of a function, as many as take this long together.
        """
        self._mutants, self._results, self._budget_s = mutants, results, budget_s

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run each mutant that has no result yet."""
        calls, lasts = _in_child(lambda: _look(session.items))
        left = [m for m in self._mutants if m not in self._results.of]
        for number, mutant in enumerate(left, 1):
            function = mutant.partition('__mutmut_')[0]
            own = f'test_{_module(mutant).rpartition(".")[2]}.py'
            tests = sorted(
                (i for i, names in enumerate(calls) if function in names),
                key=lambda i: (session.items[i].path.name != own, lasts[i]),
            )
            tests = _affordable(tests, lasts, self._budget_s)
            items, spent_s = [session.items[i] for i in tests], sum(lasts[i] for i in tests)
            self._results.put(mutant, _result(items, mutant, PATIENCE_S + PATIENCE * spent_s))
            if number % 100 == 0 or number == len(left):
                counts = Counter(self._results.of[m] for m in left[:number])
                print(f'{number} of {len(left)}: {dict(counts)}', flush=True)
        return True


def _affordable(tests: Sequence[int], lasts: Sequence[float], budget_s: float) -> list[int]:
    """Return the first tests that fit into a time, but one at least."""
    chosen, spent_s = [], 0.0
    for test in tests:
        spent_s += lasts[test]
        if chosen and spent_s > budget_s:
            break
        chosen.append(test)
    return chosen


def _look(items: Sequence[pytest.Item]) -> tuple[list[list[str]], list[float]]:
    """Run all tests and return the functions that each calls, and how long each takes [s]."""
    from mutmut.state import state

    _switch_to('stats')
    calls: list[list[str]] = []
    lasts = []
    for item in items:
        state()._stats.clear()
        start_s = time.perf_counter()
        failed = any(r.failed for r in runtestprotocol(item, nextitem=None, log=False))
        if failed:
            print(f'fails without a mutant: {item.nodeid}')
        calls.append([] if failed else sorted(state()._stats))
        lasts.append(time.perf_counter() - start_s)
    return calls, lasts


def _result(items: Sequence[pytest.Item], mutant: str, limit_s: float) -> str:
    """Return whether one of the tests notices a mutant."""

    def noticed() -> bool:
        _switch_to(mutant)
        reports = (r for i in items for r in runtestprotocol(i, nextitem=None, log=False))
        return any(report.failed for report in reports)

    if not items:
        return UNTESTED
    return {True: KILLED, False: SURVIVED, None: ENDLESS}[_in_child(noticed, limit_s)]


def _switch_to(mutant: str) -> None:
    from mutmut.mutation import trampoline

    trampoline.set_mutant_under_test(mutant)
    # every call of every function asks, and looking into os.environ takes longer than most of them
    trampoline.get_mutant_under_test = lambda: mutant


def _in_child(work: Callable[[], Any], limit_s: float = 3600.0) -> Any:
    """Return what `work` returns in a fork; None where it takes too long, True where it dies."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.setsid()
        try:
            done = work()
        except BaseException:  # pytest stops by exceptions of its own
            done = True
        with os.fdopen(writing, 'w') as pipe:
            json.dump(done, pipe)
        os._exit(0)
    os.close(writing)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
    end_s = time.monotonic() + limit_s
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    signal.setitimer(signal.ITIMER_REAL, 0)
    os.waitpid(child, 0)
    if said:
        return json.loads(said)
    return None if time.monotonic() >= end_s else True


def _module(mutant: str) -> str:
    """Return 'robot.gate' of a mutant's name."""
    return mutant.removeprefix(f'{PACKAGE}.').rpartition('.')[0]


def _generate() -> None:
    """Write the mutants below `mutants/`, those of files that have changed anew."""
    from mutmut import __main__ as mutmut

    _switch_to('mutant_generation')
    FOLDER.mkdir(exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):  # it names each file
        mutmut.copy_src_dir()
        mutmut.copy_also_copy_files()
        mutmut.setup_source_paths()
        mutmut.create_mutants(1)


def _mutants_of(modules: Sequence[str]) -> list[str]:
    """Return the names of the mutants of some modules, of all where none is named."""
    found = []
    for meta in sorted((FOLDER / PACKAGE).rglob('*.py.meta')):
        module = '.'.join(meta.relative_to(FOLDER / PACKAGE).parts).removesuffix('.py.meta')
        if modules and module not in modules:
            continue
        names = json.loads(meta.read_text())['exit_code_by_key']
        only = ONLY.get(module, ('',))
        found += [name for name in names if any(word in name for word in only)]
    return found


def main() -> int:
    """Run the mutants of some modules."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('modules', nargs='*', help='such as robot.gate; all by default')
    parser.add_argument('--budget', type=float, default=20.0, help='seconds of tests per mutant')
    parser.add_argument('--again', action='store_true', help='run those again that survived')
    parser.add_argument('--results', type=Path, default=FOLDER / FILE, help='file of the results')
    given = parser.parse_args()
    _generate()
    mutants, results = _mutants_of(given.modules), Results(given.results.resolve())
    if given.again:
        results.of = {m: r for m, r in results.of.items() if m not in mutants or r == KILLED}
    os.chdir(FOLDER)
    sys.path.insert(0, str(Path.cwd()))
    importlib.invalidate_caches()  # it may not have been there when Python started
    # whether a property fails decides; the smallest example of it would take seconds more
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile('unshrunk', phases=phases, database=None)
    hypothesis.settings.load_profile('unshrunk')
    options = ['-q', '-p', 'no:cacheprovider', '-m', 'not slow and not gpu', '--rootdir=.']
    for room, tests in TESTS.items():
        own = [m for m in mutants if _module(m).startswith(f'{room}.') and m not in results.of]
        # a process of its own for each room: pytest keeps what it has imported
        if own and os.fork() == 0:
            plugin = MutantRunner(own, results, given.budget)
            os._exit(pytest.main([*options, *tests], plugins=[plugin]))
        if own:
            os.wait()
            results = Results(results.path)
    print(results.table())
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
