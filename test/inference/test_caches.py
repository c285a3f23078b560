"""What a cache knows already is not computed again, and never changes a result."""

import threading

import numpy as np
import pytest
from tiny import VOCAB, make_model
import torch

from worldvla_ros.errors import CheckpointError, MemoryLimitError
from worldvla_ros.inference.caches import CACHES, Caches
from worldvla_ros.inference.engine import Engine
from worldvla_ros.inference.fast import FastTransformer
from worldvla_ros.tokenizers.sequence import Sequence


def sequence(ids):
    ids = np.asarray(ids, np.int64)
    return Sequence(ids, np.zeros(len(ids), np.int64), len(ids))


@pytest.fixture
def fed():
    """Tokens of each pass."""
    return []


@pytest.fixture
def engine(fed):
    engine = Engine(make_model(1), VOCAB)
    forward = engine.fast.forward

    def recorded(ids, *rest):
        fed.append(ids.shape[1])
        return forward(ids, *rest)

    engine.fast.forward = recorded
    return engine


def test_the_same_prompt_is_fed_once(engine, fed):
    prompt = sequence(range(20, 50))
    first = engine.chunks.act(prompt, 3, 6)
    again = engine.chunks.act(prompt, 3, 6)
    assert fed == [30 + 3, *[3] * 5, 1 + 3, *[3] * 5]
    np.testing.assert_array_equal(again.bins, first.bins)
    np.testing.assert_allclose(again.log_probs, first.log_probs, atol=1e-5)


def test_a_prompt_that_begins_alike_is_fed_from_where_it_differs(engine, fed):
    engine.chunks.act(sequence(range(20, 50)), 3, 6)
    other = sequence([*range(20, 35), *range(70, 90)])
    found = engine.chunks.act(other, 3, 6)
    assert fed[6] == 20 + 3
    fresh = Engine(make_model(1), VOCAB).chunks.act(other, 3, 6)
    np.testing.assert_array_equal(found.bins, fresh.bins)


def test_past_actions_are_told_from_the_same_ids_with_another_role(engine, fed):
    prompt = sequence(range(20, 50))
    engine.chunks.act(prompt, 3, 6)
    roles = prompt.roles.copy()
    roles[10:15] = -1
    engine.chunks.act(Sequence(prompt.ids, roles, 30), 3, 6)
    assert fed[6] == 20 + 3


def test_prompts_of_different_kinds_keep_a_cache_each(engine, fed):
    prompts = [sequence(range(start, start + 30)) for start in (10, 50, 90)]
    for prompt in prompts * 2:
        engine.chunks.act(prompt, 2, 6)
    assert fed[::6] == [32] * 3 + [3] * 3
    assert len(prompts) == CACHES


def test_more_kinds_than_caches_take_the_one_used_longest_ago(engine, fed):
    prompts = [sequence(range(start, start + 30)) for start in (10, 50, 90, 130)]
    for prompt in (*prompts, prompts[3], prompts[1], prompts[0]):
        engine.chunks.act(prompt, 2, 6)
    assert fed[::6] == [32] * 4 + [3, 3, 32]


def test_damaged_scores_leave_no_trace():
    model = make_model(1)
    engine, prompt = Engine(model, VOCAB), sequence(range(20, 50))
    expected = engine.chunks.act(prompt, 3, 6)
    weight = model.model.layers[0].mlp.down_proj.weight
    kept = weight[0, 0].clone()
    weight[0, 0] = float('nan')
    other = sequence(range(60, 90))
    with pytest.raises(CheckpointError, match='not finite'):
        engine.chunks.act(other, 3, 6)
    weight[0, 0] = kept
    np.testing.assert_array_equal(engine.chunks.act(prompt, 3, 6).bins, expected.bins)
    np.testing.assert_array_equal(
        engine.chunks.act(other, 3, 6).bins, Engine(model, VOCAB).chunks.act(other, 3, 6).bins
    )


def test_a_cache_is_leased_to_one_session_at_a_time():
    fast = FastTransformer(make_model(1))
    caches, ids, roles = Caches(fast), np.arange(8)[None], np.zeros((1, 10), np.int64)
    with caches.session(ids, roles, 'a') as a, caches.session(ids, roles, 'b') as b:
        assert a._cache is not b._cache


def test_two_threads_may_decode_at_once():
    engine, found = Engine(make_model(1), VOCAB), {}
    prompts = [sequence(range(start, start + 30)) for start in (20, 60)]
    expected = [Engine(make_model(1), VOCAB).chunks.act(p, 3, 6).bins for p in prompts]

    def decode(index):
        found[index] = [engine.chunks.act(prompts[index], 3, 6).bins for _ in range(40)]

    threads = [threading.Thread(target=decode, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, bins in found.items():
        np.testing.assert_array_equal(bins, [expected[index]] * 40)


@pytest.mark.parametrize(
    'error',
    [torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 9 GiB'), MemoryError()],
)
def test_a_shortage_of_memory_is_one_message_with_what_needs_less(error):
    def fail(*_):
        raise error

    engine = Engine(make_model(1), VOCAB)
    engine.fast.forward = fail
    with pytest.raises(MemoryLimitError, match='out of memory while decoding') as caught:
        engine.chunks.act(sequence(range(20, 50)), 3, 6)
    assert 'tokens in a cache of' in caught.value.expected
    for word in ('dtype', 'images', 'history', 'chunk', 'device'):
        assert word in caught.value.remedy


def test_a_cache_that_does_not_fit_into_memory_is_explained(monkeypatch):
    engine = Engine(make_model(1), VOCAB)
    monkeypatch.setattr(FastTransformer, 'new_cache', lambda *_: torch.empty(1 << 60))
    with pytest.raises(MemoryLimitError, match='making a cache: expected room for 1 × 128'):
        engine.chunks.act(sequence(range(20, 50)), 3, 6)


def test_other_errors_are_left_as_they_are():
    def fail(*_):
        raise RuntimeError('something else')

    engine = Engine(make_model(1), VOCAB)
    engine.fast.forward = fail
    with pytest.raises(RuntimeError, match='something else'):
        engine.chunks.act(sequence(range(20, 50)), 3, 6)
