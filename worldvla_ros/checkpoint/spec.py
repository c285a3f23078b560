"""What the weights of a checkpoint mean: `worldvla.json`, checked when it is read.

Knows fields, and how they must fit each other. Must not know weights, decoding or ROS.
"""

from dataclasses import dataclass
import os
from pathlib import Path

from worldvla_ros.checkpoint import bounds
from worldvla_ros.checkpoint.bounds import check_bounds, within
from worldvla_ros.config import from_mapping, load_json, shown
from worldvla_ros.errors import CheckpointError
from worldvla_ros.model.action_head import ActionHeadConfig
from worldvla_ros.model.transformer import TransformerConfig
from worldvla_ros.model.vqgan import VQGANConfig
from worldvla_ros.tokenizers.image import CODES_PER_CELL
from worldvla_ros.tokenizers.sequence import Prompts
from worldvla_ros.tokenizers.vocab import MAX_GRID, Vocabulary

FORMAT = 1
SPEC_FILE = 'worldvla.json'
ACT, IMAGINE = 'act', 'imagine'
TASKS = (ACT, IMAGINE)
ROTATIONS = (0, 90, 180, 270)
BIN_CHOICES = ('greedy', 'median')
NAME_LENGTH, MESSAGE_LENGTH = 100, 300


@dataclass(frozen=True)
class ActionSpec:
    """Meaning of an action.

    Attributes:
        names: Name of each dimension.
        units: SI unit of each dimension after multiplication by `scale`.
        scale: SI value of 1.
        minimum: Lower end of the quantised range.
        maximum: Upper end of the quantised range.
        horizon: Actions per chunk (K).
        dt: Time between actions [s].
        bin_choice: How a number is chosen among the bins: 'greedy', the likeliest one, as the
            published models do; or 'median', the middle of the probability, see
            `inference.chunks.median`.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    scale: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    horizon: int
    dt: float
    bin_choice: str = 'greedy'

    def __post_init__(self) -> None:
        """Check that all lists have one entry per dimension.

        Raises:
            CheckpointError: They differ in length, a range is empty, a number makes no sense, or
                the choice of bins is unknown.
        """
        _check_dimensions('action', self.names, self.units, self.scale, self.minimum, self.maximum)
        _check_ranges('action', self.minimum, self.maximum)
        limits = {'horizon': (1, bounds.MAX_HORIZON), 'dt': bounds.DT}
        check_bounds(f'{SPEC_FILE}: action', self, limits)
        if not all(within(abs(one), (bounds.MIN_SCALE, bounds.MAX_VALUE)) for one in self.scale):
            raise CheckpointError(
                f'{SPEC_FILE}: action.scale',
                expected=f'magnitudes of {bounds.MIN_SCALE} … {bounds.MAX_VALUE}',
                got=shown(self.scale),
            )
        if self.bin_choice not in BIN_CHOICES:
            raise CheckpointError(
                f'{SPEC_FILE}: action.bin_choice',
                expected=' or '.join(BIN_CHOICES),
                got=repr(self.bin_choice),
            )

    @property
    def dim(self) -> int:
        """Numbers per action."""
        return len(self.names)


@dataclass(frozen=True)
class StateSpec:
    """Meaning of the robot state; `recipe` names the function that computes it from joints."""

    recipe: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that all lists have one entry per dimension.

        Raises:
            CheckpointError: They differ in length, or a range is empty.
        """
        _check_dimensions('state', self.names, self.units, self.minimum, self.maximum)
        _check_ranges('state', self.minimum, self.maximum)


@dataclass(frozen=True)
class WorldSpec:
    """What the world model was trained on.

    Attributes:
        actions_per_image: How far one imagined image lies ahead, in actions.
        minimum: Lower end of the quantised range of actions in world prompts, where it differs
            from the action model's (RynnVLA-002); None where both are the same.
        maximum: Upper end of that range.
    """

    actions_per_image: int = 1
    minimum: tuple[float, ...] | None = None
    maximum: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Check stride and range.

        Raises:
            CheckpointError: The stride is below 1, or the range is empty or given by half.
        """
        check_bounds(f'{SPEC_FILE}: world', self, {'actions_per_image': (1, bounds.MAX_HORIZON)})
        if self.minimum is None and self.maximum is None:
            return
        minimum, maximum = self.minimum or (), self.maximum or ()
        _check_dimensions('world', minimum, maximum)
        _check_ranges('world', minimum, maximum)


def _check_dimensions(block: str, *lists: tuple[object, ...]) -> None:
    lengths = sorted({len(values) for values in lists})
    if len(lengths) != 1 or not lengths[0]:
        raise CheckpointError(
            f'{SPEC_FILE}: {block}',
            expected='lists with one entry per dimension',
            got=f'lengths {[len(values) for values in lists]}',
        )


def _check_ranges(block: str, minimum: tuple[float, ...], maximum: tuple[float, ...]) -> None:
    most = (-bounds.MAX_VALUE, bounds.MAX_VALUE)
    pairs = list(zip(minimum, maximum, strict=True))
    if not all(within(low, most) and within(high, most) and low <= high for low, high in pairs):
        raise CheckpointError(
            f'{SPEC_FILE}: ranges of {block}',
            expected=f'minimum <= maximum, of magnitudes up to {bounds.MAX_VALUE}',
            got=shown(pairs),
        )


@dataclass(frozen=True)
class CheckpointSpec:
    """Everything about the weights that the weights do not say.

    Attributes:
        format: Version of this layout.
        name: Name of the checkpoint.
        robot: Name of the robot description that it was trained on.
        cameras: Names of its cameras, in sequence order.
        images_per_camera: Images per camera in an action prompt (M), the newest included.
        image_size: Side of a square image in the model [px].
        action: Meaning of an action.
        state: Meaning of the state block, or None where there is none.
        world: What the world model was trained on.
        prompts: Wording.
        vocabulary: Token ids.
        transformer: Sizes.
        vqgan: Sizes.
        action_head: Sizes of the continuous action head, or None where there is none.
        tasks: What it was trained to do, of 'act' and 'imagine'; neither for a base model.
        camera_rotation: How far the camera's raw images were turned before training [degrees];
            whoever publishes images for this checkpoint turns them likewise.
    """

    name: str
    robot: str
    cameras: tuple[str, ...]
    image_size: int
    action: ActionSpec
    vocabulary: Vocabulary
    transformer: TransformerConfig
    vqgan: VQGANConfig
    action_head: ActionHeadConfig | None = None
    state: StateSpec | None = None
    images_per_camera: int = 1
    world: WorldSpec = WorldSpec()
    prompts: Prompts = Prompts()
    tasks: tuple[str, ...] = TASKS
    camera_rotation: int = 0
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Check what must agree.

        Raises:
            CheckpointError: Vocabulary, actions and networks disagree, a size is beyond what any
                model has, or the format is unknown.
        """
        self._check_sizes()
        checks = {f'{SPEC_FILE} {name}': found for name, found in self._field_checks().items()}
        for name, (holds, expected, got) in (checks | self._size_checks()).items():
            if not holds:
                raise CheckpointError(
                    f'{self.name[:NAME_LENGTH]}: {name}', expected=expected, got=got
                )

    def _check_sizes(self) -> None:
        """Refuse sizes with which building the networks would hang or fill the memory."""
        place = f'{self.name[:NAME_LENGTH]}: {SPEC_FILE} '
        check_bounds(f'{place}transformer', self.transformer, bounds.TRANSFORMER)
        check_bounds(f'{place}vqgan', self.vqgan, bounds.VQGAN)
        if self.action_head is not None:
            check_bounds(f'{place}action_head', self.action_head, bounds.ACTION_HEAD)
        levels = self.vqgan.ch_mult
        if not within(len(levels), bounds.LEVELS) or not all(
            within(level, bounds.MULTIPLE) for level in levels
        ):
            raise CheckpointError(
                f'{place}vqgan.ch_mult',
                expected='{} … {} numbers of {} … {}'.format(*bounds.LEVELS, *bounds.MULTIPLE),
                got=shown(levels),
            )

    def _field_checks(self) -> dict[str, tuple[bool, object, object]]:
        """Return for each field whether it makes sense, what would, and what it is."""
        names, world, most = self.cameras, self.world.minimum, bounds.MAX_HISTORY
        named = within(len(names), bounds.CAMERAS) and len(set(names)) == len(names)
        return {
            'format': (self.format == FORMAT, FORMAT, self.format),
            'name': (
                0 < len(self.name) <= NAME_LENGTH, f'1 … {NAME_LENGTH} letters', shown(self.name)
            ),
            'cameras': (
                named, 'at least one name, at most {1}, all different'.format(*bounds.CAMERAS),
                shown(names),
            ),
            'images_per_camera': (
                within(self.images_per_camera, (1, most)),
                f'1 … {most}',
                self.images_per_camera,
            ),
            'tasks': (set(self.tasks) <= set(TASKS), f'some of {TASKS}', shown(self.tasks)),
            'camera_rotation': (
                self.camera_rotation in ROTATIONS, f'one of {ROTATIONS}', self.camera_rotation
            ),
            'world': (
                world is None or len(world) == self.action.dim,
                f'ranges of {self.action.dim} action dimensions',
                shown(world),
            ),
        } | self._network_checks()  # fmt: skip

    def _network_checks(self) -> dict[str, tuple[bool, object, object]]:
        """Return the same for what a network must have."""
        patch, side = self.vqgan.reduction * CODES_PER_CELL, self.image_size
        norms, heads = self.transformer.qk_norm_heads, self.transformer.num_attention_heads
        return {
            'image_size': (
                within(side, (patch, patch * MAX_GRID)) and side % patch == 0,
                f'a multiple of {patch} px, two codes of the VQ-GAN, up to {patch * MAX_GRID} px',
                side,
            ),
            'transformer.qk_norm_heads': (norms in (1, heads), f'1 or {heads}', norms),
        }

    def _size_checks(self) -> dict[str, tuple[bool, object, object]]:
        """Return the same for what vocabulary, actions and networks must have in common."""
        head = self.action_head
        sizes = (self.action.horizon, self.action.dim, self.transformer.hidden_size)
        head_sizes = (head.horizon, head.dim, head.context_size) if head is not None else sizes
        return {
            'vocabulary': (
                self.vocabulary.size == self.transformer.vocab_size,
                f'{self.transformer.vocab_size} ids as the transformer has',
                self.vocabulary.size,
            ),
            'codebook': (
                self.vocabulary.codebook_size == self.vqgan.n_embed,
                f'{self.vqgan.n_embed} entries as the VQ-GAN has',
                self.vocabulary.codebook_size,
            ),
            f'{SPEC_FILE} action_head horizon, dim and context_size': (
                head_sizes == sizes,
                f'{sizes} as action and transformer have',
                head_sizes,
            ),
        }


def read_spec_file(folder: str | Path) -> CheckpointSpec:
    """Read what the weights of a folder of our own format mean.

    Raises:
        CheckpointError: The folder or its specification is missing or damaged.
        ConfigError: A field is unknown, missing or of a wrong type.
    """
    file = Path(folder) / SPEC_FILE
    if not os.path.isfile(file):
        raise CheckpointError(
            f'no checkpoint at {str(folder)[:MESSAGE_LENGTH]}',
            expected=f'a folder with {SPEC_FILE}',
            got='a folder without it' if os.path.isdir(folder) else 'no such folder',
            remedy='Give the path of a checkpoint folder; worldvla pull fetches published ones.',
        )
    return from_mapping(CheckpointSpec, load_json(file, CheckpointError), where=str(file))
