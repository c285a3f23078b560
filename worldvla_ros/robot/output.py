"""From where a path is now to a command that may leave: made by the commander, judged by the gate.

Must not know chunks, or who allows motion. Times [s] of one clock.
"""

from dataclasses import dataclass

import numpy as np

from worldvla_ros.robot.commander import Commander
from worldvla_ros.robot.commands import (
    Command,
    TrajectoryCommand,
    TwistCommand,
    VelocityCommand,
    shortened,
)
from worldvla_ros.robot.gate import Gate
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.path import Path
from worldvla_ros.robot.playing import Setpoint
from worldvla_ros.robot.reasons import Reason
from worldvla_ros.robot.state import JointReading


@dataclass(frozen=True)
class Step:
    """What to send at one instant.

    Attributes:
        command: What to send, or None.
        width: Opening width for the gripper [m]; None tells it nothing.
        halt: Whether to stop at once, as nothing more will follow.
        brake: With `halt`, the planned stop for a controller that plays trajectories by itself.
    """

    command: Command | None = None
    width: float | None = None
    halt: bool = False
    brake: TrajectoryCommand | None = None


NOTHING = Step()


class Output:
    """Commands of one kind; `reset` after each motion."""

    def __init__(self, arm: Arm, kind: str, period_s: float) -> None:
        """Start at rest.

        Args:
            arm: The arm.
            kind: One of `commander.KINDS`.
            period_s: Time between commands [s].

        Raises:
            ConfigError: The kind is unknown.
        """
        self.kind = kind
        self._open_width = arm.robot.gripper.open_width
        limits = arm.robot.limits
        self._tip_gains = limits.linear_acceleration, limits.angular_acceleration
        self._joint_gains = np.asarray(arm.acceleration)
        self._gate = Gate(arm, period_s)
        self._commander = Commander(
            arm.robot, arm.velocity.tolist(), kind,
            acceleration=self._joint_gains.tolist(), longest_s=self._gate.longest_s,
        )  # fmt: skip
        self._sent: Path | None = None
        self._last: tuple[Command, float] | None = None

    def reset(self) -> None:
        """Forget what was sent, as after a stop: the next command begins where the arm is."""
        self._gate.reset()
        self._commander.reset()
        self._sent = self._last = None

    def make(
        self,
        setpoint: Setpoint,
        path: Path | None,
        measured: JointReading | None,
        tip: np.ndarray | None,
        now_s: float,
    ) -> Command | Reason | None:
        """Return the command for now, why it may not leave, or None where none is due.

        Args:
            setpoint: Where the path is now.
            path: The path.
            measured: Where the arm is; None judges as if it were where it should be.
            tip: Measured pose of the tip, float64[4, 4]; None like `measured`.
            now_s: Present time [s].
        """
        return self._judged(self._command(setpoint, path, measured, tip, now_s), measured, now_s)

    def fade(self, measured: JointReading | None, now_s: float) -> Command | Reason | None:
        """Return the next command of a speed that ends within limits, or None where it has ended.

        A path ends at rest, but what corrects an arm that is not on its path need not.
        """
        if self._last is None or now_s <= self._last[1]:
            return None
        last, period_s = self._last[0], self._gate.duration(now_s)
        made: Command | None = None
        if isinstance(last, TwistCommand) and (last.linear.any() or last.angular.any()):
            linear, angular = (
                vector - shortened(vector, gain * period_s)
                for vector, gain in zip((last.linear, last.angular), self._tip_gains, strict=True)
            )
            made = TwistCommand(linear, angular, last.width)
        elif isinstance(last, VelocityCommand) and last.velocities.any():
            most = self._joint_gains * period_s
            made = VelocityCommand(
                last.velocities - np.clip(last.velocities, -most, most), last.width
            )
        return self._judged(made, measured, now_s)

    def _judged(
        self, command: Command | None, measured: JointReading | None, now_s: float
    ) -> Command | Reason | None:
        if command is None:
            return None
        refused = self._gate.admit(command, measured, now_s)
        if refused is None:
            self._last = command, now_s
        return refused or command

    def planned_stop(self, path: Path | None, now_s: float) -> TrajectoryCommand | None:
        """Return a braking path for a controller that would play its trajectory to the end."""
        if self.kind != 'trajectory' or path is None:
            return None
        return self._commander.trajectory(path, now_s, self._open_width)

    def _command(
        self,
        setpoint: Setpoint,
        path: Path | None,
        measured: JointReading | None,
        tip: np.ndarray | None,
        now_s: float,
    ) -> Command | None:
        if self.kind == 'trajectory':  # the controller plays a path by itself
            if path is None or path is self._sent:
                return None
            self._sent = path
            return self._commander.trajectory(path, now_s, setpoint.width)
        if measured is None or tip is None:
            tip, joints = setpoint.tip.pose, np.zeros(0)
            if setpoint.joints is not None:
                joints = setpoint.joints.positions
            return self._commander.command(setpoint, tip, joints, now_s, now_s)
        return self._commander.command(setpoint, tip, measured.positions, measured.stamp_s, now_s)
