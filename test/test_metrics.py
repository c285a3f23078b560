"""Figures of merit against known values."""

import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from worldvla_ros.metrics import CHANGED_LEVELS, changed_pixels, pooled_psnr, psnr, wilson_interval


def flat(level, height=4, width=6):
    return np.full((height, width, 3), level, np.uint8)


def test_equal_images_have_infinite_psnr(picture):
    assert psnr(picture, picture.copy()) == math.inf


@pytest.mark.parametrize(
    ('level', 'expected'), [(1, 48.1308), (5, 34.1514), (16, 24.0484), (255, 0.0)]
)
def test_psnr_of_a_uniform_difference_is_known(level, expected):
    assert psnr(flat(0), flat(level)) == pytest.approx(expected, abs=1e-4)
    assert psnr(flat(level), flat(0)) == pytest.approx(expected, abs=1e-4)


def test_psnr_is_of_the_mean_square():
    other = flat(0, 2, 2)
    other[0, 0] = 10
    assert psnr(flat(0, 2, 2), other) == pytest.approx(10 * math.log10(255**2 / 25))


def test_psnr_looks_at_masked_pixels_only(picture):
    other, mask = picture.copy(), np.zeros(picture.shape[:2], bool)
    other[:10] = picture[:10] ^ 1
    mask[10:] = True
    assert psnr(picture, other, mask) == math.inf
    assert psnr(picture, other, ~mask) == pytest.approx(48.1308, abs=1e-4)


def test_psnr_of_no_pixel_is_nan(picture):
    assert math.isnan(psnr(picture, 255 - picture, np.zeros(picture.shape[:2], bool)))


def test_a_pixel_changes_when_one_channel_differs_by_more_than_the_limit():
    before, after = flat(100), flat(100)
    after[0, 0, 1] += CHANGED_LEVELS
    after[1, 2, 2] += CHANGED_LEVELS + 1
    after[3, 5, 0] -= CHANGED_LEVELS + 1
    found = changed_pixels(before, after)
    assert found.shape == (4, 6)
    assert np.argwhere(found).tolist() == [[1, 2], [3, 5]]


def test_differences_do_not_wrap_around():
    assert changed_pixels(flat(250), flat(2)).all()


def test_pooled_psnr_is_of_all_errors_together():
    small, large = np.full((3, 3), 1.0), np.full(1, 91.0)
    assert pooled_psnr([small, large]) == pytest.approx(10 * math.log10(255**2 / 10))
    assert pooled_psnr([small]) == pytest.approx(48.1308, abs=1e-4)


@pytest.mark.parametrize('errors', [[], [np.zeros(0), np.zeros(0)]])
def test_pooled_psnr_of_nothing_is_nan(errors):
    assert math.isnan(pooled_psnr(errors))


@pytest.mark.parametrize(
    ('successes', 'trials', 'low', 'high'),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_known(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_the_rate_and_mirrors(counts):
    successes, trials = counts
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= high <= 1
    assert low - 1e-12 <= successes / trials <= high + 1e-12
    mirrored = wilson_interval(trials - successes, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_more_confidence_makes_a_wider_interval():
    (low, high), (lower, higher) = wilson_interval(7, 10), wilson_interval(7, 10, z=2.576)
    assert lower < low < high < higher


@pytest.mark.parametrize(('successes', 'trials'), [(0, 0), (3, 2), (-1, 5)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ValueError, match=f'got {successes} of {trials}'):
        wilson_interval(successes, trials)
