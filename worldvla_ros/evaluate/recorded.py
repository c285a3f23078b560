"""How well whole episodes are imagined from their first image and their actions.

    first image ─ imagine with recorded actions, own images fed back ─ compare with what was seen

The figures are those of RynnVLA-002's `calculate_world_model_performance.py`: means over the
images of a video, then over videos, on images of at most 256 px. Each camera gives a video; all
are pooled, and also reported by camera. The figures are taken from the images themselves; the
reference takes them from MP4 files, which lose some. Published tables show SSIM and LPIPS times
100.

Beside the imagined video stand two that tell how to read its figures: the observed images through
the image tokenizer, which no imagination can beat by much, and a video in which nothing moves.

Knows world models and episodes. Must not know simulators or ROS.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from worldvla_ros.data.episodes import episode_files, load_episode
from worldvla_ros.evaluate.comparison import Comparison, check_ahead, compare_views, rounded
from worldvla_ros.evaluate.perceptual import Lpips, VideoFeatures
from worldvla_ros.metrics import frechet_distance, ssim
from worldvla_ros.world_model import WorldModel

VIDEOS = ('imagined', 'reconstructed', 'nothing_moves')
MAX_SIDE = 256
MIN_CLIP = 22
"""Images of a clip that counts for FVD: the reference leaves shorter ones out."""
MSE_FLOOR = 1e-8
"""Keeps the PSNR of equal images finite, at 80 dB (the reference's `piqa.psnr`)."""

Clip = tuple[str, dict[str, np.ndarray]]
"""Camera, and the features of what it saw and of each of `VIDEOS`."""


def evaluate_world(
    world: WorldModel,
    folder: str | Path,
    *,
    ahead: int | None = None,
    lpips: Lpips | None = None,
    features: VideoFeatures | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Imagine all recorded episodes of a folder and compare.

    Args:
        world: What imagines.
        folder: Of `worldvla collect`, or of anything that writes episodes.
        ahead: Actions to look ahead in each episode; all by default.
        lpips: Measures LPIPS, or None.
        features: Sees features for FVD, or None.
        progress: Whether to show a progress bar.

    Returns:
        Figures of each of `VIDEOS` over all cameras, the same under 'by_camera', what was not
        measured and why, and one record per episode and camera.

    Raises:
        ConfigError: `ahead` is below 1.
        EpisodeError: There are no episodes, or one is damaged.
        ObservationError: An episode is shorter than one imagined image or lacks a camera.
    """
    if ahead is not None:
        check_ahead(ahead)
    rows, clips = [], []
    for file in tqdm(episode_files(folder), desc='world', disable=not progress):
        episode = load_episode(file)
        views = compare_views(world, episode, 0, ahead or episode.length)
        for camera, made in views.items():
            row = {'seed': episode.seed, 'camera': camera}
            rows.append(row | _row(made, lpips))
            if features and len(made.observed) >= MIN_CLIP:
                clips.append((camera, _clip(made, features)))
    cameras = world.checkpoint.spec.cameras
    pooled = _summary(rows, clips, cameras)
    return {
        'actions_per_image': world.checkpoint.spec.world.actions_per_image,
        **pooled,
        'by_camera': {camera: _summary(rows, clips, (camera,)) for camera in cameras},
        'not_measured': _not_measured(lpips, features, pooled['fvd_clips']),
        'episodes': [_rounded_row(row) for row in rows],
    }


def _row(made: Comparison, lpips: Lpips | None) -> dict[str, Any]:
    observed = shrink(made.observed)
    found = {name: video_figures(v, observed, lpips) for name, v in videos_of(made).items()}
    return {'images': len(observed), **found}


def _clip(made: Comparison, features: VideoFeatures) -> dict[str, np.ndarray]:
    videos = {'observed': shrink(made.observed), **videos_of(made)}
    return {name: features.of(video) for name, video in videos.items()}


def _summary(
    rows: list[dict[str, Any]], clips: list[Clip], cameras: tuple[str, ...]
) -> dict[str, Any]:
    """Return counts and mean figures of the videos of some cameras."""
    rows = [row for row in rows if row['camera'] in cameras]
    chosen = [clip for camera, clip in clips if camera in cameras]
    means = {name: _means([row[name] for row in rows]) for name in VIDEOS}
    if len(chosen) >= 2:
        for name in VIDEOS:
            means[name]['fvd'] = rounded(_fvd(chosen, name))
    counts = {'videos': len(rows), 'images': sum(row['images'] for row in rows)}
    return counts | {'fvd_clips': len(chosen)} | means


def videos_of(made: Comparison) -> dict[str, np.ndarray]:
    """Return the three videos to compare with the observed one, each uint8[m, h, w, 3]."""
    still = np.broadcast_to(made.start, made.observed.shape)
    return {
        name: shrink(images)
        for name, images in zip(VIDEOS, (made.imagined, made.reconstructed, still), strict=True)
    }


def video_figures(
    images: np.ndarray, observed: np.ndarray, lpips: Lpips | None
) -> dict[str, float]:
    """Return the mean figures of a video uint8[m, h, w, 3] against the observed one.

    PSNR [dB]; SSIM; mean squared error of values in [0, 1]; LPIPS where it can be measured.
    """
    errors = np.square((images.astype(float) - observed) / 255).mean((1, 2, 3))
    found = {
        'psnr': float(np.mean(-10 * np.log10(errors + MSE_FLOOR))),
        'ssim': float(np.mean([ssim(a, b) for a, b in zip(images, observed, strict=True)])),
        'mse': float(errors.mean()),
    }
    return found | ({'lpips': lpips.distance(images, observed)} if lpips else {})


def shrink(images: np.ndarray) -> np.ndarray:
    """Return images uint8[m, h, w, 3] at no more than `MAX_SIDE` px, averaging areas."""
    height, width = images.shape[1:3]
    if max(height, width) <= MAX_SIDE:
        return images
    scale = MAX_SIDE / max(height, width)
    size = (round(width * scale), round(height * scale))
    pictures = [Image.fromarray(image) for image in images]
    return np.stack([np.asarray(p.resize(size, Image.Resampling.BOX)) for p in pictures])


def _fvd(clips: list[dict[str, np.ndarray]], name: str) -> float:
    pairs = [(clip[name], clip['observed']) for clip in clips]
    return frechet_distance(*(np.stack(side) for side in zip(*pairs, strict=True)))


def _means(rows: list[dict[str, float]]) -> dict[str, float | None]:
    return {name: _as_json(name, float(np.mean([row[name] for row in rows]))) for name in rows[0]}


def _rounded_row(row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: {k: _as_json(k, v) for k, v in row[name].items()} for name in VIDEOS}


def _as_json(name: str, value: float) -> float | None:
    return float(f'{value:.4g}') if name == 'mse' else rounded(value)


def _not_measured(
    lpips: Lpips | None, features: VideoFeatures | None, clips: int
) -> dict[str, str]:
    missing = {}
    if lpips is None:
        missing['lpips'] = 'its weights are no part of this package: give --lpips FILE'
    if features is None:
        missing['fvd'] = 'its weights are no part of this package: give --fvd FILE'
    elif clips < 2:
        missing['fvd'] = f'it needs two videos of {MIN_CLIP} images or more, got {clips}'
    return missing
