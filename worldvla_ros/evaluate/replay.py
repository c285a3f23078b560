"""The policy asked again what it was asked in a recording: are the answers the same?

    recorded    image ─┬─ … ─ chunk ─────────────────┐
                joints ┘                             ├─ compare, number by number
    replayed    the same image, joints and sentence ─┘ policy

What the node had heard is found by `evaluate.heard`.

Knows recordings, robots and policies. Must not know ROS.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
import itertools
from typing import Any

import numpy as np
from tqdm import tqdm

from worldvla_ros.checkpoint.hardware import arithmetic
from worldvla_ros.data.bags import Record, Recording
from worldvla_ros.errors import WorldVLAError
from worldvla_ros.evaluate.heard import Heard, Origin, Question, find_topics, stamp_of
from worldvla_ros.observation import EncodedObservation
from worldvla_ros.pixels import compressed_pixels, raw_pixels
from worldvla_ros.policy import Policy
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.pairing import Instant
from worldvla_ros.robot.state import JointReading, robot_state

MOST_TRIED = 64
"""Joint states that are tried for one chunk, each with a prompt of its own."""
CONTINUOUS_TOLERANCE = 1e-5
"""Of an action head's numbers, which are no bins."""


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


def replay(
    recording: Recording,
    policy: Policy,
    arm: Arm,
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
        arm: Whose joints and cameras were recorded.
        told: What the recording says of its policy, from `origin`.
        names: Topics that were remapped: name in the node → name in the recording.
        most: How many chunks to compare at most.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: A topic that the policy needs was not recorded.
    """
    checkpoint = policy.checkpoint
    report = Report(checkpoint.model_id, arithmetic(checkpoint.model), told)
    spec = checkpoint.spec
    topics = find_topics(recording, spec.cameras, arm.robot, told, names or {})
    heard = Heard(spec, arm, topics)
    asker = _Asker(policy, arm)
    with tqdm(total=recording.size, unit='B', unit_scale=True, disable=not progress) as bar:
        for question in itertools.islice(heard.questions(recording), most):
            report.chunks.append(asker.compare(question))
            bar.update(recording.done - bar.n)
            bar.set_postfix(same=report.count('same'), different=report.count('different'))
        bar.update(recording.done - bar.n)
    report.problems = recording.problems
    return report


class _Asker:
    """Asks the policy again, and compares."""

    def __init__(self, policy: Policy, arm: Arm) -> None:
        self._policy, self._arm = policy, arm
        self._spec = policy.checkpoint.spec

    def compare(self, question: Question) -> Compared:
        """Answer one recorded chunk's observation again."""
        chunk, instant = question.chunk, question.instant
        found = Compared(int(chunk.chunk_id), stamp_of(chunk), 'not compared')
        if instant is None:
            return replace(found, why='its image was not recorded')
        recorded = np.asarray(chunk.data, np.float32).reshape(chunk.horizon, chunk.dim)
        tolerance = 0.0 if len(chunk.log_prob) else CONTINUOUS_TOLERANCE
        nearest: np.ndarray | None = None
        try:
            for made in self._answers(chunk, instant, question.joints):
                if not _unlike(recorded, made, tolerance).any():
                    return replace(found, outcome='same')
                nearest = made if nearest is None else nearest
        except WorldVLAError as error:
            return replace(found, why=str(error))
        if nearest is None:
            return replace(found, why='no joint state was recorded then')
        if len(instant.history) < self._spec.images_per_camera - 1:
            return replace(found, why='images of the steps before were not recorded')
        if self._spec.state is not None and not question.all_joints:
            return replace(found, why='joint states of the time before were not recorded')
        return _difference(found, chunk, recorded, nearest, tolerance)

    def _answers(
        self, chunk: Any, instant: Instant[Record], readings: tuple[JointReading, ...]
    ) -> Iterator[np.ndarray]:
        """Yield float32[k, dim] for what the node may have seen, likeliest first; none twice.

        Raises:
            WorldVLAError: An image cannot be used, or the model refuses.
        """
        recipe = self._spec.state
        instants = [self._codes(images) for images in (*instant.history, instant.images)]
        states: list[np.ndarray | None] = [None]
        if recipe is not None:
            states = [robot_state(self._arm, recipe.recipe, reading) for reading in readings]
        asked: set[bytes] = set()
        for state in states:
            observation = EncodedObservation(
                instants[-1], chunk.instruction, state, tuple(instants[:-1]), stamp_of(chunk)
            )
            prompt = self._policy.prompt(observation).ids.tobytes()
            if prompt not in asked and len(asked) < MOST_TRIED:
                asked.add(prompt)
                made = self._policy.act(observation).actions
                limits = self._spec.action.minimum, self._spec.action.maximum
                yield np.clip(made, *limits).astype(np.float32)

    def _codes(self, records: Mapping[str, Record]) -> dict[str, np.ndarray]:
        """Return the codes of the images of one instant: int64[rows, columns] each.

        Raises:
            ObservationError: An image cannot be used.
        """
        encode, found = self._policy.checkpoint.images.encode, {}
        for name, message in ((name, record.message) for name, record in records.items()):
            if hasattr(message, 'codes'):
                codes = np.array(message.codes, np.int64)
                found[name] = codes.reshape(message.rows, message.columns)
            else:
                [found[name]] = encode([_pixels(message)])
        return found


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
