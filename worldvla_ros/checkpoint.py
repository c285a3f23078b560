"""A checkpoint folder: weights with all that is needed to interpret them.

    worldvla.json             `CheckpointSpec`: sizes, vocabulary, statistics, cameras, prompts
    model.safetensors         transformer and action head, published parameter names
    vqgan.safetensors         image tokenizer
    text_tokenizer.json       byte-pair encoding in Hugging Face's format

Knows files. Must not know decoding or robots.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
import functools
import hashlib
import json
import math
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
import torch
from torch import nn

from worldvla_ros.config import from_mapping
from worldvla_ros.errors import CheckpointError
from worldvla_ros.model.action_head import ActionHead, ActionHeadConfig
from worldvla_ros.model.transformer import Transformer, TransformerConfig
from worldvla_ros.model.vqgan import VQGAN, VQGANConfig
from worldvla_ros.sequence import Prompts, SequenceBuilder
from worldvla_ros.share import share_folder
from worldvla_ros.tokenizers.action import action_tokenizer, state_tokenizer
from worldvla_ros.tokenizers.image import CODES_PER_CELL, ImageTokenizer
from worldvla_ros.tokenizers.text import TextTokenizer
from worldvla_ros.vocab import Vocabulary

FORMAT = 1
SPEC_FILE = 'worldvla.json'
MODEL_FILE = 'model.safetensors'
VQGAN_FILE = 'vqgan.safetensors'
TEXT_FILE = 'text_tokenizer.json'


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
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    scale: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    horizon: int
    dt: float

    def __post_init__(self) -> None:
        """Check that all lists have one entry per dimension.

        Raises:
            CheckpointError: They differ in length, a range is empty, or the horizon or dt is not
                positive.
        """
        _check_dimensions('action', self.names, self.units, self.scale, self.minimum, self.maximum)
        _check_ranges('action', self.minimum, self.maximum)
        if self.horizon < 1 or not (math.isfinite(self.dt) and self.dt > 0):
            raise CheckpointError(
                f'{SPEC_FILE}: action',
                expected='horizon >= 1 and a finite dt > 0',
                got=f'horizon {self.horizon}, dt {self.dt}',
            )


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
    """How far one imagined image lies ahead, in actions."""

    actions_per_image: int = 1

    def __post_init__(self) -> None:
        """Check the stride.

        Raises:
            CheckpointError: It is below 1.
        """
        if self.actions_per_image < 1:
            raise CheckpointError(
                f'{SPEC_FILE}: world.actions_per_image',
                expected='>= 1',
                got=self.actions_per_image,
            )


def _check_dimensions(block: str, *lists: tuple) -> None:
    lengths = sorted({len(values) for values in lists})
    if len(lengths) != 1 or not lengths[0]:
        raise CheckpointError(
            f'{SPEC_FILE}: {block}',
            expected='lists with one entry per dimension',
            got=f'lengths {[len(values) for values in lists]}',
        )


def _check_ranges(block: str, minimum: tuple[float, ...], maximum: tuple[float, ...]) -> None:
    pairs = list(zip(minimum, maximum, strict=True))
    if not all(math.isfinite(low) and math.isfinite(high) and low <= high for low, high in pairs):
        raise CheckpointError(
            f'{SPEC_FILE}: ranges of {block}', expected='finite, minimum <= maximum', got=pairs
        )


@dataclass(frozen=True)
class CheckpointSpec:
    """Everything about the weights that the weights do not say.

    Attributes:
        format: Version of this layout.
        name: Name of the checkpoint.
        robot: Name of the robot description that it was trained on.
        cameras: Names of its cameras, in sequence order.
        history: Images per camera in an action prompt (M), the newest included.
        image_size: Side of a square image in the model [px].
        action: Meaning of an action.
        state: Meaning of the state block, or None where there is none.
        world: The world model's stride.
        prompts: Wording.
        vocabulary: Token ids.
        transformer: Sizes.
        vqgan: Sizes.
        action_head: Sizes of the continuous action head, or None where there is none.
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
    history: int = 1
    world: WorldSpec = WorldSpec()
    prompts: Prompts = Prompts()
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Check what must agree.

        Raises:
            CheckpointError: Vocabulary, actions and networks disagree, or the format is unknown.
        """
        patch = self.vqgan.reduction * CODES_PER_CELL
        head = self.action_head
        sizes = (self.action.horizon, len(self.action.names), self.transformer.hidden_size)
        head_sizes = (head.horizon, head.dim, head.context_size) if head is not None else sizes
        checks = {
            f'{SPEC_FILE} format': (self.format == FORMAT, FORMAT, self.format),
            f'{SPEC_FILE} cameras': (len(self.cameras) > 0, 'at least one name', self.cameras),
            f'{SPEC_FILE} history': (self.history > 0, 'at least 1', self.history),
            f'{SPEC_FILE} image_size': (
                self.image_size >= patch and self.image_size % patch == 0,
                f'a multiple of {patch} px, two codes of the VQ-GAN',
                self.image_size,
            ),
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
        for field, (holds, expected, got) in checks.items():
            if not holds:
                raise CheckpointError(f'{self.name}: {field}', expected=expected, got=got)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        spec: What the weights mean.
        model: The transformer with its action head, in evaluation mode.
        vqgan: The image tokenizer's network, fp32, in evaluation mode.
        text: The text tokenizer.
        model_id: Name and content hash of the weights.
        device: Where the weights are.
    """

    spec: CheckpointSpec
    model: Transformer
    vqgan: VQGAN
    text: TextTokenizer
    model_id: str
    device: torch.device

    @property
    def head(self) -> ActionHead | None:
        """The continuous action head, or None where there is none."""
        return self.model.action_head

    @functools.cached_property
    def sequences(self) -> SequenceBuilder:
        """Builds the token sequences that these weights know."""
        return sequence_builder(self.spec, self.text)


def sequence_builder(spec: CheckpointSpec, text: TextTokenizer) -> SequenceBuilder:
    """Return the builder for a specification."""
    vocab, action, state = spec.vocabulary, spec.action, spec.state
    return SequenceBuilder(
        vocab=vocab,
        text=text,
        action=action_tokenizer(vocab, action.minimum, action.maximum),
        state=state_tokenizer(vocab, state.minimum, state.maximum) if state else None,
        image=ImageTokenizer(vocab),
        prompts=spec.prompts,
    )


def demo_path() -> Path:
    """Return the folder of the demo checkpoint, in the source tree or installed."""
    return share_folder() / 'checkpoints/demo'


def load(
    path: str | Path, device: str | torch.device = 'cpu', dtype: torch.dtype | None = None
) -> Checkpoint:
    """Load a checkpoint folder.

    Args:
        path: The folder.
        device: Where to put the weights.
        dtype: Type of the transformer's weights; fp32 on a CPU and as stored elsewhere by default.

    Raises:
        CheckpointError: The folder is missing, damaged, foreign or inconsistent.
    """
    folder, device = Path(path), torch.device(device)
    spec = read_spec(folder)
    text = TextTokenizer.load(folder / TEXT_FILE, spec.vocabulary.text_base)
    if text.size > spec.vocabulary.text_size:
        raise CheckpointError(
            f'{folder / TEXT_FILE}',
            expected=f'at most {spec.vocabulary.text_size} ids',
            got=text.size,
            remedy='Restore the tokenizer that belongs to these weights.',
        )
    if dtype is None and device.type == 'cpu':
        dtype = torch.float32
    model = _load_weights(
        lambda: Transformer(spec.transformer, spec.action_head), folder / MODEL_FILE, device, dtype
    )
    vqgan = _load_weights(lambda: VQGAN(spec.vqgan), folder / VQGAN_FILE, device, torch.float32)
    return Checkpoint(spec, model, vqgan, text, _model_id(spec.name, folder), device)


def save(
    path: str | Path,
    spec: CheckpointSpec,
    model: Transformer,
    vqgan: VQGAN,
    text: TextTokenizer,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a checkpoint folder; `dtype` is the stored type of the transformer's weights.

    Raises:
        ValueError: The model has another action head than the specification says.
    """
    head = model.action_head.config if model.action_head is not None else None
    if head != spec.action_head:
        raise ValueError(f'expected a model with action head {spec.action_head}, got {head}')
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SPEC_FILE).write_text(json.dumps(asdict(spec), indent=2) + '\n')
    text.save(folder / TEXT_FILE)
    weights = {k: v.detach().to(dtype).contiguous() for k, v in model.state_dict().items()}
    save_file(weights, folder / MODEL_FILE)
    save_file({k: v.contiguous() for k, v in vqgan.state_dict().items()}, folder / VQGAN_FILE)


def read_spec(folder: str | Path) -> CheckpointSpec:
    """Read what the weights of a folder mean.

    Raises:
        CheckpointError: The folder or its specification is missing or damaged.
        ConfigError: A field is unknown, missing or of a wrong type.
    """
    file = Path(folder) / SPEC_FILE
    if not file.is_file():
        raise CheckpointError(
            f'no checkpoint at {folder}',
            expected=f'a folder with {SPEC_FILE}',
            got='no such folder' if not Path(folder).is_dir() else 'a folder without it',
            remedy=f'Give the path of a checkpoint folder, for example {demo_path()}.',
        )
    try:
        mapping = json.loads(file.read_text())
    except ValueError as error:
        raise CheckpointError(f'{file} is damaged: {error}', remedy='Restore the file.') from error
    return from_mapping(CheckpointSpec, mapping, where=str(file))


def _load_weights(
    build: Callable[[], nn.Module], file: Path, device: torch.device, dtype: torch.dtype | None
) -> nn.Module:
    """Build a network without memory, then give it the file's tensors."""
    tensors = _read_tensors(file, device)
    with torch.device('meta'):
        network = build()
    _check_tensors(file, network.state_dict(), tensors)
    if dtype is not None:
        tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)


def _read_tensors(file: Path, device: torch.device) -> dict[str, torch.Tensor]:
    if not file.is_file():
        raise CheckpointError(f'no weights {file}', remedy='Restore the file.')
    try:
        return load_file(file, device=str(device))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f'{file} cannot be read: {error}',
            expected='a complete safetensors file',
            remedy='It may be cut off or of another format; restore it.',
        ) from error


def _check_tensors(file: Path, wanted: dict, found: dict) -> None:
    """Raise CheckpointError unless names and shapes agree."""
    missing, foreign = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or foreign:
        raise CheckpointError(
            f'{file} holds other tensors than {SPEC_FILE} describes',
            expected=f'{len(wanted)} tensors; missing: {missing[:3]}',
            got=f'{len(found)} tensors; foreign: {foreign[:3]}',
            remedy='Use the weights that belong to this folder.',
        )
    for name, tensor in wanted.items():
        if tensor.shape != found[name].shape:
            raise CheckpointError(
                f'{file}: shape of {name}',
                expected=list(tensor.shape),
                got=list(found[name].shape),
                remedy=f'Use the weights that belong to this {SPEC_FILE}.',
            )


def _model_id(name: str, folder: Path) -> str:
    """Return the name with a hash of the weights, so that a chunk tells who made it."""
    digest = hashlib.sha256()
    for file in (MODEL_FILE, VQGAN_FILE):
        with (folder / file).open('rb') as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return f'{name}@{digest.hexdigest()[:12]}'
