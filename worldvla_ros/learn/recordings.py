"""From recorded episodes to what training reads: sentences, images, and episodes as codes.

    folders of episodes ─┬─ sentences of their sources          for the text tokenizer
                         ├─ images, and what they show where    for the image tokenizer
                         └─ episodes as codes, cached           for the unified model

Knows episodes, images and codes. Must not know token ids, or any source by name.
"""

from collections.abc import Iterable
import functools
import logging
import os
from pathlib import Path
import re
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from worldvla_ros.data.episodes import (
    Episode,
    EpisodeInfo,
    episode_files,
    load_episode,
    load_episodes,
    read_info,
)
from worldvla_ros.data.places import VIEW
from worldvla_ros.data.wording import AsRecorded, Wordings
from worldvla_ros.learn.batches import TokenEpisode
from worldvla_ros.learn.settings import Settings
from worldvla_ros.learn.train_vqgan import fit_images
from worldvla_ros.model.vqgan import VQGAN

LOG = logging.getLogger(__name__)
IMAGES_KEPT = 40000
"""Most images that the image tokenizer learns from; they are held in memory."""
ENCODE_BATCH = 64
CACHED = ('codes', 'state', 'action', 'executed', 'target', 'task', 'instruction', 'source')


def source_corpus(settings: Settings, wordings: Wordings) -> list[str]:
    """Return sentences of the sources that the training episodes come from.

    Raises:
        EpisodeError: There are no episodes, or one is damaged.
    """
    files = [f for folder in settings.data.train for f in episode_files(folder)]
    infos = [read_info(file) for file in files]
    _report_sources(infos, wordings)
    sources = {info.source for info in infos}
    recorded = sorted({i.instruction for i in infos if i.source not in wordings})
    known = [wordings[source] for source in sorted(sources & wordings.keys())]
    return [s for wording in (*known, AsRecorded(tuple(recorded))) for s in wording.corpus()]


def _report_sources(infos: Iterable[EpisodeInfo], wordings: Wordings) -> None:
    sources = [info.source for info in infos]
    for source in sorted({*sources}):
        words = 'many wordings' if source in wordings else 'only the recorded instruction'
        count = sources.count(source)
        LOG.info('%d episodes of %s: %s of each task', count, source or 'no named source', words)


def image_samples(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Return images of all cameras and folders at the model's size, a few of each episode.

    Returns:
        uint8[n, h, w, 3], and float32[n, objects, 2], where each object known by name is in each.

    Raises:
        EpisodeError: There are no episodes, or one is damaged.
    """
    rng = np.random.default_rng(settings.seed)
    files = [f for folder in settings.data.train for f in episode_files(folder)]
    each = max(1, IMAGES_KEPT // (len(files) * len(settings.cameras)))
    kept: list[np.ndarray] = []
    seen: list[dict[str, np.ndarray]] = []
    for file in tqdm(files, desc='images', mininterval=5):
        episode = load_episode(file)
        for camera in settings.cameras:
            images = episode.images[camera]
            chosen = rng.choice(len(images), size=min(each, len(images)), replace=False)
            kept.append(fit_images(images[chosen], settings.image_size, settings.vqgan.reduction))
            # places hold columns and rows of the first camera's image
            views = _views(episode) if camera == settings.cameras[0] else {}
            seen += [{name: view[step] for name, view in views.items()} for step in chosen]
    return np.concatenate(kept), _by_name(seen)


def _views(episode: Episode) -> dict[str, np.ndarray]:
    """Return where the first camera sees each object known by name: float32[T + 1, 2]."""
    if episode.places is None:
        return {}
    return {name: episode.places[:, i, VIEW] for i, name in enumerate(episode.objects)}


def _by_name(seen: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Return float32[n, objects, 2], one object for each name that any image has."""
    names = sorted({name for objects in seen for name in objects})
    views = np.full((len(seen), len(names), 2), np.nan, np.float32)
    for row, objects in enumerate(seen):
        for name, view in objects.items():
            views[row, names.index(name)] = view
    return views


def token_episodes(
    settings: Settings, folder: str, vqgan: VQGAN, wordings: Wordings
) -> list[TokenEpisode]:
    """Return the successful episodes of a folder as codes, from the run's cache if it has them.

    Raises:
        EpisodeError: There are no episodes, or one is damaged.
    """
    name = re.sub(r'\W+', '_', str(Path(folder)).strip('/'))
    file = settings.work / f'codes_{name}.npz'
    if not file.is_file():
        episodes = tqdm(load_episodes(folder), desc=f'codes of {folder}', mininterval=5)
        _write_cache(file, [tokenise(episode, vqgan, settings) for episode in episodes])
    with np.load(file) as content:
        count = int(content['count'])
        rows = [{n: content[f'{i}/{n}'] for n in CACHED} for i in range(count)]
    return [_token_episode(row, wordings) for row in rows]


def tokenise(episode: Episode, vqgan: VQGAN, settings: Settings) -> dict[str, np.ndarray]:
    """Return what is `CACHED` of an episode; codes are int16[T + 1, cameras, rows, columns]."""
    codes = []
    for camera in settings.cameras:
        reduction = vqgan.config.reduction
        images = fit_images(episode.images[camera], settings.image_size, reduction)
        batches = torch.from_numpy(images).split(ENCODE_BATCH)
        codes.append(torch.cat([vqgan.encode(b) for b in batches]).numpy().astype(np.int16))
    return {
        'codes': np.stack(codes, axis=1),
        'state': episode.state,
        'action': episode.action,
        'executed': episode.executed,
        'target': episode.target,
        'task': np.array(episode.task),
        'instruction': np.array(episode.instruction),
        'source': np.array(episode.source),
    }


def _write_cache(file: Path, made: list[dict[str, np.ndarray]]) -> None:
    """Write episodes as codes; a process killed meanwhile leaves no half-written cache."""
    arrays: dict[str, Any] = {f'{i}/{k}': v for i, e in enumerate(made) for k, v in e.items()}
    partial = file.with_suffix('.partial')
    with partial.open('wb') as stream:
        np.savez(stream, count=np.array(len(made)), **arrays)
    os.replace(partial, file)


def _token_episode(row: dict[str, np.ndarray], wordings: Wordings) -> TokenEpisode:
    wording = wordings.get(str(row['source']), AsRecorded())
    task, instruction = str(row['task']), str(row['instruction'])
    return TokenEpisode(
        codes=row['codes'],
        state=row['state'],
        action=row['action'],
        executed=row['executed'],
        target=row['target'],
        instruction=functools.partial(wording.sentence, task, instruction),
    )
