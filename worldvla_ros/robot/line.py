"""Where actions lead: the line that a path follows, from the action reached on.

    chunks, newest last ─ blended ─▶ moves, one per action ─ lay_tip | lay_joints ─▶ Line

Knows what the three kinds of actions mean, and the bounds that a line is kept in. Must not know
time, limits of motion or controllers. `progress` counts actions of the newest chunk, fractions
allowed. Positions [m], angles [rad].
"""

from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import NamedTuple

import numpy as np

from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot.kinematics import rotation_matrix
from worldvla_ros.robot.tip import coordinates

BLENDINGS = ('latest', 'blend', 'ensemble')
BLENDED_ACTIONS = 4
"""Over how many actions `blend` goes over from one chunk to the next."""
ENSEMBLE_DECAY = 0.01
"""m in the weights exp(-m·i) of Zhao et al., Learning Fine-Grained Bimanual Manipulation with
Low-Cost Hardware (ACT), 2023, section IV-B; i counts from the oldest chunk, which weighs most."""
WHOLE = 1e-6
"""A progress this near to a whole action is one."""


class Source(NamedTuple):
    """A chunk, and how many of its actions are done."""

    chunk: ActionChunk
    progress: float

    @property
    def values(self) -> np.ndarray:
        """What its actions are in SI units, but for the gripper: float64[horizon, dim - 1]."""
        return np.asarray(self.chunk.actions[:, :-1].astype(np.float64) * self.chunk.scale[:-1])


@dataclass(frozen=True)
class Line:
    """Places at the borders of actions, straight in between.

    Attributes:
        borders: Progress at each place, float64[k + 1], rising.
        rows: Coordinates of each place, float64[k + 1, n].
    """

    borders: np.ndarray
    rows: np.ndarray

    @property
    def start(self) -> float:
        """Progress at the first place."""
        return float(self.borders[0])

    @property
    def end(self) -> float:
        """Progress at the last place."""
        return float(self.borders[-1])

    def at(self, progress: np.ndarray | float) -> np.ndarray:
        """Return the coordinates at a progress: float[] or [m] → float64[n] or [m, n]."""
        columns = [np.interp(progress, self.borders, column) for column in self.rows.T]
        return np.stack(columns, axis=-1)

    def rates(self) -> np.ndarray:
        """Return how much coordinates change per action between places: float64[k, n]."""
        return np.asarray(np.diff(self.rows, axis=0) / np.diff(self.borders)[:, None])

    def until(self, places: int) -> 'Line':
        """Return the line up to a number of places after the first."""
        return Line(self.borders[: places + 1], self.rows[: places + 1])


def borders(progress: float, horizon: int) -> np.ndarray:
    """Return the progress reached, and every end of an action after it: float64[k + 1]."""
    done = round(progress) if abs(progress - round(progress)) < WHOLE else progress
    return np.concatenate([[done], np.arange(math.floor(done) + 1.0, horizon + 1.0)])


def blended(
    sources: Sequence[Source], ends: np.ndarray, blending: str, *, absolute: bool
) -> np.ndarray:
    """Return one move for each action between borders: float64[k, dim - 1].

    Of every chunk, what it meant for the same instant counts: a displacement, or where `absolute`
    a place. A chunk that has ended by then does not.

    Args:
        sources: Chunks, newest last.
        ends: Borders of the newest one's actions, float64[k + 1].
        blending: One of `BLENDINGS`.
        absolute: Whether actions are places.
    """
    newest = sources[-1]
    since_s = (ends - ends[0]) * newest.chunk.dt
    weights = _weights(blending, len(sources), (ends[1:] + ends[:-1]) / 2 - ends[0])
    moves = np.zeros((len(ends) - 1, newest.chunk.dim - 1))
    total = np.zeros(len(moves))
    for source, weight in zip(sources, weights, strict=True):
        at = ends if source is newest else source.progress + since_s / source.chunk.dt
        weight = np.where(at[1:] <= source.chunk.horizon + WHOLE, weight, 0.0)
        moves += weight[:, None] * _moves(source, at, absolute)
        total += weight
    return moves / total[:, None]


def _weights(blending: str, count: int, steps: np.ndarray) -> np.ndarray:
    """Return weights `steps` actions from now, oldest chunk first: float64[count, k]."""
    weights = np.zeros((count, len(steps)))
    if blending == 'ensemble':
        weights += np.exp(-ENSEMBLE_DECAY * np.arange(count))[:, None]
    elif blending == 'blend' and count > 1:
        weights[-1] = np.minimum(1.0, steps / BLENDED_ACTIONS)
        weights[-2] = 1.0 - weights[-1]
    else:
        weights[-1] = 1.0
    return weights


def _moves(source: Source, at: np.ndarray, absolute: bool) -> np.ndarray:
    """Return what a chunk does between instants of its progress: float64[k, dim - 1]."""
    values, whole = source.values, np.arange(source.chunk.horizon + 1.0)
    if absolute:
        return np.stack([np.interp(at[1:], whole[1:], column) for column in values.T], axis=1)
    sums = np.vstack([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    return np.diff(np.stack([np.interp(at, whole, column) for column in sums.T], axis=1), axis=0)


def lay_joints(
    start: np.ndarray,
    moves: np.ndarray,
    ends: np.ndarray,
    *,
    low: np.ndarray,
    high: np.ndarray,
    absolute: bool,
) -> Line:
    """Return the line of joints, each kept in its range.

    Args:
        start: Where the actions done so far lead, float[n].
        moves: Displacements, or places where `absolute`: float[k, n].
        ends: Borders of the actions, float[k + 1].
        low: Least positions, float[n].
        high: Greatest positions, float[n].
        absolute: Whether moves are places.
    """
    rows = [np.asarray(start, np.float64)]
    for move in moves:
        rows.append(np.clip(move if absolute else rows[-1] + move, low, high))
    return Line(ends, np.stack(rows))


def lay_tip(
    start: np.ndarray,
    moves: np.ndarray,
    ends: np.ndarray,
    *,
    low: np.ndarray,
    high: np.ndarray,
    anchor: np.ndarray,
) -> tuple[Line, bool]:
    """Return the line of the tip's coordinates, and whether a wall of the box shortened it.

    Args:
        start: Pose to which the actions done so far lead, float[4, 4].
        moves: Displacements and rotation vectors in the base frame, float[k, 6].
        ends: Borders of the actions, float[k + 1].
        low: Corner of the box, float[3].
        high: Opposite corner, float[3].
        anchor: Orientation at which the rotation vector is 0, float[3, 3].
    """
    poses, clipped = [np.asarray(start, np.float64)], False
    for move in moves:
        pose = poses[-1].copy()
        kept = _inside(pose[:3, 3], move[:3], low, high)
        clipped = clipped or bool(np.abs(kept - move[:3]).max() > WHOLE)
        pose[:3, 3] += kept
        pose[:3, :3] = rotation_matrix(move[3:]) @ pose[:3, :3]
        poses.append(pose)
    return Line(ends, coordinates(np.stack(poses), anchor)), clipped


def _inside(start: np.ndarray, move: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the part of a move that ends inside a box; from outside, no more than the move."""
    kept = np.clip(start + move, low, high) - start
    return np.asarray(np.clip(kept, -np.abs(move), np.abs(move)))
