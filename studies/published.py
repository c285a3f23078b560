"""Writes a published folder of full size with random weights.

    python studies/published.py FOLDER
    worldvla bench --model FOLDER/model_256/libero_goal --dtype bfloat16

`worldvla bench --model 7b` makes the same weights in memory; files are needed to see how long
loading takes ("ready in") and how much memory it needs. Takes 15 GB of disk.
"""

import argparse
from pathlib import Path
import sys

from safetensors.torch import save_file
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent / 'test'))
import publish

from worldvla_ros.benchmark.random_model import random_tensors
from worldvla_ros.model.transformer import Transformer, TransformerConfig
from worldvla_ros.model.vqgan import VQGANConfig

PLACE = 'model_256/libero_goal'
SHARDS = 3


def write_folder(root):
    """Write the folder shard by shard, so that it need not fit into memory."""
    publish.VQGAN_CONFIG = VQGANConfig()
    publish.write_tokenizers(root / 'chameleon/tokenizer')
    folder, config = root / PLACE, TransformerConfig()
    folder.mkdir(parents=True)
    sizes = ('hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads')
    changes = {name: getattr(config, name) for name in sizes}
    publish.write_config(folder, **changes, num_key_value_heads=config.num_attention_heads)
    with torch.device('meta'):
        model = Transformer(config)
    stored = random_tensors(model, torch.device('cpu'), torch.bfloat16)
    placed = {}
    for shard in tqdm(range(SHARDS), desc='random weights'):
        file = f'model-{shard + 1:05d}-of-{SHARDS:05d}.safetensors'
        held = sorted(stored)[shard::SHARDS]
        save_file({name: stored[name].read() for name in held}, folder / file, {'format': 'pt'})
        placed |= dict.fromkeys(held, file)
    publish.write_index(folder, placed)
    return folder


def main():
    """Write, and say how to go on."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument('folder', type=Path)
    folder = write_folder(arguments.parse_args().folder)
    print(f'worldvla bench --model {folder} --dtype bfloat16')


if __name__ == '__main__':
    main()
