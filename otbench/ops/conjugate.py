r"""The conjugate $\psi^*(y) = \max_w \langle w, y \rangle - \psi(w)$: finding its maximiser, where $\nabla\psi(w) = y$.

`solve_conjugate` is ours, sample by sample; `solve_conjugate_paper` is the inner solver of the MM-v1 code.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from otbench.ops.prox import ProxResult, solve_prox

_RATE, _BETAS, _EPS = 0.1, (0.9, 0.999), 1e-8


def solve_conjugate(
    gradient: Callable[[Tensor], Tensor],
    y: Tensor,
    *,
    start: Tensor | None = None,
    tol: float = 1e-3,
    max_iter: int = 50,
) -> ProxResult:
    r"""Solve $\nabla\psi(w) = y$ for each sample, for convex psi.

    With $\psi = |\cdot|^2/2 + g$ this is $w + \nabla g(w) = y$: `otbench.ops.prox.solve_prox` does the work.

    Args:
        gradient: grad psi, from (k, d) to (k, d), for any subset of samples.
        y: right-hand sides, finite, shape (n, d).
        start: first iterates, shape (n, d); y if None.
        tol: absolute tolerance on the norm of each sample's residual, data units.
        max_iter: most gradient evaluations per sample, at least 1.

    Returns:
        Maximisers, residuals |grad psi(w_i) - y_i| and counts.

    Raises:
        ValueError: max_iter < 1.
    """
    return solve_prox(lambda w: gradient(w) - w, y, start=start, tol=tol, max_iter=max_iter)


@torch.no_grad()
def solve_conjugate_paper(
    gradient: Callable[[Tensor], Tensor],
    y: Tensor,
    *,
    generator: torch.Generator,
    tol: float = 1e-3,
    max_iter: int = 1000,
) -> ProxResult:
    r"""Solve $\nabla\psi(w) = y$ as the MM-v1 code does: Adam with rate 0.1 from a uniform point of [0, 1]^d.

    It stops when the mean over samples of the root mean square of $\nabla\psi(w) - y$ over coordinates falls below
    `tol`; a few samples may then be far from done. The host reads one number from the device per iteration.

    Args:
        gradient: grad psi, from (n, d) to (n, d).
        y: right-hand sides, shape (n, d).
        generator: source of the first iterates, on y's device.
        tol: absolute tolerance on the mean, data units.
        max_iter: most iterations, at least 1.

    Returns:
        Maximisers, residuals and counts; `unconverged` is the share of samples whose own root mean square exceeds tol.
    """
    w = torch.rand(y.shape, generator=generator, device=y.device, dtype=y.dtype)
    first, second = torch.zeros_like(w), torch.zeros_like(w)
    force = gradient(w).sub_(y)
    iterations = 0
    for iterations in range(1, max_iter + 1):
        first.lerp_(force, 1 - _BETAS[0])
        second.mul_(_BETAS[1]).addcmul_(force, force, value=1 - _BETAS[1])
        scale = (second / (1 - _BETAS[1] ** iterations)).sqrt_().add_(_EPS)
        w = torch.addcdiv(w, first, scale, value=-_RATE / (1 - _BETAS[0] ** iterations))
        force = gradient(w).sub_(y)
        rms = force.square().mean(1).sqrt_()
        if not rms.mean().item() >= tol:
            break
    residual = torch.linalg.vector_norm(force, dim=1)
    return ProxResult(w, residual, iterations, float(iterations + 1), (~(rms <= tol)).to(y.dtype).mean())
