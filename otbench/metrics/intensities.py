"""How alike the colours of two pictures are, channel by channel; and whether a picture was made rougher.

All take pictures of 8-bit levels, shape (height, width, 3), and the histograms of their channels with 256 bins, one for
each level. None sees how channels belong together: a picture may have all three histograms right and none of its
colours. The energy distance in R^3 does (`otbench.ops.energy`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from otbench.ops.colours import LEVELS

Levels = NDArray[np.uint8]
Shares = NDArray[np.float64]


def histograms(picture: Levels) -> Shares:
    """Return the share of pixels at each level of each channel, shape (3, 256), of a picture (height, width, 3)."""
    pixels = picture.reshape(-1, 3)
    return np.stack([np.bincount(pixels[:, k], minlength=LEVELS) for k in range(3)]) / len(pixels)


def intensity_w1(one: Shares, other: Shares) -> float:
    """Return the mean over channels of the Wasserstein-1 distance of intensities in [0, 1] (shapes (3, 256)).

    With 256 bins it is at least (1 - intersection) / 255.
    """
    return float(np.abs(np.cumsum(one - other, axis=1)).sum(1).mean() / (LEVELS - 1))


def intersection(one: Shares, other: Shares) -> float:
    """Return the mean over channels of the histogram intersection sum_b min(p_b, q_b), in [0, 1], 1 where equal."""
    return float(np.minimum(one, other).sum(1).mean())


def height_distance(one: Shares, other: Shares) -> float:
    """Return the mean over channels of the Wasserstein-1 distance between the *heights* of the bins, as two samples.

    It does not ask which bin has which height: a picture and its negative are at distance 0. Published as "EMD".
    """
    return float(np.mean([wasserstein_distance(*rows) for rows in zip(one, other, strict=True)]))


def total_variation(picture: NDArray[np.float64]) -> float:
    """Return the mean over all pairs of neighbouring pixels of the absolute difference, summed over channels."""
    steps = [np.abs(np.diff(picture, axis=axis)) for axis in (0, 1)]
    pairs = sum(step.size for step in steps) / picture.shape[2]
    return float(sum(step.sum() for step in steps) / pairs) if pairs else 0.0
