"""Reasons not to act: pure functions of observation, chunk and robot description.

Each returns None, or a `Refusal` that names guard, value, limit and stamp. A guard can only make
the robot more cautious; none of this is a certified safety function. Must not know ROS or torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
import hashlib

import numpy as np

from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot.description import RobotConfig

RANGE_SLACK = 1e-3
FUTURE_SLACK_S = 0.1


@dataclass(frozen=True)
class Refusal:
    """Why an observation or a chunk is not used.

    Attributes:
        guard: Name of the guard.
        value: What was found.
        limit: What is allowed.
        stamp_s: Stamp of the thing refused [s].
    """

    guard: str
    value: str
    limit: str
    stamp_s: float

    def __str__(self) -> str:
        """Return one sentence."""
        return f'{self.guard}: {self.value}, allowed {self.limit} (stamp {self.stamp_s:.3f} s)'


def image_age(stamp_s: float, now_s: float, limit_s: float) -> Refusal | None:
    """Refuse an image older than the limit, or stamped in the future."""
    age = now_s - stamp_s
    if -FUTURE_SLACK_S <= age <= limit_s:
        return None
    return Refusal('image age', f'{age:.3f} s', f'-{FUTURE_SLACK_S} to {limit_s} s', stamp_s)


def camera_skew(stamps_s: Sequence[float], limit_s: float) -> Refusal | None:
    """Refuse images of one instant whose stamps lie too far apart."""
    skew = float(np.max(stamps_s) - np.min(stamps_s))  # NaN, and so refused, where a stamp is NaN
    if skew <= limit_s:
        return None
    return Refusal('camera skew', f'{skew:.3f} s', f'at most {limit_s} s', max(stamps_s))


class FrozenCamera:
    """Notices a camera that sends the same pixels under new stamps while the robot moves.

    A still robot over a still table may rightly send equal images, so motion is part of the rule.
    """

    def __init__(self, motion_limit: float = 0.05) -> None:
        """Allow `motion_limit` of joint motion [rad] under equal images."""
        self._limit = motion_limit
        self._digest = b''
        self._joints: np.ndarray | None = None

    def check(self, image: np.ndarray, joints: np.ndarray, stamp_s: float) -> Refusal | None:
        """Refuse an image uint8[h, w, 3] that did not change while joints float[n] did."""
        digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
        if digest != self._digest or self._joints is None or len(joints) != len(self._joints):
            self._digest, self._joints = digest, np.array(joints)
            return None
        moved = float(np.abs(joints - self._joints).max(initial=0.0))
        if moved <= self._limit:
            return None
        value = f'same pixels while a joint moved {moved:.3f} rad'
        return Refusal('frozen camera', value, f'{self._limit} rad', stamp_s)


def chunk_values(chunk: ActionChunk, robot: RobotConfig) -> Refusal | None:
    """Refuse a chunk that is empty, not finite, or outside the range of the robot's actions."""
    actions = chunk.actions
    if actions.size == 0 or actions.ndim != 2:
        return Refusal('chunk size', f'{list(actions.shape)}', 'at least 1 action', chunk.stamp_s)
    if not np.isfinite(actions).all():
        return Refusal('chunk values', 'a value that is not finite', 'finite', chunk.stamp_s)
    low, high = np.array(robot.action.minimum), np.array(robot.action.maximum)
    outside = (actions < low - RANGE_SLACK) | (actions > high + RANGE_SLACK)
    if not outside.any():
        return None
    step, place = np.argwhere(outside)[0]
    value = f'{robot.action.names[place]} {actions[step, place]:.3f}'
    return Refusal('chunk values', value, f'{low[place]} to {high[place]}', chunk.stamp_s)


def chunk_meaning(chunk: ActionChunk, robot: RobotConfig) -> Refusal | None:
    """Refuse a chunk whose dimensions differ from the robot's, or whose dt is absurd."""
    if chunk.names != robot.action.names or chunk.units != robot.action.units:
        value = ' '.join(f'{n}[{u}]' for n, u in zip(chunk.names, chunk.units, strict=False))
        limit = ' '.join(
            f'{n}[{u}]' for n, u in zip(robot.action.names, robot.action.units, strict=True)
        )
        return Refusal('chunk meaning', value or 'no names', limit, chunk.stamp_s)
    if chunk.dim != len(robot.action.names) or len(chunk.scale) != chunk.dim:
        value = f'{chunk.dim} values and {len(chunk.scale)} scales'
        return Refusal('chunk meaning', value, f'{len(robot.action.names)} each', chunk.stamp_s)
    if not (np.isfinite(chunk.scale).all() and np.isfinite(chunk.dt) and chunk.dt > 0):
        value = f'scale {chunk.scale.tolist()}, dt {chunk.dt}'
        return Refusal('chunk meaning', value, 'finite scale, dt > 0', chunk.stamp_s)
    return None


def chunk_late(chunk: ActionChunk, now_s: float) -> Refusal | None:
    """Refuse a chunk all of whose actions are past, or that is stamped in the future."""
    age = now_s - chunk.stamp_s
    lasts = chunk.horizon * chunk.dt
    if -FUTURE_SLACK_S <= age <= lasts:
        return None
    return Refusal(
        'chunk late', f'{age:.3f} s', f'-{FUTURE_SLACK_S} to {lasts:.3f} s', chunk.stamp_s
    )


def slow_inference(chunk: ActionChunk) -> Refusal | None:
    """Refuse a chunk that took longer to make than it lasts."""
    lasts = chunk.horizon * chunk.dt
    if chunk.latency_s <= lasts:
        return None
    return Refusal(
        'inference latency', f'{chunk.latency_s:.3f} s', f'{lasts:.3f} s', chunk.stamp_s
    )


def chunk_speed(chunk: ActionChunk, robot: RobotConfig) -> Refusal | None:
    """Refuse a chunk with an action faster than the robot's limits."""
    moves = chunk.actions * chunk.scale / chunk.dt
    linear = float(np.linalg.norm(moves[:, :3], axis=1).max())
    angular = float(np.linalg.norm(moves[:, 3:6], axis=1).max())
    limits = robot.limits
    if not linear <= limits.linear_speed:
        value, limit = f'{linear:.3f} m/s', f'at most {limits.linear_speed} m/s'
        return Refusal('linear speed', value, limit, chunk.stamp_s)
    if not angular <= limits.angular_speed:
        value, limit = f'{angular:.3f} rad/s', f'at most {limits.angular_speed} rad/s'
        return Refusal('angular speed', value, limit, chunk.stamp_s)
    return None


def workspace(position: np.ndarray, robot: RobotConfig, stamp_s: float) -> Refusal | None:
    """Refuse a tip position float[3] [m] outside the robot's box."""
    low, high = robot.limits.workspace_minimum, robot.limits.workspace_maximum
    if np.isfinite(position).all() and (position >= low).all() and (position <= high).all():
        return None
    value = np.array2string(np.asarray(position), precision=3)
    return Refusal('workspace', value, f'{list(low)} to {list(high)} m', stamp_s)
