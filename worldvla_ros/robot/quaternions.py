"""Rotations as quaternions float64[4], w first."""

import numpy as np


def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the product of two quaternions: the second rotation, then the first."""
    (a, u), (b, v) = (first[0], first[1:]), (second[0], second[1:])
    return np.concatenate([[a * b - u @ v], a * v + b * u + np.cross(u, v)])


def rotated(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return a vector float[3] turned by a quaternion."""
    w, axis = quaternion[0], quaternion[1:]
    twice = 2 * np.cross(axis, vector)
    return np.asarray(vector + w * twice + np.cross(axis, twice))
