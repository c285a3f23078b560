"""Writes a published folder of full size with random weights, then loads, acts and imagines.

    python benchmarks/published.py FOLDER [--device cpu] [--skip-image]

Nobody can know from random weights how well a model acts, but how long loading and decoding take
and how much memory they need is the same. Needs 15 GB of disk and, on a CPU, 16 GB of memory. The
limit beside a figure is the time of reading the weights once per pass at the copy bandwidth
measured here.
"""

import argparse
from pathlib import Path
import resource
import sys
import time

import numpy as np
from safetensors.torch import save_file
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent / 'test'))
import publish

from worldvla_ros.checkpoint import load
from worldvla_ros.model.transformer import Transformer, TransformerConfig
from worldvla_ros.model.vqgan import VQGANConfig
from worldvla_ros.observation import Observation
from worldvla_ros.policy import Policy
from worldvla_ros.world_model import WorldModel

PLACE = 'model_256/libero_goal'
SHARDS = 3


def write_folder(root):
    """Write the folder shard by shard, so that it need not fit into memory twice."""
    publish.VQGAN_CONFIG = VQGANConfig()
    publish.write_tokenizers(root / 'chameleon/tokenizer')
    folder, config = root / PLACE, TransformerConfig()
    folder.mkdir(parents=True)
    sizes = ('hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads')
    changes = {name: getattr(config, name) for name in sizes}
    publish.write_config(folder, **changes, num_key_value_heads=config.num_attention_heads)
    with torch.device('meta'):
        shapes = {n: t.shape for n, t in Transformer(config).state_dict().items()}
    names = sorted(shapes)
    placed = {}
    for shard in tqdm(range(SHARDS), desc='random weights'):
        file = f'model-{shard + 1:05d}-of-{SHARDS:05d}.safetensors'
        held = names[shard::SHARDS]
        save_file({n: random_tensor(n, shapes[n]) for n in held}, folder / file, {'format': 'pt'})
        placed |= dict.fromkeys(held, file)
    publish.write_index(folder, placed)
    return folder


def random_tensor(name, shape):
    """Return bf16 weights as a fresh model has them."""
    if 'norm' in name:
        return torch.full(shape, 0.0 if name.endswith('bias') else 1.0, dtype=torch.bfloat16)
    return torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02)


def seconds(call):
    """Return what a call returns, and how long it took [s]."""
    start = time.perf_counter()
    made = call()
    return made, time.perf_counter() - start


def copy_bandwidth(device):
    """Return how fast memory is read and written [GB/s]."""
    source = torch.ones(1 << 28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * len(source) / min(seconds(lambda: target.copy_(source))[1] for _ in range(5)) / 1e9


def main():
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument('folder', type=Path)
    arguments.add_argument('--device', default='cpu')
    arguments.add_argument('--skip-image', action='store_true', help='do not imagine')
    chosen = arguments.parse_args()
    folder = chosen.folder / PLACE
    if not folder.is_dir():
        write_folder(chosen.folder)
    bandwidth = copy_bandwidth(chosen.device)
    checkpoint, load_s = seconds(lambda: load(folder, chosen.device, torch.bfloat16))
    weights = sum(p.numel() * p.element_size() for p in checkpoint.model.parameters())
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    observation = Observation({'front': image}, 'turn on the stove', history=({'front': image},))
    print(f'{chosen.device}, weights {weights / 1e9:.2f} GB, copy {bandwidth:.1f} GB/s')
    print(f'load                  {load_s:8.1f} s')
    spec = checkpoint.spec.action
    rows = [('act, image to chunk', lambda: Policy(checkpoint).act(observation), spec.dim)]
    if not chosen.skip_image:
        world, action = WorldModel(checkpoint), np.zeros((1, spec.dim))
        codes = (checkpoint.spec.image_size // checkpoint.vqgan.config.reduction) ** 2
        rows.append(('imagine one image', lambda: world.imagine(observation, action), codes))
    for name, call, passes in rows:
        _, took = seconds(call)
        limit = passes * weights / (bandwidth / 2) / 1e9
        beside = f'{passes:4d} passes, limit {limit:7.1f} s, ratio {took / limit:.1f}'
        print(f'{name:22}{took:8.1f} s  {beside}')
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f'peak host memory      {peak / 1e9:8.1f} GB, {peak / weights:.2f} × the weights')


if __name__ == '__main__':
    main()
