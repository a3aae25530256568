"""Squared Wasserstein-2 distances of projections: what the sliced distance is a mean of, as a metric and as a loss."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_directions(count: int, dim: int, generator: torch.Generator) -> Tensor:
    """Return `count` directions, uniform on the sphere, shape (count, dim), float64, on the generator's device."""
    drawn = torch.randn(count, dim, generator=generator, dtype=torch.float64, device=generator.device)
    return torch.nn.functional.normalize(drawn)


def projected_w2_squared(x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
    """Return W2^2 of both samples' projections on each direction, shape (p,), float64, squared data units.

    On a line the optimal coupling is that of the quantile functions. Both are piecewise constant, with steps at i/n and
    j/m whatever the data are, so the pieces are found once for all directions. Differentiable. Extra memory is
    O(p (n + m)).

    Args:
        x: first sample, shape (n, d).
        y: second sample, shape (m, d), dtype and device of `x`.
        directions: unit vectors, shape (p, d), dtype and device of `x`.
    """
    n, m = len(x), len(y)
    left, right = (directions @ x.T).sort(1).values, (directions @ y.T).sort(1).values
    if n == m:
        return (left - right).square().double().mean(1)
    # In units of 1 / (n m) the steps are whole numbers.
    ends = torch.cat((torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n)).unique()  # type: ignore[no-untyped-call]
    weights = (ends.diff(prepend=ends.new_zeros(1)).double() / (n * m)).to(x.device)
    rows, columns = (((ends - 1) // size).to(x.device) for size in (m, n))
    return torch.mv((left[:, rows] - right[:, columns]).square().double(), weights)
