"""LightSB: the exact plan has no loss gradient, the bias is that of the closed form, training, outputs, presets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from otbench.datasets.eot import EOT, EOTConfig
from otbench.datasets.eot.plan import Plan, make_plan
from otbench.nets.gaussian_plan import GaussianPlan
from otbench.problem import FreshMeasure, PoolMeasure, Problem, QuadraticCost
from otbench.solver import Measure
from otbench.solvers.lightsb import LightSB, PlanMaps, plan_loss
from otbench.task import Outputs

Make = Callable[..., Any]
CPU, F64 = torch.device("cpu"), torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact(plan: Plan, epsilon: float) -> GaussianPlan:
    """The task's plan as a plan of the solver: S_k = A_k, r_k = b_k, alpha_k from c(x) at one point."""
    count, dim = plan.offsets.shape
    made = GaussianPlan(dim, components=count, epsilon=epsilon, shape="full", dtype=F64)
    factors = torch.linalg.cholesky(plan.slopes)
    values: dict[str, Tensor] = {
        "log_scale": 2 * factors.diagonal(dim1=1, dim2=2).log(),
        "centre": plan.offsets,
        "lower": factors.tril(-1),
        "level": epsilon * plan.smoothed.terms(torch.zeros(1, dim, dtype=F64))[0],
    }
    for name, value in values.items():
        getattr(made, name).data.copy_(value)
    return made


def standard_normal(d: int) -> Problem:
    sides = (PoolMeasure(torch.randn(20_000, d, generator=generator(seed))) for seed in (0, 1))
    return Problem(*sides, QuadraticCost(), CPU, torch.float32)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 10.0])
def test_the_exact_plan_has_no_gradient_and_scores_zero(epsilon: float) -> None:
    dim, n = 4, 6000
    plan = make_plan(dim, epsilon, 0)
    made = exact(plan, epsilon)
    x = plan.source(n, generator())
    torch.testing.assert_close(made.shares(x), plan.shares(x))
    torch.testing.assert_close(made.mean(x[:5]), plan.conditional(x[:5])[0])

    def gradient(seed: int) -> Tensor:
        loss = plan_loss(made, plan.source(n, generator(seed)), plan(n, generator(seed + 100)))
        parts = torch.autograd.grad(loss, list(made.parameters()))
        return torch.cat([part.flatten() for part in parts])

    samples = torch.stack([gradient(seed) for seed in range(24)])
    error = samples.std(0) / len(samples) ** 0.5
    moved = error > 0  # not the upper triangles
    assert ((samples.mean(0)[moved] / error[moved]).abs() > 3.5).float().mean() < 0.03

    instance = EOT(EOTConfig(dim=dim, eps=epsilon)).build(seed=0, device=CPU, dtype=F64)
    scores = instance.score(Outputs(made.draw(instance.test.source.x, generator(7))))
    for name in ("cbw2_uvp", "bw2_uvp", "mean_uvp"):
        assert abs(scores[name]) < 0.05


@pytest.mark.parametrize("eps", [0.1, 1.0])
def test_the_bias_on_a_standard_normal_is_that_of_the_closed_form(eps: float, make_run: Make) -> None:
    rho = (math.sqrt(eps**2 + 4) - eps) / 2
    problem = standard_normal(2)
    solver = make_run(LightSB, problem, steps=200, eps=eps, components=1, lr=0.05).train()
    maps = solver.transport()
    x = problem.source.pool
    assert x is not None
    for name in ("forward", "backward"):
        torch.testing.assert_close(getattr(maps, name)(x), rho * x, atol=0.06, rtol=0)
        uvp = 100 * float((getattr(maps, name)(x) - x).square().mean() / x.var())
        assert uvp == pytest.approx(100 * (1 - rho) ** 2, rel=0.15)
    draws = PlanMaps(solver.there, solver.back, draws=True)
    uvp = 100 * float((draws.forward(x, generator=generator()) - x).square().mean())
    assert uvp == pytest.approx(100 * ((1 - rho) ** 2 + eps * rho), rel=0.1)


@pytest.mark.parametrize("values", [{}, {"covariance": "diagonal"}, {"optimiser": "soap", "lr": 0.03}])
def test_training_finds_both_maps(values: dict[str, Any], coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=4000)
    run = make_run(LightSB, pair.problem(torch.float32), steps=200, batch_size=256, **{"components": 10, **values})
    before = max(pair.uvp(run.solver))
    after = max(pair.uvp(run.train()))
    assert after < pair.identity() / 4
    assert after < before / 4


def test_training_finds_an_entropic_plan(make_run: Make) -> None:
    instance = EOT(EOTConfig(dim=2)).build(seed=0, device=CPU, dtype=torch.float32)
    solver = make_run(LightSB, instance.problem, steps=200, batch_size=256, components=10, lr=0.03).train()
    assert dataclasses.asdict(solver.settings) == {"eps": 1.0, "output": "draw", "covariance": "full"}
    maps = solver.transport()
    x = instance.test.source.x
    scores = instance.score(Outputs(maps.forward(x, generator=generator()), final=False))
    assert scores["cbw2_uvp"] < 3
    assert scores["bw2_uvp"] < 1


def test_it_draws_where_a_plan_is_wanted_and_else_maps_to_the_mean(make_run: Make) -> None:
    problem = standard_normal(2)
    entropic = dataclasses.replace(problem, epsilon=0.3)
    x = torch.randn(9, 2, generator=generator())
    for given, values, settings in (
        (problem, {}, (0.05, "mean")),
        (problem, {"output": "draw"}, (0.05, "draw")),
        (entropic, {}, (0.3, "draw")),
        (entropic, {"output": "mean", "eps": 0.2}, (0.2, "mean")),
    ):
        solver = make_run(LightSB, given, **values).solver
        assert (solver.settings.eps, solver.settings.output) == settings
        maps = solver.transport()
        assert maps.stochastic == (settings[1] == "draw") != maps.differentiable
        first, second = (maps.forward(x, generator=generator(seed)) for seed in (1, 2))
        assert torch.equal(first, second) == (not maps.stochastic)
        assert torch.equal(maps.forward(x), maps.forward(x))


def test_no_more_components_than_points(make_run: Make) -> None:
    few = PoolMeasure(torch.randn(3, 2))
    problem = Problem(few, FreshMeasure((2,), normal), QuadraticCost(), CPU, torch.float32)
    solver = make_run(LightSB, problem, components=8).train()
    assert (len(solver.there.centre), len(solver.back.centre)) == (8, 3)
    assert solver.transport().backward(torch.zeros(1, 2)).isfinite().all()


def normal(n: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, 2, generator=generator)


def test_other_shapes_are_declined() -> None:
    sides: list[Measure] = [PoolMeasure(torch.ones(5, d)) for d in (2, 3)]
    support = LightSB.supports(Problem(*sides, QuadraticCost(), CPU, torch.float32))
    assert support.reason == "shapes differ: (2,) and (3,)"


def test_presets(valid_presets: Make, make_run: Make) -> None:
    paper = valid_presets(LightSB)["paper"]
    assert {"steps": 10_000, "batch_size": 128, "lr": 1e-3, "lr_end": 1.0, "start": "samples"}.items() <= paper.items()
    plan = make_run(LightSB, standard_normal(2), start="samples", components=6).solver.there
    assert not plan.level.any()
    assert not plan.log_scale.any()
    assert float(plan.centre.detach().std()) > 0.3
