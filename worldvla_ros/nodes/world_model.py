"""The world-model node: images and action chunks in, the images that follow out.

    imagined_image   stamped with the time that it predicts
    imagined_strip   observed | imagined | difference, published when that time has come

Imagining never delays acting: it yields to the policy between decoding steps where both share a
process. When imagining is slower than time passes, images whose time is past are skipped:
imagining then begins with the newest observed image of the chunk's way. ~/status says how long
before or after its time each image came. Must not know tokens or simulators.

    executor's thread   Configured.images, times; chunks are judged, strips are made and published
    worker's thread     Configured.world, `_takes_s`; images are imagined and published
    both                Configured.pending
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
import time

import numpy as np
from PIL import Image as Picture
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image

from worldvla_ros.checkpoint.spec import CheckpointSpec
from worldvla_ros.errors import WorldVLAError
from worldvla_ros.metrics import psnr
from worldvla_ros.msg import ActionChunk
from worldvla_ros.nodes.convert import (
    AnyImage,
    array_to_image,
    image_type,
    message_to_chunk,
    to_array,
)
from worldvla_ros.nodes.host import ModelHost, ModelNode
from worldvla_ros.nodes.matching import ChunkTimes, Imagined, Pending, strides_to_skip
from worldvla_ros.nodes.runtime import RELIABLE_QOS, SENSOR_QOS, declare, seconds
from worldvla_ros.nodes.spin import run
from worldvla_ros.observation import ActionChunk as Chunk
from worldvla_ros.observation import Observation
from worldvla_ros.robot import guards
from worldvla_ros.robot.clock import StampClock
from worldvla_ros.robot.description import RobotConfig, check_fits, load_robot
from worldvla_ros.robot.pairing import CameraImages
from worldvla_ros.world_model import WorldModel

REMEMBERED_S = 3.0
"""Images are compared with what was observed up to this long ago."""
MATCH_SHARE = 0.6
"""An observed image shows a predicted time within this share of dt."""


@dataclass(frozen=True)
class Configured:
    """What configuring made; gone with clean_up.

    Attributes:
        robot: The robot's description.
        spec: What the checkpoint means.
        world: Imagines.
        max_skew_s: Largest time between cameras, and between a chunk and its images [s].
        images: The newest images of each camera.
        times: When chunks are executed.
        pending: Imagined images that wait for their time.
        imagined: Where imagined images go.
        strips: Where comparisons go.
    """

    robot: RobotConfig
    spec: CheckpointSpec
    world: WorldModel
    max_skew_s: float
    images: dict[str, CameraImages[AnyImage]]
    times: ChunkTimes
    pending: Pending
    imagined: Publisher
    strips: Publisher

    @property
    def stride_s(self) -> float:
        """Time between imagined images [s]."""
        return self.spec.world.actions_per_image * self.spec.action.dt

    def images_at(self, stamp_s: float) -> tuple[dict[str, AnyImage], str]:
        """Return the images nearest to a time, by camera; and the first camera that has none."""
        near = {n: kept.nearest(stamp_s, self.max_skew_s) for n, kept in self.images.items()}
        missing = next((name for name, found in near.items() if found is None), '')
        return {name: found[1] for name, found in near.items() if found is not None}, missing


@dataclass(frozen=True)
class Work:
    """A chunk to imagine: the images of its instant, and when its first action is executed."""

    chunk: Chunk
    images: dict[str, AnyImage]
    later: tuple[dict[str, AnyImage], ...]
    start_s: float


class WorldModelNode(ModelNode):
    """Unconfigured: nothing loaded. Inactive: silent. Active: imagines each newest chunk."""

    NO_ANSWER = 'not imagined'

    def __init__(self, host: ModelHost | None = None) -> None:
        """Create the node; nodes of one process share a host."""
        super().__init__('world_model', host)
        self._built: Configured | None = None
        self._image_clock = StampClock()
        self._count = self._in_time = 0
        self._takes_s = 0.0
        self._psnr = ''

    def configure(self) -> None:
        """Load the checkpoint and listen.

        Raises:
            WorldVLAError: The checkpoint cannot be used, does not fit the robot, or a parameter is
                wrong.
        """
        robot = load_robot(declare(self, 'robot', 'sim_panda', 'robot name or YAML file'))
        max_skew_s = self.max_camera_skew()
        checkpoint = self._host.checkpoint(self)
        spec = checkpoint.spec
        check_fits(robot, spec.action.names, spec.action.units, spec.cameras, spec.camera_rotation)
        configured = Configured(
            robot=robot,
            spec=spec,
            world=WorldModel(checkpoint),
            max_skew_s=max_skew_s,
            images={name: CameraImages(REMEMBERED_S) for name in spec.cameras},
            times=ChunkTimes(),
            pending=Pending(MATCH_SHARE * spec.action.dt),
            imagined=self.publisher(Image, 'imagined_image', RELIABLE_QOS),
            strips=self.publisher(Image, 'imagined_strip', RELIABLE_QOS),
        )
        if checkpoint.device.type == 'cuda':
            configured.world.warm_up()
        self._built = configured
        topics = {c.name: c.topic for c in robot.cameras}
        for name in spec.cameras:
            callback = self._image_callback(name)
            self.subscribe(image_type(topics[name]), topics[name], callback, SENSOR_QOS)
        self.subscribe(ActionChunk, 'action_chunk', self._on_chunk, RELIABLE_QOS)
        self.work(self._imagine, urgent=False)
        self.status.keep(model=checkpoint.model_id)
        self.status.ok('configured')

    def deactivate(self) -> None:
        """Forget what waits."""
        self._forget()

    def clean_up(self) -> None:
        """Leave the worker, stop listening, and free the weights of this node."""
        super().clean_up()
        self._built = None

    @property
    def _configured(self) -> Configured:
        """What configuring made; callbacks and the worker run only while it is there."""
        assert self._built is not None, 'a callback outlived clean_up'
        return self._built

    # ---- callbacks, in the executor's thread

    def _image_callback(self, camera: str) -> Callable[[AnyImage], None]:
        def on_image(message: AnyImage) -> None:
            stamp_s = seconds(message.header.stamp)
            if self._image_clock.set_back(stamp_s):
                self._forget()
            self._configured.images[camera].put(stamp_s, message)
            if self.active and camera == self._configured.spec.cameras[0]:
                self._compare()

        return on_image

    def _on_chunk(self, message: ActionChunk) -> None:
        if not self.active:
            return
        try:
            chunk = message_to_chunk(message)
        except WorldVLAError as error:
            self.refuse(error, key=error.problem)
            return
        refusal = judge(chunk, self._configured)
        if refusal is not None:
            self.refuse(refusal, key=refusal.guard)
            return
        self._offer(chunk)

    def _offer(self, chunk: Chunk) -> None:
        """Hand a chunk to the worker, with the images that imagining it may begin with."""
        configured, now_s = self._configured, self.now_s()
        lasts_s = chunk.horizon * chunk.dt
        start_s = configured.times.start(chunk.stamp_s, lasts_s, now_s)
        images, missing = configured.images_at(chunk.stamp_s)
        if missing:
            self.refuse(
                f'no image of camera {missing} within max_camera_skew {configured.max_skew_s} s '
                'of the chunk. Check camera synchronisation or raise the limit',
                key=f'no image {missing}',
            )
            return
        later: list[dict[str, AnyImage]] = []
        while len(later) < chunk.horizon // configured.spec.world.actions_per_image - 1:
            due_s = start_s + (len(later) + 1) * configured.stride_s
            found, missing = configured.images_at(due_s)
            if due_s > now_s or missing:
                break
            later.append(found)
        self.hand_over(Work(chunk, images, tuple(later), start_s))

    def _compare(self) -> None:
        """Publish the strips of images whose time has come."""
        observed = self._configured.images[self._configured.spec.cameras[0]]
        for imagined, message in self._configured.pending.due(observed):
            try:
                image = to_array(message)
            except WorldVLAError as error:
                self.status.warn(f'not compared: {error}', key=error.problem)
                continue
            row, decibels = strip(image, imagined.image)
            self._psnr = f'{decibels:.1f} dB'
            frame = self._configured.robot.base_frame
            self._configured.strips.publish(array_to_image(row, imagined.stamp_s, frame))

    def _forget(self) -> None:
        """Drop all images, where work ends and where the clock was set back."""
        self._image_clock = StampClock()
        if self._built is not None:
            for kept in self._built.images.values():
                kept.clear()
            self._built.times.clear()
            self._built.pending.clear()

    # ---- the worker's thread

    def _imagine(self, work: Work) -> Iterator[None]:
        """Imagine one chunk, from the newest instant that leaves time for it.

        Raises:
            WorldVLAError: A message cannot be used, or memory is short.
        """
        spec, stride_s = self._configured.spec, self._configured.stride_s
        skip = strides_to_skip(work.start_s, stride_s, self.now_s(), self._takes_s)
        skip = min(skip, len(work.later))
        images = (work.images, *work.later)[skip]
        arrays = {name: to_array(message) for name, message in images.items()}
        observation = Observation(arrays, stamp_s=work.chunk.stamp_s)
        actions = work.chunk.actions[skip * spec.world.actions_per_image :]
        stamp_s, began_s = work.start_s + skip * stride_s, time.monotonic()
        for image in self._configured.world.imagine_stepwise(observation, actions):
            if image is not None:
                stamp_s += stride_s
                self._takes_s, began_s = time.monotonic() - began_s, time.monotonic()
                self._publish(image, stamp_s, skip)
            yield

    def _publish(self, image: np.ndarray, stamp_s: float, skipped: int) -> None:
        """Publish an imagined image uint8[h, w, 3], and say how it stands to its time."""
        if not self.active:
            return
        frame = self._configured.robot.base_frame
        self._configured.imagined.publish(array_to_image(image, stamp_s, frame))
        self._configured.pending.add(Imagined(image, stamp_s))
        ahead_s = stamp_s - self.now_s()
        self._count += 1
        self._in_time += ahead_s >= 0
        self.status.ok(
            'imagining',
            images=self._count,
            ahead=f'{ahead_s:.2f} s' + ('' if ahead_s >= 0 else ' (late)'),
            in_time=f'{self._in_time / self._count:.0%}',
            skipped=skipped,
            psnr=self._psnr,
        )


def judge(chunk: Chunk, configured: Configured) -> guards.Refusal | None:
    """Return the first reason not to imagine a chunk, or None."""
    refusal = guards.chunk_meaning(chunk, configured.robot) or guards.chunk_values(
        chunk, configured.robot
    )
    dt = configured.spec.action.dt
    if refusal is None and not abs(chunk.dt - dt) <= guards.PERIOD_SLACK * dt:
        value, limit = f'chunk with dt {chunk.dt:.6g} s', f'checkpoint {dt:.6g} s'
        remedy = 'Use the same checkpoint for policy and world model.'
        refusal = guards.Refusal('chunk period', value, limit, chunk.stamp_s, remedy)
    return refusal or guards.chunk_duration(chunk, configured.robot)


def strip(observed: np.ndarray, imagined: np.ndarray) -> tuple[np.ndarray, float]:
    """Return observed | imagined | difference, and how near they are.

    Args:
        observed: uint8[h, w, 3].
        imagined: uint8[any, any, 3], brought to the size of `observed`.

    Returns:
        uint8[h, 3 · w, 3], and the PSNR of imagined against observed [dB].
    """
    height, width = observed.shape[:2]
    picture = Picture.fromarray(imagined)
    enlarged = np.asarray(picture.resize((width, height), Picture.Resampling.BICUBIC))
    difference = np.abs(observed.astype(int) - enlarged).astype(np.uint8)
    row = np.concatenate([observed, enlarged, difference], axis=1)  # [h, 3 · w, 3]
    return row, psnr(observed, enlarged)


def main() -> int:
    """Run the world model alone."""
    return run(WorldModelNode)


if __name__ == '__main__':
    raise SystemExit(main())
