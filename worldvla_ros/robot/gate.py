"""The gate: the last thing before a command leaves for the arm.

Knows limits, the time since the last command and the measured joints. It lets a command pass as it
is, or refuses it with a reason; it never changes one. What makes commands keeps to the same limits
(`commands`), so that a refusal here means a blocked arm, a wrong measurement or a defect. Must not
know messages or chunks. Times [s] of one clock, whichever the caller uses.
"""

from collections import deque
import math

import numpy as np

from worldvla_ros.robot.commands import JointCommand, TwistCommand, tip_motion
from worldvla_ros.robot.guards import Refusal
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.state import JointReading

SLACK = 1e-5
"""Relative and absolute room for rounding."""
MOVED_RAD = 2e-3
"""A joint that moved less than this stands still."""
STILL_S = 0.5
"""How long an arm may take to begin to follow [s]."""
STILL_TRAVEL_M = 0.02
STILL_TRAVEL_RAD = 0.1
"""Commanded motion that must show in the joints."""
REPORT_DEFECT = 'Report this as a defect of worldvla_ros, with the log.'


class Follower:
    """Notices an arm that stands still though it was commanded to move some time ago.

    Joint states that repeat under new stamps look just like a blocked arm: in both cases the
    measured joints cannot guard the workspace.
    """

    def __init__(self) -> None:
        """Start without a command."""
        self._joints: np.ndarray | None = None
        self._recent: deque[tuple[float, np.ndarray]] = deque()
        self._earlier = np.zeros(2)

    def commanded(self, metres: float, radians: float, now_s: float) -> None:
        """Count a motion of the tip that was commanded."""
        self._recent.append((now_s, np.array([metres, radians])))

    def check(self, joints: np.ndarray, now_s: float) -> Refusal | None:
        """Refuse joints float[n] [rad] that did not move as commanded."""
        if self._joints is None or np.abs(joints - self._joints).max() > MOVED_RAD:
            self._joints, self._earlier = np.array(joints), np.zeros(2)
            self._recent.clear()
        while self._recent and now_s - self._recent[0][0] >= STILL_S:
            self._earlier = self._earlier + self._recent.popleft()[1]
        metres, radians = self._earlier
        if metres <= STILL_TRAVEL_M and radians <= STILL_TRAVEL_RAD:
            return None
        value = f'joints stand still though {metres:.3f} m and {radians:.2f} rad were commanded'
        remedy = (
            'Check that the controller takes commands and that joint states are live, then call '
            '~/enable with true.'
        )
        limit = f'for at most {STILL_S} s'
        return Refusal('arm does not follow', value, limit, now_s, remedy)


class Gate:
    """Lets commands pass or refuses them; `admit` for each command, `reset` after a stop."""

    def __init__(self, arm: Arm, period_s: float) -> None:
        """Start as after a stop.

        Args:
            arm: Its limits hold here.
            period_s: Time between commands, and for which a command holds [s].
        """
        self._arm, self._robot = arm, arm.robot
        self._period_s = period_s
        self._last: JointCommand | None = None
        self._last_s = -np.inf
        self._follower = Follower()

    @property
    def joints(self) -> np.ndarray | None:
        """Where the joints were last commanded, float64[n]; None after a stop."""
        return None if self._last is None else self._last.positions

    def duration(self, now_s: float) -> float:
        """Return the time for the next motion [s]: since the last command, at most a period."""
        return float(np.clip(now_s - self._last_s, 0.0, self._period_s))

    def admit(
        self, command: TwistCommand | JointCommand, joints: JointReading, now_s: float
    ) -> Refusal | None:
        """Refuse a command that passes a limit, or remember it as sent.

        Args:
            command: What is about to be sent.
            joints: The newest measured joints.
            now_s: Present time [s].
        """
        refusal = self._judge(command, joints, now_s)
        if refusal is None:
            self._remember(command, joints, now_s)
        return refusal

    def reset(self) -> None:
        """Forget the last command, as after a stop; the next one begins where the arm is.

        What was commanded since the joints last moved is kept, so that an arm that does not follow
        is not tried again and again.
        """
        self._last, self._last_s = None, -np.inf

    def release(self) -> None:
        """Forget everything, as when the operator enables the arm."""
        self.reset()
        self._follower = Follower()

    def _judge(
        self, command: TwistCommand | JointCommand, joints: JointReading, now_s: float
    ) -> Refusal | None:
        if not _finite(command) or not np.isfinite(joints.positions).all():
            return Refusal(
                'finite command', 'a command that is not finite', 'finite', now_s, REPORT_DEFECT
            )
        limit = self._robot.gripper.open_width
        if not 0 <= command.width <= limit:
            value = f'gripper width {command.width:.3f} m'
            return Refusal('gripper', value, f'0 to {limit} m', now_s, REPORT_DEFECT)
        refusal = self._follower.check(joints.positions, now_s)
        if refusal is not None:
            return refusal
        if isinstance(command, TwistCommand):
            return self._judge_twist(command, joints, now_s)
        return self._judge_joints(command, joints, now_s)

    def _judge_twist(
        self, command: TwistCommand, joints: JointReading, now_s: float
    ) -> Refusal | None:
        """Judge speeds, and where the tip is when the next command comes."""
        start = self._arm.pose(joints.positions)[:3, 3]
        linear, angular = (float(np.linalg.norm(v)) for v in (command.linear, command.angular))
        return self._speed(linear, angular, now_s) or self._workspace(
            start, start + command.linear * self._period_s, now_s
        )

    def _judge_joints(
        self, command: JointCommand, joints: JointReading, now_s: float
    ) -> Refusal | None:
        """Judge speeds since the last command, positions, the tip, and the arm's lag."""
        start = joints.positions if self._last is None else self._last.positions
        duration = self.duration(now_s)
        if duration <= 0:
            value, limit = 'two commands at one time', 'one per control period'
            return Refusal('joint speed', value, limit, now_s, 'Check the clock.')
        moved = tip_motion(self._arm, start, command.positions)
        return (
            self._lag(command, joints, now_s)
            or self._joint_positions(start, command.positions, now_s)
            or self._joint_speed((command.positions - start) / duration, now_s)
            or self._speed(moved.linear / duration, moved.angular / duration, now_s)
            or self._workspace(
                self._arm.pose(start)[:3, 3],
                self._arm.pose(command.positions)[:3, 3],
                now_s,
            )
        )

    def _speed(self, linear: float, angular: float, now_s: float) -> Refusal | None:
        limits = self._robot.limits
        for guard, value, limit, unit in (
            ('linear speed', linear, limits.linear_speed, 'm/s'),
            ('angular speed', angular, limits.angular_speed, 'rad/s'),
        ):
            if not value <= limit * (1 + SLACK):
                name = f'limits.{guard.replace(" ", "_")}'
                found = f'{guard} of the tip {value:.3f} {unit}'
                return Refusal(guard, found, f'{name} {limit} {unit}', now_s, REPORT_DEFECT)
        return None

    def _workspace(self, start: np.ndarray, end: np.ndarray, now_s: float) -> Refusal | None:
        """Refuse a tip that leaves the box, or that is outside and goes further out."""
        limits = self._robot.limits
        low, high = np.array(limits.workspace_minimum), np.array(limits.workspace_maximum)
        if (_excess(end, low, high) <= np.maximum(_excess(start, low, high), 0) + SLACK).all():
            return None
        value = f'tip commanded to {(end.round(3) + 0.0).tolist()} m'
        limit = f'workspace {list(low.tolist())} to {list(high.tolist())} m'
        remedy = 'Move the arm into the workspace, or enlarge it in the robot description.'
        return Refusal('workspace', value, limit, now_s, remedy)

    def _joint_positions(self, start: np.ndarray, end: np.ndarray, now_s: float) -> Refusal | None:
        low, high = self._arm.minimum, self._arm.maximum
        outside = _excess(end, low, high) > np.maximum(_excess(start, low, high), 0) + SLACK
        if not outside.any():
            return None
        place = int(np.flatnonzero(outside)[0])
        value = f'joint {self._arm.names[place]} commanded to {end[place]:.3f} rad'
        limit = f'{low[place]} to {high[place]} rad'
        remedy = 'Move the arm away from its joint limits.'
        return Refusal('joint position', value, limit, now_s, remedy)

    def _joint_speed(self, speeds: np.ndarray, now_s: float) -> Refusal | None:
        velocity = self._arm.velocity
        fast = np.abs(speeds) > velocity * (1 + SLACK)
        if not fast.any():
            return None
        place = int(np.flatnonzero(fast)[0])
        value = f'joint {self._arm.names[place]} commanded at {speeds[place]:.3f} rad/s'
        limit = f'joints.velocity {velocity[place]} rad/s'
        return Refusal('joint speed', value, limit, now_s, REPORT_DEFECT)

    def _lag(self, command: JointCommand, joints: JointReading, now_s: float) -> Refusal | None:
        """Refuse a command far from the arm: a jump, or an arm that does not follow."""
        lags, limit = np.abs(command.positions - joints.positions), self._robot.limits.joint_lag
        place = int(lags.argmax())
        if lags[place] <= limit + SLACK:
            return None
        name = self._robot.joints.names[place]
        value = f'joint {name} is {lags[place]:.3f} rad from its command'
        remedy = 'Check that the arm is free and its controller active, or raise limits.joint_lag.'
        return Refusal('joint lag', value, f'limits.joint_lag {limit} rad', now_s, remedy)

    def _remember(
        self, command: TwistCommand | JointCommand, joints: JointReading, now_s: float
    ) -> None:
        if isinstance(command, JointCommand):
            start = joints.positions if self._last is None else self._last.positions
            metres, radians = tip_motion(self._arm, start, command.positions)
            self._last = command
        else:
            metres, radians = (
                float(np.linalg.norm(v)) * self._period_s
                for v in (command.linear, command.angular)
            )
        self._follower.commanded(metres, radians, now_s)
        self._last_s = now_s


def _finite(command: TwistCommand | JointCommand) -> bool:
    """Whether all numbers of a command are."""
    if isinstance(command, JointCommand):
        moved = [command.positions]
    else:
        moved = [command.linear, command.angular]
    return math.isfinite(command.width) and all(bool(np.isfinite(m).all()) for m in moved)


def _excess(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return by how much values are outside of a range, negative inside."""
    return np.asarray(np.maximum(low - values, values - high))
