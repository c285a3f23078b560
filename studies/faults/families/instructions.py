"""Instructions: empty, huge, nonsense, too many, changed in the middle. The policy acts."""

from collections.abc import Callable
import time

from studies.faults.contract import POLICY_S
from studies.faults.fault import Fault
from studies.faults.hands import RELIABLE
from studies.faults.trial import Scene


def _says(text: str) -> Callable[[Scene], None]:
    def inject(scene: Scene) -> None:
        scene.hands.instruct(text)

    return inject


def _again(scene: Scene) -> None:
    """Give a sentence that the scene has."""
    scene.renew()


def _refused(name: str, text: str, reason: str) -> Fault:
    return Fault(name, 'one message', _says(text), POLICY_S, reason, _again, source='policy')


def _taken(name: str, text: str) -> Fault:
    return Fault(name, 'one message', _says(text), remove=_again, source='policy', quiet=True)


def _flood(scene: Scene) -> str:
    count, end = 0, time.monotonic() + 1.5
    while time.monotonic() < end:
        scene.hands.instruct(f'pick up the red cube number {count}')
        count += 1
        time.sleep(0.002)
    return f'{count} sentences'


def _turns(scene: Scene) -> None:
    for number in range(15):
        scene.hands.instruct(f'pick up the {("red", "blue", "green")[number % 3]} cube')
        time.sleep(0.1)


def _same(scene: Scene) -> None:
    for _ in range(100):
        scene.hands.instruct('pick up the red cube')
        time.sleep(0.005)


def _volatile(scene: Scene) -> None:
    scene.hands.instruct('pick up the violet cube', RELIABLE)


def _other_task(scene: Scene) -> None:
    scene.hands.instruct('push the red cube to the left')


FAULTS = [
    _refused('an empty instruction', '', 'instruction taken back'),
    _taken('names of special tokens of other models', '<s><racm3:break></s><reserved08706>'),
    _taken('spaces only', '   '),
    _taken('unknown words', 'make me a sandwich'),
    _taken('other scripts and joined signs', 'подними 红色 \U0001f468\u200d\U0001f469 e\u0301'),
    _taken('control characters', 'pick\x01\x02\x1b[2Jup\r\n\t'),
    _refused('an instruction of 1 MB', 'pick up ' * 125_000, 'instruction refused'),
    Fault('700 instructions per second', 'all different, for 1.5 s', _flood, remove=_again,
          source='policy', quiet=True),
    Fault('the instruction changes ten times per second', 'three in turn', _turns, remove=_again,
          source='policy', quiet=True),
    Fault('one instruction a hundred times', '200 per second', _same, remove=_again,
          source='policy', quiet=True),
    Fault('an instruction from a plain publisher', 'volatile', _volatile, remove=_again,
          source='policy', quiet=True, reason='instruction'),
    Fault('another task in the middle', 'push instead of pick', _other_task, remove=_again,
          source='policy', quiet=True),
]  # fmt: skip
