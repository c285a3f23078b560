"""What the arm really does, beside what it was told: the joint states have the last word.

    Applied         was the command applied at all? Controllers drop messages silently
    CatchUp         does an arm that is behind come after, once it is told nothing more?
    SpeedWatch      how fast does the arm really move?
    BoxWatch        where is the tip really?
    distance        how far is the tip from where it was told to be?

Each keeps what it needs of the past. Must not know messages, chunks or commands. Positions [m],
angles [rad], times [s] of one clock; poses are float[4, 4] of the tip in the base frame.
"""

from collections import deque
from collections.abc import Callable
import math

import numpy as np

from worldvla_ros.robot.bounds import lag_remedy
from worldvla_ros.robot.description import Limits
from worldvla_ros.robot.kinematics import rotation_vector
from worldvla_ros.robot.reasons import Reason

TURN_M = 0.2
"""Metres that count as much as a radian: what a turn moves at the length of a hand."""
NOTICED_M = 0.01
NOTICED_RAD = 0.05
"""Commanded motion that must show in the joint states; less may be lost in friction."""
FOLLOWED_SHARE = 0.25
"""Share of a commanded motion, in its direction, that shows that it is being followed; more than
what must show is not asked for."""
WINDOW_S = 0.1
"""Speeds are measured over at least this time."""
LONGEST_S = 0.5
"""Readings further apart than this say nothing about speed."""
SPEED_MARGIN = 1.3
"""Controllers overshoot when they catch up: measured speed may be this much above the limit."""
BOX_MARGIN_M = 0.01
"""The measured tip may be this far outside of the workspace."""
FURTHER_M = 0.005
"""An arm that is outside and gets further out than by this is not coming back."""

FREE_IT = (
    'Check that the controller takes commands, that joint states are live and no machine is '
    'overloaded, then call ~/enable with true.'
)

Change = Callable[[np.ndarray, np.ndarray], np.ndarray]


def tip_change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return how a pose changed: float64[6] [m], rotations as `TURN_M` metres per radian."""
    turn = rotation_vector(after[:3, :3] @ before[:3, :3].T)
    return np.concatenate([after[:3, 3] - before[:3, 3], TURN_M * turn])


def joint_change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return how joint positions changed: float64[n] [rad]."""
    return np.asarray(after - before)


def distance(commanded: np.ndarray, measured: np.ndarray) -> float:
    """Return how far the tip is from where it was commanded [m], two poses."""
    x, y, z = (commanded[:3, 3] - measured[:3, 3]).tolist()
    return math.sqrt(x * x + y * y + z * z)


def tip_lag(
    commanded: np.ndarray, measured: np.ndarray, limits: Limits, stamp_s: float
) -> Reason | None:
    """Refuse a tip that is far from where it was commanded, two poses."""
    lag, limit = distance(commanded, measured), limits.tip_lag
    if lag <= limit:
        return None
    text = f'the tip is {lag:.3f} m from its command (limits.tip_lag {limit} m)'
    return Reason('tip_lag', text, lag_remedy('limits.tip_lag'), lag, limit, 'm', stamp_s)


class Told:
    """What was commanded when, as far back as measurements reach."""

    def __init__(self) -> None:
        """Start without a command."""
        self._known: deque[tuple[float, np.ndarray]] = deque()

    def forget(self) -> None:
        """Begin anew."""
        self._known.clear()

    def add(self, place: np.ndarray, now_s: float) -> None:
        """Take what is commanded now."""
        self._known.append((now_s, np.array(place)))

    def at(self, stamp_s: float) -> np.ndarray:
        """Return what was commanded at a time, or first, and drop what was before."""
        while len(self._known) > 1 and self._known[1][0] <= stamp_s:
            self._known.popleft()
        return self._known[0][1]

    def newest(self) -> np.ndarray:
        """Return what was commanded last."""
        return self._known[-1][1]


class Applied:
    """Notices an arm that does not do what it is told, however slowly it is told to move.

    What is commanded and what is measured are compared from a common start, at the stamp of what
    is measured: what was commanded later cannot show in it. Once the commanded motion is large
    enough to show, a share of it, in its direction, must show within a time-out, or as much as is
    large enough; then a new comparison starts. An arm that moves and is slow, as a simulation on a
    busy machine, is the matter of limits on how far it is behind. Joint states that repeat under
    fresh stamps, an arm that is blocked or trembles, a controller that drops messages: all look
    like this.
    """

    def __init__(self, change: Change, noticed: float, timeout_s: float, unit: str) -> None:
        """Start without a command.

        Args:
            change: How two places differ, as a vector.
            noticed: Length of a commanded change that must show.
            timeout_s: How long it may take to show [s].
            unit: Of changes.
        """
        self._change, self._noticed, self._timeout_s = change, noticed, timeout_s
        self._unit = unit
        self._told = Told()
        self.forget()

    def forget(self) -> None:
        """Begin anew, as when the operator enables the arm, or after a gap in what is measured."""
        self._told.forget()
        self._start: tuple[np.ndarray, np.ndarray] | None = None
        self._ended_at: np.ndarray | None = None
        self._missing: np.ndarray | float = 0.0
        self._stamp_s: float | None = None
        self._waited_s: float | None = None

    def restart(self) -> None:
        """Let commands begin at the measured place, as after a stop.

        What is missing of those before still is, unless the arm comes after meanwhile; the time
        at rest does not count.
        """
        if self._start is not None:
            self._missing = self._missing + self._change(self._start[0], self._told.newest())
            self._ended_at = self._start[1]
        self._told.forget()
        self._start = self._stamp_s = None

    def check(
        self, commanded: np.ndarray, measured: np.ndarray, stamp_s: float, now_s: float
    ) -> Reason | None:
        """Refuse a measured place that did not change as the commanded one did.

        Args:
            commanded: Where the arm is told to be.
            measured: Where it was.
            stamp_s: When that was [s]; nothing is judged until there is a later one.
            now_s: Present time [s].
        """
        self._told.add(commanded, now_s)
        told = self._told.at(stamp_s)
        if self._start is None:
            self._begin(told, measured, stamp_s)
            return None
        assert self._stamp_s is not None
        since_s = stamp_s - self._stamp_s
        if since_s <= 0:
            return None
        self._stamp_s = stamp_s
        wanted = self._missing + self._change(self._start[0], told)
        done = self._change(self._start[1], measured)
        length = float(np.linalg.norm(wanted))
        if length < self._noticed:
            self._waited_s = None
            return None
        along = float(done @ wanted) / length
        if along >= min(FOLLOWED_SHARE * length, self._noticed):
            self._missing, self._waited_s = 0.0, None
            self._start = told, np.array(measured)
            return None
        self._waited_s = 0.0 if self._waited_s is None else self._waited_s + since_s
        if self._waited_s <= self._timeout_s:
            return None
        return self._reason(length, along, now_s)

    def _begin(self, told: np.ndarray, measured: np.ndarray, stamp_s: float) -> None:
        """Compare from here on; what was missing and has come after all is missing no more."""
        if self._ended_at is not None:
            missing, done = self._missing, self._change(self._ended_at, measured)
            length = float(np.linalg.norm(missing))
            if float(done @ missing) >= min(FOLLOWED_SHARE * length, self._noticed) * length:
                self._missing, self._waited_s = 0.0, None
            self._ended_at = None
        self._start, self._stamp_s = (told, np.array(measured)), stamp_s

    def _reason(self, length: float, along: float, now_s: float) -> Reason:
        text = (
            f'the arm does not follow: {length:.3f} {self._unit} were commanded and '
            f'{along + 0.0:.3f} {self._unit} of it '
            f'done (follow_timeout {self._timeout_s} s)'
        )
        limit = min(FOLLOWED_SHARE * length, self._noticed)
        return Reason('command_not_applied', text, FREE_IT, along, limit, self._unit, now_s)


class CatchUp:
    """Waits for an arm that was behind its command to come to where that has ended.

    Were the next path to begin where such an arm is, its controller would be told to jump there
    from where it was told to be; and were that measured wrongly, the arm would really jump.
    """

    def __init__(self, timeout_s: float) -> None:
        """Wait for nothing.

        Args:
            timeout_s: How long the arm may take [s].
        """
        self._timeout_s = timeout_s
        self._since_s: float | None = None
        self.waiting = False

    def begin(self) -> None:
        """Wait from now on."""
        self.waiting, self._since_s = True, None

    def forget(self) -> None:
        """Wait no more."""
        self.waiting = False

    def check(
        self, commanded: np.ndarray, measured: np.ndarray, limit: float, unit: str, stamp_s: float
    ) -> Reason | None:
        """Refuse to wait any longer; `waiting` ends where the arm has arrived.

        Args:
            commanded: Place that the arm was told last, float[n].
            measured: Where it was, float[n].
            limit: Largest difference in one coordinate that counts as arrived.
            unit: Of places.
            stamp_s: When it was there [s].
        """
        away = float(np.abs(commanded - measured).max())
        if away <= limit:
            self.forget()
            return None
        self._since_s = stamp_s if self._since_s is None else self._since_s
        if stamp_s - self._since_s <= self._timeout_s:
            return None
        self.forget()
        text = (
            f'the arm does not follow: it stays {away:.3f} {unit} from its last command '
            f'(follow_timeout {self._timeout_s} s)'
        )
        return Reason('command_not_applied', text, FREE_IT, away, limit, unit, stamp_s)


class SpeedWatch:
    """Notices an arm that really moves faster than it may, whoever moves it."""

    def __init__(self, limits: Limits, velocity: np.ndarray, names: tuple[str, ...]) -> None:
        """Start without a measurement.

        Args:
            limits: Those of the tip.
            velocity: Speed limits of the joints, float64[n] [rad/s].
            names: Of the joints.
        """
        self._limits, self._velocity, self._names = limits, np.asarray(velocity), names
        self._past: deque[tuple[float, np.ndarray, np.ndarray]] = deque()

    def forget(self) -> None:
        """Begin anew."""
        self._past.clear()

    def check(self, tip: np.ndarray, joints: np.ndarray, stamp_s: float) -> Reason | None:
        """Refuse a motion that is too fast.

        Args:
            tip: Measured pose.
            joints: Measured positions float[n].
            stamp_s: When that was [s].
        """
        past = self._past
        if past and not 0 < stamp_s - past[-1][0] <= LONGEST_S:
            if stamp_s == past[-1][0]:
                return None
            past.clear()
        past.append((stamp_s, tip, joints))
        while len(past) > 2 and stamp_s - past[1][0] >= WINDOW_S:
            past.popleft()
        start_s, start_tip, start_joints = past[0]
        if stamp_s - start_s < WINDOW_S:
            return None
        return self._judge(
            tip_change(start_tip, tip) / (stamp_s - start_s),
            (joints - start_joints) / (stamp_s - start_s),
            stamp_s,
        )

    def _judge(self, tip: np.ndarray, joints: np.ndarray, stamp_s: float) -> Reason | None:
        place = int((np.abs(joints) / self._velocity).argmax())
        for what, value, field, limit, unit in (
            (
                'tip',
                np.linalg.norm(tip[:3]),
                'limits.linear_speed',
                self._limits.linear_speed,
                'm/s',
            ),
            (
                'hand',
                np.linalg.norm(tip[3:]) / TURN_M,
                'limits.angular_speed',
                self._limits.angular_speed,
                'rad/s',
            ),
            (
                f'joint {self._names[place]}',
                abs(joints[place]),
                'joints.velocity',
                self._velocity[place],
                'rad/s',
            ),
        ):
            most = SPEED_MARGIN * float(limit)
            if value > most:
                text = f'{what} measured at {value:.3f} {unit} ({field} {limit} {unit})'
                remedy = (
                    'Check which controllers move the arm, that joint states have right stamps '
                    'and no machine is overloaded, then call ~/enable with true.'
                )
                return Reason('measured_speed', text, remedy, float(value), most, unit, stamp_s)
        return None


class BoxWatch:
    """Notices a measured tip outside of the workspace, unless it is coming back."""

    def __init__(self, limits: Limits) -> None:
        """Start without a measurement."""
        self._low = np.array(limits.workspace_minimum)
        self._high = np.array(limits.workspace_maximum)
        self._least = np.full(3, np.inf)

    def forget(self) -> None:
        """Let the arm start wherever it is."""
        self._least = np.full(3, np.inf)

    def check(self, position: np.ndarray, stamp_s: float) -> Reason | None:
        """Refuse a position of the tip float[3] outside of the box."""
        beyond = np.maximum(self._low - position, position - self._high)
        self._least = np.minimum(self._least, np.maximum(beyond, 0.0))
        if not ((beyond > BOX_MARGIN_M) & (beyond > self._least + FURTHER_M)).any():
            return None
        text = (
            f'tip measured at {(position.round(3) + 0.0).tolist()} m '
            f'(workspace {self._low.tolist()} to {self._high.tolist()} m)'
        )
        remedy = 'Move the arm back into the workspace, or enlarge it in the robot description.'
        found = float(beyond.max())
        return Reason('measured_workspace', text, remedy, found, BOX_MARGIN_M, 'm', stamp_s)
