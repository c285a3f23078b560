"""The policy node: images or image tokens, joint states and an instruction in, chunks out.

Callbacks keep the newest messages; the worker converts, judges and acts. A refused observation
gives a reason on ~/status and no chunk, so that the player holds. Must not know token ids
or simulators.

    executor's thread   Configured.images, joints, watch; Snapshot is handed over
    worker's thread     Configured.policy, frozen; chunks and status are published from here
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
import time

import numpy as np
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool

from worldvla_ros.checkpoint.hardware import arithmetic
from worldvla_ros.errors import ObservationError
from worldvla_ros.msg import ActionChunk
from worldvla_ros.nodes.cameras import CameraMessage, camera_input, declare_input
from worldvla_ros.nodes.convert import chunk_to_message
from worldvla_ros.nodes.diagnostics import Diagnostics, Rate
from worldvla_ros.nodes.host import ModelHost, ModelNode, precision
from worldvla_ros.nodes.inputs import RateLimit, StreamWatch
from worldvla_ros.nodes.qos import JOINTS_QOS, RELIABLE_QOS
from worldvla_ros.nodes.robot_urdf import make_arm
from worldvla_ros.nodes.runtime import declare, seconds
from worldvla_ros.nodes.snapshot import Configured, Snapshot, observe
from worldvla_ros.nodes.spin import run
from worldvla_ros.nodes.transforms import FrameCheck
from worldvla_ros.policy import Policy
from worldvla_ros.robot import guards
from worldvla_ros.robot.description import check_fits, load_robot
from worldvla_ros.robot.pairing import ImageHistory
from worldvla_ros.robot.reasons import Reason
from worldvla_ros.robot.state import JointBuffer

SILENT_S = 1.0
"""A topic without a message for this long is named on ~/status."""
WATCH_PERIOD_S = 0.2


@dataclass(frozen=True)
class Settings:
    """What the node's own parameters say; the host and the cameras read theirs."""

    robot: str
    max_age_s: float
    max_joint_age_s: float
    max_skew_s: float
    max_rate: float
    enabled: bool
    decoding: str


class PolicyNode(ModelNode):
    """Unconfigured: nothing loaded. Inactive: loaded and warm, publishes nothing. Active: acts."""

    NO_ANSWER = 'no chunk'

    def __init__(self, host: ModelHost | None = None) -> None:
        """Create the node; nodes of one process share a host."""
        super().__init__('policy', host)
        self._instruction: str | None = None
        self._has_joints = False
        self._enabled = True
        self._built: Configured | None = None
        self._model_id = ''
        self._frames: FrameCheck | None = None
        self._image_rate, self._joint_rate, self._chunk_rate = Rate(), Rate(), Rate()

    def configure(self) -> None:
        """Load and check the checkpoint, warm it up, and listen.

        Raises:
            WorldVLAError: The checkpoint cannot be used, does not fit the robot, or a parameter is
                wrong.
        """
        given = self.read_parameters()
        robot, self._enabled = load_robot(given.robot), given.enabled
        arm = make_arm(self, robot)
        checkpoint = self._host.checkpoint(self)
        spec = checkpoint.spec
        check_fits(robot, spec.action.names, spec.action.units, spec.cameras, spec.camera_rotation)
        cameras = camera_input(self, robot, checkpoint)
        configured = Configured(
            arm=arm,
            cameras=cameras,
            spec=spec,
            policy=Policy(checkpoint, None if given.decoding == 'auto' else given.decoding),
            arithmetic=arithmetic(checkpoint.model),
            max_age_s=given.max_age_s,
            max_skew_s=given.max_skew_s,
            rate=RateLimit(given.max_rate),
            images=ImageHistory(
                spec.cameras, spec.images_per_camera - 1, spec.action.dt, given.max_age_s
            ),
            joints=JointBuffer(arm, given.max_joint_age_s),
            watch=StreamWatch([*cameras.topics.values(), 'joint_states'], SILENT_S),
            frozen={
                name: guards.FrozenCamera(joint_age_s=given.max_joint_age_s, seen=cameras.seen)
                for name in spec.cameras
            },
            chunks=self.publisher(ActionChunk, 'action_chunk', RELIABLE_QOS),
        )
        configured.policy.warm_up()
        self._built = configured
        self._listen(configured)
        self.work(self._act, urgent=True)
        self._model_id = checkpoint.model_id
        self._keep_figures()
        self._diagnose(checkpoint.model_id)
        self.status.ok('configured')

    def read_parameters(self) -> Settings:
        """Declare and read all parameters.

        Raises:
            ConfigError: A parameter is wrong.
        """
        super().read_parameters()
        precision(self)
        given = Settings(
            robot=declare(self, 'robot', 'sim_panda', 'robot name or YAML file'),
            max_age_s=declare(
                self, 'max_image_age', 0.5, 'oldest image that is answered [s]', 0.01, 10.0
            ),
            max_joint_age_s=declare(
                self, 'max_joint_age', 0.3, 'oldest joint state that is answered [s]', 0.01, 10.0
            ),
            max_skew_s=self.max_camera_skew(),
            max_rate=declare(self, 'max_rate', 5.0, 'most chunks per second [Hz]', 0.1, 200.0),
            enabled=declare(self, 'enabled', True, 'act as soon as active; see ~/enable'),
            decoding=declare(
                self, 'decoding', 'auto',
                'discrete, verified, continuous, or auto: a head where there is one',
            ),
        )  # fmt: skip
        declare_input(self)
        return given

    def _diagnose(self, model_id: str) -> None:
        diagnostics = Diagnostics(self, model_id)
        diagnostics.add('images', lambda: self._image_rate.finding('images'))
        diagnostics.add('joint states', lambda: self._joint_rate.finding('joint states'))
        diagnostics.add('chunks', lambda: self._chunk_rate.finding('chunks', Refused=self.refused))

    def activate(self) -> None:
        """Say what is missing, which nothing else does as long as no image comes."""
        robot = self._configured.arm.robot
        self._frames = FrameCheck(self, robot.base_frame, robot.tip_frame)
        self._keep_figures()
        self.get_logger().info(f'active, waiting for {self._waiting_for() or "images"}')

    def deactivate(self) -> None:
        """Forget what waits; without chunks the player holds."""
        self._forget()
        if self._frames is not None:
            self._frames.stop()
            self._frames = None

    def clean_up(self) -> None:
        """Leave the worker, stop listening, and free the weights of this node."""
        super().clean_up()
        self._built = None

    def _listen(self, configured: Configured) -> None:
        configured.cameras.listen(self, self._image_callback)
        self.subscribe(JointState, 'joint_states', self._on_joints, JOINTS_QOS)
        self.subscribe_latched(String, 'instruction', self._on_instruction)
        self.serve(SetBool, '~/enable', self._on_enable)
        self.every(WATCH_PERIOD_S, self._watch)

    @property
    def _configured(self) -> Configured:
        """What configuring made; callbacks and the worker run only while it is there."""
        assert self._built is not None, 'a callback outlived clean_up'
        return self._built

    # ---- callbacks, in the executor's thread

    def _image_callback(self, camera: str) -> Callable[[CameraMessage], None]:
        topic = self._configured.cameras.topics[camera]

        def on_image(message: CameraMessage) -> None:
            stamp_s = seconds(message.header.stamp)
            self._configured.watch.heard(topic, time.monotonic())
            self._image_rate.tick(self.now_s() - stamp_s)
            if stamp_s <= 0:
                self.refuse(
                    f'an image on {topic} has no time stamp. Set header.stamp in the camera '
                    'driver',
                    key='stamp',
                )
                return
            if self._configured.images.put(camera, stamp_s, message):
                self._configured.joints.clear()
                self._has_joints = False
            self._offer()

        return on_image

    def _on_joints(self, message: JointState) -> None:
        self._configured.watch.heard('joint_states', time.monotonic())
        self._joint_rate.tick(self.now_s() - seconds(message.header.stamp))
        self._has_joints = True
        try:
            self._configured.joints.put(
                list(message.name),
                np.asarray(message.position),
                seconds(message.header.stamp),
            )
        except ObservationError as error:
            self.refuse(error, key=error.problem)

    def _on_instruction(self, message: String) -> None:
        if message.data != self._instruction:
            self._instruction = message.data
            self.status.ok(f'instruction: {message.data[:80]!r}', key='instruction')

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        response.success, response.message = True, 'acting' if request.data else 'not acting'
        if not request.data:
            self.status.ok('not acting: disabled by ~/enable')
        return response

    def _watch(self) -> None:
        """Name a topic that has stopped, which no image callback does when images stop."""
        silent = self._configured.watch.silent(time.monotonic())
        if self.active and self._enabled and silent is not None:
            topic, silent_s = silent
            what = 'joint state' if topic == 'joint_states' else 'image'
            self.refuse(
                f'no {what} on topic {topic} for {silent_s:.1f} s. Check its publisher',
                key=f'silent {topic}',
            )

        if self._frames is not None and self._frames.poll():
            self._keep_figures()
            self._frames = None

    def _keep_figures(self) -> None:
        """Say with every status which model and robot this is, and how TF agrees."""
        configured = self._configured
        figures = {'model': self._model_id, 'robot': configured.arm.robot.name}
        # what `worldvla replay` must find again to get the same tokens
        figures['arithmetic'] = configured.arithmetic
        figures['decoding'] = configured.policy.decoding
        if self._frames is not None:
            figures['tf'] = self._frames.verdict
        self.status.keep(**figures)

    def _offer(self) -> None:
        """Hand the newest messages to the worker, when it is time for a chunk."""
        if not self.active or not self._enabled:
            return
        waiting, instruction = self._waiting_for(), self._instruction
        if waiting or instruction is None:
            self.status.ok(f'waiting for {waiting}')
            return
        if not self._configured.rate.ready(time.monotonic()):
            return
        instant = self._configured.images.next()
        if instant is None:
            return
        try:
            joints = self._configured.joints.newest(self.now_s())
        except ObservationError as error:
            self.refuse(error, key=error.problem)
            return
        self.hand_over(Snapshot(instant, joints, instruction))

    def _waiting_for(self) -> str:
        missing = self._configured.images.missing()
        if missing:
            return (
                f'images of camera {missing} on topic {self._configured.cameras.topics[missing]}'
            )
        if not (self._instruction or '').strip():  # an empty one takes back what was said
            return 'an instruction'
        return '' if self._has_joints else 'joint states'

    def _forget(self) -> None:
        """Drop images and joints."""
        self._has_joints = False
        if self._built is not None:
            self._configured.images.clear()
            self._configured.joints.clear()

    # ---- the worker's thread

    def _act(self, snapshot: Snapshot) -> Iterator[None]:
        """Answer one snapshot.

        Raises:
            WorldVLAError: A message cannot be used, or memory is short.
        """
        configured = self._configured
        configured.rate.taken(time.monotonic())
        observation = observe(configured, snapshot, self.now_s())
        if isinstance(observation, Reason):
            self.refuse(observation, key=observation.code)
            return
        self._check_frames(snapshot)
        chunk = configured.policy.act(observation)
        # a continuous head overshoots a little; the player takes the range of training alone
        limits = configured.spec.action
        actions = np.clip(chunk.actions, limits.minimum, limits.maximum).astype(np.float32)
        # by the clock of the stamps: transport, pairing and waiting count as well
        latency_s = max(0.0, self.now_s() - observation.stamp_s)
        message = chunk_to_message(
            replace(chunk, actions=actions, latency_s=latency_s), configured.arm.robot.base_frame
        )
        message.header.stamp = snapshot.instant.images[configured.spec.cameras[0]].header.stamp
        if self.active:
            configured.chunks.publish(message)
            self._chunk_rate.tick(latency_s)
            self.status.ok(
                'acting',
                latency=f'{latency_s:.3f} s',
                instruction=chunk.instruction,
                free_from='' if chunk.free_from is None else chunk.free_from,
            )
        yield

    def _check_frames(self, snapshot: Snapshot) -> None:
        """Compare TF with the arm and the cameras of one instant, as long as it is heard."""
        frames = self._frames
        if frames is not None:
            joints = snapshot.joints
            pose = self._configured.arm.pose(joints.positions)
            cameras = {n: m.header.frame_id for n, m in snapshot.instant.images.items()}
            frames.check(pose, joints.stamp_s, cameras)


def main() -> int:
    """Run the policy alone."""
    return run(PolicyNode)


if __name__ == '__main__':
    raise SystemExit(main())
