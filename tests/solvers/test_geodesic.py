"""Geodesic: exact paths are a saddle point, with the action that they should have; velocities; training; resuming."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otbench.nets.potential import QuadraticPotential
from otbench.problem import Cost, HarmonicCost, PoolMeasure, PowerCost, Problem, QuadraticCost
from otbench.solver import Solver
from otbench.solvers.geodesic import Geodesic, Paths, path, path_velocity

Make = Callable[..., Any]
SMALL = {"batch_size": 64, "inner": 2}


class Linear(nn.Module):
    """x -> A x, with A a parameter."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix.T


def exact(gamma: Tensor) -> type[Geodesic]:
    """The solver with T* and the critic |y|^2/2 - y^T gamma^-1 y/2 in place of its networks."""
    eye = torch.eye(len(gamma), dtype=gamma.dtype)

    class Exact(Geodesic):
        def build_paths(self) -> nn.Module:
            return Linear(gamma - eye)

        def build_potential(self) -> QuadraticPotential:  # type: ignore[override]
            return QuadraticPotential(eye - torch.linalg.inv(gamma))

    return Exact


@pytest.mark.parametrize("d", [2, 8])
def test_exact_paths_and_critic_are_a_saddle_point(coupled: Make, make_run: Make, d: int) -> None:
    pair = coupled(d)
    solver = make_run(exact(pair.gamma), pair.problem()).solver
    inner, outer = solver.paths_loss(pair.x), solver.potential_loss(pair.x, pair.y)
    found = [
        *torch.autograd.grad(inner, list(solver.paths.parameters())),
        *torch.autograd.grad(outer, list(solver.potential.parameters())),
    ]
    assert max(float(g.abs().max()) for g in found) < 1e-5
    cost = (pair.x - pair.y).square().sum(1).mean() / 2
    assert float((inner + solver.potential(pair.y).mean()).detach()) == pytest.approx(float(cost), rel=1e-10)
    maps = solver.transport()
    assert torch.allclose(maps(pair.x), pair.y)
    assert torch.allclose(maps.interpolate(pair.x, 0.25), torch.lerp(pair.x, pair.y, 0.25))


@pytest.mark.parametrize("cost", [QuadraticCost(), PowerCost(3), HarmonicCost(2)])
def test_the_action_of_a_path_is_that_of_its_formula(make_run: Make, cost: Cost) -> None:
    """Straight lines have the cost of their ends; bent ones have more, by the sum over many small chords."""
    generator = torch.Generator().manual_seed(0)
    x, y, *bends = torch.randn(5, 40, 3, generator=generator, dtype=torch.float64)
    problem = Problem(PoolMeasure(x), PoolMeasure(y), cost, torch.device("cpu"), torch.float64)
    solver = make_run(Geodesic, problem, bends=3).solver
    parts = torch.cat((y - x, *bends), 1)
    times = torch.linspace(0, 1, 2001, dtype=torch.float64)
    places = torch.stack([path(x, parts, float(t)) for t in times])
    speeds, middles = 2000 * places.diff(dim=0), (places[1:] + places[:-1]) / 2
    wanted = torch.stack([cost.lagrangian(at, v) for at, v in zip(middles, speeds, strict=True)]).mean(0)
    torch.testing.assert_close(solver.action(x, parts), wanted, rtol=2e-2 if cost.name == "power 3" else 1e-4, atol=0)
    assert (solver.action(x, parts) > cost(x, y)).all()
    torch.testing.assert_close(places[-1], y)
    torch.testing.assert_close(path_velocity(x, parts, 0.3), speeds[599:601].mean(0), rtol=1e-5, atol=1e-5)
    if cost.straight:
        straight = torch.cat((y - x, *torch.zeros(3, 40, 3, dtype=torch.float64)), 1)
        torch.testing.assert_close(solver.action(x, straight), cost(x, y))


def test_three_bends_come_close_to_the_paths_of_a_potential(make_run: Make) -> None:
    """Paths are what the potential asks for, and the least action is its cost."""
    cost, (x, y) = HarmonicCost(2), torch.randn(2, 30, 2, generator=torch.Generator().manual_seed(1)).double()
    problem = Problem(PoolMeasure(x), PoolMeasure(y), cost, torch.device("cpu"), torch.float64)
    solver = make_run(Geodesic, problem).solver
    bends = torch.zeros(30, 6, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([bends], max_iter=100, tolerance_grad=1e-12)

    def action() -> Tensor:
        optimiser.zero_grad()
        total = solver.action(x, torch.cat((y - x, bends), 1)).sum()
        total.backward()
        return total

    optimiser.step(action)
    parts = torch.cat((y - x, bends.detach()), 1)
    torch.testing.assert_close(solver.action(x, parts), cost(x, y), rtol=1e-5, atol=0)
    for t in (0.25, 0.5, 0.8):
        torch.testing.assert_close(path(x, parts, t), cost.path(x, y, t), rtol=0, atol=2e-3)


def test_paths_of_a_potential_solve_its_equation() -> None:
    """x'' = omega^2 x, and the velocity is the derivative of the place."""
    cost, (x, y) = HarmonicCost(1.5), torch.randn(2, 10, 2, generator=torch.Generator().manual_seed(2)).double()
    torch.testing.assert_close(cost.path(x, y, 0.0), x)
    torch.testing.assert_close(cost.path(x, y, 1.0), y)
    step = 1e-4
    ahead, here, behind = (cost.path(x, y, 0.4 + h) for h in (step, 0.0, -step))
    torch.testing.assert_close((ahead - behind) / (2 * step), cost.path_velocity(x, y, 0.4), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close((ahead - 2 * here + behind) / step**2, 1.5**2 * here, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="quadratic cost"):
        HarmonicCost(0)


def test_the_map_back_follows_the_velocity() -> None:
    """v = x - b carries along b + e^t (x - b)."""

    class Affine(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            return rows[:, :2] - 3.0

    maps = Paths(nn.Identity(), Affine(), steps=20)
    y = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(maps.backward(y), 3 + (y - 3) * torch.tensor(-1.0).exp(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(maps.velocity(y, 0.5), y - 3)


def test_both_phases_learn_a_gaussian_pair(coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=2048)
    run = make_run(Geodesic, pair.problem(torch.float32), steps=120, batch_size=256)
    run.train(84)
    forward, backward = pair.uvp(run.solver)
    assert forward < pair.identity() / 4
    assert backward == pytest.approx(pair.uvp(run.solver)[1])  # the identity: v is zero until phase 2
    weights = copy.deepcopy(run.solver.paths.state_dict())
    run.train(36)
    assert all(torch.equal(value, weights[name]) for name, value in run.solver.paths.state_dict().items())
    assert max(pair.uvp(run.solver)) < pair.identity() / 4
    maps, x = run.solver.transport(), pair.x.float()
    middle, speed = torch.lerp(x, pair.y.float(), 0.5), (pair.y - pair.x).float()
    error = (maps.velocity(middle, 0.5) - speed).square().sum(1).mean() / speed.square().sum(1).mean()
    assert error < 0.1


@pytest.mark.parametrize("done", [2, 5])
def test_a_resumed_run_equals_an_unbroken_one_in_both_phases(coupled: Make, make_run: Make, done: int) -> None:
    pair = coupled(2)
    runs = [make_run(Geodesic, pair.problem(torch.float32), steps=6, regression=0.5, **SMALL) for _ in range(2)]
    runs[0].train(6)
    runs[1].train(done)
    other = make_run(Geodesic, pair.problem(torch.float32), steps=6, seed=7, regression=0.5, **SMALL)
    other.solver.load_state_dict(copy.deepcopy(runs[1].solver.state_dict()))
    other.done = done
    other.train(6 - done)
    x = pair.x.float()
    ours, theirs = (run.solver.transport() for run in (runs[0], other))
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.backward(x), theirs.backward(x))


def test_which_problems_it_takes(coupled: Make) -> None:
    problem = coupled(2).problem()
    for cost in (PowerCost(1.5), HarmonicCost(1)):
        assert Geodesic.supports(replace(problem, cost=cost)).ok
    image = PoolMeasure(torch.zeros(5, 1, 4, 4))
    assert "vectors" in Geodesic.supports(replace(problem, source=image, target=image)).reason
    assert "shapes differ" in Geodesic.supports(replace(problem, source=PoolMeasure(torch.zeros(5, 3)))).reason


def test_critics_are_as_asked_for(coupled: Make, make_run: Make, valid_presets: Make) -> None:
    assert valid_presets(Geodesic)["paper"]["critic"] == "mlp"
    solver: Solver[Any] = make_run(Geodesic, coupled(2).problem(), critic="mlp", optimiser="soap", **SMALL).train()
    assert isinstance(solver.transport(), Paths)
