"""Forward and inverse kinematics and collisions of a serial arm, from its URDF.

Knows the URDF's part that belongs to the arm, and the description's limits. Must not know
messages, chunks or time. Positions [m], angles [rad]; poses are 4 × 4 matrices of the tip in the
base frame. The library is Pinocchio; docs/kinematics.md says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import daqp
import numpy as np
import pinocchio as pin

from worldvla_ros.errors import RobotError
from worldvla_ros.robot.collision import Collisions
from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.links import links
from worldvla_ros.robot.quaternions import product
from worldvla_ros.robot.urdf import JOINT, ArmUrdf, arm_urdf, read_urdf

DOWN = np.diag([1.0, -1.0, -1.0])
"""Rotation of a gripper that points straight down, fingers opening along y."""
STEP_RAD = 0.2
"""The largest step of a joint in one iteration of inverse kinematics."""
REACHED = 1e-6
"""A miss [m, rad] that is none."""
DAMPING = 1e-8
SINGULAR = 0.02
"""Least singular value of the Jacobian below which joints are held back."""
AXES = pin.ReferenceFrame.LOCAL_WORLD_ALIGNED
TURN_WEIGHT = 0.1
"""How much a radian counts beside a metre, for arms that cannot turn their tip at will."""


@dataclass(frozen=True)
class Solution:
    """What inverse kinematics found.

    Attributes:
        joints: float64[n] [rad], within the limits.
        miss_m: How far the tip is from its target.
        miss_rad: How far it is turned from it.
    """

    joints: np.ndarray
    miss_m: float
    miss_rad: float


class Arm:
    """A serial arm: where its tip is, how it moves, how it gets somewhere, what it touches.

    Limits are the tighter of the URDF's and the description's. Not for several threads at once:
    results of one call are kept in the same memory as the next one's.
    """

    def __init__(self, robot: RobotConfig, urdf: str | None = None) -> None:
        """Build the model.

        Args:
            robot: The description.
            urdf: Text of the URDF; None reads the file that the description names.

        Raises:
            RobotError: The URDF cannot be used, or does not fit the description.
        """
        self.robot = robot
        self.names = robot.joints.names
        part = arm_urdf(read_urdf(robot) if urdf is None else urdf, robot)
        self.minimum, self.maximum, self.velocity = _tightest(robot, part)
        self.acceleration = _least(robot.joints.acceleration, part, 'acceleration')
        self.jerk = _least(robot.joints.jerk, part, 'jerk')
        self.start = _start(robot, self.minimum, self.maximum)
        self._model, shapes = _reduced(robot, part)
        self._data = self._model.createData()
        ids = [self._model.getJointId(JOINT + name) for name in self.names]
        self._columns = np.array([self._model.joints[i].idx_q for i in ids])
        self._order = np.argsort(self._columns)  # from the description's order to the model's
        self._tip, base = (
            self._model.getFrameId(name, pin.FrameType.BODY)
            for name in (robot.tip_frame, robot.base_frame)
        )
        tip, self._from_base = self._model.frames[self._tip], None
        if not self._model.frames[base].placement.isIdentity(1e-12):
            self._from_base = self._model.frames[base].placement.inverse().homogeneous
        before = [place.rotation for place in list(self._model.jointPlacements)[1:]]
        before[0] = self._model.frames[base].placement.rotation.T @ before[0]
        self._turns = [_quaternion(rotation) for rotation in before]
        self._tool_turn = _quaternion(tip.placement.rotation)
        self._axes = np.array(part.axes)[self._order]
        self._weights = np.ones(6)
        if len(self.names) < 6:
            self._weights[3:] = TURN_WEIGHT
        self._singular = SINGULAR * self._weights[-1]
        self.links = tuple(links(part))
        self._collisions = Collisions(robot, part, self._model, shapes, self.start[self._order])

    @property
    def meshes(self) -> tuple[str, ...]:
        """Links whose collision meshes are left out: only primitive shapes are looked at."""
        return self._collisions.meshes

    @property
    def ignored(self) -> tuple[tuple[str, str], ...]:
        """Pairs of links that are not neighbours and touch in the start pose: not looked at."""
        return self._collisions.ignored

    def pose(self, joints: np.ndarray) -> np.ndarray:
        """Return the pose of the tip: float[n] → float64[4, 4]."""
        pin.forwardKinematics(self._model, self._data, np.asarray(joints, float)[self._order])
        pose = pin.updateFramePlacement(self._model, self._data, self._tip).homogeneous
        return np.asarray(pose if self._from_base is None else self._from_base @ pose)

    def poses(self, joints: np.ndarray) -> np.ndarray:
        """Return the pose of the tip for each row: float[k, n] → float64[k, 4, 4]."""
        found = [self.pose(row) for row in joints]
        return np.stack(found) if found else np.zeros((0, 4, 4))

    def jacobian(self, joints: np.ndarray) -> np.ndarray:
        """Return how the tip moves with each joint: float[n] → float64[6, n].

        Linear above angular, about the tip, in the axes of the base frame.
        """
        ordered = np.asarray(joints, float)[self._order]
        matrix = pin.computeFrameJacobian(self._model, self._data, ordered, self._tip, AXES)
        if self._from_base is not None:
            turn = self._from_base[:3, :3]
            matrix = np.vstack([turn @ matrix[:3], turn @ matrix[3:]])
        return np.asarray(matrix[:, self._columns])

    def manipulability(self, joints: np.ndarray) -> float:
        """Return the product of the Jacobian's singular values; 0 where it is singular."""
        return float(np.linalg.svd(self.jacobian(joints), compute_uv=False).prod())

    @property
    def looks_for_collisions(self) -> bool:
        """Whether `collisions` can find any."""
        return self._collisions.looks

    def collisions(self, joints: np.ndarray) -> list[tuple[str, str]]:
        """Return the pairs of links that touch, the table being called `table`: float[n] →."""
        return self._collisions.find(np.asarray(joints, float)[self._order])

    def solve(self, start: np.ndarray, target: np.ndarray, *, iterations: int = 20) -> Solution:
        """Return joints near `start` that bring the tip to a pose, or as near as it got.

        Each step solves a QP: least squares of what the Jacobian promises, within position limits
        and `STEP_RAD`, damped near singular poses. The best of all steps is returned.

        Args:
            start: float[n].
            target: float[4, 4].
            iterations: Steps at most.
        """
        joints = np.clip(np.asarray(start, float), self.minimum, self.maximum)
        best, least = joints, np.inf
        for left in range(iterations, -1, -1):
            error = self._error(joints, target)
            miss = float(np.linalg.norm(error * self._weights))
            if miss < least:
                best, least = joints, miss
            if miss < REACHED or left == 0:
                break
            # a sum may be a rounding beyond a limit that its part was cut to
            joints = np.clip(joints + self._step(joints, error), self.minimum, self.maximum)
        error = self._error(best, target)
        miss_m, miss_rad = (float(np.linalg.norm(part)) for part in (error[:3], error[3:]))
        return Solution(best, miss_m, miss_rad)

    def tip_quaternion(self, joints: np.ndarray) -> np.ndarray:
        """Return the rotation of the tip as a quaternion: float[n] → float64[4], w first.

        A rotation has two quaternions. This is the one that follows the joints without a jump, as
        a simulator that multiplies the quaternions of its bodies has it.
        """
        turn = np.array([1.0, 0.0, 0.0, 0.0])
        for fixed, axis, angle in zip(
            self._turns, self._axes, np.asarray(joints, float)[self._order], strict=True
        ):
            half = angle / 2
            turning = np.concatenate([[np.cos(half)], np.sin(half) * axis])
            turn = product(product(turn, fixed), turning)
        return product(turn, self._tool_turn)

    def _error(self, joints: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return what is missing to a pose: float64[6] [m, rad]."""
        pose = self.pose(joints)
        turn = pin.log3(target[:3, :3] @ pose[:3, :3].T)
        return np.concatenate([target[:3, 3] - pose[:3, 3], turn])

    def _step(self, joints: np.ndarray, error: np.ndarray) -> np.ndarray:
        """Return the step that reduces an error the most, within position and step limits."""
        matrix = self._weights[:, None] * self.jacobian(joints)
        square = matrix.T @ matrix
        smaller = square if len(joints) <= 6 else matrix @ matrix.T
        least = float(np.linalg.eigvalsh(smaller)[0])  # the square of a singular value
        # 1 in a singular pose, 0 far from any
        near = max(0.0, 1.0 - max(0.0, least) ** 0.5 / self._singular)
        low = np.maximum(self.minimum - joints, -STEP_RAD)
        high = np.minimum(self.maximum - joints, STEP_RAD)
        damped = square + (DAMPING + (self._singular * near) ** 2) * np.eye(len(joints))
        wish = -matrix.T @ (self._weights * error)
        step, _, flag, _ = daqp.solve(damped, wish, np.zeros((0, len(joints))), high, low)
        if flag < 1:  # never seen: the problem is convex and its box holds 0
            return np.zeros(len(joints))
        return np.asarray(np.clip(step, low, high))


def _tightest(robot: RobotConfig, part: ArmUrdf) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return minimum, maximum [rad] and velocity [rad/s] of each joint: three float64[n].

    Raises:
        RobotError: A joint has a limit in neither place, or the two leave no room.
    """
    joints = robot.joints
    found = {}
    for field, tighter in (('minimum', max), ('maximum', min), ('velocity', min)):
        given = getattr(joints, field) or (None,) * len(joints.names)
        values = []
        for name, limits, ours in zip(joints.names, part.limits, given, strict=True):
            both = [value for value in (ours, getattr(limits, field)) if value is not None]
            if not both:
                raise RobotError(
                    f'robot {robot.name}: joint {name} has no limit',
                    expected=f'{field} in the URDF or in joints.{field}',
                    got='neither',
                    remedy=f'Add joints.{field} to the robot description.',
                )
            values.append(tighter(both))
        found[field] = _fixed(values)
    low, high = found['minimum'], found['maximum']
    for name, least, most in zip(joints.names, low, high, strict=True):
        if least >= most:
            raise RobotError(
                f'robot {robot.name}: joint {name}',
                expected='limits of the description within those of the URDF',
                got=f'minimum {least:g} and maximum {most:g} [rad] where both hold',
                remedy='Correct joints.minimum and joints.maximum: they are in radians.',
            )
    return low, high, found['velocity']


def _least(ours: Sequence[float], part: ArmUrdf, field: str) -> np.ndarray:
    """Return the smaller of the description's and the URDF's limits, where it has any."""
    both = zip(ours, (getattr(limits, field) for limits in part.limits), strict=True)
    return _fixed([own if its is None else min(own, its) for own, its in both])


def _start(robot: RobotConfig, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the start pose, or the middle of the limits where there is none."""
    return _fixed(robot.joints.start or (low + high) / 2)


def _fixed(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return an array that nobody changes."""
    array = np.array(values, np.float64)
    array.flags.writeable = False
    return array


def _reduced(robot: RobotConfig, part: ArmUrdf) -> tuple[pin.Model, pin.GeometryModel]:
    """Return the model of the arm's joints, all others locked, and its collision shapes."""
    try:
        model = pin.buildModelFromXML(part.xml)
        shapes = pin.buildGeomFromUrdfString(model, part.xml, pin.GeometryType.COLLISION)
    except (RuntimeError, ValueError) as error:
        raise RobotError(
            f'the URDF of robot {robot.name} cannot be used: {error}', remedy='Correct the URDF.'
        ) from error
    rest = pin.neutral(model)
    ids = []
    for name, position in part.locked.items():
        ids.append(model.getJointId(JOINT + name))
        rest[model.joints[ids[-1]].idx_q] = position
    reduced: tuple[pin.Model, pin.GeometryModel] = pin.buildReducedModel(model, shapes, ids, rest)
    return reduced


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """Return the quaternion of a rotation of less than a half turn, w first and not negative."""
    x, y, z, w = pin.Quaternion(rotation).coeffs()
    return np.array([w, x, y, z]) * (-1.0 if w < 0 else 1.0)


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
