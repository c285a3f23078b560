"""The world-model node: images and action chunks in, the images that follow out.

    imagined_image   stamped with the time that it predicts
    imagined_strip   observed | imagined | difference, published when that time has come

Imagining never delays acting: it yields to the policy between decoding steps where both share a
process. Must not know tokens or simulators.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image as Picture
from sensor_msgs.msg import Image

from worldvla_ros.errors import MemoryLimitError, WorldVLAError
from worldvla_ros.metrics import psnr
from worldvla_ros.msg import ActionChunk
from worldvla_ros.nodes.convert import array_to_image, image_to_array, message_to_chunk
from worldvla_ros.nodes.host import ModelHost, ModelNode
from worldvla_ros.nodes.runtime import (
    RELIABLE_QOS,
    SENSOR_QOS,
    declare,
    seconds,
)
from worldvla_ros.nodes.spin import run
from worldvla_ros.observation import ActionChunk as Chunk
from worldvla_ros.observation import Observation
from worldvla_ros.robot.description import check_fits, load_robot
from worldvla_ros.world_model import WorldModel

REMEMBERED_IMAGES = 60
MATCH_S = 0.03
"""An observed image belongs to a predicted time within this distance [s]."""


@dataclass(frozen=True, eq=False)
class Imagined:
    """An image that waits for its time."""

    image: np.ndarray
    stamp_s: float


class WorldModelNode(ModelNode):
    """Unconfigured: nothing loaded. Inactive: silent. Active: imagines each newest chunk."""

    def __init__(self, host: ModelHost | None = None) -> None:
        """Create the node; nodes of one process share a host."""
        super().__init__('world_model', host)
        self._reset_inputs()
        self._count = 0

    def configure(self) -> None:
        """Load the checkpoint and listen.

        Raises:
            WorldVLAError: The checkpoint cannot be used, does not fit the robot, or a parameter is
                wrong.
        """
        robot = load_robot(declare(self, 'robot', 'sim_panda', 'robot name or YAML file'))
        checkpoint = self._host.checkpoint(self)
        spec = checkpoint.spec
        check_fits(robot, spec.action.names, spec.action.units, spec.cameras, spec.camera_rotation)
        self._spec, self._world = spec, WorldModel(checkpoint)
        if checkpoint.device.type == 'cuda':
            self._warm_up()
        topics = {c.name: c.topic for c in robot.cameras}
        self._frame = robot.base_frame
        self._image_publisher = self.publisher(Image, 'imagined_image', RELIABLE_QOS)
        self._strip_publisher = self.publisher(Image, 'imagined_strip', RELIABLE_QOS)
        for name in spec.cameras:
            self.subscribe(Image, topics[name], self._image_callback(name), SENSOR_QOS)
        self.subscribe(ActionChunk, 'action_chunk', self._on_chunk, RELIABLE_QOS)
        self._task = self._host.worker.add(self._imagine, urgent=False)
        self._host.worker.start()
        self.status.ok('configured', model=checkpoint.model_id)

    def _warm_up(self) -> None:
        """Imagine one image from grey ones, so that passes are captured before the first chunk."""
        size, action = self._spec.image_size, self._spec.action
        grey = np.full((size, size, 3), 128, np.uint8)
        actions = np.zeros((self._spec.world.actions_per_image, action.dim))
        self._world.imagine(Observation(dict.fromkeys(self._spec.cameras, grey)), actions)

    def deactivate(self) -> None:
        """Forget what waits."""
        self._reset_inputs()

    def clean_up(self) -> None:
        """Stop listening and leave the worker."""
        super().clean_up()
        self._world = None

    def _image_callback(self, camera: str) -> callable:
        def on_image(message: Image) -> None:
            images = self._images.setdefault(camera, deque(maxlen=REMEMBERED_IMAGES))
            if images and seconds(message.header.stamp) < seconds(images[-1].header.stamp):
                self._reset_inputs()
                images = self._images.setdefault(camera, deque(maxlen=REMEMBERED_IMAGES))
            images.append(message)
            if self.active and camera == self._spec.cameras[0]:
                self._compare(message)

        return on_image

    def _on_chunk(self, message: ActionChunk) -> None:
        if not self.active:
            return
        stamp = seconds(message.header.stamp)
        found = {name: self._image_at(name, stamp) for name in self._spec.cameras}
        if all(image is not None for image in found.values()):
            self._host.worker.put(self._task, (found, message))

    def _image_at(self, camera: str, stamp_s: float) -> Image | None:
        """Return the remembered image nearest to a time, or None."""
        images = self._images.get(camera, ())
        near = [(abs(seconds(m.header.stamp) - stamp_s), i) for i, m in enumerate(images)]
        distance, index = min(near, default=(np.inf, 0))
        return images[index] if distance <= MATCH_S else None

    def _imagine(self, item: tuple[dict[str, Image], ActionChunk]) -> Iterator[None]:
        """Imagine one chunk; runs in the worker."""
        messages, chunk_message = item
        try:
            chunk = message_to_chunk(chunk_message)
            images = {name: image_to_array(m) for name, m in messages.items()}
            observation = Observation(images, stamp_s=chunk.stamp_s)
            yield from self._publish_steps(observation, chunk)
        except MemoryLimitError as error:
            self.fail(error)
        except WorldVLAError as error:
            self.status.warn(f'not imagined: {error}', key=error.problem)

    def _publish_steps(self, observation: Observation, chunk: Chunk) -> Iterator[None]:
        stride_s = self._spec.world.actions_per_image * chunk.dt
        stamp = chunk.stamp_s
        for image in self._world.imagine_stepwise(observation, chunk.actions):
            if image is not None and self.active:
                stamp += stride_s
                self._count += 1
                self._image_publisher.publish(array_to_image(image, stamp, self._frame))
                self._pending.append(Imagined(image, stamp))
            yield

    def _compare(self, message: Image) -> None:
        """Publish the strips of images whose time has come."""
        now = seconds(message.header.stamp)
        due = [p for p in list(self._pending) if p.stamp_s <= now + MATCH_S]
        for imagined in due:
            self._pending.remove(imagined)
            observed = self._image_at(self._spec.cameras[0], imagined.stamp_s)
            if observed is not None:
                self._publish_strip(observed, imagined)

    def _publish_strip(self, message: Image, imagined: Imagined) -> None:
        try:
            observed = image_to_array(message)
        except WorldVLAError as error:
            self.status.warn(f'not compared: {error}', key=error.problem)
            return
        size = observed.shape[1::-1]
        enlarged = np.asarray(
            Picture.fromarray(imagined.image).resize(size, Picture.Resampling.BICUBIC)
        )
        difference = np.abs(observed.astype(int) - enlarged).astype(np.uint8)
        strip = np.concatenate([observed, enlarged, difference], axis=1)
        self._strip_publisher.publish(array_to_image(strip, imagined.stamp_s, self._frame))
        self.status.ok('imagining', images=self._count, psnr=f'{psnr(observed, enlarged):.1f} dB')

    def _reset_inputs(self) -> None:
        """Forget all images, at the start and when the clock jumps back."""
        self._images: dict[str, deque[Image]] = {}
        self._pending: deque[Imagined] = deque(maxlen=REMEMBERED_IMAGES)


def main() -> int:
    """Run the world model alone."""
    return run(WorldModelNode)


if __name__ == '__main__':
    raise SystemExit(main())
