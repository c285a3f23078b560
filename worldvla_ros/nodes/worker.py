"""A thread that thinks, so that callbacks never do: newest input wins, urgent work goes first.

Knows threads. Must not know messages or models.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
import threading
import traceback
from typing import Any

Handler = Callable[[Any], Iterator[None]]


@dataclass
class Task:
    """One kind of work: a mailbox of length one, and what to do with its content.

    `handler` is a generator function; at each `yield` more urgent work may go first.
    """

    handler: Handler
    item: Any = field(default=None)


class Worker:
    """Runs tasks in the order of their urgency; a newer item replaces one that waits."""

    def __init__(self, on_death: Callable[[str], None]) -> None:
        """Prepare the thread; `on_death` is told the traceback if a handler raises."""
        self._on_death = on_death
        self._tasks: list[Task] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def add(self, handler: Handler, *, urgent: bool) -> Task:
        """Add a kind of work, before (urgent) or behind all others."""
        task = Task(handler)
        with self._changed:
            self._tasks.insert(0 if urgent else len(self._tasks), task)
        return task

    def remove(self, task: Task) -> None:
        """Forget a kind of work and what waits for it."""
        with self._changed:
            if task in self._tasks:
                self._tasks.remove(task)

    def put(self, task: Task, item: object) -> None:
        """Leave an item for a task, replacing one that still waits."""
        with self._changed:
            task.item = item
            self._changed.notify()

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if not self.alive:
            self._stopping = False
            self._thread = threading.Thread(target=self._run, daemon=True, name='worker')
            self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Let the thread end after its present step."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while (found := self._wait()) is not None:
                self._work(*found)
        except Exception:  # a thread's boundary: whatever it was, the node must tell
            self._on_death(traceback.format_exc())

    def _wait(self) -> tuple[Task, Any] | None:
        """Return the most urgent waiting work, or None when stopping."""
        with self._changed:
            while not self._stopping:
                found = self._take(len(self._tasks))
                if found is not None:
                    return found
                self._changed.wait()
        return None

    def _take(self, below: int) -> tuple[Task, Any] | None:
        """Return the first waiting work among the `below` most urgent tasks; the lock is held."""
        for task in self._tasks[:below]:
            if task.item is not None:
                item, task.item = task.item, None
                return task, item
        return None

    def _work(self, task: Task, item: object) -> None:
        """Do one item, letting more urgent ones go first at each step."""
        for _ in task.handler(item):
            with self._changed:
                if self._stopping or task not in self._tasks:
                    return
                urgent = self._take(self._tasks.index(task))
            if urgent is not None:
                self._work(*urgent)
