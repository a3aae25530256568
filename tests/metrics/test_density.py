"""Densities of pushed-forward normals: against closed forms, brute-force Jacobians, and their own integral."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from otbench import task
from otbench.baselines.linear import Linear, LinearConfig
from otbench.config import Config
from otbench.harness.evaluate import apply_maps
from otbench.metrics.density import (
    DENSITY_POINTS,
    has_density,
    mean_nll,
    pushforward_log_prob,
)
from otbench.nets.potential import QuadraticPotential
from otbench.ops.jacobian import jacobian
from otbench.problem import Batch, FreshMeasure, Measure, PoolMeasure, Problem, QuadraticCost
from otbench.solver import Context, HasForwardGradient, Solver, StepInfo
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
    assert isinstance(solver, HasForwardGradient)
    x, h = points(6, seed=4), 1e-5
    moved, found = jacobian(solver.forward_map_with_grad, x)
    torch.testing.assert_close(moved, solver.forward_map(x).detach(), rtol=1e-12, atol=1e-12)
    for j in range(D):
        move = h * torch.eye(D, dtype=DOUBLE)[j]
        difference = (solver.forward_map(x + move) - solver.forward_map(x - move)) / (2 * h)
        torch.testing.assert_close(found[:, :, j], difference, rtol=1e-6, atol=1e-6)
    # brute force: one point at a time, by torch's own Jacobian
    alone = [torch.autograd.functional.jacobian(lambda z: solver.forward_map_with_grad(z[None])[0], p) for p in x]
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
    assert has_density(solver)
    assert isinstance(solver, HasForwardGradient)
    found = pushforward_log_prob(solver, y)
    assert found.dtype == DOUBLE
    torch.testing.assert_close(found, exact(y.double()), rtol=0, atol=1e-9 if dtype == DOUBLE else 2e-3)
    nll = mean_nll(found)
    assert nll["nll_missing"] == 0
    assert nll["nll"] == pytest.approx(-float(exact(y.double()).mean()), abs=1e-9 if dtype == DOUBLE else 1e-4)


class Warp(Solver[Config]):
    """T(x) = x + a sin(x) by coordinate: injective for |a| < 1. Its inverse map is far off, or not a number."""

    amount = 0.9
    guess = 0.0

    def step(self) -> StepInfo:
        return StepInfo(0.0, done=True)

    def forward_map_with_grad(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        moved = x + self.amount * x.sin()
        return moved if label is None else moved + label[:, None]

    def forward_map(
        self, x: Tensor, label: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.forward_map_with_grad(x, label).detach()

    def backward_map(
        self, y: Tensor, label: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        return torch.full_like(y, self.guess)

    def stored_modules(self) -> Mapping[str, nn.Module]:
        return {}


class Bounded(Warp):
    """T(x) = arctan(x): no x is sent beyond pi / 2."""

    def forward_map_with_grad(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return x.atan()


@pytest.mark.parametrize("guess", [0.0, 3.0, math.nan])
def test_density_integrates_to_one_however_bad_the_inverse_map(guess: float) -> None:
    solver = make(Warp, Config())
    solver.guess = guess  # type: ignore[attr-defined]
    line = torch.linspace(-7, 7, 4001, dtype=DOUBLE)
    y = torch.stack((line, 0 * line, 0 * line), 1)
    found = pushforward_log_prob(solver, y)
    assert not found.isnan().any()
    # T(0) = 0 with slope 1.9: the two other coordinates contribute the density of N(0, 1) at 0, over 1.9, each
    other = (2 * math.pi) ** -0.5 / 1.9
    assert float(torch.trapezoid(found.exp(), line)) == pytest.approx(other**2, rel=1e-3)


def test_labels_go_with_their_points() -> None:
    solver = make(Warp, Config())
    y, label = points(50), torch.arange(50) % 3
    found = pushforward_log_prob(solver, y + label[:, None], label)
    torch.testing.assert_close(found, pushforward_log_prob(solver, y))


def test_points_out_of_reach_have_no_density() -> None:
    solver = make(Bounded, Config())
    y = torch.zeros(100, D, dtype=DOUBLE)
    y[:, 0] = torch.linspace(-1.4, 1.4, 100)
    found = pushforward_log_prob(solver, y)
    x = y.tan()
    expected = (-x.square() / 2 - math.log(2 * math.pi) / 2 + (1 + x.square()).log()).sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    y[:2, 1] = 2.0
    found = pushforward_log_prob(solver, y)
    assert found.isnan().tolist() == [True, True] + [False] * 98
    assert mean_nll(found) == {"nll_missing": 0.02}
    assert mean_nll(found[1:101])["nll_missing"] == pytest.approx(1 / 99)
    assert set(mean_nll(torch.cat((found[1:], found[2:])))) == {"nll", "nll_missing"}


def test_evaluation_makes_densities_at_the_end_where_they_apply() -> None:
    source = normal()
    x = points(DENSITY_POINTS + 100)
    test = task.TestData(Batch(x), Batch(x @ MATRIX + SHIFT))
    solver = with_exact_potential(MM, MMConfig(), DOUBLE)
    found = apply_maps(solver, test, seed=0).log_prob
    assert found is not None
    assert len(found) == DENSITY_POINTS
    assert float(found.mean()) == pytest.approx(float(exact(test.target.x).mean()), abs=0.1)
    assert apply_maps(solver, test, seed=0, final=False).log_prob is None
    source.is_standard_normal = False
    assert apply_maps(make(MM, MMConfig(), source=source), test, seed=0).log_prob is None
    assert apply_maps(make(NOT, NOTConfig()), test, seed=0).log_prob is None  # no way back


def test_a_solvers_own_densities_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(Warp):
        def log_prob(self, y: Tensor, label: Tensor | None = None) -> Tensor:
            return y.sum(1)

    monkeypatch.setattr("otbench.harness.evaluate.CHUNK", 16)
    x = points(50)
    found = apply_maps(make(Own, Config()), task.TestData(Batch(x), Batch(x)), seed=0).log_prob
    assert found is not None
    torch.testing.assert_close(found, x.sum(1))


@pytest.mark.parametrize("n", [0, 1])
def test_few_points_are_no_trouble(n: int) -> None:
    solver: Callable[..., Tensor] = pushforward_log_prob
    assert solver(make(Warp, Config()), points(n)).shape == (n,)


class Folded(Warp):
    """T(x) = x + 3 sin(x): it folds back on itself, so that Newton's method from a bad start may end at a fold."""

    amount = 3.0


def test_points_at_a_fold_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    solver = make(Folded, Config())
    solver.guess = 2.2  # type: ignore[attr-defined]  # beside the first fold
    easy = torch.full((400, D), 2.2, dtype=DOUBLE)  # which the first guess is right for
    y = solver.forward_map(torch.cat((points(100), easy)))
    found = pushforward_log_prob(solver, y)
    torch.testing.assert_close(found, pushforward_log_prob(solver, y), equal_nan=True)
    monkeypatch.setattr("otbench.metrics.density._RESTARTS", ())
    once = pushforward_log_prob(solver, y)
    assert int(once.isnan().sum()) > 50
    assert int(found.isnan().sum()) < int(once.isnan().sum()) / 3


def test_a_map_that_misses_most_points_is_not_searched_for_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    solver = make(Bounded, Config())
    y = 10 + points(100)
    found = pushforward_log_prob(solver, y)
    monkeypatch.setattr("otbench.metrics.density._RESTARTS", ())
    torch.testing.assert_close(found, pushforward_log_prob(solver, y), equal_nan=True, rtol=0, atol=0)
    assert bool(found.isnan().all())


def test_a_closed_form_inverse_needs_no_search() -> None:
    class Exact(FixedPoint):
        def build_potential(self) -> QuadraticPotential:  # type: ignore[override]
            inverse = torch.linalg.inv(MATRIX)  # the potential lives on the target: its map is S
            return QuadraticPotential(inverse - torch.eye(3, dtype=DOUBLE), -SHIFT @ inverse)

    solver = make(Exact, FixedPointConfig(side="target", averaging=0.0, tol=1e-6))
    y = points(200) @ MATRIX + SHIFT
    torch.testing.assert_close(pushforward_log_prob(solver, y), exact(y), rtol=0, atol=1e-9)
