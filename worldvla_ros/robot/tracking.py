"""Speeds that keep to a path: those of the path, and a little towards it.

A controller of speeds drifts: what it has really done is only seen in what is measured. Measuring
is late, and the arm follows late, so that the measured place is compared with where the path was
that much earlier; compared with where the path is now, an arm in motion would always seem behind,
be hurried on, and pass its goal.

    speed = what the path does now  +  gain · (path at (stamp - lag)  -  measured at stamp)

Speeds and their changes stay within limits, whatever is measured. Must not know messages, chunks
or clocks: times [s] of one clock, whichever the caller uses.
"""

from collections import deque

import numpy as np

from worldvla_ros.robot.commands import Setpoint, TwistCommand, VelocityCommand, shortened
from worldvla_ros.robot.kinematics import rotation_vector

GAIN = 1.5
"""Share of a deviation that is made up for in a second [1/s]."""
LAG_S = 0.1
"""How long after its command an arm does something, as joint states show it [s]."""
CORRECTION_SHARE = 0.2
"""Largest correction, as a share of the speed limit."""
REMEMBERED = 1024

LONGEST_PERIOD_S = 0.05
"""A longer gap between commands allows no larger change of speed than this; as the gate's."""


class TwistTracker:
    """Makes twists that keep the tip to its path."""

    def __init__(
        self,
        linear_speed: float,
        angular_speed: float,
        linear_acceleration: float,
        angular_acceleration: float,
        *,
        gain: float = GAIN,
        lag_s: float = LAG_S,
        longest_s: float = LONGEST_PERIOD_S,
    ) -> None:
        """Start at rest.

        Args:
            linear_speed: Limit [m/s].
            angular_speed: Limit [rad/s].
            linear_acceleration: Limit [m/s^2].
            angular_acceleration: Limit [rad/s^2].
            gain: See `GAIN`; 0 makes no correction.
            lag_s: See `LAG_S`.
            longest_s: See `LONGEST_PERIOD_S`; more where commands are further apart.
        """
        self._speeds = (linear_speed, angular_speed)
        self._accelerations = (linear_acceleration, angular_acceleration)
        self._gain, self._lag_s, self._longest_s = gain, lag_s, longest_s
        self.reset()

    def reset(self) -> None:
        """Forget the path, as after a stop: the arm is at rest."""
        self._past = _Past()
        self._last = self._towards = (np.zeros(3), np.zeros(3))
        self._stamp_s = np.nan

    def command(
        self, setpoint: Setpoint, measured: np.ndarray, stamp_s: float, now_s: float
    ) -> TwistCommand:
        """Return the twist for now, to be called once per control period.

        Args:
            setpoint: Where the path is now.
            measured: Pose of the tip as measured, float64[4, 4].
            stamp_s: When that was [s].
            now_s: Present time [s].
        """
        tip = setpoint.tip
        since_s = self._past.add(now_s, np.array(tip.pose, float))
        period_s = min(since_s, self._longest_s)
        if stamp_s != self._stamp_s:  # joints are measured less often than commands are made
            self._stamp_s, self._towards = stamp_s, self._correction(measured, stamp_s)
        made = []
        for i, wanted in enumerate((tip.linear, tip.angular)):
            target = shortened(np.asarray(wanted) + self._towards[i], self._speeds[i])
            change = shortened(target - self._last[i], self._accelerations[i] * period_s)
            made.append(self._last[i] + change)
        self._last = (made[0], made[1])
        return TwistCommand(made[0], made[1], setpoint.width)

    def _correction(self, measured: np.ndarray, stamp_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the speeds towards the path, linear and angular: float64[3] each."""
        then = self._past.at(stamp_s - self._lag_s)
        turn = rotation_vector(then[:3, :3] @ measured[:3, :3].T)
        linear, angular = (
            shortened(self._gain * error, CORRECTION_SHARE * limit)
            for error, limit in zip(
                (then[:3, 3] - measured[:3, 3], turn), self._speeds, strict=True
            )
        )
        return linear, angular


class VelocityTracker:
    """Makes joint velocities that keep the joints to their path."""

    def __init__(
        self,
        velocity: np.ndarray,
        acceleration: np.ndarray,
        *,
        gain: float = GAIN,
        lag_s: float = LAG_S,
        longest_s: float = LONGEST_PERIOD_S,
    ) -> None:
        """Start at rest.

        Args:
            velocity: Limits float64[n] [rad/s].
            acceleration: Limits float64[n] [rad/s^2].
            gain: See `GAIN`; 0 makes no correction.
            lag_s: See `LAG_S`.
            longest_s: See `LONGEST_PERIOD_S`; more where commands are further apart.
        """
        self._speed = np.asarray(velocity, float)
        self._acceleration = np.asarray(acceleration, float)
        self._gain, self._lag_s, self._longest_s = gain, lag_s, longest_s
        self.reset()

    def reset(self) -> None:
        """Forget the path, as after a stop: the arm is at rest."""
        self._past = _Past()
        self._last = np.zeros_like(self._speed)

    def command(
        self, setpoint: Setpoint, measured: np.ndarray, stamp_s: float, now_s: float
    ) -> VelocityCommand:
        """Return the velocities for now, to be called once per control period.

        Args:
            setpoint: Where the path is now.
            measured: Joint positions as measured, float64[n] [rad].
            stamp_s: When that was [s].
            now_s: Present time [s].

        Raises:
            ValueError: The path is one of the tip.
        """
        if setpoint.joints is None:
            raise ValueError('a path of the tip has no joint velocities')
        since_s = self._past.add(now_s, np.array(setpoint.joints.positions, float))
        error = self._past.at(stamp_s - self._lag_s) - measured
        most = CORRECTION_SHARE * self._speed
        wanted = setpoint.joints.velocities + np.clip(self._gain * error, -most, most)
        target = np.clip(wanted, -self._speed, self._speed)
        change = self._acceleration * min(since_s, self._longest_s)
        self._last = self._last + np.clip(target - self._last, -change, change)
        return VelocityCommand(self._last.copy(), setpoint.width)


class _Past:
    """Where the path was, for as long as commands remember."""

    def __init__(self) -> None:
        self._known: deque[tuple[float, np.ndarray]] = deque(maxlen=REMEMBERED)

    def add(self, now_s: float, place: np.ndarray) -> float:
        """Remember a place; return the time since the one before [s], 0 at the first."""
        since_s = now_s - self._known[-1][0] if self._known else 0.0
        self._known.append((now_s, place))
        return max(since_s, 0.0)

    def at(self, time_s: float) -> np.ndarray:
        """Return the place that was commanded at a time, or the first one."""
        found: np.ndarray = self._known[0][1]
        for known_s, place in reversed(self._known):
            if known_s <= time_s + 1e-9:
                found = place
                break
        return found
