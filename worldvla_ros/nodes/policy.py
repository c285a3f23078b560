"""The policy node: images, joint states and an instruction in, action chunks out.

Callbacks keep the newest messages; the worker converts, judges and acts. A refused observation
gives a reason on ~/status and no chunk, so that the player holds. Must not know tokens or
simulators.
"""

from collections.abc import Iterator, Mapping
import contextlib
from dataclasses import dataclass, replace
import time

import numpy as np
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool

from worldvla_ros.errors import DecodingError, MemoryLimitError, WorldVLAError
from worldvla_ros.msg import ActionChunk
from worldvla_ros.nodes.convert import chunk_to_message, image_to_array
from worldvla_ros.nodes.history import ImageHistory, Pairing
from worldvla_ros.nodes.host import ModelHost, ModelNode
from worldvla_ros.nodes.runtime import (
    RELIABLE_QOS,
    SENSOR_QOS,
    declare,
    seconds,
)
from worldvla_ros.nodes.spin import run
from worldvla_ros.observation import Observation, check_instruction
from worldvla_ros.policy import Policy
from worldvla_ros.robot import guards
from worldvla_ros.robot.description import check_fits, load_robot
from worldvla_ros.robot.state import order_joints, state_from_joints

WARM_UP_INSTRUCTION = 'pick up the red cube'


@dataclass(frozen=True)
class Snapshot:
    """The newest messages at one instant."""

    images: dict[str, Image]
    history: tuple[Mapping[str, Image], ...]
    joints: JointState
    instruction: str
    received_s: float


class PolicyNode(ModelNode):
    """Unconfigured: nothing loaded. Inactive: loaded and warm, publishes nothing. Active: acts."""

    def __init__(self, host: ModelHost | None = None) -> None:
        """Create the node; nodes of one process share a host."""
        super().__init__('policy', host)
        self._instruction: str | None = None
        self._history: ImageHistory[Image] | None = None
        self._reset_inputs()

    def configure(self) -> None:
        """Load and check the checkpoint, warm it up, and listen.

        Raises:
            WorldVLAError: The checkpoint cannot be used, does not fit the robot, or a parameter is
                wrong.
        """
        self._robot = load_robot(declare(self, 'robot', 'sim_panda', 'robot name or YAML file'))
        self._max_age_s = declare(
            self, 'max_image_age', 0.5, 'oldest image that is answered [s]', 0.01, 10.0
        )
        self._max_skew_s = declare(
            self, 'max_camera_skew', 0.1, 'largest time between cameras [s]', 0.0, 10.0
        )
        rate = declare(self, 'max_rate', 20.0, 'most chunks per second [Hz]', 0.1, 200.0)
        self._period_s = 1.0 / rate
        self._enabled = declare(self, 'enabled', True, 'act as soon as active; see ~/enable')
        decoding = declare(
            self,
            'decoding',
            'auto',
            'discrete, verified, continuous, or auto: a head where there is one',
        )
        checkpoint = self._host.checkpoint(self)
        spec = checkpoint.spec
        check_fits(
            self._robot, spec.action.names, spec.action.units, spec.cameras, spec.camera_rotation
        )
        self._policy = Policy(checkpoint, None if decoding == 'auto' else decoding)
        self._spec = spec
        self._history = ImageHistory(spec.cameras, spec.history - 1, spec.action.dt)
        self._pairing = Pairing(spec.cameras, self._max_age_s)
        self._frozen = {name: guards.FrozenCamera() for name in spec.cameras}
        self._warm_up()
        self._listen()
        self._task = self._host.worker.add(self._act, urgent=True)
        self._host.worker.start()
        self.status.ok('configured', model=checkpoint.model_id, robot=self._robot.name)

    def activate(self) -> None:
        """Say what is missing, which nothing else does as long as no image comes."""
        self.get_logger().info(f'active, waiting for {self._waiting_for()}')

    def deactivate(self) -> None:
        """Forget what waits; without chunks the player holds."""
        self._reset_inputs()

    def clean_up(self) -> None:
        """Stop listening and leave the worker."""
        super().clean_up()
        self._policy = None

    def _listen(self) -> None:
        topics = {c.name: c.topic for c in self._robot.cameras}
        self._chunks = self.publisher(ActionChunk, 'action_chunk', RELIABLE_QOS)
        for name in self._spec.cameras:
            self.subscribe(Image, topics[name], self._image_callback(name), SENSOR_QOS)
        self.subscribe(JointState, 'joint_states', self._on_joints, SENSOR_QOS)
        self.subscribe_latched(String, 'instruction', self._on_instruction)
        self.serve(SetBool, '~/enable', self._on_enable)

    def _image_callback(self, camera: str) -> callable:
        def on_image(message: Image) -> None:
            stamp = seconds(message.header.stamp)
            if stamp < self._newest_s - 1.0:
                self._reset_inputs()
            self._newest_s = stamp
            self._images[camera] = message
            self._history.put(camera, stamp, message)
            if self._pairing.put(camera, stamp):
                self._offer()

        return on_image

    def _on_joints(self, message: JointState) -> None:
        self._joints = message

    def _on_instruction(self, message: String) -> None:
        self._instruction = message.data
        self.status.ok(f'instruction: {message.data[:80]!r}')

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        response.success, response.message = True, 'acting' if request.data else 'not acting'
        return response

    def _offer(self) -> None:
        """Hand the newest messages to the worker."""
        waiting = self._waiting_for()
        if waiting:
            self.status.ok(f'waiting for {waiting}')
        elif self.active and self._enabled and time.monotonic() - self._acted_s >= self._period_s:
            newest = seconds(self._images[self._spec.cameras[0]].header.stamp)
            snapshot = Snapshot(
                dict(self._images),
                self._history.before(newest),
                self._joints,
                self._instruction,
                time.monotonic(),
            )
            self._host.worker.put(self._task, snapshot)

    def _waiting_for(self) -> str:
        missing = [name for name in self._spec.cameras if name not in self._images]
        if missing:
            topics = {c.name: c.topic for c in self._robot.cameras}
            return f'images of camera {missing[0]} on topic {topics[missing[0]]}'
        if self._instruction is None:
            return 'an instruction'
        return 'joint states' if self._joints is None else ''

    def _act(self, snapshot: Snapshot) -> Iterator[None]:
        """Answer one snapshot; runs in the worker."""
        self._acted_s = time.monotonic()
        try:
            observation, refusal = self._observation(snapshot)
            if refusal is not None:
                self.status.warn(f'no chunk: {refusal}', key=refusal.guard)
                return
            chunk = self._policy.act(observation)
        except MemoryLimitError as error:
            self.fail(error)
            return
        except WorldVLAError as error:
            self.status.warn(f'no chunk: {error}', key=error.problem)
            return
        # a continuous head overshoots a little; the player takes the range of training alone
        actions = np.clip(chunk.actions, self._spec.action.minimum, self._spec.action.maximum)
        latency_s = time.monotonic() - snapshot.received_s
        chunk = replace(chunk, actions=actions.astype(np.float32), latency_s=latency_s)
        message = chunk_to_message(chunk, self._robot.base_frame)
        message.header.stamp = snapshot.images[self._spec.cameras[0]].header.stamp
        if self.active:
            self._chunks.publish(message)
            self.status.ok(
                'acting', latency=f'{chunk.latency_s:.3f} s', instruction=chunk.instruction
            )
        yield

    def _observation(self, snapshot: Snapshot) -> tuple[Observation | None, guards.Refusal | None]:
        """Convert and judge a snapshot.

        Raises:
            WorldVLAError: A message cannot be used.
        """
        stamps = [seconds(m.header.stamp) for m in snapshot.images.values()]
        now = self.get_clock().now().nanoseconds * 1e-9
        refusal = guards.image_age(min(stamps), now, self._max_age_s) or guards.camera_skew(
            stamps, self._max_skew_s
        )
        if refusal is not None:
            return None, refusal
        names, positions = list(snapshot.joints.name), np.asarray(snapshot.joints.position)
        joints, _ = order_joints(self._robot, names, positions)
        images, history = _arrays(snapshot.images), tuple(map(_arrays, snapshot.history))
        for name, image in images.items():
            refusal = self._frozen[name].check(image, joints, max(stamps))
            if refusal is not None:
                return None, refusal
        state = None
        if self._spec.state is not None:
            state = state_from_joints(self._robot, self._spec.state.recipe, names, positions)
        instruction = check_instruction(snapshot.instruction)
        return Observation(images, instruction, state, history, stamp_s=stamps[0]), None

    def _warm_up(self) -> None:
        """Act once on a grey image, so that the first real chunk is not a slow one."""
        size = self._spec.image_size
        grey = np.full((size, size, 3), 128, np.uint8)
        state = np.zeros(len(self._spec.state.names), np.float32) if self._spec.state else None
        images = dict.fromkeys(self._spec.cameras, grey)
        history = (images,) * (self._spec.history - 1)
        # a grey image need not be answered well
        with contextlib.suppress(DecodingError):
            self._policy.act(Observation(images, WARM_UP_INSTRUCTION, state, history))

    def _reset_inputs(self) -> None:
        """Forget images and joints, at the start and when the clock jumps back."""
        if self._history is not None:
            self._history.clear()
            self._pairing.clear()
        self._images: dict[str, Image] = {}
        self._joints: JointState | None = None
        self._newest_s = -np.inf
        self._acted_s = -np.inf


def _arrays(messages: Mapping[str, Image]) -> dict[str, np.ndarray]:
    """Return the images of one instant: uint8[h, w, 3] per camera.

    Raises:
        ObservationError: A message cannot be used.
    """
    return {name: image_to_array(message) for name, message in messages.items()}


def main() -> int:
    """Run the policy alone."""
    return run(PolicyNode)


if __name__ == '__main__':
    raise SystemExit(main())
