"""Images are encoded once, those of one size together, and told apart by content."""

import numpy as np
import pytest
import torch

from worldvla_ros.errors import MemoryLimitError
from worldvla_ros.inference.image_codes import REMEMBERED, ImageCodes


@pytest.fixture
def batches():
    return []


@pytest.fixture
def images(tiny_checkpoint, batches, monkeypatch):
    encode = type(tiny_checkpoint.vqgan).encode

    def recorded(vqgan, batch):
        batches.append(len(batch))
        return encode(vqgan, batch)

    monkeypatch.setattr(type(tiny_checkpoint.vqgan), 'encode', recorded)
    return ImageCodes(tiny_checkpoint.vqgan, 32, torch.device('cpu'))


def picture(seed, size=(32, 32)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def test_an_image_is_encoded_once(images, batches):
    first = images.encode([picture(0)])[0]
    again = images.encode([picture(0), picture(0)])
    assert batches == [1]
    np.testing.assert_array_equal(again, [first, first])


def test_images_of_one_size_are_encoded_together(images, batches):
    together = images.encode([picture(0), picture(1), picture(0)])
    assert batches == [2]
    alone = [images.encode([picture(s)])[0] for s in (0, 1, 0)]
    np.testing.assert_array_equal(together, alone)
    assert batches == [2]


def test_images_of_several_shapes_are_told_apart(images, batches):
    wide, square = images.encode([picture(0, (16, 64)), picture(0)])
    assert wide.shape == (2, 8)
    assert square.shape == (4, 4)
    assert batches == [1, 1]


def test_one_changed_pixel_is_another_image(images, batches):
    changed = picture(0)
    images.encode([changed.copy()])
    changed[0, 0, 0] ^= 1
    images.encode([changed])
    assert batches == [1, 1]


def test_codes_that_are_given_out_may_be_written_to(images):
    first = images.encode([picture(0)])[0]
    kept = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(images.encode([picture(0)])[0], kept)


def test_only_the_newest_images_are_remembered(images, batches):
    for seed in range(REMEMBERED + 1):
        images.encode([picture(seed)])
    images.encode([picture(REMEMBERED), picture(1)])
    assert len(batches) == REMEMBERED + 1
    images.encode([picture(0)])
    assert len(batches) == REMEMBERED + 2


def test_more_images_at_once_than_are_remembered_are_all_encoded(images):
    count = REMEMBERED + 5
    assert len(images.encode([picture(seed) for seed in range(count)])) == count


def test_decoding_keeps_the_leading_dimensions(images):
    codes = np.random.default_rng(0).integers(0, 24, (2, 3, 4, 4))
    decoded = images.decode(codes)
    assert decoded.shape == (2, 3, 32, 32, 3)
    np.testing.assert_array_equal(decoded[1, 2], images.decode(codes[1, 2]))


def test_a_shortage_of_memory_is_explained(images, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError('tried to allocate')

    monkeypatch.setattr(type(images._vqgan), 'encode', fail)
    with pytest.raises(MemoryLimitError, match='encoding images'):
        images.encode([picture(0)])
