"""Figures of merit of images and trials. Knows arrays only."""

import math

import numpy as np

CHANGED_LEVELS = 24
"""A pixel has changed if a channel differs by more than this [of 255]."""


def psnr(image: np.ndarray, other: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Return the peak signal-to-noise ratio of two images [dB], infinite for equal ones.

    Args:
        image: uint8[h, w, 3].
        other: uint8[h, w, 3].
        mask: bool[h, w], pixels to look at; all by default.

    Returns:
        NaN where the mask is empty.
    """
    squared = np.square(image.astype(float) - other.astype(float))
    if mask is not None:
        squared = squared[mask]
    if squared.size == 0:
        return math.nan
    mean = squared.mean()
    return math.inf if mean == 0 else float(10 * np.log10(255.0**2 / mean))


def changed_pixels(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return which pixels changed between two images uint8[h, w, 3]: bool[h, w]."""
    return (np.abs(before.astype(int) - after.astype(int)) > CHANGED_LEVELS).any(-1)


def pooled_psnr(errors: list[np.ndarray]) -> float:
    """Return the PSNR of many images together from their squared errors [dB]; NaN for none."""
    pooled = np.concatenate([e.ravel() for e in errors]) if errors else np.zeros(0)
    if not pooled.size:
        return math.nan
    mean = float(pooled.mean())
    return math.inf if mean == 0 else 10 * math.log10(255.0**2 / mean)


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of a rate; 95 % by default (Wilson 1927).

    Raises:
        ValueError: There are no trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f'expected 0 <= successes <= trials >= 1, got {successes} of {trials}')
    rate = successes / trials
    centre = rate + z**2 / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
