"""What a policy would have done beside another controller, and how far that is from what was done.

    chunk    stamp ── dt ── dt ── … ── end      predicted: from the measured pose at the stamp on,
    joints   · · · · · · · · · · · · · · ·      what the actions mean; measured: interpolated

A chunk is compared once the joints at its end have been measured. Commands nothing, and must not
know anything that could. Positions [m], angles [rad], times [s] of the clock of the stamps.
"""

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
import math

import numpy as np

from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot.clock import StampClock
from worldvla_ros.robot.kinematics import Arm, rotation_matrix, rotation_vector
from worldvla_ros.robot.state import JointReading

KEPT_S = 30.0
"""How long measured joints are kept."""
MOST_READINGS = 65536
MOST_WAITING = 64
"""Chunks that wait for their end."""
OPEN_SHARE = 0.75
"""A gripper opened further than this share of its width counts as open: it may hold something."""
SURPLUS_S = 1e-6


@dataclass(frozen=True)
class Comparison:
    """One chunk beside what the joints did meanwhile.

    Attributes:
        chunk_id: Of the chunk.
        stamp_s: Of the observation that it answers [s].
        horizon_s: Time over which it was compared [s].
        translation_error: Distance between the tip as predicted and as measured, at the end [m].
        rotation_error: Angle between both, at the end [rad].
        travelled: Distance that the measured tip went meanwhile [m].
        joint_error: Predicted less measured, at the end, float64[n] [rad]; [0] for actions of the
            tip.
        gripper_agrees: Whether both say open, or both closed.
    """

    chunk_id: int
    stamp_s: float
    horizon_s: float
    translation_error: float
    rotation_error: float
    travelled: float
    joint_error: np.ndarray
    gripper_agrees: bool


class Shadow:
    """Keeps measured joints and compares chunks with them."""

    def __init__(self, arm: Arm, max_gap_s: float) -> None:
        """Have measured nothing yet.

        Args:
            arm: The arm that another controller moves.
            max_gap_s: Longest time between two joint states that is interpolated over [s].
        """
        self._arm, self._max_gap_s = arm, max_gap_s
        self._stamps: list[float] = []
        self._readings: list[JointReading] = []
        self._waiting: deque[ActionChunk] = deque(maxlen=MOST_WAITING)
        self._clock = StampClock()
        self.unmeasured = 0
        """Chunks that could not be compared, as joint states were missing."""

    def clear(self) -> None:
        """Forget everything."""
        self._stamps.clear()
        self._readings.clear()
        self._waiting.clear()
        self._clock = StampClock()

    def put(self, reading: JointReading) -> None:
        """Take measured joints; a clock that was set back drops everything."""
        if self._clock.set_back(reading.stamp_s):
            self.clear()
            self._clock.set_back(reading.stamp_s)
        if self._stamps and reading.stamp_s <= self._stamps[-1]:
            return
        self._stamps.append(reading.stamp_s)
        self._readings.append(reading)
        if len(self._stamps) > MOST_READINGS or reading.stamp_s - self._stamps[0] > 2 * KEPT_S:
            first = bisect_left(self._stamps, reading.stamp_s - KEPT_S)
            first = max(first, len(self._stamps) - MOST_READINGS // 2)
            del self._stamps[:first], self._readings[:first]

    def offer(self, chunk: ActionChunk) -> str:
        """Take a chunk.

        Returns:
            Why it cannot be compared with this robot, or nothing.
        """
        action = self._arm.robot.action
        if (chunk.names, chunk.units) != (action.names, action.units):
            return f'its actions are {", ".join(chunk.names)}, not {", ".join(action.names)}'
        numbers = (*chunk.actions.ravel(), *chunk.scale, chunk.dt, chunk.stamp_s)
        if not (chunk.horizon and chunk.dt > 0 and np.isfinite(numbers).all()):
            return 'it has no actions, or numbers that are not finite'
        if chunk.horizon * chunk.dt > KEPT_S:
            return f'it lasts {chunk.horizon * chunk.dt:.1f} s, longer than {KEPT_S:.0f} s'
        self._waiting.append(chunk)
        return ''

    def due(self) -> list[Comparison]:
        """Return the comparisons that the joints measured so far allow, each once."""
        newest_s = self._stamps[-1] if self._stamps else -math.inf
        ended = [c for c in self._waiting if _end_s(c) <= newest_s]
        self._waiting = deque((c for c in self._waiting if _end_s(c) > newest_s), MOST_WAITING)
        found = [self._compare(chunk) for chunk in ended]
        self.unmeasured += found.count(None)
        return [each for each in found if each is not None]

    def _compare(self, chunk: ActionChunk) -> Comparison | None:
        instants = chunk.stamp_s + chunk.dt * np.arange(chunk.horizon + 1)
        measured = [self._at(instant_s) for instant_s in instants.tolist()]
        known = [reading for reading in measured if reading is not None]
        if len(known) < len(measured):
            return None
        poses = self._arm.poses(np.stack([reading.positions for reading in known]))
        joints = predicted_joints(self._arm, chunk, known[0].positions)
        pose = predicted_pose(chunk, poses[0]) if joints is None else self._arm.pose(joints)
        turn = rotation_vector(pose[:3, :3] @ poses[-1][:3, :3].T)
        return Comparison(
            chunk_id=chunk.chunk_id,
            stamp_s=chunk.stamp_s,
            horizon_s=chunk.horizon * chunk.dt,
            translation_error=float(np.linalg.norm(pose[:3, 3] - poses[-1][:3, 3])),
            rotation_error=float(np.linalg.norm(turn)),
            travelled=float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum()),
            joint_error=np.zeros(0) if joints is None else joints - known[-1].positions,
            gripper_agrees=self._open(known[-1]) != self._closes(chunk),
        )

    def _at(self, instant_s: float) -> JointReading | None:
        """Return the joints at an instant, or None where they were not measured around it."""
        after = bisect_left(self._stamps, instant_s - SURPLUS_S)
        if after == len(self._stamps):
            return None
        if abs(self._stamps[after] - instant_s) <= SURPLUS_S:
            return self._readings[after]
        if after == 0 or self._stamps[after] - self._stamps[after - 1] > self._max_gap_s:
            return None
        first, second = self._readings[after - 1], self._readings[after]
        share = (instant_s - first.stamp_s) / (second.stamp_s - first.stamp_s)
        positions = first.positions + share * (second.positions - first.positions)
        return JointReading(
            positions, first.width + share * (second.width - first.width), instant_s
        )

    def _open(self, reading: JointReading) -> bool:
        return reading.width > OPEN_SHARE * self._arm.robot.gripper.open_width

    def _closes(self, chunk: ActionChunk) -> bool:
        value = float(chunk.actions[-1, -1] * chunk.scale[-1])
        return self._arm.robot.gripper.closes(value)


def predicted_joints(arm: Arm, chunk: ActionChunk, start: np.ndarray) -> np.ndarray | None:
    """Return the joints to which a chunk leads, float64[n], or None for actions of the tip.

    Args:
        arm: Whose actions they are.
        chunk: What to do.
        start: Joints at its stamp, float[n].
    """
    values = chunk.actions[:, :-1].astype(np.float64) * chunk.scale[:-1]
    kind = arm.robot.action.kind
    if kind == 'joint_delta':
        return np.asarray(start + values.sum(axis=0))
    return np.asarray(values[-1]) if kind == 'joint_position' else None


def predicted_pose(chunk: ActionChunk, start: np.ndarray) -> np.ndarray:
    """Return the pose to which actions of the tip lead: float[4, 4] → float64[4, 4].

    Each is a displacement and a rotation vector in the base frame.
    """
    pose = np.array(start, np.float64)
    for move in chunk.actions[:, :-1].astype(np.float64) * chunk.scale[:-1]:
        pose[:3, 3] += move[:3]
        pose[:3, :3] = rotation_matrix(move[3:]) @ pose[:3, :3]
    return pose


def _end_s(chunk: ActionChunk) -> float:
    return chunk.stamp_s + chunk.horizon * chunk.dt
