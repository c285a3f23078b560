"""What tests of decoding share: a small vocabulary, random models and prompts, slow references."""

from dataclasses import replace

import numpy as np
import torch

from worldvla_ros.model.masks import sequence_mask
from worldvla_ros.model.transformer import Transformer, TransformerConfig
from worldvla_ros.tokenizers.image import ImageTokenizer
from worldvla_ros.tokenizers.sequence import Sequence
from worldvla_ros.tokenizers.vocab import compact

VOCAB = compact(codebook_size=24, text_size=30)
IMAGE = ImageTokenizer(VOCAB)
CONFIG = TransformerConfig(
    vocab_size=VOCAB.size,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=2,
)


def make_model(seed):
    """Return a random model; sizes differ from seed to seed."""
    torch.manual_seed(seed)
    heads = 2 + 2 * (seed % 2)
    config = replace(CONFIG, num_attention_heads=heads, num_hidden_layers=1 + seed % 3)
    model = Transformer(config)
    model.initialise(std=0.4)
    return model.eval().requires_grad_(False)


def make_prompt(seed, shared=False):
    """Return a random prompt; some of its tokens are actions of the past."""
    rng = np.random.default_rng(seed)
    length = int(rng.integers(5, 20))
    past = 0 if shared else -(rng.random(length) < 0.4).astype(np.int64)
    ids = rng.integers(0, VOCAB.size, length)
    return Sequence(ids, np.zeros(length, np.int64) + past, length)


def next_scores(model, ids, roles, span):
    """Return the scores that follow a whole sequence, without any cache."""
    positions = torch.arange(len(ids))[None]
    mask = sequence_mask(positions, torch.tensor([roles]))
    hidden = model(torch.tensor([ids]), positions, mask)
    return model.logits(hidden[0, -1])[span.start : span.stop]


def world_prompt(seed, rows, columns, images=1):
    """Return a prompt of a few words and the present images."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, VOCAB.codebook_size, (images, rows, columns))
    words = VOCAB.text_base + rng.integers(0, VOCAB.text_size, 4)
    ids = np.concatenate([words, *(IMAGE.encode(c) for c in codes), [VOCAB.sep]])
    return Sequence(ids, np.zeros(len(ids), np.int64), len(ids))


def images_of(steps):
    return [codes for codes in steps if codes is not None]


def spans(ids, start, end):
    """Pair starts with ends in order; a last block that is open reaches to the last id."""
    starts, ends = np.flatnonzero(ids == start), np.flatnonzero(ids == end)
    if len(starts) == len(ends) + 1:
        ends = np.append(ends, len(ids) - 1)
    return list(zip(starts, ends, strict=True))


def scanned_mask(ids, vocab):
    """Return the reference's mask of a sequence: bool[t, t]."""
    mask = np.tril(np.ones((len(ids), len(ids)), bool))
    images = spans(ids, vocab.image_start, vocab.image_end)
    actions = spans(ids, vocab.action_start, vocab.action_end)
    last_image = max((end for _, end in images), default=-1)
    for start, end in actions:
        for earlier_start, earlier_end in actions:
            if start > last_image and earlier_end < start:
                mask[start : end + 1, earlier_start : earlier_end + 1] = False
    return mask
