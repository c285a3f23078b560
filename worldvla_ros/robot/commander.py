"""Setpoints and paths become commands of the kind that a controller takes.

    every control period    command(setpoint, measured tip and joints, stamp, now)
    when the path changed   trajectory(path, now, width)      where the kind is 'trajectory'
    after a stop            reset()

Must not know messages, chunks or controllers' manners (`nodes.bridges` does).
"""

from collections.abc import Sequence

import numpy as np

from worldvla_ros.errors import ConfigError
from worldvla_ros.robot.commands import (
    Command,
    Path,
    Setpoint,
    TrajectoryCommand,
    pose_command,
    position_command,
    trajectory_command,
)
from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.tracking import LONGEST_PERIOD_S, TwistTracker, VelocityTracker

KINDS = ('twist', 'pose', 'trajectory', 'position', 'velocity')
JOINT_KINDS = ('trajectory', 'position', 'velocity')
"""Kinds that need a path of the joints; the others need one of the tip."""
PLACE_KINDS = ('pose', 'trajectory', 'position')
"""Kinds that say where to be; the others say how fast to move."""


def tip_speeds(robot: RobotConfig, kind: str) -> tuple[float, float]:
    """Return how fast the tip may be commanded: [m/s] and [rad/s].

    MoveIt Servo cuts twists at its own scales, whatever their units; asking for more would leave
    the path.
    """
    limits, controller = robot.limits, robot.controller
    if kind != 'twist':
        return limits.linear_speed, limits.angular_speed
    return (
        min(limits.linear_speed, controller.linear_scale),
        min(limits.angular_speed, controller.angular_scale),
    )


class Commander:
    """Makes commands of one kind; remembers what those before must be consistent with."""

    def __init__(
        self,
        robot: RobotConfig,
        velocity: Sequence[float],
        kind: str,
        *,
        acceleration: Sequence[float] | None = None,
        longest_s: float = LONGEST_PERIOD_S,
    ) -> None:
        """Start at rest.

        Args:
            robot: Its limits hold.
            velocity: The tightest speed limits of the joints [rad/s].
            kind: One of `KINDS`.
            acceleration: The tightest limits of the joints [rad/s²]; None takes the description's.
            longest_s: A longer gap between commands allows no larger change of speed than this.

        Raises:
            ConfigError: The kind is unknown.
        """
        if kind not in KINDS:
            raise ConfigError('output', expected=f'one of {", ".join(KINDS)}', got=repr(kind))
        self.kind = kind
        self._positions_only = robot.controller.positions_only
        limits = robot.limits
        self._twists = TwistTracker(
            *tip_speeds(robot, kind),
            limits.linear_acceleration,
            limits.angular_acceleration,
            longest_s=longest_s,
        )
        self._velocities = VelocityTracker(
            np.array(velocity, float),
            np.array(robot.joints.acceleration if acceleration is None else acceleration, float),
            longest_s=longest_s,
        )

    def reset(self) -> None:
        """Begin anew, as after a stop."""
        self._twists.reset()
        self._velocities.reset()

    def command(
        self,
        setpoint: Setpoint,
        tip: np.ndarray,
        joints: np.ndarray,
        stamp_s: float,
        now_s: float,
    ) -> Command | None:
        """Return the command for now; None where the kind is told whole paths.

        Args:
            setpoint: Where the path is now.
            tip: Measured pose float64[4, 4].
            joints: Measured positions float64[n] [rad].
            stamp_s: When that was [s].
            now_s: Present time [s].

        Raises:
            ValueError: The kind needs a path of the joints, and this is one of the tip.
        """
        if self.kind == 'twist':
            return self._twists.command(setpoint, tip, stamp_s, now_s)
        if self.kind == 'velocity':
            return self._velocities.command(setpoint, joints, stamp_s, now_s)
        if self.kind == 'pose':
            return pose_command(setpoint)
        return position_command(setpoint) if self.kind == 'position' else None

    def trajectory(self, path: Path, now_s: float, width: float) -> TrajectoryCommand | None:
        """Return the rest of a path as its controller takes it, or None where there is none.

        Raises:
            ValueError: The path does not end at rest.
        """
        return trajectory_command(path, now_s, width, positions_only=self._positions_only)
