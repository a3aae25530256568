"""Samplers of the toy densities in the plane, with the scales of FFJORD and OT-Flow."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def normal(n: int, generator: torch.Generator) -> Tensor:
    """Return `n` points of N(0, I) in the plane, shape (n, 2), float64."""
    return torch.randn(n, 2, generator=generator, dtype=torch.float64)


def uniform(n: int, generator: torch.Generator) -> Tensor:
    """Return `n` numbers, uniform in [0, 1), shape (n,), float64."""
    return torch.rand(n, generator=generator, dtype=torch.float64)


def polar(radius: Tensor | float, angle: Tensor) -> Tensor:
    """Return points of the plane, shape (n, 2), float64, from angles in radians, shape (n,)."""
    angle = angle.double()
    return torch.stack([angle.cos(), angle.sin()], 1) * torch.as_tensor(radius, dtype=angle.dtype).reshape(-1, 1)


def _eight_gaussians(n: int, g: torch.Generator) -> Tensor:
    angle = torch.randint(8, (n,), generator=g) * (math.pi / 4)
    return (polar(4, angle) + 0.5 * normal(n, g)) / 1.414


def _swiss_roll(n: int, g: torch.Generator) -> Tensor:
    angle = 1.5 * math.pi * (1 + 2 * uniform(n, g))
    return (polar(angle, angle) + normal(n, g)) / 5


def _circles(n: int, g: torch.Generator) -> Tensor:
    radius = torch.where(uniform(n, g) < 0.5, 1.0, 0.5)
    return 3 * (polar(radius, 2 * math.pi * uniform(n, g)) + 0.08 * normal(n, g))


def _moons(n: int, g: torch.Generator) -> Tensor:
    upper = polar(1, math.pi * uniform(n, g))
    lower = torch.tensor([1.0, 0.5], dtype=upper.dtype) - upper
    moons = torch.where((uniform(n, g) < 0.5)[:, None], upper, lower) + 0.1 * normal(n, g)
    return 2 * moons + torch.tensor([-1.0, -0.2], dtype=upper.dtype)


def _rings(n: int, g: torch.Generator) -> Tensor:
    radius = 0.75 * (1 + torch.randint(4, (n,), generator=g))
    return polar(radius, 2 * math.pi * uniform(n, g)) + 0.08 * normal(n, g)


def _pinwheel(n: int, g: torch.Generator) -> Tensor:
    along, across = (1 + 0.3 * normal(n, g)[:, 0]), 0.1 * normal(n, g)[:, 0]
    angle = torch.randint(5, (n,), generator=g) * (2 * math.pi / 5) + 0.25 * along.exp()
    return 2 * (polar(along, -angle) + polar(across, math.pi / 2 - angle))


def _two_spirals(n: int, g: torch.Generator) -> Tensor:
    turn = 3 * math.pi * uniform(n, g).sqrt()
    arm = torch.stack([-turn.cos() * turn, turn.sin() * turn], 1) + 0.5 * torch.stack([uniform(n, g), uniform(n, g)], 1)
    sign = torch.where(uniform(n, g) < 0.5, -1.0, 1.0)
    return sign[:, None] * arm / 3 + 0.1 * normal(n, g)


def _checkerboard(n: int, g: torch.Generator) -> Tensor:
    across = 4 * uniform(n, g) - 2
    up = uniform(n, g) - 2 * torch.randint(2, (n,), generator=g) + across.floor().remainder(2)
    return 2 * torch.stack([across, up], 1)


DENSITIES: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "8gaussians": _eight_gaussians,
    "swissroll": _swiss_roll,
    "circles": _circles,
    "moons": _moons,
    "rings": _rings,
    "pinwheel": _pinwheel,
    "2spirals": _two_spirals,
    "checkerboard": _checkerboard,
}
"""Samplers of the sets without classes: `n` points, shape (n, 2), float64."""
