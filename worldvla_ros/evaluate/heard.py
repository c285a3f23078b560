"""What the policy node had heard when it made each chunk of a recording.

A chunk's stamp names the image that it answers, so images are paired as in the node. Which joint
state the node had is not recorded: messages reach node and recorder in a different order. So the
joint states that arrived around the image are given, the nearest in time first.

Knows topics and stamps. Must not know models or ROS.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
import sys
from typing import Any

import numpy as np

from worldvla_ros.checkpoint.spec import CheckpointSpec
from worldvla_ros.data.bags import Record, Recording
from worldvla_ros.errors import ConfigError, ObservationError
from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.pairing import ImageHistory, Instant
from worldvla_ros.robot.state import JointBuffer, JointReading

CHUNK_TYPE = 'worldvla_ros/msg/ActionChunk'
LOOKED_BACK_S = 0.3
"""Joint states that arrived so long before the image are tried."""
KEPT_S = 10.0
"""How long images and joint states are kept: longer than inference takes."""
SETTLED_S = 0.5
"""A chunk is compared so long after it arrived: by then the images of its instant are here."""
STAMP_S = 1e-6
COMPRESSED, TOKENS = '/compressed', '_tokens'
"""Endings of topics that carry a camera's images in another form."""


@dataclass(frozen=True)
class Origin:
    """What a recording says of the policy that ran: empty where it does not say.

    Attributes:
        chunk_topic: Where its chunks were published.
        model_id: Name and hash of its checkpoint.
        robot: Name of its robot description.
        arithmetic: Precision, processor and version, see `checkpoint.hardware.arithmetic`.
        decoding: How actions were found.
    """

    chunk_topic: str
    model_id: str = ''
    robot: str = ''
    arithmetic: str = ''
    decoding: str = ''


def origin(recording: Recording, names: Mapping[str, str] | None = None) -> Origin:
    """Return what a recording says of its policy.

    Args:
        recording: The recording.
        names: Topics that were remapped: name in the node → name in the recording.

    Raises:
        ConfigError: It has no chunks, or those of several policies.
    """
    topics = recording.topics()
    chunks = [name for name, type_name in topics.items() if type_name == CHUNK_TYPE]
    asked = (names or {}).get('action_chunk', '')
    found = [name for name in chunks if name == asked] if asked else chunks
    if len(found) != 1:
        raise ConfigError(
            'topic of action chunks in the recording',
            expected='one',
            got=', '.join(chunks) or f'none among {", ".join(topics) or "no topics"}',
            remedy='Name it: --topic action_chunk=/left/action_chunk.'
            if chunks
            else 'Record action_chunk as well.',
        )
    said: dict[str, str] = {}
    status = (names or {}).get('policy/status', _beside(found[0], 'policy/status'))
    for record in recording.records({found[0], status}):
        if record.topic == found[0]:
            said.setdefault('model', record.message.model_id)
        else:
            for value in (v for s in record.message.status for v in s.values):
                said.setdefault(value.key, value.value)
        if {'model', 'arithmetic'} <= set(said):
            break
    keys = ('model', 'robot', 'arithmetic', 'decoding')
    return Origin(found[0], *(said.get(key, '') for key in keys))


def _beside(topic: str, name: str) -> str:
    """Return a topic of the namespace of another."""
    return f'{topic.rsplit("/", 1)[0]}/{name}'


def recorded_urdf(recording: Recording, told: Origin) -> str | None:
    """Return the robot's URDF where it was recorded on /robot_description."""
    topics = ('/robot_description', _beside(told.chunk_topic, 'robot_description'))
    return next((str(r.message.data) for r in recording.records(topics)), None)


def find_topics(
    recording: Recording,
    cameras: tuple[str, ...],
    robot: RobotConfig,
    told: Origin,
    names: Mapping[str, str],
) -> dict[str, str]:
    """Return the recorded topic of chunks, joints and each camera, by what it carries.

    Raises:
        ConfigError: One was not recorded.
    """
    there = recording.topics()
    wanted = {f'camera {c.name}': c.topic for c in robot.cameras if c.name in cameras}
    wanted['joints'] = 'joint_states'
    found = {what: _found(topic, told, names, there) for what, topic in wanted.items()}
    missing = [what for what, topic in found.items() if topic not in there]
    if missing:
        what = missing[0]
        raise ConfigError(
            f'the recording lacks {what}',
            expected=f'topic {found[what]}',
            got=', '.join(sorted(there)),
            remedy=f'Where it has another name: --topic {wanted[what]}=NAME. Where it was not '
            'recorded, take it out of the parameter exclude of the recorder.',
        )
    return found | {'chunks': told.chunk_topic}


def _found(topic: str, told: Origin, names: Mapping[str, str], there: Collection[str]) -> str:
    """Return the recorded topic of a topic of the node: with its images, or codes made of them."""
    if topic in names:
        return names[topic]
    full = topic if topic[:1] == '/' else _beside(told.chunk_topic, topic)
    raw = full.removesuffix(COMPRESSED)
    either = (full, raw + COMPRESSED, raw + TOKENS)
    return next((name for name in either if name in there), full)


@dataclass(frozen=True)
class Question:
    """A recorded chunk, and what the node may have been asked.

    Attributes:
        chunk: The recorded message.
        instant: The images of its instant, or None where they were not recorded.
        joints: The joint states to try, likeliest first.
        all_joints: Whether joint states were recorded for long enough before the image, so that
            the one that the node had is surely among them.
    """

    chunk: Any
    instant: Instant[Record] | None = None
    joints: tuple[JointReading, ...] = ()
    all_joints: bool = True


class Heard:
    """What the policy node had heard when it made each chunk."""

    def __init__(self, spec: CheckpointSpec, arm: Arm, topics: Mapping[str, str]) -> None:
        """Have heard nothing yet; `topics` are those of `find_topics`."""
        self._topics = topics
        self._what = {topic: what for what, topic in topics.items()}
        self._first = spec.cameras[0]
        self._images: ImageHistory[Record] = ImageHistory(
            spec.cameras, spec.images_per_camera - 1, spec.action.dt, KEPT_S
        )
        self._buffer = JointBuffer(arm, float('inf'))
        self._joints: deque[tuple[int, JointReading]] = deque()
        self._waiting: deque[Record] = deque()
        self._joints_since_ns = sys.maxsize

    def questions(self, recording: Recording) -> Iterator[Question]:
        """Yield every recorded chunk with what it answers."""
        for record in recording.records(set(self._topics.values())):
            while self._waiting and _seconds(self._waiting[0], record) > SETTLED_S:
                yield self._question(self._waiting.popleft())
            what = self._what[record.topic]
            if what == 'chunks':
                self._waiting.append(record)
            elif what == 'joints':
                self._hear_joints(record)
            else:
                self._images.put(what.removeprefix('camera '), stamp_of(record.message), record)
        while self._waiting:
            yield self._question(self._waiting.popleft())

    def _hear_joints(self, record: Record) -> None:
        message, stamp_s = record.message, stamp_of(record.message)
        try:
            self._buffer.put(message.name, np.asarray(message.position, float), stamp_s)
            reading = self._buffer.newest(stamp_s)
        except ObservationError:
            return  # the node did without it as well
        self._joints_since_ns = min(self._joints_since_ns, record.arrived_ns)
        self._joints.append((record.arrived_ns, reading))
        while record.arrived_ns - self._joints[0][0] > KEPT_S * 1e9:
            self._joints.popleft()

    def _question(self, chunk: Record) -> Question:
        stamp_s = stamp_of(chunk.message)
        if self._images.missing():
            return Question(chunk.message)
        instant = self._images.at(stamp_s)
        if abs(instant.stamps_s[self._first] - stamp_s) > STAMP_S:
            return Question(chunk.message)
        seen_ns = max(record.arrived_ns for record in instant.images.values())
        first_ns = seen_ns - LOOKED_BACK_S * 1e9
        tried = [j for j in self._joints if first_ns <= j[0] <= chunk.arrived_ns]
        tried.sort(key=lambda joints: abs(joints[0] - seen_ns))
        readings = tuple(reading for _, reading in tried)
        return Question(chunk.message, instant, readings, self._joints_since_ns <= first_ns)


def stamp_of(message: Any) -> float:
    """Return the stamp of a recorded message [s]."""
    stamp = message.header.stamp
    return float(stamp.sec + stamp.nanosec * 1e-9)


def _seconds(earlier: Record, later: Record) -> float:
    return (later.arrived_ns - earlier.arrived_ns) * 1e-9
