"""The image tokenizer's network: shapes, the nearest codebook entry, and pixel scaling."""

import contextlib
from dataclasses import replace
import os
from pathlib import Path
import warnings

import pytest
import torch
from torch.nn import functional

from worldvla_ros.checkpoint.published import open_vqgan, tokenizer_folder
from worldvla_ros.checkpoint.weights import read_network
from worldvla_ros.errors import CheckpointError
from worldvla_ros.model.vqgan import (
    VQGAN,
    Downsample,
    Quantiser,
    VQGANConfig,
    to_images,
    to_pixels,
)

CONFIG = VQGANConfig(
    embed_dim=6,
    n_embed=20,
    z_channels=10,
    ch=8,
    ch_mult=(1, 2, 2),
    num_res_blocks=1,
    norm_groups=4,
)


@pytest.fixture(scope='module')
def vqgan():
    torch.manual_seed(0)
    network = VQGAN(CONFIG).eval()
    # a codebook as wide as the latents, so that many entries are in use
    torch.nn.init.normal_(network.quantize.embedding.weight)
    return network.requires_grad_(False)


def random_images(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(('height', 'width'), [(16, 16), (4, 4), (8, 24)])
def test_codes_are_one_per_reduced_pixel(vqgan, height, width):
    codes = vqgan.encode(random_images(2, height, width))
    assert codes.shape == (2, height // 4, width // 4)
    assert codes.dtype == torch.int64
    assert 0 <= codes.min() <= codes.max() < CONFIG.n_embed


def test_different_images_get_different_codes(vqgan):
    first, second = vqgan.encode(random_images(2, 32, 32))
    assert not torch.equal(first, second)
    assert len(first.unique()) > 2


def test_batch_and_single_images_get_equal_codes(vqgan):
    images = random_images(3, 16, 16)
    single = torch.cat([vqgan.encode(image[None]) for image in images])
    assert torch.equal(vqgan.encode(images), single)


@pytest.mark.parametrize(('rows', 'columns'), [(4, 4), (2, 6)])
def test_decoded_images_are_uint8_of_the_full_size(vqgan, rows, columns):
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(0, CONFIG.n_embed, (2, rows, columns), generator=generator)
    images = vqgan.decode(codes)
    assert images.shape == (2, rows * 4, columns * 4, 3)
    assert images.dtype == torch.uint8
    assert not torch.equal(images[0], images[1])


@pytest.mark.parametrize(('height', 'width'), [(15, 16), (16, 18), (2, 4)])
def test_side_that_is_no_multiple_is_refused(vqgan, height, width):
    with pytest.raises(ValueError, match='multiples of 4'):
        vqgan.encode(random_images(1, height, width))


def test_code_is_the_nearest_entry():
    torch.manual_seed(3)
    quantiser = Quantiser(20, 6)
    torch.nn.init.normal_(quantiser.embedding.weight)
    latents = torch.randn(2, 6, 3, 4)
    codes = quantiser.codes(latents)
    table = quantiser.embedding.weight.detach()
    for b, row, column in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(4)):
        distances = [float((latents[b, :, row, column] - entry).norm()) for entry in table]
        assert codes[b, row, column] == distances.index(min(distances))


def test_entries_are_their_own_codes():
    torch.manual_seed(4)
    quantiser = Quantiser(12, 6)
    codes = torch.arange(12).view(1, 3, 4)
    entries = quantiser(codes)
    assert entries.shape == (1, 6, 3, 4)
    assert torch.equal(quantiser.codes(entries), codes)


def test_halving_pads_right_and_bottom():
    step = Downsample(1).requires_grad_(False)
    step.conv.bias.zero_()
    x = torch.arange(1.0, 17.0).view(1, 1, 4, 4)
    for row, column, expected in [(0, 0, [[1, 3], [9, 11]]), (2, 2, [[11, 0], [0, 0]])]:
        step.conv.weight.zero_()
        step.conv.weight[0, 0, row, column] = 1
        assert step(x)[0, 0].tolist() == expected


def test_pixels_reach_from_minus_one_to_one():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    torch.testing.assert_close(to_pixels(images).view(-1), torch.tensor([-1.0, -0.6, 1.0]))


def test_images_keep_their_values_within_one_through_pixels():
    images = torch.arange(256, dtype=torch.uint8).repeat_interleave(3).view(1, 16, 16, 3)
    returned = to_images(to_pixels(images))
    assert returned.shape == images.shape
    loss = images.int() - returned.int()
    assert 0 <= loss.min() <= loss.max() <= 1


def test_pixels_are_cut_off_not_rounded():
    pixels = torch.tensor([-3.0, 0.0, 7.0]).view(1, 3, 1, 1)
    assert to_images(pixels).view(-1).tolist() == [0, 127, 255]


@pytest.mark.parametrize('channels', [6, 1])
def test_channels_that_groups_do_not_divide_are_refused(channels):
    with pytest.raises(CheckpointError, match='norm_groups = 4'):
        replace(CONFIG, ch=channels)


@pytest.mark.parametrize(
    'change',
    [{'norm_groups': 0}, {'ch_mult': ()}, {'ch_mult': (1, 0)}, {'ch': 0}, {'num_res_blocks': -1}],
    ids=str,
)
def test_sizes_that_make_no_network_are_refused(change):
    with pytest.raises(CheckpointError, match='VQ-GAN sizes: expected positive sizes'):
        replace(CONFIG, **change)


def test_the_encoder_gets_contiguous_pixels():
    # left channels-last, convolutions on a CPU round otherwise, and codes differ
    assert to_pixels(random_images(2, 8, 16)).is_contiguous()


def test_reduction_is_two_per_step():
    assert (CONFIG.reduction, VQGANConfig().reduction) == (4, 16)


def test_default_sizes_are_those_of_the_published_network():
    with torch.device('meta'):
        tensors = VQGAN(VQGANConfig()).state_dict()
    assert len(tensors) == 293
    assert sum(t.numel() for t in tensors.values()) == 68_718_467


def flip_rate(network, images, other):
    """Return which share of the codes another arithmetic changes; `other` is entered for it."""
    exact = network.encode(images)
    with other:
        changed = network.encode(images)
    return (changed != exact).float().mean().item()


@contextlib.contextmanager
def tf32(allowed):
    """Allow or forbid TF32 in convolutions and products."""
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, allowed
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=allowed):
            yield
    finally:
        matmul.allow_tf32 = before


def published_network():
    """Return the published image tokenizer where $WORLDVLA_PUBLISHED says so, or one as large."""
    if folder := os.environ.get('WORLDVLA_PUBLISHED'):
        config, tensors = open_vqgan(tokenizer_folder(Path(folder)))
        return read_network(VQGAN(config), tensors, torch.device('cpu'), torch.float32).eval()
    torch.manual_seed(0)
    network = VQGAN(VQGANConfig()).eval().requires_grad_(False)
    latents = network.quant_conv(network.encoder(to_pixels(smooth_images(1))))
    spread, centre = latents.std(), latents.mean()
    network.quantize.embedding.weight.normal_(centre.item(), spread.item())
    return network


def smooth_images(count):
    """Return fixed images with something at every scale: uint8[b, 256, 256, 3]."""
    generator = torch.Generator().manual_seed(2)
    layers = [torch.rand(count, 3, side, side, generator=generator) for side in (4, 16, 64, 256)]
    mixed = sum(functional.interpolate(layer, 256, mode='bilinear') for layer in layers) / 4
    return (255 * mixed).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def test_a_flip_rate_counts_the_codes_that_differ(vqgan):
    @contextlib.contextmanager
    def entries_reversed():
        with torch.no_grad():
            before = vqgan.quantize.embedding.weight.clone()
            vqgan.quantize.embedding.weight.copy_(before.flip(0))
            yield
            vqgan.quantize.embedding.weight.copy_(before)

    images = random_images(2, 16, 16)
    assert flip_rate(vqgan, images, contextlib.nullcontext()) == 0
    assert flip_rate(vqgan, images, entries_reversed()) == 1


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason='no GPU: how many codes TF32 changes is not measured'
)
def test_codes_on_a_gpu_are_those_of_the_cpu_and_tf32_changes_few(record_property):
    network, images = published_network(), smooth_images(4)
    expected = network.encode(images)
    network, images = network.cuda(), images.cuda()
    with tf32(False):
        assert (network.encode(images).cpu() != expected).float().mean() < 0.005
        rate = flip_rate(network, images, tf32(True))
    record_property('tf32_flip_rate', rate)
    warnings.warn(f'TF32 changes {100 * rate:.2f} % of the codes', stacklevel=1)
    assert rate < 0.2
