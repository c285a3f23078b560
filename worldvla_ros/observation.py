"""What passes between robot and model: an observation in, an action chunk out.

Knows shapes, types and ranges. Must not know of ROS, of token ids or of torch.

    Observation                            ActionChunk
    images   {camera: uint8[h, w, 3]}      actions   float32[horizon, dim]
    history  ({camera: uint8[h, w, 3]}, …) log_probs float32[horizon, dim] or [0, 0]
    state    float32[state_dim] or None    names, units, scale per dim
    instruction, stamp_s                   dt, stamp_s, chunk_id, model_id, …
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from worldvla_ros.errors import InstructionError, ObservationError

MAX_INSTRUCTION_CHARACTERS = 512


def check_instruction(text: str) -> str:
    """Return the instruction without surrounding white space.

    Raises:
        InstructionError: It is empty, no Unicode text, or longer than
            `MAX_INSTRUCTION_CHARACTERS`.
    """
    stripped = text.strip()
    if any('\ud800' <= character <= '\udfff' for character in stripped):
        raise InstructionError(
            'the instruction is no valid Unicode text', remedy='Send it as UTF-8.'
        )
    if not stripped:
        raise InstructionError(
            'the instruction is empty', remedy='Send a sentence such as "pick up the red cube".'
        )
    if len(stripped) > MAX_INSTRUCTION_CHARACTERS:
        raise InstructionError(
            'the instruction is too long',
            expected=f'at most {MAX_INSTRUCTION_CHARACTERS} characters',
            got=len(stripped),
            remedy='Send one short sentence.',
        )
    return stripped


def check_image(image: np.ndarray, name: str) -> None:
    """Raise ObservationError unless the image is a non-empty uint8[h, w, 3]."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ObservationError(
            f'image of camera {name!r} cannot be used',
            expected='uint8[h, w, 3] with h, w > 0',
            got=f'{image.dtype}{list(image.shape)}',
            remedy='Publish RGB images of at least one pixel.',
        )


@dataclass(frozen=True)
class Observation:
    """What a robot sees and is told at one instant.

    Attributes:
        images: Camera name → uint8[h, w, 3], RGB, the newest image of each camera.
        instruction: One sentence, 1 to `MAX_INSTRUCTION_CHARACTERS` characters.
        state: float32[state_dim] in the units of the checkpoint's state recipe, or None.
        history: Earlier instants, oldest first, each like `images`.
        stamp_s: When the images were taken [s].
    """

    images: Mapping[str, np.ndarray]
    instruction: str = ''
    state: np.ndarray | None = None
    history: tuple[Mapping[str, np.ndarray], ...] = ()
    stamp_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what a model must never see.

        Raises:
            ObservationError: An image or the state has a wrong type, shape or value.
        """
        for instant in (*self.history, self.images):
            for name, image in instant.items():
                check_image(image, name)
        if self.state is not None and not np.isfinite(self.state).all():
            raise ObservationError(
                'the robot state is not finite',
                expected='finite numbers',
                got=np.asarray(self.state).tolist(),
                remedy='Check the joint state publisher.',
            )


@dataclass(frozen=True)
class ActionChunk:
    """Actions that answer one observation; action i is meant for [stamp + i·dt, stamp + (i+1)·dt).

    Attributes:
        actions: float32[horizon, dim], as the checkpoint speaks them.
        names: Name of each dimension.
        units: SI unit of each dimension after multiplication by `scale`.
        scale: float32[dim]; SI value = action · scale.
        dt: Time between actions [s].
        stamp_s: Stamp of the observation that the chunk answers [s].
        chunk_id: Counts the chunks of one policy.
        model_id: Name and content hash of the checkpoint.
        instruction: The sentence that was followed.
        log_probs: float32[horizon, dim], log-probability of each chosen bin among all bins; [0, 0]
            where no bins were chosen, as by a continuous action head.
        latency_s: Measured time from observation to chunk [s].
    """

    actions: np.ndarray
    names: tuple[str, ...]
    units: tuple[str, ...]
    scale: np.ndarray
    dt: float
    stamp_s: float = 0.0
    chunk_id: int = 0
    model_id: str = ''
    instruction: str = ''
    log_probs: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    latency_s: float = 0.0

    @property
    def horizon(self) -> int:
        """Number of actions."""
        return self.actions.shape[0]

    @property
    def dim(self) -> int:
        """Numbers per action."""
        return self.actions.shape[1]
