"""Chunks from others: forged, late, too fast, out of order, in the midst of good ones."""

from array import array
from collections.abc import Callable
import math
import time

from builtin_interfaces.msg import Time
import numpy as np

from studies.faults.contract import CHUNK_S
from studies.faults.families.joints import shifted
from studies.faults.fault import Fault
from studies.faults.hands import HORIZON, NAMES, UNITS
from studies.faults.trial import Scene

REPEATS = 8
REPEAT_S = 0.1


def still(**values: float) -> np.ndarray:
    """Return ten equal actions; those not named are 0, and the gripper opens."""
    actions = np.zeros((HORIZON, 7), np.float32)
    actions[:, 6] = -1.0
    for name, value in values.items():
        actions[:, NAMES.index(name)] = value
    return actions


def _one(value: float) -> np.ndarray:
    actions = still(dy=0.3)
    actions[4, 1] = value
    return actions


def repeated(make: Callable[[Scene], object]) -> Callable[[Scene], None]:
    """Return an injection of several chunks between the good ones."""

    def inject(scene: Scene) -> None:
        for _ in range(REPEATS):
            scene.hands.say(make(scene), 'action_chunk')
            time.sleep(REPEAT_S)

    return inject


def _forged(actions: np.ndarray | None = None, **changes: object) -> Callable[[Scene], None]:
    return repeated(lambda scene: scene.hands.chunk(actions, **changes))


def _aged(by_s: float) -> Callable[[Scene], None]:
    return repeated(lambda scene: shifted(_own_stamp(scene.hands.chunk()), by_s))


def _own_stamp(chunk: object) -> object:
    """Return a chunk that does not share its stamp with others."""
    stamp = chunk.header.stamp
    chunk.header.stamp = Time(sec=stamp.sec, nanosec=stamp.nanosec)
    return chunk


def _refused(name: str, reason: str, inject: Callable, how: str = '', **more: object) -> Fault:
    """Return a forged chunk beside good ones, which are played on."""
    return Fault(name, how or 'published 8 times between good chunks', inject, reason=reason,
                 **more)  # type: ignore[arg-type]  # fmt: skip


def _alone(actions: np.ndarray, **changes: object) -> Callable[[Scene], None]:
    """Return an injection of one chunk, with no other before or after it."""

    def inject(scene: Scene) -> None:
        scene.hands.feeding = False
        scene.hands.say(scene.hands.chunk(actions, **changes), 'action_chunk')

    return inject


def feed(scene: Scene) -> None:
    """Let good chunks flow again."""
    scene.hands.feeding = True


def straight(scene: Scene) -> None:
    """Let good chunks flow again, from where the arm began."""
    feed(scene)
    scene.renew()


def _outwards(**values: float) -> Callable[[Scene], None]:
    """Return an injection of legal chunks that lead out of the workspace for 3 s."""

    def inject(scene: Scene) -> None:
        scene.hands.feeding = False
        end = time.monotonic() + 3.0
        while time.monotonic() < end:
            scene.hands.say(scene.hands.chunk(still(**values)), 'action_chunk')
            time.sleep(0.2)

    return inject


def _backwards(scene: Scene) -> None:
    """Send chunks whose order is turned round, pair by pair."""
    for _ in range(REPEATS):
        one = _own_stamp(scene.hands.chunk())
        time.sleep(REPEAT_S)
        scene.hands.say(scene.hands.chunk(), 'action_chunk')
        scene.hands.say(one, 'action_chunk')


def _twice(scene: Scene) -> None:
    for _ in range(REPEATS):
        chunk = scene.hands.chunk()
        for _ in range(2):
            scene.hands.say(chunk, 'action_chunk')
        time.sleep(REPEAT_S)


def _same_number(scene: Scene) -> None:
    repeated(lambda scene: scene.hands.chunk(chunk_id=1))(scene)


def _flood(scene: Scene) -> str:
    count, end = 0, time.monotonic() + 1.5
    while time.monotonic() < end:
        scene.hands.say(scene.hands.chunk(), 'action_chunk')
        count += 1
        time.sleep(0.002)
    return f'{count} chunks'


def _huge_flood(scene: Scene) -> None:
    big = scene.hands.chunk(np.zeros((20000, 7), np.float32))
    for _ in range(REPEATS):
        scene.hands.say(big, 'action_chunk')
        time.sleep(REPEAT_S)


def _opposed(scene: Scene) -> None:
    """Two policies at once: one leads left, one right, each at full speed."""
    for number in range(2 * REPEATS):
        way = 1.0 if number % 2 else -1.0
        scene.hands.say(scene.hands.chunk(still(dy=way)), 'action_chunk')
        time.sleep(REPEAT_S / 2)


def _stops(scene: Scene) -> None:
    scene.hands.feeding = False


def _one_every_second(scene: Scene) -> None:
    scene.hands.feeding = False
    for _ in range(3):
        scene.hands.say(scene.hands.chunk(), 'action_chunk')
        time.sleep(1.0)


FAULTS = [
    _refused('a NaN action', 'chunk values', _forged(_one(math.nan))),
    _refused('an infinite action', 'chunk values', _forged(_one(math.inf))),
    _refused('an action of 1e30', 'chunk values', _forged(_one(1e30))),
    _refused('an action just out of range', 'chunk values', _forged(_one(-1.01))),
    _refused('a NaN gripper action', 'chunk values', _forged(still(gripper=math.nan))),
    _refused('six numbers per action', 'chunk meaning', _forged(still()[:, :6])),
    _refused('fewer numbers than horizon x dim', 'chunk size', _forged(horizon=HORIZON + 1)),
    _refused('horizon 4294967295', 'chunk size', _forged(horizon=2**32 - 1)),
    _refused('an empty chunk', 'chunk size', _forged(np.zeros((0, 7)))),
    _refused('no action names', 'chunk meaning', _forged(action_names=[])),
    _refused('names in another order', 'chunk meaning', _forged(action_names=list(NAMES[::-1]))),
    _refused('joint names as actions', 'chunk meaning',
             _forged(action_names=[f'panda_joint{i}' for i in range(1, 8)])),
    _refused('millimetres', 'chunk meaning', _forged(action_units=['mm', *UNITS[1:]])),
    _refused('scale NaN', 'chunk meaning', _forged(action_scale=array('f', [math.nan] * 7))),
    _refused('scale 1e30', 'chunk speed', _forged(action_scale=array('f', [1e30] * 7))),
    _refused('scale of six numbers', 'chunk meaning',
             _forged(action_scale=array('f', [0.02] * 6))),
    _refused('dt 0', 'chunk period', _forged(dt=0.0)),
    _refused('dt negative', 'chunk period', _forged(dt=-0.05)),
    _refused('dt NaN', 'chunk period', _forged(dt=math.nan)),
    _refused('dt infinite', 'chunk period', _forged(dt=math.inf)),
    _refused('dt 1e9', 'chunk period', _forged(dt=1e9)),
    _refused('dt 1e-9', 'chunk period', _forged(dt=1e-9)),
    _refused('dt of 100 Hz', 'chunk speed', _forged(dt=0.01)),
    _refused('a chunk 5 s old', 'chunk late', _aged(-5.0)),
    _refused('a chunk 2 s ahead', 'chunk future', _aged(2.0)),
    _refused('a chunk without a stamp', 'chunk late',
             repeated(lambda s: _stampless(s.hands.chunk()))),
    _refused('a chunk that took 3 s', 'chunk slow', _forged(latency=3.0)),
    _refused('a latency of NaN', 'chunk slow', _forged(latency=math.nan)),
    _refused('a chunk of 400 actions', 'chunk duration', _forged(np.tile(still(dy=0.2), (40, 1)))),
    _refused('chunks of 20 000 actions', 'chunk duration', _huge_flood),
    _refused('1.4 m/s', 'chunk speed', _forged(still(dx=1.0, dy=1.0, dz=1.0),
             action_scale=array('f', [0.04] * 3 + [0.1] * 3 + [1.0]))),
    _refused('20 rad/s', 'chunk speed', _forged(still(drz=1.0),
             action_scale=array('f', [0.02] * 3 + [1.0] * 3 + [1.0]))),
    Fault('one chunk and then none', 'feeder stops after it', _alone(still(dy=0.4)), CHUNK_S,
          'no chunk', feed),
    Fault('chunks stop', 'feeder stops', _stops, CHUNK_S, 'no chunk', feed),
    Fault('chunks stop, trajectory', 'feeder stops', _stops, CHUNK_S, 'no chunk', feed,
          output='trajectory'),
    Fault('one chunk per second', 'feeder stops, three chunks', _one_every_second, quiet=True,
          remove=feed),
    Fault('down through the table', 'legal chunks for 3 s', _outwards(dz=-1.0), quiet=True,
          reason='edge', remove=feed, enable=None),
    Fault('out to the side', 'legal chunks for 3 s', _outwards(dy=1.0), quiet=True,
          reason='edge', remove=feed, enable=None),
    Fault('out and spinning, trajectory', 'legal chunks for 3 s',
          _outwards(dx=1.0, drx=1.0, dry=1.0), quiet=True, remove=straight, enable=None,
          output='trajectory'),
    Fault('far spins', 'legal chunks for 3 s', _outwards(drx=1.0, dry=1.0, drz=1.0), quiet=True,
          remove=straight, enable=None),
    Fault('far spins, trajectory', 'legal chunks for 3 s',
          _outwards(drx=1.0, dry=1.0, drz=1.0), quiet=True, remove=straight, enable=None,
          output='trajectory'),
    Fault('down through the table, trajectory', 'legal chunks for 3 s', _outwards(dz=-1.0),
          quiet=True, remove=feed, enable=None, output='trajectory'),
    Fault('chunks out of order', 'pairs turned round', _backwards),
    Fault('chunks doubled', 'each twice', _twice),
    Fault('one chunk number for all', 'chunk_id 1', _same_number),
    Fault('500 chunks per second', 'good ones, for 1.5 s', _flood),
    Fault('two policies that disagree', 'left and right in turn', _opposed),
    Fault('two policies that disagree, trajectory', 'left and right in turn', _opposed,
          output='trajectory'),
    Fault('actions in another frame', 'header.frame_id "camera"',
          repeated(lambda s: _framed(s.hands.chunk())), reason='chunk frame'),
]  # fmt: skip


def _stampless(chunk: object) -> object:
    chunk.header.stamp = Time()
    return chunk


def _framed(chunk: object) -> object:
    chunk.header.frame_id = 'camera'
    return chunk
