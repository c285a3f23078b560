"""From an action at an instant to a command for one kind of controller.

    action [m, rad, 1] ─┬─ twist_command ── TwistCommand   MoveIt Servo: speeds of the tip
                        └─ joint_command ── JointCommand   ros2_control: joint targets

Both keep the tip's target inside the workspace. Must not know messages, chunks or clocks.
Positions [m], angles [rad], times [s]; everything in the base frame.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.kinematics import Arm, rotation_matrix, rotation_vector

NOTICED_CLIP_M = 1e-4
SPEED_SHARE = 0.999
"""How much of a speed limit a shortened joint command uses, so that rounding does not pass it."""
SHORTENINGS = 10


@dataclass(frozen=True)
class TwistCommand:
    """Speed of the tip in the base frame.

    Attributes:
        linear: float64[3] [m/s].
        angular: float64[3] [rad/s].
        width: Opening width of the gripper [m].
        clipped: Whether the workspace ends before the action does.
    """

    linear: np.ndarray
    angular: np.ndarray
    width: float
    clipped: bool = False


@dataclass(frozen=True)
class JointCommand:
    """Joint targets to be reached one control period from now.

    Attributes:
        positions: float64[n] [rad], in the order of the robot description.
        width: Opening width of the gripper [m].
        clipped: Whether the workspace ends before the action does.
    """

    positions: np.ndarray
    width: float
    clipped: bool = False


class TipSpeed(NamedTuple):
    """Distance and angle between two poses of the tip, or their speeds."""

    linear: float
    angular: float


def gripper_width(robot: RobotConfig, action: float) -> float:
    """Return the opening width [m] that a gripper action means: open or closed."""
    gripper = robot.gripper
    return 0.0 if action > gripper.close_above else gripper.open_width


def twist_command(
    arm: Arm, joints: np.ndarray, action: np.ndarray, period_s: float
) -> TwistCommand:
    """Return the twist that makes an action in one control period.

    Args:
        arm: The arm.
        joints: Measured positions, float[n] [rad].
        action: Displacement [m], rotation vector [rad] and gripper action: float[7].
        period_s: Time between commands [s].
    """
    translation, clipped = _clip(arm.robot, arm.pose(joints)[:3, 3], action[:3])
    return TwistCommand(
        translation / period_s,
        action[3:6] / period_s,
        gripper_width(arm.robot, action[6]),
        clipped,
    )


def joint_command(
    arm: Arm, start: np.ndarray, action: np.ndarray, duration_s: float
) -> JointCommand:
    """Return joint targets that make an action, or as much of it as speed limits allow.

    All joints are slowed by one factor, so that the tip keeps to its direction.

    Args:
        arm: The arm.
        start: Where the joints were commanded before, float[n] [rad].
        action: Displacement [m], rotation vector [rad] and gripper action: float[7].
        duration_s: Time for this motion [s].
    """
    pose = arm.pose(start)
    translation, clipped = _clip(arm.robot, pose[:3, 3], action[:3])
    target = pose.copy()
    target[:3, 3] += translation
    target[:3, :3] = rotation_matrix(action[3:6]) @ pose[:3, :3]
    step = arm.solve(start, target).joints - start
    step = _slowed(arm, start, step, duration_s)
    return JointCommand(start + step, gripper_width(arm.robot, action[6]), clipped)


def _clip(
    robot: RobotConfig, start: np.ndarray, translation: np.ndarray
) -> tuple[np.ndarray, bool]:
    """Return the part of a translation that ends inside the workspace, and whether that is less.

    From outside of the box the tip may return, but no faster than the action goes.
    """
    limits = robot.limits
    end = np.clip(start + translation, limits.workspace_minimum, limits.workspace_maximum)
    kept = np.clip(end - start, -np.abs(translation), np.abs(translation))
    return kept, bool(np.abs(kept - translation).max() > NOTICED_CLIP_M)


def _slowed(arm: Arm, start: np.ndarray, step: np.ndarray, duration_s: float) -> np.ndarray:
    """Return a joint step shortened until joints and tip keep to their speed limits."""
    limits = arm.robot.limits
    ratios = np.abs(step) / (arm.velocity * duration_s)
    step = step * min(1.0, SPEED_SHARE / max(float(ratios.max()), 1e-9))
    for _ in range(SHORTENINGS):  # the tip's path bends, so that one may not be enough
        moved = tip_motion(arm, start, start + step)
        needed_s = max(moved.linear / limits.linear_speed, moved.angular / limits.angular_speed)
        if needed_s <= duration_s:
            break
        step = step * (SPEED_SHARE * duration_s / needed_s)
    return step


def tip_motion(arm: Arm, start: np.ndarray, end: np.ndarray) -> TipSpeed:
    """Return how far the tip goes [m] and turns [rad] between two joint positions."""
    before, after = arm.pose(start), arm.pose(end)
    turn = rotation_vector(after[:3, :3] @ before[:3, :3].T)
    distance = float(np.linalg.norm(after[:3, 3] - before[:3, 3]))
    return TipSpeed(distance, float(np.linalg.norm(turn)))
