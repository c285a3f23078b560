"""The action model: an observation in, an action chunk out.

Knows the order from pixels to actions. Must not know ROS or clocks of robots.
"""

import itertools
import time

import numpy as np

from worldvla_ros.checkpoint.folder import Checkpoint
from worldvla_ros.checkpoint.spec import ACT
from worldvla_ros.errors import CheckpointError, ConfigError, ObservationError
from worldvla_ros.inference.chunks import CHOICES, DecodedChunk
from worldvla_ros.observation import ActionChunk, Observation, check_instruction
from worldvla_ros.tokenizers.sequence import Sequence

DECODINGS = ('discrete', 'verified', 'continuous')
NO_LOG_PROBS = np.zeros((0, 0), np.float32)


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


def camera_images(checkpoint: Checkpoint, images: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return the images of the checkpoint's cameras, in its order.

    Raises:
        ObservationError: A camera is missing.
    """
    missing = [name for name in checkpoint.spec.cameras if name not in images]
    if missing:
        raise ObservationError(
            f'camera {missing[0]!r} is missing',
            expected=f'images of {", ".join(checkpoint.spec.cameras)}',
            got=f'images of {", ".join(images) or "no camera"}',
            remedy='Publish and map this camera, or use another checkpoint.',
        )
    return [images[name] for name in checkpoint.spec.cameras]


class Policy:
    """Acts: one observation, one chunk."""

    def __init__(self, checkpoint: Checkpoint, decoding: str | None = None) -> None:
        """Use a loaded checkpoint.

        Args:
            checkpoint: The weights and what they mean.
            decoding: 'discrete' chooses bins; 'verified' chooses the likeliest bins and proves
                that free decoding, as the reference does it, gives the same, or else goes on
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
        """How actions are found: 'discrete', 'verified' or 'continuous'."""
        return self._decoding

    def prompt(self, observation: Observation) -> Sequence:
        """Return the token sequence that asks for actions.

        Raises:
            ObservationError: A camera or the state is missing or has a wrong size.
            InstructionError: The instruction is empty or too long.
        """
        spec = self._checkpoint.spec
        instants = [*observation.history, observation.images][-spec.history :]
        images = [i for instant in instants for i in camera_images(self._checkpoint, instant)]
        return self._checkpoint.sequences.action_prompt(
            check_instruction(observation.instruction),
            self._checkpoint.images.encode(images),
            self._state(observation),
        )

    def act(self, observation: Observation) -> ActionChunk:
        """Return the chunk that answers an observation.

        Continuous actions may lie a little outside the checkpoint's range, as in the reference;
        their chunk has no log-probabilities.

        Raises:
            ObservationError: A camera or the state is missing or has a wrong size.
            InstructionError: The instruction is empty or too long.
            CheckpointError: The sequence is too long for the model, or its scores are not finite.
            DecodingError: Decoding is 'verified', and the answer does not begin with an action.
            MemoryLimitError: Memory is short.
        """
        start = time.monotonic()
        action, tokenizer = self._checkpoint.spec.action, self._checkpoint.sequences.action
        prompt, size = self.prompt(observation), (action.horizon, len(action.names))
        if self._decoding == 'continuous':
            normalised = self._engine.act_continuous(prompt, *size)
            actions, log_probs = tokenizer.denormalise(normalised), NO_LOG_PROBS
        else:
            decoded = self._decode(prompt, size)
            actions, log_probs = tokenizer.values(decoded.bins), decoded.log_probs
        return self._chunk(observation, actions, log_probs, time.monotonic() - start)

    def _decode(self, prompt: Sequence, size: tuple[int, int]) -> DecodedChunk:
        if self._decoding == 'verified':
            return self._engine.act_verified(prompt, *size)
        return self._engine.act(prompt, *size, CHOICES[self._checkpoint.spec.action.bin_choice])

    def _chunk(
        self,
        observation: Observation,
        actions: np.ndarray,
        log_probs: np.ndarray,
        latency_s: float,
    ) -> ActionChunk:
        action = self._checkpoint.spec.action
        return ActionChunk(
            actions=actions,
            names=action.names,
            units=action.units,
            scale=np.asarray(action.scale, np.float32),
            dt=action.dt,
            stamp_s=observation.stamp_s,
            chunk_id=next(self._ids),
            model_id=self._checkpoint.model_id,
            instruction=observation.instruction,
            log_probs=log_probs,
            latency_s=latency_s,
        )

    def _state(self, observation: Observation) -> np.ndarray | None:
        """Return the state for the prompt, or None where the checkpoint knows none."""
        spec = self._checkpoint.spec.state
        if spec is None:
            return None
        shape = None if observation.state is None else observation.state.shape
        if shape != (len(spec.names),):
            raise ObservationError(
                'robot state',
                expected=f'{len(spec.names)} values: {", ".join(spec.names)}',
                got=shape,
                remedy='Publish the joint states of the robot that the checkpoint was made for.',
            )
        return observation.state


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
