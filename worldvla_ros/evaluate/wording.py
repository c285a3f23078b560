"""Which words a checkpoint knows, by teacher-forced cross-entropy on a few recorded transitions.

Three wordings of the world-model prompt are in the wild: that of WorldVLA's training scripts, that
of its evaluation, and that of the paper. And LIBERO's long tasks were trained with the name of the
scene before the sentence but evaluated without. Nobody says which the published weights learnt,
so the one under which the true answer is most likely is found here. Legend: t ids, v vocabulary.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from worldvla_ros.checkpoint.folder import Checkpoint
from worldvla_ros.checkpoint.spec import ACT, IMAGINE
from worldvla_ros.data.episodes import Episode, load_episodes
from worldvla_ros.errors import EpisodeError
from worldvla_ros.model.masks import sequence_mask
from worldvla_ros.observation import camera_images
from worldvla_ros.tokenizers.sequence import Sequence

WORLD_WORDINGS = {
    'training': 'Generate the next image based on the provided sequence of historical images and '
    'corresponding actions.',
    'evaluation': 'Generate the image based on the current image and the action.',
    'paper': 'Generate the next frame based on the current image and the action.',
}
"""WorldVLA `data/world_model_conv_generation.py`, `libero_util/Chameleon_utils.py`, and figure."""
TRANSITIONS = 8

Transition = tuple[Episode, int]


def known_words(
    checkpoint: Checkpoint, folder: str | Path, transitions: int = TRANSITIONS
) -> dict[str, object]:
    """Return the mean cross-entropy [nats per id] under each wording, and the best ones.

    Args:
        checkpoint: What to ask.
        folder: Episodes as `worldvla collect` writes them.
        transitions: How many transitions to take, spread over the episodes.

    Raises:
        EpisodeError: There is no episode, or the episodes do not fit the checkpoint.
    """
    found = list(_transitions(checkpoint, load_episodes(folder), transitions))
    if not found:
        raise EpisodeError(
            f'no episode of {folder} is long enough',
            expected=f'more than {_steps(checkpoint)} actions',
            remedy='Record longer episodes.',
        )
    report: dict[str, object] = {'transitions': len(found)}
    tasks = checkpoint.spec.tasks
    if IMAGINE in tasks:
        report['world_prompt'] = _compare(
            found, {name: _world_scorer(checkpoint, text) for name, text in WORLD_WORDINGS.items()}
        )
    if ACT in tasks:
        asked = {'language': lambda e: e.instruction, 'folder': lambda e: e.task.replace('_', ' ')}
        report['task_text'] = _compare(
            found, {name: _task_scorer(checkpoint, text) for name, text in asked.items()}
        )
    return report


def _compare(
    transitions: list[Transition], scorers: dict[str, Callable[[Transition], float]]
) -> dict[str, object]:
    """Return the mean of each scorer, and which is lowest."""
    means = {n: float(np.mean([score(t) for t in transitions])) for n, score in scorers.items()}
    return {'cross_entropy': means, 'knows_best': min(means, key=lambda name: means[name])}


def _steps(checkpoint: Checkpoint) -> int:
    """Return how many actions after a step must be known."""
    return max(checkpoint.spec.action.horizon, checkpoint.spec.world.actions_per_image)


def _transitions(
    checkpoint: Checkpoint, episodes: Iterable[Episode], count: int
) -> Iterator[Transition]:
    """Yield up to `count` steps, two of each episode, none without a past."""
    spec = checkpoint.spec
    for episode in episodes:
        _check_fits(checkpoint, episode)
        first, last = spec.images_per_camera - 1, episode.length - _steps(checkpoint)
        steps = sorted({first + (last - first) // 3, first + 2 * (last - first) // 3})
        for step in steps if first <= last else ():
            if count <= 0:
                return
            count -= 1
            yield episode, step


def _check_fits(checkpoint: Checkpoint, episode: Episode) -> None:
    spec = checkpoint.spec
    pairs = {
        'cameras': (set(spec.cameras) <= episode.images.keys(), spec.cameras, [*episode.images]),
        'numbers per action': (
            episode.action.shape[1] == spec.action.dim, spec.action.dim, episode.action.shape[1]
        ),
        'numbers per state': (
            spec.state is None or episode.state.shape[1] == len(spec.state.names),
            spec.state and len(spec.state.names),
            episode.state.shape[1],
        ),
    }  # fmt: skip
    for name, (holds, expected, got) in pairs.items():
        if not holds:
            raise EpisodeError(
                f'episode {episode.seed} does not fit {spec.name}: {name}',
                expected=expected,
                got=got,
                remedy='Give episodes of the robot that this checkpoint knows.',
            )


def _codes(checkpoint: Checkpoint, episode: Episode, step: int) -> list[np.ndarray]:
    images = {name: images[step] for name, images in episode.images.items()}
    return checkpoint.images.encode(camera_images(images, checkpoint.spec.cameras))


def _world_scorer(checkpoint: Checkpoint, wording: str) -> Callable[[Transition], float]:
    """Return how unlikely the true next image is under a wording of the prompt."""
    builder, vocab = checkpoint.sequences, checkpoint.spec.vocabulary
    builder = replace(builder, prompts=replace(builder.prompts, world=wording))
    stride = checkpoint.spec.world.actions_per_image

    def score(transition: Transition) -> float:
        episode, step = transition
        prompt = builder.world_prompt(
            _codes(checkpoint, episode, step), episode.executed[step : step + stride]
        )
        answer = builder.with_images(prompt, _codes(checkpoint, episode, step + stride))
        return _cross_entropy(checkpoint, answer, vocab.codes)

    return score


def _task_scorer(
    checkpoint: Checkpoint, words: Callable[[Episode], str]
) -> Callable[[Transition], float]:
    """Return how unlikely the recorded chunk is under a text of the task."""
    spec, builder = checkpoint.spec, checkpoint.sequences

    def score(transition: Transition) -> float:
        episode, step = transition
        past = range(step - spec.images_per_camera + 1, step + 1)
        codes = [c for instant in past for c in _codes(checkpoint, episode, instant)]
        state = episode.state[step] if spec.state else None
        prompt = builder.action_prompt(words(episode), codes, state)
        chunk = episode.action[step : step + spec.action.horizon]
        answer = builder.with_actions(prompt, chunk)
        return _cross_entropy(checkpoint, answer, spec.vocabulary.action_bins)

    return score


@torch.inference_mode()
def _cross_entropy(checkpoint: Checkpoint, sequence: Sequence, span: slice) -> float:
    """Return the mean over the answer's ids in a span, among all ids."""
    ids = torch.as_tensor(sequence.ids, device=checkpoint.device)
    positions = torch.arange(len(ids), device=checkpoint.device)
    roles = torch.as_tensor(sequence.roles, device=checkpoint.device)
    hidden = checkpoint.model(ids[None], positions, sequence_mask(positions[None], roles[None]))
    asked = (positions >= sequence.prompt_length) & (ids >= span.start) & (ids < span.stop)
    rows = asked.nonzero()[:, 0]
    logits = checkpoint.model.logits(hidden[0, rows - 1])  # [t, v]
    return float(functional.cross_entropy(logits, ids[rows]))
