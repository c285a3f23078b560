"""Messages ⇄ values: the one place where images, chunks and joint states change form.

cv_bridge is used for encodings that are not handled here, where it is installed. Must not know
nodes.
"""

from array import array
import io

from builtin_interfaces.msg import Time
import numpy as np
from PIL import Image as Picture
from PIL import UnidentifiedImageError
from sensor_msgs.msg import CompressedImage, Image

from worldvla_ros.errors import ObservationError
from worldvla_ros.msg import ActionChunk as ChunkMessage
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
BYTES = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1, '8UC1': 1, '8UC3': 3}


def time_message(stamp_s: float) -> Time:
    """Return seconds as a message."""
    nanoseconds = round(stamp_s * 1e9)
    return Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


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
    if message.step < row or len(message.data) < message.step * message.height:
        raise ObservationError(
            'image data is cut off',
            expected=f'{message.height} rows of at least {row} bytes',
            got=f'step {message.step}, {len(message.data)} bytes',
            remedy='Check the camera driver.',
        )
    flat = np.frombuffer(message.data, np.uint8, count=message.step * message.height)
    pixels = flat.reshape(message.height, message.step)[:, :row]
    pixels = pixels.reshape(message.height, message.width, size)
    return np.ascontiguousarray(pixels[..., CHANNELS[message.encoding]])


def compressed_to_array(message: CompressedImage) -> np.ndarray:
    """Return a JPEG or PNG message as uint8[h, w, 3] RGB.

    Raises:
        ObservationError: It cannot be decoded.
    """
    try:
        with Picture.open(io.BytesIO(bytes(message.data))) as picture:
            return np.asarray(picture.convert('RGB'))
    except (UnidentifiedImageError, OSError) as error:
        raise ObservationError(
            f'compressed image cannot be decoded: {error}',
            expected='JPEG or PNG',
            got=f'format {message.format!r}',
            remedy='Check the image transport.',
        ) from error


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
    """Convert with cv_bridge, or say which encodings work without it."""
    refusal = ObservationError(
        'image encoding',
        expected=f'one of {", ".join(BYTES)}',
        got=repr(message.encoding),
        remedy='Convert the image (image_proc, image_transport), or install cv_bridge.',
    )
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except ImportError:
        raise refusal from None
    try:
        return np.ascontiguousarray(CvBridge().imgmsg_to_cv2(message, 'rgb8'))
    except CvBridgeError as error:
        raise refusal from error
