"""Messages ⇄ values: the one place where images, codes and chunks change form.

cv_bridge is used for encodings that are not handled here, where it is installed. Must not know
nodes.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from builtin_interfaces.msg import Time
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from worldvla_ros.errors import ObservationError
from worldvla_ros.msg import ActionChunk as ChunkMessage
from worldvla_ros.msg import ImageTokens, TokenIds
from worldvla_ros.observation import ActionChunk
from worldvla_ros.pixels import BYTES, MOST_PIXELS, compressed_pixels, raw_pixels

MOST_CODE = 0xFFFF
AnyImage: TypeAlias = Image | CompressedImage


def time_message(stamp_s: float) -> Time:
    """Return seconds as a message."""
    nanoseconds = round(stamp_s * 1e9)
    return Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def image_type(topic: str) -> type[AnyImage]:
    """Return the type of an image topic: compressed where its name says so, as image_transport's.

    A camera of a robot description with `topic: image/compressed` is heard compressed.
    """
    return CompressedImage if topic.rstrip('/').split('/')[-1] == 'compressed' else Image


def to_array(message: AnyImage, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Return an image message of either type as uint8[h, w, 3] RGB.

    Raises:
        ObservationError: It cannot be used, or is compressed and has more than `most_pixels`.
    """
    if isinstance(message, CompressedImage):
        return compressed_pixels(message, most_pixels)
    return image_to_array(message)


def image_to_array(message: Image) -> np.ndarray:
    """Return an image message as uint8[h, w, 3] RGB; padded rows are handled.

    Raises:
        ObservationError: The image is empty, cut off, or of an encoding that is not known here.
    """
    return raw_pixels(message) if message.encoding in BYTES else _by_cv_bridge(message)


def array_to_image(image: np.ndarray, stamp_s: float, frame_id: str = '') -> Image:
    """Return uint8[h, w, 3] RGB as an rgb8 message."""
    message = Image(height=image.shape[0], width=image.shape[1], encoding='rgb8')
    message.header.stamp = time_message(stamp_s)
    message.header.frame_id = frame_id
    message.step = 3 * image.shape[1]
    data = array('B')
    data.frombytes(np.ascontiguousarray(image).data)
    message.data = data
    return message


@dataclass(frozen=True)
class Grid:
    """What the codes of one camera's images must be.

    Attributes:
        camera: The camera's name.
        codebook: Identity of the image tokenizer.
        entries: Codes lie in 0 … entries - 1.
        rows: Codes per column of an image.
        columns: Codes per row.
    """

    camera: str
    codebook: str
    entries: int
    rows: int
    columns: int


def codes_to_message(codes: np.ndarray, header: Header, camera: str, codebook: str) -> ImageTokens:
    """Return the codes int[rows, columns] of an image as a message, under the image's header.

    Raises:
        ObservationError: A code needs more than the 16 bits that a message has for it.
    """
    rows, columns = codes.shape
    if codes.max() > MOST_CODE:
        raise ObservationError(
            'image codes', expected=f'at most {MOST_CODE}', got=codes.max(), remedy='Send images.'
        )
    flat = array('H', codes.ravel().tolist())
    return ImageTokens(
        header=header, camera=camera, codebook=codebook, rows=rows, columns=columns, codes=flat
    )


def message_to_codes(message: ImageTokens, grid: Grid) -> np.ndarray:
    """Return a message as int64[rows, columns].

    Raises:
        ObservationError: It is of another codebook or camera, or no image of that camera.
    """
    for what, expected, got, remedy in (
        ('codebook', grid.codebook, message.codebook, 'Give tokenizer and reader one checkpoint.'),
        ('camera', grid.camera, message.camera, 'Check the remapping of topics.'),
    ):
        if expected != got:
            raise ObservationError(
                f'image tokens of another {what}', expected=expected, got=repr(got[:80]),
                remedy=remedy,
            )  # fmt: skip
    shape, count = (message.rows, message.columns), len(message.codes)
    if shape != (grid.rows, grid.columns) or count != grid.rows * grid.columns:
        raise ObservationError(
            f'image tokens of camera {grid.camera}',
            expected=f'{grid.rows} × {grid.columns} codes',
            got=f'{count} codes for {message.rows} × {message.columns}',
            remedy='Give tokenizer and reader the same robot description and checkpoint.',
        )
    codes = np.array(message.codes, np.int64).reshape(shape)
    if codes.max() >= grid.entries:
        raise ObservationError(
            f'image tokens of camera {grid.camera}',
            expected=f'codes in 0 … {grid.entries - 1}',
            got=codes.max(),
            remedy='Check the publisher of the tokens.',
        )
    return codes


def ids_to_message(
    ids: Sequence[int], header: Header, kind: str, tokenizer: str, text: str = ''
) -> TokenIds:
    """Return token ids of a text or a state as a message; `kind` is one of `TokenIds.KIND_*`."""
    return TokenIds(header=header, kind=kind, tokenizer=tokenizer, text=text, ids=array('I', ids))


def chunk_to_message(chunk: ActionChunk, frame_id: str) -> ChunkMessage:
    """Return a chunk as a message."""
    message = ChunkMessage(
        chunk_id=chunk.chunk_id,
        model_id=chunk.model_id,
        instruction=chunk.instruction,
        dt=float(chunk.dt),
        horizon=chunk.horizon,
        dim=chunk.dim,
        action_names=list(chunk.names),
        action_units=list(chunk.units),
        action_scale=array('f', chunk.scale.tolist()),
        data=array('f', chunk.actions.astype(np.float32).ravel().tolist()),
        log_prob=array('f', chunk.log_probs.astype(np.float32).ravel().tolist()),
        latency=float(chunk.latency_s),
    )
    message.header.stamp = time_message(chunk.stamp_s)
    message.header.frame_id = frame_id
    return message


def message_to_chunk(message: ChunkMessage) -> ActionChunk:
    """Return a message as a chunk.

    Raises:
        ObservationError: The data does not have horizon × dim values.
    """
    shape = (message.horizon, message.dim)
    if len(message.data) != message.horizon * message.dim:
        raise ObservationError(
            'action chunk',
            expected=f'{message.horizon} × {message.dim} values',
            got=len(message.data),
            remedy='Check the publisher of the chunk.',
        )
    whole = len(message.log_prob) == len(message.data)
    return ActionChunk(
        actions=np.array(message.data, np.float32).reshape(shape),
        names=tuple(message.action_names),
        units=tuple(message.action_units),
        scale=np.array(message.action_scale, np.float32),
        dt=message.dt,
        stamp_s=message.header.stamp.sec + message.header.stamp.nanosec * 1e-9,
        chunk_id=message.chunk_id,
        model_id=message.model_id,
        instruction=message.instruction,
        log_probs=np.array(message.log_prob if whole else [], np.float32).reshape(
            shape if whole else (0, 0)
        ),
        latency_s=message.latency,
    )


def _by_cv_bridge(message: Image) -> np.ndarray:
    """Convert with cv_bridge, or say which encodings work without it.

    Raises:
        ObservationError: cv_bridge is not installed or cannot convert the image.
    """
    cause: Exception
    try:
        from cv_bridge import CvBridge

        return np.ascontiguousarray(CvBridge().imgmsg_to_cv2(message, 'rgb8'))
    except Exception as error:  # a foreign library's boundary: missing parts, cut-off data
        cause = error
    problem = 'image encoding'
    if not isinstance(cause, ImportError):
        problem += f' cannot be converted by cv_bridge ({type(cause).__name__}: {cause})'
    raise ObservationError(
        problem,
        expected=f'one of {", ".join(BYTES)}',
        got=repr(message.encoding[:80]),
        remedy='Convert the image (image_proc, image_transport), or install cv_bridge with '
        'OpenCV.',
    ) from cause
