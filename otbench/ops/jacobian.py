"""Exact Jacobians of maps that treat each point by itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return f(x), shape (n, d), and its Jacobians, shape (n, d, d), entry (i, j) = df_i / dx_j, both without a graph.

    One forward pass, and one backward pass per coordinate.

    Args:
        function: a differentiable map from (n, d) to (n, d); each image depends on its own point.
        x: points, shape (n, d).
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        moved = function(x)
        d = moved.shape[1]
        rows = [torch.autograd.grad(moved[:, i].sum(), x, retain_graph=i < d - 1)[0] for i in range(d)]
    return moved.detach(), torch.stack(rows, 1)


def solved_with_derivative(function: Callable[[Tensor], Tensor], y: Tensor, near: Tensor) -> Tensor:
    """Return w with f(w) = y, shape (n, d), differentiable in `y`, from an approximate solution.

    Two steps of Newton's method take it to rounding; by the implicit function theorem the last one has the derivative.

    Args:
        function: f, as in `jacobian`.
        y: right-hand sides, shape (n, d).
        near: approximate solutions, shape (n, d).
    """
    for _ in range(2):
        back, slope = jacobian(function, near.detach())
        near = near.detach() + torch.linalg.solve(slope, (y - back).unsqueeze(2)).squeeze(2)
    return near
