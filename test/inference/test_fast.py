"""The transformer with a cache computes what the plain one does, in whatever order it is fed."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
import torch

from worldvla_ros.inference import fast as fast_module
from worldvla_ros.inference.cuda_graphs import BUCKET, padded
from worldvla_ros.inference.fast import FastTransformer, SideBySide
from worldvla_ros.model.masks import sequence_mask
from worldvla_ros.model.transformer import Transformer, TransformerConfig

CONFIG = TransformerConfig(
    vocab_size=50,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=256,
)
TOKENS = 14
BLOCKS = torch.tensor([0] * 3 + [-1] * 2 + [0] + [1] * 3 + [2] * 3 + [0] * 2)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


def make_model(seed=0, norms=1, dtype=torch.float32):
    torch.manual_seed(seed)
    model = Transformer(replace(CONFIG, qk_norm_heads=norms))
    model.initialise(std=0.3)
    for name, parameter in model.named_parameters():
        if 'norm' in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return model.to(dtype).eval().requires_grad_(False)


def random_ids(seed=0, batch=1, tokens=TOKENS):
    return torch.randint(0, 50, (batch, tokens), generator=torch.Generator().manual_seed(seed))


def fed_in_parts(fast, ids, edges, blocks=None):
    """Return the hidden states of sequences that are fed piece by piece."""
    cache = fast.new_cache(ids.shape[1], len(ids))
    if blocks is not None:
        cache.roles[:, :-1] = blocks
    positions = torch.arange(ids.shape[1])[None]
    spans = zip(edges, edges[1:], strict=False)
    return torch.cat([fast.forward(ids[:, a:b], positions[:, a:b], cache, b) for a, b in spans], 1)


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 4]),
    st.sets(st.integers(1, TOKENS - 1)),
    st.booleans(),
)
def test_hidden_states_fed_in_any_parts_are_those_of_one_pass(seed, norms, cuts, chunked):
    model, ids = make_model(seed, norms), random_ids(seed, batch=2)
    blocks = BLOCKS if chunked else torch.zeros_like(BLOCKS)
    positions = torch.arange(TOKENS)[None]
    expected = model(ids, positions, sequence_mask(positions, blocks[None]))
    found = fed_in_parts(FastTransformer(model), ids, [0, *sorted(cuts), TOKENS], blocks)
    assert_close(found, expected)


def test_tokens_side_by_side_lie_in_the_slots_of_their_positions():
    model, ids = make_model(), random_ids()
    fast, positions = FastTransformer(model), torch.arange(TOKENS)[None]
    cache = fast.new_cache(TOKENS)
    cache.roles[:, :-1] = BLOCKS
    expected = model(ids, positions, sequence_mask(positions, BLOCKS[None]))
    fast.forward(ids[:, :6], positions[:, :6], cache, 6)
    for step in range(3):  # the two actions, 6…8 and 9…11, go on together
        at = torch.tensor([[6 + step, 9 + step]])
        assert_close(fast.forward(ids[:, at[0]], at, cache, 12), expected[:, at[0]])


def test_what_a_cache_held_before_is_never_seen():
    fast = FastTransformer(make_model())
    cache, positions = fast.new_cache(TOKENS), torch.arange(TOKENS)[None]
    fast.forward(random_ids(7), positions, cache, TOKENS)
    ids = random_ids(8)
    again = torch.cat(
        [fast.forward(ids[:, [t]], positions[:, [t]], cache, TOKENS) for t in range(TOKENS)], 1
    )
    assert_close(again, fed_in_parts(fast, ids, [0, TOKENS]))


def test_a_position_that_is_fed_again_is_replaced():
    model, ids = make_model(), random_ids()
    fast, positions = FastTransformer(model), torch.arange(TOKENS)[None]
    cache = fast.new_cache(TOKENS)
    wrong = ids.clone()
    wrong[0, 5:9] = (wrong[0, 5:9] + 1) % 50
    fast.forward(wrong[:, :9], positions[:, :9], cache, 9)
    found = fast.forward(ids[:, 5:], positions[:, 5:], cache, TOKENS)
    assert_close(found, model(ids)[:, 5:])


def test_padding_changes_nothing():
    model, ids = make_model(), random_ids()
    fast = FastTransformer(model)
    cache = fast.new_cache(TOKENS + 4)
    filled = torch.cat([ids, torch.full((1, 3), 9)], 1)
    positions = torch.cat([torch.arange(TOKENS), torch.full((3,), cache.length)])[None]
    found = fast.forward(filled, positions, cache, cache.length)
    assert_close(found[:, :TOKENS], model(ids))
    assert found.isfinite().all()


def test_sequences_side_by_side_may_be_at_different_positions():
    model, ids = make_model(), random_ids(batch=2)
    fast, positions = FastTransformer(model), torch.arange(TOKENS)
    cache = fast.new_cache(TOKENS, 2)
    fast.forward(ids[:, :8], positions[None, :8], cache, 8)
    at = torch.stack([positions[8:11], positions[5:8]])  # the second goes back
    found = fast.forward(ids.gather(1, at), at, cache, 11)
    expected = model(ids).gather(1, at[..., None].expand(-1, -1, 32))
    assert_close(found, expected)


def test_sequences_of_a_batch_may_begin_with_what_one_was_fed():
    model, ids = make_model(), random_ids(batch=3)
    ids[:, :6] = ids[0, :6]
    fast, positions = FastTransformer(model), torch.arange(TOKENS)[None]
    cache = fast.new_cache(TOKENS, 3)
    fast.forward(ids[:1, :6], positions[:, :6], cache, 6)
    cache.copy_first(6)
    assert_close(fast.forward(ids[:, 6:], positions[:, 6:], cache, TOKENS), model(ids)[:, 6:])


def test_weights_are_shared_with_the_model_and_none_is_held_twice():
    model, ids = make_model(), random_ids()
    before, size = model(ids), sum(p.numel() for p in model.parameters())
    fast = FastTransformer(model)
    assert_close(model(ids), before)
    storages = {p.untyped_storage().data_ptr(): p.untyped_storage() for p in model.parameters()}
    assert sum(s.nbytes() for s in storages.values()) == 4 * size
    with torch.no_grad():
        model.model.layers[1].self_attn.k_proj.weight.mul_(-2)
        model.model.layers[0].mlp.up_proj.weight.mul_(3)
        model.model.layers[2].self_attn.q_norm.bias.add_(1)
    changed = fed_in_parts(fast, ids, [0, TOKENS])
    assert (changed - before).abs().max() > 1e-2
    assert_close(changed, model(ids))


def test_state_dict_of_a_shared_model_is_still_the_published_one():
    model = make_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    FastTransformer(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[k], before[k]) for k in before)


def test_large_weights_on_a_cpu_stay_apart_with_the_same_result(monkeypatch):
    model, ids = make_model(), random_ids()
    monkeypatch.setattr(fast_module, 'FUSED_ON_CPU_BYTES', 10)
    fast = FastTransformer(model)
    assert any(isinstance(m, SideBySide) for layer in fast._layers for m in layer.modules())
    assert_close(fed_in_parts(fast, ids, [0, 5, TOKENS]), model(ids))


def test_bfloat16_rounds_as_the_plain_model_does():
    model, ids = make_model(dtype=torch.bfloat16), random_ids()
    expected = model(ids)
    found = fed_in_parts(FastTransformer(model), ids, [0, TOKENS])
    exact = make_model()(ids)
    assert found.dtype == torch.bfloat16
    noise = (expected.float() - exact).abs().max()
    assert (found.float() - expected.float()).abs().max() <= noise


@pytest.mark.parametrize(
    ('tokens', 'whole'),
    [(1, 1), (2, 2), (5, 8), (25, 32), (BUCKET, BUCKET), (BUCKET + 1, 2 * BUCKET), (300, 320)],
)
def test_passes_are_filled_up_to_whole_buckets(tokens, whole):
    ids, positions = padded(torch.ones(1, tokens), torch.arange(tokens)[None], 999)
    assert ids.shape == positions.shape == (1, whole)
    assert (positions[:, tokens:] == 999).all()
    assert (positions[:, :tokens] == torch.arange(tokens)).all()


@pytest.mark.gpu
@needs_gpu
def test_captured_passes_are_those_that_are_not():
    model, ids = make_model().cuda(), random_ids(tokens=100).cuda()
    fast, positions = FastTransformer(model), torch.arange(100).cuda()[None]
    cache = fast.new_cache(100)
    with torch.inference_mode():
        expected = model(ids)
        for _ in range(2):
            parts = [fast.forward(ids[:, :90], positions[:, :90], cache, 90)]
            parts += [
                fast.forward(ids[:, [t]], positions[:, [t]], cache, 100) for t in range(90, 100)
            ]
            assert_close(torch.cat(parts, 1), expected)
    assert len(cache.graphs) == 2
