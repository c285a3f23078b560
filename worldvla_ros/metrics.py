"""Figures of merit of images and trials. Knows arrays only."""

import math

import numpy as np

CHANGED_LEVELS = 24
"""A pixel has changed if a channel differs by more than this [of 255]."""
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_STABILITY = (0.01 * 255) ** 2, (0.03 * 255) ** 2
COVARIANCE_RIDGE = 1e-6


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


def ssim(image: np.ndarray, other: np.ndarray) -> float:
    """Return the structural similarity of two images uint8[h, w, 3], 1 for equal ones.

    Wang et al. 2004, equation 13, in a Gaussian window of 11 px and σ 1.5, over all windows that
    lie inside the image, averaged over windows and channels.

    Raises:
        ValueError: A side is shorter than the window, or the shapes differ.
    """
    if image.shape != other.shape or min(image.shape[:2]) < SSIM_WINDOW:
        raise ValueError(
            f'expected equal shapes of at least {SSIM_WINDOW} px, got {image.shape}, {other.shape}'
        )
    x, y = image.astype(float), other.astype(float)
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x = _windowed(x * x) - mean_x**2
    variance_y = _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    c1, c2 = SSIM_STABILITY
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float((luminance * structure).mean())


def frechet_distance(features: np.ndarray, others: np.ndarray) -> float:
    """Return the Fréchet distance of two sets of features float[n, d], taken as Gaussians.

    |μ₁ - μ₂|² + trace(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½) with biased covariances and a ridge of 1e-6, as in
    RynnVLA-002's `calculate_world_model_performance.py` (Heusel et al. 2017, equation 6).

    Raises:
        ValueError: A set has fewer than two rows.
    """
    if min(len(features), len(others)) < 2:
        raise ValueError(f'expected two rows or more, got {len(features)} and {len(others)}')
    (mean, covariance), (other_mean, other_covariance) = _moments(features), _moments(others)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    # Σ₁Σ₂ has the eigenvalues of the symmetric Σ₁^½ Σ₂ Σ₁^½
    product = np.linalg.eigvalsh(root @ other_covariance @ root)
    overlap = 2 * np.sqrt(np.maximum(product, 0)).sum()
    spread = np.trace(covariance) + np.trace(other_covariance) - overlap
    return float(np.square(mean - other_mean).sum() + spread)


def changed_pixels(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return which pixels changed between two images uint8[h, w, 3]: bool[h, w]."""
    return np.asarray((np.abs(before.astype(int) - after.astype(int)) > CHANGED_LEVELS).any(-1))


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


def _windowed(values: np.ndarray) -> np.ndarray:
    """Return the Gaussian mean of each window: float[h, w, c] → float[h - 10, w - 10, c]."""
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    weights = np.exp(-np.square(offsets) / (2 * SSIM_SIGMA**2))
    weights /= weights.sum()
    rows = np.lib.stride_tricks.sliding_window_view(values, SSIM_WINDOW, 0) @ weights
    return np.lib.stride_tricks.sliding_window_view(rows, SSIM_WINDOW, 1) @ weights


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean float[d] and covariance float[d, d]."""
    features = np.asarray(features, float)
    mean = features.mean(0)
    centred = features - mean
    covariance = centred.T @ centred / len(features)
    return mean, covariance + COVARIANCE_RIDGE * np.eye(len(mean))
