"""An observation that a model must never see is not made, and says what is wrong."""

import numpy as np
import pytest

from worldvla_ros.errors import InstructionError, ObservationError
from worldvla_ros.observation import (
    MAX_IMAGE_ASPECT,
    MAX_INSTRUCTION_CHARACTERS,
    EncodedObservation,
    Observation,
)
from worldvla_ros.tokenizers.image import fit_image

IMAGE = np.zeros((4, 4, 3), np.uint8)


def absurd(height, width):
    """Return an image of any size that takes no memory."""
    return np.broadcast_to(np.zeros(3, np.uint8), (height, width, 3))


@pytest.mark.parametrize('shape', [(0, 4, 3), (4, 0, 3), (4, 4), (4, 4, 4), (0, 0, 3)])
def test_empty_or_colourless_image_is_refused(shape):
    with pytest.raises(ObservationError, match="camera 'front' cannot be used: expected uint8"):
        Observation({'front': np.zeros(shape, np.uint8)})


@pytest.mark.parametrize(
    'image', [np.zeros((4, 4, 3)), None, [[0]]], ids=['floats', 'None', 'list']
)
def test_what_is_no_array_of_bytes_is_refused(image):
    with pytest.raises(ObservationError, match='expected uint8'):
        Observation({'front': image})


def test_images_of_the_past_are_validated_too():
    with pytest.raises(ObservationError, match="camera 'old'"):
        Observation({'front': IMAGE}, history=({'old': IMAGE[0]},))


@pytest.mark.parametrize(
    'size',
    [(1, 1_000_000), (300_000, 1), (1, MAX_IMAGE_ASPECT + 1), (8193, 8192), (30_000, 30_000)],
)
def test_an_absurd_size_is_refused_before_anything_is_scaled(size):
    with pytest.raises(ObservationError, match='times the other, got') as caught:
        Observation({'front': absurd(*size)})
    assert f'{size[1]} × {size[0]} pixels' in caught.value.got
    assert caught.value.remedy


@pytest.mark.parametrize('size', [(1, 1), (1, MAX_IMAGE_ASPECT), (8192, 8192), (6000, 8000)])
def test_large_and_long_images_are_accepted(size):
    Observation({'front': absurd(*size)})


def test_scaling_the_longest_image_takes_little_memory(monkeypatch):
    from PIL import Image

    sizes, resize = [], Image.Image.resize

    def recorded(picture, size, *rest):
        sizes.append(size)
        return resize(picture, size, *rest)

    monkeypatch.setattr(Image.Image, 'resize', recorded)
    for shape in ((1, MAX_IMAGE_ASPECT), (MAX_IMAGE_ASPECT, 1)):
        image = Observation({'front': absurd(*shape)}).images['front']
        fit_image(np.array(image), 512, 32)
    assert sizes
    assert max(width * height for width, height in sizes) * 3 < 50e6


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_state_that_is_not_finite_is_refused(value):
    state = np.where(np.arange(7) == 3, value, 0.0)
    with pytest.raises(ObservationError, match='state is not finite'):
        Observation({'front': IMAGE}, state=state)


@pytest.mark.parametrize('state', [np.array(['a']), np.array([None]), [0.0]], ids=str)
def test_state_that_is_no_array_of_numbers_is_refused(state):
    with pytest.raises(ObservationError, match='an array of finite numbers'):
        Observation({'front': IMAGE}, state=state)


def test_instruction_is_kept_without_surrounding_white_space():
    assert Observation({'front': IMAGE}, '  pick it up\n').instruction == 'pick it up'


@pytest.mark.parametrize('length', [10_000, MAX_INSTRUCTION_CHARACTERS + 1])
def test_long_instruction_is_refused(length):
    with pytest.raises(InstructionError, match=f'too long.*got {length}'):
        Observation({'front': IMAGE}, 'x' * length)


def test_instruction_that_is_no_text_is_refused():
    with pytest.raises(InstructionError, match='no valid Unicode'):
        Observation({'front': IMAGE}, 'go \ud800')


@pytest.mark.parametrize(
    'codes',
    [np.zeros((4, 4)), np.zeros((3, 4), int), np.zeros((0, 4), int), np.zeros(4, int), None],
    ids=['floats', 'odd', 'empty', 'flat', 'None'],
)
def test_codes_that_are_no_image_are_refused(codes):
    with pytest.raises(ObservationError, match="image codes of camera 'front' cannot be used"):
        EncodedObservation({'front': codes})


def test_an_encoded_observation_is_validated_like_any_other():
    codes = {'front': np.zeros((4, 4), np.uint16)}
    with pytest.raises(ObservationError, match='state is not finite'):
        EncodedObservation(codes, state=np.array([np.nan]))
    with pytest.raises(InstructionError, match='too long'):
        EncodedObservation(codes, 'x' * 10_000)
    with pytest.raises(ObservationError, match="camera 'front'"):
        EncodedObservation(codes, history=({'front': np.zeros((4, 5), int)},))
