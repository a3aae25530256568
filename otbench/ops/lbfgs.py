r"""Conjugates by L-BFGS, sample by sample in one batch: the minimiser of $\psi(w) - \langle w, y \rangle$ for each y.

The solver of Amos, "On amortizing convex conjugates for optimal transport", ICLR 2023 (arXiv 2210.12153). Each sample
has its own curvature pairs, step and stop, so that its solution does not depend on the others; what all share are the
calls of psi.

Deviations from the released code:
    line search: of the ten steps the full one is tried first, then the next three at once, then the last six, by those
        samples for which none has passed yet. The same step is taken, the longest that passes, for fewer evaluations.
    failed search: the sample forgets its past and starts again with a shorter gradient step, instead of stopping.
    rounding: where two values are equal up to rounding, slopes decide (Hager and Zhang, SIAM J. Optim. 2005); with
        values alone float32 stops far above a small tolerance. So there is no stop on a small decrease.
    curvature: pairs without positive curvature are left out, as psi need not be convex.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from otbench.ops.prox import ProxResult

MEMORY = 10
"""Curvature pairs of a sample."""
SHRINK, ROUNDS = 1.5, ((1, 4), (4, 10))
"""Steps that a line search tries: 1, then 1 / 1.5^k for k in each of these ranges, those of a range at once."""
_DECREASE = 1e-4
_ATTEMPTS = 3
"""Line searches that may fail in a row before a sample is given up."""


@torch.no_grad()
def solve_conjugate_lbfgs(
    value_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
    y: Tensor,
    *,
    start: Tensor | None = None,
    tol: float = 1e-3,
    max_iter: int = 100,
    compact: float = 0.1,
    scale: float = 1.0,
) -> ProxResult:
    r"""Minimise $\psi(w) - \langle w, y \rangle$ for each sample.

    No sample ends above its start, up to rounding. The host waits for the device a few times per iteration.

    Args:
        value_and_gradient: psi and grad psi, from (k, d) to (k,) and (k, d), for any points.
        y: right-hand sides, finite, shape (n, d).
        start: first iterates, shape (n, d); y if None.
        tol: absolute tolerance on the largest entry of each sample's residual, data units.
        max_iter: most iterations, at least 1.
        compact: share of the batch that must be done for it to leave; above 1 = never, which only costs time.
        scale: first guess of the size of the Hessian's inverse.

    Returns:
        Minimisers, the largest entries of |grad psi(w_i) - y_i|, and counts.

    Raises:
        ValueError: max_iter < 1.
    """
    if max_iter < 1:
        raise ValueError(f"max_iter must be at least 1, got {max_iter}")
    size, calls = len(y), 0

    def look(w: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += len(w)
        value, gradient = value_and_gradient(w)
        return value - (w * y).sum(1), gradient - y

    w = y if start is None else start.detach()
    y = y.detach()
    f, g = look(w, y)
    result, residual = w.clone(), g.abs().amax(1)
    rows: Tensor | None = None  # places of the samples still in the batch; None = all, in order
    gamma = torch.full_like(f, scale)  # size of the Hessian's inverse, where no pair has seen it
    failures = torch.zeros_like(f)
    done = residual <= tol
    memory: list[tuple[Tensor, Tensor, Tensor]] = []
    iterations, done_count = 0, int(done.sum())
    while iterations < max_iter and done_count < len(y):
        if done_count and done_count >= compact * len(y):
            left = (~done).nonzero().squeeze(1)
            result, residual = _put_back(rows, w, g, result, residual)
            rows = left if rows is None else rows[left]
            w, y, f, g, gamma, failures, done = (t[left] for t in (w, y, f, g, gamma, failures, done))
            memory = [(s[left], q[left], rho[left]) for s, q, rho in memory]
        iterations += 1

        direction = _direction(g, gamma, memory)
        tried, f_tried, g_tried, passed = _search(look, w, y, f, (g * direction).sum(1), direction, done)
        taken = passed & ~done
        keep = taken.unsqueeze(1)
        s, q = (tried - w).masked_fill_(~keep, 0), (g_tried - g).masked_fill_(~keep, 0)
        w, g, f = torch.where(keep, tried, w), torch.where(keep, g_tried, g), torch.where(taken, f_tried, f)
        bend, curve = (s * q).sum(1), q.square().sum(1)
        seen = bend > torch.finfo(bend.dtype).eps * curve
        memory = [*memory[1 - MEMORY :], (s, q, torch.where(seen, 1 / bend, 0.0).unsqueeze(1))]
        # where the step has seen no positive curvature, the next may be longer
        gamma = torch.where(seen, bend / curve, torch.where(taken, 4 * gamma, gamma))
        lost = ~(passed | done)
        failures = torch.where(lost, failures + 1, 0.0)
        done = done | (failures >= _ATTEMPTS) | (g.abs().amax(1) <= tol)
        lost_count, done_count = torch.stack((lost, done)).sum(1).tolist()
        if lost_count:
            gamma = torch.where(lost, gamma / SHRINK ** ROUNDS[-1][1], gamma)
            memory = [(s, q, rho.masked_fill(lost.unsqueeze(1), 0)) for s, q, rho in memory]

    result, residual = _put_back(rows, w, g, result, residual)
    unconverged = (~(residual <= tol)).to(result.dtype).mean() if size else result.new_zeros(())
    return ProxResult(result, residual, iterations + 1, calls / max(size, 1), unconverged)


def _direction(g: Tensor, gamma: Tensor, memory: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Return -H g, shape (n, d), with H the inverse Hessian that the pairs of each sample give (two-loop recursion)."""
    rest, weights = g, []
    for s, q, rho in reversed(memory):
        weights.append((s * rest).sum(1, keepdim=True).mul_(rho))
        rest = torch.addcmul(rest, weights[-1], q, value=-1)
    rest = rest * gamma.unsqueeze(1)
    for (s, q, rho), weight in zip(memory, reversed(weights), strict=True):
        rest.addcmul_(weight - (q * rest).sum(1, keepdim=True).mul_(rho), s)
    return rest.neg_()


def _search(
    look: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    w: Tensor,
    y: Tensor,
    f: Tensor,
    slope: Tensor,
    direction: Tensor,
    done: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the points after the longest step of each sample that passes, with value, gradient and whether one did.

    Steps are tried in rounds, those of a round at once, by the samples for which no longer one has passed.
    """
    tried = w + direction
    f_tried, g_tried = look(tried, y)
    noise = 64 * torch.finfo(f.dtype).eps * (f.abs() + 2 * (w * y).sum(1).abs())  # |psi| + |<w, y>|, or more
    passed = _passes(f, slope, noise, f_tried, (g_tried * direction).sum(1), 1.0)
    for first, last in ROUNDS:
        rows = (~(passed | done)).nonzero().squeeze(1)
        if not len(rows):
            break
        rate = SHRINK ** -torch.arange(first, last, dtype=w.dtype, device=w.device)[:, None]
        along, right = direction[rows], y[rows]
        points = w[rows] + rate[:, :, None] * along
        values, gradients = look(points.flatten(0, 1), right.repeat(len(rate), 1))
        values, gradients = values.view(points.shape[:2]), gradients.view_as(points)
        good = _passes(f[rows], slope[rows], noise[rows], values, (gradients * along).sum(2), rate)
        at = good.to(torch.uint8).argmax(0), torch.arange(len(rows), device=w.device)
        tried[rows], f_tried[rows], g_tried[rows], passed[rows] = points[at], values[at], gradients[at], good.any(0)
    return tried, f_tried, g_tried, passed


def _passes(
    f: Tensor, slope: Tensor, noise: Tensor, f_tried: Tensor, slope_tried: Tensor, rate: Tensor | float
) -> Tensor:
    """Return where a step of `rate` lowers the value enough: by Armijo's rule, or by slopes where values are equal."""
    armijo = f_tried <= f + _DECREASE * rate * slope
    near = (f_tried - f).abs() <= noise
    # NaN compares false; an infinite value is no minimum
    return (armijo & f_tried.isfinite()) | (near & (slope_tried <= (2 * _DECREASE - 1) * slope))


def _put_back(rows: Tensor | None, w: Tensor, g: Tensor, result: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    """Write iterates and residuals to the places of their samples."""
    norm = g.abs().amax(1)
    if rows is None:
        return w.clone(), norm
    result[rows], residual[rows] = w, norm
    return result, residual
