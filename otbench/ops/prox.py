r"""Solving $y + \nabla g(y) = z$ sample by sample: the inverse of the map $T = id + \nabla g$, or prox of g at z.

`solve_prox` is ours, for any g with Hessian above -I; `otbench.ops.prox_among` is for any g at all. `solve_prox_paper`
is the inner solver of the ImplicitOT code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_MEMORY = 3
_GROWTH = 2.0


@dataclass(frozen=True, slots=True)
class ProxResult:
    """What a prox solver found.

    Attributes:
        y: solutions, shape (n, d), detached.
        residual: |y_i - z_i + grad g(y_i)|, data units, shape (n,).
        iterations: gradient evaluations of the slowest sample, the one at the start included.
        evaluations: gradient evaluations per sample, mean over the batch.
        unconverged: share of samples whose residual exceeds the tolerance, shape ().
    """

    y: Tensor
    residual: Tensor
    iterations: int
    evaluations: float
    unconverged: Tensor


@torch.no_grad()
def solve_prox(
    gradient: Callable[[Tensor], Tensor],
    z: Tensor,
    *,
    start: Tensor | None = None,
    tol: float = 1e-3,
    max_iter: int = 50,
) -> ProxResult:
    r"""Solve y + grad g(y) = z for each sample by safeguarded Anderson acceleration, one gradient per iteration.

    Let F be a sample's residual, and s_i, q_i its last three steps and their residual changes, the q_i made
    orthonormal. One step is
    $y \leftarrow y - \sum_i \langle F, q_i \rangle s_i - \beta (F - \sum_i \langle F, q_i \rangle q_i)$:
    secant steps where the past has seen the Hessian, the plain fixed-point step ($\beta = 1$) elsewhere. A step that
    more than doubles the sample's best residual, or leaves the finite numbers, is undone: the sample goes back to its
    best iterate, forgets its past and tries a quarter of beta. The iterate with the smallest residual is kept, so that
    the result is finite whatever the gradient returns. Samples that are done leave the batch as soon as they are a
    fifth of it; until then they go on improving.

    The host reads three numbers from the device once per iteration.

    Args:
        gradient: grad g, from (k, d) to (k, d), for any subset of samples.
        z: right-hand sides, finite, shape (n, d).
        start: first iterates, shape (n, d); z if None.
        tol: absolute tolerance on the norm of each sample's residual, data units.
        max_iter: most gradient evaluations per sample, at least 1.

    Returns:
        Solutions, residuals and counts.

    Raises:
        ValueError: max_iter < 1.
    """
    if max_iter < 1:
        raise ValueError(f"max_iter must be at least 1, got {max_iter}")
    size = len(z)
    best = z if start is None else start.detach()
    result, residual = best.clone(), z.new_full((size,), math.inf)
    rows: Tensor | None = None  # places of the samples still in the batch; None = all, in order
    y, z = best, z.detach()
    force = best_force = z  # F at y and at the best iterate
    norm = z.new_full((size,), math.inf)
    beta: Tensor | None = None  # None while every sample takes full steps
    memory: list[tuple[Tensor, Tensor]] = []
    step: Tensor | None = None
    evaluations, iterations = 0, 0

    while iterations < max_iter and len(y):
        last_force, force = force, y - z + gradient(y)
        evaluations += len(y)
        iterations += 1
        now = torch.linalg.vector_norm(force, dim=1)
        # NaN compares false, so it counts as not better and as failed
        better, failed = now < norm, ~(now <= norm * _GROWTH) | now.isinf()
        norm_now = torch.where(better, now, norm)
        done = ~((norm_now > tol) & norm_now.isfinite())
        worse_count, failed_count, done_count = torch.stack((~better, failed, done)).sum(1).tolist()

        if worse_count:
            keep = better.unsqueeze(1)
            best, best_force = torch.where(keep, y, best), torch.where(keep, force, best_force)
        else:
            best, best_force = y, force
        norm = norm_now
        if done_count == len(y):
            break
        if step is not None:
            memory = _remember(memory, step, force - last_force)
        if failed_count or beta is not None:
            bad = failed.unsqueeze(1)
            beta = torch.ones_like(z[:, :1]) if beta is None else beta
            beta = torch.where(bad, beta / 4, (beta * 2).clamp(max=1))
            y, force = torch.where(bad, best, y), torch.where(bad, best_force, force)
            memory = [(s.masked_fill(bad, 0), q.masked_fill(bad, 0)) for s, q in memory]

        if done_count * 5 >= len(y):
            left = (~done).nonzero().squeeze(1)
            rows, result, residual = _put_back(rows, left, best, norm, result, residual)
            y, z, force, best, best_force, norm = (t[left] for t in (y, z, force, best, best_force, norm))
            memory = [(s[left], q[left]) for s, q in memory]
            beta = None if beta is None else beta[left]

        rest, step = force, torch.zeros_like(force)
        for s, q in memory:
            weight = (force * q).sum(1, keepdim=True)
            step.addcmul_(weight, s, value=-1)
            rest = torch.addcmul(rest, weight, q, value=-1)
        step = step.sub_(rest) if beta is None else step.addcmul_(beta, rest, value=-1)
        y = y + step

    _, result, residual = _put_back(rows, None, best, norm, result, residual)
    unconverged = (~(residual <= tol)).to(z.dtype).mean() if size else z.new_zeros(())
    return ProxResult(result, residual, iterations, evaluations / max(size, 1), unconverged)


def _remember(memory: list[tuple[Tensor, Tensor]], s: Tensor, q: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Append the pair of a step and its residual change, made orthonormal in q to the newest pairs of the memory.

    A pair whose change lies (to rounding) in the span of the others is set to zero; one that is not finite belongs to
    a step that is about to be undone, and is cleared then.
    """
    memory = memory[-(_MEMORY - 1) :]
    size = torch.linalg.vector_norm(q, dim=1, keepdim=True)
    for old_s, old_q in memory:
        weight = (q * old_q).sum(1, keepdim=True)
        s = torch.addcmul(s, weight, old_s, value=-1)
        q = torch.addcmul(q, weight, old_q, value=-1)
    left = torch.linalg.vector_norm(q, dim=1, keepdim=True)
    scale = torch.where(left > 1e-2 * size, 1 / left, 0.0)
    return [*memory, (s * scale, q * scale)]


def _put_back(
    rows: Tensor | None, left: Tensor | None, best: Tensor, norm: Tensor, result: Tensor, residual: Tensor
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Write the batch's best iterates to their places; return the places of those `left` in it."""
    if rows is None:
        return left, best.clone(), norm.clone()
    result[rows], residual[rows] = best, norm
    return rows if left is None else rows[left], result, residual


def solve_prox_paper(
    gradient: Callable[[Tensor], Tensor],
    z: Tensor,
    *,
    generator: torch.Generator,
    tol: float = 1e-3,
    max_iter: int = 1000,
) -> ProxResult:
    """Solve y + grad g(y) = z as the ImplicitOT code does: fixed steps of 0.1 / L from y = z.

    L is the largest spectral norm of the Hessian at z over the batch, from 20 power iterations and one more
    evaluation, each a double backward pass. The step ignores the identity in I + Hess g, so the iteration diverges for
    L < 0.0526; it stops at the first residual that is not finite. All samples go on until the worst one is done. The
    published code evaluates each gradient twice, for the step and for the residual; the iterates are the same.

    The host reads one number from the device per iteration.

    Args:
        gradient: grad g, from (n, d) to (n, d), differentiable.
        z: right-hand sides, shape (n, d).
        generator: source of the first power vector, on z's device.
        tol: absolute tolerance on the largest residual of the batch, data units.
        max_iter: most iterations, at least 1.

    Returns:
        Solutions, which may be far from finite, residuals and counts.
    """
    point = z.detach().requires_grad_()
    with torch.enable_grad():
        slope = gradient(point)
    v = torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
    for _ in range(21):
        v = v / (torch.linalg.vector_norm(v, dim=1, keepdim=True) + 1e-12)
        (v,) = torch.autograd.grad(slope, point, v, retain_graph=True)
    step = 0.1 / (torch.linalg.vector_norm(v, dim=1).max() + 1e-8)
    with torch.no_grad():
        y = z.detach()
        force = gradient(y)
        iterations = 0
        for iterations in range(1, max_iter + 1):  # noqa: B007
            y = y - step * force
            force = y - z + gradient(y)
            residual = torch.linalg.vector_norm(force, dim=1)
            worst = residual.max().item()
            if worst < tol or not math.isfinite(worst):
                break
        return ProxResult(y, residual, iterations, float(iterations + 1), (~(residual <= tol)).to(z.dtype).mean())
