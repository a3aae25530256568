"""Histogram scores of pictures: known values, the bound between two of them, and what each of them cannot see."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from otbench.metrics.intensities import (
    height_distance,
    histograms,
    intensity_w1,
    intersection,
    total_variation,
)


def picture(seed: int = 0, low: int = 0, high: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (20, 30, 3), dtype=np.uint8)


def test_a_shift_of_intensities_is_its_w1() -> None:
    one = picture()
    assert intensity_w1(histograms(one), histograms(one + 51)) == pytest.approx(0.2)
    other = picture(1, 30, 255)
    expected = np.mean([wasserstein_distance(one[..., k].ravel() / 255, other[..., k].ravel() / 255) for k in range(3)])
    assert intensity_w1(histograms(one), histograms(other)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_w1_is_at_least_what_the_intersection_leaves(seed: int) -> None:
    one, other = histograms(picture(seed)), histograms(picture(seed + 10, 20, 255))
    assert intensity_w1(one, other) >= (1 - intersection(one, other)) / 255


def test_intersection_is_the_share_of_equal_pixels_per_channel() -> None:
    one, other = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    assert intersection(histograms(one), histograms(other)) == 1
    other[0, 0] = (9, 0, 0)  # a quarter of one channel
    assert intersection(histograms(one), histograms(other)) == pytest.approx(1 - 0.25 / 3)
    assert intersection(histograms(one), histograms(one + 1)) == 0


def test_heights_do_not_see_where_a_bin_lies() -> None:
    one = picture()
    assert height_distance(histograms(one), histograms(255 - one)) == 0
    assert intensity_w1(histograms(one), histograms(255 - one)) > 0.1
    flat, point = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2), np.zeros((16, 16, 3), np.uint8)
    # heights 1/256 in all bins, against one bin of height 1
    assert height_distance(histograms(flat), histograms(point)) == pytest.approx(2 * 255 / 256**2)


def test_total_variation_counts_steps_between_neighbours() -> None:
    flat = np.full((4, 5, 3), 0.3)
    assert total_variation(flat) == 0
    stripes = flat.copy()
    stripes[:, ::2] += 0.5  # 16 pairs of 31 differ, in three channels
    assert total_variation(stripes) == pytest.approx(16 * 3 * 0.5 / 31)
    assert total_variation(0.5 * stripes) == pytest.approx(total_variation(stripes) / 2)
    assert total_variation(np.zeros((1, 1, 3))) == 0
