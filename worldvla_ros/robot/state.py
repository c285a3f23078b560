"""Joint states: merged from several publishers, validated, and put into the state recipes.

Knows joint names, plausible values and recipes. Must not know messages. Positions [m], angles
[rad], times [s] of one clock, whichever the caller uses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np

from worldvla_ros.errors import ObservationError
from worldvla_ros.robot.clock import StampClock
from worldvla_ros.robot.kinematics import DOWN, Arm, rotation_vector
from worldvla_ros.robot.reasons import Reason

JOINT_MARGIN_RAD = 0.1
"""A real joint may rest a little beyond its limit; further beyond, the reading is not believed."""
WIDTH_MARGIN = 0.25
"""The same for the gripper, as a share of its opening width."""
FUTURE_SLACK_S = 0.1


class JointError(ObservationError):
    """Joint states that cannot be used; says why as a `Reason` too."""

    def __init__(
        self,
        code: str,
        problem: str,
        *,
        found: tuple[float, float, str] = (math.nan, math.nan, ''),
        stamp_s: float = 0.0,
        expected: object | None = None,
        got: object | None = None,
        remedy: str,
    ) -> None:
        """Word the message.

        Args:
            code: One of `reasons.CODES`.
            problem: What is wrong, naming the joint.
            found: Value, limit and unit, where there are such.
            stamp_s: Stamp of the joint state [s].
            expected: What would have been right.
            got: What came instead.
            remedy: What the operator can do.
        """
        super().__init__(problem, expected=expected, got=got, remedy=remedy)
        text = str(self).removesuffix(f'. {remedy}')
        self.reason = Reason(code, text, remedy, *found, stamp_s)


@dataclass(frozen=True)
class JointReading:
    """Where the robot's joints are.

    Attributes:
        positions: float64[n] [rad], in the order of the robot description.
        width: Opening width of the gripper [m].
        stamp_s: Stamp of the oldest value in it [s].
    """

    positions: np.ndarray
    width: float
    stamp_s: float


class JointBuffer:
    """The newest position of each joint, whichever message it came in.

    Arm and gripper usually have a publisher each, and other publishers (wheels, a torso) may share
    the topic. Each joint has a stamp of its own, so that one publisher that stops is noticed while
    another goes on.
    """

    def __init__(self, arm: Arm, max_age_s: float) -> None:
        """Start empty.

        Args:
            arm: Says which joints are needed and which positions are plausible.
            max_age_s: The oldest position that `newest` returns [s].
        """
        self._arm, self._robot = arm, arm.robot
        self._max_age_s = max_age_s
        self._needed = (*arm.names, *arm.robot.gripper.names)
        self._ranges = {name: self._plausible(name) for name in self._needed}
        self._values: dict[str, tuple[float, float]] = {}  # name: (position, stamp)
        self._clock = StampClock()
        self._known: tuple[JointReading, float] | None = None  # and its newest stamp

    def put(self, names: Sequence[str], positions: np.ndarray, stamp_s: float) -> None:
        """Take a joint state: any joints, in any order; those of other devices are ignored.

        A message that is refused changes nothing. One that is older than what is known is ignored,
        unless it is so much older that the clock was set back: then all that was known is dropped.

        Args:
            names: Joint names.
            positions: float[len(names)].
            stamp_s: Time of the measurement [s].

        Raises:
            JointError: The lists differ in length, a joint is named twice, the stamp is
                missing, or a position is not finite or not plausible.
        """
        if self._ranges.keys().isdisjoint(names):
            return
        found = self._select(names, np.asarray(positions, float))
        if not (np.isfinite(stamp_s) and stamp_s > 0):
            raise JointError(
                'joints_invalid',
                'joint state without a time stamp',
                got=f'stamp {stamp_s} s',
                remedy='Set header.stamp in the joint state publisher.',
            )
        for name, position in found.items():
            self._check_plausible(name, position)
        self._known = None
        if self._clock.set_back(stamp_s):
            self._values.clear()
        for name, position in found.items():
            if stamp_s >= self._values.get(name, (0.0, 0.0))[1]:
                self._values[name] = position, stamp_s

    def newest(self, now_s: float) -> JointReading:
        """Return the newest positions of all joints; the same object as long as none is newer.

        Raises:
            JointError: A joint has not come yet, or is too old, or is stamped in the future.
        """
        known = self._known
        if known is not None and -FUTURE_SLACK_S <= now_s - known[1] <= self._max_age_s - (
            known[1] - known[0].stamp_s
        ):
            return known[0]
        missing = [name for name in self._needed if name not in self._values]
        if missing:
            raise JointError(
                'joints_missing',
                f'joint {missing[0]} is missing from the joint states',
                expected=f'positions of {", ".join(self._needed)}',
                got=', '.join(self._values) or 'no joint',
                remedy='Publish all joints of the robot description on joint_states, in one '
                'message or several.',
            )
        for name in self._needed:
            self._check_age(name, now_s - self._values[name][1])
        values = np.array([self._values[name][0] for name in self._needed])
        stamps = [self._values[name][1] for name in self._needed]
        reading = JointReading(*self._split(values), min(stamps))
        self._known = reading, max(stamps)
        return reading

    def clear(self) -> None:
        """Drop all positions, as after a reset or when the clock was set back."""
        self._values.clear()
        self._known = None
        self._clock = StampClock()

    def _select(self, names: Sequence[str], positions: np.ndarray) -> dict[str, float]:
        """Return the positions of the robot's own joints."""
        if positions.shape != (len(names),):
            raise JointError(
                'joints_invalid',
                'joint state',
                expected=f'{len(names)} positions, one per name',
                got=positions.size,
                remedy='Check the joint state publisher.',
            )
        named = list(names)
        twice = [name for name in self._needed if named.count(name) > 1]
        if twice:
            raise JointError(
                'joints_invalid',
                f'joint {twice[0]} is named twice in one joint state',
                remedy='Check the joint state publisher: each joint must have one position.',
            )
        pairs = zip(named, positions.tolist(), strict=True)
        return {name: value for name, value in pairs if name in self._ranges}

    def _check_plausible(self, name: str, position: float) -> None:
        if not math.isfinite(position):
            raise JointError(
                'joints_invalid',
                f'the position of joint {name} is not finite',
                remedy='Check the joint state publisher.',
            )
        low, high, unit, remedy = self._ranges[name]
        if not low <= position <= high:
            raise JointError(
                'joints_invalid',
                f'the position of joint {name} is not plausible',
                found=(position, low if position < low else high, unit),
                expected=f'{low:.4g} to {high:.4g} {unit}',
                got=f'{position:.4g}',
                remedy=remedy,
            )

    def _plausible(self, name: str) -> tuple[float, float, str, str]:
        """Return least, greatest, unit and remedy for one joint."""
        arm, gripper = self._arm, self._robot.gripper
        if name in arm.names:
            index = arm.names.index(name)
            low, high = float(arm.minimum[index]), float(arm.maximum[index])
            remedy = 'Publish radians, or correct joints.minimum and joints.maximum of the robot '
            return low - JOINT_MARGIN_RAD, high + JOINT_MARGIN_RAD, 'rad', remedy + 'description.'
        if gripper.angular:
            low, high = sorted((gripper.joint_closed, gripper.joint_open))
            slack = WIDTH_MARGIN * (high - low)
            remedy = 'Publish radians, or correct gripper.joint_closed and gripper.joint_open.'
            return low - slack, high + slack, 'rad', remedy
        slack = WIDTH_MARGIN * gripper.open_width
        high = gripper.open_width + slack
        low = -high if gripper.absolute_fingers else -slack
        remedy = (
            'Publish finger positions in metres. Where one finger counts negative, set '
            'gripper.absolute_fingers in the robot description.'
        )
        return low, high, 'm', remedy

    def _check_age(self, name: str, age_s: float) -> None:
        if age_s > self._max_age_s:
            raise JointError(
                'joints_old',
                f'the position of joint {name} is too old',
                found=(age_s, self._max_age_s, 's'),
                expected=f'at most {self._max_age_s} s (max_joint_age)',
                got=f'{age_s:.2f} s',
                remedy='Check that its publisher runs and that both machines have the same time '
                'and are not overloaded, or raise max_joint_age.',
            )
        if age_s < -FUTURE_SLACK_S:
            raise JointError(
                'joints_old',
                f'the position of joint {name} is stamped in the future',
                found=(age_s, -FUTURE_SLACK_S, 's'),
                expected=f'at most {FUTURE_SLACK_S} s ahead',
                got=f'{-age_s:.2f} s',
                remedy='Synchronise the clocks; use_sim_time must be the same for all nodes.',
            )

    def _split(self, values: np.ndarray) -> tuple[np.ndarray, float]:
        """Return positions float64[n] and the width [m].

        Raises:
            JointError: The fingers together are wider than the gripper opens.
        """
        gripper = self._robot.gripper
        arm, fingers = np.split(values, [len(self._arm.names)])
        if gripper.angular:
            closed, opened = gripper.joint_closed, gripper.joint_open
            share = (float(fingers[0]) - closed) / (opened - closed)
            return arm, gripper.open_width * min(max(share, 0.0), 1.0)
        width = float((np.abs(fingers) if gripper.absolute_fingers else fingers).sum())
        if width > (1 + WIDTH_MARGIN) * gripper.open_width:
            raise JointError(
                'joints_invalid',
                'the opening width of the gripper is not plausible',
                found=(width, gripper.open_width, 'm'),
                expected=f'at most {gripper.open_width} m',
                got=f'{width:.4g} m',
                remedy='Publish finger positions in metres, or correct gripper.open_width.',
            )
        return arm, width


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
    return np.asarray(np.array([x, y, z]) * 2.0 * np.arccos(w) / sine)


def tcp_pose_width(arm: Arm, joints: np.ndarray, width: float) -> np.ndarray:
    """Return the state recipe of that name: float32[7].

    Position of the tip [m], its rotation vector from straight down [rad], opening width [m].
    """
    pose = arm.pose(joints)
    turn = rotation_vector(pose[:3, :3] @ DOWN.T)
    return np.concatenate([pose[:3, 3], turn, [width]]).astype(np.float32)


def libero_pose_fingers(arm: Arm, joints: np.ndarray, width: float) -> np.ndarray:
    """Return the state recipe of that name, LIBERO's: float32[8].

    Position of the tip in the world [m], robosuite's axis · angle of the hand [rad] (see
    `robosuite_axis_angle`), and the positions of both fingers, the second negative [m].
    """
    position = arm.pose(joints)[:3, 3] + np.asarray(arm.robot.world)
    turn = robosuite_axis_angle(np.roll(arm.tip_quaternion(joints), -1))
    return np.concatenate([position, turn, [width / 2, -width / 2]]).astype(np.float32)


STATE_RECIPES = {
    'tcp_pose_width': tcp_pose_width,
    'libero_pose_fingers': libero_pose_fingers,
}


def robot_state(arm: Arm, recipe: str, joints: JointReading) -> np.ndarray:
    """Return the robot state that a checkpoint asks for: float32[state_dim].

    Raises:
        ObservationError: The recipe is unknown.
    """
    if recipe not in STATE_RECIPES:
        raise ObservationError(
            'state recipe', expected=f'one of {", ".join(STATE_RECIPES)}', got=repr(recipe)
        )
    return STATE_RECIPES[recipe](arm, joints.positions, joints.width)
