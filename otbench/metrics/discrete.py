"""The exact discrete plan between two samples: the cost that a map between them is held against."""

from __future__ import annotations

import warnings

import ot
from torch import Tensor

from otbench.ops.cost_matrix import cost_matrix


def plan_cost(x: Tensor, y: Tensor, exponent: float = 2.0) -> float:
    """Return the cost of the exact plan between two samples of uniform weights: E sum_k |x_k - y_k|^p / p.

    By the network simplex of POT, in float64: time grows as n^3, memory as 8 n m bytes. Of finite samples it is below
    the cost between their distributions where these are close, and in many dimensions above it.

    Args:
        x: first sample, shape (n, *shape).
        y: second sample, shape (m, *shape).
        exponent: p of the cost; 2 is the quadratic cost, |x - y|^2 / 2.

    Raises:
        UserWarning: the simplex did not end at the optimum.
    """
    rows, columns = (side.detach().cpu().double().flatten(1).numpy() for side in (x, y))
    matrix = cost_matrix(rows, columns, exponent)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a plan that has not converged must not become the reference
        return float(ot.emd2(ot.unif(len(x)), ot.unif(len(y)), matrix, numItermax=10_000_000))
