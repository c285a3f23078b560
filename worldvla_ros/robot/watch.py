"""All watches on what the arm really does, asked at most 50 times per second.

Joint states come about as often, and the arm moves little in between. Must not know messages or
chunks. Positions [m], angles [rad], times [s].
"""

import math

import numpy as np

from worldvla_ros.robot.following import (
    NOTICED_M,
    NOTICED_RAD,
    Applied,
    BoxWatch,
    CatchUp,
    SpeedWatch,
    Told,
    distance,
    joint_change,
    tip_change,
    tip_lag,
)
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.playing import Setpoint
from worldvla_ros.robot.reasons import Reason
from worldvla_ros.robot.state import JointReading

LATCHING = frozenset({'command_not_applied', 'measured_speed'})
"""What is found wrong with the arm that only the operator can answer."""
LAGGING = frozenset({'joint_lag', 'tip_lag'})
"""After these an arm that is told places must come after before it is told to go on."""

PERIOD_S = 0.02
"""Time between two looks."""
NEAR_M, NEAR_RAD = 0.01, 0.05
"""How near to its command an arm has arrived there: no joint or tip jumps by so little."""
GAP_S = 0.2
"""After so long without a look, what was commanded before is not compared any more."""


class Watch:
    """Compares what is measured with what is commanded and with the limits."""

    def __init__(self, arm: Arm, follow_timeout_s: float) -> None:
        """Start without a command.

        Args:
            arm: Its limits hold.
            follow_timeout_s: How long a commanded motion may take to show [s].
        """
        self._arm, self._limits = arm, arm.robot.limits
        self._tips = Applied(tip_change, NOTICED_M, follow_timeout_s, 'm')
        self._turns = Applied(joint_change, NOTICED_RAD, follow_timeout_s, 'rad')
        self._speed = SpeedWatch(self._limits, arm.velocity, arm.names)
        self._box = BoxWatch(self._limits)
        self.behind = CatchUp(follow_timeout_s)
        self._last: Setpoint | None = None
        self._told = Told()
        self._looked_s = -math.inf
        self._known: tuple[JointReading, np.ndarray] | None = None
        self.error_m = math.nan

    def forget(self) -> None:
        """Begin anew, as when the operator enables the arm."""
        self.behind.forget()
        self.lose()

    def lose(self) -> None:
        """Compare nothing across a gap in joint states or in time."""
        for part in (self._tips, self._turns, self._speed, self._box, self._told):
            part.forget()
        self._looked_s, self.error_m = -math.inf, math.nan

    def restart(self) -> None:
        """The arm rests: the next motion begins where it is."""
        self._tips.restart()
        self._turns.restart()
        self._speed.forget()
        self._box.forget()
        self._told.forget()
        self._looked_s, self.error_m = -math.inf, math.nan

    def tip_of(self, measured: JointReading) -> np.ndarray:
        """Return the measured pose of the tip: float64[4, 4]."""
        if self._known is None or self._known[0] is not measured:
            self._known = measured, self._arm.pose(measured.positions)
        return self._known[1]

    def commanded(self, setpoint: Setpoint) -> None:
        """Take note of what was sent last."""
        self._last = setpoint

    def catch_up(self, measured: JointReading) -> Reason | None:
        """Wait for an arm that is behind, or return that it does not come."""
        last = self._last
        if last is None or not self.behind.waiting:
            self.behind.forget()
            return None
        if last.joints is None:
            place, here, near, unit = (
                last.tip.pose[:3, 3],
                self.tip_of(measured)[:3, 3],
                NEAR_M,
                'm',
            )
        else:
            place, here, near, unit = last.joints.positions, measured.positions, NEAR_RAD, 'rad'
        return self.behind.check(place, here, near, unit, measured.stamp_s)

    def check(self, measured: JointReading, setpoint: Setpoint, now_s: float) -> Reason | None:
        """Refuse to go on with an arm that does something else than it is told."""
        since_s = now_s - self._looked_s
        if 0 <= since_s < PERIOD_S:
            return None
        if math.isfinite(since_s) and not 0 <= since_s <= GAP_S:
            self._tips.forget()
            self._turns.forget()
            self._told.forget()
        self._looked_s = now_s
        tip, commanded = self.tip_of(measured), setpoint.tip.pose
        self._told.add(commanded, now_s)
        then = self._told.at(measured.stamp_s)
        self.error_m = distance(then, tip)
        if setpoint.joints is None:
            applied = self._tips.check(commanded, tip, measured.stamp_s, now_s)
        else:
            told, done = setpoint.joints.positions, measured.positions
            applied = self._turns.check(told, done, measured.stamp_s, now_s)
        return (
            applied
            or self._speed.check(tip, measured.positions, measured.stamp_s)
            or self._box.check(tip[:3, 3], measured.stamp_s)
            or tip_lag(then, tip, self._limits, now_s)
        )
