"""Child processes end with what started them, whatever ended it."""

import io
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from worldvla_ros.errors import ConfigError
from worldvla_ros.graph import NodeSpec
from worldvla_ros.processes.supervisor import Processes, up

ROOT = Path(__file__).parents[2]
SLEEPER = 'import time; print("up", flush=True); time.sleep(99)'
STUBBORN = (
    'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);'
    'print("up", flush=True); time.sleep(99)'
)
UP = """
import os, sys
import worldvla_ros.processes.guardian, worldvla_ros.processes.supervisor as processes
from worldvla_ros.graph import NodeSpec
code, then = sys.argv[1:]
processes.describe = lambda arguments: [NodeSpec('sim'), NodeSpec('say')]
processes.command = lambda node: [sys.executable, '-c', code]
start = processes.Processes
def noted(nodes):
    made = start(nodes)
    print(*(child.pid for child in made.children.values()), flush=True)
    exec(then)
    return made
processes.Processes = noted
sys.exit(processes.up({}))
"""


def until(holds, what, timeout_s=30):
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, f'waited {timeout_s} s for {what}'
        time.sleep(0.02)


def alive(pid):
    """Whether a process runs; a zombie, which no one has waited for, does not."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


@pytest.fixture
def launcher():
    """Return a function that runs `up` over two sleeping children and returns (process, pids)."""
    started = []

    def run(code=SLEEPER, then='', **options):
        process = subprocess.Popen(
            [sys.executable, '-c', UP, code, then], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, **{'stderr': subprocess.PIPE, **options},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        started.append(process)
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2, process.communicate()
        return process, pids

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_up_ends_its_children_and_is_no_error(launcher, number):
    process, pids = launcher()
    assert all(alive(pid) for pid in pids)
    process.send_signal(number)
    assert process.wait(30) == 0
    assert not any(alive(pid) for pid in pids)
    assert 'Traceback' not in process.stderr.read()


@pytest.mark.parametrize('code', [SLEEPER, STUBBORN], ids=['obeying', 'ignoring SIGTERM'])
def test_children_end_though_up_was_killed(launcher, code):
    process, pids = launcher(code)
    said = [process.stderr.readline() for _ in pids]  # they run, and write no more
    assert sorted(said) == ['[say] up\n', '[sim] up\n']
    process.kill()
    process.wait(30)
    until(lambda: not any(alive(pid) for pid in pids), 'the children to end')


def test_children_end_where_up_raises(launcher):
    process, pids = launcher(then='raise KeyError("broken")')
    assert process.wait(30) == 1
    until(lambda: not any(alive(pid) for pid in pids), 'the children to end')


def test_children_end_where_nobody_reads_the_output_any_more(launcher):
    talker = 'import time\nwhile True: print("line", flush=True); time.sleep(0.02)'
    reader, writer = os.pipe()
    process, pids = launcher(talker, stderr=writer)
    os.close(writer)
    os.read(reader, 10)
    os.close(reader)  # as `| head` does
    assert process.wait(30) == 1
    assert not any(alive(pid) for pid in pids)


def test_a_child_that_ends_ends_the_rest_with_an_error(launcher):
    process, pids = launcher(then='made.children["say"].kill()')
    assert process.wait(30) == 1
    assert not any(alive(pid) for pid in pids)
    assert 'say ended with status -9; stopping the others' in process.stderr.read()


def test_a_process_that_ignores_sigterm_is_ended_all_the_same(monkeypatch):
    monkeypatch.setattr(
        'worldvla_ros.processes.supervisor.command', lambda node: [sys.executable, '-c', STUBBORN]
    )
    monkeypatch.setattr('worldvla_ros.processes.supervisor.STOP_TIMEOUT_S', 0.5)
    output = io.StringIO()
    processes = Processes([NodeSpec('stubborn')], output)
    until(lambda: 'up' in output.getvalue(), 'the child to speak')
    assert processes.dead() == {}
    assert processes.stop() == {'stubborn': -9}
    assert output.getvalue() == '[stubborn] up\n'


def test_a_node_that_is_not_required_may_end(monkeypatch):
    monkeypatch.setattr('worldvla_ros.processes.supervisor.command', lambda node: ['true'])
    processes = Processes([NodeSpec('rviz2', package='rviz2', required=False)])
    until(processes.ended, 'the child to end')
    assert processes.dead() == {}
    processes.stop()


def test_a_program_that_is_not_installed_is_named_and_nothing_lives_on(monkeypatch):
    def fake(node):
        return (
            ['/nowhere/rviz2'] if node.executable == 'rviz2' else [sys.executable, '-c', SLEEPER]
        )

    monkeypatch.setattr('worldvla_ros.processes.supervisor.command', fake)
    made = []
    real = Processes._start

    def noting(self, node):
        real(self, node)
        made.extend(child.pid for child in self.children.values())

    monkeypatch.setattr(Processes, '_start', noting)
    with pytest.raises(ConfigError, match='rviz2 cannot be started: No such file'):
        Processes([NodeSpec('sim'), NodeSpec('rviz2', package='rviz2')])
    assert made
    assert not any(alive(pid) for pid in made)


def test_a_wrong_argument_starts_nothing(monkeypatch):
    monkeypatch.setattr('worldvla_ros.processes.supervisor.Processes', None)
    with pytest.raises(ConfigError, match='robt'):
        up({'robt': 'panda_servo'})


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--robot', 'nope'], 'nope'),
        (['--checkpoint', '/nowhere'], 'no checkpoint at /nowhere'),
        (['--namespace', 'arm-1'], 'arm-1'),
    ],
)
def test_up_names_a_wrong_robot_checkpoint_or_namespace_before_it_starts(
    monkeypatch, capsys, flags, words
):
    from worldvla_ros.cli import main

    monkeypatch.setattr('worldvla_ros.processes.supervisor.Processes', None)
    assert main(['up', *flags]) == 2
    assert words in capsys.readouterr().err


def test_the_memory_of_children_is_measured(monkeypatch):
    monkeypatch.setattr(
        'worldvla_ros.processes.supervisor.command', lambda node: [sys.executable, '-c', SLEEPER]
    )
    output = io.StringIO()
    processes = Processes([NodeSpec('sim')], output)
    until(lambda: 'up' in output.getvalue(), 'the child to speak')
    assert 5 < processes.peak_memory_mb() < 200
    processes.stop()
