"""Which coordinates of a cloud are worth drawing: those that look least like a normal."""

from __future__ import annotations

import itertools
import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

_PAIRS, _MARGINALS = 3, 8
"""Coordinate pairs and coordinates chosen at most."""
_SCREENED, _JUDGED = 48, 250
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


def telling(data: Floats) -> tuple[list[tuple[int, int]], list[int]]:
    """Return the coordinate pairs and the coordinates of `data` that look least like a normal.

    What a linear map gets right is a normal with the moments of the data; so these show the most. Each pair is scored
    after its own whitening, and pairs share a coordinate only where there are no others. Coordinates that hold one
    value only are left out.

    Args:
        data: points, shape (n, d).
    """
    points = data[spaced(len(data), _JUDGED)]
    z = np.clip(points, *np.quantile(points, INSIDE, axis=0))  # a few far points must not decide
    spread = z.std(0)
    moving = np.flatnonzero(spread > 1e-12 * (1 + np.abs(z).max(0)))
    if len(points) < 3 or not len(moving):
        return [], []
    z = (z - z.mean(0)) / np.where(spread > 0, spread, 1)
    alone = {int(k): non_gaussianity(z[:, [k]]) for k in moving}
    ordered = sorted(alone, key=lambda k: (-alone[k], k))
    some = sorted(ordered[:_SCREENED])
    scores = {pair: non_gaussianity(_white(z[:, pair])) for pair in itertools.combinations(some, 2)}
    ranked = sorted(scores, key=lambda pair: (-scores[pair], pair))
    pairs: list[tuple[int, int]] = []
    while ranked and len(pairs) < _PAIRS:
        used = {k for pair in pairs for k in pair}
        pairs.append(next((pair for pair in ranked if not used & set(pair)), ranked[0]))
        ranked.remove(pairs[-1])
    return pairs, sorted(ordered[:_MARGINALS])


def spaced(count: int, most: int) -> NDArray[np.int64]:
    """Return `most` indices below `count`, evenly spaced; all of them if there are no more."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _white(z: Floats) -> Floats:
    """Return two standardised coordinates without their correlation, as far as the eye can see it in a plot."""
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    white: Floats = z @ vectors / np.sqrt(np.maximum(values, 0.05))
    return white
