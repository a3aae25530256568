r"""Minimising $h(y) = g(y) + |z - y|^2 / 2$ sample by sample for any g, from the best of a sample of points on.

Where Hess g falls below -I, h has stationary points that are no minima, and minima at infinity. A dual loss that is
given such points has no lower bound; the best of the points, which is the c-transform over them, bounds it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from otbench.ops.lbfgs import solve_conjugate_lbfgs
from otbench.ops.prox import ProxResult

_FURTHEST = 2.0
"""Squared distance from the centre of the points at which a sample has run away, as a multiple of the furthest's."""
_SCALE = 0.3
"""First guess of the size of the inverse of I + Hess g: a trained potential is seldom flatter than that everywhere."""


@torch.no_grad()
def solve_prox_among(
    value_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
    z: Tensor,
    points: Tensor,
    *,
    start: Tensor | None = None,
    best: bool = False,
    tol: float = 1e-3,
    max_iter: int = 50,
) -> ProxResult:
    r"""Minimise h for each sample by L-BFGS (`otbench.ops.lbfgs`), from the best of `points` or from `start`.

    No sample ends above its start, up to rounding. One that runs away is put back there.

    Args:
        value_and_gradient: g and grad g, from (k, d) to (k,) and (k, d), for any points.
        z: right-hand sides, finite, shape (n, d).
        points: candidates, such as a batch of the measure that y belongs to, shape (m, d). Memory is O(n m).
        start: first iterates, shape (n, d), such as the minimisers of a g that was nearly the same; None = the best of
            `points` for each sample.
        best: whether the best of `points` takes the place of a start that is higher.
        tol: absolute tolerance on the largest entry of each sample's residual, data units.
        max_iter: most iterations, at least 1.

    Returns:
        Minimisers, the largest entries of |grad h| and counts; a sample that was put back counts as unconverged.

    Raises:
        ValueError: max_iter < 1.
    """
    if start is None or best:
        given = points if start is None else torch.cat((points, start))
        # h without |z|^2 / 2, which is the same for all candidates of a sample
        level = value_and_gradient(given)[0] + given.square().sum(1) / 2
        lowest, place = torch.addmm(level[: len(points)], z, points.T, alpha=-1).min(1)
        better = points[place]
        if start is not None:
            own = level[len(points) :] - (z * start).sum(1)
            better = torch.where((own <= lowest)[:, None], start, better)
        start = better

    def with_square(y: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = value_and_gradient(y)
        return value + y.square().sum(1) / 2, y + gradient

    found = solve_conjugate_lbfgs(with_square, z, start=start, tol=tol, max_iter=max_iter, scale=_SCALE)
    centre = points.mean(0)
    furthest = (points - centre).square().sum(1).max()
    inside = (found.y - centre).square().sum(1) <= _FURTHEST * furthest
    y = torch.where(inside[:, None], found.y, start)
    lost = ~(inside & (found.residual <= tol))
    unconverged = lost.to(y.dtype).mean() if len(z) else y.new_zeros(())
    return ProxResult(y, found.residual, found.iterations, found.evaluations, unconverged)
