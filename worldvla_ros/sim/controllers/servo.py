"""MoveIt Servo (moveit2 8fcb5d232): twists and poses of the tip become joint positions.

    dropped      no command type set, another type's command, paused
    halts        stamp 0, older than the time-out, a frame that is not known, not finite; then
                 smoothly, within the joints' accelerations
    cut          speed_units: to the scales. unitless: shares of the scales, in [-1, 1] each
    status       1, 2, 3 at singularities (condition of the Jacobian), 6 at a joint bound

It starts from where it last told the joints to be, and knows nothing of a path: what its caller
forgets to say, it does not make up for.
"""

from dataclasses import dataclass

import numpy as np

from worldvla_ros.robot.kinematics import rotation_vector
from worldvla_ros.sim.controllers.parts import Drops, Kinematics

JOINT_JOG, TWIST, POSE = 0, 1, 2
INVALID, NO_WARNING, APPROACHING, SINGULAR, LEAVING, JOINT_BOUND = -1, 0, 1, 2, 3, 6
LOWER_SINGULARITY, HARD_SINGULARITY = 17.0, 30.0
"""Condition numbers at which Servo begins to slow down, and halts: its defaults."""
JOINT_MARGIN_RAD = 0.1
"""Its `joint_limit_margins`."""
PUBLISH_PERIOD_S = 0.01
POSE_TOLERANCE_M, POSE_TOLERANCE_RAD = 0.001, 0.01


@dataclass(frozen=True)
class ServoSettings:
    """Servo's parameters that matter here; the defaults are its own, but for the period.

    Attributes:
        units: `command_in_type`: 'unitless' or 'speed_units'.
        linear_scale: `scale.linear` [m/s].
        angular_scale: `scale.rotational` [rad/s].
        timeout_s: `incoming_command_timeout` [s].
        frame: The planning frame; other frames would need TF, which is not there.
    """

    units: str = 'unitless'
    linear_scale: float = 0.4
    angular_scale: float = 0.8
    timeout_s: float = 0.1
    frame: str = 'panda_link0'


class ServoMock:
    """Follows twists or poses; `step` gives joint positions."""

    def __init__(
        self,
        arm: Kinematics,
        joints: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        velocity: np.ndarray,
        acceleration: np.ndarray,
        settings: ServoSettings | None = None,
    ) -> None:
        """Start at rest, without a command type.

        Args:
            arm: Its kinematics.
            joints: Where it is, float[n] [rad].
            low: Joint limits float[n] [rad].
            high: The same.
            velocity: Speed limits float[n] [rad/s].
            acceleration: With which Servo smooths, float[n] [rad/s^2].
            settings: Its parameters.
        """
        self._arm, self._settings = arm, settings or ServoSettings()
        self.joints = np.array(joints, float)
        self._low, self._high = np.asarray(low, float), np.asarray(high, float)
        self._velocity, self._acceleration = np.asarray(velocity), np.asarray(acceleration)
        self._speeds = np.zeros_like(self.joints)
        self._wanted = np.zeros_like(self.joints)
        self._kind: int | None = None
        self._command: tuple[float, np.ndarray] | None = None
        self._used = False
        self._next_s = -np.inf
        self.paused = False
        self.status = NO_WARNING
        self.drops = Drops()

    def switch_command_type(self, kind: int) -> bool:
        """Listen to a type of command from now on; False for an unknown one."""
        if kind not in (JOINT_JOG, TWIST, POSE):
            return False
        self._kind, self._command = kind, None
        return True

    def accept_twist(
        self, linear: np.ndarray, angular: np.ndarray, stamp_s: float, frame: str
    ) -> bool:
        """Take a twist; returns whether it was not dropped, which Servo tells nobody."""
        values = np.concatenate([linear, angular]).astype(float)
        return self._accept(TWIST, values, stamp_s, frame)

    def accept_pose(self, pose: np.ndarray, stamp_s: float, frame: str) -> bool:
        """Take a target float[4, 4] of the tip; as `accept_twist`."""
        return self._accept(POSE, np.array(pose, float), stamp_s, frame)

    def relocate(self, joints: np.ndarray) -> None:
        """Start again at rest: the arm was put somewhere else, float[n] [rad]."""
        self.joints = np.array(joints, float)
        self._speeds = np.zeros_like(self.joints)
        self._wanted = np.zeros_like(self.joints)
        self._command = None

    def step(self, now_s: float, dt: float) -> np.ndarray:
        """Return where the joints should be, a time dt [s] after the last step: float64[n]."""
        if now_s >= self._next_s:
            self._next_s = now_s + PUBLISH_PERIOD_S - 1e-9
            self._wanted = self._decide(now_s)
        most = self._acceleration * dt
        self._speeds = self._speeds + np.clip(self._wanted - self._speeds, -most, most)
        self.joints = self.joints + self._speeds * dt
        return self.joints.copy()

    def _accept(self, kind: int, values: np.ndarray, stamp_s: float, frame: str) -> bool:
        if self._kind is None:
            return self.drops.add('command type has not been set')
        if self._kind != kind:
            return self.drops.add('another command type is set')
        if self.paused:
            return self.drops.add('paused')
        if frame != self._settings.frame:
            self._command, self.status = None, INVALID
            return self.drops.add('unknown frame')
        if not np.isfinite(values).all():
            self._command, self.status = None, INVALID
            return self.drops.add('not finite')
        shares = kind == TWIST and self._settings.units == 'unitless'
        if shares and np.abs(values).max() > 1 + 1e-9:
            self._command, self.status = None, INVALID
            return self.drops.add('unitless command beyond 1')
        self._command, self._used = (stamp_s, values), False
        return True

    def _decide(self, now_s: float) -> np.ndarray:
        """Return the joint speeds that the newest command asks for, zero where there is none."""
        still = np.zeros_like(self.joints)
        if self._command is None or self.paused:
            return still
        stamp_s, values = self._command
        if stamp_s == 0.0 or now_s - stamp_s > self._settings.timeout_s:
            if not self._used:
                self.drops.add('stale')
            self._command, self.status = None, NO_WARNING
            return still
        self._used = True
        twist = self._twist(values)
        self.status = NO_WARNING
        if not twist.any():
            return still
        return self._guarded(twist)

    def _twist(self, values: np.ndarray) -> np.ndarray:
        """Return what is asked for as speeds of the tip: float64[6]."""
        settings = self._settings
        scales = (settings.linear_scale, settings.angular_scale)
        if self._kind == POSE:
            parts = self._towards(values)
        elif settings.units == 'unitless':
            return np.concatenate([values[:3] * scales[0], values[3:] * scales[1]])
        else:
            parts = [values[:3], values[3:]]
        return np.concatenate([_cut(part, most) for part, most in zip(parts, scales, strict=True)])

    def _towards(self, target: np.ndarray) -> list[np.ndarray]:
        pose = self._arm.pose(self.joints)
        way = target[:3, 3] - pose[:3, 3]
        turn = rotation_vector(target[:3, :3] @ pose[:3, :3].T)
        if np.linalg.norm(way) <= POSE_TOLERANCE_M and np.linalg.norm(turn) <= POSE_TOLERANCE_RAD:
            return [np.zeros(3), np.zeros(3)]
        return [way / PUBLISH_PERIOD_S, turn / PUBLISH_PERIOD_S]

    def _guarded(self, twist: np.ndarray) -> np.ndarray:
        """Return joint speeds for a twist, slowed or halted as Servo does it."""
        jacobian = self._arm.jacobian(self.joints)
        speeds = np.linalg.pinv(jacobian) @ twist
        speeds = speeds * self._singularity(jacobian, speeds)
        speeds = speeds / max(1.0, float((np.abs(speeds) / self._velocity).max()))
        low, high = self._low + JOINT_MARGIN_RAD, self._high - JOINT_MARGIN_RAD
        bound = ((self.joints < low) & (speeds < 0)) | ((self.joints > high) & (speeds > 0))
        if bound.any():
            self.status = JOINT_BOUND
            return np.zeros_like(speeds)
        return speeds

    def _singularity(self, jacobian: np.ndarray, speeds: np.ndarray) -> float:
        """Return the share of the speed that is left near a singularity."""
        condition = np.linalg.cond(jacobian)
        if condition <= LOWER_SINGULARITY:
            return 1.0
        ahead = np.linalg.cond(self._arm.jacobian(self.joints + speeds * PUBLISH_PERIOD_S))
        if ahead <= condition:
            self.status = LEAVING
            return 1.0
        if condition >= HARD_SINGULARITY:
            self.status = SINGULAR
            return 0.0
        self.status = APPROACHING
        span = HARD_SINGULARITY - LOWER_SINGULARITY
        return float(1.0 - (condition - LOWER_SINGULARITY) / span)


def _cut(vector: np.ndarray, most: float) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    return vector * (most / length) if length > most else vector
