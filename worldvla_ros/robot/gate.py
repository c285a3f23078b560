"""The gate: the last thing before a command leaves for the arm.

    twist       speed, change of speed, and whether the arm can stop inside the workspace and
                before a collision
    pose        the same of the poses that follow one another, and the distance from the arm
    position    ranges, speeds, changes of speed, tip, collisions, and the distance from the arm
    velocity    speeds, changes of speed, and where the joints can be stopped
    trajectory  all of it, knot by knot

Knows limits, the time since the last command and the measured joints. It lets a command pass as
it is, or refuses it with a reason; it never changes one. What makes commands keeps to the same
limits, so that a refusal here means a blocked arm, a wrong measurement or a defect. Must not know
messages or chunks. Times [s] of one clock, whichever the caller uses.
"""

from dataclasses import dataclass, replace
import math

import numpy as np

from worldvla_ros.robot import bounds
from worldvla_ros.robot.bounds import SLACK, Bounds, stopping_way
from worldvla_ros.robot.commands import (
    Command,
    PoseCommand,
    PositionCommand,
    TrajectoryCommand,
    TwistCommand,
    VelocityCommand,
)
from worldvla_ros.robot.kinematics import Arm, rotation_vector
from worldvla_ros.robot.reasons import Reason
from worldvla_ros.robot.state import JointReading
from worldvla_ros.robot.tip import pose_at

FIRST_M, FIRST_RAD = 0.005, 0.02
"""How far from the measured arm a motion may begin."""
LATEST_S = 0.05
"""A command that comes later than this after the last one may go no further than in this time."""
COLLISION_PERIOD_S = 0.05
"""How often single commands are looked at for collisions; whole trajectories are at each knot."""


@dataclass(frozen=True)
class _Last:
    """The last command that passed: where, how fast, when."""

    place: np.ndarray
    speed: np.ndarray
    duration_s: float
    now_s: float


class Gate:
    """Lets commands pass or refuses them; `admit` for each command, `reset` after a stop.

    Attributes:
        longest_s: The longest time that counts between two commands [s].
    """

    def __init__(self, arm: Arm, period_s: float) -> None:
        """Start as after a stop.

        Args:
            arm: Its limits hold here.
            period_s: Time between commands [s].
        """
        self._arm, self._period_s = arm, period_s
        self.longest_s = max(LATEST_S, period_s)
        self._bounds = Bounds(arm)
        self._joint_lag = arm.robot.limits.joint_lag
        self._tip_lag = arm.robot.limits.tip_lag
        self._open_width = arm.robot.gripper.open_width
        self._last: _Last | None = None
        self._looked_s = -math.inf
        self._known: tuple[JointReading, np.ndarray] | None = None

    def reset(self) -> None:
        """Forget the last command, as after a stop; the next one begins where the arm is."""
        self._last, self._looked_s = None, -math.inf

    def admit(
        self, command: Command, measured: JointReading | None, now_s: float
    ) -> Reason | None:
        """Refuse a command that passes a limit, or remember it as sent.

        Args:
            command: What is about to be sent.
            measured: The newest measured joints; None in a dry run, where the arm does not follow.
            now_s: Present time [s].
        """
        reason = self._sound(command, measured, now_s)
        if reason is not None:
            return reason
        duration = self.duration(now_s)
        if duration <= 0:
            text = 'two commands at one time (one per control period)'
            return Reason('command_invalid', text, 'Check the clock.', stamp_s=now_s)
        found = self._judge(command, measured, duration, now_s)
        if isinstance(found, Reason):
            return self._late(found, now_s) or found
        self._last = found
        return None

    def duration(self, now_s: float) -> float:
        """Return the time for the next motion [s]: since the last command, at most `LATEST_S`."""
        if self._last is None:
            return self._period_s
        return min(now_s - self._last.now_s, self.longest_s)

    def _late(self, reason: Reason, now_s: float) -> Reason | None:
        """Return the reason with the load as what to check, where the command came late."""
        since_s = 0.0 if self._last is None else now_s - self._last.now_s
        if since_s <= self.longest_s or reason.remedy != bounds.REPORT_DEFECT:
            return None
        apart = f'commands came {since_s:.2f} s apart and not {self._period_s:g} s'
        return replace(reason, text=f'{reason.text}, as {apart}', remedy=bounds.LATE)

    def _sound(
        self, command: Command, measured: JointReading | None, now_s: float
    ) -> Reason | None:
        """Refuse numbers that are none, and a gripper that cannot open as far."""
        numbers = [v for v in vars(command).values() if isinstance(v, np.ndarray)]
        if measured is not None:
            numbers.append(measured.positions)
        # a sum is not finite where one of its numbers is not
        if not (math.isfinite(command.width) and all(math.isfinite(n.sum()) for n in numbers)):
            text = 'a command with a number that is not finite'
            return Reason('command_invalid', text, bounds.REPORT_DEFECT, stamp_s=now_s)
        if not -SLACK <= command.width <= self._open_width + SLACK:
            text = f'gripper width {command.width:.3f} m (0 to {self._open_width} m)'
            return Reason(
                'gripper', text, bounds.REPORT_DEFECT, command.width, self._open_width, 'm', now_s
            )
        return None

    # ---- one method for each kind of command

    def _judge(
        self, command: Command, measured: JointReading | None, duration: float, now_s: float
    ) -> Reason | _Last:
        """Return why a command may not leave, or what to remember of it."""
        if isinstance(command, TwistCommand):
            return self._twist(command, measured, duration, now_s)
        if isinstance(command, PoseCommand):
            return self._pose(command, measured, duration, now_s)
        if isinstance(command, PositionCommand):
            return self._position(command, measured, duration, now_s)
        if isinstance(command, VelocityCommand):
            return self._velocity(command, measured, duration, now_s)
        return self._trajectory(command, measured, now_s)

    def _twist(
        self, command: TwistCommand, measured: JointReading | None, duration: float, now_s: float
    ) -> Reason | _Last:
        speed = np.concatenate([command.linear, command.angular])
        before = np.zeros(6) if self._last is None else self._last.speed
        reason = self._bounds.tip_speed(speed, now_s) or self._bounds.tip_acceleration(
            (speed - before) / duration, now_s
        )
        if reason is None and measured is not None:
            here = self._pose_of(measured)
            reason = self._bounds.stops_inside(
                here[:3, 3], command.linear, self._period_s, now_s
            ) or self._touches(measured, self._stop(here, command), now_s)
        return reason or _passed(speed, speed, duration, now_s)

    def _pose(
        self, command: PoseCommand, measured: JointReading | None, duration: float, now_s: float
    ) -> Reason | _Last:
        pose, last = command.pose, self._last
        if measured is not None:
            here = self._pose_of(measured)
            near = self._first(self._tip_lag, FIRST_M)
            reason = self._bounds.tip_near(pose, here, near, now_s) or self._touches(
                measured, pose, now_s
            )
            if reason is not None:
                return reason
        if last is None:
            start = pose if measured is None else here
            reason = self._bounds.workspace(start[:3, 3], pose[:3, 3], now_s)
            return reason or _passed(pose, np.zeros(6), duration, now_s)
        moved = pose[:3, 3] - last.place[:3, 3]
        turned = rotation_vector(pose[:3, :3] @ last.place[:3, :3].T)
        speed = np.concatenate([moved, turned]) / duration
        return (
            self._bounds.tip_speed(speed, now_s)
            or self._bounds.tip_acceleration(self._change(speed, last, duration), now_s)
            or self._bounds.workspace(last.place[:3, 3], pose[:3, 3], now_s)
            or _passed(pose, speed, duration, now_s)
        )

    def _position(
        self,
        command: PositionCommand,
        measured: JointReading | None,
        duration: float,
        now_s: float,
    ) -> Reason | _Last:
        place, last = command.positions, self._last
        here = place if measured is None else measured.positions
        start = here if last is None else last.place
        speed = np.zeros(len(place)) if last is None else (place - start) / duration
        reason = (
            self._bounds.joints_near(place, here, self._first(self._joint_lag, FIRST_RAD), now_s)
            or self._bounds.joint_range(start, place, now_s)
            or self._bounds.joint_speed(speed, now_s)
        )
        if reason is None and last is not None:
            reason = self._bounds.joint_acceleration(self._change(speed, last, duration), now_s)
        if reason is None:
            reason = self._tip_of(start, place, duration, now_s, judge_speed=last is not None)
        if reason is None and self._looks(now_s):
            reason = self._bounds.collision(place, now_s)
        return reason or _passed(place, speed, duration, now_s)

    def _velocity(
        self,
        command: VelocityCommand,
        measured: JointReading | None,
        duration: float,
        now_s: float,
    ) -> Reason | _Last:
        speed = command.velocities
        before = np.zeros(len(speed)) if self._last is None else self._last.speed
        reason = self._bounds.joint_speed(speed, now_s) or self._bounds.joint_acceleration(
            (speed - before) / duration, now_s
        )
        if reason is None and measured is not None:
            here = measured.positions
            reason = self._bounds.joints_stop(here, speed, self._period_s, now_s)
            if reason is None:
                tip = self._arm.jacobian(here) @ speed
                position = self._arm.pose(here)[:3, 3]
                reason = self._bounds.tip_speed(tip, now_s) or self._bounds.stops_inside(
                    position, tip[:3], self._period_s, now_s
                )
            if reason is None and self._looks(now_s):
                reason = self._bounds.collision(here, now_s)
        return reason or _passed(speed, speed, duration, now_s)

    def _trajectory(
        self, command: TrajectoryCommand, measured: JointReading | None, now_s: float
    ) -> Reason | _Last:
        """Judge each knot, and the way from one to the next."""
        times, knots = command.times_s, command.positions
        if not len(times) or times[0] <= 0 or (np.diff(times) <= 0).any():
            text = 'a trajectory whose points are not in order of time'
            return Reason('command_invalid', text, bounds.REPORT_DEFECT, stamp_s=now_s)
        for given, judge in (
            (command.velocities, self._bounds.joint_speed),
            (command.accelerations, self._bounds.joint_acceleration),
        ):
            for row in () if given is None else given:
                reason = judge(row, now_s)
                if reason is not None:
                    return reason
        if measured is not None:
            reason = self._bounds.joints_near(knots[0], measured.positions, self._joint_lag, now_s)
            if reason is not None:
                return reason
        start = knots[0] if measured is None else measured.positions
        reason = self._knots(start, knots, np.diff(times), now_s)
        return reason or _passed(knots[0], np.zeros(knots.shape[1]), self._period_s, now_s)

    def _knots(
        self, start: np.ndarray, knots: np.ndarray, steps_s: np.ndarray, now_s: float
    ) -> Reason | None:
        durations = [math.inf, *steps_s.tolist()]  # the controller finds its way to the first
        for before, after, step_s in zip([start, *knots], knots, durations, strict=False):
            reason = (
                self._bounds.joint_range(before, after, now_s)
                or self._bounds.joint_speed((after - before) / step_s, now_s)
                or self._tip_of(before, after, step_s, now_s, judge_speed=True)
                or self._bounds.collision(after, now_s)
            )
            if reason is not None:
                return reason
        return None

    # ---- parts

    def _looks(self, now_s: float) -> bool:
        """Whether it is time to look for collisions again."""
        due = now_s - self._looked_s >= COLLISION_PERIOD_S
        if due:
            self._looked_s = now_s
        return due

    def _touches(self, measured: JointReading, pose: np.ndarray, now_s: float) -> Reason | None:
        """Refuse a pose of the tip in whose joints the arm touches something.

        The controller chooses the joints; those nearest to the measured ones stand for its choice.
        """
        if not (self._arm.looks_for_collisions and self._looks(now_s)):
            return None
        return self._bounds.collision(self._arm.solve(measured.positions, pose).joints, now_s)

    def _stop(self, here: np.ndarray, command: TwistCommand) -> np.ndarray:
        """Return the pose in which the tip can be at rest again: float64[4, 4]."""
        limits = self._arm.robot.limits
        way = stopping_way(command.linear, limits.linear_acceleration, self._period_s)
        turn = stopping_way(command.angular, limits.angular_acceleration, self._period_s)
        return pose_at(np.concatenate([here[:3, 3] + way, turn]), here[:3, :3])

    def _tip_of(
        self,
        start: np.ndarray,
        end: np.ndarray,
        duration: float,
        now_s: float,
        *,
        judge_speed: bool,
    ) -> Reason | None:
        """Judge where the tip goes between two joint positions, and how fast."""
        before, after = self._arm.pose(start), self._arm.pose(end)
        reason = self._bounds.workspace(before[:3, 3], after[:3, 3], now_s)
        if reason is not None or not judge_speed:
            return reason
        turned = rotation_vector(after[:3, :3] @ before[:3, :3].T)
        moved = np.concatenate([after[:3, 3] - before[:3, 3], turned])
        return self._bounds.tip_speed(moved / duration, now_s)

    def _pose_of(self, measured: JointReading) -> np.ndarray:
        """Return the measured pose of the tip; readings are fewer than commands."""
        if self._known is None or self._known[0] is not measured:
            self._known = measured, self._arm.pose(measured.positions)
        return self._known[1]

    def _first(self, lag: float, near: float) -> float:
        """Return how far from the arm a command may be: a motion begins where the arm is."""
        return min(near, lag) if self._last is None else lag

    def _change(self, speed: np.ndarray, last: _Last, duration: float) -> np.ndarray:
        """Return the mean change of speed between the middles of the last two motions [1/s]."""
        return np.asarray((speed - last.speed) / ((duration + last.duration_s) / 2))


def _passed(place: np.ndarray, speed: np.ndarray, duration: float, now_s: float) -> _Last:
    return _Last(np.array(place), np.array(speed), duration, now_s)
