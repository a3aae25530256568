"""Newton's method for grad psi(x) = y with psi strictly convex: damped, in batches, each sample on its own."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

TOLERANCE = 1e-8
"""Largest |grad psi(x) - y| over sqrt(d): closer, the values that the line search compares differ by rounding."""
STEPS = 100
_HALVINGS = 40
_DECREASE = 1e-4


class Potential(Protocol):
    """What the method asks of psi: values, gradients, and H^-1 r."""

    def potential(self, x: Tensor) -> Tensor:
        """Return psi(x_i), shape (n,)."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return grad psi(x_i), shape (n, d)."""

    def solve(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return Hess psi(x_i)^-1 r_i, shape (n, d)."""


def invert(psi: Potential, y: Tensor, start: Tensor) -> Tensor:
    """Return x with grad psi(x_i) = y_i, the minimisers of psi(x) - <x, y_i>, shape (n, d).

    Steps are halved until they lower that function by Armijo's rule. Samples that are done leave the batch.

    Args:
        psi: strictly convex.
        y: right-hand sides, shape (n, d), float64.
        start: first iterates, shape (n, d).

    Returns:
        The solutions; NaN in rows that have none, or that are not within the tolerance after `STEPS` steps.
    """
    result = torch.full_like(y, math.nan)
    rows, x, y = torch.arange(len(y), device=y.device), start.clone(), y.to(start)
    limit = TOLERANCE * math.sqrt(y.shape[1])
    for _ in range(STEPS):
        residual = psi(x) - y
        norm = torch.linalg.vector_norm(residual, dim=1)
        done = norm <= limit
        result[rows[done]] = x[done]
        left = ~done & norm.isfinite()
        if not bool(left.any()):
            break
        rows, x, y, residual = rows[left], x[left], y[left], residual[left]
        x = _stepped(psi, x, y, residual)
    return result


def _stepped(psi: Potential, x: Tensor, y: Tensor, residual: Tensor) -> Tensor:
    """Return x - t H^-1 r with, for each sample, the first t of 1, 1/2, ... that lowers psi(x) - <x, y> enough."""
    step = psi.solve(x, residual)
    fall = _DECREASE * (step * residual).sum(1)
    value = psi.potential(x) - (x * y).sum(1)
    slack = 16 * torch.finfo(x.dtype).eps * (1 + value.abs())  # near the end, values differ by rounding only
    size = torch.ones_like(value)
    for _ in range(_HALVINGS):
        trial = x - size[:, None] * step
        lower = psi.potential(trial) - (trial * y).sum(1) <= value - size * fall + slack
        if bool(lower.all()):
            break
        size = torch.where(lower, size, size / 2)
    return trial
