"""A checkpoint folder: weights with all that is needed to interpret them.

    worldvla.json             `CheckpointSpec`: sizes, vocabulary, statistics, cameras, prompts
    model.safetensors         transformer and action head, published parameter names
    vqgan.safetensors         image tokenizer
    text_tokenizer.json       byte-pair encoding in Hugging Face's format

Published folders, which lack the first, load as they are (published.py). Knows files. Must not
know how decoding is done, nor robots.
"""

from dataclasses import asdict, dataclass
import functools
import json
import os
from pathlib import Path
import shutil
import tempfile

from safetensors.torch import save_file
import torch

from worldvla_ros.checkpoint import published
from worldvla_ros.checkpoint.hardware import choose_device
from worldvla_ros.checkpoint.identity import codebook_identity
from worldvla_ros.checkpoint.quantise import choose, is_quantised, quantiser
from worldvla_ros.checkpoint.spec import ACT, SPEC_FILE, CheckpointSpec, read_spec_file
from worldvla_ros.checkpoint.weights import (
    INDEX_FILE,
    MODEL_FILE,
    Tensors,
    check_tensors,
    content_hash,
    model_files,
    open_model,
    open_safetensors,
    read_network,
    stored_dtype,
    without_memory,
)
from worldvla_ros.errors import CheckpointError
from worldvla_ros.inference.engine import Engine
from worldvla_ros.inference.image_codes import ImageCodes
from worldvla_ros.inference.shortage import explain_shortage
from worldvla_ros.model.action_head import ActionHead
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.model.vqgan import VQGAN
from worldvla_ros.package_files import share_folder
from worldvla_ros.tokenizers.bins import action_tokenizer, state_tokenizer
from worldvla_ros.tokenizers.image import ImageTokenizer
from worldvla_ros.tokenizers.sequence import SequenceBuilder
from worldvla_ros.tokenizers.text import TextTokenizer

VQGAN_FILE = 'vqgan.safetensors'
TEXT_FILE = 'text_tokenizer.json'


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        spec: What the weights mean.
        model: The transformer with its action head, in evaluation mode.
        vqgan: The image tokenizer's network, fp32, in evaluation mode.
        text: The text tokenizer.
        model_id: Name and content hash of the weights, and what they are quantised to.
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
        """Builds token sequences as these weights were trained on."""
        return sequence_builder(self.spec, self.text)

    @functools.cached_property
    def engine(self) -> Engine:
        """Decodes with these weights; one for all who use them, since it holds caches."""
        return Engine(self.model, self.spec.vocabulary)

    @functools.cached_property
    def images(self) -> ImageCodes:
        """Turns images into codes and back; one for all users, since it caches codes."""
        return ImageCodes(self.vqgan, self.spec.image_size, self.device)

    @functools.cached_property
    def codebook(self) -> str:
        """Identity of the image tokenizer; whose codes have the same one, those are understood."""
        return codebook_identity(self.vqgan)


def sequence_builder(spec: CheckpointSpec, text: TextTokenizer) -> SequenceBuilder:
    """Return the builder for a specification."""
    vocab, action, state, world = spec.vocabulary, spec.action, spec.state, spec.world
    return SequenceBuilder(
        vocab=vocab,
        text=text,
        action=action_tokenizer(vocab, action.minimum, action.maximum),
        state=state_tokenizer(vocab, state.minimum, state.maximum) if state else None,
        image=ImageTokenizer(vocab),
        prompts=spec.prompts,
        world_action=action_tokenizer(vocab, world.minimum, world.maximum)
        if world.minimum and world.maximum
        else None,
    )


def demo_path() -> Path:
    """Return the folder of the demo checkpoint, in the source tree or installed."""
    return share_folder() / 'checkpoints/demo'


@dataclass(frozen=True)
class Opened:
    """A checkpoint folder that is checked, with no weight read yet.

    Attributes:
        spec: What the weights mean.
        text: The text tokenizer.
        transformer: Tensors of the transformer and its action head.
        vqgan: Tensors of the image tokenizer.
        files: The files whose hash tells these weights from others.
        where: What holds the transformer's tensors, for messages.
    """

    spec: CheckpointSpec
    text: TextTokenizer
    transformer: Tensors
    vqgan: Tensors
    files: tuple[Path, ...]
    where: Path


def open_folder(path: str | Path, profile: str | Path | None = None) -> Opened:
    """Check a checkpoint folder and return its contents, without reading weights.

    Args:
        path: A folder written by `save`, or a published one.
        profile: Name or YAML file of a published folder's profile; found by the folder's path if
            not given.

    Raises:
        CheckpointError: The folder is missing, damaged, foreign or inconsistent.
        ConfigError: There is no such profile, or a value is unknown, missing or of a wrong type.
    """
    folder = Path(path)
    own = os.path.isfile(folder / SPEC_FILE) or not published.is_published(folder)
    if own and profile:
        raise CheckpointError(
            f'{folder} says in {SPEC_FILE} what its weights mean',
            expected='no profile',
            got=profile,
            remedy='Leave the profile out; it is for published folders.',
        )
    opened = _open_own(folder) if own else _open_published(folder, profile)
    if opened.text.size > opened.spec.vocabulary.text_size:
        raise CheckpointError(
            f'{folder}: {TEXT_FILE}',
            expected=f'at most {opened.spec.vocabulary.text_size} ids',
            got=opened.text.size,
            remedy='Restore the tokenizer that belongs to these weights.',
        )
    return opened


def empty_networks(opened: Opened) -> tuple[Transformer, VQGAN]:
    """Return both networks without memory, after checking that their tensors are there.

    Raises:
        CheckpointError: Names or shapes of the tensors are not those of the networks.
    """
    with without_memory():
        model = Transformer(opened.spec.transformer, opened.spec.action_head)
        vqgan = VQGAN(opened.spec.vqgan)
    check_tensors(model, opened.transformer, opened.where)
    check_tensors(vqgan, opened.vqgan, VQGAN_FILE)
    return model, vqgan


def load(
    path: str | Path,
    device: str | torch.device = 'cpu',
    dtype: torch.dtype | str | None = None,
    profile: str | Path | None = None,
) -> Checkpoint:
    """Load a checkpoint folder, ours or a published one.

    Args:
        path: The folder.
        device: Where to put the weights.
        dtype: Type of the transformer's weights, or a word of `quantise.WORDS`; fp32 on a CPU and
            as stored elsewhere by default. Layers are quantised one by one as they are read.
        profile: Name or YAML file of a published folder's profile, see `open_folder`.

    Raises:
        CheckpointError: The folder is missing, damaged, foreign or inconsistent, or its layers
            cannot be quantised like this; nothing was loaded.
        MemoryLimitError: Memory is short.
        ConfigError: There is no such profile, precision or device, the hardware lacks the
            precision, or a value is unknown, missing or of a wrong type.
        MissingDependencyError: Quantising is asked for, and torchao is not installed.
    """
    device = choose_device(device)
    opened = open_folder(path, profile)
    precision = choose(dtype, device)
    model, vqgan = empty_networks(opened)
    finish = quantiser(model, precision, device)
    weights = sum(p.numel() for p in model.parameters())
    with explain_shortage(f'loading {path}', f'{weights / 1e6:.0f} million weights'):
        model = read_network(model, opened.transformer, device, precision.dtype, finish)
        vqgan = read_network(vqgan, opened.vqgan, device, torch.float32)
    identity = f'{opened.spec.name}@{content_hash(list(opened.files))}'
    return Checkpoint(
        spec=opened.spec,
        model=model,
        vqgan=vqgan,
        text=opened.text,
        model_id=f'{identity}/{precision.scheme}' if precision.scheme else identity,
        device=device,
    )


def read_spec(path: str | Path, profile: str | Path | None = None) -> CheckpointSpec:
    """Return what the weights of a folder mean, ours or a published one, without loading them.

    Raises:
        CheckpointError: The folder is missing, damaged, foreign or inconsistent.
        ConfigError: There is no such profile, or a value is unknown, missing or of a wrong type.
    """
    if os.path.isfile(Path(path) / SPEC_FILE) and not profile:
        return read_spec_file(path)
    return open_folder(path, profile).spec


def convert(source: str | Path, target: str | Path, profile: str | Path | None = None) -> Path:
    """Rewrite a published folder in this package's format; the tensors stay equal.

    Returns:
        The folder written.

    Raises:
        CheckpointError: The source cannot be loaded, or the target is there already.
        ConfigError: There is no such profile.
    """
    target = Path(target)
    if target.exists():
        raise CheckpointError(
            f'{target} is there already',
            expected='a folder that does not exist',
            remedy='Choose another folder, or delete this one.',
        )
    dtype = stored_dtype(open_folder(source, profile).transformer)
    loaded = load(source, dtype=dtype, profile=profile)
    target.parent.mkdir(parents=True, exist_ok=True)
    # a name that nobody can foresee, beside the target so that it can be renamed
    with tempfile.TemporaryDirectory(prefix=f'.{target.name}.', dir=target.parent) as partial:
        whole = Path(partial) / 'checkpoint'
        save(whole, loaded.spec, loaded.model, loaded.vqgan, loaded.text, dtype)
        os.replace(whole, target)
    return target


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
        ValueError: The model has another action head than the specification says, or is quantised.
    """
    if is_quantised(model):
        raise ValueError('expected a model as it was trained, got a quantised one')
    head = model.action_head.config if model.action_head is not None else None
    if head != spec.action_head:
        raise ValueError(f'expected a model with action head {spec.action_head}, got {head}')
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX_FILE).unlink(missing_ok=True)  # of shards that were here before
    (folder / SPEC_FILE).write_text(json.dumps(asdict(spec), indent=2) + '\n')
    text.save(folder / TEXT_FILE)
    weights = {k: v.detach().to(dtype).contiguous() for k, v in model.state_dict().items()}
    save_file(weights, folder / MODEL_FILE)
    save_file({k: v.contiguous() for k, v in vqgan.state_dict().items()}, folder / VQGAN_FILE)
    for name in (MODEL_FILE, VQGAN_FILE):  # the library writes them for the owner alone
        shutil.copymode(folder / SPEC_FILE, folder / name)


def _open_own(folder: Path) -> Opened:
    spec = read_spec_file(folder)
    text = TextTokenizer.load(folder / TEXT_FILE, spec.vocabulary.text_base)
    model, vqgan = open_model(folder), open_safetensors(folder / VQGAN_FILE)
    files = (*model_files(folder), folder / VQGAN_FILE)
    return Opened(spec, text, model, vqgan, files, _named(folder))


def _open_published(folder: Path, profile: str | Path | None) -> Opened:
    chosen = published.choose_profile(folder, profile)
    published.check_action_dimension(folder, chosen)
    model_config, head_config, model = published.open_transformer(folder, ACT in chosen.tasks)
    tokenizers = published.tokenizer_folder(folder)
    text = published.open_text(tokenizers)
    vqgan_config, vqgan = published.open_vqgan(tokenizers)
    spec = published.published_spec(chosen, model_config, head_config, vqgan_config, text)
    files = published.weight_files(folder)
    where = files[0] if len(files) == 1 else folder / INDEX_FILE
    return Opened(spec, text, model, vqgan, tuple(files), where)


def _named(folder: Path) -> Path:
    """Return the file that names the transformer's tensors."""
    return folder / (INDEX_FILE if (folder / INDEX_FILE).is_file() else MODEL_FILE)
