"""An arm whose joints are its tip: three along x, y, z, then a rotation vector. No library."""

from dataclasses import replace

import numpy as np

from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot.description import RobotConfig, action_meaning, load_robot
from worldvla_ros.robot.kinematics import Solution, rotation_vector
from worldvla_ros.robot.path import State
from worldvla_ros.robot.schema import ActionMeaning, Joints
from worldvla_ros.robot.state import JointReading
from worldvla_ros.robot.tip import pose_at, tip_state

NAMES = tuple('abcdef')
HOME = np.array([0.5, 0.0, 0.2, 0.0, 0.0, 0.0])
SPEED, GAIN, JERK = 0.4, 3.0, 40.0
TURN, TURN_GAIN, TURN_JERK = 1.0, 8.0, 100.0


def fake_robot(kind='cartesian_delta', **limits) -> RobotConfig:
    names, units = action_meaning(kind, NAMES)
    robot = load_robot('sim_panda')
    numbers = {
        'linear_speed': SPEED,
        'linear_acceleration': GAIN,
        'linear_jerk': JERK,
        'angular_speed': TURN,
        'angular_acceleration': TURN_GAIN,
        'angular_jerk': TURN_JERK,
        'max_slowdown': 4.0,
        **limits,
    }
    return replace(
        robot,
        joints=Joints(NAMES, (GAIN,) * 6, (JERK,) * 6),
        action=ActionMeaning(names, units, kind),
        limits=replace(robot.limits, **numbers),
        collision=replace(robot.collision, check=False),
    )


class FakeArm:
    def __init__(self, kind='cartesian_delta', **limits):
        self.robot = fake_robot(kind, **limits)
        self.minimum, self.maximum = np.full(6, -1.5), np.full(6, 1.5)
        self.velocity = np.full(6, SPEED)
        self.acceleration, self.jerk = np.full(6, GAIN), np.full(6, JERK)
        self.touching: list[tuple[str, str]] = []
        self.reach = np.inf

    def pose(self, joints):
        return pose_at(np.asarray(joints, float), np.eye(3))

    def jacobian(self, joints):
        columns = []
        for column in np.eye(6):
            tip = tip_state(State(np.asarray(joints, float), column, np.zeros(6)), np.eye(3))
            columns.append(np.concatenate([tip.linear, tip.angular]))
        return np.stack(columns, axis=1)

    def solve(self, start, target):
        joints = np.concatenate([target[:3, 3], rotation_vector(target[:3, :3])])
        miss = max(0.0, joints[0] - self.reach)
        return Solution(joints, miss, 0.0)

    def collisions(self, joints):
        return self.touching


def chunk(
    moves, stamp_s=0.0, *, dt=0.05, kind='cartesian_delta', grip=-1.0, number=0
) -> ActionChunk:
    """Return a chunk of these moves, float[k, 6]; grip is one action or one for each."""
    names, units = action_meaning(kind, NAMES)
    moves = np.asarray(moves, float)
    gripper = np.broadcast_to(np.asarray(grip, float), len(moves))
    actions = np.column_stack([moves, gripper]).astype(np.float32)
    scale = np.ones(7, np.float32)
    return ActionChunk(actions, names, units, scale, dt, stamp_s=stamp_s, chunk_id=number)


def along_x(step, count=10) -> np.ndarray:
    moves = np.zeros((count, 6))
    moves[:, 0] = step
    return moves


def reading(joints=HOME, width=0.08, stamp_s=0.0) -> JointReading:
    return JointReading(np.array(joints, float), width, stamp_s)
