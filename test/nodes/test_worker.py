import threading

import pytest

pytest.importorskip('rclpy')
from worldvla_ros.nodes.worker import Worker

TIMEOUT_S = 10.0


@pytest.fixture
def deaths():
    return []


@pytest.fixture
def worker(deaths):
    made = Worker(deaths.append)
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


def test_a_handler_that_raises_is_told_and_ends_the_worker(worker, deaths):
    def broken(item):
        raise RuntimeError('no more')
        yield

    worker.put(worker.add(broken, urgent=True), 'go')
    worker.start()
    worker._thread.join(TIMEOUT_S)
    assert not worker.alive
    assert 'RuntimeError: no more' in deaths[0]


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
