"""Costs between all pairs of two samples, for discrete plans."""

from __future__ import annotations

import numpy as np
import ot
from numpy.typing import NDArray
from scipy.spatial.distance import cdist


def cost_matrix(x: NDArray[np.float64], y: NDArray[np.float64], exponent: float = 2.0) -> NDArray[np.float64]:
    """Return sum_k |x_ik - y_jk|^p / p for all i and j, shape (n, m), with p = `exponent`; p = 2 is the quadratic cost.

    Args:
        x: shape (n, d).
        y: shape (m, d).
        exponent: p, > 1.
    """
    if exponent == 2:
        return ot.dist(x, y) / 2  # type: ignore[no-any-return]
    return cdist(x, y, "minkowski", p=exponent) ** exponent / exponent
