from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from worldvla_ros.checkpoint.folder import demo_path, load
from worldvla_ros.checkpoint.quantise import weight_bytes
from worldvla_ros.inference.fast import FastTransformer
from worldvla_ros.model.action_head import ActionHead, ActionHeadConfig
from worldvla_ros.model.cost import (
    ActionHeadCost,
    Cost,
    TransformerCost,
    VQGANCost,
    total,
)
from worldvla_ros.model.transformer import Transformer, TransformerConfig
from worldvla_ros.model.vqgan import VQGAN, VQGANConfig


@pytest.fixture(scope='module')
def demo():
    return load(demo_path())


@pytest.fixture(params=['tiny', 'demo'])
def checkpoint(request, tiny_checkpoint, demo):
    return tiny_checkpoint if request.param == 'tiny' else demo


@torch.inference_mode()
def counted(call):
    """Return the FLOPs that torch counts; only the plain kernel of attention is known to it."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.get_total_flops()


def sizes(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize('batch', [1, 3])
def test_flops_of_a_prefill_are_those_of_the_flop_counter(checkpoint, batch):
    ids = torch.zeros(batch, 19, dtype=torch.long)
    cost = TransformerCost(checkpoint.spec.transformer).run(19, 19, batch)
    assert counted(lambda: checkpoint.model(ids)) == cost.flops


def test_flops_of_a_pass_with_a_cache_are_those_of_the_flop_counter(checkpoint):
    model = checkpoint.model
    fast = FastTransformer(model)
    ids, positions, cache = (
        torch.zeros(1, 4).long(),
        torch.arange(20, 24)[None],
        fast.new_cache(30),
    )
    found = counted(lambda: fast.forward(ids, positions, cache, 24))
    assert found == TransformerCost(model.config).run(4, 24).flops


def test_flops_of_logits_are_those_of_the_flop_counter(checkpoint):
    model = checkpoint.model
    hidden = torch.zeros(5, model.config.hidden_size)
    cost = TransformerCost(model.config).logits(5, 17)
    assert counted(lambda: model.logits(hidden, slice(0, 17))) == cost.flops


def test_flops_of_the_image_tokenizer_are_those_of_the_flop_counter(checkpoint):
    network, cost = checkpoint.vqgan, VQGANCost(checkpoint.spec.vqgan)
    images = torch.zeros(2, 64, 32, 3, dtype=torch.uint8)
    assert counted(lambda: network.encode(images)) == cost.encode(64, 32, 2).flops
    codes = torch.zeros(2, 8, 4, dtype=torch.long)
    assert counted(lambda: network.decode(codes)) == cost.decode(8, 4, 2).flops


def test_flops_of_the_published_shape_of_image_tokenizer_hold_too():
    config = VQGANConfig(embed_dim=8, n_embed=16, z_channels=12, ch=8, norm_groups=4)
    network, cost = VQGAN(config).eval(), VQGANCost(config)
    images = torch.zeros(1, 32, 64, 3, dtype=torch.uint8)
    assert counted(lambda: network.encode(images)) == cost.encode(32, 64).flops
    codes = torch.zeros(1, 2, 4, dtype=torch.long)
    assert counted(lambda: network.decode(codes)) == cost.decode(2, 4).flops


def test_flops_of_the_action_head_are_those_of_the_flop_counter():
    config = ActionHeadConfig(
        context_size=24, hidden_size=16, intermediate_size=40, num_attention_heads=2, horizon=3
    )
    head = ActionHead(config).train()  # evaluation takes a fused kernel that torch does not count
    found = counted(lambda: head(torch.zeros(1, 11, 24)))
    assert found == ActionHeadCost(config).run(11).flops


def test_bytes_of_a_pass_are_weights_cache_and_embeddings(checkpoint):
    model, size = checkpoint.model, checkpoint.spec.transformer
    layers, head = (weight_bytes(part) for part in (model.model.layers, model.lm_head))
    cost = TransformerCost.stored(model.config, layers, head, value_width=4)
    cache = 2 * size.num_hidden_layers * size.hidden_size * 24 * 4
    embedded = 3 * size.hidden_size * 4
    found = cost.run(3, 24).bytes - cache - embedded
    assert found == pytest.approx(layers)
    assert cost.cache_bytes(24) == cache
    assert cost.logits(1, size.vocab_size).bytes == head


def test_parameters_are_those_of_the_network(checkpoint):
    model = checkpoint.model
    assert TransformerCost(model.config).parameters == sizes(model)
    for heads in (1, model.config.num_attention_heads):
        config = replace(model.config, qk_norm_heads=heads)
        assert TransformerCost(config).parameters == sizes(Transformer(config))


def test_the_published_sizes_have_seven_billion_parameters():
    assert TransformerCost(TransformerConfig()).parameters == pytest.approx(7.04e9, rel=1e-2)


def test_narrower_weights_cost_fewer_bytes_and_the_same_flops(tiny_spec):
    wide = TransformerCost(tiny_spec.transformer).run(1, 10)
    narrow = TransformerCost(tiny_spec.transformer, weight_width=0.5).run(1, 10)
    assert narrow.bytes < wide.bytes
    assert narrow.flops == wide.flops


def test_weights_are_read_once_for_a_batch_and_products_made_for_each(tiny_spec):
    counter = TransformerCost(tiny_spec.transformer)
    one, four = counter.run(1, 10), counter.run(1, 10, batch=4)
    assert four.flops == 4 * one.flops
    weights = counter.layer_parameters * 4
    assert four.bytes - weights == 4 * (one.bytes - weights)


def test_a_limit_is_the_slower_of_moving_and_multiplying():
    assert Cost(flops=10, bytes=4).seconds(bandwidth=2, rate=1) == 10
    assert Cost(flops=10, bytes=4).seconds(bandwidth=2, rate=100) == 2
    assert total([Cost(1, 2), Cost(3, 4) * 2]) == Cost(7, 10)
