"""Scores of a map against the exact one: unexplained variance (UVP) and cosine of displacements.

All sums run in float64 whatever the dtype of the points.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def uvp(mapped: Tensor, exact: Tensor, total_variance: float) -> float:
    """Return the unexplained variance percentage, 100 E|T(x) - T*(x)|^2 / Var(nu), in %.

    0 = the exact map; 100 = the best constant map. Korotin et al., Wasserstein-2 benchmark, NeurIPS 2021, eq. (12).

    Args:
        mapped: T(x_i), shape (n, *shape), any floating dtype.
        exact: T*(x_i), same shape.
        total_variance: Var(nu) = E|y - E y|^2, the trace of the covariance of the measure mapped onto, > 0.
    """
    return 100.0 * mean_square(_double(mapped) - _double(exact)) / total_variance


def cosine(x: Tensor, mapped: Tensor, exact: Tensor) -> float | None:
    """Return E<T(x)-x, T*(x)-x> / sqrt(E|T(x)-x|^2 E|T*(x)-x|^2), a pure number in [-1, 1].

    Args:
        x: points, shape (n, *shape), any floating dtype.
        mapped: T(x_i), same shape.
        exact: T*(x_i), same shape.

    Returns:
        The cosine; None where one of the two maps moves nothing, so that it is 0/0.
    """
    x = _double(x)
    ours, theirs = _double(mapped) - x, _double(exact) - x
    norm = math.sqrt(mean_square(ours)) * math.sqrt(mean_square(theirs))
    if norm == 0.0:
        return None
    return float((ours * theirs).sum(1).mean()) / norm


def mean_square(x: Tensor) -> float:
    """Return E|x_i|^2 for `x` of shape (n, *shape), summed in float64."""
    return float(_double(x).square().sum(1).mean())


def _double(x: Tensor) -> Tensor:
    """Return `x` as (n, d), float64, on the CPU (some devices have no float64)."""
    return x.detach().flatten(1).to("cpu", torch.float64)
