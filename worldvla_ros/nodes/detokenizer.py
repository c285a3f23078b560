"""The detokenizer node: codes of a tokenizer elsewhere in, images to look at out.

    image_tokens   →  image   sensor_msgs/Image, where somebody listens

One pair of topics for each camera of the checkpoint. Never beside a camera that publishes the same
topic: then nothing is published until `image` is remapped. Must not know prompts or simulators.

    executor's thread   what comes in
    worker's thread     decoding and publishing
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
import time

from rclpy.publisher import Publisher
from sensor_msgs.msg import Image

from worldvla_ros.checkpoint.tokenizers import Tokenizers
from worldvla_ros.errors import ObservationError
from worldvla_ros.nodes.cameras import (
    CameraMessage,
    TokenInput,
    checkpoint_cameras,
    declare_size,
    image_topic,
)
from worldvla_ros.nodes.convert import array_to_image
from worldvla_ros.nodes.host import ModelHost, ModelNode
from worldvla_ros.nodes.inputs import Mailboxes
from worldvla_ros.nodes.qos import RELIABLE_QOS
from worldvla_ros.nodes.runtime import declare, seconds
from worldvla_ros.nodes.spin import run
from worldvla_ros.robot.description import check_fits, load_robot


@dataclass(frozen=True)
class Configured:
    """What configuring made; gone with clean_up.

    Attributes:
        tokenizers: Decode.
        cameras: The checkpoint's cameras as their tokens are heard.
        mail: The newest tokens of each camera.
        always: Whether to decode where nobody listens.
        images: Where images go, by camera.
    """

    tokenizers: Tokenizers
    cameras: TokenInput
    mail: Mailboxes[CameraMessage]
    always: bool
    images: Mapping[str, Publisher]


class DetokenizerNode(ModelNode):
    """Unconfigured: nothing loaded. Inactive: loaded, publishes nothing. Active: decodes."""

    NO_ANSWER = 'not decoded'

    def __init__(self, host: ModelHost | None = None) -> None:
        """Create the node."""
        super().__init__('detokenizer', host)
        self._count = 0
        self._built: Configured | None = None

    def configure(self) -> None:
        """Load the tokenizers and listen.

        Raises:
            WorldVLAError: The checkpoint cannot be used, does not fit the robot, or a parameter is
                wrong.
        """
        robot_name, always = self.read_parameters()
        robot = load_robot(robot_name)
        tokenizers = self._host.tokenizers(self)
        spec = tokenizers.spec
        check_fits(robot, spec.action.names, spec.action.units, spec.cameras, spec.camera_rotation)
        cameras = checkpoint_cameras(self, robot, spec)
        self._built = Configured(
            tokenizers=tokenizers,
            cameras=TokenInput(cameras, spec, tokenizers.codebook),
            mail=Mailboxes(),
            always=always,
            images={
                name: self.publisher(Image, image_topic(camera), RELIABLE_QOS)
                for name, camera in cameras.items()
            },
        )
        self._built.cameras.listen(self, self._tokens_callback)
        self.work(self._decode, urgent=True)
        self.status.keep(codebook=tokenizers.codebook, robot=robot.name)
        self.status.ok('configured')

    def read_parameters(self) -> tuple[str, bool]:
        """Declare all parameters; return the robot, and whether to decode where nobody listens.

        Raises:
            ConfigError: A parameter is wrong.
        """
        declare_size(self)
        super().read_parameters()
        robot = declare(self, 'robot', 'sim_panda', 'robot name or YAML file')
        return robot, declare(self, 'always', False, 'decode where nobody listens as well')

    def deactivate(self) -> None:
        """Forget what waits."""
        if self._built is not None:
            self._built.mail.take()

    def clean_up(self) -> None:
        """Leave the worker, stop listening, and free the weights."""
        super().clean_up()
        self._built = None

    @property
    def _configured(self) -> Configured:
        """What configuring made; callbacks and the worker run only while it is there."""
        assert self._built is not None, 'a callback outlived clean_up'
        return self._built

    # ---- callbacks, in the executor's thread

    def _tokens_callback(self, camera: str) -> Callable[[CameraMessage], None]:
        def on_tokens(message: CameraMessage) -> None:
            configured = self._configured
            if not self.active:
                return
            publisher = configured.images[camera]
            if self.count_publishers(publisher.topic_name) > 1:
                self.refuse(
                    f'{publisher.topic_name} has another publisher. Remap this topic of the '
                    'detokenizer, or stop the camera',
                    key='publisher',
                )
            elif not configured.always and not publisher.get_subscription_count():
                self.status.ok(f'nobody listens to {publisher.topic_name}')
            else:
                configured.mail.put(camera, message)
                self.hand_over(camera)

        return on_tokens

    # ---- the worker's thread

    def _decode(self, camera: str) -> Iterator[None]:
        """Decode the newest tokens of each camera, not only of the one that woke the worker."""
        for name, message in self._configured.mail.take().items():
            try:
                self._decode_one(name, message)
            except ObservationError as error:  # the other cameras are decoded all the same
                self.refuse(error, key=error.problem)
            yield

    def _decode_one(self, camera: str, message: CameraMessage) -> None:
        """Decode and publish one image.

        Raises:
            WorldVLAError: It cannot be used, or memory is short.
        """
        configured, began_s = self._configured, time.monotonic()
        codes = configured.cameras.read(camera, message)
        image = configured.tokenizers.images.decode(codes)
        if not self.active:
            return
        header = message.header
        made = array_to_image(image, seconds(header.stamp), header.frame_id)
        made.header = header
        configured.images[camera].publish(made)
        self._count += 1
        took_ms = 1000 * (time.monotonic() - began_s)
        self.status.ok('decoding', images=self._count, takes=f'{took_ms:.1f} ms')


def main() -> int:
    """Run the detokenizer."""
    return run(DetokenizerNode)


if __name__ == '__main__':
    raise SystemExit(main())
