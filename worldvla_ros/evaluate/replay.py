"""The policy asked again what it was asked in a recording: are the answers the same?

    recorded    image ─┬─ … ─ chunk ─────────────────┐
                joints ┘                             ├─ compare, number by number
    replayed    the same image, joints and sentence ─┘ policy

A chunk's stamp names the image that it answers, so images are paired as in the node. Which joint
state the node had is not recorded: messages reach node and recorder in a different order. So the
joint states that arrived around the image are tried, the nearest in time first, until one gives
the recorded answer.

Knows recordings, robots and policies. Must not know ROS.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
import itertools
from typing import Any

import numpy as np
from tqdm import tqdm

from worldvla_ros.checkpoint.hardware import arithmetic
from worldvla_ros.data.bags import Record, Recording
from worldvla_ros.errors import ConfigError, ObservationError, WorldVLAError
from worldvla_ros.observation import EncodedObservation
from worldvla_ros.pixels import compressed_pixels, raw_pixels
from worldvla_ros.policy import Policy
from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.pairing import ImageHistory, Instant
from worldvla_ros.robot.state import JointBuffer, JointReading, robot_state

CHUNK_TYPE = 'worldvla_ros/msg/ActionChunk'
LOOKED_BACK_S = 0.3
"""Joint states that arrived so long before the image are tried."""
KEPT_S = 10.0
"""How long images and joint states are kept: longer than inference takes."""
SETTLED_S = 0.5
"""A chunk is compared so long after it arrived: by then the images of its instant are here."""
MOST_TRIED = 64
"""Joint states that are tried for one chunk, each with a prompt of its own."""
CONTINUOUS_TOLERANCE = 1e-5
"""Of an action head's numbers, which are no bins."""
STAMP_S = 1e-6


@dataclass(frozen=True)
class Compared:
    """One recorded chunk beside the replayed one.

    Attributes:
        chunk_id: Of the recorded chunk.
        stamp_s: Of the observation that it answers [s].
        outcome: 'same', 'different', or 'not compared'.
        why: Why it was not compared.
        differing: How many numbers differ.
        action: First action that differs.
        name: Name of the first number that differs in it.
        recorded: That number as recorded.
        replayed: The same as replayed.
    """

    chunk_id: int
    stamp_s: float
    outcome: str
    why: str = ''
    differing: int = 0
    action: int = -1
    name: str = ''
    recorded: float = 0.0
    replayed: float = 0.0

    def __str__(self) -> str:
        """Say what was found, in one line."""
        where = f'chunk {self.chunk_id}, stamp {self.stamp_s:.3f} s'
        if self.outcome == 'different':
            return (
                f'{where}: {self.differing} numbers differ, first action {self.action} '
                f'{self.name}: recorded {self.recorded:.6g}, replayed {self.replayed:.6g}'
            )
        return f'{where}: {self.outcome}{f": {self.why}" if self.why else ""}'


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


@dataclass
class Report:
    """What a replay found.

    Attributes:
        model_id: Name and hash of the checkpoint that replayed.
        arithmetic: Precision, processor and version here.
        origin: The same of the recording.
        chunks: Each recorded chunk.
        problems: What of the recording could not be read.
    """

    model_id: str
    arithmetic: str
    origin: Origin
    chunks: list[Compared] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def count(self, outcome: str) -> int:
        """Return how many chunks had an outcome."""
        return sum(chunk.outcome == outcome for chunk in self.chunks)

    @property
    def first_difference(self) -> Compared | None:
        """The first chunk that differs."""
        return next((c for c in self.chunks if c.outcome == 'different'), None)

    @property
    def unlike(self) -> list[str]:
        """What was otherwise when recording, so that other tokens prove nothing."""
        pairs = {
            'model': (self.origin.model_id, self.model_id),
            'arithmetic': (self.origin.arithmetic, self.arithmetic),
        }
        return [
            f'{name}: recorded {then}, replayed {now}'
            for name, (then, now) in pairs.items()
            if then and then != now
        ]

    @property
    def holds(self) -> bool:
        """Whether chunks were compared and none differs that must not."""
        compared = self.count('same') + self.count('different')
        return compared > 0 and (bool(self.unlike) or not self.count('different'))

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        outcomes = ('same', 'different', 'not compared')
        return asdict(self) | {
            'counts': {outcome: self.count(outcome) for outcome in outcomes},
            'unlike': self.unlike,
            'holds': self.holds,
        }


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


def replay(
    recording: Recording,
    policy: Policy,
    robot: RobotConfig,
    told: Origin,
    *,
    names: Mapping[str, str] | None = None,
    most: int | None = None,
    progress: bool = True,
) -> Report:
    """Ask the policy again for every recorded chunk.

    Args:
        recording: The recording.
        policy: Answers.
        robot: Whose joints and cameras were recorded.
        told: What the recording says of its policy, from `origin`.
        names: Topics that were remapped: name in the node → name in the recording.
        most: How many chunks to compare at most.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: A topic that the policy needs was not recorded.
    """
    checkpoint = policy.checkpoint
    report = Report(checkpoint.model_id, arithmetic(checkpoint.model), told)
    heard = _Heard(policy, robot, _topics(recording, policy, robot, told, names or {}))
    asker = _Asker(policy, robot)
    with tqdm(total=recording.size, unit='B', unit_scale=True, disable=not progress) as bar:
        for question in itertools.islice(heard.questions(recording), most):
            report.chunks.append(asker.compare(*question))
            bar.update(recording.done - bar.n)
            bar.set_postfix(same=report.count('same'), different=report.count('different'))
        bar.update(recording.done - bar.n)
    report.problems = recording.problems
    return report


def _beside(topic: str, name: str) -> str:
    """Return a topic of the namespace of another."""
    return f'{topic.rsplit("/", 1)[0]}/{name}'


def _topics(
    recording: Recording,
    policy: Policy,
    robot: RobotConfig,
    told: Origin,
    names: Mapping[str, str],
) -> dict[str, str]:
    """Return the recorded topic of chunks, joints and each camera, by what it carries."""
    cameras = policy.checkpoint.spec.cameras
    wanted = {f'camera {c.name}': c.topic for c in robot.cameras if c.name in cameras}
    wanted['joints'] = 'joint_states'
    found = {
        what: names.get(topic, topic if topic[:1] == '/' else _beside(told.chunk_topic, topic))
        for what, topic in wanted.items()
    }
    there = recording.topics()
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


Question = tuple[Any, Instant[Record] | None, list[JointReading]]
"""A recorded chunk, the images of its instant, and the joint states to try, likeliest first."""


class _Heard:
    """What the policy node had heard when it made each chunk."""

    def __init__(self, policy: Policy, robot: RobotConfig, topics: Mapping[str, str]) -> None:
        spec = policy.checkpoint.spec
        self._topics = topics
        self._what = {topic: what for what, topic in topics.items()}
        self._first = spec.cameras[0]
        self._images: ImageHistory[Record] = ImageHistory(
            spec.cameras, spec.images_per_camera - 1, spec.action.dt, KEPT_S
        )
        self._buffer = JointBuffer(robot, float('inf'))
        self._joints: deque[tuple[int, JointReading]] = deque()
        self._waiting: deque[Record] = deque()

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
                self._images.put(what.removeprefix('camera '), _stamp_s(record.message), record)
        while self._waiting:
            yield self._question(self._waiting.popleft())

    def _hear_joints(self, record: Record) -> None:
        message, stamp_s = record.message, _stamp_s(record.message)
        try:
            self._buffer.put(message.name, np.asarray(message.position, float), stamp_s)
            reading = self._buffer.newest(stamp_s)
        except ObservationError:
            return  # the node did without it as well
        self._joints.append((record.arrived_ns, reading))
        while record.arrived_ns - self._joints[0][0] > KEPT_S * 1e9:
            self._joints.popleft()

    def _question(self, chunk: Record) -> Question:
        stamp_s = _stamp_s(chunk.message)
        if self._images.missing():
            return chunk.message, None, []
        instant = self._images.at(stamp_s)
        if abs(instant.stamps_s[self._first] - stamp_s) > STAMP_S:
            return chunk.message, None, []
        seen_ns = max(record.arrived_ns for record in instant.images.values())
        first_ns = seen_ns - LOOKED_BACK_S * 1e9
        tried = [j for j in self._joints if first_ns <= j[0] <= chunk.arrived_ns]
        tried.sort(key=lambda joints: abs(joints[0] - seen_ns))
        return chunk.message, instant, [reading for _, reading in tried]


class _Asker:
    """Asks the policy again, and compares."""

    def __init__(self, policy: Policy, robot: RobotConfig) -> None:
        self._policy, self._robot = policy, robot
        self._spec = policy.checkpoint.spec

    def compare(
        self, chunk: Any, instant: Instant[Record] | None, readings: list[JointReading]
    ) -> Compared:
        """Answer one recorded chunk's observation again."""
        found = Compared(int(chunk.chunk_id), _stamp_s(chunk), 'not compared')
        if instant is None:
            return replace(found, why='its image was not recorded')
        recorded = np.asarray(chunk.data, np.float32).reshape(chunk.horizon, chunk.dim)
        tolerance = 0.0 if len(chunk.log_prob) else CONTINUOUS_TOLERANCE
        nearest: np.ndarray | None = None
        try:
            for made in self._answers(chunk, instant, readings):
                if not _unlike(recorded, made, tolerance).any():
                    return replace(found, outcome='same')
                nearest = made if nearest is None else nearest
        except WorldVLAError as error:
            return replace(found, why=str(error))
        if nearest is None:
            return replace(found, why='no joint state was recorded then')
        if len(instant.history) < self._spec.images_per_camera - 1:
            return replace(found, why='images of the steps before were not recorded')
        return _difference(found, chunk, recorded, nearest, tolerance)

    def _answers(
        self, chunk: Any, instant: Instant[Record], readings: list[JointReading]
    ) -> Iterator[np.ndarray]:
        """Yield float32[k, dim] for what the node may have seen, likeliest first; none twice.

        Raises:
            WorldVLAError: An image cannot be used, or the model refuses.
        """
        encode, recipe = self._policy.checkpoint.images.encode, self._spec.state
        instants = [
            dict(zip(images, encode([_pixels(r.message) for r in images.values()]), strict=True))
            for images in (*instant.history, instant.images)
        ]
        states: list[np.ndarray | None] = [None]
        if recipe is not None:
            states = [robot_state(self._robot, recipe.recipe, reading) for reading in readings]
        asked: set[bytes] = set()
        for state in states:
            observation = EncodedObservation(
                instants[-1], chunk.instruction, state, tuple(instants[:-1]), _stamp_s(chunk)
            )
            prompt = self._policy.prompt(observation).ids.tobytes()
            if prompt not in asked and len(asked) < MOST_TRIED:
                asked.add(prompt)
                made = self._policy.act(observation).actions
                limits = self._spec.action.minimum, self._spec.action.maximum
                yield np.clip(made, *limits).astype(np.float32)


def _unlike(recorded: np.ndarray, made: np.ndarray, tolerance: float) -> np.ndarray:
    """Return which numbers differ: bool[k, dim]; all of them where the shapes do."""
    if recorded.shape != made.shape:
        return np.ones(recorded.shape, bool)
    return np.abs(recorded - made) > tolerance


def _difference(
    found: Compared, chunk: Any, recorded: np.ndarray, made: np.ndarray, tolerance: float
) -> Compared:
    """Return where two chunks differ first."""
    unlike = _unlike(recorded, made, tolerance)
    action, column = (int(i) for i in np.argwhere(unlike)[0])
    there = action < len(made) and column < made.shape[1]
    return replace(
        found,
        outcome='different',
        differing=int(unlike.sum()),
        action=action,
        name=list(chunk.action_names)[column],
        recorded=float(recorded[action, column]),
        replayed=float(made[action, column]) if there else float('nan'),
    )


def _pixels(message: Any) -> np.ndarray:
    """Return a recorded image as uint8[h, w, 3].

    Raises:
        ObservationError: It cannot be used.
    """
    return raw_pixels(message) if hasattr(message, 'encoding') else compressed_pixels(message)


def _stamp_s(message: Any) -> float:
    stamp = message.header.stamp
    return float(stamp.sec + stamp.nanosec * 1e-9)


def _seconds(earlier: Record, later: Record) -> float:
    return (later.arrived_ns - earlier.arrived_ns) * 1e-9
