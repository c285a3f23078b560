"""Random weights of any size, made in memory in seconds.

Speed and memory do not depend on the values of weights. Must not know clocks.
"""

from dataclasses import fields
import functools
import logging

import torch
from torch import nn

from worldvla_ros.benchmark.device import free_memory
from worldvla_ros.checkpoint.folder import Checkpoint
from worldvla_ros.checkpoint.profiles import Profile
from worldvla_ros.checkpoint.published import EVALUATION_LENGTH
from worldvla_ros.checkpoint.quantise import choose, quantiser
from worldvla_ros.checkpoint.spec import CheckpointSpec
from worldvla_ros.checkpoint.weights import StoredTensor, Tensors, read_network
from worldvla_ros.errors import MemoryLimitError
from worldvla_ros.model.cost import TransformerCost
from worldvla_ros.model.transformer import Transformer, TransformerConfig
from worldvla_ros.model.vqgan import VQGAN, VQGANConfig
from worldvla_ros.tokenizers.text import TextTokenizer, train_text_tokenizer
from worldvla_ros.tokenizers.vocab import PUBLISHED

LOG = logging.getLogger(__name__)
WIDTHS = {'int8': 1.0, 'float8': 1.0, 'int4': 0.5}
"""Bytes of a quantised weight."""
INSTRUCTION = 'pick up the red cube'
TEXT_BASE, TEXT_SIZE = 20000, 512
"""Ids without another meaning in the published vocabulary, for the words of random models."""
BLOCK, DEVIATION = (1 << 20) + 7, 0.02
"""Random numbers that are repeated, since drawing billions takes minutes; the length is odd, so
that no two rows of a matrix begin alike."""


def random_spec(
    profile: Profile,
    transformer: TransformerConfig | None = None,
    vqgan: VQGANConfig | None = None,
) -> CheckpointSpec:
    """Return what a profile says, for weights of the published sizes by default."""
    known = {f.name for f in fields(Profile)} & {f.name for f in fields(CheckpointSpec)}
    return CheckpointSpec(
        **{name: getattr(profile, name) for name in known},
        vocabulary=PUBLISHED,
        transformer=transformer or TransformerConfig(max_position_embeddings=EVALUATION_LENGTH),
        vqgan=vqgan or VQGANConfig(),
    )


def random_text(spec: CheckpointSpec) -> TextTokenizer:
    """Return a text tokenizer for the published vocabulary that knows the prompts."""
    words = [spec.prompts.action.format(task=INSTRUCTION), spec.prompts.world]
    return TextTokenizer(train_text_tokenizer(words, TEXT_SIZE), TEXT_BASE)


def random_checkpoint(
    spec: CheckpointSpec, text: TextTokenizer, device: torch.device, dtype: str = 'bfloat16'
) -> Checkpoint:
    """Make weights in memory; `dtype` is a word of `quantise.WORDS`.

    Raises:
        ConfigError: The word is unknown, or the hardware lacks the precision.
        MissingDependencyError: Quantising is asked for, and torchao is not installed.
        MemoryLimitError: They do not fit.
    """
    precision = choose(dtype, device)
    plain = precision.dtype or torch.bfloat16
    width = WIDTHS.get(precision.scheme, plain.itemsize)
    needed = TransformerCost(spec.transformer).parameters * width
    free = free_memory(device)
    if needed > free:
        raise MemoryLimitError(
            f'random weights of {spec.name} on {device}',
            expected=f'{needed / 1e9:.1f} GB of free memory',
            got=f'{free / 1e9:.1f} GB',
            remedy='Use a narrower --dtype or another --device.',
        )
    LOG.info('making %.1f GB of random weights', needed / 1e9)
    with torch.device('meta'):
        model, vqgan = Transformer(spec.transformer), VQGAN(spec.vqgan)
    made = random_tensors(model, device, plain)
    finish = quantiser(model, precision, device)
    return Checkpoint(
        spec=spec,
        model=read_network(model, made, device, plain, finish),
        vqgan=read_network(vqgan, random_tensors(vqgan, device), device, torch.float32),
        text=text,
        model_id=f'{spec.name}@random',
        device=device,
    )


def random_tensors(
    network: nn.Module, device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensors:
    """Return weights for a network, each made on a device when it is read; norms do nothing."""
    generator = torch.Generator(device).manual_seed(0)
    drawn = torch.randn(BLOCK, generator=generator, device=device)
    block = drawn.mul_(DEVIATION).to(dtype)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return {
        name: StoredTensor(shape, dtype, functools.partial(_made, name, shape, block))
        for name, shape in shapes.items()
    }


def _made(name: str, shape: tuple[int, ...], block: torch.Tensor) -> torch.Tensor:
    """Repeat the block, or let a norm do nothing."""
    made = block.new_empty(shape)
    if 'norm' in name:
        return made.fill_(0.0 if name.endswith('bias') else 1.0)
    for part in made.view(-1).split(len(block)):
        part.copy_(block[: len(part)])
    return made
