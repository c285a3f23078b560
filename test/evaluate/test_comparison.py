"""Comparisons of imagined with observed images: which images, and figures of what changed."""

from dataclasses import replace
import json

import numpy as np
import pytest

from worldvla_ros.data.episodes import Episode
from worldvla_ros.errors import ConfigError, ObservationError
from worldvla_ros.evaluate.comparison import Comparison, compare, compare_views
from worldvla_ros.observation import Observation
from worldvla_ros.world_model import WorldModel


@pytest.fixture(scope='module')
def world(tiny_checkpoint):
    return WorldModel(tiny_checkpoint)


@pytest.fixture(scope='module')
def episode():
    """Ten steps of a bright square that wanders over a dim, random ground."""
    images = np.random.default_rng(1).integers(0, 100, (1, 128, 128, 3), dtype=np.uint8)
    images = np.repeat(images, 11, axis=0)
    for step, image in enumerate(images):
        image[40:70, 10 * step : 10 * step + 30] = 240
    actions = np.zeros((10, 7), np.float32)
    return Episode(
        {'front': images}, np.zeros((11, 7), np.float32), actions, actions,
        task='pick', instruction='pick up the red cube', seed=0, success=True,
    )  # fmt: skip


def test_each_image_has_its_observed_and_reconstructed_one(world, episode):
    made = compare(world, episode, 3, 7)
    assert made.actions_ahead == (2, 4, 6)
    assert made.start.shape == (32, 32, 3)
    for images in (made.observed, made.imagined, made.reconstructed):
        assert images.shape == (3, 32, 32, 3)
        assert images.dtype == np.uint8


def test_observed_images_are_those_of_the_episode(world, episode):
    made = compare(world, episode, 3, 4)
    halved = [
        episode.images['front'][step].reshape(32, 4, 32, 4, 3).mean((1, 3)) for step in (3, 5, 7)
    ]
    for image, wanted in zip((made.start, *made.observed), halved, strict=True):
        assert np.abs(image - wanted).max() < 3


def test_every_camera_has_a_comparison_of_its_own(tiny_checkpoint, episode):
    both = replace(tiny_checkpoint, spec=replace(tiny_checkpoint.spec, cameras=('front', 'wrist')))
    dark = {'front': episode.images['front'], 'wrist': episode.images['front'] // 2}
    found = compare_views(WorldModel(both), replace(episode, images=dark), 3, 4)
    assert list(found) == ['front', 'wrist']
    half = found['front'].observed.astype(float) / 2
    assert np.abs(found['wrist'].observed - half).max() < 3
    imagined = WorldModel(both).imagine_views(
        Observation({name: images[3] for name, images in dark.items()}), np.zeros((4, 7))
    )
    for camera, made in found.items():
        np.testing.assert_array_equal(made.imagined, imagined[camera])
        assert made.actions_ahead == (2, 4)


def test_later_starts_compare_later_images(world, episode):
    first, second = compare(world, episode, 0, 4), compare(world, episode, 2, 2)
    np.testing.assert_array_equal(first.observed[0], second.start)
    np.testing.assert_array_equal(first.observed[1], second.observed[0])


def test_an_episode_too_short_is_refused(world, episode):
    with pytest.raises(ObservationError, match='at least 2 finite actions'):
        compare(world, episode, episode.length - 1, 4)


@pytest.mark.parametrize('start', [-1, 10, 100_000])
def test_a_step_that_the_episode_lacks_is_refused(world, episode, start):
    with pytest.raises(ConfigError, match=rf'start: expected a step in 0 … 9, got {start}'):
        compare(world, episode, start, 4)


@pytest.mark.parametrize('ahead', [0, -4])
def test_looking_ahead_by_nothing_is_refused(world, episode, ahead):
    with pytest.raises(ConfigError, match='ahead: expected at least 1 action'):
        compare(world, episode, 0, ahead)


def test_figures_look_at_what_changed():
    start, observed = np.zeros((2, 4, 4, 3), np.uint8)
    observed[:2] = 100
    imagined, reconstructed = observed - np.uint8(90), observed.copy()
    imagined[:2] = 99
    made = Comparison(start, observed[None], imagined[None], reconstructed[None], (5,))
    assert made.figures() == [
        {
            'actions_ahead': 5,
            'changed_share': 0.5,
            'psnr_imagined': 48.131,
            'psnr_nothing_moves': 8.131,
            'psnr_reconstructed': None,
        }
    ]


def test_figures_are_plain_values_for_json(world, episode):
    rows = json.loads(json.dumps(compare(world, episode, 0, 4).figures()))
    assert [row['actions_ahead'] for row in rows] == [2, 4]
    assert all(0 <= row['changed_share'] <= 1 for row in rows)


def test_an_episode_without_the_camera_is_refused(world, episode):
    other = replace(episode, images={'wrist': episode.images['front']})
    with pytest.raises(ObservationError, match="camera 'front' is missing"):
        compare(world, other, 0, 4)
