"""A thousand prompts and more: side by side, chunks are what they are token by token.

Prompts are built as they are built for robots, from words, images, states and past actions.
"""

import numpy as np
import pytest
from tiny import VOCAB, make_model

from worldvla_ros.inference.engine import Engine
from worldvla_ros.inference.reference import act_sequentially
from worldvla_ros.tokenizers.bins import action_tokenizer, state_tokenizer
from worldvla_ros.tokenizers.image import ImageTokenizer
from worldvla_ros.tokenizers.sequence import PAST_ACTION_ROLE, SHARED_ROLE, Sequence

MODELS, PROMPTS, LARGEST = 24, 44, 25


def draw_prompt(rng, dim):
    """Return a prompt with or without a state, a second view, history and past actions."""
    parts = [([VOCAB.bos], SHARED_ROLE)]
    words = VOCAB.text_base + rng.integers(0, VOCAB.text_size, rng.integers(2, 8))
    parts.append((words, SHARED_ROLE))
    if rng.random() < 0.5:
        numbers = state_tokenizer(VOCAB, (-1.0,) * 5, (1.0,) * 5).encode(rng.uniform(-1, 1, 5))
        parts.append((numbers, SHARED_ROLE))
    views = 1 + int(rng.random() < 0.5)
    for instant in range(1 + int(rng.random() < 0.5)):
        if instant and rng.random() < 0.7:
            actions = rng.uniform(-1, 1, (rng.integers(1, 3), dim))
            numbers = action_tokenizer(VOCAB, (-1.0,) * dim, (1.0,) * dim).encode(actions)
            parts.append((numbers.ravel(), PAST_ACTION_ROLE))
        for _ in range(views):
            codes = rng.integers(0, VOCAB.codebook_size, (2, 2))
            parts.append((ImageTokenizer(VOCAB).encode(codes), SHARED_ROLE))
    parts.append(([VOCAB.sep], SHARED_ROLE))
    ids = np.concatenate([ids for ids, _ in parts])
    blocks = np.concatenate([np.full(len(ids), block) for ids, block in parts])
    return Sequence(ids, blocks, len(ids))


def draw_horizon(rng):
    """Return a chunk length up to `LARGEST`; long ones are rarer, since they take longer."""
    return LARGEST if rng.random() < 0.03 else int(rng.integers(1, 8))


def test_prompts_are_many_and_of_all_kinds():
    rng = np.random.default_rng(0)
    prompts = [draw_prompt(rng, 7) for _ in range(60)]
    assert MODELS >= 20
    assert MODELS * PROMPTS >= 1000
    past = [(p.roles == PAST_ACTION_ROLE).any() for p in prompts]
    state = [VOCAB.state_start in p.ids for p in prompts]
    images = [int((p.ids == VOCAB.image_start).sum()) for p in prompts]
    assert any(past)
    assert not all(past)
    assert any(state)
    assert not all(state)
    assert set(images) == {1, 2, 4}


@pytest.mark.parametrize('seed', range(MODELS))
def test_side_by_side_chunks_are_those_decoded_token_by_token(seed):
    rng, dim = np.random.default_rng(seed), 6 + seed % 2
    engine = Engine(make_model(seed), VOCAB)
    for index in range(PROMPTS):
        prompt, horizon = draw_prompt(rng, dim), draw_horizon(rng) if index else LARGEST
        before = engine.fast.passes
        fast = engine.chunks.act(prompt, horizon, dim)
        assert engine.fast.passes - before == fast.passes == dim
        slow = act_sequentially(engine, prompt, horizon, dim)
        np.testing.assert_array_equal(fast.bins, slow.bins)
