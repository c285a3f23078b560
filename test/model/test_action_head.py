"""The continuous action head: published names and sizes, and padding that changes nothing."""

from dataclasses import replace

import pytest
import torch

from worldvla_ros.errors import CheckpointError
from worldvla_ros.model.action_head import ActionHead, ActionHeadConfig

TINY = ActionHeadConfig(
    context_size=12,
    hidden_size=16,
    intermediate_size=24,
    num_attention_heads=2,
    horizon=3,
    dim=5,
)
ENCODER = 'transformer_encoder.layers.{}.'
MLP = 'output_projection.model.'


def published_shapes(horizon, dim):
    """Return the published names and shapes, as the specification lists them."""
    shapes = {
        'action_token_embeddings.weight': (1, horizon * dim * 4096),
        'hidden_projection.weight': (1024, 4096),
        'hidden_projection.bias': (1024,),
        'transformer_encoder.norm.weight': (1024,),
        'transformer_encoder.norm.bias': (1024,),
        f'{MLP}layer_norm1.weight': (dim * 1024,),
        f'{MLP}layer_norm1.bias': (dim * 1024,),
        f'{MLP}fc1.weight': (1024, dim * 1024),
        f'{MLP}fc1.bias': (1024,),
        f'{MLP}layer_norm2.weight': (1024,),
        f'{MLP}layer_norm2.bias': (1024,),
        f'{MLP}fc2.weight': (dim, 1024),
        f'{MLP}fc2.bias': (dim,),
    }
    for i in range(2):
        layer, block = ENCODER.format(i), f'{MLP}mlp_resnet_blocks.{i}.ffn.'
        shapes |= {
            f'{layer}self_attn.in_proj_weight': (3072, 1024),
            f'{layer}self_attn.in_proj_bias': (3072,),
            f'{layer}self_attn.out_proj.weight': (1024, 1024),
            f'{layer}self_attn.out_proj.bias': (1024,),
            f'{layer}linear1.weight': (4096, 1024),
            f'{layer}linear1.bias': (4096,),
            f'{layer}linear2.weight': (1024, 4096),
            f'{layer}linear2.bias': (1024,),
            f'{block}1.weight': (1024, 1024),
            f'{block}1.bias': (1024,),
        }
        for norm in (f'{layer}norm1', f'{layer}norm2', f'{block}0'):
            shapes |= {f'{norm}.weight': (1024,), f'{norm}.bias': (1024,)}
    return shapes


def make_head(config=TINY, seed=0):
    torch.manual_seed(seed)
    head = ActionHead(config)
    head.initialise(std=0.3)
    return head.eval().requires_grad_(False)


def random_context(length, seed=1):
    return torch.randn(1, length, 12, generator=torch.Generator().manual_seed(seed))


def padded(*contexts):
    """Return contexts as one batch whose padding is not zero, and their lengths."""
    lengths = torch.tensor([c.shape[1] for c in contexts])
    batch = torch.full((len(contexts), int(lengths.max()), 12), 7.0)
    for row, context in zip(batch, contexts, strict=True):
        row[: context.shape[1]] = context[0]
    return batch, lengths


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('dim', 'horizon', 'millions'), [(7, 5, 39.00), (7, 10, 39.14), (6, 20, 38.30)]
)
def test_names_shapes_and_counts_are_the_published_ones(dim, horizon, millions):
    with torch.device('meta'):
        head = ActionHead(ActionHeadConfig(horizon=horizon, dim=dim))
    found = {name: tuple(t.shape) for name, t in head.state_dict().items()}
    assert found == published_shapes(horizon, dim)
    assert round(sum(p.numel() for p in head.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize('batch', [1, 3])
def test_output_is_a_chunk_per_prompt(batch):
    actions = make_head()(random_context(9).repeat(batch, 1, 1))
    assert actions.shape == (batch, 3, 5)
    assert actions.dtype == torch.float32


def slow_head(head, context):
    """Compute one chunk step by step: float[p, c] → float[K, D]."""
    weights = head.state_dict()

    def linear(x, name):
        return x @ weights[f'{name}.weight'].T + weights[f'{name}.bias']

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f'{name}.weight'] + weights[f'{name}.bias']

    queries = weights['action_token_embeddings.weight'].view(-1, 12)
    x = linear(torch.cat([context, queries]), 'hidden_projection')
    for i in range(2):
        layer = ENCODER.format(i)
        q, k, v = (
            x @ weights[f'{layer}self_attn.in_proj_weight'].T
            + weights[f'{layer}self_attn.in_proj_bias']
        ).chunk(3, -1)
        heads = [
            (a @ b.T / 8**0.5).softmax(-1) @ c
            for a, b, c in zip(q.split(8, -1), k.split(8, -1), v.split(8, -1), strict=True)
        ]
        attended = linear(torch.cat(heads, -1), f'{layer}self_attn.out_proj')
        x = norm(x + attended, f'{layer}norm1')
        wide = linear(x, f'{layer}linear1').relu()
        x = norm(x + linear(wide, f'{layer}linear2'), f'{layer}norm2')
    x = norm(x, 'transformer_encoder.norm')[len(context) :].reshape(3, 5 * 16)
    x = linear(norm(x, f'{MLP}layer_norm1'), f'{MLP}fc1').relu()
    for i in range(2):
        block = f'{MLP}mlp_resnet_blocks.{i}.ffn.'
        x = x + linear(norm(x, f'{block}0'), f'{block}1').relu()
    return linear(norm(x, f'{MLP}layer_norm2'), f'{MLP}fc2')


@pytest.mark.parametrize('seed', range(3))
def test_output_is_that_of_the_slow_way(seed):
    head, context = make_head(seed=seed), random_context(7, seed)
    for tensor in head.state_dict().values():
        tensor += 0.1 * torch.randn(tensor.shape)  # norms and biases, too
    assert_close(head(context)[0], slow_head(head, context[0]))


@pytest.mark.parametrize('training', [False, True])
def test_padding_of_a_batch_changes_nothing(training):
    head = make_head(replace(TINY, dropout=0.0)).train(training)
    contexts = [random_context(length, length) for length in (4, 9, 1, 6)]
    together = head(*padded(*contexts))
    assert_close(together, torch.cat([head(c) for c in contexts]))
    assert (together[0] - together[3]).abs().max() > 1e-3


def test_padding_can_be_seen_as_zeros_as_in_the_reference():
    masked, seen = make_head(), make_head(replace(TINY, padding_seen=True))
    short, long = random_context(4, 4), random_context(9, 9)
    together = seen(*padded(short, long))
    as_zeros = masked(torch.cat([short, torch.zeros(1, 5, 12)], 1))
    assert_close(together, torch.cat([as_zeros, masked(long)]))
    assert (together[0] - masked(short)[0]).abs().max() > 1e-3
    assert_close(seen(short), masked(short))


def test_prompt_tokens_are_a_set_to_the_head():
    head, context = make_head(), random_context(8)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(2))
    assert_close(head(context[:, order]), head(context))
    assert (head(context[:, :-1]) - head(context)).abs().max() > 1e-4


def test_actions_and_their_numbers_differ():
    actions = make_head()(random_context(8))[0]
    assert torch.pdist(actions).min() > 1e-3
    assert torch.pdist(actions.T).min() > 1e-3


def test_gradient_reaches_the_context_and_every_parameter():
    head = make_head().requires_grad_(True)
    context = random_context(6).requires_grad_(True)
    head(context).abs().sum().backward()
    assert context.grad.abs().amax(-1).min() > 0
    for name, parameter in head.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_weights_are_drawn_as_in_the_reference():
    torch.manual_seed(0)
    head = ActionHead(replace(TINY, context_size=64, hidden_size=64, intermediate_size=256))
    head.initialise()
    for name, tensor in head.state_dict().items():
        if 'in_proj_weight' in name:
            assert tensor.abs().max() <= (6 / (64 * 4)) ** 0.5
        elif name.endswith('bias'):
            assert not tensor.any(), name
        elif tensor.dim() == 1:
            assert (tensor == 1).all(), name
        else:
            assert tensor.std() == pytest.approx(0.02, rel=0.2), name


def test_head_computes_in_bfloat16():
    actions = make_head().bfloat16()(random_context(6).bfloat16())
    assert actions.dtype == torch.bfloat16
    torch.testing.assert_close(actions.float(), make_head()(random_context(6)), rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    'change',
    [{'num_attention_heads': 3}, {'horizon': 0}, {'dim': 0}, {'num_hidden_layers': 0}],
)
def test_sizes_that_make_no_head_are_refused(change):
    with pytest.raises(CheckpointError, match='action head: .*expected') as caught:
        replace(TINY, **change)
    assert caught.value.remedy
