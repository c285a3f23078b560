"""Joint states as checkpoints are told them: joints in the robot's order, and the state recipes.

Knows joint names and recipes. Must not know messages. Positions [m], angles [rad].
"""

import numpy as np

from worldvla_ros.errors import ObservationError
from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.kinematics import DOWN, forward, rotation_vector, tip_quaternion


def robosuite_axis_angle(quaternion: np.ndarray) -> np.ndarray:
    """Return axis · angle of a quaternion as robosuite computes it: float[4] → float64[3] [rad].

    The quaternion is (x, y, z, w). The angle is 2 · arccos(w), in [0, 2π], and is not brought to
    [0, π]: a quaternion and its negative, which are one rotation, give different vectors. The
    published checkpoints were trained on just these numbers (robosuite 1.4
    `transform_utils.quat2axisangle`).
    """
    x, y, z, w = np.asarray(quaternion, np.float64)
    w = np.clip(w, -1.0, 1.0)
    sine = np.sqrt(1.0 - w * w)
    if sine == 0.0:
        return np.zeros(3)
    return np.array([x, y, z]) * 2.0 * np.arccos(w) / sine


def order_joints(
    robot: RobotConfig, names: list[str], positions: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the arm's joints in the robot's order, and the gripper's opening width [m].

    Args:
        robot: Says which joints are needed.
        names: Names as they came, in any order, others among them.
        positions: float[len(names)].

    Raises:
        ObservationError: A joint is missing or not finite, or the lists differ in length.
    """
    if len(names) != len(positions):
        raise ObservationError(
            'joint state', expected=f'{len(names)} positions, one per name', got=len(positions)
        )
    known = dict(zip(names, np.asarray(positions, float).tolist(), strict=True))
    wanted = [*robot.joints.names, *robot.gripper.names]
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ObservationError(
            f'joint {missing[0]} is missing from the joint state',
            expected=f'positions of {", ".join(wanted)}',
            got=', '.join(names) or 'no joint',
            remedy='Publish all joints of the robot description on one joint state topic.',
        )
    values = np.array([known[name] for name in wanted])
    if not np.isfinite(values).all():
        bad = wanted[int(np.flatnonzero(~np.isfinite(values))[0])]
        raise ObservationError(
            f'the position of joint {bad} is not finite', remedy='Check the joint state publisher.'
        )
    count = len(robot.joints.names)
    return values[:count], float(values[count:].sum())


def tcp_pose_width(robot: RobotConfig, joints: np.ndarray, width: float) -> np.ndarray:
    """Return the state recipe of that name: float32[7].

    Position of the tip [m], its rotation vector from straight down [rad], opening width [m].
    """
    pose = forward(robot, joints)
    turn = rotation_vector(pose[:3, :3] @ DOWN.T)
    return np.concatenate([pose[:3, 3], turn, [width]]).astype(np.float32)


def libero_pose_fingers(robot: RobotConfig, joints: np.ndarray, width: float) -> np.ndarray:
    """Return the state recipe of that name, LIBERO's: float32[8].

    Position of the tip in the world [m], robosuite's axis · angle of the hand [rad] (see
    `robosuite_axis_angle`), and the positions of both fingers, the second negative [m].
    """
    position = forward(robot, joints)[:3, 3] + np.asarray(robot.kinematics.base)
    turn = robosuite_axis_angle(np.roll(tip_quaternion(robot, joints), -1))
    return np.concatenate([position, turn, [width / 2, -width / 2]]).astype(np.float32)


STATE_RECIPES = {
    'tcp_pose_width': tcp_pose_width,
    'libero_pose_fingers': libero_pose_fingers,
}


def state_from_joints(
    robot: RobotConfig, recipe: str, names: list[str], positions: np.ndarray
) -> np.ndarray:
    """Return the robot state that a checkpoint asks for, from a joint state.

    Raises:
        ObservationError: A joint is missing or not finite, or the recipe is unknown.
    """
    if recipe not in STATE_RECIPES:
        raise ObservationError(
            'state recipe', expected=f'one of {", ".join(STATE_RECIPES)}', got=repr(recipe)
        )
    return STATE_RECIPES[recipe](robot, *order_joints(robot, names, positions))
