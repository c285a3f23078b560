"""Our networks against transformers' own Chameleon, written by others from the same weights."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from worldvla_ros.inference.fast import FastTransformer
from worldvla_ros.model.masks import sequence_mask
from worldvla_ros.model.transformer import Transformer, TransformerConfig
from worldvla_ros.model.vqgan import VQGAN, VQGANConfig, to_pixels

pytest.importorskip('transformers')
from transformers import (
    ChameleonConfig,
    ChameleonForConditionalGeneration,
    ChameleonVQVAE,
    ChameleonVQVAEConfig,
)

VOCABULARY, TOKENS, TOLERANCE = 80, 24, 1e-4
FIRST_CODE, CODES = 4, 16
VQGAN_SIZES = VQGANConfig(
    embed_dim=12, n_embed=48, z_channels=20, ch=32, ch_mult=(1, 2, 2), num_res_blocks=1
)
VQVAE_FIELDS = {
    'embed_dim': 'embed_dim',
    'num_embeddings': 'n_embed',
    'latent_channels': 'z_channels',
    'base_channels': 'ch',
    'channel_multiplier': 'ch_mult',
    'num_res_blocks': 'num_res_blocks',
}


def scatter_weights(network, seed):
    """Draw every parameter of a network, norms and biases too."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        scale = parameter.shape[1:].numel() ** -0.5 if parameter.dim() > 1 else 0.3
        centre = 1.0 if 'norm' in name and name.endswith('weight') else 0.0
        parameter.data = centre + (0.3 if centre else scale) * drawn
    return network.eval().requires_grad_(False)


def make_model(seed, own_norms):
    """Return our transformer with random weights; sizes differ from seed to seed."""
    heads = (2, 4, 8)[seed % 3]
    config = TransformerConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=1 + seed % 4,
        num_attention_heads=heads,
        qk_norm_heads=heads if own_norms else 1,
        rope_theta=(10000.0, 314.0)[seed % 2],
    )
    model = scatter_weights(Transformer(config), seed)
    model.model.embed_tokens.weight *= 8  # some tokens must outweigh others
    return model


def vocabulary_map(codes=0):
    """Return names of ids as Chameleon's tokenizer has them, with some image codes."""
    digits = [
        'IMGIMG' + ''.join(chr(ord('A') + int(d)) for d in str(c)) + 'Z' for c in range(codes)
    ]
    return {'<image>': VOCABULARY - 1} | {name: FIRST_CODE + c for c, name in enumerate(digits)}


def as_theirs(model, codes=0):
    """Return their model with our weights; it masks the scores of its first image codes."""
    ours = model.config
    theirs = ChameleonForConditionalGeneration(
        ChameleonConfig(
            vocab_size=ours.vocab_size,
            hidden_size=ours.hidden_size,
            intermediate_size=ours.intermediate_size,
            num_hidden_layers=ours.num_hidden_layers,
            num_attention_heads=ours.num_attention_heads,
            num_key_value_heads=ours.num_attention_heads,
            rms_norm_eps=ours.rms_norm_eps,
            rope_parameters={'rope_type': 'default', 'rope_theta': ours.rope_theta},
            vocabulary_map=vocabulary_map(codes),
            vq_config=vqvae_config(VQGAN_SIZES).to_dict(),
        )
    )
    weights = model.state_dict()
    for name, tensor in weights.items():
        if name.endswith(('q_norm.weight', 'q_norm.bias', 'k_norm.weight', 'k_norm.bias')):
            weights[name] = tensor.expand(ours.num_attention_heads, -1)
    missing, foreign = theirs.load_state_dict(weights, strict=False)
    assert not foreign
    assert all(name.startswith('model.vqmodel.') for name in missing)
    return theirs.eval().requires_grad_(False)


def vqvae_config(sizes):
    return ChameleonVQVAEConfig(**{k: getattr(sizes, v) for k, v in VQVAE_FIELDS.items()})


def random_ids(seed, batch=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (batch, TOKENS), generator=generator)


def logits(model, ids, *arguments):
    return model.logits(model(ids, *arguments))


@pytest.mark.parametrize('own_norms', [False, True], ids=['[1,k]', '[n,k]'])
@pytest.mark.parametrize('seed', range(6))
def test_logits_are_theirs(seed, own_norms):
    model, ids = make_model(seed, own_norms), random_ids(seed)
    ours, theirs = logits(model, ids), as_theirs(model)(input_ids=ids).logits
    assert (ours - theirs).abs().max() <= TOLERANCE
    assert ours.std() > 0.5
    assert (ours[:, 1:] - ours[:, :-1]).abs().max() > 1


@pytest.mark.parametrize('seed', range(3))
def test_their_tensors_load_as_they_are(seed):
    model, ids = make_model(seed, own_norms=True), random_ids(seed)
    tensors = as_theirs(model).state_dict()
    tensors = {k: v for k, v in tensors.items() if not k.startswith('model.vqmodel.')}
    fresh = Transformer(model.config).eval()
    fresh.load_state_dict(tensors)
    assert torch.equal(logits(fresh, ids), logits(model, ids))


def test_image_codes_are_masked_by_them_alone():
    model, ids = make_model(0, own_norms=False), random_ids(0)
    ours, theirs = logits(model, ids), as_theirs(model, CODES)(input_ids=ids).logits
    is_code = torch.zeros(VOCABULARY, dtype=torch.bool)
    is_code[FIRST_CODE : FIRST_CODE + CODES] = True
    assert (ours - theirs)[..., ~is_code].abs().max() <= TOLERANCE
    assert (theirs[..., is_code] == torch.finfo(torch.float32).min).all()
    assert ours[..., is_code].abs().max() < 1e3


@pytest.mark.parametrize('seed', range(3))
def test_logits_under_the_chunk_mask_are_theirs(seed):
    model, ids = make_model(seed, own_norms=False), random_ids(seed)
    positions = torch.arange(TOKENS).expand(2, -1)
    blocks = torch.tensor([0] * 5 + [-1] * 3 + [0] * 3 + [1] * 4 + [2] * 4 + [3] * 4 + [0])
    mask = sequence_mask(positions, blocks.expand(2, -1))
    ours = logits(model, ids, positions, mask)
    theirs = as_theirs(model)(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    assert (ours - theirs).abs().max() <= TOLERANCE
    assert (ours - logits(model, ids)).abs().max() > 0.01


@pytest.mark.parametrize('prefill', [1, 9, TOKENS - 1])
def test_cached_logits_are_those_of_their_full_pass(prefill):
    model, ids = make_model(2, own_norms=True), random_ids(2, batch=1)
    theirs = as_theirs(model)(input_ids=ids).logits
    fast = FastTransformer(model)
    cache, positions = fast.new_cache(TOKENS), torch.arange(TOKENS)[None]
    edges = [0, *range(prefill, TOKENS + 1)]
    parts = [
        model.logits(fast.forward(ids[:, a:b], positions[:, a:b], cache, b))
        for a, b in zip(edges, edges[1:], strict=False)
    ]
    assert (torch.cat(parts, 1) - theirs).abs().max() <= TOLERANCE


@pytest.mark.parametrize('seed', range(3))
def test_bfloat16_differs_by_its_noise_alone(seed):
    model, ids = make_model(seed, own_norms=False), random_ids(seed)
    theirs = as_theirs(model)
    exact = theirs(input_ids=ids).logits
    rotary = deepcopy(theirs.model.rotary_emb)
    theirs = theirs.bfloat16()
    theirs.model.rotary_emb = rotary  # a loaded model keeps its frequencies in fp32
    lower = theirs(input_ids=ids).logits.float()
    noise = (lower - exact).abs()
    ours = logits(model.bfloat16(), ids)
    assert 0 < noise.max() < 0.5
    assert (ours - exact).abs().max() <= 1.5 * noise.max()
    assert (ours - lower).abs().mean() <= noise.mean()


@pytest.mark.parametrize(
    ('sizes', 'side'),
    [
        (VQGAN_SIZES, 32),
        (replace(VQGAN_SIZES, ch_mult=(1, 1, 2, 4), num_res_blocks=2), 48),
        (VQGANConfig(), 64),
    ],
    ids=['small', 'deep', 'published'],
)
def test_image_codes_are_theirs(sizes, side):
    vqgan = scatter_weights(VQGAN(sizes), 1)
    theirs = ChameleonVQVAE(vqvae_config(sizes))
    missing, foreign = theirs.load_state_dict(vqgan.state_dict(), strict=False)
    assert not missing
    assert all(name.startswith('decoder.') for name in foreign)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8, generator=generator)
    pixels = to_pixels(images)
    expected = theirs.eval().encode(pixels)
    found = vqgan.encode(images)
    assert torch.equal(found.flatten(), expected.image_tokens)
    assert len(found.unique()) > 4
    torch.testing.assert_close(
        vqgan.encoder(pixels), expected.last_hidden_state, rtol=1e-4, atol=1e-4
    )
