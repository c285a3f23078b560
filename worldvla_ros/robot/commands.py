"""From where the path is at an instant to a command for one kind of controller.

    Setpoint ─┬─ tracking.TwistTracker ──── TwistCommand       speeds of the tip
              ├─ pose_command ───────────── PoseCommand        where the tip should be
              ├─ position_command ───────── PositionCommand    where the joints should be
              └─ tracking.VelocityTracker ─ VelocityCommand    speeds of the joints
    Path ──────── trajectory_command ────── TrajectoryCommand  the whole rest, in one message

Must not know messages or chunks. Positions [m], angles [rad], times [s]; everything in the base
frame.
"""

from dataclasses import dataclass, replace
import math
from typing import Protocol

import numpy as np

from worldvla_ros.robot.description import RobotConfig

FIRST_POINT_S = 0.02
"""How far ahead of now a trajectory begins [s]. The controller joins its own state to the first
point smoothly; a point that has passed before the message arrives would be a step instead."""
LEAST_S = 0.5
"""How long a trajectory lasts at least [s]: at rest, where its path ends sooner. Controllers drop
one that is over when it arrives; that of a short stop would be, on a busy machine."""
AT_REST = 1e-5
"""Slowest speed that counts as motion at a trajectory's end [rad/s]."""


class Motion(Protocol):
    """Where joints are, how fast, and how fast that changes: float64[n] or float64[k, n] each."""

    @property
    def positions(self) -> np.ndarray:
        """Positions [rad]."""

    @property
    def velocities(self) -> np.ndarray:
        """Velocities [rad/s]."""

    @property
    def accelerations(self) -> np.ndarray:
        """Accelerations [rad/s^2]."""


class Tip(Protocol):
    """Where the tip is, and how fast."""

    @property
    def pose(self) -> np.ndarray:
        """Pose float64[4, 4]."""

    @property
    def linear(self) -> np.ndarray:
        """Velocity float64[3] [m/s]."""

    @property
    def angular(self) -> np.ndarray:
        """Angular velocity float64[3] [rad/s]."""


class Setpoint(Protocol):
    """Where the path is at an instant."""

    @property
    def joints(self) -> Motion | None:
        """The joints, or None where the path is one of the tip."""

    @property
    def tip(self) -> Tip:
        """The tip."""

    @property
    def width(self) -> float:
        """Opening width of the gripper [m]."""


class Path(Motion, Protocol):
    """Joints over time: knots in equal steps, which `Motion` gives as float64[k, n]."""

    @property
    def start_s(self) -> float:
        """Time of the first knot [s]."""

    @property
    def step_s(self) -> float:
        """Time between knots [s]."""


@dataclass(frozen=True)
class TwistCommand:
    """Speed of the tip in the base frame.

    Attributes:
        linear: float64[3] [m/s].
        angular: float64[3] [rad/s].
        width: Opening width of the gripper [m].
    """

    linear: np.ndarray
    angular: np.ndarray
    width: float


@dataclass(frozen=True)
class PoseCommand:
    """Where the tip should be now.

    Attributes:
        pose: float64[4, 4] in the base frame.
        width: Opening width of the gripper [m].
    """

    pose: np.ndarray
    width: float


@dataclass(frozen=True)
class PositionCommand:
    """Where the joints should be now: float64[n] [rad], in the order of the description."""

    positions: np.ndarray
    width: float


@dataclass(frozen=True)
class VelocityCommand:
    """Speeds of the joints: float64[n] [rad/s], in the order of the description."""

    velocities: np.ndarray
    width: float


@dataclass(frozen=True)
class TrajectoryCommand:
    """The rest of a path.

    Attributes:
        start_s: When it begins [s]; what was commanded before holds up to its first point.
        times_s: Times of the points, counted from there, all later than it: float64[k] [s].
        positions: float64[k, n] [rad].
        velocities: float64[k, n] [rad/s], zero at the end; or None, where only positions are told.
        accelerations: float64[k, n] [rad/s^2]; or None, where only positions are told.
        width: Opening width of the gripper now [m].
    """

    start_s: float
    times_s: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray | None
    accelerations: np.ndarray | None
    width: float


Command = TwistCommand | PoseCommand | PositionCommand | VelocityCommand | TrajectoryCommand


def pose_command(setpoint: Setpoint) -> PoseCommand:
    """Return where the tip should be."""
    return PoseCommand(np.array(setpoint.tip.pose, float), setpoint.width)


def position_command(setpoint: Setpoint) -> PositionCommand:
    """Return where the joints should be.

    Raises:
        ValueError: The path is one of the tip.
    """
    if setpoint.joints is None:
        raise ValueError('a path of the tip has no joint positions')
    return PositionCommand(np.array(setpoint.joints.positions, float), setpoint.width)


def trajectory_command(
    path: Path,
    now_s: float,
    width: float,
    *,
    positions_only: bool = False,
    first_s: float = FIRST_POINT_S,
) -> TrajectoryCommand | None:
    """Return the rest of a path, or None where there is none.

    A path has constant jerk between its knots, so that a controller that joins points by
    quintics follows it exactly. A short one rests at its end for as long as `LEAST_S` asks for.

    Args:
        path: What is played.
        now_s: Present time [s].
        width: Opening width of the gripper [m].
        positions_only: Whether to leave velocities and accelerations out, for a controller that
            makes a spline of positions.
        first_s: How far ahead of now the first point must be [s].

    Raises:
        ValueError: The path does not end at rest.
    """
    times = path.start_s + path.step_s * np.arange(len(path.positions))
    if times[-1] <= now_s:
        return None
    rest = np.flatnonzero(times > now_s + first_s)
    if not len(rest):
        rest = np.array([len(times) - 1])  # always the end, however near
    velocities, accelerations = (
        np.array(path.velocities, float),
        np.array(path.accelerations, float),
    )
    if np.abs(velocities[-1]).max() > AT_REST:
        raise ValueError(f'a path must end at rest, not at {velocities[-1]} rad/s')
    velocities[-1] = accelerations[-1] = 0.0  # joint_trajectory_controller takes nothing else
    times = times - now_s
    if times[-1] < LEAST_S:
        times, rest = np.append(times, LEAST_S), np.append(rest, -1)
    return TrajectoryCommand(
        start_s=now_s,
        times_s=times[rest],
        positions=np.array(path.positions, float)[rest],
        velocities=None if positions_only else velocities[rest],
        accelerations=None if positions_only else accelerations[rest],
        width=width,
    )


def shortened(vector: np.ndarray, limit: float) -> np.ndarray:
    """Return a vector of at most a length, in the same direction."""
    length = math.sqrt(float(vector @ vector))  # np.linalg.norm takes four times as long
    return vector * (limit / length) if length > limit else np.asarray(vector, float)


def unitless(command: TwistCommand, linear_scale: float, angular_scale: float) -> TwistCommand:
    """Return a twist as shares of the scales that MoveIt Servo multiplies it by, at most 1 long.

    Args:
        command: In m/s and rad/s.
        linear_scale: Servo's `scale.linear` [m/s].
        angular_scale: Servo's `scale.rotational` [rad/s].
    """
    linear = shortened(command.linear / linear_scale, 1.0)
    return replace(command, linear=linear, angular=shortened(command.angular / angular_scale, 1.0))


def gripper_width(robot: RobotConfig, action: float) -> float:
    """Return the opening width [m] that a gripper action means: open or closed."""
    gripper = robot.gripper
    return 0.0 if gripper.closes(action) else gripper.open_width
