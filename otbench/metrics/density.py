r"""Densities of pushed-forward normals, exact, for any map that can be differentiated.

With $\mu = N(0, I)$ and T injective, $\log p_{T\#\mu}(y) = \log \mu(x) - \log |\det DT(x)|$ at the x with T(x) = y.
The learnt inverse map is only a start for x: learnt inverses are inexact, and a density at the wrong point can be
better than the true one. Newton's method solves T(x) = y with the map itself, so the numbers of all maps mean the
same, and integrate to at most one.

Where T is not injective, the x found is one of several, and the value a lower bound. A transport that has S in closed
form and solves for T needs no search: x = S(y), if T takes it back to y.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from otbench.ops.jacobian import jacobian
from otbench.transport import Transport

LARGEST_DIM = 64
"""Most coordinates: a Jacobian costs a backward pass for each."""
DENSITY_POINTS = 1024
"""Most points for which a run makes densities: each Newton step costs a backward pass per coordinate."""
MOST_MISSING = 0.01
"""Largest share of points without a density that `mean_nll` passes over."""

_CHUNK_ROWS = 2**16
_NEWTON_STEPS = 30
_HALVINGS = 10
_TOLERANCE = 512
_RESTARTS = (0.1, 0.1, 0.3, 0.3, 0.3, 1.0, 1.0, 1.0)
_HOPELESS = 0.25
"""Share of points without a density above which none is started again: the rest could not bring it below
`MOST_MISSING`, and takes minutes."""
_SEED = 20_210
_RETURNED = 1e-2
"""Share of the size of a point within which T(S(y)) is y: T is solved for, to a tolerance."""


def has_density(
    transport: Transport, *, is_standard_normal: bool, source_shape: tuple[int, ...], target_shape: tuple[int, ...]
) -> bool:
    """Say whether `pushforward_log_prob` applies: N(0, I) to vectors of at most 64 numbers, by a differentiable map.

    Args:
        transport: the maps.
        is_standard_normal: whether the source is N(0, I).
        source_shape: shape of one source point.
        target_shape: shape of one target point.
    """
    return (
        transport.differentiable
        and transport.two_way
        and not transport.stochastic
        and is_standard_normal
        and source_shape == target_shape
        and len(source_shape) == 1
        and source_shape[0] <= LARGEST_DIM
    )


def pushforward_log_prob(transport: Transport, y: Tensor, label: Tensor | None = None) -> Tensor:
    """Return log densities of T#N(0, I) at `y`.

    Damped Newton steps on T(x) = y from the inverse map (from y itself where there is none), with exact
    Jacobians, until |T(x) - y| <= 512 eps (|y| + sqrt(d)) with the eps of the dtype; the determinant is that of the
    last point. Where T is not monotone, Newton's method can end at a fold: such points start again beside the first
    guess, at random distances (fixed seed) of 0.1 to 1 per coordinate, eight times, unless they are more than a quarter
    of all. Asks the host once or more per step which samples are left.

    Args:
        transport: a differentiable one; its source is taken to be N(0, I).
        y: points, shape (m, d), the transport's dtype and device.
        label: their classes, shape (m,), int64, if the maps read them.

    Returns:
        Log densities, shape (m,), float64. NaN where no x was found, with 30 steps each time: T may not reach that
        point.
    """
    d = y.shape[1]
    found = []
    for begin in range(0, len(y), max(1, _CHUNK_ROWS // d)):
        here = slice(begin, begin + max(1, _CHUNK_ROWS // d))
        with transport.inside():
            found.append(_log_prob(transport, y[here].detach(), None if label is None else label[here]))
    return torch.cat(found) if found else y.new_empty(0, dtype=torch.float64)


def mean_nll(log_prob: Tensor) -> dict[str, float]:
    """Return `nll`, the mean of -log p, and `nll_missing`, the share of points without a density.

    Points without one are those that the map hardly reaches: to leave them out flatters it. So `nll` is left out where
    they are more than 1 %, and the share always stands beside it.

    Args:
        log_prob: log densities, shape (m,), NaN where there is none.

    Returns:
        Both by name, `nll` in nats.
    """
    log_prob = log_prob.double()
    missing = float(log_prob.isnan().double().mean())
    result = {"nll_missing": missing}
    if missing <= MOST_MISSING:
        result["nll"] = -float(log_prob.nanmean())
    return result


@torch.no_grad()
def _log_prob(transport: Transport, y: Tensor, label: Tensor | None) -> Tensor:
    if transport.solves_forward:
        return _by_inverse(transport, y, label)
    start = transport.backward(y, label) if transport.two_way else y.clone()
    # A learnt inverse may be worse than nothing, and Newton cannot leave a point that is not finite.
    start = torch.where(start.isfinite().all(1, keepdim=True), start, y)
    result = _newton(transport, start, y, label)
    generator = torch.Generator().manual_seed(_SEED)
    for scale in _RESTARTS:
        rows = result.isnan().nonzero().squeeze(1)
        if not len(rows) or len(rows) > _HOPELESS * len(y):
            break
        noise = torch.randn(len(rows), y.shape[1], generator=generator).to(y)
        near = start[rows] + scale * noise
        result[rows] = _newton(transport, near, y[rows], None if label is None else label[rows])
    return result


def _by_inverse(transport: Transport, y: Tensor, label: Tensor | None) -> Tensor:
    """Return log densities at `y` from a closed-form S, NaN where T does not take S(y) back to y."""
    x, matrix = jacobian(functools.partial(transport.backward, label=label), y)
    log_det = torch.linalg.slogdet(matrix.double()).logabsdet
    result: Tensor = -x.double().square().sum(1) / 2 - y.shape[1] / 2 * math.log(2 * math.pi) + log_det
    away = (transport.forward(x, label) - y).norm(dim=1)
    return result.masked_fill(away > _RETURNED * (y.norm(dim=1) + math.sqrt(y.shape[1])), math.nan)


def _newton(transport: Transport, x: Tensor, y: Tensor, label: Tensor | None) -> Tensor:
    """Return log densities at `y`, float64, from first guesses `x`, both (n, d); NaN where the method ends short."""
    d = y.shape[1]
    result = y.new_full((len(y),), math.nan, dtype=torch.float64)
    tolerance = _TOLERANCE * torch.finfo(y.dtype).eps * (y.norm(dim=1) + math.sqrt(d))
    rows = torch.arange(len(y), device=y.device)
    for _ in range(_NEWTON_STEPS):
        moved, matrix = jacobian(functools.partial(transport.forward, label=label), x)
        residual = moved - y
        norm = residual.norm(dim=1)
        done = norm <= tolerance
        log_det = torch.linalg.slogdet(matrix[done].double()).logabsdet
        result[rows[done]] = -x[done].double().square().sum(1) / 2 - d / 2 * math.log(2 * math.pi) - log_det
        left = ~done & norm.isfinite()
        rows, x, y, tolerance, residual, norm, matrix = (
            t[left] for t in (rows, x, y, tolerance, residual, norm, matrix)
        )
        label = None if label is None else label[left]
        if not len(rows):
            break
        # solve_ex does not raise where a Jacobian is singular: its steps are not finite and are refused below.
        step = torch.linalg.solve_ex(matrix, residual.unsqueeze(2)).result.squeeze(2)
        x, better = _damped(transport, x, y, label, step, norm)
        # A point that no step brings closer is at a fold of T: from here, y is out of reach.
        rows, x, y, tolerance = rows[better], x[better], y[better], tolerance[better]
        label = None if label is None else label[better]
        if not len(rows):
            break
    return result


def _damped(
    transport: Transport, x: Tensor, y: Tensor, label: Tensor | None, step: Tensor, norm: Tensor
) -> tuple[Tensor, Tensor]:
    """Return x - s step, each s the first of 1, 1/2, 1/4, ... that lessens |T(x) - y|, and whether there is one."""
    size = torch.ones_like(norm)
    for _ in range(_HALVINGS):
        trial = x - size[:, None] * step
        better = (transport.forward(trial, label) - y).norm(dim=1) < norm
        if bool(better.all()):
            break
        size = torch.where(better, size, size / 2)
    return trial, better
