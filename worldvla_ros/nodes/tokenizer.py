"""The tokenizer node: images, an instruction and joint states in, codes and token ids out.

    image          →  image_tokens          worldvla_ros/ImageTokens, where somebody listens
    instruction    →  instruction_tokens    worldvla_ros/TokenIds, latched
    joint_states   →  state_tokens          worldvla_ros/TokenIds, where somebody listens

For the computer beside the cameras: it holds the tokenizers of a checkpoint and no transformer.
What is encoded keeps the header of what it was made from. Must not know prompts or simulators.

    executor's thread   what comes in; instruction and state, which take microseconds
    worker's thread     images
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
import time

import numpy as np
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState
from std_msgs.msg import Header, String

from worldvla_ros.checkpoint.tokenizers import Tokenizers
from worldvla_ros.errors import ObservationError, WorldVLAError
from worldvla_ros.msg import ImageTokens, TokenIds
from worldvla_ros.nodes.cameras import (
    CameraMessage,
    ImageInput,
    checkpoint_cameras,
    declare_transport,
    image_input,
    tokens_topic,
)
from worldvla_ros.nodes.convert import codes_to_message, ids_to_message, time_message
from worldvla_ros.nodes.host import ModelHost, ModelNode
from worldvla_ros.nodes.inputs import Mailboxes, Pace
from worldvla_ros.nodes.qos import JOINTS_QOS, LATCHED_QOS, SENSOR_QOS
from worldvla_ros.nodes.robot_urdf import make_arm
from worldvla_ros.nodes.runtime import declare, seconds
from worldvla_ros.nodes.spin import run
from worldvla_ros.observation import Observation, checked_instruction
from worldvla_ros.robot.description import check_fits, load_robot
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.state import JointBuffer, robot_state


@dataclass(frozen=True)
class Settings:
    """What the node's own parameters say; the host and the cameras read theirs."""

    robot: str
    always: bool
    max_rate: float
    max_joint_age_s: float


@dataclass(frozen=True)
class Configured:
    """What configuring made; gone with clean_up.

    Attributes:
        arm: The robot's arm.
        tokenizers: Encode.
        cameras: The checkpoint's cameras as they are heard.
        paces: How often each camera is encoded, and under `joint_states` the state.
        mail: The newest image of each camera.
        joints: The newest joint positions.
        always: Whether to encode where nobody listens.
        images: Where codes go, by camera.
        instructions: Where ids of the instruction go.
        states: Where ids of the state go.
    """

    arm: Arm
    tokenizers: Tokenizers
    cameras: ImageInput
    paces: Mapping[str, Pace]
    mail: Mailboxes[CameraMessage]
    joints: JointBuffer
    always: bool
    images: Mapping[str, Publisher]
    instructions: Publisher
    states: Publisher

    def wanted(self, publisher: Publisher) -> bool:
        """Whether what would be published is encoded."""
        return self.always or publisher.get_subscription_count() > 0


class TokenizerNode(ModelNode):
    """Unconfigured: nothing loaded. Inactive: loaded, publishes nothing. Active: encodes."""

    NO_ANSWER = 'not encoded'

    def __init__(self, host: ModelHost | None = None) -> None:
        """Create the node."""
        super().__init__('tokenizer', host)
        self._instruction, self._told_s = '', 0.0
        self._count = 0
        self._built: Configured | None = None

    def configure(self) -> None:
        """Load the tokenizers and listen.

        Raises:
            WorldVLAError: The checkpoint cannot be used, does not fit the robot, or a parameter is
                wrong.
        """
        given = self.read_parameters()
        robot = load_robot(given.robot)
        arm = make_arm(self, robot)
        tokenizers = self._host.tokenizers(self)
        spec = tokenizers.spec
        check_fits(robot, spec.action.names, spec.action.units, spec.cameras, spec.camera_rotation)
        self._built = Configured(
            arm=arm,
            tokenizers=tokenizers,
            cameras=image_input(self, robot, spec),
            paces={name: Pace(given.max_rate) for name in (*spec.cameras, 'joint_states')},
            mail=Mailboxes(),
            joints=JointBuffer(arm, given.max_joint_age_s),
            always=given.always,
            images={
                name: self.publisher(ImageTokens, tokens_topic(camera), SENSOR_QOS)
                for name, camera in checkpoint_cameras(self, robot, spec).items()
            },
            instructions=self.publisher(TokenIds, 'instruction_tokens', LATCHED_QOS),
            states=self.publisher(TokenIds, 'state_tokens', SENSOR_QOS),
        )
        self._listen(self._built)
        self.work(self._encode, urgent=True)
        self.status.keep(codebook=tokenizers.codebook, text=tokenizers.text_id, robot=robot.name)
        self.status.ok('configured')

    def read_parameters(self) -> Settings:
        """Declare and read all parameters.

        Raises:
            ConfigError: A parameter is wrong.
        """
        super().read_parameters()
        given = Settings(
            robot=declare(self, 'robot', 'sim_panda', 'robot name or YAML file'),
            always=declare(self, 'always', False, 'encode where nobody listens as well'),
            max_rate=declare(
                self,
                'max_rate',
                30.0,
                'most images of a camera, and states, per second [Hz]',
                0.1,
                200.0,
            ),
            max_joint_age_s=declare(
                self, 'max_joint_age', 0.3, 'oldest joint state that is encoded [s]', 0.01, 10.0
            ),
        )
        declare_transport(self)
        return given

    def activate(self) -> None:
        """Publish the instruction that came before."""
        self._publish_instruction()

    def deactivate(self) -> None:
        """Forget what waits."""
        if self._built is not None:
            self._built.mail.take()
            self._built.joints.clear()

    def clean_up(self) -> None:
        """Leave the worker, stop listening, and free the weights."""
        super().clean_up()
        self._built, self._instruction = None, ''

    def _listen(self, configured: Configured) -> None:
        configured.cameras.listen(self, self._image_callback)
        self.subscribe_latched(String, 'instruction', self._on_instruction)
        if configured.tokenizers.spec.state is not None:
            self.subscribe(JointState, 'joint_states', self._on_joints, JOINTS_QOS)

    @property
    def _configured(self) -> Configured:
        """What configuring made; callbacks and the worker run only while it is there."""
        assert self._built is not None, 'a callback outlived clean_up'
        return self._built

    # ---- callbacks, in the executor's thread

    def _image_callback(self, camera: str) -> Callable[[CameraMessage], None]:
        def on_image(message: CameraMessage) -> None:
            configured = self._configured
            if not self.active:
                return
            if not configured.wanted(configured.images[camera]):
                self.status.ok(f'nobody listens to {configured.images[camera].topic_name}')
                return
            if seconds(message.header.stamp) <= 0:
                self.refuse(
                    f'an image on {configured.cameras.topics[camera]} has no time stamp. Set '
                    'header.stamp in the camera driver',
                    key='stamp',
                )
            elif configured.paces[camera].take(time.monotonic()):
                configured.mail.put(camera, message)
                self.hand_over(camera)

        return on_image

    def _on_instruction(self, message: String) -> None:
        if message.data != self._instruction:  # a latched one comes twice
            self._instruction, self._told_s = message.data, self.now_s()
            self._publish_instruction()

    def _publish_instruction(self) -> None:
        if not self.active or not self._instruction:
            return
        tokenizers = self._configured.tokenizers
        try:
            text = checked_instruction(self._instruction)
            ids = tokenizers.sequences.text_ids(text)
        except WorldVLAError as error:
            self.refuse(error, key=error.problem)
            return
        header = Header(stamp=time_message(self._told_s))
        kind = TokenIds.KIND_INSTRUCTION
        self._configured.instructions.publish(
            ids_to_message(ids, header, kind, tokenizers.text_id, text)
        )
        self.status.ok(f'instruction: {text[:80]!r}', key='instruction')

    def _on_joints(self, message: JointState) -> None:
        configured = self._configured
        wanted = self.active and configured.wanted(configured.states)
        try:  # joints come in several messages: each is kept, wanted or not
            configured.joints.put(
                list(message.name), np.asarray(message.position), seconds(message.header.stamp)
            )
            if wanted and configured.paces['joint_states'].take(time.monotonic()):
                configured.states.publish(self._state(configured))
        except ObservationError as error:
            if wanted:
                self.refuse(error, key=error.problem)

    def _state(self, configured: Configured) -> TokenIds:
        """Return the newest state as ids.

        Raises:
            ObservationError: A joint is missing, too old or not plausible.
        """
        spec, tokenizer = configured.tokenizers.spec, configured.tokenizers.sequences.state
        assert spec.state is not None, 'joint states are heard where there is a recipe'
        assert tokenizer is not None, 'a recipe has a tokenizer'
        reading = configured.joints.newest(self.now_s())
        ids = tokenizer.encode(robot_state(configured.arm, spec.state.recipe, reading))
        header = Header(stamp=time_message(reading.stamp_s))
        header.frame_id = configured.arm.robot.base_frame
        name = configured.tokenizers.state_id
        return ids_to_message(ids.tolist(), header, TokenIds.KIND_STATE, name)

    # ---- the worker's thread

    def _encode(self, camera: str) -> Iterator[None]:
        """Encode the newest image of each camera, and not only of the one that woke the worker."""
        for name, message in self._configured.mail.take().items():
            try:
                self._encode_one(name, message)
            except ObservationError as error:  # the other cameras are encoded all the same
                self.refuse(error, key=error.problem)
            yield

    def _encode_one(self, camera: str, message: CameraMessage) -> None:
        """Encode and publish one image.

        Raises:
            WorldVLAError: It cannot be used, or memory is short.
        """
        configured, began_s = self._configured, time.monotonic()
        image = configured.cameras.read(camera, message)
        refusal = configured.cameras.misfit(camera, image, seconds(message.header.stamp))
        if refusal is not None:
            self.refuse(refusal, key=refusal.code)
            return
        tokenizers = configured.tokenizers
        seen = Observation({camera: image}).images[camera]  # of a size that may be encoded
        codes = tokenizers.images.encode([seen])[0]
        if not self.active:
            return
        made = codes_to_message(codes, message.header, camera, tokenizers.codebook)
        configured.images[camera].publish(made)
        self._count += 1
        took_ms = 1000 * (time.monotonic() - began_s)
        grid = f'{made.rows} x {made.columns}'
        self.status.ok('encoding', images=self._count, codes=grid, takes=f'{took_ms:.1f} ms')


def main() -> int:
    """Run the tokenizer."""
    return run(TokenizerNode)


if __name__ == '__main__':
    raise SystemExit(main())
