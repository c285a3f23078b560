"""The graph for an hour: does memory grow, does every hold hold, how late are chunks?

    python studies/soak.py --minutes 60 --out out/soak        (make soak MINUTES=60)

Starts the nodes of `worldvla up` on the simulated arm, with a recorder, gives a stream of
sentences and calls `~/hold`, or publishes on `stop`, at random instants. Every line of
`soak.jsonl` is stored at once: whatever ends this program, `--report` judges what is there, and
`--resume` runs the minutes that are missing. Ends with status 1 where a criterion is not met.
Writes `soak.json`, `soak.md` and `log.txt`.
"""

import argparse
from collections.abc import Callable, Iterator
import json
import os
from pathlib import Path
import random
import re
import sys
import time
from typing import Any

import numpy as np
from soak_report import WARM_UP_S, judge, markdown, read
from tqdm import tqdm

SAMPLE_S = 5.0
HOLD_GRACE_S = 0.5
"""A planned stop may take so long after the answer of `~/hold`."""
HOLD_WATCH_S = 3.0
MOTION_S = 10.0
"""A hold waits so long for the arm to move."""
HOLD_EVERY_S = (15.0, 45.0)
SENTENCE_S = 15.0
START_S = 120.0
SENTENCES = (
    ('pick', 'pick up the red cube'),
    ('push', 'push the blue cube to the left'),
    ('pick', 'please grab the yellow block'),
    ('pick', 'pick up the green cube'),
    ('push', 'push the red cube to the right'),
)
PROBLEM = re.compile(r'Traceback|\[(ERROR|FATAL)\]|\b\w+Error:')


class Journal:
    """Lines of JSON that are on the disk as soon as they are written."""

    def __init__(self, file: Path) -> None:
        """Go on at the end of a file; a line that was cut off stays alone."""
        cut_off = file.is_file() and not file.read_bytes().endswith(b'\n')
        self._stream = file.open('a')
        if cut_off:
            self._stream.write('\n')

    def write(self, kind: str, **values: object) -> None:
        """Write a line and wait until it is stored."""
        self._stream.write(json.dumps({'kind': kind, **values}) + '\n')
        self._stream.flush()
        os.fsync(self._stream.fileno())


def resident_mb(pid: int) -> float | None:
    """Return the resident memory of a process [MB], or None where it has ended."""
    try:
        found = re.search(r'VmRSS:\s+(\d+)', Path(f'/proc/{pid}/status').read_text())
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None


def problems_in(log: Path, place: int) -> tuple[list[str], int]:
    """Return lines of a log, from a place on, that tell of errors, and the place behind them."""
    with log.open('rb') as stream:
        stream.seek(place)
        text = stream.read()
    whole = text[: text.rfind(b'\n') + 1]
    lines = whole.decode(errors='replace').splitlines()
    return [line for line in lines if PROBLEM.search(line)], place + len(whole)


class Operator:
    """Speaks to the graph, holds it at random, and sees every command."""

    def __init__(self, choice: random.Random) -> None:
        """Join the graph."""
        from geometry_msgs.msg import TwistStamped
        import rclpy
        from std_msgs.msg import Bool, String
        from std_srvs.srv import SetBool, Trigger
        from trajectory_msgs.msg import JointTrajectory

        from worldvla_ros.msg import ActionChunk
        from worldvla_ros.nodes.qos import LATCHED_QOS, RELIABLE_QOS
        from worldvla_ros.srv import ResetScene

        rclpy.init()
        self._rclpy, self._choice = rclpy, choice
        self._node = node = rclpy.create_node('soak')
        self._say = node.create_publisher(String, 'instruction', LATCHED_QOS)
        self._stop = node.create_publisher(Bool, 'stop', RELIABLE_QOS)
        self._string, self._bool = String, Bool
        self._types = {'hold': Trigger, 'enable': SetBool, 'reset': ResetScene}
        names = {
            'hold': 'action_player/hold',
            'enable': 'action_player/enable',
            'reset': 'sim/reset',
        }
        self._clients = {
            key: node.create_client(self._types[key], name) for key, name in names.items()
        }
        self.latencies: list[float] = []
        self.moved_s = -np.inf
        node.create_subscription(
            ActionChunk, 'action_chunk', lambda m: self.latencies.append(m.latency), 10
        )
        node.create_subscription(TwistStamped, 'delta_twist_cmds', self._on_twist, 50)
        node.create_subscription(
            JointTrajectory, 'joint_trajectory', lambda _: self._on_move(), 50
        )

    def ready(self) -> bool:
        """Whether all services are there."""
        return all(client.service_is_ready() for client in self._clients.values())

    def spin(self, duration_s: float) -> None:
        """Listen for a while."""
        end_s = time.monotonic() + duration_s
        while (left_s := end_s - time.monotonic()) > 0:
            self._rclpy.spin_once(self._node, timeout_sec=min(left_s, 0.05))

    def instruct(self, seed: int) -> None:
        """Lay out a scene and give its sentence."""
        task, sentence = SENTENCES[seed % len(SENTENCES)]
        self._call('reset', seed=8000 + seed % 1000, task=task, instruction=sentence)
        self._say.publish(self._string(data=sentence))

    def hold(self) -> dict[str, Any]:
        """Hold, see whether a command moves the arm afterwards, and release."""
        moving = self._wait_for_motion()
        # the recorder hears the topic as well
        heard_by = self._node.get_subscriptions_info_by_topic(self._stop.topic_name)
        can_stop = any(info.node_name == 'action_player' for info in heard_by)
        by_topic = can_stop and self._choice.random() < 0.5
        if by_topic:
            self._stop.publish(self._bool(data=True))
        answered = by_topic or self._call('hold')
        held_s = time.monotonic()
        self.spin(HOLD_WATCH_S)
        late_s = self.moved_s - held_s
        for data in (False, True):
            self._call('enable', data=data)
        missed = not answered or late_s > HOLD_GRACE_S
        return {'by': 'stop' if by_topic else 'hold', 'moving': moving, 'missed': missed,
                'last_command_s': max(late_s, -1.0)}  # fmt: skip

    def _wait_for_motion(self) -> bool:
        """Wait until the arm moves, and a little longer; return whether it does."""
        end_s = time.monotonic() + MOTION_S
        while time.monotonic() < end_s:
            self.spin(self._choice.uniform(0.05, 0.3))
            if time.monotonic() - self.moved_s < 0.1:
                return True
        return False

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        self._rclpy.try_shutdown()

    def _call(self, key: str, **fields: object) -> bool:
        future = self._clients[key].call_async(self._types[key].Request(**fields))
        self._rclpy.spin_until_future_complete(self._node, future, timeout_sec=10.0)
        return future.done() and bool(future.result().success)

    def _on_twist(self, message: Any) -> None:
        twist = message.twist
        parts = [
            getattr(vector, axis) for vector in (twist.linear, twist.angular) for axis in 'xyz'
        ]
        if any(parts):
            self._on_move()

    def _on_move(self) -> None:
        self.moved_s = time.monotonic()


def steps(
    minutes: float, choice: random.Random, operator: Operator
) -> Iterator[dict[str, Any] | None]:
    """Act as an operator for so long; yield holds as they were found, and None between."""
    end_s, seed = time.monotonic() + 60 * minutes, 0
    say_s = hold_s = -np.inf
    while (now_s := time.monotonic()) < end_s:
        if now_s >= say_s:
            operator.instruct(seed)
            seed, say_s = seed + 1, now_s + SENTENCE_S
            hold_s = hold_s if hold_s > 0 else now_s + choice.uniform(3.0, 6.0)
        if now_s >= hold_s:
            yield operator.hold()
            hold_s = time.monotonic() + choice.uniform(*HOLD_EVERY_S)
        operator.spin(0.5)
        yield None


class Samples:
    """What is read off the processes every few seconds, and written."""

    def __init__(self, journal: Journal, processes: Any, log: Path) -> None:
        """Begin at the present end of the log."""
        self._journal, self._processes, self._log = journal, processes, log
        self._place = log.stat().st_size
        self._start_s, self._next_s = time.monotonic(), 0.0

    @property
    def elapsed_s(self) -> float:
        """Time since the beginning [s]."""
        return time.monotonic() - self._start_s

    def take(self, operator: 'Operator') -> None:
        """Write a sample, where one is due."""
        if self.elapsed_s < self._next_s:
            return
        children = self._processes.children.items()
        rss = {name: resident_mb(child.pid) for name, child in children}
        problems, self._place = problems_in(self._log, self._place)
        dead = self._processes.dead().items()
        problems += [f'{name} ended with status {code}' for name, code in dead]
        latencies, operator.latencies = operator.latencies, []
        self._journal.write(
            'sample',
            at_s=self.elapsed_s,
            rss_mb={name: mb for name, mb in rss.items() if mb is not None},
            latencies_s=latencies,
            problems=problems,
        )
        self._next_s = self.elapsed_s + SAMPLE_S


def run(out: Path, minutes: float, warm_up_s: float, seed: int, given: dict[str, str]) -> None:
    """Run the graph for so long and write what happens."""
    from worldvla_ros.graph import describe
    from worldvla_ros.processes.discovery import stay_on_this_machine
    from worldvla_ros.processes.supervisor import Processes

    stay_on_this_machine()
    journal, log, choice = Journal(out / 'soak.jsonl'), out / 'log.txt', random.Random(seed)
    with log.open('a') as stream, tqdm(total=round(60 * minutes), unit='s', desc='soak') as bar:
        processes = Processes(describe({'record': str(out / 'bag'), **given}), stream)
        operator = Operator(choice)
        try:
            wait_until_ready(operator, processes.dead)
            journal.write('start', warm_up_s=warm_up_s, seed=seed, arguments=given)
            samples = Samples(journal, processes, log)
            for hold in steps(minutes, choice, operator):
                if hold is not None:
                    journal.write('hold', **hold)
                samples.take(operator)
                bar.update(round(samples.elapsed_s) - bar.n)
                if processes.dead():
                    break
        finally:
            operator.close()
            processes.stop()


def wait_until_ready(operator: Operator, dead: Callable[[], dict[str, int]]) -> None:
    """Wait for all services.

    Raises:
        SystemExit: They did not come.
    """
    end_s = time.monotonic() + START_S
    while not operator.ready():
        if dead() or time.monotonic() > end_s:
            raise SystemExit(f'the graph did not start: {dead() or "no services"}; see log.txt')
        operator.spin(0.2)


def main() -> int:
    """Run, report, and return 1 where a criterion is not met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--minutes', type=float, default=60.0, help='how long')
    parser.add_argument('--out', type=Path, default=Path('out/soak'), help='folder to write to')
    parser.add_argument(
        '--warm-up', type=float, default=WARM_UP_S, help='memory counts from then on [s]'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the instants of holds')
    parser.add_argument(
        '--resume', action='store_true', help='keep what is there, run what is missing'
    )
    parser.add_argument('--report', action='store_true', help='run nothing, judge what is there')
    parser.add_argument(
        'arguments',
        nargs='*',
        metavar='name:=value',
        help='launch arguments, such as output:=trajectory',
    )
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / 'soak.jsonl'
    if not (given.resume or given.report):
        file.unlink(missing_ok=True)
    done = sum(segment.duration_s for segment in read(file)) / 60
    if not given.report and done < given.minutes:
        pairs = dict(argument.split(':=', 1) for argument in given.arguments)
        run(given.out, given.minutes - done, given.warm_up, given.seed, pairs)
    found = judge(read(file))
    (given.out / 'soak.json').write_text(json.dumps(found, indent=1) + '\n')
    (given.out / 'soak.md').write_text(markdown(found))
    print(markdown(found))
    return 0 if all(found['met'].values()) else 1


if __name__ == '__main__':
    sys.exit(main())
