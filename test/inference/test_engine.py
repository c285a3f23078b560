"""Decoding: the fast way chooses what the slow, obvious ways choose."""

from dataclasses import replace
import functools

import numpy as np
import pytest
from tiny import CONFIG, VOCAB, make_model, make_prompt, next_scores
import torch

from worldvla_ros.errors import CheckpointError
from worldvla_ros.inference.chunks import CHOICES, likeliest, median
from worldvla_ros.inference.engine import Engine
from worldvla_ros.inference.reference import act_freely, act_sequentially
from worldvla_ros.model.action_head import ActionHeadConfig
from worldvla_ros.model.masks import sequence_mask
from worldvla_ros.model.transformer import Transformer
from worldvla_ros.tokenizers.sequence import Sequence
from worldvla_ros.tokenizers.vocab import BINS

SHAPES = [(horizon, dim) for horizon in range(1, 7) for dim in (6, 7)]


def act_without_cache(model, prompt, horizon, dim):
    span = VOCAB.action_bins
    ids, blocks = prompt.ids.tolist(), prompt.roles.tolist()
    bins, log_probs = np.zeros((horizon, dim), int), np.zeros((horizon, dim))
    for k, d in np.ndindex(horizon, dim):
        if d == 0:
            ids, blocks = [*ids, VOCAB.action_start], [*blocks, k + 1]
        scores = next_scores(model, ids, blocks, span).log_softmax(-1)
        bins[k, d], log_probs[k, d] = int(scores.argmax()), float(scores.max())
        ids, blocks = [*ids, span.start + int(scores.argmax())], [*blocks, k + 1]
        if d == dim - 1:
            ids, blocks = [*ids, VOCAB.action_end], [*blocks, k + 1]
    return bins, log_probs


@pytest.mark.parametrize('choose', CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize(('horizon', 'dim'), SHAPES)
@pytest.mark.parametrize('seed', [0, 1])
def test_side_by_side_equals_sequential(seed, horizon, dim, choose):
    seed = 100 * seed + 10 * horizon + dim
    engine, prompt = Engine(make_model(seed), VOCAB), make_prompt(seed)
    fast = engine.chunks.act(prompt, horizon, dim, choose)
    slow = act_sequentially(engine, prompt, horizon, dim, choose)
    assert fast.bins.shape == fast.log_probs.shape == (horizon, dim)
    assert 0 <= fast.bins.min() <= fast.bins.max() < BINS
    np.testing.assert_array_equal(fast.bins, slow.bins)
    np.testing.assert_allclose(fast.log_probs, slow.log_probs, rtol=1e-4, atol=1e-4)
    assert fast.passes == dim
    assert slow.passes == 1 + horizon * (dim + 2)


def test_the_median_is_the_least_expected_distance_and_the_likeliest_is_the_mode():
    probability = torch.tensor([[0.4, 0.0, 0.1, 0.2, 0.3], [0.0, 0.0, 0.0, 0.0, 1.0]])
    assert likeliest(probability.log()).tolist() == [0, 4]
    assert median(probability.log()).tolist() == [2, 4]
    drawn = torch.rand(20, BINS).softmax(-1)
    places = torch.arange(BINS)
    distance = (places[:, None] - places).abs().float()
    assert torch.equal(median(drawn.log()), (drawn @ distance).argmin(-1))


@pytest.mark.parametrize('seed', range(4))
def test_chunk_equals_full_passes_without_cache(seed):
    model, prompt = make_model(seed), make_prompt(seed)
    chunk = Engine(model, VOCAB).chunks.act(prompt, 3, 4)
    bins, log_probs = act_without_cache(model, prompt, 3, 4)
    np.testing.assert_array_equal(chunk.bins, bins)
    np.testing.assert_allclose(chunk.log_probs, log_probs, rtol=1e-4, atol=1e-4)


def test_random_models_choose_many_bins():
    chunks = [Engine(make_model(s), VOCAB).chunks.act(make_prompt(s), 6, 7).bins for s in range(4)]
    assert len(np.unique(chunks)) > 20
    assert all(len(np.unique(chunk, axis=0)) > 1 for chunk in chunks)


def test_actions_of_a_shorter_chunk_begin_a_longer_one():
    engine, prompt = Engine(make_model(1), VOCAB), make_prompt(1)
    np.testing.assert_array_equal(
        engine.chunks.act(prompt, 5, 7).bins[:2], engine.chunks.act(prompt, 2, 7).bins
    )


def test_actions_of_the_past_in_the_prompt_stay_unseen_by_the_chunk():
    model, rng = make_model(2), np.random.default_rng(2)
    ids = rng.integers(0, VOCAB.size, 10)
    changed = ids.copy()
    changed[-1] = (changed[-1] + 1) % VOCAB.size
    log_probs = {}
    for block in (-1, 0):
        blocks = np.array([0] * 9 + [block])
        log_probs[block] = [
            Engine(model, VOCAB).chunks.act(Sequence(i, blocks, 10), 3, 6).log_probs
            for i in (ids, changed)
        ]
    np.testing.assert_allclose(*log_probs[-1], atol=1e-5)
    assert np.abs(np.subtract(*log_probs[0])).max() > 1e-2


HEAD = ActionHeadConfig(context_size=32, hidden_size=16, intermediate_size=24, horizon=3, dim=6)


def make_model_with_head(seed, **sizes):
    torch.manual_seed(seed)
    model = Transformer(replace(CONFIG, **sizes), HEAD)
    model.initialise(std=0.4)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize('seed', range(4))
def test_continuous_chunk_is_the_heads_answer_to_the_prompts_hidden_states(seed):
    model, prompt = make_model_with_head(seed), make_prompt(seed)
    actions = Engine(model, VOCAB).chunks.act_continuous(prompt, 3, 6)
    assert actions.shape == (3, 6)
    assert actions.dtype == np.float32
    # hidden states of a whole training sequence, of which the head sees the prompt alone
    chunk = np.tile([VOCAB.action_start, *[VOCAB.action_bin_base + 9] * 6, VOCAB.action_end], 3)
    ids = torch.tensor([[*prompt.ids, *chunk, VOCAB.sep]])
    blocks = torch.tensor([[*prompt.roles, *np.repeat([1, 2, 3], 8), 0]])
    positions = torch.arange(ids.shape[1])[None]
    hidden = model(ids, positions, sequence_mask(positions, blocks))
    expected = model.action_head(hidden[:, : len(prompt.ids)])[0].numpy()
    np.testing.assert_allclose(actions, expected, rtol=1e-4, atol=1e-5)


def test_continuous_chunk_takes_one_pass_of_the_prompt():
    engine, prompt = Engine(make_model_with_head(0), VOCAB), make_prompt(0)
    engine.chunks.act_continuous(prompt, 3, 6)
    assert engine.fast.passes == 1


def test_continuous_chunk_does_not_depend_on_what_was_asked_before():
    engine, prompt = Engine(make_model_with_head(0), VOCAB), make_prompt(0)
    fresh = engine.chunks.act_continuous(prompt, 3, 6)
    engine.chunks.act(prompt, 3, 6)
    np.testing.assert_array_equal(engine.chunks.act_continuous(prompt, 3, 6), fresh)


def test_head_for_other_chunks_is_refused():
    prompt = make_prompt(0)
    with pytest.raises(ValueError, match=r'action head for \(4, 6\), got one for \(3, 6\)'):
        Engine(make_model_with_head(0), VOCAB).chunks.act_continuous(prompt, 4, 6)
    with pytest.raises(ValueError, match='got one for None'):
        Engine(make_model(0), VOCAB).chunks.act_continuous(prompt, 3, 6)


def test_prompt_too_long_for_the_model_is_refused_by_every_decoding():
    engine, prompt = (
        Engine(make_model_with_head(0, max_position_embeddings=4), VOCAB),
        make_prompt(0),
    )
    for decode in (
        engine.chunks.act, engine.chunks.act_verified, engine.chunks.act_continuous,
        functools.partial(act_freely, engine), functools.partial(act_sequentially, engine),
    ):  # fmt: skip
        with pytest.raises(CheckpointError, match='too long for this model.*at most 4') as caught:
            decode(prompt, 3, 6)
        assert caught.value.remedy


def test_head_with_damaged_weights_is_noticed():
    model = make_model_with_head(0)
    model.action_head.hidden_projection.bias[0] = float('nan')
    with pytest.raises(CheckpointError, match='not finite'):
        Engine(model, VOCAB).chunks.act_continuous(make_prompt(0), 3, 6)
