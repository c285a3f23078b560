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
MAX_IMAGE_PIXELS = 1 << 26
"""8192 × 8192; copies of one such image stay below a gigabyte."""
MAX_IMAGE_ASPECT = 64
"""Longer side by shorter side; an image is scaled until its shorter side fills the model's."""


def camera_images(images: Mapping[str, np.ndarray], cameras: tuple[str, ...]) -> list[np.ndarray]:
    """Return what `cameras` see, images or codes, in their order.

    Raises:
        ObservationError: A camera is missing.
    """
    missing = [name for name in cameras if name not in images]
    if missing:
        raise ObservationError(
            f'camera {missing[0]!r} is missing',
            expected=f'images of {", ".join(cameras)}',
            got=f'images of {", ".join(images) or "no camera"}',
            remedy='Publish and map this camera, or use another checkpoint.',
        )
    return [images[name] for name in cameras]


def grey_image(size: int) -> np.ndarray:
    """Return an image to warm up with: uint8[size, size, 3]."""
    return np.full((size, size, 3), 128, np.uint8)


@dataclass(frozen=True)
class Observation:
    """What a robot sees and is told at one instant; the one place where that is validated.

    Attributes:
        images: Camera name → uint8[h, w, 3], RGB, the newest image of each camera; at most
            `MAX_IMAGE_PIXELS` pixels, one side at most `MAX_IMAGE_ASPECT` times the other.
        instruction: One sentence of at most `MAX_INSTRUCTION_CHARACTERS` characters, kept without
            surrounding white space; empty where none is given, which a world model does not need.
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
            ObservationError: An image or the state has a wrong type, shape, size or value.
            InstructionError: The instruction is too long or no Unicode text.
        """
        for instant in (*self.history, self.images):
            for name, image in instant.items():
                _check_image(image, name)
        _check_state(self.state)
        object.__setattr__(self, 'instruction', checked_instruction(self.instruction))


@dataclass(frozen=True)
class EncodedObservation:
    """An observation whose images are codes already, as a tokenizer beside the camera sends them.

    Attributes:
        codes: Camera name → int[rows, columns], codes of the newest image of each camera, even
            numbers of rows and columns.
        instruction: As in `Observation`.
        state: As in `Observation`.
        history: Earlier instants, oldest first, each like `codes`.
        stamp_s: When the images were taken [s].
    """

    codes: Mapping[str, np.ndarray]
    instruction: str = ''
    state: np.ndarray | None = None
    history: tuple[Mapping[str, np.ndarray], ...] = ()
    stamp_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what a model must never see.

        Raises:
            ObservationError: Codes or the state have a wrong type, shape or value.
            InstructionError: The instruction is too long or no Unicode text.
        """
        for instant in (*self.history, self.codes):
            for name, codes in instant.items():
                _check_codes(codes, name)
        _check_state(self.state)
        object.__setattr__(self, 'instruction', checked_instruction(self.instruction))


def _check_image(image: object, name: str) -> None:
    """Raise ObservationError unless the image is uint8[h, w, 3] of a sane size."""
    shape: tuple[int, ...] = ()
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        shape = image.shape
    if len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ObservationError(
            f'image of camera {name!r} cannot be used',
            expected='uint8[h, w, 3] with h, w > 0',
            got=_described(image),
            remedy='Publish RGB images of at least one pixel.',
        )
    height, width, _ = shape
    aspect = max(height, width) / min(height, width)
    if height * width > MAX_IMAGE_PIXELS or aspect > MAX_IMAGE_ASPECT:
        raise ObservationError(
            f'image of camera {name!r} cannot be used',
            expected=f'at most {MAX_IMAGE_PIXELS} pixels, one side at most {MAX_IMAGE_ASPECT} '
            'times the other',
            got=f'{width} × {height} pixels',
            remedy='Publish images of the usual sizes of a camera.',
        )


def _check_codes(codes: object, name: str) -> None:
    """Raise ObservationError unless the codes are int[rows, columns], both even and not zero."""
    shape: tuple[int, ...] = ()
    if isinstance(codes, np.ndarray) and codes.dtype.kind in 'iu':
        shape = codes.shape
    if len(shape) != 2 or 0 in shape or any(side % 2 for side in shape):
        raise ObservationError(
            f'image codes of camera {name!r} cannot be used',
            expected='int[rows, columns], both even',
            got=_described(codes),
            remedy='Encode the image with the tokenizer of this checkpoint.',
        )


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f'{value.dtype}{list(value.shape)}'
    return type(value).__name__


def _check_state(state: object) -> None:
    """Raise ObservationError unless the state is None or an array of finite numbers."""
    if state is None:
        return
    numeric = isinstance(state, np.ndarray) and state.dtype.kind in 'fiu'
    if not numeric or not np.isfinite(np.asarray(state)).all():
        raise ObservationError(
            'the robot state is not finite',
            expected='an array of finite numbers',
            got=state.tolist() if isinstance(state, np.ndarray) else _described(state),
            remedy='Check the joint state publisher.',
        )


def checked_instruction(text: str) -> str:
    """Return the instruction without surrounding white space.

    Raises:
        InstructionError: It is no Unicode text, or longer than `MAX_INSTRUCTION_CHARACTERS`.
    """
    stripped = text.strip()
    if any('\ud800' <= character <= '\udfff' for character in stripped):
        raise InstructionError(
            'the instruction is no valid Unicode text', remedy='Send it as UTF-8.'
        )
    if len(stripped) > MAX_INSTRUCTION_CHARACTERS:
        raise InstructionError(
            'the instruction is too long',
            expected=f'at most {MAX_INSTRUCTION_CHARACTERS} characters',
            got=len(stripped),
            remedy='Send one short sentence.',
        )
    return stripped


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
        free_from: Where verified decoding had to go on freely, counted in ids of the response; the
            actions from there on are those of free decoding, and there may be fewer or more of
            them than the horizon. None where everything was proven, or nothing had to be.
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
    free_from: int | None = None

    @property
    def horizon(self) -> int:
        """Number of actions."""
        return len(self.actions)

    @property
    def dim(self) -> int:
        """Numbers per action."""
        dim: int = self.actions.shape[1]
        return dim
