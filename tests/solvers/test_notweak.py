"""NOT with a weak cost: the loss is its formula, its estimate is unbiased, closed-form solutions are saddle points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otbench.config import Value
from otbench.nets.mlp import MLP
from otbench.nets.potential import QuadraticPotential
from otbench.problem import PoolMeasure, Problem, QuadraticCost
from otbench.solvers.notweak import NOTWeak

Make = Callable[..., Any]
F64 = torch.float64
SMALL: dict[str, Value] = {"batch_size": 64, "inner": 2}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Axes(nn.Module):
    """T(x, z)_i = a_i x_i + s_i z_i."""

    def __init__(self, slope: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.slope, self.spread = nn.Parameter(slope.clone()), nn.Parameter(spread.clone())

    def forward(self, xz: Tensor) -> Tensor:
        x, z = xz.chunk(2, 1)
        return x * self.slope + z * self.spread


@pytest.mark.parametrize("gamma", [0.3, 0.66, 1.0])
def test_loss_and_its_gradient_equal_a_plain_reference(coupled: Make, make_run: Make, gamma: float) -> None:
    pair, k = coupled(3, n=20), 5
    solver = make_run(
        NOTWeak, pair.problem(), gamma=gamma, gamma_rise=0.0, draws=k, noise_std=0.5, steps=3, **SMALL
    ).train()
    state = solver.context.generator.get_state()
    found = solver.map_loss(pair.x)
    solver.context.generator.set_state(state)
    z = 0.5 * torch.randn(20 * k, 3, generator=solver.context.generator, dtype=F64)

    terms = []
    for i in range(20):
        draws = solver.map(torch.cat((pair.x[i].expand(k, 3), z[i * k : (i + 1) * k]), 1))
        mean = draws.sum(0) / k
        variance = ((draws - mean) ** 2).sum() / (k - 1)
        cost = ((pair.x[i] - mean) ** 2).sum() / 2 + (1 - gamma - 1 / k) / 2 * variance
        terms.append(cost - solver.potential(draws).mean())
    expected = torch.stack(terms).mean()
    torch.testing.assert_close(found, expected)
    weights = list(solver.map.parameters())
    for a, b in zip(torch.autograd.grad(found, weights), torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_estimate_of_the_cost_is_unbiased_for_any_number_of_draws(
    coupled: Make, make_run: Make, k: int, gamma: float
) -> None:
    solver = make_run(NOTWeak, coupled(3).problem(), gamma=gamma, gamma_rise=0.0, **SMALL).solver
    n, offset, spread = 200_000, torch.tensor([0.3, -1.0, 0.5], dtype=F64), torch.tensor([1.0, 2.0, 0.5], dtype=F64)
    x = torch.zeros(n, 3, dtype=F64)
    moved = offset + spread * torch.randn(n, k, 3, generator=generator(), dtype=F64)
    expected = float(offset.square().sum() + (1 - gamma) * spread.square().sum()) / 2
    found = float(solver.weak_cost(x, moved))
    assert found == pytest.approx(expected, abs=0.02)
    without = float(((moved.mean(1)) ** 2).sum(1).mean() + (1 - gamma) * moved.var(1).sum(1).mean()) / 2
    assert without - expected > 0.2  # what the correction takes away


@pytest.mark.parametrize("gamma", [0.66, 0.9])
def test_closed_form_solution_of_commuting_gaussians_is_a_saddle_point(make_run: Make, gamma: float) -> None:
    """N(0, I) to N(0, diag(lam^2)): the mean is min(lam, 1/gamma) x, noise has the rest of the variance."""
    lam = torch.tensor([0.6, 1.3, 1.9], dtype=F64)
    slope = lam.clamp_max(1 / gamma)
    spread = (lam.square() - slope.square()).clamp_min(0).sqrt()
    assert float(spread[-1]) > 0.3
    # Given f(y) = sum_i q_i y_i^2 / 2 the best mean is x_i / (1 - q_i) and variance costs (1 - gamma - q_i) / 2: q_i is
    # such that either the variance is free, or the mean is lam x_i and variance costs something.
    q = torch.where(spread > 0, torch.full_like(lam, 1 - gamma), 1 - 1 / slope)

    class Exact(NOTWeak):
        def build_map(self) -> nn.Module:
            return Axes(slope, spread)

        def build_potential(self) -> QuadraticPotential:  # type: ignore[override]
            return QuadraticPotential(torch.diag(q))

    n = 50_000
    x, y = (torch.randn(n, 3, generator=generator(seed), dtype=F64) for seed in (1, 2))
    problem = Problem(PoolMeasure(x), PoolMeasure(y * lam), QuadraticCost(), torch.device("cpu"), F64)
    solver = make_run(Exact, problem, gamma=gamma, gamma_rise=0.0, draws=4, noise_std=1.0).solver
    inner, outer = solver.map_loss(x), solver.potential_loss(x, y * lam)
    found = [
        *torch.autograd.grad(inner, list(solver.map.parameters())),
        torch.autograd.grad(outer, solver.potential.matrix)[0],
    ]
    assert max(float(g.abs().max()) for g in found) < 0.06  # sampling noise has 0.016
    # the saddle value is the weak cost of the plan
    plan = ((1 - slope).square() + (1 - gamma) * spread.square()).sum() / 2
    assert float((inner + solver.potential(y * lam).mean()).detach()) == pytest.approx(float(plan), abs=0.02)


def test_gamma_rises_with_the_used_share_of_the_budget(coupled: Make, make_run: Make) -> None:
    run = make_run(NOTWeak, coupled(2).problem(), steps=8, gamma=0.8, gamma_rise=0.5, **SMALL)
    x, moved = torch.zeros(1, 1, dtype=F64), torch.tensor([[[-1.0], [1.0]]], dtype=F64)
    for done, gamma in ((0, 0.0), (2, 0.4), (4, 0.8), (8, 0.8)):
        run.done = done
        assert float(run.solver.weak_cost(x, moved)) == pytest.approx((1 - gamma - 0.5) * 2 / 2)


def test_start_is_the_identity_whatever_the_noise(coupled: Make, make_run: Make) -> None:
    pair = coupled(5)
    solver = make_run(NOTWeak, pair.problem()).solver
    assert torch.equal(solver.transport().forward(pair.x, generator=generator()), pair.x)


def test_draws_follow_the_given_generator_alone(coupled: Make, make_run: Make) -> None:
    pair = coupled(2)
    solver = make_run(NOTWeak, pair.problem(), steps=3, residual=False, **SMALL).train()
    state = solver.context.generator.get_state()
    one, same, other = (solver.transport().forward(pair.x, generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(solver.transport().forward(pair.x), solver.transport().forward(pair.x))
    assert torch.equal(state, solver.context.generator.get_state())
    assert one.shape == pair.x.shape
    assert not one.requires_grad
    assert solver.transport().stochastic
    assert all(name.startswith("network.") for name in solver.transport().state_dict())


def test_short_run_beats_the_identity_in_single_draws(coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=4096, seed=101)
    assert float(torch.linalg.eigvalsh(pair.gamma).max()) < 1 / 0.66  # the strong map is the solution
    solver = make_run(NOTWeak, pair.problem(torch.float32), steps=60, batch_size=128).train()
    moved = solver.transport().forward(pair.x.float(), generator=generator())
    found = 100 * float((moved - pair.y).square().sum(1).mean() / pair.y.square().sum(1).mean())
    assert found < 0.6 * pair.identity()


def test_resumed_run_equals_an_unbroken_one_bit_for_bit(coupled: Make, make_run: Make) -> None:
    problem = coupled(3).problem(torch.float32)
    whole, first, second = (make_run(NOTWeak, problem, steps=8, seed=seed, **SMALL) for seed in (100, 100, 101))
    whole.train()
    first.train(3)
    second.solver.load_state_dict(first.solver.state_dict())
    second.done = 3
    second.train(5)
    x = torch.randn(7, 3, generator=generator(1))
    assert torch.equal(
        whole.solver.transport().forward(x, generator=generator()),
        second.solver.transport().forward(x, generator=generator()),
    )


def test_paper_map_has_the_published_size_and_all_presets_build(
    coupled: Make, make_run: Make, valid_presets: Make
) -> None:
    paper = {name: value for name, value in valid_presets(NOTWeak)["paper"].items() if name != "steps"}
    solver = make_run(NOTWeak, coupled(2).problem(), **paper).solver
    assert isinstance(solver.map, MLP)
    assert sum(p.numel() for p in solver.map.parameters()) == 20_902
    assert sum(p.numel() for p in solver.potential.parameters()) == 20_601
