"""Prompts and responses as token ids: the only place that knows wording and layout.

    action  bos, text(instruction), [state], image × m, sep │ action block × K, sep
    world   bos, text, image × cameras, action block × n, sep │ image × cameras, sep

What is right of │ is the response and is supervised; the prompt is not. `roles` say what the
chunk mask does with a token: 0 is seen by all later tokens, k ≥ 1 is action k of the chunk,
-1 is an action of the past inside a prompt, which the chunk may not see (see model/masks.py).

Must not know of torch, of pixels or of robots.
"""

from dataclasses import dataclass
import functools

import numpy as np
from numpy.typing import NDArray

from worldvla_ros.errors import CheckpointError, InstructionError
from worldvla_ros.tokenizers.bins import BinTokenizer
from worldvla_ros.tokenizers.image import ImageTokenizer
from worldvla_ros.tokenizers.text import TextTokenizer
from worldvla_ros.tokenizers.vocab import Vocabulary

SHARED_ROLE = 0
PAST_ACTION_ROLE = -1
MARKER = '\0'
"""In place of the instruction, where wording is checked; no sentence holds it."""
UNDECIDED = -1
"""In place of an id that is decided only while decoding, see `Sequence.undecided`."""


_Ids = list[int] | NDArray[np.int64]
"""A part of a sequence: [t]."""


@dataclass(frozen=True)
class Prompts:
    """Wording of the two tasks; `{task}` stands for the instruction."""

    action: str = 'What action should the robot take to {task}?'
    world: str = 'Generate the image based on the current image and the action.'

    def __post_init__(self) -> None:
        """Check that the instruction has its place.

        Raises:
            CheckpointError: `{task}` is missing, or there is another place.
        """
        try:
            fits = MARKER in self.action.format(task=MARKER) and MARKER not in self.action
        except (KeyError, IndexError, ValueError):
            fits = False
        if not fits:
            raise CheckpointError(
                'wording of the action prompt',
                expected='a sentence with {task} in it',
                got=repr(self.action),
            )


@dataclass(frozen=True)
class Sequence:
    """Token ids with what the model must know beside them.

    Attributes:
        ids: int64[t], `UNDECIDED` where an id is not known yet.
        roles: int64[t], what the chunk mask does with each token (module docstring).
        prompt_length: How many ids belong to the prompt.
    """

    ids: np.ndarray
    roles: np.ndarray
    prompt_length: int

    def undecided(self, span: slice) -> 'Sequence':
        """Return the sequence with `UNDECIDED` in place of the ids of a span.

        World prompts after the first of a rollout are given like this: the codes imagined before
        take these places (see inference/images.py).
        """
        inside = (self.ids >= span.start) & (self.ids < span.stop)
        return Sequence(np.where(inside, UNDECIDED, self.ids), self.roles, self.prompt_length)


@dataclass(frozen=True)
class SequenceBuilder:
    """Builds the sequences of both tasks from codes, numbers and text."""

    vocab: Vocabulary
    text: TextTokenizer
    action: BinTokenizer
    state: BinTokenizer | None
    image: ImageTokenizer
    prompts: Prompts
    world_action: BinTokenizer | None = None
    """Of the actions in world prompts, where they are quantised with other statistics."""

    def action_prompt(
        self,
        instruction: str,
        codes: list[np.ndarray],
        state: np.ndarray | None = None,
        past_actions: list[np.ndarray] | None = None,
    ) -> Sequence:
        """Return the prompt that asks for actions.

        Args:
            instruction: One sentence.
            codes: int[rows, columns] per image, oldest instant first, cameras within an instant.
            state: float[state_dim], if the checkpoint has a state recipe.
            past_actions: float[n, dim] for each instant but the newest, executed after it and laid
                out behind its images; none by default. The chunk does not see them.

        Raises:
            InstructionError: The instruction holds the name of a token that is not text.
            ValueError: A state is missing, or given to a checkpoint without a state recipe; or the
                images do not divide into instants.
        """
        past = past_actions or []
        cameras, rest = divmod(len(codes), len(past) + 1)
        if rest:
            raise ValueError(f'{len(codes)} images do not divide into {len(past) + 1} instants')
        if (state is None) != (self.state is None):
            raise ValueError('a state must be given exactly where the checkpoint has a recipe')
        parts: list[_Ids] = [[self.vocab.bos]]
        parts.append(self.text_ids(self.prompts.action.format(task=instruction)))
        if self.state is not None and state is not None:
            parts.append(self.state.encode(state))
        images = [self.image.encode(c) for c in codes]
        roles = [SHARED_ROLE] * len(parts)
        for i, actions in enumerate(past):
            parts += [
                *images[i * cameras : (i + 1) * cameras],
                self.action.encode(actions).ravel(),
            ]
            roles += [SHARED_ROLE] * cameras + [PAST_ACTION_ROLE]
        parts += [*images[len(past) * cameras :], [self.vocab.sep]]
        return _prompt(parts, roles)

    def world_prompt(self, codes: list[np.ndarray], actions: np.ndarray) -> Sequence:
        """Return the prompt that asks for the next image of each camera.

        Args:
            codes: int[rows, columns] per camera, the present images.
            actions: float[n, dim], executed between the present and the asked-for images.
        """
        parts: list[_Ids] = [[self.vocab.bos], self._world_words]
        parts += [self.image.encode(c) for c in codes]
        numbers = self.world_action or self.action
        parts += [numbers.encode(actions).reshape(-1), [self.vocab.sep]]
        return _prompt(parts)

    def with_actions(self, prompt: Sequence, actions: np.ndarray) -> Sequence:
        """Append the response of an action prompt: float[K, dim] → K blocks and sep."""
        roles = np.repeat(np.arange(1, len(actions) + 1), self.action.block_length)
        ids = np.append(self.action.encode(actions).reshape(-1), self.vocab.sep)
        return _append(prompt, ids, np.append(roles, SHARED_ROLE))

    def with_images(self, prompt: Sequence, codes: list[np.ndarray]) -> Sequence:
        """Append the response of a world prompt: one image block per camera and sep."""
        ids = np.concatenate([*(self.image.encode(c) for c in codes), [self.vocab.sep]])
        return _append(prompt, ids, np.full(len(ids), SHARED_ROLE))

    def text_ids(self, text: str) -> list[int]:
        """Return the ids of a text, without any special token.

        Raises:
            InstructionError: It holds the name of a token that is not text.
        """
        ids = self.text.encode(text)
        foreign = [i for i in ids if not self.vocab.is_text(i)]
        if foreign:
            raise InstructionError(
                f'the text {text!r} holds a token that is not text',
                expected='plain words',
                got=f'token id {foreign[0]}',
                remedy='Leave names in angle brackets such as <reserved08706> out.',
            )
        return ids

    @functools.cached_property
    def _world_words(self) -> list[int]:
        """Ids of the wording of world prompts, which never changes."""
        return self.text_ids(self.prompts.world)


def _prompt(parts: list[_Ids], roles: list[int] | None = None) -> Sequence:
    """Join parts; `roles` are those of the first parts, all others are shared."""
    ids = np.concatenate([np.asarray(p, np.int64) for p in parts])
    all_roles = (roles or []) + [SHARED_ROLE] * (len(parts) - len(roles or []))
    token_roles = np.repeat(np.array(all_roles, np.int64), [len(p) for p in parts])
    return Sequence(ids, token_roles, len(ids))


def _append(prompt: Sequence, ids: np.ndarray, roles: np.ndarray) -> Sequence:
    return Sequence(
        np.concatenate([prompt.ids, ids]),
        np.concatenate([prompt.roles, roles]),
        prompt.prompt_length,
    )
