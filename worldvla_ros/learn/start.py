"""Weights to start from: ids that mean a number or a picture start near their neighbours.

A table row per id, drawn independently, makes the model learn from scratch that bin 100 is next to
bin 101 and that two codes look alike. Rows of bins start as random projections of waves over the
range, rows of codes as random projections of their codebook vectors. Knows ids and tables. Must
not know sequences.
"""

import math

import torch
from torch import Tensor

from worldvla_ros.model.transformer import Transformer
from worldvla_ros.vocab import BINS, Vocabulary

OWN_SHARE = 0.3
"""Standard deviation of what is drawn for each id alone, relative to the shared part."""
OCTAVES = 6


def start_tables(model: Transformer, vocab: Vocabulary, codebook: Tensor) -> None:
    """Set the rows of bins and codes in the embedding and in the output head.

    Args:
        model: A model whose weights have been drawn.
        vocab: Its ids.
        codebook: float[codes, width] of the image tokenizer.
    """
    features = {
        vocab.action_bin_base + 1: waves(BINS),
        vocab.state_bin_base + 1: waves(BINS),
        vocab.code_base: codebook,
    }
    for table in (model.model.embed_tokens.weight, model.lm_head.weight):
        std = float(table.detach().std())
        for first, rows in features.items():
            table.data[first : first + len(rows)] = std * project(rows, table.shape[1])


def waves(count: int) -> Tensor:
    """Return sine and cosine of growing frequency over a range: float[count, 2 * OCTAVES]."""
    place = torch.linspace(0, math.pi, count)[:, None]
    angle = place * 2.0 ** torch.arange(OCTAVES)
    return torch.cat([angle.sin(), angle.cos()], 1)


def project(features: Tensor, width: int) -> Tensor:
    """Return random projections, plus a part of each row's own: float[n, width], unit variance."""
    shared = features - features.mean(0)
    shared = (shared / shared.std()) @ torch.randn(shared.shape[1], width)
    rows = shared / shared.std() + OWN_SHARE * torch.randn(len(features), width)
    return rows / rows.std()
