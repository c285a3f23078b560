"""Weights to start from: ids that mean a number or a picture start near their neighbours.

A table row per id, drawn independently, makes the model learn from scratch that bin 100 is next to
bin 101 and that two codes look alike. Rows of bins start as random projections of waves over the
range, rows of codes as random projections of their codebook vectors, and all rows of a kind share
a direction. Heads that have a query and key bias of their own start with different preferences
for distance (compare d'Ascoli et al. 2021, "ConViT"), since where a code lies in the image is told
by its position alone. Knows ids and tables. Must not know sequences.
"""

import math

import torch
from torch import Tensor

from worldvla_ros.model.transformer import Transformer
from worldvla_ros.tokenizers.vocab import BINS, Vocabulary

OWN_SHARE = 0.3
"""Standard deviation of what is drawn for each id alone, relative to the shared part."""
OCTAVES = 6
KIND_SHARE = 0.5
"""Standard deviation of what all rows of a kind have in common, relative to the rest."""


def start_tables(model: Transformer, vocab: Vocabulary, codebook: Tensor) -> None:
    """Set the rows of bins and codes in the embedding and in the output head.

    Args:
        model: A model whose weights have been drawn.
        vocab: Its ids.
        codebook: float[codes, width] of the image tokenizer.
    """
    features = {
        vocab.action_bins.start: waves(BINS),
        vocab.state_bins.start: waves(BINS),
        vocab.codes.start: codebook,
    }
    for table in (model.model.embed_tokens.weight, model.lm_head.weight):
        std = float(table.detach().std())
        for first, rows in features.items():
            table.data[first : first + len(rows)] = std * project(rows, table.shape[1])


def start_distances(model: Transformer) -> None:
    """Give the heads of the first third of the layers different preferences for distance."""
    layers = model.model.layers
    for layer in layers[: -(-len(layers) // 3)]:
        for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm):
            torch.nn.init.normal_(norm.bias)


def waves(count: int) -> Tensor:
    """Return sine and cosine of growing frequency over a range: float[count, 2 * OCTAVES]."""
    place = torch.linspace(0, math.pi, count)[:, None]
    angle = place * 2.0 ** torch.arange(OCTAVES)
    return torch.cat([angle.sin(), angle.cos()], 1)


def project(features: Tensor, width: int) -> Tensor:
    """Return random projections, a part of each row's own and one of all: float[n, width]."""
    shared = features - features.mean(0)
    shared = (shared / shared.std()) @ torch.randn(shared.shape[1], width)
    rows = shared / shared.std() + OWN_SHARE * torch.randn(len(features), width)
    rows = rows + KIND_SHARE * torch.randn(width)
    return rows / rows.std()
