"""The tokenizers of a checkpoint without its transformer, for a computer beside a camera.

Of a folder of our own format `worldvla.json`, `text_tokenizer.json` and `vqgan.safetensors` are
enough; a published folder must be whole. Knows files. Must not know decoding or robots.
"""

from dataclasses import dataclass
import functools
import os
from pathlib import Path

import torch

from worldvla_ros.checkpoint.folder import TEXT_FILE, VQGAN_FILE, open_folder, sequence_builder
from worldvla_ros.checkpoint.hardware import choose_device
from worldvla_ros.checkpoint.identity import codebook_identity, state_identity, text_identity
from worldvla_ros.checkpoint.spec import SPEC_FILE, CheckpointSpec, read_spec_file
from worldvla_ros.checkpoint.weights import (
    Tensors,
    check_tensors,
    open_safetensors,
    read_network,
    without_memory,
)
from worldvla_ros.inference.image_codes import ImageCodes
from worldvla_ros.inference.shortage import explain_shortage
from worldvla_ros.model.vqgan import VQGAN
from worldvla_ros.tokenizers.sequence import SequenceBuilder
from worldvla_ros.tokenizers.text import TextTokenizer


@dataclass(frozen=True)
class Tokenizers:
    """Loaded tokenizers.

    Attributes:
        spec: What their checkpoint means.
        vqgan: The image tokenizer's network, fp32, in evaluation mode.
        text: The text tokenizer.
        device: Where the weights are.
    """

    spec: CheckpointSpec
    vqgan: VQGAN
    text: TextTokenizer
    device: torch.device

    @functools.cached_property
    def sequences(self) -> SequenceBuilder:
        """Turns text and numbers into ids."""
        return sequence_builder(self.spec, self.text)

    @functools.cached_property
    def images(self) -> ImageCodes:
        """Turns images into codes and back."""
        return ImageCodes(self.vqgan, self.spec.image_size, self.device)

    @functools.cached_property
    def codebook(self) -> str:
        """Identity of the image tokenizer, as that of `Checkpoint`."""
        return codebook_identity(self.vqgan)

    @functools.cached_property
    def text_id(self) -> str:
        """Identity of the text tokenizer."""
        return text_identity(self.spec, self.text)

    @functools.cached_property
    def state_id(self) -> str:
        """Identity of the state's tokenizer, empty without a state."""
        return state_identity(self.spec) if self.spec.state is not None else ''


def load_tokenizers(
    path: str | Path, device: str | torch.device = 'cpu', profile: str | Path | None = None
) -> Tokenizers:
    """Load the tokenizers of a checkpoint folder, ours or a published one.

    Args:
        path: The folder.
        device: Where to put the image tokenizer.
        profile: As in `folder.load`.

    Raises:
        CheckpointError: The folder is missing, damaged, foreign or inconsistent.
        ConfigError: There is no such profile or device, or a value is unknown, missing or of a
            wrong type.
        MemoryLimitError: Memory is short.
    """
    device = choose_device(device)
    spec, text, tensors = _open(Path(path), profile)
    with without_memory():
        vqgan = VQGAN(spec.vqgan)
    check_tensors(vqgan, tensors, VQGAN_FILE)
    with explain_shortage(f'loading the tokenizers of {path}', 'the image tokenizer'):
        vqgan = read_network(vqgan, tensors, device, torch.float32)
    return Tokenizers(spec, vqgan, text, device)


def _open(
    folder: Path, profile: str | Path | None
) -> tuple[CheckpointSpec, TextTokenizer, Tensors]:
    """Return what an image tokenizer needs, reading no weight and asking for no transformer."""
    if profile or not os.path.isfile(folder / SPEC_FILE):
        opened = open_folder(folder, profile)
        return opened.spec, opened.text, opened.vqgan
    spec = read_spec_file(folder)
    text = TextTokenizer.load(folder / TEXT_FILE, spec.vocabulary.text_base)
    return spec, text, open_safetensors(folder / VQGAN_FILE)
