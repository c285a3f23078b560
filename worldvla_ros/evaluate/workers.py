"""The same work in one process or in several.

Knows processes. Must not know what the work is. A process that dies is an error, never silence.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
from dataclasses import dataclass
import multiprocessing
from multiprocessing.connection import Connection, wait
import signal
import traceback
from typing import Any, Protocol, TypeVar

from worldvla_ros.errors import WorkerError, WorldVLAError

Job = TypeVar('Job')
Result = TypeVar('Result')
Taken = TypeVar('Taken', contravariant=True)
Made = TypeVar('Made', covariant=True)


class Worker(Protocol[Taken, Made]):
    """Does one job after another and is closed at the end."""

    def __call__(self, job: Taken) -> Made:
        """Do a job."""

    def close(self) -> None:
        """Free what the work needed."""


def work(
    make: Callable[[], Worker[Job, Result]], jobs: Sequence[Job], workers: int
) -> Iterator[Result]:
    """Yield the results of jobs as they come.

    Args:
        make: Makes what does the jobs, once per process; with several it must be picklable, as
            jobs and results must.
        jobs: What to do.
        workers: How many processes; 1 is this one.

    Raises:
        WorkerError: Work in another process raised, or the process died.
    """
    if not jobs:
        return
    if workers == 1 or len(jobs) == 1:
        with contextlib.closing(make()) as do:
            for job in jobs:
                yield do(job)
        return
    waiting = list(reversed(jobs))
    team = [_Process(make) for _ in range(min(workers, len(jobs)))]
    try:
        for each in team:
            each.give(waiting.pop())
        while busy := _by_pipe(team):
            for pipe in wait(list(busy)):
                yield busy[pipe].take()
                busy[pipe].give(waiting.pop() if waiting else None)
    finally:
        for each in team:
            each.end()


def _by_pipe(team: 'list[_Process]') -> 'dict[Any, _Process]':
    return {each.pipe: each for each in team if each.busy}


@dataclass(frozen=True)
class _Failure:
    """What a process says before it ends too early."""

    reason: str


class _Process:
    """One process with a pipe; `None` as a job ends it."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        context = multiprocessing.get_context('spawn')  # torch and OpenGL do not survive a fork
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that the process's end is the pipe's end
        self.busy = False

    def give(self, job: object) -> None:
        self.busy = job is not None
        with contextlib.suppress(BrokenPipeError):  # it has died: `take` says so
            self.pipe.send(job)

    def take(self) -> Any:
        try:
            result = self.pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            self._process.join()
            raise WorkerError(
                'a worker process died',
                got=f'exit code {self._process.exitcode}',
                remedy='It may have run out of memory: use fewer workers.',
            ) from error
        if isinstance(result, _Failure):
            raise WorkerError(f'a worker process failed: {result.reason}')
        return result

    def end(self) -> None:
        """Let the process close its work, or end it where it does not."""
        if self.busy:
            self._process.terminate()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.pipe.close()


def _serve(make: Callable[[], Worker], pipe: Connection) -> None:
    """Do jobs from a pipe until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    try:
        with contextlib.closing(make()) as do:
            for job in iter(pipe.recv, None):
                pipe.send(do(job))
    except WorldVLAError as error:
        pipe.send(_Failure(str(error)))
    except Exception:  # the edge of the process: the parent must hear of it
        pipe.send(_Failure(traceback.format_exc()))
