"""The limits of an arm, each as a question: does this pass it? Answered with a reason, or None.

Knows limits in the form in which they are compared fastest. Must not know commands, or what was
sent before. Positions [m], angles [rad], times [s].
"""

import math

import numpy as np

from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.reasons import Reason

SLACK = 1e-5
"""Room for rounding: of a speed relatively, of a position in its own unit."""
ACCELERATION_SLACK = 0.02
"""The same for accelerations, which are differences of differences and see the clock's grain."""
REPORT_DEFECT = 'Report this as a defect of worldvla_ros, with the log.'
LATE = 'Check the load of this machine; where it is idle, report a defect, with the log.'
SHORTEN = 'Move the arm into the workspace, or enlarge it in the robot description.'


def excess(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return by how much values are outside of a range, negative inside."""
    return np.asarray(np.maximum(low - values, values - high))


def stopping_way(speed: np.ndarray, brake: float | np.ndarray, period_s: float) -> np.ndarray:
    """Return how far each coordinate goes in another period and while it then brakes."""
    return np.asarray(speed * period_s + speed * np.abs(speed) / (2 * brake))


def lag_remedy(field: str) -> str:
    """Return what to do about an arm that is far from its command."""
    return (
        'Check that the arm is free, its controller active and no machine overloaded, or raise '
        f'{field}.'
    )


class Bounds:
    """Limits of the tip and of the joints of one arm."""

    def __init__(self, arm: Arm) -> None:
        """Keep the limits."""
        limits = arm.robot.limits
        self._arm, self._names = arm, arm.names
        self._low = np.array(limits.workspace_minimum)
        self._high = np.array(limits.workspace_maximum)
        self._speeds = (
            ('linear_speed', 'linear speed of the tip', limits.linear_speed, 'm/s'),
            ('angular_speed', 'angular speed of the tip', limits.angular_speed, 'rad/s'),
        )
        self._accelerations = (
            (
                'linear_acceleration',
                'linear acceleration of the tip',
                limits.linear_acceleration,
                'm/s^2',
            ),
            (
                'angular_acceleration',
                'angular acceleration of the tip',
                limits.angular_acceleration,
                'rad/s^2',
            ),
        )
        self._brake = limits.linear_acceleration

    # ---- the tip

    def tip_speed(self, speed: np.ndarray, now_s: float) -> Reason | None:
        """Refuse a speed of the tip, float[6] [m/s, rad/s]."""
        return self._tip(speed, self._speeds, SLACK, now_s)

    def tip_acceleration(self, change: np.ndarray, now_s: float) -> Reason | None:
        """Refuse a change of the tip's speed, float[6] [m/s^2, rad/s^2]."""
        return self._tip(change, self._accelerations, ACCELERATION_SLACK, now_s)

    def _tip(
        self,
        values: np.ndarray,
        limits: tuple[tuple[str, str, float, str], ...],
        slack: float,
        now_s: float,
    ) -> Reason | None:
        x, y, z, a, b, c = values.tolist()
        sizes = math.sqrt(x * x + y * y + z * z), math.sqrt(a * a + b * b + c * c)
        for size, (code, what, limit, unit) in zip(sizes, limits, strict=True):
            if not size <= limit * (1 + slack):
                text = f'{what} {size:.3f} {unit} (limits.{code} {limit} {unit})'
                return Reason(code, text, REPORT_DEFECT, size, limit, unit, now_s)
        return None

    def tip_near(
        self, pose: np.ndarray, measured: np.ndarray, limit: float, now_s: float
    ) -> Reason | None:
        """Refuse a pose whose position is further from the measured one than a limit [m]."""
        x, y, z = (pose[:3, 3] - measured[:3, 3]).tolist()
        lag = math.sqrt(x * x + y * y + z * z)
        if lag <= limit + SLACK:
            return None
        text = f'the tip is {lag:.3f} m from its command (limits.tip_lag {limit} m)'
        return Reason('tip_lag', text, lag_remedy('limits.tip_lag'), lag, limit, 'm', now_s)

    def workspace(self, start: np.ndarray, end: np.ndarray, now_s: float) -> Reason | None:
        """Refuse a tip float[3] that leaves the box, or that is outside and goes further out."""
        beyond = excess(end, self._low, self._high)
        if beyond.max() <= SLACK:
            return None
        allowed = np.maximum(excess(start, self._low, self._high), 0) + SLACK
        if (beyond <= allowed).all():
            return None
        text = (
            f'tip commanded to {(end.round(3) + 0.0).tolist()} m '
            f'(workspace {self._low.tolist()} to {self._high.tolist()} m)'
        )
        return Reason('workspace', text, SHORTEN, float(beyond.max()), 0.0, 'm', now_s)

    def stops_inside(
        self, position: np.ndarray, speed: np.ndarray, period_s: float, now_s: float
    ) -> Reason | None:
        """Refuse a speed from which the tip cannot stop in the box: float[3] [m], [m/s]."""
        way = stopping_way(speed, self._brake, period_s)
        return self.workspace(position, position + way, now_s)

    # ---- the joints

    def joint_range(self, start: np.ndarray, end: np.ndarray, now_s: float) -> Reason | None:
        """Refuse positions that leave their range, or are outside and go further out."""
        low, high = self._arm.minimum, self._arm.maximum
        beyond = excess(end, low, high)
        if beyond.max() <= SLACK:
            return None
        outside = beyond > np.maximum(excess(start, low, high), 0) + SLACK
        if not outside.any():
            return None
        place = int(np.flatnonzero(outside)[0])
        value = float(end[place])
        limit = float(high[place] if value > high[place] else low[place])
        text = (
            f'joint {self._names[place]} commanded to {value:.3f} rad '
            f'({low[place]} to {high[place]} rad)'
        )
        remedy = 'Move the arm away from its joint limits.'
        return Reason('joint_position', text, remedy, value, limit, 'rad', now_s)

    def joints_stop(
        self, positions: np.ndarray, speed: np.ndarray, period_s: float, now_s: float
    ) -> Reason | None:
        """Refuse speeds from which the joints cannot stop in their range."""
        way = stopping_way(speed, self._arm.acceleration, period_s)
        return self.joint_range(positions, positions + way, now_s)

    def joint_speed(self, speed: np.ndarray, now_s: float) -> Reason | None:
        """Refuse speeds float[n] [rad/s]."""
        return self._joint(
            speed, self._arm.velocity, SLACK, ('joint_speed', 'velocity', 'rad/s'), now_s
        )

    def joint_acceleration(self, change: np.ndarray, now_s: float) -> Reason | None:
        """Refuse changes of speed float[n] [rad/s^2]."""
        names = ('joint_acceleration', 'acceleration', 'rad/s^2')
        return self._joint(change, self._arm.acceleration, ACCELERATION_SLACK, names, now_s)

    def _joint(
        self,
        values: np.ndarray,
        limits: np.ndarray,
        slack: float,
        names: tuple[str, str, str],
        now_s: float,
    ) -> Reason | None:
        share = np.abs(values) / limits
        if share.max() <= 1 + slack:
            return None
        code, field, unit = names
        place = int(share.argmax())
        value, limit = float(values[place]), float(limits[place])
        text = (
            f'joint {self._names[place]} commanded at {value:.3f} {unit} '
            f'(joints.{field} {limit} {unit})'
        )
        return Reason(code, text, REPORT_DEFECT, value, limit, unit, now_s)

    def joints_near(
        self, positions: np.ndarray, measured: np.ndarray, limit: float, now_s: float
    ) -> Reason | None:
        """Refuse positions further from the measured ones than a limit [rad]."""
        lags = np.abs(positions - measured)
        place = int(lags.argmax())
        lag = float(lags[place])
        if lag <= limit + SLACK:
            return None
        text = (
            f'joint {self._names[place]} is {lag:.3f} rad from its command '
            f'(limits.joint_lag {limit} rad)'
        )
        remedy = lag_remedy('limits.joint_lag')
        return Reason('joint_lag', text, remedy, lag, limit, 'rad', now_s)

    def collision(self, positions: np.ndarray, now_s: float) -> Reason | None:
        """Refuse positions float[n] in which the arm touches itself or the table."""
        touching = self._arm.collisions(positions)
        if not touching:
            return None
        one, other = touching[0]
        remedy = 'Move the arm away, or correct collision in the robot description.'
        code = 'table' if 'table' in (one, other) else 'self_collision'
        return Reason(code, f'{one} would touch {other}', remedy, stamp_s=now_s)
