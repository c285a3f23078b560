"""Pixels of images as cameras send them, raw or compressed, to uint8[h, w, 3] RGB.

Takes whatever has the fields of sensor_msgs/Image or CompressedImage. Must not know ROS.
"""

import io
from typing import Protocol

import numpy as np
from PIL import Image as Picture
from PIL import ImageOps

from worldvla_ros.errors import ObservationError

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
BYTES = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1, '8UC1': 1, '8UC3': 3}
MOST_PIXELS = 64_000_000
"""Few compressed bytes may hold many pixels; beyond this they are not decoded."""
MOST_SCANS = 100
"""A progressive JPEG has about ten; each may cost a pass over all pixels."""
START_OF_SCAN = b'\xff\xda'


class RawImage(Protocol):
    """The fields of sensor_msgs/Image that are read here."""

    height: int
    width: int
    encoding: str
    step: int
    data: bytes


class PackedImage(Protocol):
    """The fields of sensor_msgs/CompressedImage that are read here."""

    format: str
    data: bytes


def raw_pixels(message: RawImage) -> np.ndarray:
    """Return a raw image as uint8[h, w, 3] RGB; padded rows are handled.

    Raises:
        ObservationError: The image is empty or cut off, or its encoding is not in `BYTES`.
    """
    size = BYTES.get(message.encoding)
    if size is None:
        raise ObservationError(
            'image encoding',
            expected=f'one of {", ".join(BYTES)}',
            got=repr(message.encoding[:80]),
        )
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


def compressed_pixels(message: PackedImage, most_pixels: int = MOST_PIXELS) -> np.ndarray:
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
