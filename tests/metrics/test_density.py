"""Densities of pushed-forward normals: against closed forms, brute-force Jacobians, and their own integral."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from otbench.baselines.constant import Constant
from otbench.baselines.linear import Linear, LinearConfig
from otbench.config import Config
from otbench.metrics.density import (
    has_density,
    mean_nll,
    pushforward_log_prob,
)
from otbench.nets.potential import QuadraticPotential
from otbench.ops.jacobian import jacobian
from otbench.problem import FreshMeasure, Measure, PoolMeasure, Problem, QuadraticCost
from otbench.solver import Context, Solver, Transport
from otbench.solvers.fixedpoint import FixedPoint, FixedPointConfig
from otbench.solvers.hjpinn import HJPINN
from otbench.solvers.ls import LS, LSConfig
from otbench.solvers.mm import MM, MMConfig, MMReversed
from otbench.solvers.mmv1 import MMv1, MMv1Config
from otbench.solvers.ncf import NCF, NCFConfig
from otbench.solvers.not_ import NOT, NOTConfig
from otbench.solvers.wganqc import WGANQC, WGANQCConfig

CPU = torch.device("cpu")
DOUBLE = torch.float64
D = 3
MATRIX = torch.tensor([[1.5, 0.3, 0.0], [0.3, 0.8, -0.2], [0.0, -0.2, 0.6]], dtype=DOUBLE)
SHIFT = torch.tensor([0.5, -1.0, 0.2], dtype=DOUBLE)

CASES: list[tuple[type[Solver], Config]] = [
    (FixedPoint, FixedPointConfig(batch_size=64, side="source")),
    (NCF, NCFConfig(mmd_batch=64, hj_points=64)),
    (HJPINN, NCFConfig(mmd_batch=64, hj_points=64, averaging=0.0)),
    (MM, MMConfig(batch_size=64)),
    (MMReversed, MMConfig(batch_size=64)),
    (MMv1, MMv1Config(batch_size=64, pretraining=20)),
    (LS, LSConfig(batch_size=64)),
    (WGANQC, WGANQCConfig(batch_size=32)),
    (NOT, NOTConfig(batch_size=64)),
    (Linear, LinearConfig()),
]


def normal(d: int = D, dtype: torch.dtype = DOUBLE) -> Measure:
    return FreshMeasure((d,), lambda n, g: torch.randn(n, d, generator=g, dtype=dtype), is_standard_normal=True)


def points(n: int, d: int = D, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def make(
    cls: type[Solver], config: Config, *, source: Measure | None = None, dtype: torch.dtype = DOUBLE
) -> Solver[Config]:
    problem = Problem(
        source or normal(dtype=dtype), PoolMeasure((points(500) @ MATRIX).to(dtype)), QuadraticCost(), CPU, dtype
    )
    return cls(problem, config, Context(CPU, dtype, torch.Generator().manual_seed(1), lambda: 0.5))


def exact(y: Tensor) -> Tensor:
    covariance = MATRIX @ MATRIX.T
    return torch.distributions.MultivariateNormal(SHIFT, covariance).log_prob(y)


@pytest.mark.parametrize(("cls", "config"), CASES, ids=[case[0].__name__ for case in CASES])
def test_jacobians_are_those_of_the_forward_map(cls: type[Solver], config: Config) -> None:
    solver = make(cls, config)
    for _ in range(1 if cls is Linear else 3):
        solver.step()
    assert solver.transport().differentiable
    x, h = points(6, seed=4), 1e-5
    moved, found = jacobian(solver.transport().forward, x)
    torch.testing.assert_close(moved, solver.transport().forward(x).detach(), rtol=1e-12, atol=1e-12)
    for j in range(D):
        move = h * torch.eye(D, dtype=DOUBLE)[j]
        difference = (solver.transport().forward(x + move) - solver.transport().forward(x - move)) / (2 * h)
        torch.testing.assert_close(found[:, :, j], difference, rtol=1e-6, atol=1e-6)
    # brute force: one point at a time, by torch's own Jacobian
    alone = [torch.autograd.functional.jacobian(lambda z: solver.transport().forward(z[None])[0], p) for p in x]
    torch.testing.assert_close(found, torch.stack(alone), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        torch.linalg.slogdet(found).logabsdet, torch.stack([a.det().abs().log() for a in alone]), rtol=1e-9, atol=1e-9
    )


def with_exact_potential(cls: type[Solver], config: Config, dtype: torch.dtype) -> Solver[Config]:
    matrix, shift = MATRIX.to(dtype), SHIFT.to(dtype)
    change = matrix - torch.eye(D, dtype=dtype)

    class Exact(cls):  # type: ignore[misc, valid-type]
        def build_potential(self) -> nn.Module:
            return cls.exact_potential(change, shift)

        def build_potentials(self) -> tuple[nn.Module, nn.Module]:
            inverse = matrix.inverse()
            return QuadraticPotential(matrix, shift), QuadraticPotential(inverse, -inverse @ shift)

    return make(Exact, config, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize(
    ("cls", "config"),
    [
        (FixedPoint, FixedPointConfig(tol=0.1, side="source")),
        (NCF, NCFConfig()),
        (HJPINN, NCFConfig()),
        (MM, MMConfig()),
        (LS, LSConfig()),
    ],
)
def test_the_exact_potential_gives_the_density_of_the_gaussian(
    cls: type[Solver], config: Config, dtype: torch.dtype
) -> None:
    solver = with_exact_potential(cls, config, dtype)
    y = (points(200) @ MATRIX + SHIFT).to(dtype)
    assert has_density(solver.transport(), is_standard_normal=True, source_shape=(D,), target_shape=(D,))
    found = pushforward_log_prob(solver.transport(), y)
    assert found.dtype == DOUBLE
    torch.testing.assert_close(found, exact(y.double()), rtol=0, atol=1e-9 if dtype == DOUBLE else 2e-3)
    nll = mean_nll(found)
    assert nll["nll_missing"] == 0
    assert nll["nll"] == pytest.approx(-float(exact(y.double()).mean()), abs=1e-9 if dtype == DOUBLE else 1e-4)


class Warp(Transport):
    """T(x) = x + a sin(x) by coordinate: injective for |a| < 1. Its inverse map is far off, or not a number."""

    differentiable = True

    def __init__(self, *, amount: float = 0.9, guess: float = 0.0) -> None:
        super().__init__()
        self.amount, self.guess = amount, guess

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        moved = x + self.amount * x.sin()
        return moved if label is None else moved + label[:, None]

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        return torch.full_like(y, self.guess)


class Bounded(Warp):
    """T(x) = arctan(x): no x is sent beyond pi / 2."""

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        return x.atan()


@pytest.mark.parametrize("guess", [0.0, 3.0, math.nan])
def test_density_integrates_to_one_however_bad_the_inverse_map(guess: float) -> None:
    warp = Warp(guess=guess)
    line = torch.linspace(-7, 7, 4001, dtype=DOUBLE)
    y = torch.stack((line, 0 * line, 0 * line), 1)
    found = pushforward_log_prob(warp, y)
    assert not found.isnan().any()
    # T(0) = 0 with slope 1.9: the two other coordinates contribute the density of N(0, 1) at 0, over 1.9, each
    other = (2 * math.pi) ** -0.5 / 1.9
    assert float(torch.trapezoid(found.exp(), line)) == pytest.approx(other**2, rel=1e-3)


def test_labels_go_with_their_points() -> None:
    y, label = points(50), torch.arange(50) % 3
    found = pushforward_log_prob(Warp(), y + label[:, None], label)
    torch.testing.assert_close(found, pushforward_log_prob(Warp(), y))


def test_points_out_of_reach_have_no_density() -> None:
    bounded = Bounded()
    y = torch.zeros(100, D, dtype=DOUBLE)
    y[:, 0] = torch.linspace(-1.4, 1.4, 100)
    found = pushforward_log_prob(bounded, y)
    x = y.tan()
    expected = (-x.square() / 2 - math.log(2 * math.pi) / 2 + (1 + x.square()).log()).sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    y[:2, 1] = 2.0
    found = pushforward_log_prob(bounded, y)
    assert found.isnan().tolist() == [True, True] + [False] * 98
    assert mean_nll(found) == {"nll_missing": 0.02}
    assert mean_nll(found[1:101])["nll_missing"] == pytest.approx(1 / 99)
    assert set(mean_nll(torch.cat((found[1:], found[2:])))) == {"nll", "nll_missing"}


def test_densities_are_made_of_two_way_maps_from_a_standard_normal_between_short_vectors() -> None:
    def offered(solver: Solver[Config], *, normal: bool = True, shape: tuple[int, ...] = (D,)) -> bool:
        return has_density(solver.transport(), is_standard_normal=normal, source_shape=shape, target_shape=shape)

    solver = make(MM, MMConfig())
    assert offered(solver)
    assert not offered(solver, normal=False)
    assert not offered(solver, shape=(65,))
    assert not offered(solver, shape=(1, 2, 2))
    assert not offered(make(NOT, NOTConfig()))  # no way back
    assert not offered(make(Constant, Config()))  # nothing to differentiate


@pytest.mark.parametrize("n", [0, 1])
def test_few_points_are_no_trouble(n: int) -> None:
    assert pushforward_log_prob(Warp(), points(n)).shape == (n,)


def test_points_at_a_fold_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # T(x) = x + 3 sin(x) folds back on itself, so that Newton's method from a bad start may end at a fold
    folded = Warp(amount=3.0, guess=2.2)  # beside the first fold
    easy = torch.full((400, D), 2.2, dtype=DOUBLE)  # which the first guess is right for
    y = folded.forward(torch.cat((points(100), easy)))
    found = pushforward_log_prob(folded, y)
    torch.testing.assert_close(found, pushforward_log_prob(folded, y), equal_nan=True)
    monkeypatch.setattr("otbench.metrics.density._RESTARTS", ())
    once = pushforward_log_prob(folded, y)
    assert int(once.isnan().sum()) > 50
    assert int(found.isnan().sum()) < int(once.isnan().sum()) / 3


def test_a_map_that_misses_most_points_is_not_searched_for_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bounded = Bounded()
    y = 10 + points(100)
    found = pushforward_log_prob(bounded, y)
    monkeypatch.setattr("otbench.metrics.density._RESTARTS", ())
    torch.testing.assert_close(found, pushforward_log_prob(bounded, y), equal_nan=True, rtol=0, atol=0)
    assert bool(found.isnan().all())


def test_a_closed_form_inverse_needs_no_search() -> None:
    class Exact(FixedPoint):
        def build_potential(self) -> QuadraticPotential:  # type: ignore[override]
            inverse = torch.linalg.inv(MATRIX)  # the potential lives on the target: its map is S
            return QuadraticPotential(inverse - torch.eye(3, dtype=DOUBLE), -SHIFT @ inverse)

    solver = make(Exact, FixedPointConfig(side="target", averaging=0.0, tol=1e-6))
    y = points(200) @ MATRIX + SHIFT
    torch.testing.assert_close(pushforward_log_prob(solver.transport(), y), exact(y), rtol=0, atol=1e-9)
