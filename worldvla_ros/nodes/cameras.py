"""How a node hears its cameras: as images, raw or compressed, or as codes made elsewhere.

    input: images, image_transport: raw           image               sensor_msgs/Image
    input: images, image_transport: compressed    image/compressed    sensor_msgs/CompressedImage
    input: tokens                                 image_tokens        worldvla_ros/ImageTokens

`image` stands for the topic of a camera in the robot description. Messages wait as they came, and
are read by whoever computes with them. Must not know what a node is for.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
import re
from typing import ClassVar, TypeAlias

import numpy as np

from worldvla_ros.checkpoint.folder import Checkpoint
from worldvla_ros.checkpoint.spec import CheckpointSpec
from worldvla_ros.errors import ConfigError
from worldvla_ros.msg import ImageTokens
from worldvla_ros.nodes.convert import AnyImage, Grid, image_type, message_to_codes, to_array
from worldvla_ros.nodes.qos import SENSOR_QOS
from worldvla_ros.nodes.runtime import ManagedNode, declare
from worldvla_ros.observation import EncodedObservation, Observation
from worldvla_ros.robot import guards
from worldvla_ros.robot.description import Camera, RobotConfig
from worldvla_ros.robot.reasons import Reason
from worldvla_ros.tokenizers.image import CODES_PER_CELL, fitted_size

COMPRESSED = '/compressed'
TOKENS = '_tokens'
IMAGES_OR_TOKENS = ('images', 'tokens')
TRANSPORTS = ('raw', 'compressed')
SIZE = re.compile('[1-9][0-9]{0,4}x[1-9][0-9]{0,4}')
CameraMessage: TypeAlias = AnyImage | ImageTokens


class CameraInput(ABC):
    """The cameras of a checkpoint as a node hears them.

    Attributes:
        observation: Takes what `read_all` returns, then instruction, state, history and stamp.
        seen: What an image consists of, for messages.
        topics: Camera name → topic.
    """

    observation: ClassVar[type[Observation] | type[EncodedObservation]]
    seen: ClassVar[str]

    def __init__(self, cameras: Mapping[str, Camera], topics: Mapping[str, str]) -> None:
        """Hear cameras, by name, on these topics."""
        self._cameras, self.topics = cameras, topics

    @abstractmethod
    def message_type(self, topic: str) -> type:
        """Return the type of the messages on a topic."""

    @abstractmethod
    def read(self, camera: str, message: CameraMessage) -> np.ndarray:
        """Return a message as uint8[h, w, 3] pixels or int64[rows, columns] codes.

        Raises:
            ObservationError: It cannot be used.
        """

    @abstractmethod
    def misfit(self, camera: str, value: np.ndarray, stamp_s: float) -> Reason | None:
        """Refuse what was read and has another size than the robot description says."""

    def read_all(self, messages: Mapping[str, CameraMessage]) -> dict[str, np.ndarray]:
        """Return the messages of one instant, by camera.

        Raises:
            ObservationError: One of them cannot be used.
        """
        return {name: self.read(name, message) for name, message in messages.items()}

    def listen(
        self, node: ManagedNode, callback: Callable[[str], Callable[[CameraMessage], None]]
    ) -> None:
        """Subscribe to all cameras; `callback` returns what hears the camera of a name."""
        for name, topic in self.topics.items():
            node.subscribe(self.message_type(topic), topic, callback(name), SENSOR_QOS)


class ImageInput(CameraInput):
    """Cameras that are heard as images."""

    observation = Observation
    seen = 'pixels'

    def message_type(self, topic: str) -> type:
        """Return raw or compressed, as the name of the topic says."""
        return image_type(topic)

    def read(self, camera: str, message: CameraMessage) -> np.ndarray:
        """Return uint8[h, w, 3]; a compressed image larger than the camera's is not decoded."""
        described = self._cameras[camera]
        return to_array(message, described.width * described.height)

    def misfit(self, camera: str, value: np.ndarray, stamp_s: float) -> Reason | None:
        """Refuse an image of another size than the robot description has."""
        return guards.image_size(value, self._cameras[camera], stamp_s)


class TokenInput(CameraInput):
    """Cameras whose images were encoded elsewhere; everything is checked as it is read."""

    observation = EncodedObservation
    seen = 'codes'

    def __init__(self, cameras: Mapping[str, Camera], spec: CheckpointSpec, codebook: str) -> None:
        """Hear the tokens of cameras, by name; `codebook` is the identity of the tokenizer."""
        super().__init__(cameras, {n: tokens_topic(c) for n, c in cameras.items()})
        self._grids = {n: camera_grid(c, spec, codebook) for n, c in cameras.items()}

    def message_type(self, topic: str) -> type:
        """Return the type of image tokens."""
        return ImageTokens

    def read(self, camera: str, message: CameraMessage) -> np.ndarray:
        """Return int64[rows, columns] of this codebook, camera and grid."""
        return message_to_codes(message, self._grids[camera])

    def misfit(self, camera: str, value: np.ndarray, stamp_s: float) -> None:
        """Nothing: `read` refuses another grid."""


def declare_transport(node: ManagedNode) -> str:
    """Declare and read how images come: raw or compressed; declare their size as well.

    Raises:
        ConfigError: A parameter is wrong.
    """
    declare_size(node)
    return transport(node)


def transport(node: ManagedNode) -> str:
    """Declare and read how images come: raw or compressed.

    Raises:
        ConfigError: The parameter is wrong.
    """
    return _choice(node, 'image_transport', 'how images come', TRANSPORTS)


def declare_input(node: ManagedNode) -> str:
    """Declare how images come as well, and read whether images or tokens are heard.

    Raises:
        ConfigError: A parameter is wrong.
    """
    declare(node, 'image_transport', TRANSPORTS[0], 'how images come: raw or compressed')
    declare_size(node)
    return _choice(node, 'input', 'what cameras are heard as', IMAGES_OR_TOKENS)


def declare_size(node: ManagedNode) -> tuple[int, int] | None:
    """Declare and read the size of the images [px], or None: as the robot description says.

    Raises:
        ConfigError: The parameter is wrong.
    """
    text = declare(node, 'camera_size', '', "size of images, such as 128x128; empty: the robot's")
    if not text:
        return None
    if not SIZE.fullmatch(text):
        raise ConfigError('parameter camera_size', expected='such as 640x480', got=repr(text[:80]))
    width, height = text.split('x')
    return int(width), int(height)


def camera_input(
    node: ManagedNode, robot: RobotConfig, checkpoint: Checkpoint
) -> ImageInput | TokenInput:
    """Return how a node hears the checkpoint's cameras, by its parameters.

    Raises:
        ConfigError: A parameter is wrong.
    """
    if declare_input(node) == 'tokens':
        cameras = checkpoint_cameras(node, robot, checkpoint.spec)
        return TokenInput(cameras, checkpoint.spec, checkpoint.codebook)
    return image_input(node, robot, checkpoint.spec)


def image_input(node: ManagedNode, robot: RobotConfig, spec: CheckpointSpec) -> ImageInput:
    """Return how a node hears the images of a checkpoint's cameras.

    A camera of a description with `topic: image/compressed` is heard compressed in any case.

    Raises:
        ConfigError: A parameter is wrong.
    """
    transport = declare_transport(node)
    cameras = checkpoint_cameras(node, robot, spec)
    compressed = {n for n, c in cameras.items() if c.topic.endswith(COMPRESSED)}
    if transport == 'compressed':
        compressed = set(cameras)
    topics = {n: image_topic(c) for n, c in cameras.items()}
    # as image_transport does: a remapping of `image` moves `image/compressed` as well
    topics |= {n: node.resolve_topic_name(topics[n]) + COMPRESSED for n in compressed}
    return ImageInput(cameras, topics)


def checkpoint_cameras(
    node: ManagedNode, robot: RobotConfig, spec: CheckpointSpec
) -> dict[str, Camera]:
    """Return the checkpoint's cameras, in its order, as the robot describes them.

    The parameter `camera_size` counts more than the description: a simulation stands in for the
    cameras.

    Raises:
        ConfigError: The parameter is wrong.
    """
    size = declare_size(node)
    described = {camera.name: camera for camera in robot.cameras}
    if size is not None:
        described = {n: replace(c, width=size[0], height=size[1]) for n, c in described.items()}
    return {name: described[name] for name in spec.cameras}


def image_topic(camera: Camera) -> str:
    """Return the topic of a camera's raw images."""
    return camera.topic.rstrip('/').removesuffix(COMPRESSED)


def tokens_topic(camera: Camera) -> str:
    """Return the topic of a camera's image tokens."""
    return image_topic(camera) + TOKENS


def camera_grid(camera: Camera, spec: CheckpointSpec, codebook: str) -> Grid:
    """Return what the codes of a camera's images are."""
    side = spec.vqgan.reduction
    size = fitted_size((camera.width, camera.height), spec.image_size, side * CODES_PER_CELL)
    return Grid(camera.name, codebook, spec.vqgan.n_embed, size[1] // side, size[0] // side)


def _choice(node: ManagedNode, name: str, meaning: str, choices: tuple[str, ...]) -> str:
    """Declare a parameter of few values, the first by default.

    Raises:
        ConfigError: It has another value.
    """
    expected = ' or '.join(choices)
    value = declare(node, name, choices[0], f'{meaning}: {expected}')
    if value not in choices:
        raise ConfigError(f'parameter {name}', expected=expected, got=repr(value[:80]))
    return value
