"""The newest messages at one instant, and how the policy's worker makes an observation of them.

Everything that needs no node: what configuring made, what is handed over, and the guards in
between. Must not know models.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rclpy.publisher import Publisher

from worldvla_ros.checkpoint.spec import CheckpointSpec
from worldvla_ros.nodes.cameras import CameraInput, CameraMessage
from worldvla_ros.nodes.inputs import RateLimit, StreamWatch
from worldvla_ros.observation import EncodedObservation, Observation
from worldvla_ros.policy import Policy
from worldvla_ros.robot import guards
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.pairing import ImageHistory, Instant
from worldvla_ros.robot.reasons import Reason
from worldvla_ros.robot.state import JointBuffer, JointReading, robot_state


@dataclass(frozen=True)
class Configured:
    """What configuring made; gone with clean_up.

    Attributes:
        arm: The robot's arm.
        cameras: The checkpoint's cameras as they are heard.
        spec: What the checkpoint means.
        policy: Acts.
        arithmetic: How its numbers are rounded, see `checkpoint.hardware`.
        max_age_s: Oldest image that is answered [s].
        max_skew_s: Largest time between cameras [s].
        rate: Chunks per second at most.
        images: The newest images of all cameras.
        joints: The newest joint positions.
        watch: Which topics have stopped.
        frozen: Notices a frozen camera, by camera.
        chunks: Where answers go.
    """

    arm: Arm
    cameras: CameraInput
    spec: CheckpointSpec
    policy: Policy
    arithmetic: str
    max_age_s: float
    max_skew_s: float
    rate: RateLimit
    images: ImageHistory[CameraMessage]
    joints: JointBuffer
    watch: StreamWatch
    frozen: Mapping[str, guards.FrozenCamera]
    chunks: Publisher


@dataclass(frozen=True)
class Snapshot:
    """The newest messages at one instant."""

    instant: Instant[CameraMessage]
    joints: JointReading
    instruction: str


def observe(
    configured: Configured, snapshot: Snapshot, now_s: float
) -> Observation | EncodedObservation | Reason:
    """Convert and judge a snapshot.

    Raises:
        WorldVLAError: A message cannot be used.
    """
    stamps_s = snapshot.instant.stamps_s
    newest_s, oldest_s = max(stamps_s.values()), min(stamps_s.values())
    refusal = (
        guards.image_age(oldest_s, now_s, configured.max_age_s)
        or guards.image_age(newest_s, now_s, configured.max_age_s)
        or guards.camera_skew(list(stamps_s.values()), configured.max_skew_s)
    )
    if refusal is not None:
        return refusal
    cameras = configured.cameras
    images = cameras.read_all(snapshot.instant.images)
    for name, image in images.items():
        refusal = cameras.misfit(name, image, stamps_s[name]) or (
            configured.frozen[name].check(image, snapshot.joints, stamps_s[name])
        )
        if refusal is not None:
            return refusal
    spec = configured.spec
    state = None
    if spec.state is not None:
        state = robot_state(configured.arm, spec.state.recipe, snapshot.joints)
    history = tuple(map(cameras.read_all, snapshot.instant.history))
    stamp_s = stamps_s[spec.cameras[0]]
    return cameras.observation(images, snapshot.instruction, state, history, stamp_s=stamp_s)
