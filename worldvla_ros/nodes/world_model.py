"""The world-model node: images or image tokens and action chunks in, the images that follow out.

    imagined_image    stamped with the time that it predicts
    imagined_strip    observed | imagined | difference, published when that time has come
    imagined_tokens   codes of the imagined image, where somebody listens

Where cameras are heard as tokens, images and strips are decoded only where somebody listens.

Imagining never delays acting: it yields to the policy between decoding steps where both share a
process. When imagining is slower than time passes, images whose time is past are skipped:
imagining then begins with the newest observed image of the chunk's way. ~/status says how long
before or after its time each image came. Must not know token ids or simulators.

    executor's thread   Configured.images, times; chunks are judged, strips of images are made
    worker's thread     Configured.world, `_takes_s`; images are imagined, strips of codes are made
    both                Configured.pending
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
import time

import numpy as np
from PIL import Image as Picture
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from worldvla_ros.checkpoint.spec import CheckpointSpec
from worldvla_ros.errors import ObservationError, WorldVLAError
from worldvla_ros.metrics import psnr
from worldvla_ros.msg import ActionChunk, ImageTokens
from worldvla_ros.nodes.cameras import (
    CameraInput,
    CameraMessage,
    TokenInput,
    camera_input,
    declare_input,
)
from worldvla_ros.nodes.convert import (
    array_to_image,
    codes_to_message,
    message_to_chunk,
    time_message,
)
from worldvla_ros.nodes.diagnostics import Diagnostics, Rate
from worldvla_ros.nodes.host import ModelHost, ModelNode, precision
from worldvla_ros.nodes.matching import ChunkTimes, Imagined, Pending, strides_to_skip
from worldvla_ros.nodes.qos import RELIABLE_QOS
from worldvla_ros.nodes.runtime import declare, seconds
from worldvla_ros.nodes.spin import run
from worldvla_ros.observation import ActionChunk as Chunk
from worldvla_ros.robot import guards
from worldvla_ros.robot.clock import StampClock
from worldvla_ros.robot.description import RobotConfig, check_fits, load_robot
from worldvla_ros.robot.pairing import CameraImages
from worldvla_ros.robot.reasons import Reason
from worldvla_ros.world_model import WorldModel

REMEMBERED_S = 3.0
"""Images are compared with what was observed up to this long ago."""
COMPARE, IMAGINE = 0, 1
"""Kinds of work, the more urgent first."""
MATCH_SHARE = 0.6
"""An observed image shows a predicted time within this share of dt."""


@dataclass(frozen=True)
class Configured:
    """What configuring made; gone with clean_up.

    Attributes:
        robot: The robot's description.
        spec: What the checkpoint means.
        world: Imagines.
        cameras: The checkpoint's cameras as they are heard.
        max_skew_s: Largest time between cameras, and between a chunk and its images [s].
        images: The newest images of each camera.
        times: When chunks are executed.
        pending: Imagined images that wait for their time.
        imagined: Where imagined images go.
        tokens: Where codes of imagined images go.
        strips: Where comparisons go.
    """

    robot: RobotConfig
    spec: CheckpointSpec
    world: WorldModel
    cameras: CameraInput
    max_skew_s: float
    images: dict[str, CameraImages[CameraMessage]]
    times: ChunkTimes
    pending: Pending
    imagined: Publisher
    tokens: Publisher
    strips: Publisher

    @property
    def encoded(self) -> bool:
        """Whether cameras are heard as tokens."""
        return isinstance(self.cameras, TokenInput)

    @property
    def watched(self) -> bool:
        """Whether imagined images are decoded: always beside images, on demand beside tokens."""
        listeners = (p.get_subscription_count() for p in (self.imagined, self.strips))
        return not self.encoded or any(listeners)

    @property
    def stride_s(self) -> float:
        """Time between imagined images [s]."""
        return self.spec.world.actions_per_image * self.spec.action.dt

    def images_at(self, stamp_s: float) -> tuple[dict[str, CameraMessage], str]:
        """Return the images nearest to a time, by camera; and the first camera that has none."""
        near = {n: kept.nearest(stamp_s, self.max_skew_s) for n, kept in self.images.items()}
        missing = next((name for name, found in near.items() if found is None), '')
        return {name: found[1] for name, found in near.items() if found is not None}, missing


@dataclass(frozen=True)
class Work:
    """A chunk to imagine: the images of its instant, and when its first action is executed."""

    chunk: Chunk
    images: dict[str, CameraMessage]
    later: tuple[dict[str, CameraMessage], ...]
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
        self._rate = Rate()

    def configure(self) -> None:
        """Load the checkpoint and listen.

        Raises:
            WorldVLAError: The checkpoint cannot be used, does not fit the robot, or a parameter is
                wrong.
        """
        robot_name, max_skew_s = self.read_parameters()
        robot = load_robot(robot_name)
        checkpoint = self._host.checkpoint(self)
        spec = checkpoint.spec
        check_fits(robot, spec.action.names, spec.action.units, spec.cameras, spec.camera_rotation)
        configured = Configured(
            robot=robot,
            spec=spec,
            world=WorldModel(checkpoint),
            cameras=camera_input(self, robot, checkpoint),
            max_skew_s=max_skew_s,
            images={name: CameraImages(REMEMBERED_S) for name in spec.cameras},
            times=ChunkTimes(),
            pending=Pending(MATCH_SHARE * spec.action.dt),
            imagined=self.publisher(Image, 'imagined_image', RELIABLE_QOS),
            tokens=self.publisher(ImageTokens, 'imagined_tokens', RELIABLE_QOS),
            strips=self.publisher(Image, 'imagined_strip', RELIABLE_QOS),
        )
        if checkpoint.device.type == 'cuda':
            configured.world.warm_up()
        self._built = configured
        configured.cameras.listen(self, self._image_callback)
        self.subscribe(ActionChunk, 'action_chunk', self._on_chunk, RELIABLE_QOS)
        self.work(self._compare_each, urgent=False)
        self.work(self._imagine, urgent=False)
        self.status.keep(model=checkpoint.model_id)
        Diagnostics(self, checkpoint.model_id).add(
            'imagined images',
            lambda: self._rate.finding('imagined images', Refused=self.refused, PSNR=self._psnr),
        )
        self.status.ok('configured')

    def read_parameters(self) -> tuple[str, float]:
        """Declare all parameters; return the robot and the largest time between cameras [s].

        Raises:
            ConfigError: A parameter is wrong.
        """
        super().read_parameters()
        precision(self)
        given = declare(self, 'robot', 'sim_panda', 'robot name or YAML file')
        max_skew_s = self.max_camera_skew()
        declare_input(self)
        return given, max_skew_s

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

    def _image_callback(self, camera: str) -> Callable[[CameraMessage], None]:
        def on_image(message: CameraMessage) -> None:
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
            self.refuse(refusal, key=refusal.code)
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
        later: list[dict[str, CameraMessage]] = []
        while len(later) < chunk.horizon // configured.spec.world.actions_per_image - 1:
            due_s = start_s + (len(later) + 1) * configured.stride_s
            found, missing = configured.images_at(due_s)
            if due_s > now_s or missing:
                break
            later.append(found)
        self.hand_over(Work(chunk, images, tuple(later), start_s), IMAGINE)

    def _compare(self) -> None:
        """Let the images whose time has come be compared with what was observed."""
        observed = self._configured.images[self._configured.spec.cameras[0]]
        due = self._configured.pending.due(observed)
        if self._configured.encoded and due:
            self.hand_over(due, COMPARE)  # what was observed is decoded first
        elif due:
            for _ in self._compare_each(due):
                pass

    def _compare_each(self, due: list[tuple[Imagined, CameraMessage]]) -> Iterator[None]:
        """Publish the strip of each image; runs in the worker where cameras are heard as tokens.

        Raises:
            MemoryLimitError: Memory is short.
        """
        configured = self._configured
        for imagined, message in due:
            try:
                image = configured.cameras.read(configured.spec.cameras[0], message)
            except ObservationError as error:
                self.status.warn(f'not compared: {error}', key=error.problem)
                continue
            if configured.encoded:
                image = configured.world.decode(image)
            row, decibels = strip(image, imagined.image)
            self._psnr = f'{decibels:.1f} dB'
            if self.active:
                frame = message.header.frame_id
                configured.strips.publish(array_to_image(row, imagined.stamp_s, frame))
            yield

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
        cameras = self._configured.cameras
        observation = cameras.observation(cameras.read_all(images), stamp_s=work.chunk.stamp_s)
        actions = work.chunk.actions[skip * spec.world.actions_per_image :]
        stamp_s, began_s = work.start_s + skip * stride_s, time.monotonic()
        for codes in self._configured.world.imagine_codes_stepwise(observation, actions):
            if codes is not None:
                stamp_s += stride_s
                self._publish(codes, stamp_s, images[spec.cameras[0]].header.frame_id)
                self._takes_s, began_s = time.monotonic() - began_s, time.monotonic()
                self._report(stamp_s, skip)
            yield

    def _publish(self, codes: np.ndarray, stamp_s: float, frame: str) -> None:
        """Publish an imagined image int64[rows, columns], as codes and as pixels.

        It is seen from the camera whose image it continues, in that one's frame.

        Raises:
            MemoryLimitError: Memory is short.
        """
        configured = self._configured
        if self.active and configured.tokens.get_subscription_count():
            header = Header(stamp=time_message(stamp_s), frame_id=frame)
            camera, codebook = configured.spec.cameras[0], configured.world.checkpoint.codebook
            configured.tokens.publish(codes_to_message(codes, header, camera, codebook))
        if self.active and configured.watched:
            image = configured.world.decode(codes)
            configured.imagined.publish(array_to_image(image, stamp_s, frame))
            configured.pending.add(Imagined(image, stamp_s))

    def _report(self, stamp_s: float, skipped: int) -> None:
        """Say how an imagined image stands to its time."""
        if not self.active:
            return
        ahead_s = stamp_s - self.now_s()
        self._rate.tick(-ahead_s)
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


def judge(chunk: Chunk, configured: Configured) -> Reason | None:
    """Return the first reason not to imagine a chunk, or None."""
    refusal = guards.chunk_meaning(chunk, configured.robot) or guards.chunk_values(
        chunk, configured.robot
    )
    dt = configured.spec.action.dt
    if refusal is None and not abs(chunk.dt - dt) <= guards.PERIOD_SLACK * dt:
        text = f'chunk with dt {chunk.dt:.6g} s (checkpoint {dt:.6g} s)'
        remedy = 'Use the same checkpoint for policy and world model.'
        refusal = Reason('chunk_period', text, remedy, chunk.dt, dt, 's', chunk.stamp_s)
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
