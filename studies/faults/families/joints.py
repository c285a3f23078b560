"""Joint states: missing, wrong, old, doubled, too many."""

from array import array
from collections import deque
from collections.abc import Callable
import copy
import math
import random

from builtin_interfaces.msg import Time
from sensor_msgs.msg import JointState

from studies.faults.contract import FOLLOW_S, JOINTS_S
from studies.faults.fault import Fault
from studies.faults.trial import Scene


def changed(change: Callable[[JointState], object]) -> Callable[[Scene], None]:
    """Return an injection that passes each joint state through a function."""

    def inject(scene: Scene) -> None:
        scene.hands.filters['joint_states'] = change

    return inject


def restore(scene: Scene) -> None:
    """Let joint states pass as they are."""
    scene.hands.filters.pop('joint_states', None)


def shifted(message: object, by_s: float) -> object:
    """Return a message whose stamp is moved."""
    stamp = message.header.stamp
    total = stamp.sec * 10**9 + stamp.nanosec + round(by_s * 1e9)
    message.header.stamp = Time(sec=total // 10**9, nanosec=total % 10**9)
    return message


def _without(name: str) -> Callable[[JointState], JointState]:
    def change(message: JointState) -> JointState:
        kept = [(n, p) for n, p in zip(message.name, message.position, strict=True) if n != name]
        message.name, message.position = [n for n, _ in kept], array('d', [p for _, p in kept])
        return message

    return change


def _with(index: int, value: float) -> Callable[[JointState], JointState]:
    def change(message: JointState) -> JointState:
        message.position[index] = value
        return message

    return change


def _all_plus(offset: float) -> Callable[[JointState], JointState]:
    def change(message: JointState) -> JointState:
        message.position = array('d', [p + offset for p in message.position])
        return message

    return change


def _scaled(factor: float) -> Callable[[JointState], JointState]:
    def change(message: JointState) -> JointState:
        message.position = array('d', [p * factor for p in message.position])
        return message

    return change


def _shuffled(message: JointState) -> JointState:
    pairs = list(zip(message.name, message.position, strict=True))
    random.shuffle(pairs)
    message.name, message.position = [n for n, _ in pairs], array('d', [p for _, p in pairs])
    return message


def _doubled_name(message: JointState) -> JointState:
    message.name = [*message.name, message.name[0]]
    message.position = array('d', [*message.position, 0.5])
    return message


def _short(message: JointState) -> JointState:
    message.position = array('d', message.position[:-1])
    return message


def _stampless(message: JointState) -> JointState:
    message.header.stamp = Time()
    return message


def _parts(message: JointState) -> list[JointState]:
    """Return the arm and the fingers in a message each."""
    arm, fingers = copy.deepcopy(message), message
    arm.name, arm.position = list(arm.name)[:7], arm.position[:7]
    fingers.name, fingers.position = list(fingers.name)[7:], fingers.position[7:]
    return [fingers, arm]


def _each_alone(message: JointState) -> list[JointState]:
    pairs = zip(message.name, message.position, strict=True)
    return [
        JointState(header=message.header, name=[n], position=array('d', [p])) for n, p in pairs
    ]


def _with_wheels(message: JointState) -> list[JointState]:
    wheels = JointState(header=message.header, name=['wheel_left', 'wheel_right'])
    wheels.position = array('d', [math.nan, 1e9])
    return [message, wheels]


def _flood(message: JointState) -> list[JointState]:
    return [message] * 25


def _frozen() -> Callable[[JointState], JointState]:
    kept: list[JointState] = []

    def change(message: JointState) -> JointState:
        kept.append(message)
        found = copy.deepcopy(kept[0])
        found.header.stamp = message.header.stamp
        return found

    return change


def _late(count: int) -> Callable[[JointState], JointState | None]:
    waiting: deque[JointState] = deque()

    def change(message: JointState) -> JointState | None:
        waiting.append(message)
        return waiting.popleft() if len(waiting) > count else None

    return change


def _swapped() -> Callable[[JointState], list[JointState]]:
    waiting: list[JointState] = []

    def change(message: JointState) -> list[JointState]:
        waiting.append(message)
        if len(waiting) < 2:
            return []
        found = waiting[::-1]
        waiting.clear()
        return found

    return change


def _freeze(scene: Scene) -> None:
    scene.hands.filters['joint_states'] = _frozen()


def _wrong(name: str, how: str, change: Callable, reason: str, **further: object) -> Fault:
    """Return a fault under which the arm must stand still once the last good state is too old."""
    return Fault(name, how, changed(change), JOINTS_S, reason, restore, **further)  # type: ignore[arg-type]


def _right(name: str, how: str, change: Callable, **further: object) -> Fault:
    """Return a disturbance under which the arm must go on."""
    return Fault(name, how, changed(change), remove=restore, **further)  # type: ignore[arg-type]


def _delayed(scene: Scene) -> None:
    scene.hands.filters['joint_states'] = _late(10)


def _out_of_order(scene: Scene) -> None:
    scene.hands.filters['joint_states'] = _swapped()


FAULTS = [
    _wrong('joint states stop', 'relay drops them', lambda m: None, 'joints old'),
    _wrong('joint states stop, trajectory', 'relay drops them', lambda m: None, 'joints old',
           output='trajectory'),
    _wrong('joint states 1 s old', 'stamp moved back', lambda m: shifted(m, -1.0), 'joints old'),
    Fault('joint states come 0.5 s late', 'relay delays them by ten', _delayed, JOINTS_S,
          'joints old', restore),
    _wrong('joint states 2 s ahead', 'stamp moved on', lambda m: shifted(m, 2.0),
           'joints future'),
    _wrong('joint states without a stamp', 'stamp 0', _stampless, 'joints without stamp'),
    _wrong('a joint is missing', 'panda_joint4 left out', _without('panda_joint4'),
           'joints old'),
    _wrong('a finger is missing', 'panda_finger_joint1 left out',
           _without('panda_finger_joint1'), 'joints old'),
    _wrong('a joint is named twice', 'panda_joint1 again, 0.5 rad', _doubled_name,
           'joints twice'),
    _wrong('fewer positions than names', 'last position left out', _short, 'joints count'),
    _wrong('no positions at all', 'empty list', lambda m: JointState(header=m.header,
           name=m.name), 'joints count'),
    _wrong('a position is NaN', 'panda_joint3', _with(2, math.nan), 'joints not finite'),
    _wrong('a position is infinite', 'panda_joint7', _with(6, math.inf), 'joints not finite'),
    _wrong('a finger is NaN', 'panda_finger_joint2', _with(8, math.nan), 'joints not finite'),
    _wrong('all joints 10 rad too far', '10 rad added', _all_plus(10.0), 'joints implausible'),
    _wrong('joints in degrees', 'times 57.3', _scaled(57.29578), 'joints implausible'),
    _wrong('a gripper 100 m wide', 'finger at 100 m', _with(7, 100.0), 'joints implausible'),
    _wrong('position 1e308', 'panda_joint1', _with(0, 1e308), 'joints implausible'),
    Fault('joints frozen under fresh stamps', 'first positions repeated', _freeze, FOLLOW_S,
          'not following', restore, enable=True),
    Fault('joints frozen under fresh stamps, trajectory', 'first positions repeated', _freeze,
          FOLLOW_S, 'not following', restore, enable=True, output='trajectory'),
    _right('joints in another order', 'shuffled each time', _shuffled),
    _right('arm and fingers in two messages', 'fingers first', _parts),
    _right('each joint in a message of its own', 'nine messages', _each_alone, quiet=True),
    _right('wheels on the same topic', 'NaN and 1e9', _with_wheels),
    _right('500 joint states per second', 'each 25 times', _flood),
    Fault('joint states out of order', 'each pair swapped', _out_of_order, remove=restore),
]  # fmt: skip
