"""A loop of steady period: it ticks, is not made to catch up, and tells of its end."""

import threading
import time

from worldvla_ros.nodes.control_loop import ControlLoop


class Ticks:
    def __init__(self, raises_at=None):
        self.count, self.raises_at, self.failed = 0, raises_at, []
        self.wanted, self.reached = 0, threading.Event()
        self.slow_s = 0.0

    def tick(self):
        self.count += 1
        if self.count == self.raises_at:
            raise ZeroDivisionError('at last')
        if self.wanted and self.count >= self.wanted:
            self.reached.set()
        time.sleep(self.slow_s)

    def until(self, count):
        self.wanted = count
        assert self.reached.wait(20)


def test_it_ticks_from_start_to_stop():
    ticks = Ticks()
    loop = ControlLoop(0.002, ticks.tick, ticks.failed.append)
    loop.start()
    ticks.until(50)
    loop.stop()
    count = ticks.count
    assert loop.ticks == count
    loop.start()
    ticks.reached.clear()
    ticks.until(count + 10)
    loop.stop()
    assert not ticks.failed


def test_an_exception_ends_it_and_is_told():
    ticks = Ticks(raises_at=3)
    done = threading.Event()

    def failed(error):
        ticks.failed.append(error)
        done.set()

    loop = ControlLoop(0.001, ticks.tick, failed)
    loop.start()
    assert done.wait(20)
    loop.stop()
    assert ticks.count == 3
    assert isinstance(ticks.failed[0], ZeroDivisionError)


def test_late_ticks_are_counted_and_not_caught_up():
    ticks = Ticks()
    ticks.slow_s = 0.01
    loop = ControlLoop(0.001, ticks.tick, ticks.failed.append)
    loop.start()
    ticks.until(20)
    loop.stop()
    assert loop.late >= 15


def test_it_may_be_stopped_from_its_own_tick():
    stopped = threading.Event()

    def tick():
        loop.stop()
        stopped.set()

    loop = ControlLoop(0.001, tick, lambda error: None)
    loop.start()
    assert stopped.wait(20)
    loop.stop()
    assert loop.ticks == 1
