"""Imagined images beside the observed ones, along a recorded episode.

    start image, actions ─ imagine ─ compare with the observed image where it changed

Knows world models and episodes. Must not know simulators or ROS.
"""

from dataclasses import dataclass

import numpy as np

from worldvla_ros.data.episodes import Episode
from worldvla_ros.errors import ConfigError
from worldvla_ros.metrics import changed_pixels, psnr
from worldvla_ros.observation import Observation
from worldvla_ros.world_model import WorldModel


@dataclass(frozen=True)
class Comparison:
    """Imagined against observed, from one start.

    Attributes:
        start: uint8[h, w, 3], the image that imagining started from.
        observed: uint8[m, h, w, 3].
        imagined: uint8[m, h, w, 3].
        reconstructed: uint8[m, h, w, 3], the observed images through the image tokenizer.
        actions_ahead: How many actions ahead each image lies.
    """

    start: np.ndarray
    observed: np.ndarray
    imagined: np.ndarray
    reconstructed: np.ndarray
    actions_ahead: tuple[int, ...]

    def figures(self) -> list[dict[str, object]]:
        """Return PSNR [dB] of each image, on the pixels that changed since the start."""
        rows: list[dict[str, object]] = []
        for index, ahead in enumerate(self.actions_ahead):
            observed = self.observed[index]
            mask = changed_pixels(self.start, observed)
            rows.append(
                {
                    'actions_ahead': ahead,
                    'changed_share': round(float(mask.mean()), 4),
                    'psnr_imagined': rounded(psnr(self.imagined[index], observed, mask)),
                    'psnr_nothing_moves': rounded(psnr(self.start, observed, mask)),
                    'psnr_reconstructed': rounded(psnr(self.reconstructed[index], observed, mask)),
                }
            )
        return rows


def compare(world: WorldModel, episode: Episode, start: int, ahead: int) -> Comparison:
    """Do what `compare_views` does for the first camera.

    Raises:
        ConfigError, ObservationError: As `compare_views` does.
    """
    camera, *_ = world.checkpoint.spec.cameras
    return compare_views(world, episode, start, ahead)[camera]


def compare_views(
    world: WorldModel, episode: Episode, start: int, ahead: int
) -> dict[str, Comparison]:
    """Imagine from one step of an episode and put the observed images beside it.

    Args:
        world: What imagines.
        episode: Recorded episode.
        start: Step to start from.
        ahead: Actions to look ahead, at least 1; rounded down to whole images.

    Returns:
        Camera name → what it would see beside what it saw.

    Raises:
        ConfigError: `ahead` is below 1, or the episode has no such step.
        ObservationError: The episode ends before the first image that could be imagined, or lacks
            a camera of the checkpoint.
    """
    check_ahead(ahead)
    if not 0 <= start < episode.length:
        raise ConfigError('start', expected=f'a step in 0 … {episode.length - 1}', got=start)
    actions = episode.executed[start : start + ahead]
    images = {name: images[start] for name, images in episode.images.items()}
    views = world.imagine_views(Observation(images), actions)
    return {
        camera: _beside_observed(world, episode.images[camera][start:], imagined)
        for camera, imagined in views.items()
    }


def check_ahead(ahead: int) -> None:
    """Refuse to look ahead by less than one action.

    Raises:
        ConfigError: It is less.
    """
    if ahead < 1:
        raise ConfigError('ahead', expected='at least 1 action', got=ahead)


def _beside_observed(world: WorldModel, images: np.ndarray, imagined: np.ndarray) -> Comparison:
    """Compare imagined images with those of a camera from the start on."""
    per_image = world.checkpoint.spec.world.actions_per_image
    steps = tuple(per_image * (i + 1) for i in range(len(imagined)))
    tokenizer = world.checkpoint.images
    seen = [tokenizer.fit(images[a]) for a in (0, *steps)]
    codes = tokenizer.encode(seen[1:])
    return Comparison(
        start=seen[0],
        observed=np.stack(seen[1:]),
        imagined=imagined,
        reconstructed=tokenizer.decode(np.stack(codes)),
        actions_ahead=steps,
    )


def rounded(value: float) -> float | None:
    """Return a figure as JSON can hold it: 3 decimals, None where it is not finite."""
    return round(value, 3) if np.isfinite(value) else None
