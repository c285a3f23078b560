"""Run the mutants of mutmut one fork each, from one process that has collected the tests.

`mutmut run` asks for a pytest session for each mutant. Here the tests are collected once, which
functions each of them calls is noted once, and each mutant is a fork that runs the tests of the
changed function, quickest first, up to the first that fails. Results are kept after each mutant,
so that a run may be stopped and goes on where it was.
"""

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import signal
import sys
import time

from _pytest.runner import runtestprotocol
import pytest

PATIENCE = 10.0
"""A mutant that takes this many times as long as the tests do, and some, never ends."""
PATIENCE_S = 20.0
KILLED, SURVIVED, ENDLESS, UNTESTED = 'killed', 'survived', 'endless', 'no test'


@dataclass
class Results:
    """What became of each mutant, in a file."""

    path: Path
    of: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read what was found before."""
        if self.path.exists():
            self.of = json.loads(self.path.read_text())

    def put(self, mutant: str, result: str) -> None:
        """Note one result."""
        self.of[mutant] = result
        self.path.write_text(json.dumps(self.of, indent=0))


class MutantRunner:
    """A pytest plugin that runs the tests of each mutant instead of all tests."""

    def __init__(self, mutants: list[str], results: Results, budget_s: float) -> None:
        """Remember what to run.

        Args:
            mutants: Names as mutmut gives them.
            results: Where the results go.
            budget_s: Of the tests of a function, the quickest that take this long together.
        """
        self._mutants, self._results, self._budget_s = mutants, results, budget_s

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run each mutant that has no result yet."""
        calls, lasts = _in_child(lambda: _look(session.items))
        left = [m for m in self._mutants if m not in self._results.of]
        for number, mutant in enumerate(left):
            function = mutant.partition('__mutmut_')[0]
            tests = [i for i, names in enumerate(calls) if function in names]
            tests = _cheapest(tests, lasts, self._budget_s)
            self._results.put(mutant, self._run(session, mutant, tests, lasts))
            if number % 100 == 99 or number == len(left) - 1:
                counts = Counter(self._results.of[m] for m in left[: number + 1])
                print(f'{number + 1} of {len(left)}: {dict(counts)}', flush=True)
        return True

    def _run(
        self, session: pytest.Session, mutant: str, tests: list[int], lasts: list[float]
    ) -> str:
        if not tests:
            return UNTESTED
        limit_s = PATIENCE_S + PATIENCE * sum(lasts[i] for i in tests)
        items = [session.items[i] for i in tests]
        failed = _in_child(lambda: _any_fails(items, mutant), limit_s)
        return {True: KILLED, False: SURVIVED, None: ENDLESS}[failed]


def _cheapest(tests: list[int], lasts: list[float], budget_s: float) -> list[int]:
    """Return tests by duration, as many as fit, but one at least."""
    chosen, spent_s = [], 0.0
    for test in sorted(tests, key=lambda i: lasts[i]):
        spent_s += lasts[test]
        if chosen and spent_s > budget_s:
            break
        chosen.append(test)
    return chosen


def _look(items: list[pytest.Item]) -> tuple[list[list[str]], list[float]]:
    """Run all tests and return the functions each calls, and how long each takes."""
    from mutmut.mutation.trampoline import set_mutant_under_test
    from mutmut.state import state

    set_mutant_under_test('stats')
    calls, lasts = [], []
    for item in items:
        state()._stats.clear()
        start_s = time.perf_counter()
        if any(r.failed for r in runtestprotocol(item, nextitem=None, log=False)):
            print(f'fails without a mutant: {item.nodeid}')
            calls.append([])
        else:
            calls.append(sorted(state()._stats))
        lasts.append(time.perf_counter() - start_s)
    return calls, lasts


def _any_fails(items: list[pytest.Item], mutant: str) -> bool:
    """Whether one of the tests notices a mutant."""
    from mutmut.mutation.trampoline import set_mutant_under_test

    set_mutant_under_test(mutant)
    return any(r.failed for item in items for r in runtestprotocol(item, nextitem=None, log=False))


def _in_child(work, limit_s: float = 3600.0):
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


def _names(modules: Iterable[str]) -> list[str]:
    """Return the names of all mutants of some modules, as generated under `mutants/`."""
    names = []
    for module in modules:
        meta = Path(module.replace('.', '/') + '.py.meta')
        names += json.loads(meta.read_text())['exit_code_by_key']
    return names


def main() -> int:
    """Run the mutants of some modules with some tests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('modules', nargs='+', help='as worldvla_ros.robot.gate')
    parser.add_argument('--tests', nargs='+', default=['test/robot'])
    parser.add_argument('--budget', type=float, default=5.0, help='seconds of tests per mutant')
    parser.add_argument('--out', type=Path, required=True, help='results, as JSON')
    given = parser.parse_args()
    out = given.out.resolve()
    os.chdir('mutants')
    sys.path.insert(0, str(Path.cwd()))
    runner = MutantRunner(_names(given.modules), Results(out), given.budget)
    options = ['-q', '-p', 'no:cacheprovider', '-p', 'no:randomly', '-m', 'not slow and not gpu']
    return pytest.main([*options, '--rootdir=.', *given.tests], plugins=[runner])


if __name__ == '__main__':
    raise SystemExit(main())
