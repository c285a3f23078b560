"""Reasons not to act: pure functions of observation, chunk and robot description.

Each returns None, or a `Refusal` that says what was found, which limit it passes, and what to do.
A guard can only make the robot more cautious; none of this is a certified safety function. Must
not know ROS or torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
import hashlib
import math

import numpy as np

from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot.description import Camera, RobotConfig
from worldvla_ros.robot.state import JointReading

RANGE_SLACK = 1e-3
PERIOD_SLACK = 0.01
"""Relative difference of a chunk's dt from the control period that is still the same."""
FUTURE_SLACK_S = 0.1
CLOCKS = 'Synchronise the clocks; use_sim_time must be the same for all nodes.'


@dataclass(frozen=True)
class Refusal:
    """Why an observation, a chunk or a command is not used.

    Attributes:
        guard: Name of the guard.
        value: What was found.
        limit: What is allowed, naming the parameter or field that says so.
        stamp_s: Stamp of the thing refused [s].
        remedy: What the operator can do, as a sentence.
    """

    guard: str
    value: str
    limit: str
    stamp_s: float
    remedy: str

    def __str__(self) -> str:
        """Return what was found, the limit and the remedy."""
        return f'{self.value} ({self.limit}). {self.remedy}'


def image_age(stamp_s: float, now_s: float, limit_s: float) -> Refusal | None:
    """Refuse an image older than the limit, or stamped in the future."""
    age = now_s - stamp_s
    if -FUTURE_SLACK_S <= age <= limit_s:
        return None
    if age < 0:
        value, limit = f'image stamped {-age:.2f} s ahead', f'at most {FUTURE_SLACK_S} s'
        return Refusal('image age', value, limit, stamp_s, CLOCKS)
    value, limit = f'image {age:.2f} s old', f'max_image_age {limit_s} s'
    remedy = 'Check the camera driver and the clocks, or raise max_image_age.'
    return Refusal('image age', value, limit, stamp_s, remedy)


def image_size(image: np.ndarray, camera: Camera, stamp_s: float) -> Refusal | None:
    """Refuse an image uint8[h, w, 3] of another size than the robot description has."""
    height, width = image.shape[:2]
    if (width, height) == (camera.width, camera.height):
        return None
    value = f'image of camera {camera.name} has {width} x {height} px'
    limit = f'robot description {camera.width} x {camera.height} px'
    remedy = 'Set the resolution in the camera driver, or correct cameras in the description.'
    return Refusal('image size', value, limit, stamp_s, remedy)


def camera_skew(stamps_s: Sequence[float], limit_s: float) -> Refusal | None:
    """Refuse images of one instant whose stamps lie too far apart."""
    skew = float(np.max(stamps_s) - np.min(stamps_s))  # NaN, and so refused, where a stamp is NaN
    if skew <= limit_s:
        return None
    value, limit = f'cameras {skew:.2f} s apart', f'max_camera_skew {limit_s} s'
    remedy = 'Check camera synchronisation or raise the limit.'
    return Refusal('camera skew', value, limit, max(stamps_s), remedy)


class FrozenCamera:
    """Notices a camera that sends the same pixels under new stamps while the robot moves.

    A still robot over a still table may rightly send equal images, so motion is part of the rule,
    and motion counts only where the joints were measured at the time of the image. A refusal makes
    the robot hold; if it has held for `still_s` and the pixels are still the same, motion is
    counted anew, so that an arm out of the camera's view can go on. Each time the wait doubles, so
    that a camera which really is frozen moves the robot ever more rarely. New pixels end all this.
    """

    def __init__(
        self,
        motion_limit: float = 0.05,
        still_s: float = 2.0,
        joint_age_s: float = 0.3,
        seen: str = 'pixels',
    ) -> None:
        """Set the limits.

        Args:
            motion_limit: Joint motion under equal images that is allowed [rad].
            still_s: How long the robot must hold before motion is counted anew [s].
            joint_age_s: Joints older than the image by more than this say nothing about it [s].
            seen: What an image consists of, for the refusal.
        """
        self._limit, self._seen = motion_limit, seen
        self._first_wait_s = self._wait_s = still_s
        self._joint_age_s = joint_age_s
        self._digest = b''
        self._start: np.ndarray | None = None
        self._refused: tuple[np.ndarray, float] | None = None  # joints and stamp when it was

    def check(self, image: np.ndarray, joints: JointReading, stamp_s: float) -> Refusal | None:
        """Refuse an image uint8[h, w, 3], or its codes, that did not change while joints did."""
        digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
        if digest != self._digest:
            self._digest, self._wait_s = digest, self._first_wait_s
            self._count_from(None)
        if abs(stamp_s - joints.stamp_s) > self._joint_age_s:
            self._count_from(None)
            return None
        if self._start is None or self._held(joints.positions, stamp_s):
            self._count_from(joints.positions)
            return None
        return self._judge(joints.positions, self._start, stamp_s)

    def _judge(self, positions: np.ndarray, start: np.ndarray, stamp_s: float) -> Refusal | None:
        moved = _distance(positions, start)
        if moved <= self._limit and self._refused is None:
            return None
        if self._refused is None or _distance(positions, self._refused[0]) > self._limit:
            self._refused = np.array(positions), stamp_s
        value = f'same {self._seen} while a joint moved {moved:.3f} rad'
        remedy = (
            'Check the camera driver; after a hold without motion it is tried again '
            f'in {self._wait_s:.0f} s.'
        )
        limit = f'at most {self._limit} rad'
        return Refusal('frozen camera', value, limit, stamp_s, remedy)

    def _held(self, positions: np.ndarray, stamp_s: float) -> bool:
        """Whether the robot held for long enough since the refusal; then wait longer next time."""
        if self._refused is None or _distance(positions, self._refused[0]) > self._limit:
            return False
        if 0 <= stamp_s - self._refused[1] < self._wait_s:
            return False
        self._wait_s *= 2
        return True

    def _count_from(self, positions: np.ndarray | None) -> None:
        self._start = None if positions is None else np.array(positions)
        self._refused = None


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max(initial=0.0))


def chunk_meaning(chunk: ActionChunk, robot: RobotConfig) -> Refusal | None:
    """Refuse a chunk whose dimensions differ from the robot's, or whose dt is absurd."""
    remedy = 'Use a checkpoint that was trained for this robot.'
    if chunk.names != robot.action.names or chunk.units != robot.action.units:
        value = ' '.join(f'{n}[{u}]' for n, u in zip(chunk.names, chunk.units, strict=False))
        limit = ' '.join(
            f'{n}[{u}]' for n, u in zip(robot.action.names, robot.action.units, strict=True)
        )
        value = f'actions {value[:200] or "without names"}'
        return Refusal('chunk meaning', value, f'robot {limit}', chunk.stamp_s, remedy)
    if chunk.actions.ndim != 2 or chunk.actions.size == 0:
        value = f'chunk of shape {list(chunk.actions.shape)}'
        return Refusal('chunk size', value, 'at least 1 action', chunk.stamp_s, remedy)
    if chunk.dim != len(robot.action.names) or len(chunk.scale) != chunk.dim:
        value = f'{chunk.dim} values and {len(chunk.scale)} scales'
        limit = f'{len(robot.action.names)} each'
        return Refusal('chunk meaning', value, limit, chunk.stamp_s, remedy)
    if not (np.isfinite(chunk.scale).all() and np.isfinite(chunk.dt) and chunk.dt > 0):
        value = f'scale {chunk.scale.tolist()}, dt {chunk.dt}'
        return Refusal('chunk meaning', value, 'finite scale, dt > 0', chunk.stamp_s, remedy)
    return None


def chunk_values(chunk: ActionChunk, robot: RobotConfig) -> Refusal | None:
    """Refuse a chunk that is not finite, or outside the range of the robot's actions."""
    actions = chunk.actions
    remedy = 'Check the publisher of the chunk, and action.minimum and maximum of the robot.'
    if not np.isfinite(actions).all():
        value = 'an action that is not finite'
        return Refusal('chunk values', value, 'finite numbers', chunk.stamp_s, remedy)
    low, high = np.array(robot.action.minimum), np.array(robot.action.maximum)
    outside = (actions < low - RANGE_SLACK) | (actions > high + RANGE_SLACK)
    if not outside.any():
        return None
    step, place = np.argwhere(outside)[0]
    value = f'{robot.action.names[place]} {actions[step, place]:.3f}'
    limit = f'{low[place]} to {high[place]}'
    return Refusal('chunk values', value, limit, chunk.stamp_s, remedy)


def chunk_period(chunk: ActionChunk, period_s: float) -> Refusal | None:
    """Refuse a chunk whose actions are not made for one control period each."""
    if abs(chunk.dt - period_s) <= PERIOD_SLACK * period_s:
        return None
    value = f'chunk with dt {chunk.dt:.6g} s'
    limit = f'control_rate {1 / period_s:.6g} Hz is a period of {period_s:.6g} s'
    remedy = f'Set control_rate of action_player to {1 / chunk.dt:.6g}.'
    return Refusal('chunk period', value, limit, chunk.stamp_s, remedy)


def chunk_duration(chunk: ActionChunk, robot: RobotConfig) -> Refusal | None:
    """Refuse a chunk that would go on for too long without a new observation."""
    lasts, longest = chunk.horizon * chunk.dt, robot.limits.chunk_duration
    if lasts <= longest * (1 + PERIOD_SLACK):
        return None
    value = f'chunk of {lasts:.3f} s'
    remedy = 'Use a shorter horizon, or raise limits.chunk_duration of the robot description.'
    limit = f'limits.chunk_duration {longest} s'
    return Refusal('chunk duration', value, limit, chunk.stamp_s, remedy)


def chunk_late(chunk: ActionChunk, now_s: float, slowdown: int = 1) -> Refusal | None:
    """Refuse a chunk all of whose actions are past, or that is stamped in the future."""
    age, lasts = now_s - chunk.stamp_s, chunk.horizon * chunk.dt * slowdown
    if -FUTURE_SLACK_S <= age <= lasts:
        return None
    if age < 0:
        value, limit = f'chunk stamped {-age:.3f} s ahead', f'at most {FUTURE_SLACK_S} s'
        return Refusal('chunk late', value, limit, chunk.stamp_s, CLOCKS)
    value, limit = f'chunk {age:.3f} s old', f'it lasts {lasts:.3f} s'
    remedy = 'Check the network and the clocks, or use a faster policy.'
    return Refusal('chunk late', value, limit, chunk.stamp_s, remedy)


def slow_inference(chunk: ActionChunk, slowdown: int = 1) -> Refusal | None:
    """Refuse a chunk that took longer to make than it lasts."""
    lasts = chunk.horizon * chunk.dt * slowdown
    if 0 <= chunk.latency_s <= lasts:
        return None
    value, limit = f'inference took {chunk.latency_s:.3f} s', f'the chunk lasts {lasts:.3f} s'
    remedy = 'Use a faster device, another dtype, or a checkpoint with longer chunks.'
    return Refusal('inference latency', value, limit, chunk.stamp_s, remedy)


def chunk_speed(chunk: ActionChunk, robot: RobotConfig, period_s: float) -> Refusal | None:
    """Refuse a chunk that is too fast even when it is played as slowly as the robot allows."""
    limits, (linear, angular) = robot.limits, _fastest(chunk, period_s)
    slowest = limits.max_slowdown
    remedy = 'Raise the limit or limits.max_slowdown of the robot description.'
    for guard, value, limit, unit in (
        ('linear speed', linear, limits.linear_speed, 'm/s'),
        ('angular speed', angular, limits.angular_speed, 'rad/s'),
    ):
        if not value <= slowest * limit * (1 + 1e-6):
            told = f'limits.{guard.replace(" ", "_")} {limit} {unit}, max_slowdown {slowest:g}'
            return Refusal(guard, f'action of {value:.3f} {unit}', told, chunk.stamp_s, remedy)
    return None


def slowdown(chunk: ActionChunk, robot: RobotConfig, period_s: float) -> int:
    """Return how many control periods an action must last to keep to the speed limits."""
    linear, angular = _fastest(chunk, period_s)
    needed = max(linear / robot.limits.linear_speed, angular / robot.limits.angular_speed)
    return max(1, math.ceil(needed - 1e-6))


def _fastest(chunk: ActionChunk, period_s: float) -> tuple[float, float]:
    """Return the greatest speeds of a chunk [m/s, rad/s], one action per period."""
    moves = chunk.actions.astype(float) * chunk.scale / period_s
    linear, angular = np.linalg.norm(moves[:, :3], axis=1), np.linalg.norm(moves[:, 3:6], axis=1)
    return float(linear.max()), float(angular.max())


def judge_chunk(
    chunk: ActionChunk, robot: RobotConfig, period_s: float, now_s: float
) -> Refusal | None:
    """Return the first reason not to play a chunk, or None.

    Args:
        chunk: The chunk.
        robot: Says what it may contain.
        period_s: Time between commands [s].
        now_s: When it arrived [s].
    """
    refusal = (
        chunk_meaning(chunk, robot)
        or chunk_values(chunk, robot)
        or chunk_period(chunk, period_s)
        or chunk_duration(chunk, robot)
        or chunk_speed(chunk, robot, period_s)
    )
    if refusal is not None:
        return refusal
    times = slowdown(chunk, robot, period_s)
    return chunk_late(chunk, now_s, times) or slow_inference(chunk, times)
