"""The quality gate: how far the actions of one precision are from those of another.

    observations ─┬─ reference ── actions ─┐
                  └─ candidate ── actions ─┴─ difference in bins and in normalised units ─ gate

Both choose as the checkpoint says (likeliest or median bin, or the action head), so that what is
compared is what a robot would do. Knows checkpoints and actions. Must not know how weights are
quantised or where observations were recorded.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from worldvla_ros.checkpoint.folder import Checkpoint
from worldvla_ros.checkpoint.spec import CheckpointSpec
from worldvla_ros.errors import CheckpointError, ConfigError
from worldvla_ros.observation import Observation
from worldvla_ros.policy import Policy

FAR_BINS = 8
"""From this many bins on, of 255 over an action's range, a number counts as far off."""
COLOURS = {
    'red': (200, 40, 40), 'green': (40, 160, 60), 'blue': (40, 70, 200), 'yellow': (220, 200, 50),
}  # fmt: skip
SENTENCES = (
    'pick up the {} cube',
    'push the {} cube to the left',
    'push the {} cube to the right',
)


@dataclass(frozen=True)
class Gate:
    """What a precision must hold; docs/quantisation.md says why.

    Attributes:
        mean_bins: Largest mean difference of a number [bins].
        far: Largest share of numbers that are `FAR_BINS` or more off.
    """

    mean_bins: float = 1.5
    far: float = 0.025


GATE = Gate()


@dataclass(frozen=True)
class Answers:
    """What a checkpoint did with observations.

    Attributes:
        bins: int64[n, K, D] in 1…256.
        normalised: float64[n, K, D], 2 is the range of a number.
        chunk_ms: Median time of a chunk [ms].
    """

    bins: np.ndarray
    normalised: np.ndarray
    chunk_ms: float


@dataclass(frozen=True)
class Quality:
    """How far two precisions are from each other.

    Attributes:
        numbers: How many numbers of actions were compared.
        identical: Share of numbers in the same bin.
        mean_bins: Mean absolute difference [bins].
        mean_normalised: Mean absolute difference in normalised units, where 2 is the whole range.
        far: Share of numbers that are `FAR_BINS` or more off.
    """

    numbers: int
    identical: float
    mean_bins: float
    mean_normalised: float
    far: float

    def passes(self, gate: Gate = GATE) -> bool:
        """Return whether the difference is small enough."""
        return self.mean_bins <= gate.mean_bins and self.far <= gate.far

    def require(self, precision: str, gate: Gate = GATE) -> None:
        """Refuse a precision that does not hold.

        Raises:
            CheckpointError: It does not.
        """
        if not self.passes(gate):
            raise CheckpointError(
                f'precision {precision} does not hold the quality of these weights',
                expected=f'at most {gate.mean_bins:g} bins of mean difference, '
                f'and {gate.far:.1%} of the numbers {FAR_BINS} or more bins off',
                got=f'{self.mean_bins:.2f} bins, and {self.far:.1%}',
                remedy='Use a wider precision with this checkpoint, such as int8 or bfloat16.',
            )


def answer(checkpoint: Checkpoint, observations: Iterable[Observation]) -> Answers:
    """Act on observations.

    Raises:
        ConfigError: There is none.
        ObservationError: One lacks a camera or the state.
        CheckpointError: The checkpoint was not trained to act, or its scores are not finite.
    """
    policy, action = Policy(checkpoint), checkpoint.spec.action
    chunks = [policy.act(observation) for observation in observations]
    if not chunks:
        raise ConfigError('observations to compare precisions on', expected='at least one')
    actions = np.stack([chunk.actions for chunk in chunks]).astype(np.float64)
    span = np.subtract(action.maximum, action.minimum)
    return Answers(
        bins=checkpoint.sequences.action.bins(actions),
        normalised=2 * (actions - action.minimum) / span - 1,
        chunk_ms=1000 * float(np.median([chunk.latency_s for chunk in chunks])),
    )


def compare(reference: Answers, candidate: Answers) -> Quality:
    """Return how far two sets of answers to the same observations are from each other."""
    off = np.abs(reference.bins - candidate.bins)
    return Quality(
        numbers=off.size,
        identical=float(np.mean(off == 0)),
        mean_bins=float(off.mean()),
        mean_normalised=float(np.abs(reference.normalised - candidate.normalised).mean()),
        far=float(np.mean(off >= FAR_BINS)),
    )


def made_observations(spec: CheckpointSpec, count: int, seed: int = 0) -> list[Observation]:
    """Return observations that depend on the seed alone: plain scenes, states all over the range.

    They are strange to a model, and so a stricter test of its numbers than what it knows.

    Raises:
        ConfigError: None is asked for, or the seed is negative.
    """
    for name, value, least in (('observations', count, 1), ('seed', seed, 0)):
        if value < least:
            raise ConfigError(name, expected=f'at least {least}', got=value)
    draw = np.random.default_rng(seed)
    return [_made(spec, draw) for _ in range(count)]


def _made(spec: CheckpointSpec, draw: np.random.Generator) -> Observation:
    instants = [
        {name: _scene(spec.image_size, draw) for name in spec.cameras}
        for _ in range(spec.images_per_camera)
    ]
    state = None
    if spec.state is not None:
        state = draw.uniform(spec.state.minimum, spec.state.maximum).astype(np.float32)
    sentence = str(draw.choice(SENTENCES)).format(draw.choice(list(COLOURS)))
    return Observation(instants[-1], sentence, state, tuple(instants[:-1]))


def _scene(size: int, draw: np.random.Generator) -> np.ndarray:
    """Return a shaded ground with a square of each colour: uint8[size, size, 3]."""
    shade = np.linspace(draw.uniform(60, 140), draw.uniform(140, 220), size)
    image = np.repeat(np.repeat(shade[:, None, None], size, 1), 3, 2)
    side = max(1, size // 8)
    for colour in COLOURS.values():
        row, column = draw.integers(0, size - side, 2)
        image[row : row + side, column : column + side] = colour
    return image.astype(np.uint8)
