"""Figures of merit against known values."""

import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from worldvla_ros.metrics import (
    COVARIANCE_RIDGE,
    SSIM_SIGMA,
    SSIM_STABILITY,
    SSIM_WINDOW,
    changed_pixels,
    frechet_distance,
    pooled_psnr,
    psnr,
    ssim,
    wilson_interval,
)


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
    after[0, 0, 1] += 24
    after[1, 2, 2] += 25
    after[3, 5, 0] -= 25
    found = changed_pixels(before, after)
    assert found.shape == (4, 6)
    assert np.argwhere(found).tolist() == [[1, 2], [3, 5]]


def test_published_figures_were_taken_with_these_numbers():
    assert (SSIM_WINDOW, SSIM_SIGMA) == (11, 1.5)
    assert pytest.approx((6.5025, 58.5225)) == SSIM_STABILITY
    assert COVARIANCE_RIDGE == 1e-6


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


def window():
    """Return the 11 × 11 Gaussian of σ 1.5, written out."""
    weights = np.array(
        [[math.exp(-(x * x + y * y) / 4.5) for x in range(-5, 6)] for y in range(-5, 6)]
    )
    return weights / weights.sum()


def ssim_of_window(x, y):
    """Return the index of one 11 × 11 window of one channel, as the paper writes it."""
    w = window()
    mean_x, mean_y = (w * x).sum(), (w * y).sum()
    var_x, var_y = (w * (x - mean_x) ** 2).sum(), (w * (y - mean_y) ** 2).sum()
    cov = (w * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = 6.5025, 58.5225
    return ((2 * mean_x * mean_y + c1) * (2 * cov + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )


class TestSsim:
    def test_equal_images_have_1(self, picture):
        assert ssim(picture, picture.copy()) == pytest.approx(1)

    @pytest.mark.parametrize(('one', 'other'), [(0, 255), (100, 110), (7, 8)])
    def test_of_flat_images_only_luminance_counts(self, one, other):
        wanted = (2 * one * other + 6.5025) / (one**2 + other**2 + 6.5025)
        assert ssim(flat(one, 12, 15), flat(other, 12, 15)) == pytest.approx(wanted)

    def test_of_one_window_is_the_formula(self):
        rng = np.random.default_rng(3)
        x, y = rng.integers(0, 256, (2, 11, 11, 3), dtype=np.uint8)
        wanted = np.mean([ssim_of_window(x[..., c].astype(float), y[..., c]) for c in range(3)])
        assert ssim(x, y) == pytest.approx(wanted)

    def test_is_the_mean_over_all_windows_inside(self):
        rng = np.random.default_rng(4)
        x, y = rng.integers(0, 256, (2, 13, 14, 3), dtype=np.uint8)
        found = [
            ssim(x[r : r + 11, c : c + 11], y[r : r + 11, c : c + 11])
            for r in range(3) for c in range(4)
        ]  # fmt: skip
        assert ssim(x, y) == pytest.approx(np.mean(found))

    def test_a_negative_is_unlike_and_noise_lies_between(self, picture):
        noisy = np.clip(picture.astype(int) + 30, 0, 255).astype(np.uint8)
        assert ssim(picture, 255 - picture) < 0 < ssim(picture, noisy) < 1

    def test_is_the_same_both_ways(self, picture):
        assert ssim(picture, 255 - picture) == pytest.approx(ssim(255 - picture, picture))

    @pytest.mark.parametrize('shape', [(10, 20, 3), (20, 10, 3)])
    def test_images_smaller_than_the_window_are_refused(self, shape):
        with pytest.raises(ValueError, match='at least 11 px'):
            ssim(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))

    def test_images_of_other_shapes_are_refused(self, picture):
        with pytest.raises(ValueError, match='equal shapes'):
            ssim(picture, picture[:-1])


class TestFrechetDistance:
    features = np.random.default_rng(5).normal(size=(40, 3))

    def test_of_a_set_and_itself_is_zero(self):
        assert frechet_distance(self.features, self.features) == pytest.approx(0, abs=1e-9)

    def test_of_a_shifted_set_is_the_square_of_the_shift(self):
        assert frechet_distance(self.features, self.features + [3, 0, 4]) == pytest.approx(25)

    def test_of_numbers_is_that_of_two_bell_curves(self):
        one, other = np.array([[0.0], [2.0]]), np.array([[1.0], [9.0]])
        assert frechet_distance(one, other) == pytest.approx((5 - 1) ** 2 + (4 - 1) ** 2, rel=1e-5)

    def test_of_covariances_that_do_not_commute_is_that_of_the_matrix_root(self):
        other = self.features @ np.array([[1, 2, 0], [0, 1, 0.5], [0.3, 0, 2]])
        first, second = (np.cov(f.T, bias=True) + 1e-6 * np.eye(3) for f in (self.features, other))
        values, vectors = np.linalg.eig(first @ second)
        root = vectors @ np.diag(np.sqrt(values)) @ np.linalg.inv(vectors)
        np.testing.assert_allclose(root @ root, first @ second)
        wanted = np.square(self.features.mean(0) - other.mean(0)).sum()
        wanted += np.trace(first + second - 2 * root)
        assert frechet_distance(self.features, other) == pytest.approx(wanted)
        assert frechet_distance(other, self.features) == pytest.approx(wanted)

    def test_fewer_rows_than_numbers_give_a_finite_distance(self):
        rng = np.random.default_rng(6)
        found = frechet_distance(rng.normal(size=(3, 50)), rng.normal(size=(4, 50)))
        assert 0 < found < math.inf

    def test_one_row_is_refused(self):
        with pytest.raises(ValueError, match='two rows or more, got 40 and 1'):
            frechet_distance(self.features, self.features[:1])
