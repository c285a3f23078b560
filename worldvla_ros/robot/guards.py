"""Reasons not to act: pure functions of observation, chunk and robot description.

Each returns None, or a `Reason` that says what was found, which limit it passes, and what to do.
A guard can only make the robot more cautious; none of this is a certified safety function. Must
not know ROS or torch.
"""

from collections.abc import Sequence
import hashlib

import numpy as np

from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot.description import Camera, RobotConfig
from worldvla_ros.robot.reasons import Reason
from worldvla_ros.robot.state import JointReading

RANGE_SLACK = 1e-3
PERIOD_SLACK = 0.01
"""Relative difference of a chunk's dt from the control period that is still the same."""
FUTURE_SLACK_S = 0.1
CLOCKS = 'Synchronise the clocks; use_sim_time must be the same for all nodes.'


def image_age(stamp_s: float, now_s: float, limit_s: float) -> Reason | None:
    """Refuse an image older than the limit, or stamped in the future."""
    age = now_s - stamp_s
    if -FUTURE_SLACK_S <= age <= limit_s:
        return None
    if age < 0:
        text = f'image stamped {-age:.2f} s ahead (at most {FUTURE_SLACK_S} s)'
        return Reason('image_age', text, CLOCKS, age, -FUTURE_SLACK_S, 's', stamp_s)
    text = f'image {age:.2f} s old (max_image_age {limit_s} s)'
    remedy = 'Check the camera driver, clocks and the load of machines, or raise max_image_age.'
    return Reason('image_age', text, remedy, age, limit_s, 's', stamp_s)


def image_size(image: np.ndarray, camera: Camera, stamp_s: float) -> Reason | None:
    """Refuse an image uint8[h, w, 3] of another size than the robot description has."""
    height, width = image.shape[:2]
    if (width, height) == (camera.width, camera.height):
        return None
    text = (
        f'image of camera {camera.name} has {width} x {height} px '
        f'(robot description {camera.width} x {camera.height} px)'
    )
    remedy = 'Set the resolution in the camera driver, or correct cameras in the description.'
    return Reason('image_size', text, remedy, unit='px', stamp_s=stamp_s)


def camera_skew(stamps_s: Sequence[float], limit_s: float) -> Reason | None:
    """Refuse images of one instant whose stamps lie too far apart."""
    skew = float(np.max(stamps_s) - np.min(stamps_s))  # NaN, and so refused, where a stamp is NaN
    if skew <= limit_s:
        return None
    text = f'cameras {skew:.2f} s apart (max_camera_skew {limit_s} s)'
    remedy = 'Check camera synchronisation or raise the limit.'
    return Reason('camera_skew', text, remedy, skew, limit_s, 's', max(stamps_s))


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

    def check(self, image: np.ndarray, joints: JointReading, stamp_s: float) -> Reason | None:
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

    def _judge(self, positions: np.ndarray, start: np.ndarray, stamp_s: float) -> Reason | None:
        moved = _distance(positions, start)
        if moved <= self._limit and self._refused is None:
            return None
        if self._refused is None or _distance(positions, self._refused[0]) > self._limit:
            self._refused = np.array(positions), stamp_s
        text = f'same {self._seen} while a joint moved {moved:.3f} rad (at most {self._limit} rad)'
        remedy = (
            'Check the camera driver; after a hold without motion it is tried again '
            f'in {self._wait_s:.0f} s.'
        )
        return Reason('frozen_camera', text, remedy, moved, self._limit, 'rad', stamp_s)

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


def chunk_meaning(chunk: ActionChunk, robot: RobotConfig) -> Reason | None:
    """Refuse a chunk whose dimensions differ from the robot's, or whose dt is absurd."""
    remedy = 'Use a checkpoint that was trained for this robot.'
    if chunk.names != robot.action.names or chunk.units != robot.action.units:
        value = ' '.join(f'{n}[{u}]' for n, u in zip(chunk.names, chunk.units, strict=False))
        limit = ' '.join(
            f'{n}[{u}]' for n, u in zip(robot.action.names, robot.action.units, strict=True)
        )
        text = f'actions {value[:200] or "without names"} (robot {limit})'
        return Reason('chunk_meaning', text, remedy, stamp_s=chunk.stamp_s)
    if chunk.actions.ndim != 2 or chunk.actions.size == 0:
        text = f'chunk of shape {list(chunk.actions.shape)} (at least 1 action)'
        return Reason('chunk_size', text, remedy, 0.0, 1.0, '1', chunk.stamp_s)
    if chunk.dim != len(robot.action.names) or len(chunk.scale) != chunk.dim:
        known = len(robot.action.names)
        text = f'{chunk.dim} values and {len(chunk.scale)} scales ({known} each)'
        return Reason('chunk_meaning', text, remedy, chunk.dim, known, '1', chunk.stamp_s)
    if not (np.isfinite(chunk.scale).all() and np.isfinite(chunk.dt) and chunk.dt > 0):
        text = f'scale {chunk.scale.tolist()}, dt {chunk.dt} (finite scale, dt > 0)'
        return Reason('chunk_meaning', text, remedy, stamp_s=chunk.stamp_s)
    return None


def chunk_values(chunk: ActionChunk, robot: RobotConfig) -> Reason | None:
    """Refuse a chunk that is not finite, or outside the range of the robot's actions."""
    actions = chunk.actions
    remedy = 'Check the publisher of the chunk, and action.minimum and maximum of the robot.'
    if not np.isfinite(actions).all():
        text = 'an action that is not finite (finite numbers)'
        return Reason('chunk_values', text, remedy, stamp_s=chunk.stamp_s)
    low, high = np.array(robot.action.minimum), np.array(robot.action.maximum)
    outside = (actions < low - RANGE_SLACK) | (actions > high + RANGE_SLACK)
    if not outside.any():
        return None
    step, place = np.argwhere(outside)[0]
    value = float(actions[step, place])
    text = f'{robot.action.names[place]} {value:.3f} ({low[place]} to {high[place]})'
    limit = float(high[place] if value > high[place] else low[place])
    return Reason('chunk_values', text, remedy, value, limit, '1', chunk.stamp_s)


def chunk_duration(chunk: ActionChunk, robot: RobotConfig) -> Reason | None:
    """Refuse a chunk that would go on for too long without a new observation."""
    lasts, longest = chunk.horizon * chunk.dt, robot.limits.chunk_duration
    if lasts <= longest * (1 + PERIOD_SLACK):
        return None
    text = f'chunk of {lasts:.3f} s (limits.chunk_duration {longest} s)'
    remedy = 'Use a shorter horizon, or raise limits.chunk_duration of the robot description.'
    return Reason('chunk_duration', text, remedy, lasts, longest, 's', chunk.stamp_s)


def chunk_late(chunk: ActionChunk, now_s: float, slowdown: float = 1.0) -> Reason | None:
    """Refuse a chunk all of whose actions are past, or that is stamped in the future."""
    age, lasts = now_s - chunk.stamp_s, chunk.horizon * chunk.dt * slowdown
    if -FUTURE_SLACK_S <= age <= lasts:
        return None
    if age < 0:
        text = f'chunk stamped {-age:.3f} s ahead (at most {FUTURE_SLACK_S} s)'
        return Reason('chunk_late', text, CLOCKS, age, -FUTURE_SLACK_S, 's', chunk.stamp_s)
    text = f'chunk {age:.3f} s old (it lasts {lasts:.3f} s)'
    remedy = 'Check the network and the clocks, or use a faster policy.'
    return Reason('chunk_late', text, remedy, age, lasts, 's', chunk.stamp_s)


def slow_inference(chunk: ActionChunk, slowdown: float = 1.0) -> Reason | None:
    """Refuse a chunk that took longer to make than it lasts."""
    lasts = chunk.horizon * chunk.dt * slowdown
    if 0 <= chunk.latency_s <= lasts:
        return None
    taken = chunk.latency_s
    text = f'inference took {taken:.3f} s (the chunk lasts {lasts:.3f} s)'
    remedy = 'Use a faster device, another dtype, or a checkpoint with longer chunks.'
    return Reason('inference_latency', text, remedy, taken, lasts, 's', chunk.stamp_s)


def chunk_frame(chunk: ActionChunk, robot: RobotConfig, frame: str) -> Reason | None:
    """Refuse actions in another frame than the robot's base; an empty name is the base."""
    if frame in ('', robot.base_frame):
        return None
    text = f'actions in frame {frame[:80]!r} (base_frame {robot.base_frame})'
    remedy = 'Publish actions in the base frame; they are not transformed.'
    return Reason('chunk_frame', text, remedy, stamp_s=chunk.stamp_s)


def judge_chunk(
    chunk: ActionChunk, robot: RobotConfig, now_s: float, frame: str = ''
) -> Reason | None:
    """Return the first reason not to play a chunk, or None; `Motion` judges its speed.

    Args:
        chunk: The chunk.
        robot: Says what it may contain.
        now_s: When it arrived [s].
        frame: The frame of its actions; empty is the base frame.
    """
    slowest = robot.limits.max_slowdown
    return (
        chunk_meaning(chunk, robot)
        or chunk_frame(chunk, robot, frame)
        or chunk_values(chunk, robot)
        or chunk_duration(chunk, robot)
        or chunk_late(chunk, now_s, slowest)
        or slow_inference(chunk, slowest)
    )
