"""The action model: an observation in, an action chunk out.

Knows the order from pixels to actions. Must not know ROS or clocks of robots.
"""

from collections.abc import Iterable
import contextlib
from dataclasses import dataclass
import itertools
import time

import numpy as np

from worldvla_ros.checkpoint.folder import Checkpoint
from worldvla_ros.checkpoint.spec import ACT
from worldvla_ros.errors import (
    CheckpointError,
    ConfigError,
    DecodingError,
    InstructionError,
    ObservationError,
)
from worldvla_ros.inference.chunks import CHOICES
from worldvla_ros.observation import (
    ActionChunk,
    EncodedObservation,
    Observation,
    grey_image,
)
from worldvla_ros.tokenizers.sequence import Sequence

DECODINGS = ('discrete', 'verified', 'continuous')
NO_LOG_PROBS = np.zeros((0, 0), np.float32)
WARM_UP_INSTRUCTION = 'pick up the red cube'


@dataclass(frozen=True)
class _Answer:
    """Actions as the checkpoint speaks them, with what a chunk says of their decoding."""

    actions: np.ndarray
    log_probs: np.ndarray
    free_from: int | None = None


def check_task(checkpoint: Checkpoint, task: str) -> None:
    """Refuse a checkpoint that was not trained for a task.

    Raises:
        CheckpointError: It was not.
    """
    if task not in checkpoint.spec.tasks:
        raise CheckpointError(
            f'{checkpoint.spec.name} cannot {task}',
            expected=f'a checkpoint that was trained to {task}',
            got=f'one trained to {", ".join(checkpoint.spec.tasks) or "do neither"}',
            remedy='Use another checkpoint; worldvla inspect says what one can do.',
        )


class Policy:
    """Acts: one observation, one chunk; or several in one batch."""

    def __init__(self, checkpoint: Checkpoint, decoding: str | None = None) -> None:
        """Use a loaded checkpoint.

        Args:
            checkpoint: The weights and what they mean.
            decoding: 'discrete' chooses bins; 'verified' chooses the likeliest bins and proves
                that free decoding, as the official code does it, gives the same, or else goes on
                freely, which may give fewer actions; 'continuous' asks the action head. By
                default the head is asked where there is one, and bins are chosen elsewhere.

        Raises:
            ConfigError: The decoding is unknown.
            CheckpointError: The checkpoint was not trained to act, or has no head to be asked.
        """
        check_task(checkpoint, ACT)
        self._checkpoint = checkpoint
        self._decoding = _decoding(checkpoint, decoding)
        self._engine = checkpoint.engine
        self._ids = itertools.count(1)

    @property
    def checkpoint(self) -> Checkpoint:
        """The weights and what they mean."""
        return self._checkpoint

    @property
    def decoding(self) -> str:
        """The way in which actions are found, 'discrete', 'verified' or 'continuous'."""
        return self._decoding

    def prompt(self, observation: Observation | EncodedObservation) -> Sequence:
        """Return the token sequence that asks for actions.

        Raises:
            ObservationError: A camera or the state is missing, or codes or the state have a wrong
                size.
            InstructionError: The instruction is empty, or holds what is not text.
        """
        if not observation.instruction:
            raise InstructionError(
                'the instruction is empty',
                remedy='Send a sentence such as "pick up the red cube".',
            )
        spec = self._checkpoint.spec
        codes = self._checkpoint.images.of(observation, spec.cameras, spec.images_per_camera)
        return self._checkpoint.sequences.action_prompt(
            observation.instruction, codes, self._state(observation.state)
        )

    def act(self, observation: Observation | EncodedObservation) -> ActionChunk:
        """Return the chunk that answers an observation, its images given as pixels or as codes.

        Continuous actions may lie a little outside the checkpoint's range, as in the official
        code; their chunk has no log-probabilities.

        Raises:
            ObservationError: A camera or the state is missing or has a wrong size.
            InstructionError: The instruction is empty, or holds what is not text.
            CheckpointError: The sequence is too long for the model, or its scores are not finite.
            DecodingError: Decoding is 'verified', and the answer does not begin with an action.
            MemoryLimitError: Memory is short.
        """
        return self.act_many([observation])[0]

    def act_many(
        self, observations: Iterable[Observation | EncodedObservation]
    ) -> list[ActionChunk]:
        """Return the chunks that answer several observations, decoded in one batch.

        Tokens are those of one observation after the other; `latency_s` is that of the batch.

        Raises:
            ObservationError: As `act`, for any of them; then none is answered.
            InstructionError: As `act`.
            CheckpointError: As `act`.
            DecodingError: As `act`.
            MemoryLimitError: As `act`.
        """
        start, observations = time.monotonic(), list(observations)
        if not observations:
            return []
        # images are encoded observation by observation, so that the codes are those of one alone
        answers = self._answers([self.prompt(observation) for observation in observations])
        latency_s = time.monotonic() - start
        return [
            self._chunk(observation, answer, latency_s)
            for observation, answer in zip(observations, answers, strict=True)
        ]

    def warm_up(self) -> None:
        """Act once on grey images, so that the first real chunk is not a slow one.

        Raises:
            CheckpointError: The sequence is too long for the model, or its scores are not finite.
            MemoryLimitError: Memory is short.
        """
        spec = self._checkpoint.spec
        images = dict.fromkeys(spec.cameras, grey_image(spec.image_size))
        state = np.zeros(len(spec.state.names), np.float32) if spec.state else None
        history = (images,) * (spec.images_per_camera - 1)
        # a grey image need not be answered with a chunk
        with contextlib.suppress(DecodingError):
            self.act(Observation(images, WARM_UP_INSTRUCTION, state, history))

    def _answers(self, prompts: list[Sequence]) -> list[_Answer]:
        """Decode prompts in one batch."""
        action, bins = self._checkpoint.spec.action, self._checkpoint.sequences.action
        size, chunks = (action.horizon, len(action.names)), self._engine.chunks
        if self._decoding == 'continuous':
            normalised = chunks.act_continuous_many(prompts, *size)
            return [_Answer(bins.denormalise(n), NO_LOG_PROBS) for n in normalised]
        if self._decoding == 'discrete':
            decoded = chunks.act_many(prompts, *size, CHOICES[action.bin_choice])
        elif len(prompts) == 1:  # goes on freely where the proof ends
            decoded = [chunks.act_verified(prompts[0], *size)]
        else:
            decoded = chunks.act_verified_many(prompts, *size)
        return [_Answer(bins.values(d.bins), d.log_probs, d.free_from) for d in decoded]

    def _chunk(
        self, observation: Observation | EncodedObservation, answer: _Answer, latency_s: float
    ) -> ActionChunk:
        action = self._checkpoint.spec.action
        return ActionChunk(
            actions=answer.actions,
            names=action.names,
            units=action.units,
            scale=np.asarray(action.scale, np.float32),
            dt=action.dt,
            stamp_s=observation.stamp_s,
            chunk_id=next(self._ids),
            model_id=self._checkpoint.model_id,
            instruction=observation.instruction,
            log_probs=answer.log_probs,
            latency_s=latency_s,
            free_from=answer.free_from,
        )

    def _state(self, state: np.ndarray | None) -> np.ndarray | None:
        """Return the state for the prompt, or None where the checkpoint has none."""
        spec = self._checkpoint.spec.state
        if spec is None:
            return None
        shape = None if state is None else state.shape
        if shape != (len(spec.names),):
            raise ObservationError(
                'robot state',
                expected=f'{len(spec.names)} values: {", ".join(spec.names)}',
                got=shape,
                remedy='Publish the joint states of the robot that the checkpoint was made for.',
            )
        return state


def _decoding(checkpoint: Checkpoint, asked: str | None) -> str:
    """Return the way of decoding that is asked for, or the checkpoint's best."""
    if asked is None:
        return 'discrete' if checkpoint.head is None else 'continuous'
    if asked not in DECODINGS:
        raise ConfigError('decoding', expected=' or '.join(DECODINGS), got=repr(asked))
    if asked == 'verified' and checkpoint.spec.action.bin_choice != 'greedy':
        raise CheckpointError(
            f'verified decoding with {checkpoint.model_id}',
            expected='a checkpoint whose bins are chosen greedily',
            got=f'{checkpoint.spec.action.bin_choice}',
            remedy="Use decoding 'discrete'; only greedy choices can be proven.",
        )
    if asked == 'continuous' and checkpoint.head is None:
        raise CheckpointError(
            f'continuous decoding with {checkpoint.model_id}',
            expected='a checkpoint with an action head',
            got='one without',
            remedy="Use decoding 'discrete', or a checkpoint that was trained with a head.",
        )
    return asked
