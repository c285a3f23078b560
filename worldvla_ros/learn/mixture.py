"""The training mixture: action and world sequences drawn from tokenised episodes.

    action at t   instruction (drawn anew), state t, image t │ the expert's actions t … t+K-1
    world at t    image t, executed actions t … t+n-1                     │ image t+n

Beyond the end of an episode the last action is repeated, so that the last observations are learnt
too. Under the chunk mask an action of a chunk depends on the prompt and its own position alone, so
a random few of the K are enough for an unbiased gradient; they keep their positions.
Knows episodes as codes and numbers. Must not know pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from worldvla_ros.data.episodes import PLACE_DIM
from worldvla_ros.tokenizers.sequence import Sequence, SequenceBuilder

IGNORE = -100
"""Label of a token that is not supervised."""
LENGTH_STEP = 16
"""Batches are padded to multiples of this, so that a compiled model meets few lengths."""

Paraphrase = Callable[[np.random.Generator], str]


@dataclass(frozen=True)
class TokenEpisode:
    """An episode whose images are codes already.

    Attributes:
        codes: int16[T + 1, cameras, rows, columns].
        state: float32[T + 1, state_dim].
        action: float32[T, dim], what the expert would do.
        executed: float32[T, dim], what was done.
        target: float32[T + 1, 5], where the object to move is, see `data.episodes.Episode`; NaN
            where nobody knows.
        instruction: Draws a sentence that names the task.
    """

    codes: np.ndarray
    state: np.ndarray
    action: np.ndarray
    executed: np.ndarray
    target: np.ndarray
    instruction: Paraphrase

    @property
    def length(self) -> int:
        """Number of actions."""
        return len(self.action)


@dataclass(frozen=True)
class Example:
    """A drawn sequence, the position int64[t] of each token, and where the object to move is."""

    sequence: Sequence
    positions: np.ndarray
    target: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Padded sequences.

    Attributes:
        ids: int64[b, t].
        positions: int64[b, t].
        blocks: int64[b, t].
        labels: int64[b, t], IGNORE where nothing is supervised.
        prompt_lengths: int64[b].
        targets: float32[b, 5], NaN where unknown.
    """

    ids: Tensor
    positions: Tensor
    blocks: Tensor
    labels: Tensor
    prompt_lengths: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> 'Batch':
        """Return the batch on a device."""
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


@dataclass(frozen=True)
class Mixture:
    """Draws sequences of both tasks from episodes.

    Attributes:
        episodes: Where to draw from.
        sequences: Builds token sequences.
        horizon: Actions per chunk (K).
        actions_per_image: Actions between the two images of a world sequence (n).
        action_share: Share of action sequences.
        actions_kept: Actions of a chunk that a sequence keeps, 1 … K.
        prompt_images: Share of the prompts' image codes that are supervised too, drawn anew.
    """

    episodes: tuple[TokenEpisode, ...]
    sequences: SequenceBuilder
    horizon: int
    actions_per_image: int
    action_share: float
    actions_kept: int
    prompt_images: float = 0.0

    def batches(self, size: int, rng: np.random.Generator) -> tuple[Batch, ...]:
        """Draw `size` sequences at random places: one batch per task, of fixed sizes."""
        actions = round(size * self.action_share)
        tasks = ((self.action_sequence, actions), (self.world_sequence, size - actions))
        return tuple(self._draw(make, count, rng) for make, count in tasks if count)

    def _draw(self, make: Callable, count: int, rng: np.random.Generator) -> Batch:
        lengths = np.array([e.length for e in self.episodes], float)
        chosen = rng.choice(len(lengths), size=count, p=lengths / lengths.sum())
        batch = collate([make(self.episodes[i], rng) for i in chosen], self.sequences.vocab.pad)
        if not self.prompt_images:
            return batch
        span = self.sequences.vocab.codes
        code = (batch.ids >= span.start) & (batch.ids < span.stop)
        drawn = torch.from_numpy(rng.random(code.shape) < self.prompt_images)
        return replace(batch, labels=torch.where(code & drawn, batch.ids, batch.labels))

    def action_sequence(self, episode: TokenEpisode, rng: np.random.Generator) -> Example:
        """Draw an action sequence of one episode."""
        start = int(rng.integers(episode.length))
        steps = np.minimum(np.arange(start, start + self.horizon), episode.length - 1)
        state = episode.state[start] if self.sequences.state else None
        codes = list(episode.codes[start])
        prompt = self.sequences.action_prompt(episode.instruction(rng), codes, state)
        whole = self.sequences.with_actions(prompt, episode.action[steps])
        kept = rng.permutation(self.horizon)[: self.actions_kept] + 1
        return Example(*thin(whole, kept), episode.target[start])

    def world_sequence(self, episode: TokenEpisode, rng: np.random.Generator) -> Example:
        """Draw a world sequence of one episode, which must have at least n actions."""
        start = int(rng.integers(episode.length - self.actions_per_image + 1))
        end = start + self.actions_per_image
        actions = episode.executed[start:end]
        prompt = self.sequences.world_prompt(list(episode.codes[start]), actions)
        whole = self.sequences.with_images(prompt, list(episode.codes[end]))
        return Example(whole, np.arange(len(whole.ids)), np.full(PLACE_DIM, np.nan, np.float32))


def thin(sequence: Sequence, kept: np.ndarray) -> tuple[Sequence, np.ndarray]:
    """Leave out the actions of a chunk that are not `kept` (roles 1 … K).

    Returns:
        The shorter sequence, and the position int64[t] of each of its tokens in the whole one.
    """
    positions = np.flatnonzero((sequence.roles < 1) | np.isin(sequence.roles, kept))
    ids, roles = sequence.ids[positions], sequence.roles[positions]
    return Sequence(ids, roles, sequence.prompt_length), positions


def collate(examples: list[Example], pad: int) -> Batch:
    """Pad sequences on the right; prompts and padding are not supervised."""
    longest = max(len(e.sequence.ids) for e in examples)
    shape = (len(examples), -(-longest // LENGTH_STEP) * LENGTH_STEP)
    ids, blocks = np.full(shape, pad), np.zeros(shape, np.int64)
    labels, places = np.full(shape, IGNORE), np.zeros(shape, np.int64)
    for row, example in enumerate(examples):
        sequence, positions = example.sequence, example.positions
        length, prompt = len(sequence.ids), sequence.prompt_length
        ids[row, :length] = sequence.ids
        blocks[row, :length] = sequence.roles
        labels[row, prompt:length] = sequence.ids[prompt:]
        places[row, :length] = positions
        places[row, length:] = positions[-1] + 1 + np.arange(shape[1] - length)
    prompts = np.array([e.sequence.prompt_length for e in examples])
    targets = np.stack([e.target for e in examples]).astype(np.float32)
    arrays = (ids, places, blocks, labels, prompts, targets)
    return Batch(*(torch.from_numpy(a) for a in arrays))
