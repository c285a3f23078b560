"""A thread that computes, so that callbacks never do: newest input wins, urgent work goes first.

Knows threads. Must not know messages or models. Callbacks put; the worker's thread runs handlers
and calls `on_error` and `on_death`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
import threading
import traceback
from typing import Any

Handler = Callable[[Any], Iterator[None]]
STEP_TIMEOUT_S = 60.0
"""How long removing a task waits for its present step; a step is one chunk or part of an image."""


@dataclass(eq=False)
class Task:
    """One kind of work: a mailbox of length one, and what to do with its content.

    `handler` is a generator function; at each `yield` more urgent work may go first. `on_error`
    gets the exception of an item that could not be handled; the item is dropped.
    """

    handler: Handler
    on_error: Callable[[Exception, str], None]
    item: Any = field(default=None)


class Worker:
    """Runs tasks in the order of their urgency; a newer item replaces one that waits."""

    def __init__(self, on_death: Callable[[str], None]) -> None:
        """Prepare the thread.

        Args:
            on_death: Called with the traceback of what ended the thread: an exception that is no
                `Exception` (a Rust library's panic is one), or one that `on_error` raised.
        """
        self._on_death = on_death
        self._tasks: list[Task] = []
        self._running: list[Task] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def add(
        self, handler: Handler, on_error: Callable[[Exception, str], None], *, urgent: bool
    ) -> Task:
        """Add a kind of work, before (urgent) or behind all others.

        Args:
            handler: Does one item.
            on_error: Gets the exception of an item, and its traceback.
            urgent: Whether it goes before all that was added earlier.
        """
        task = Task(handler, on_error)
        with self._changed:
            self._tasks.insert(0 if urgent else len(self._tasks), task)
        return task

    def remove(self, task: Task, timeout_s: float = STEP_TIMEOUT_S) -> bool:
        """Drop a kind of work and what waits for it, once its present step is done.

        Returns:
            Whether the step ended in time; what it uses must not be destroyed before.
        """
        with self._changed:
            if task in self._tasks:
                self._tasks.remove(task)
            if threading.current_thread() is self._thread:
                return True
            return self._changed.wait_for(lambda: task not in self._running, timeout_s)

    def put(self, task: Task, item: object) -> None:
        """Leave an item for a task, replacing one that still waits."""
        with self._changed:
            task.item = item
            self._changed.notify_all()

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
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while (found := self._wait()) is not None:
                self._work(*found)
        except BaseException:  # a thread's boundary: nothing may end it without a word
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
                self._running.append(task)
                return task, item
        return None

    def _work(self, task: Task, item: object) -> None:
        """Do one item, letting more urgent ones go first at each step."""
        try:
            self._step_through(task, item)
        except Exception as error:  # one item's boundary: the next one is handled all the same
            task.on_error(error, traceback.format_exc())
        finally:
            with self._changed:
                self._running.remove(task)
                self._changed.notify_all()

    def _step_through(self, task: Task, item: object) -> None:
        for _ in task.handler(item):
            with self._changed:
                if self._stopping or task not in self._tasks:
                    return
                urgent = self._take(self._tasks.index(task))
            if urgent is not None:
                self._work(*urgent)
