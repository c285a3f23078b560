"""Clocks: simulated time stops, jumps, runs at another rate, goes negative. A graph of its own."""

from collections.abc import Callable
from dataclasses import dataclass
import time

from builtin_interfaces.msg import Duration, Time
from rosgraph_msgs.msg import Clock
from trajectory_msgs.msg import JointTrajectory

from studies.faults.contract import CHUNK_S, CLOCK_S, JOINTS_S
from studies.faults.fault import Fault
from studies.faults.trial import Scene

ARGUMENTS = {'use_sim_time': 'true'}
STAMPED = ('image', 'joint_states')


def nanoseconds(stamp: Time | Duration) -> int:
    """Return a stamp or a time as a number."""
    return stamp.sec * 10**9 + stamp.nanosec


def stamp(total: int) -> Time:
    """Return a number as a stamp."""
    return Time(sec=total // 10**9, nanosec=total % 10**9)


@dataclass(frozen=True)
class OtherTime:
    """Another time than the arm's own: t = start + factor · (own - start) + shift [ns]."""

    start: int = 0
    shift: int = 0
    factor: float = 1.0

    def of(self, own: int) -> int:
        """Return what the other clock shows, from 0 on."""
        return max(0, self.start + round(self.factor * (own - self.start)) + self.shift)

    def own(self, other: int) -> int:
        """Return what the arm's own clock shows then."""
        return self.start + round((other - self.shift - self.start) / self.factor)

    def put(self, scene: Scene) -> None:
        """Have all nodes live in it: clock and stamps from the arm, trajectories to the arm."""
        hands = scene.hands
        hands.filters['clock'] = lambda m: Clock(clock=stamp(self.of(nanoseconds(m.clock))))
        for topic in STAMPED:
            hands.filters[topic] = self._restamped
        hands.filters['joint_trajectory'] = lambda m: self._back(m, nanoseconds(hands.stamp))
        hands.warp = lambda t: stamp(self.of(nanoseconds(t)))

    def _restamped(self, message: object) -> object:
        message.header.stamp = stamp(self.of(nanoseconds(message.header.stamp)))
        return message

    def _back(self, message: JointTrajectory, now: int) -> JointTrajectory:
        """Return a trajectory in the arm's own time."""
        begin = nanoseconds(message.header.stamp)
        if abs(self.own(begin) - now) > abs(begin - now):
            return message  # it left before the other time began
        for point in message.points:
            since = round(nanoseconds(point.time_from_start) / self.factor)
            point.time_from_start = Duration(sec=since // 10**9, nanosec=since % 10**9)
            point.velocities = [value * self.factor for value in point.velocities]
            point.accelerations = [value * self.factor**2 for value in point.accelerations]
        message.header.stamp = stamp(self.own(begin))
        return message


def _by(offset_s: float) -> Callable[[Scene], None]:
    return OtherTime(shift=round(offset_s * 1e9)).put


def _rate(factor: float) -> Callable[[Scene], None]:
    return lambda scene: OtherTime(nanoseconds(scene.hands.stamp), factor=factor).put(scene)


def _clock_only(change: Callable[[Clock], object]) -> Callable[[Scene], None]:
    def inject(scene: Scene) -> None:
        scene.hands.filters['clock'] = change

    return inject


def restore(scene: Scene) -> None:
    """Let clock and stamps pass as they are."""
    for topic in ('clock', 'joint_trajectory', *STAMPED):
        scene.hands.filters.pop(topic, None)
    scene.hands.warp = None


def _wall(scene: Scene) -> None:
    """Stamp joint states by the clock on the wall."""

    def change(message: object) -> object:
        message.header.stamp = stamp(time.time_ns())
        return message

    scene.hands.filters['joint_states'] = change


def _jumps(scene: Scene) -> None:
    """Set the clock back and on again five times."""
    for number in range(5):
        _by(-20.0 if number % 2 else 20.0)(scene)
        time.sleep(0.3)


def _two_clocks(message: Clock) -> list[Clock]:
    """Return the clock and another, 100 s ahead."""
    ahead = Clock(clock=stamp(nanoseconds(message.clock) + 100 * 10**9))
    return [message, ahead]


def _negative(scene: Scene) -> None:
    for _ in range(3):
        scene.hands.publish_as_sensor('clock', Clock(clock=Time(sec=-5)))
        time.sleep(0.05)


def _activate(scene: Scene) -> None:
    """Activate again what stopped itself."""
    for node in ('action_player', 'policy', 'world_model'):
        if scene.hands.state(node) == 'inactive':
            scene.hands.transition(node, 'activate')


FAULTS = [
    Fault('the clock stops', '/clock dropped', _clock_only(lambda m: None), CLOCK_S, 'clock',
          restore),
    Fault('the clock stops, trajectory', '/clock dropped', _clock_only(lambda m: None), CLOCK_S,
          'clock', restore, output='trajectory'),
    Fault('the clock stops under the policy', '/clock dropped', _clock_only(lambda m: None),
          CLOCK_S, 'clock', restore, source='policy'),
    Fault('the clock stands at zero', '/clock 0', _clock_only(lambda m: Clock()), CLOCK_S,
          'clock', restore),
    Fault('time 100 s ahead', 'clock and stamps moved on', _by(100.0), remove=restore,
          quiet=True),
    Fault('time 5 s back', 'clock and stamps moved back', _by(-5.0), remove=restore, quiet=True),
    Fault('time 5 s back, trajectory', 'clock and stamps moved back', _by(-5.0), remove=restore,
          quiet=True, output='trajectory'),
    Fault('time to and fro by 20 s', 'five jumps', _jumps, remove=restore, quiet=True),
    Fault('time at twice its rate', 'clock and stamps', _rate(2.0), remove=restore, quiet=True,
          lasts_s=1.5),
    Fault('time at 1.5 times its rate, trajectory', 'clock and stamps', _rate(1.5), remove=restore,
          quiet=True, lasts_s=1.5, output='trajectory'),
    Fault('time at a quarter of its rate', 'clock and stamps', _rate(0.25), remove=restore,
          quiet=True, lasts_s=1.5),
    Fault('the clock alone 100 s ahead', 'stamps as they were',
          _clock_only(lambda m: Clock(clock=stamp(nanoseconds(m.clock) + 10**11))), JOINTS_S,
          'joints old', restore),
    Fault('the clock alone 1 s back', 'stamps as they were',
          _clock_only(lambda m: Clock(clock=stamp(max(1, nanoseconds(m.clock) - 10**9)))),
          JOINTS_S + CHUNK_S, 'joints future', restore),
    Fault('two clocks', 'one 100 s ahead of the other', _clock_only(_two_clocks),
          remove=restore, quiet=True),
    Fault('joint states by the clock on the wall', 'stamp exchanged', _wall, JOINTS_S,
          'joints future', restore),
    Fault('a negative clock', '/clock -5 s, three times', _negative, quiet=True,
          remove=_activate, traceback='ValueError|RCLError|OverflowError|RuntimeError'),
]  # fmt: skip
