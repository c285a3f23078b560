"""The transformer: positions and masks are what it is told."""

from dataclasses import replace

import pytest
import torch

from worldvla_ros.errors import CheckpointError
from worldvla_ros.model.masks import sequence_mask
from worldvla_ros.model.transformer import RMSNorm, Transformer, TransformerConfig

CONFIG = TransformerConfig(
    vocab_size=50,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
)
IDS = torch.randint(0, 50, (1, 12), generator=torch.Generator().manual_seed(1))


def make_model(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    model = Transformer(config)
    model.initialise(std=0.3)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope='module')
def model():
    return make_model()


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_hidden_token_has_no_influence(model):
    mask = torch.ones(1, 1, 12, 12, dtype=torch.bool).tril()
    hidden = mask.clone()
    hidden[..., 4:, 3] = False
    changed = IDS.clone()
    changed[0, 3] = (changed[0, 3] + 1) % 50
    assert (model(changed, mask=mask) - model(IDS, mask=mask))[0, 4:].abs().max() > 1e-3
    assert_close(model(changed, mask=hidden)[0, 4:], model(IDS, mask=hidden)[0, 4:])


def test_attention_is_causal_by_default(model):
    changed = IDS.clone()
    changed[0, 6] = (changed[0, 6] + 1) % 50
    before, after = model(IDS), model(changed)
    assert_close(after[:, :6], before[:, :6])
    assert (after[:, 6:] - before[:, 6:]).abs().amax(-1).min() > 1e-4


def test_order_of_tokens_does_not_matter_beside_positions_and_mask(model):
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    blocks = torch.zeros(1, 12, dtype=torch.long)
    mask = sequence_mask(order[None], blocks)
    assert_close(model(IDS[:, order], order, mask), model(IDS)[:, order])


def test_only_differences_of_positions_matter(model):
    # fp32 angles lose precision with size, hence the modest offset
    assert_close(model(IDS, torch.arange(12) + 5), model(IDS))


def test_distances_between_positions_matter(model):
    stretched = model(IDS, torch.arange(12) * 3)
    assert (stretched - model(IDS)).abs().amax(-1)[0, 2:].min() > 1e-3


def test_positions_per_sequence_equal_positions_of_each(model):
    ids = IDS.repeat(2, 1)
    positions = torch.stack([torch.arange(12), torch.arange(12) * 2])
    together = model(ids, positions)
    assert_close(together[0], model(IDS, positions[0])[0])
    assert_close(together[1], model(IDS, positions[1])[0])


def test_logits_of_a_span_are_a_slice_of_all(model):
    hidden = model(IDS)
    whole = model.logits(hidden)
    assert whole.shape == (1, 12, 50)
    assert_close(model.logits(hidden, slice(7, 20)), whole[..., 7:20])


def test_logits_are_fp32_in_a_model_of_less_precision():
    model = make_model().to(torch.bfloat16)
    assert model.logits(model(IDS)).dtype == torch.float32


@pytest.mark.parametrize(('width', 'heads'), [(30, 4), (12, 4), (8, 16)])
def test_sizes_that_do_not_fit_are_refused(width, heads):
    with pytest.raises(CheckpointError, match=f'even heads, got {width} and {heads}'):
        replace(CONFIG, hidden_size=width, num_attention_heads=heads)


@pytest.mark.parametrize('name', ['num_hidden_layers', 'max_position_embeddings', 'vocab_size'])
def test_sizes_that_make_no_model_are_refused(name):
    with pytest.raises(CheckpointError, match='transformer sizes: expected positive sizes'):
        TransformerConfig(**{name: 0})


def test_norm_has_unit_root_mean_square():
    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(3)) * 100
    assert_close(RMSNorm(32, 1e-5)(x).pow(2).mean(-1), torch.ones(4))


def test_heads_may_have_norms_of_their_own():
    model = make_model(replace(CONFIG, qk_norm_heads=4))
    shared = make_model()
    assert model.model.layers[0].self_attn.q_norm.weight.shape == (4, 8)
    assert shared.model.layers[0].self_attn.q_norm.weight.shape == (1, 8)
    assert_close(model(IDS), shared(IDS))
    with torch.no_grad():
        model.model.layers[0].self_attn.q_norm.weight[1] *= 3
    assert (model(IDS) - shared(IDS)).abs().max() > 1e-3


def test_dropout_is_off_in_evaluation():
    model = make_model(replace(CONFIG, dropout=0.5))
    assert_close(model(IDS), make_model()(IDS))
    model.train()
    assert (model(IDS) - make_model()(IDS)).abs().max() > 0.1


def test_default_sizes_are_those_of_the_published_model():
    with torch.device('meta'):
        tensors = Transformer(TransformerConfig()).state_dict()
    assert len(tensors) == 419
    assert sum(t.numel() for t in tensors.values()) == 7_013_158_912
