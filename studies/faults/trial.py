"""Tries one fault: the arm moves, the fault comes, the wire is read, the fault goes, it moves."""

from collections.abc import Callable
from dataclasses import dataclass, field
import itertools
import json
import re
import subprocess
import sys
import time

import numpy as np
from std_msgs.msg import String

from studies.faults.contract import CHUNK_S, REASONS
from studies.faults.fault import Fault
from studies.faults.graph import Graph, Log, robot_file
from studies.faults.hands import Hands

CEILING_S = 30.0
"""A loaded machine may take this long for what usually takes a second."""
REASON_S = 15.0
PAUSE_S = 2.0
"""Commands that go on may pause for this long on a loaded machine, seldom for 0.2 s."""
POLL_S = 0.1
CATCH_UP_S = 2.0
"""A monitor on a loaded machine may be behind by so much."""
AT_REST_S, AT_REST_RAD = 0.3, 2e-3
"""Joints that move by less in that time stand still."""


@dataclass
class Outcome:
    """One row of the table, after it was tried.

    Attributes:
        fault: What was tried.
        wrong: Everything that was not as expected; empty is a pass.
        seen: What happened, in words.
        stopped_s: Last moving command after the injection [s]; None where there was none.
        again_s: First moving command after the end of the fault [s].
        took_s: How long the whole row took [s].
        commands: How many commands were judged.
    """

    fault: Fault
    wrong: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    stopped_s: float | None = None
    again_s: float | None = None
    took_s: float = 0.0
    commands: int = 0
    farthest_mm: float = 0.0


class Monitor:
    """The process that judges what is on the wire."""

    def __init__(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'studies.faults.wire', str(robot_file())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, **request: object) -> dict:
        """Return what it heard since `begin`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + '\n')
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=10)


class Scene:
    """Everything that a fault may touch."""

    def __init__(self, graph: Graph, hands: Hands, monitor: Monitor, log: Log) -> None:
        """Begin with a graph that has just been started."""
        self.graph, self.hands, self.monitor, self.log = graph, hands, monitor, log
        self.output = 'twist'
        self.source = ''
        self.seed = 8000
        self.kept: dict[str, object] = {}

    # ---- waiting

    def until(self, holds: Callable[[], object], timeout_s: float = CEILING_S) -> object:
        """Wait until something holds; return it, or what does not hold after the time-out."""
        end = time.monotonic() + timeout_s
        while not (found := holds()) and time.monotonic() < end:
            time.sleep(POLL_S)
        return found

    def moving_since(self, start_s: float) -> list[float]:
        """Return when moving commands were sent after a time."""
        return [sent for sent in self.monitor.ask(report=True)['moving'] if sent > start_s]

    def catch_up(self) -> None:
        """Wait until the monitor has heard what was sent up to now, as far as the arm lives."""
        now_s = time.time()
        self.until(lambda: self.monitor.ask(report=True)['joints_s'] > now_s, CATCH_UP_S)

    def said(self, reason: str, since_s: float = 0.0) -> str:
        """Return the first text on a node's status that gives a reason, or ''."""
        node, pattern = REASONS[reason]
        for sent_s, name, _, text in self.monitor.ask(report=True)['said']:
            if name == node and sent_s >= since_s and re.search(pattern, text):
                return str(text)
        return ''

    def wait_moving(self, since_s: float, timeout_s: float = CEILING_S) -> float | None:
        """Wait for a moving command sent after a time; return how long after it came."""
        found = self.until(lambda: self.moving_since(since_s), timeout_s)
        return found[0] - since_s if found else None

    # ---- bringing the graph to where a trial begins

    def prepare(self, fault: Fault) -> bool:
        """Have the arm moving by the fault's source and output; return whether it does."""
        for name in self.graph.revive():
            self.seen_revived(name)
        self.choose_output(fault.output)
        self.choose_source(fault.source)
        if self.wait_moving(time.time(), 12.0) is not None:
            return True
        self.renew()
        self.hands.enable('action_player', True)  # once more: a hold of the fault before
        return self.wait_moving(time.time()) is not None

    def seen_revived(self, name: str) -> None:
        """Wait until a node that was started anew is active."""
        for node in ('policy', 'world_model') if name == 'model' else (name,):
            self.until(lambda node=node: self.hands.state(node) == 'active')
        if name in ('model', 'sim'):
            self.source = ''
        if name == 'action_player':
            self.output = 'twist'

    def choose_output(self, output: str) -> None:
        """Configure the player anew where it has another output."""
        if self.output == output:
            return
        for step in ('deactivate', 'cleanup'):
            self.hands.transition('action_player', step)
        refused = self.hands.set_parameters('action_player', {'output': output})
        assert refused == [''], refused
        for step in ('configure', 'activate'):
            assert self.hands.transition('action_player', step), step
        self.output = output

    def choose_source(self, source: str) -> None:
        """Let the policy act, or feed chunks in its place."""
        if source == 'policy':
            self.source = source
            self.renew()
        elif source != self.source:
            self.source = source
            self._act(True)

    def _act(self, on: bool) -> None:
        """Let the source of chunks make some, and the other one none."""
        self.hands.feeding = on and self.source == 'feeder'
        self.hands.enable('policy', on and self.source == 'policy')

    def renew(self) -> None:
        """Lay out the next scene, so that there is something to do, once the arm is at rest."""
        self._act(False)
        self.until(self._rests, 2 * CHUNK_S)
        self.lay_out()
        self._act(True)

    def _rests(self) -> bool:
        before = self.hands.joints
        time.sleep(AT_REST_S)
        return bool(np.abs(self.hands.joints - before).max() < AT_REST_RAD)

    def lay_out(self) -> None:
        """Lay out the next scene, whatever the arm does."""
        self.seed += 1
        self.monitor.ask(moved=True)
        answer = self.hands.reset(8000 + self.seed % 40)
        self.monitor.ask(moved=True)
        if self.source == 'policy' and answer is not None:
            self.hands.instruct(answer.instruction)


def attempt(scene: Scene, fault: Fault) -> Outcome:
    """Try a fault and judge what came of it."""
    outcome, began = Outcome(fault), time.monotonic()
    scene.monitor.ask(begin=fault.name)
    if not scene.prepare(fault):
        outcome.wrong.append('the arm did not move before the fault')
    lines = len(scene.log.lines)
    scene.monitor.ask(begin=fault.name)
    scene.hands.say(String(data=f'begin {fault.name}'), 'fault_mark')
    start_s = time.time()
    answer = fault.inject(scene)
    if answer:
        outcome.seen.append(str(answer))
    _in_force(scene, fault, outcome, start_s)
    _afterwards(scene, fault, outcome)
    _judge_logs(scene, fault, outcome, lines)
    scene.hands.say(String(data=f'end {fault.name}'), 'fault_mark')
    outcome.took_s = time.monotonic() - began
    return outcome


def _in_force(scene: Scene, fault: Fault, outcome: Outcome, start_s: float) -> None:
    """Wait while the fault is in force; judge the stop and the reason."""
    deadline_s = start_s + (fault.hold_s or 0.0)
    end_s = deadline_s + fault.lasts_s
    while time.time() < end_s:
        time.sleep(POLL_S)
    if fault.reason:
        said = scene.until(lambda: scene.said(fault.reason, start_s), REASON_S)
        if said:
            outcome.seen.append(f'"{_begun(said)}"')
        else:
            heard = [t for *_, t in scene.monitor.ask(report=True)['said']][:8]
            outcome.wrong.append(f'"{fault.reason}" was not said, but {heard}')
    scene.catch_up()
    moving = scene.kept['moving_in_force'] = scene.moving_since(start_s)
    if fault.hold_s is not None:
        late = [sent for sent in moving if sent > deadline_s]
        outcome.stopped_s = max(moving, default=start_s) - start_s
        if late:
            outcome.wrong.append(f'{len(late)} commands after the hold time-out, the last '
                                 f'{late[-1] - start_s:.2f} s after the fault')  # fmt: skip
    elif not fault.quiet:
        _judge_flow(scene, outcome, start_s)


def _begun(text: object, most: int = 160) -> str:
    """Return the first whole words of a text."""
    whole = str(text)
    return whole if len(whole) <= most else whole[:most].rpartition(' ')[0] + ' …'


def _judge_flow(scene: Scene, outcome: Outcome, start_s: float) -> None:
    """Judge that commands went on through the fault."""
    if scene.wait_moving(start_s) is None:
        outcome.wrong.append('commands did not go on')
        return
    scene.catch_up()
    heard_s = scene.monitor.ask(report=True)['joints_s']
    times = [start_s, *scene.moving_since(start_s), max(heard_s, start_s)]
    times.sort()
    pause_s = max(later - before for before, later in itertools.pairwise(times))
    outcome.seen.append(f'longest pause {pause_s:.2f} s')
    if pause_s > PAUSE_S:
        outcome.wrong.append(f'commands paused for {pause_s:.1f} s')


def _afterwards(scene: Scene, fault: Fault, outcome: Outcome) -> None:
    """Undo the fault; judge that commands flow again."""
    answer = fault.remove(scene)
    if answer:
        outcome.seen.append(str(answer))
    if fault.dies:
        for name in scene.graph.revive():
            scene.seen_revived(name)
    end_s = time.time()
    if fault.dies in ('model', 'sim'):
        scene.choose_source(fault.source)
    if fault.enable is not False:
        if fault.enable and scene.moving_since(end_s):
            outcome.wrong.append('moved again before ~/enable')
        scene.hands.enable('action_player', True)
    outcome.again_s = scene.wait_moving(end_s)
    if outcome.again_s is None:
        scene.renew()
        again = scene.wait_moving(time.time())
        words = 'only after a new scene' if again is not None else 'never'
        said = [text for *_, text in scene.monitor.ask(report=True)['said']]
        outcome.wrong.append(f'commands flow again: {words}; said {said[-4:]}')
    if fault.check is not None and (wrong := fault.check(scene)):
        outcome.wrong.append(wrong)


def _judge_logs(scene: Scene, fault: Fault, outcome: Outcome, lines: int) -> None:
    """Judge limits, processes and exceptions."""
    report = scene.monitor.ask(report=True)
    outcome.commands, outcome.farthest_mm = len(report['commands']), report['farthest_mm']
    texts = [text for _, text in report['violations']]
    if texts:
        outcome.wrong.append(f'{len(texts)} commands outside the limits, first: {texts[0]}')
    for trace in scene.log.tracebacks(lines):
        if not (fault.traceback and re.search(fault.traceback, trace)):
            outcome.wrong.append(f'exception in the log: {trace[:200]}')
    for name, code in scene.graph.dead().items():
        if name != fault.dies:
            outcome.wrong.append(f'{name} ended with status {code}')
    stopped = [text for _, _, level, text in report['said'] if level == 2 and 'stopped:' in text]
    if stopped and not fault.traceback:
        outcome.wrong.append(f'a node stopped: {stopped[0][:200]}')
