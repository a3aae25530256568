"""Which coordinates of a cloud are worth drawing: those that look least like a normal, alone or in pairs."""

from __future__ import annotations

import itertools
import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

_PAIRS, _MARGINALS = 3, 8
"""Coordinate pairs and coordinates chosen at most."""
_SCREENED, _JUDGED = 64, 300
"""Coordinates and points that the choice of pairs looks at."""
INSIDE = (0.005, 0.995)
"""Quantiles of the data beyond which points are few and far: they set neither a choice nor the limits of an axis."""


def non_gaussianity(z: Floats) -> float:
    """Return the energy distance between points and a standard normal (Szekely and Rizzo's test of normality).

    Args:
        z: points of mean 0 and covariance 1, shape (n, d), n >= 2.

    Returns:
        2 E|z - N| - E|N - N'| - E|z - z'|: about 0 for a normal, up to the noise of n points.
    """
    from scipy.spatial.distance import pdist
    from scipy.special import gammaln, hyp1f1

    d = z.shape[1]
    ratio = math.exp(float(gammaln((d + 1) / 2) - gammaln(d / 2)))
    to_normal = math.sqrt(2) * ratio * hyp1f1(-0.5, d / 2, -0.5 * (z**2).sum(1)).mean()
    return float(2 * to_normal - 2 * ratio - pdist(z).mean())


def telling_coordinates(data: Floats) -> list[int]:
    """Return the coordinates of `data`, shape (n, d), that look least like a normal of their mean and variance.

    Those show what a linear map cannot get right. Coordinates that hold one value only are left out.
    """
    z = data[spaced(len(data), _JUDGED)]
    z = np.clip(z, *np.quantile(z, INSIDE, axis=0))  # a few far points must not decide
    moving = _moving(z)
    z[:, moving] = (z[:, moving] - z[:, moving].mean(0)) / z[:, moving].std(0)
    scores = {k: non_gaussianity(z[:, [k]]) for k in moving}
    return sorted(sorted(scores, key=lambda k: (-scores[k], k))[:_MARGINALS])


def telling_pairs(data: Floats) -> list[tuple[int, int]]:
    """Return the pairs of coordinates of `data`, shape (n, d), that depend on each other least like a normal.

    Coordinates are first made normal one by one, by their ranks: what is odd about a single coordinate is not counted.
    What is left, after whitening, is the part of their dependence that no correlation says. Pairs share a coordinate
    only where there are no others.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    points = data[spaced(len(data), _JUDGED)]
    moving = _moving(points)
    if len(moving) > _SCREENED:
        moving = sorted(sorted(moving, key=lambda k: (-points[:, k].var(), k))[:_SCREENED])
    if len(moving) < 2:
        return []
    z: Floats = ndtri((rankdata(points, axis=0) - 0.5) / len(points))
    z /= np.where(z.std(0) > 0, z.std(0), 1)
    scores = {pair: _dependence(z[:, pair]) for pair in itertools.combinations(moving, 2)}
    ranked = sorted(scores, key=lambda pair: (-scores[pair], pair))
    pairs: list[tuple[int, int]] = []
    while ranked and len(pairs) < _PAIRS:
        used = {k for pair in pairs for k in pair}
        pairs.append(next((pair for pair in ranked if not used & set(pair)), ranked[0]))
        ranked.remove(pairs[-1])
    return pairs


def _moving(points: Floats) -> list[int]:
    """Return the coordinates that hold more than one value, beyond rounding; none of fewer than three points."""
    if len(points) < 3:
        return []
    return [int(k) for k in np.flatnonzero(points.std(0) > 1e-9 * (1e-30 + np.abs(points).max(0)))]


def spaced(count: int, most: int) -> NDArray[np.int64]:
    """Return `most` indices below `count`, evenly spaced; all of them if there are no more."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _dependence(z: Floats) -> float:
    """Return how far two standardised coordinates are from a normal once their correlation is taken out.

    Where the correlation is so strong that a plot shows a line, what is left counts by as much as can be seen of it.
    """
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    white: Floats = z @ vectors / np.sqrt(np.maximum(values, 1e-9))
    return non_gaussianity(white) * min(1.0, max(float(values[0]), 0.0) / 0.05)
