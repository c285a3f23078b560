"""Random weights of any size, made in memory in seconds.

Speed and memory do not depend on what weights say. Must not know clocks.
"""

from dataclasses import fields
from typing import TypeVar

import torch
from torch import nn

from worldvla_ros.benchmark.device import free_memory
from worldvla_ros.checkpoint import Checkpoint
from worldvla_ros.errors import ConfigError
from worldvla_ros.model.cost import TransformerCost
from worldvla_ros.model.transformer import Transformer, TransformerConfig
from worldvla_ros.model.vqgan import VQGAN, VQGANConfig
from worldvla_ros.profiles import Profile
from worldvla_ros.published import EVALUATION_LENGTH
from worldvla_ros.spec import CheckpointSpec
from worldvla_ros.tokenizers.text import TextTokenizer, train_text_tokenizer
from worldvla_ros.vocab import PUBLISHED

INSTRUCTION = 'pick up the red cube'
TEXT_BASE, TEXT_SIZE = 20000, 512
"""Ids without another meaning in the published vocabulary, for the words of random models."""
BLOCK, DEVIATION = (1 << 20) + 7, 0.02
"""Random numbers that are repeated, since drawing billions takes minutes; the length is odd, so
that no two rows of a matrix begin alike."""

Network = TypeVar('Network', bound=nn.Module)


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
    spec: CheckpointSpec, text: TextTokenizer, device: torch.device, dtype: torch.dtype
) -> Checkpoint:
    """Make weights in memory.

    Raises:
        ConfigError: They do not fit.
    """
    needed = TransformerCost(spec.transformer).parameters * dtype.itemsize
    free = free_memory(device)
    if needed > free:
        raise ConfigError(
            f'random weights of {spec.name} on {device}',
            expected=f'{needed / 1e9:.1f} GB of free memory',
            got=f'{free / 1e9:.1f} GB',
            remedy='Use a narrower --dtype or another --device.',
        )
    with torch.device('meta'):
        model, vqgan = Transformer(spec.transformer), VQGAN(spec.vqgan)
    model, vqgan = _fill(model, device, dtype), _fill(vqgan, device, torch.float32)
    return Checkpoint(spec, model, vqgan, text, f'{spec.name}@random', device)


def random_tensor(name: str, shape: tuple[int, ...], block: torch.Tensor) -> torch.Tensor:
    """Return a parameter of the block's type and device: the block repeated; norms do nothing."""
    made = block.new_empty(shape)
    if 'norm' in name:
        return made.fill_(0.0 if name.endswith('bias') else 1.0)
    for part in made.view(-1).split(len(block)):
        part.copy_(block[: len(part)])
    return made


def random_block(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return the numbers that `random_tensor` repeats."""
    generator = torch.Generator(device).manual_seed(0)
    drawn = torch.randn(BLOCK, generator=generator, device=device)
    return drawn.mul_(DEVIATION).to(dtype)


def _fill(network: Network, device: torch.device, dtype: torch.dtype) -> Network:
    """Give a network without memory its weights."""
    block = random_block(device, dtype)
    empty = network.state_dict().items()
    made = {name: random_tensor(name, tensor.shape, block) for name, tensor in empty}
    network.load_state_dict(made, assign=True)
    return network.eval().requires_grad_(False)
