r"""Scores of the way from source to target, where the exact paths are known: places, velocity, action, conservation.

* `interpolants`: mean square distance of X_t from the exact X_t, in % of the variance of the latter (UVP).
* `velocity_error`: $(E |v(X_t, t) - X_t'|^2 / E |X_t'|^2)^{1/2}$ along exact paths, over all inner times, in %.
* `action_ratio`: mean action of the paths over that of the exact ones, both by the same chords. For the quadratic cost
  it is $E \int |X_t'|^2 dt / W_2^2$. Paths that do not arrive can be below 1.
* `continuity`: how far X_t and v are from mass conservation. In weak form, for a test function phi,
  $E \phi(X_1) - E \phi(X_0) = \int_0^1 E \langle \nabla \phi(X_t), v(X_t, t) \rangle dt$. Root mean square over `WAVES`
  cosine waves of the difference of both sides, in % of that of the left side for the exact paths.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from otbench.metrics.uvp import mean_square, uvp
from otbench.problem import Cost
from otbench.task import TIMES

WAVES = 256
"""Test functions of `continuity`."""
_SEED = 20260222
_BOOLE = (7 / 90, 32 / 90, 12 / 90, 32 / 90, 7 / 90)
"""Weights of `TIMES` in integrals: exact for polynomials of degree 5."""
_WAVE_NUMBERS = (0.25, 1.0)
"""Between these are the lengths of wave vectors, in units of one over the standard deviation of a coordinate."""


def interpolants(points: Tensor, exact: Tensor) -> list[float]:
    """Return the UVP of X_t at the inner `TIMES`, in %; both of shape (5, n, d), float64."""
    return [
        uvp(ours, theirs, mean_square(theirs - theirs.mean(0)))
        for ours, theirs in zip(points[1:-1], exact[1:-1], strict=True)
    ]


def velocity_error(velocity: Tensor, exact: Tensor) -> float:
    """Return the relative error of velocities, in %; both of shape (times, m, d), float64."""
    return 100 * math.sqrt(float((velocity - exact).square().mean() / exact.square().mean()))


def action_ratio(points: Tensor, exact: Tensor, cost: Cost) -> float:
    """Return the mean action of paths over that of the exact ones; both of shape (5, n, d), float64."""
    ours, theirs = (_action(paths, cost) for paths in (points, exact))
    return ours / theirs


def continuity(points: Tensor, velocity: Tensor, exact: Tensor) -> float:
    """Return the residual of the continuity equation in weak form, in %.

    Args:
        points: X_t at `TIMES`, shape (5, n, d), float64.
        velocity: v(X_t, t), shape (5, n, d).
        exact: the exact X_t, shape (5, n, d).
    """
    d = points.shape[2]
    generator = torch.Generator().manual_seed(_SEED)
    direction = torch.randn(d, WAVES, generator=generator, dtype=torch.float64)
    low, high = _WAVE_NUMBERS
    number = low + (high - low) * torch.rand(WAVES, generator=generator, dtype=torch.float64)
    phase = 2 * math.pi * torch.rand(WAVES, generator=generator, dtype=torch.float64)
    spread = math.sqrt((mean_square(exact[0] - exact[0].mean(0)) + mean_square(exact[-1] - exact[-1].mean(0))) / 2 / d)
    wave = direction / direction.norm(dim=0) * (number / spread)
    flux = torch.zeros(WAVES, dtype=torch.float64)
    for place, speed, weight in zip(points, velocity, _BOOLE, strict=True):
        flux -= weight * ((place @ wave + phase).sin() * (speed @ wave)).mean(0)
    change, wanted = (
        ((paths[-1] @ wave + phase).cos() - (paths[0] @ wave + phase).cos()).mean(0) for paths in (points, exact)
    )
    return 100 * math.sqrt(float((change - flux).square().mean() / wanted.square().mean()))


def _action(paths: Tensor, cost: Cost) -> float:
    """Return the mean action of paths, shape (5, n, d), taken as chords between `TIMES`."""
    total = 0.0
    for k, (begin, end) in enumerate(itertools.pairwise(TIMES)):
        middle, speed = (paths[k] + paths[k + 1]) / 2, (paths[k + 1] - paths[k]) / (end - begin)
        total += (end - begin) * float(cost.lagrangian(middle, speed).mean())
    return total
