"""Messages ⇄ values: the one place where images, codes and chunks change form.

cv_bridge is used for encodings that are not handled here, where it is installed. Must not know
nodes.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
import io
from typing import TypeAlias

from builtin_interfaces.msg import Time
import numpy as np
from PIL import Image as Picture
from PIL import ImageOps
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from worldvla_ros.errors import ObservationError
from worldvla_ros.msg import ActionChunk as ChunkMessage
from worldvla_ros.msg import ImageTokens, TokenIds
from worldvla_ros.observation import ActionChunk

CHANNELS = {
    'rgb8': (0, 1, 2),
    'bgr8': (2, 1, 0),
    'rgba8': (0, 1, 2),
    'bgra8': (2, 1, 0),
    'mono8': (0, 0, 0),
    '8UC1': (0, 0, 0),
    '8UC3': (2, 1, 0),
}
"""Encoding → which byte of a pixel is red, green, blue; `8UC3` is OpenCV's order."""
MOST_PIXELS = 64_000_000
"""Few compressed bytes may hold many pixels; beyond this they are not decoded."""
MOST_SCANS = 100
"""A progressive JPEG has about ten; each may cost a pass over all pixels."""
MOST_CODE = 0xFFFF
START_OF_SCAN = b'\xff\xda'
AnyImage: TypeAlias = Image | CompressedImage
BYTES = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1, '8UC1': 1, '8UC3': 3}


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
        return compressed_to_array(message, most_pixels)
    return image_to_array(message)


def image_to_array(message: Image) -> np.ndarray:
    """Return an image message as uint8[h, w, 3] RGB; padded rows are handled.

    Raises:
        ObservationError: The image is empty, cut off, or of an encoding that is not known here.
    """
    size = BYTES.get(message.encoding)
    if size is None:
        return _by_cv_bridge(message)
    if not message.width or not message.height:
        raise ObservationError(
            'image without pixels',
            expected='width and height > 0',
            got=f'{message.width} × {message.height}',
            remedy='Check the camera driver.',
        )
    row = message.width * size
    needed = message.step * (message.height - 1) + row  # the last row may lack its padding
    if message.step < row or len(message.data) < needed:
        raise ObservationError(
            'image data is cut off',
            expected=f'{message.height} rows of at least {row} bytes',
            got=f'step {message.step}, {len(message.data)} bytes',
            remedy='Check the camera driver.',
        )
    flat = np.frombuffer(message.data, np.uint8, count=needed)
    rows = np.lib.stride_tricks.as_strided(
        flat, (message.height, row), (message.step, 1), writeable=False
    )
    pixels = rows.reshape(message.height, message.width, size)
    return np.ascontiguousarray(pixels[..., CHANNELS[message.encoding]])


def compressed_to_array(message: CompressedImage, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Return a JPEG or PNG message as uint8[h, w, 3] RGB, turned as its EXIF data say.

    Its size is read from its first bytes; nothing is decoded before that is accepted.

    Raises:
        ObservationError: It cannot be decoded, or has more than `most_pixels`.
    """
    data = bytes(message.data)
    try:
        with Picture.open(io.BytesIO(data), formats=('JPEG', 'PNG')) as picture:
            width, height = picture.size
            small = width * height <= min(most_pixels, MOST_PIXELS)
            scans = data.count(START_OF_SCAN) if picture.format != 'PNG' else 1
            if small and scans <= MOST_SCANS:
                return _eight_bits(ImageOps.exif_transpose(picture))
    except Exception as error:  # a foreign library's boundary: Pillow raises many kinds
        raise ObservationError(
            f'compressed image cannot be decoded: {type(error).__name__}: {error}',
            expected='JPEG or PNG',
            got=f'format {message.format[:80]!r}',
            remedy='Check the image transport.',
        ) from error
    raise ObservationError(
        'compressed image is too large',
        expected=f'at most {min(most_pixels, MOST_PIXELS)} pixels in {MOST_SCANS} scans',
        got=f'{width} × {height} pixels in {scans} scans',
        remedy='Set the resolution in the camera driver, as the robot description has it.',
    )


def _eight_bits(picture: Picture.Image) -> np.ndarray:
    """Return a picture as uint8[h, w, 3]; of 16-bit grey, the upper 8 bits."""
    if picture.mode.startswith('I'):
        grey = (np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)  # [h, w] → [h, w, 3]
    return np.asarray(picture.convert('RGB'))


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
