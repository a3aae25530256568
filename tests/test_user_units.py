"""Maps between standardised points, as maps between the user's."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from otbench.data.mapfile import read_map
from otbench.problem import PoolMeasure, Problem, QuadraticCost, Units
from otbench.transport import Standardised, Transport, in_user_units

SOURCE, TARGET, SCALE = torch.tensor([10.0, -5.0]), torch.tensor([1.0, 100.0]), torch.tensor(2.0)
X = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) * 2 + 10


class Shear(Transport):
    """z -> A z with unit determinant, pushing N(0, I) forward; points move on straight lines."""

    differentiable = True

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def _sheared(self, z: Tensor, slope: float) -> Tensor:
        return torch.stack((z[:, 0], z[:, 1] + slope * z[:, 0]), 1)

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        return self._sheared(x, self.slope)

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        return self._sheared(y, -self.slope)

    def log_prob(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        return -self._sheared(y, -self.slope).square().sum(1) / 2 - math.log(2 * math.pi)

    def velocity(self, x: Tensor, t: float) -> Tensor:
        start = self._sheared(x, -t * self.slope)
        return self.forward(start) - start

    def interpolate(self, x: Tensor, t: float) -> Tensor:
        return (1 - t) * x + t * self.forward(x)


class OneWay(Transport):
    """T alone."""

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        return x


def wrapped(inner: Transport) -> Standardised:
    return Standardised(inner, SOURCE, TARGET, SCALE)


def test_both_maps_take_and_return_the_users_points() -> None:
    maps = wrapped(Shear(0.5))
    wanted = TARGET + SCALE * Shear(0.5)((X - SOURCE) / SCALE)
    assert torch.allclose(maps(X), wanted)
    assert torch.allclose(maps.backward(maps(X)), X, atol=1e-4)
    points = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(maps(points)[:, 1].sum(), points)
    assert torch.allclose(slope, torch.tensor([0.5, 1.0]).expand(50, 2))
    assert isinstance(maps(X.numpy()), np.ndarray)


def test_densities_integrate_to_one_in_the_users_units() -> None:
    maps = wrapped(Shear(0.5))
    grid = torch.cartesian_prod(torch.linspace(-30, 30, 301), torch.linspace(70, 130, 301))
    assert float(maps.log_prob(grid).exp().sum()) * 0.2**2 == pytest.approx(1, rel=1e-3)


def test_velocity_is_that_of_the_interpolation() -> None:
    maps = wrapped(Shear(0.5)).double()
    x, step = X.double(), 1e-5
    assert torch.allclose(maps.interpolate(x, 0.0), x)
    assert torch.allclose(maps.interpolate(x, 1.0), maps(x))
    moved = (maps.interpolate(x, 0.3 + step) - maps.interpolate(x, 0.3 - step)) / (2 * step)
    assert torch.allclose(maps.velocity(maps.interpolate(x, 0.3), 0.3), moved, atol=1e-6)


def test_abilities_are_those_of_the_inner_maps() -> None:
    assert wrapped(Shear(1.0)).two_way
    assert wrapped(Shear(1.0)).differentiable
    one_way = wrapped(OneWay())
    assert not one_way.two_way
    assert not one_way.differentiable
    assert not any(hasattr(one_way, name) for name in ("log_prob", "velocity", "interpolate"))


def test_a_kept_file_holds_the_units(tmp_path: Path) -> None:
    maps = wrapped(Shear(0.5))
    maps.save(tmp_path / "maps.otmap")
    again = Transport.restored(read_map(tmp_path / "maps.otmap"), torch.device("cpu"))
    assert torch.equal(again(X), maps(X))


def test_only_a_problem_with_units_wraps_and_only_what_does_not_take_them() -> None:
    pool = PoolMeasure(X)
    cpu, units = torch.device("cpu"), Units(SOURCE, TARGET, SCALE)
    plain = Problem(pool, pool, QuadraticCost(), cpu, torch.float32)
    scaled = Problem(pool, pool, QuadraticCost(), cpu, torch.float32, units)
    inner = Shear(0.5)
    assert in_user_units(inner, plain) is inner
    assert isinstance(in_user_units(inner, scaled), Standardised)
    inner.takes_user_units = True
    assert in_user_units(inner, scaled) is inner
