"""Work in several processes: all jobs, once each, and no silence where one breaks."""

import functools
import os
from pathlib import Path
import signal
import time

import pytest

from worldvla_ros.errors import CheckpointError, WorkerError
from worldvla_ros.evaluate.workers import work


class Doubler:
    """Doubles numbers, notes where, and misbehaves on request."""

    def __init__(self, folder, fault=''):
        self.folder = Path(folder)
        if fault == 'refuse':
            raise CheckpointError('no weights', remedy='Restore them.')
        if fault == 'die':
            os._exit(7)

    def __call__(self, job):
        if job == 'raise':
            raise KeyError('a bug')
        if job == 'die':
            os._exit(9)
        if job == 'kill':
            os.kill(os.getpid(), signal.SIGKILL)
        if job == 'wait':
            time.sleep(200)
        (self.folder / f'{os.getpid()}.log').open('a').write(f'{job}\n')
        return 2 * job

    def close(self):
        (self.folder / f'{os.getpid()}.closed').touch()


def run(folder, jobs, workers, fault=''):
    return list(work(functools.partial(Doubler, folder, fault), jobs, workers))


@pytest.mark.parametrize('workers', [1, 3])
def test_every_job_is_done_once_and_workers_are_closed(tmp_path, workers):
    assert sorted(run(tmp_path, list(range(9)), workers)) == [2 * job for job in range(9)]
    lines = [line for log in tmp_path.glob('*.log') for line in log.read_text().split()]
    assert sorted(map(int, lines)) == list(range(9))
    assert len(list(tmp_path.glob('*.closed'))) == workers


def test_one_worker_is_this_process_and_works_in_order(tmp_path):
    assert run(tmp_path, [3, 1, 2], 1) == [6, 2, 4]
    assert (tmp_path / f'{os.getpid()}.closed').exists()


def test_there_are_no_more_processes_than_jobs(tmp_path):
    assert sorted(run(tmp_path, [1, 2], 50)) == [2, 4]
    assert len(list(tmp_path.glob('*.closed'))) == 2


def test_without_jobs_nothing_is_made(tmp_path):
    assert run(tmp_path, [], 4, 'refuse') == []


def test_what_a_user_can_mend_comes_as_its_message(tmp_path):
    with pytest.raises(WorkerError, match=r'failed: no weights\. Restore them\.$'):
        run(tmp_path, [1, 2], 2, 'refuse')


def test_a_bug_comes_with_its_traceback(tmp_path):
    with pytest.raises(WorkerError, match='Traceback') as caught:
        run(tmp_path, [1, 'raise'], 2)
    assert "KeyError: 'a bug'" in str(caught.value)


def test_a_process_that_dies_is_told_with_its_exit_code(tmp_path):
    with pytest.raises(WorkerError, match='died: got exit code 9. It may have run out of memory'):
        run(tmp_path, [1, 'die'], 2)


def test_a_process_that_is_killed_is_an_error(tmp_path):
    with pytest.raises(WorkerError, match='died: got exit code -9'):
        run(tmp_path, [1, 'kill'], 2)


def test_a_process_that_dies_before_its_first_job_is_an_error(tmp_path):
    with pytest.raises(WorkerError, match='died: got exit code 7'):
        run(tmp_path, [1, 2], 2, 'die')


def test_an_error_ends_the_others_at_once(tmp_path):
    start = time.monotonic()
    with pytest.raises(WorkerError):
        run(tmp_path, ['wait', 'die'], 2)
    assert time.monotonic() - start < 100
