"""A loop of steady period in a thread of its own, for what must be punctual.

An executor of rclpy looks at all its entities anew for every timer that is due: half a millisecond
of processor time each, a quarter of a core at 500 Hz. A thread that sleeps takes a tenth of that.
Must not know what is done in a period.
"""

from collections.abc import Callable
import threading
import time

JOIN_S = 2.0


class ControlLoop:
    """Calls back once per period from `start` to `stop`; an exception ends it and is reported."""

    def __init__(
        self, period_s: float, tick: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        """Keep what to call.

        Args:
            period_s: Time between ticks [s].
            tick: Called in the loop's thread.
            failed: Told what `tick` raised, in the loop's thread.
        """
        self._period_s, self._tick, self._failed = period_s, tick, failed
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self.ticks = 0
        self.late = 0
        """Ticks that began more than a period late."""

    def start(self) -> None:
        """Begin to tick."""
        self._ending.clear()
        self._thread = threading.Thread(target=self._run, daemon=True, name='control loop')
        self._thread.start()

    def stop(self) -> None:
        """End, and wait until the last tick is over."""
        self._ending.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(JOIN_S)
            self._thread = None

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ending.is_set():
            try:
                self._tick()
            except Exception as error:  # a thread's boundary: nobody else would hear of it
                self._failed(error)
                return
            self.ticks += 1
            due += self._period_s
            left = due - time.monotonic()
            if left > 0:
                time.sleep(left)
            elif left < -self._period_s:
                self.late += 1
                due -= left  # what was missed is not caught up
