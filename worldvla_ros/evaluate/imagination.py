"""Imagined images against what was really seen, where it changed, along the expert's episodes.

    start image, actions ─ imagine ─ compare with the observed image on the pixels that changed

Knows simulation and world model. Must not know ROS.
"""

import numpy as np
from tqdm import tqdm

from worldvla_ros.evaluate.comparison import check_ahead, compare, rounded
from worldvla_ros.metrics import changed_pixels, pooled_psnr
from worldvla_ros.sim.collect import expert_episode
from worldvla_ros.sim.seeds import check_seeds
from worldvla_ros.world_model import WorldModel


def imagination(
    world: WorldModel, task: str, episodes: int, seed: int, ahead: int, *, progress: bool = True
) -> dict[str, object]:
    """Return pooled PSNR [dB] of images `ahead` actions ahead, over starts all along episodes.

    Raises:
        ConfigError: `ahead` is below 1.
        EpisodeError: A seed is negative, or there is no episode.
    """
    check_ahead(ahead)
    check_seeds(seed, episodes)
    errors: dict[str, list[np.ndarray]] = {
        'imagined': [],
        'nothing_moves': [],
        'reconstructed': [],
    }
    for each in tqdm(range(seed, seed + episodes), desc='imagination', disable=not progress):
        episode = expert_episode(task, each, world.checkpoint.spec.cameras)
        for start in range(0, episode.length - ahead + 1, ahead):
            made = compare(world, episode, start, ahead)
            observed = made.observed[-1].astype(float)
            mask = changed_pixels(made.start, made.observed[-1])
            candidates = (made.imagined[-1], made.start, made.reconstructed[-1])
            for found, image in zip(errors.values(), candidates, strict=True):
                found.append(np.square(image.astype(float) - observed)[mask])
    pooled = {f'psnr_{name}': rounded(pooled_psnr(found)) for name, found in errors.items()}
    imagined, still = pooled['psnr_imagined'], pooled['psnr_nothing_moves']
    return {
        'actions_ahead': ahead,
        'starts': len(errors['imagined']),
        **pooled,
        'gain': None if imagined is None or still is None else round(imagined - still, 2),
    }
