"""A path in time: where some coordinates are, how fast, and how fast that changes, at any instant.

    knots  t0 ───── t0 + h ───── t0 + 2h ───── …    positions, velocities, accelerations at each
             jerk 0        jerk 1                   constant between: position is a cubic in time

n coordinates of whatever kind: joints [rad], or the tip's position [m] and rotation vector [rad].
Accelerations are linear between knots, so their greatest values are at knots; velocities may turn
between them, see `Path.greatest`. Must not know robots, chunks or clocks. Times [s] of one clock.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

REST = 1e-6
"""A velocity or acceleration below this is none [1/s, 1/s² of the coordinate's unit]."""


@dataclass(frozen=True)
class State:
    """Where some coordinates are at an instant.

    Attributes:
        positions: float64[n].
        velocities: float64[n] [1/s].
        accelerations: float64[n] [1/s²].
    """

    positions: np.ndarray
    velocities: np.ndarray
    accelerations: np.ndarray

    @property
    def at_rest(self) -> bool:
        """Whether nothing moves or is about to."""
        moving = np.abs(self.velocities).max(initial=0.0)
        return bool(max(moving, np.abs(self.accelerations).max(initial=0.0)) <= REST)


def rest(positions: np.ndarray) -> State:
    """Return the state of rest at positions float[n]."""
    still = np.zeros(len(positions))
    return State(np.array(positions, np.float64), still, still)


class Greatest(NamedTuple):
    """The greatest size of each coordinate's velocity, acceleration and jerk: float64[n] each."""

    velocity: np.ndarray
    acceleration: np.ndarray
    jerk: np.ndarray


@dataclass(frozen=True)
class Path:
    """Coordinates over time, of constant jerk between knots.

    Attributes:
        start_s: Time of the first knot [s].
        step_s: Time between knots [s].
        positions: float64[k + 1, n].
        velocities: float64[k + 1, n] [1/s].
        accelerations: float64[k + 1, n] [1/s²].
    """

    start_s: float
    step_s: float
    positions: np.ndarray
    velocities: np.ndarray
    accelerations: np.ndarray

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit each other.

        Raises:
            ValueError: Shapes differ, there is no knot, or the step is not positive.
        """
        shape = self.positions.shape
        if len(shape) != 2 or not len(self.positions):
            raise ValueError(f'positions of a path must be [k + 1, n], not {list(shape)}')
        if self.velocities.shape != shape or self.accelerations.shape != shape:
            raise ValueError('velocities and accelerations of a path must be as its positions')
        if not self.step_s > 0:
            raise ValueError(f'knots of a path must be apart in time, not {self.step_s} s')

    @property
    def knots(self) -> int:
        """Number of knots, k + 1."""
        return len(self.positions)

    @property
    def end_s(self) -> float:
        """Time of the last knot [s]."""
        return self.start_s + (self.knots - 1) * self.step_s

    @cached_property
    def times_s(self) -> np.ndarray:
        """Times of the knots: float64[k + 1] [s]."""
        return self.start_s + self.step_s * np.arange(self.knots)

    @cached_property
    def jerks(self) -> np.ndarray:
        """Jerk between knots: float64[k, n] [1/s³]."""
        return np.diff(self.accelerations, axis=0) / self.step_s

    def at(self, time_s: float) -> State:
        """Return the state at a time [s]; before the start that of the start, likewise the end."""
        last = self.knots - 1
        since = time_s - self.start_s
        knot = int(since / self.step_s) if since > 0 else 0
        if since <= 0 or knot >= last:
            place = 0 if since <= 0 else last
            return State(self.positions[place], self.velocities[place], self.accelerations[place])
        t = since - knot * self.step_s
        rows = np.array(
            ((1.0, t, t * t / 2, t**3 / 6), (0.0, 1.0, t, t * t / 2), (0.0, 0.0, 1.0, t))
        )
        return State(*(rows @ self._cubics[knot]))

    def at_rest(self, time_s: float) -> bool:
        """Whether the path has ended at a time [s], with nothing moving from then on."""
        return time_s >= self.end_s and self.at(self.end_s).at_rest

    @cached_property
    def _cubics(self) -> np.ndarray:
        """Position, velocity, acceleration and jerk from each knot on: float64[k, 4, n]."""
        whole = (self.positions[:-1], self.velocities[:-1], self.accelerations[:-1], self.jerks)
        return np.stack(whole, axis=1)

    @cached_property
    def greatest(self) -> Greatest:
        """The greatest velocity, acceleration and jerk anywhere on the path, exactly."""
        jerks, before, after = self.jerks, self.accelerations[:-1], self.accelerations[1:]
        with np.errstate(divide='ignore', invalid='ignore'):
            turning = self.velocities[:-1] - before**2 / (2 * jerks)
        turning = np.where(before * after < 0, turning, 0.0)  # a velocity turns inside
        return Greatest(
            np.maximum(_largest(self.velocities), _largest(turning)),
            _largest(self.accelerations),
            _largest(jerks),
        )

    def moved(self, start_s: float) -> 'Path':
        """Return the same path with another start time [s]."""
        return replace(self, start_s=start_s)


def _largest(rows: np.ndarray) -> np.ndarray:
    """Return the largest size in each column: float[m, n] → float64[n]; 0 without rows."""
    return np.asarray(np.abs(rows).max(axis=0, initial=0.0))


def standing(positions: np.ndarray, start_s: float, step_s: float = 1.0) -> Path:
    """Return the path that stays at positions float[n]."""
    place = np.array(positions, np.float64)[None]
    return Path(start_s, step_s, place, np.zeros_like(place), np.zeros_like(place))
