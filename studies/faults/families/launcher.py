"""The launcher: `worldvla up` itself is ended; no node may live on and move the arm."""

from pathlib import Path
import signal
import subprocess
import sys
import time

from studies.faults.fault import Fault, nothing
from studies.faults.trial import CEILING_S, Outcome, Scene

END_S = 10.0
"""Nodes have 8 s to end in order."""
STOP_S = 3.0
SENTENCE = 'pick up the red cube'


def descendants(pid: int) -> set[int]:
    """Return the children of a process and theirs."""
    found: set[int] = set()
    for folder in Path('/proc').iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
            except (OSError, IndexError):
                continue
            if parent == pid:
                found |= {int(folder.name)} | descendants(int(folder.name))
    return found


def _living(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f'/proc/{pid}/cmdline').exists() and _not_zombie(pid)}


def _not_zombie(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def _fault(number: int, hold_s: float) -> Fault:
    name = signal.Signals(number).name
    return Fault(f'{name} to worldvla up', 'kill', nothing, hold_s, source='policy')


def own(scene: Scene) -> list[Outcome]:
    """Try all of them; each has a graph of its own."""
    signals = (signal.SIGKILL, signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    rows = [_attempt(scene, _fault(number, STOP_S), number) for number in signals]
    head = Fault('| head', 'who reads the output ends', nothing, STOP_S, source='policy')
    return [*rows, _attempt(scene, head, 0)]


def _attempt(scene: Scene, fault: Fault, number: int) -> Outcome:
    outcome, began = Outcome(fault), time.monotonic()
    scene.monitor.ask(begin=fault.name, moved=True)
    up = subprocess.Popen(
        [sys.executable, '-m', 'worldvla_ros.cli', 'up', '--instruction', SENTENCE],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    assert up.stdout is not None
    if scene.wait_moving(time.time(), 2 * CEILING_S) is None:
        outcome.wrong.append('the arm did not move before the fault')
    children, start_s = descendants(up.pid), time.time()
    if number:
        up.send_signal(number)
    else:
        up.stdout.close()
    end = time.monotonic() + END_S + CEILING_S
    while (_living(children) or up.poll() is None) and time.monotonic() < end:
        time.sleep(0.1)
    gone_s, left = time.time() - start_s, _living(children)
    outcome.seen.append(f'{len(children)} processes gone after {gone_s:.1f} s, '
                        f'status {up.poll()}')  # fmt: skip
    if left or gone_s > END_S + 5.0:
        outcome.wrong.append(f'{len(left)} processes live on')
    for pid in left:
        subprocess.run(['kill', '-9', str(pid)], check=False)
    _judge(scene, outcome, start_s)
    outcome.took_s = time.monotonic() - began
    return outcome


def _judge(scene: Scene, outcome: Outcome, start_s: float) -> None:
    report = scene.monitor.ask(report=True)
    moving = [sent - start_s for sent in report['moving'] if sent > start_s]
    outcome.stopped_s, outcome.commands = max(moving, default=0.0), len(report['commands'])
    if outcome.stopped_s > (outcome.fault.hold_s or 0.0):
        outcome.wrong.append(f'last command {outcome.stopped_s:.2f} s after the fault')
    if report['violations']:
        outcome.wrong.append(f'{len(report["violations"])} commands outside the limits, first: '
                             f'{report["violations"][0][1]}')  # fmt: skip
