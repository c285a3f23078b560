import threading

import pytest

pytest.importorskip('rclpy')
from worldvla_ros.nodes.worker import Worker

TIMEOUT_S = 30.0


class Recording(Worker):
    """A worker whose tasks leave their errors in `errors`."""

    def add(self, handler, *, urgent):
        return super().add(handler, lambda e, trace: self.errors.append((e, trace)), urgent=urgent)


@pytest.fixture
def deaths():
    return []


@pytest.fixture
def errors():
    return []


@pytest.fixture
def worker(deaths, errors):
    made = Recording(deaths.append)
    made.errors = errors
    yield made
    made.stop()


def test_a_newer_item_replaces_one_that_waits(worker):
    done, seen, go = threading.Event(), [], threading.Event()

    def handle(item):
        go.wait(TIMEOUT_S)
        seen.append(item)
        if item == 'last':
            done.set()
        yield

    task = worker.add(handle, urgent=False)
    worker.put(task, 'first')
    worker.start()
    while task.item is not None:  # until it has been taken
        pass
    worker.put(task, 'stale')
    worker.put(task, 'last')
    go.set()
    assert done.wait(TIMEOUT_S)
    assert seen == ['first', 'last']


def test_urgent_work_goes_between_the_steps_of_other_work(worker):
    order, done = [], threading.Event()

    def slow(item):
        order.append('slow begins')
        worker.put(urgent_task, 'now')
        yield
        order.append('slow ends')
        done.set()
        yield

    def urgent(item):
        order.append('urgent')
        yield

    urgent_task = worker.add(urgent, urgent=True)
    slow_task = worker.add(slow, urgent=False)
    worker.put(slow_task, 'go')
    worker.start()
    assert done.wait(TIMEOUT_S)
    assert order == ['slow begins', 'urgent', 'slow ends']


def test_other_work_does_not_interrupt_urgent_work(worker):
    order, done = [], threading.Event()

    def urgent(item):
        worker.put(slow_task, 'go')
        yield
        order.append('urgent ends')

    def slow(item):
        order.append('slow')
        done.set()
        yield

    urgent_task = worker.add(urgent, urgent=True)
    slow_task = worker.add(slow, urgent=False)
    worker.put(urgent_task, 'go')
    worker.start()
    assert done.wait(TIMEOUT_S)
    assert order == ['urgent ends', 'slow']


@pytest.mark.parametrize('error', [RuntimeError, ValueError, OverflowError, MemoryError])
def test_an_item_that_fails_is_reported_and_the_next_one_is_done(worker, deaths, errors, error):
    done = threading.Event()

    def handle(item):
        if item == 'bad':
            done.set()
            raise error('not this one')
        seen.set()
        yield

    task, seen = worker.add(handle, urgent=True), threading.Event()
    worker.put(task, 'bad')
    worker.start()
    assert done.wait(TIMEOUT_S)
    worker.put(task, 'good')
    assert seen.wait(TIMEOUT_S)
    assert worker.alive
    assert deaths == []
    assert isinstance(errors[0][0], error)
    assert 'not this one' in errors[0][1]


def test_an_urgent_item_that_fails_does_not_end_the_work_it_interrupted(worker, errors):
    done = threading.Event()

    def slow(item):
        worker.put(urgent_task, 'now')
        yield
        done.set()
        yield

    def urgent(item):
        raise RuntimeError('urgent')
        yield

    urgent_task = worker.add(urgent, urgent=True)
    worker.put(worker.add(slow, urgent=False), 'go')
    worker.start()
    assert done.wait(TIMEOUT_S)
    assert len(errors) == 1


class PanicException(BaseException):
    """As a Rust library raises it: no `Exception`."""


def test_a_panic_ends_the_worker_with_a_word(worker, deaths, errors):
    def broken(item):
        raise PanicException('no more')
        yield

    worker.put(worker.add(broken, urgent=True), 'go')
    worker.start()
    worker._thread.join(TIMEOUT_S)
    assert not worker.alive
    assert 'PanicException: no more' in deaths[0]
    assert errors == []


def test_removing_waits_for_the_present_step(worker):
    inside, go, ended = threading.Event(), threading.Event(), []

    def handle(item):
        inside.set()
        go.wait(TIMEOUT_S)
        ended.append(True)
        yield
        ended.append('a second step')

    task = worker.add(handle, urgent=True)
    worker.put(task, 'go')
    worker.start()
    assert inside.wait(TIMEOUT_S)
    assert not worker.remove(task, timeout_s=0.05)
    go.set()
    assert worker.remove(task, timeout_s=TIMEOUT_S)
    assert ended == [True]


def test_a_handler_may_remove_its_own_task(worker):
    done = threading.Event()

    def handle(item):
        assert worker.remove(task)
        done.set()
        yield

    task = worker.add(handle, urgent=True)
    worker.put(task, 'go')
    worker.start()
    assert done.wait(TIMEOUT_S)


def test_removed_work_is_not_done(worker):
    seen, done = [], threading.Event()

    def handle(item):
        seen.append(item)
        done.set()
        yield

    removed, kept = worker.add(handle, urgent=True), worker.add(handle, urgent=False)
    worker.put(removed, 'removed')
    worker.remove(removed)
    worker.put(kept, 'kept')
    worker.start()
    assert done.wait(TIMEOUT_S)
    assert seen == ['kept']


def test_a_stopped_worker_can_start_again(worker):
    done = threading.Event()

    def handle(item):
        done.set()
        yield

    task = worker.add(handle, urgent=True)
    worker.start()
    worker.stop()
    assert not worker.alive
    worker.put(task, 'go')
    worker.start()
    assert done.wait(TIMEOUT_S)
