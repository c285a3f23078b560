"""Forward and inverse kinematics of a serial arm.

Knows Denavit-Hartenberg rows. Must not know messages. Positions [m], angles [rad]; poses are 4 × 4
matrices of the tip in the base frame. Source of the convention: J. Craig, Introduction to
Robotics, section 3.4.
"""

import numpy as np

from worldvla_ros.robot.description import RobotConfig

DOWN = np.diag([1.0, -1.0, -1.0])
"""Rotation of a gripper that points straight down, fingers opening along y."""
DAMPING = 1e-4


def link_poses(robot: RobotConfig, joints: np.ndarray) -> list[np.ndarray]:
    """Return the pose of each joint frame, and of the tip last: float[n] → n + 1 matrices."""
    rows = robot.kinematics
    pose = np.eye(4)
    poses = []
    for a, d, alpha, theta in zip(rows.a, rows.d, rows.alpha, joints, strict=True):
        pose = pose @ _row(a, d, alpha, float(theta))
        poses.append(pose)
    tool = _row(0.0, rows.tool_offset, 0.0, rows.tool_yaw)
    return [*poses, pose @ tool]


def forward(robot: RobotConfig, joints: np.ndarray) -> np.ndarray:
    """Return the pose of the tip: float[n] → float[4, 4]."""
    return link_poses(robot, joints)[-1]


def jacobian(robot: RobotConfig, joints: np.ndarray) -> np.ndarray:
    """Return how the tip moves with each joint: float[n] → float[6, n], linear above angular."""
    *frames, tip = link_poses(robot, joints)
    columns = []
    for frame in frames:
        axis, origin = frame[:3, 2], frame[:3, 3]
        columns.append(np.concatenate([np.cross(axis, tip[:3, 3] - origin), axis]))
    return np.stack(columns, axis=1)


def solve_ik(
    robot: RobotConfig, start: np.ndarray, target: np.ndarray, iterations: int = 8
) -> np.ndarray:
    """Return joints near `start` that bring the tip to a pose, within the joint limits.

    Damped least squares; where the pose cannot be reached, the result is as near as it got.

    Args:
        robot: The arm.
        start: float[n].
        target: float[4, 4].
        iterations: Newton steps.
    """
    low, high = np.asarray(robot.joints.minimum), np.asarray(robot.joints.maximum)
    joints = np.asarray(start, float)
    for _ in range(iterations):
        matrix, pose = jacobian(robot, joints), forward(robot, joints)
        turn = rotation_vector(target[:3, :3] @ pose[:3, :3].T)
        error = np.concatenate([target[:3, 3] - pose[:3, 3], turn])
        damped = matrix @ matrix.T + DAMPING * np.eye(6)
        joints = np.clip(joints + matrix.T @ np.linalg.solve(damped, error), low, high)
    return joints


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """Return axis · angle of a rotation: float[3, 3] → float[3], angle in [0, π]."""
    skew = np.array(
        [matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]
    )
    sine, cosine = np.linalg.norm(skew) / 2, (np.trace(matrix) - 1) / 2
    angle = float(np.arctan2(sine, cosine))
    if sine > 1e-9:
        return np.asarray(skew / (2 * sine) * angle)
    if cosine > 0:
        return np.asarray(skew / 2)
    axis = np.sqrt(np.maximum(np.diag(matrix) + 1, 0) / 2)
    largest = int(axis.argmax())
    signs = np.sign(matrix[largest])
    signs[largest] = 1.0
    return np.asarray(np.pi * axis * np.where(signs == 0, 1.0, signs))


def rotation_matrix(vector: np.ndarray) -> np.ndarray:
    """Return the rotation of axis · angle: float[3] → float[3, 3] (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = np.asarray(vector) / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def tip_quaternion(robot: RobotConfig, joints: np.ndarray) -> np.ndarray:
    """Return the rotation of the tip as a quaternion: float[n] → float[4], w first.

    A rotation has two quaternions. This is the one that follows the joints without a jump, as a
    simulator that multiplies the quaternions of its bodies has it.
    """
    rows = robot.kinematics
    turn = np.array([1.0, 0.0, 0.0, 0.0])
    for alpha, theta in zip(rows.alpha, joints, strict=True):
        turn = _multiply(_multiply(turn, _turn_x(alpha)), _turn_z(float(theta)))
    return _multiply(turn, _turn_z(rows.tool_yaw))


def _turn_x(angle: float) -> np.ndarray:
    return np.array([np.cos(angle / 2), np.sin(angle / 2), 0.0, 0.0])


def _turn_z(angle: float) -> np.ndarray:
    return np.array([np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)])


def _multiply(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the product of two quaternions, w first."""
    (a, u), (b, v) = (first[0], first[1:]), (second[0], second[1:])
    return np.concatenate([[a * b - u @ v], a * v + b * u + np.cross(u, v)])


def _row(a: float, d: float, alpha: float, theta: float) -> np.ndarray:
    """Return Rot_x(alpha) · Trans_x(a) · Rot_z(theta) · Trans_z(d)."""
    ca, sa, ct, st = np.cos(alpha), np.sin(alpha), np.cos(theta), np.sin(theta)
    return np.array(
        [
            [ct, -st, 0, a],
            [st * ca, ct * ca, -sa, -sa * d],
            [st * sa, ct * sa, ca, ca * d],
            [0, 0, 0, 1],
        ]
    )
