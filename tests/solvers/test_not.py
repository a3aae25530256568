"""NOT: the exact solution is a saddle point, the loss is its formula, training finds the map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otbench.config import Value, build_config
from otbench.nets.mlp import MLP, MLPPotential
from otbench.nets.potential import QuadraticPotential
from otbench.problem import PowerCost, Problem
from otbench.registration import registrations
from otbench.solvers.not_ import NOT, NOTConfig

Make = Callable[..., Any]
SMALL: dict[str, Value] = {"batch_size": 64, "inner": 2}


class Affine(nn.Module):
    """x -> A x + b with parameters."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())
        self.shift = nn.Parameter(matrix.new_zeros(len(matrix)))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix.T + self.shift


def exact(gamma: Tensor) -> type[NOT]:
    """The solver with T* and f(y) = |y|^2/2 - y^T gamma^-1 y/2 in place of its networks."""

    class Exact(NOT):
        def build_map(self) -> nn.Module:
            return Affine(gamma)

        def build_potential(self) -> QuadraticPotential:  # type: ignore[override]
            return QuadraticPotential(torch.eye(len(gamma), dtype=gamma.dtype) - torch.linalg.inv(gamma))

    return Exact


def uvp(solver: NOT, pair: Any) -> float:
    x = pair.x.to(solver.context.dtype)
    return 100 * float((solver.transport().forward(x) - pair.y).square().sum(1).mean() / pair.y.square().sum(1).mean())


@pytest.mark.parametrize("d", [2, 8, 32])
def test_exact_map_and_critic_are_a_saddle_point(coupled: Make, make_run: Make, d: int) -> None:
    pair = coupled(d)
    solver = make_run(exact(pair.gamma), pair.problem()).solver
    inner, outer = solver.map_loss(pair.x), solver.potential_loss(pair.x, pair.y)
    found = [
        *torch.autograd.grad(inner, list(solver.map.parameters())),
        *torch.autograd.grad(outer, list(solver.potential.parameters())),
    ]
    assert max(float(g.abs().max()) for g in found) < 1e-5
    assert uvp(solver, pair) < 1e-10

    # strong duality: the saddle value is the cost of transport
    cost = (pair.x - pair.y).square().sum(1).mean() / 2
    assert float((inner + solver.potential(pair.y).mean()).detach()) == pytest.approx(float(cost), rel=1e-10)

    # and the gradient does see an error, in either player
    with torch.no_grad():
        solver.map.matrix.add_(0.01)
    assert (
        max(float(g.abs().max()) for g in torch.autograd.grad(solver.map_loss(pair.x), solver.map.parameters())) > 1e-3
    )


@pytest.mark.parametrize("critic", ["dense_icnn", "mlp"])
@pytest.mark.parametrize("cost_scale", ["sum", "mean"])
def test_losses_and_their_gradients_equal_the_plain_formula(
    coupled: Make, make_run: Make, critic: str, cost_scale: str
) -> None:
    pair = coupled(3, n=40)
    solver = make_run(NOT, pair.problem(), critic=critic, cost_scale=cost_scale, steps=5, **SMALL).train()
    moved = solver.map(pair.x)
    square = (moved - pair.x) ** 2
    cost = 0.5 * square.sum(1).mean() if cost_scale == "sum" else square.mean()
    inner = cost - solver.potential(moved).mean()
    outer = solver.potential(moved).mean() - solver.potential(pair.y).mean()
    cases = (
        (solver.map_loss(pair.x), inner, solver.map),
        (solver.potential_loss(pair.x, pair.y), outer, solver.potential),
    )
    for found, expected, network in cases:
        weights = list(network.parameters())
        torch.testing.assert_close(found, expected)
        for a, b in zip(
            torch.autograd.grad(found, weights), torch.autograd.grad(expected, weights, retain_graph=True), strict=True
        ):
            torch.testing.assert_close(a, b)


def test_each_player_moves_in_its_own_steps_only(coupled: Make, make_run: Make) -> None:
    pair = coupled(2)
    solver = make_run(NOT, pair.problem(), **SMALL).solver
    solver.map_loss(pair.x).backward()
    assert all(p.grad is None for p in solver.potential.parameters())
    solver.map.zero_grad()
    solver.potential_loss(pair.x, pair.y).backward()
    assert all(p.grad is None for p in solver.map.parameters())


def test_residual_map_starts_at_the_identity(coupled: Make, make_run: Make) -> None:
    pair = coupled(5)
    solver = make_run(NOT, pair.problem()).solver
    assert torch.equal(solver.transport().forward(pair.x), pair.x)
    assert uvp(solver, pair) == pytest.approx(pair.identity())
    plain = make_run(NOT, pair.problem(), residual=False).solver
    assert not torch.equal(plain.transport().forward(pair.x), pair.x)


def test_paper_networks_have_the_published_sizes(coupled: Make, make_run: Make) -> None:
    (note,) = registrations(NOT)
    paper = {name: value for name, value in note.presets["paper"].items() if name != "steps"}
    solver = make_run(NOT, coupled(2).problem(), **paper).solver
    assert isinstance(solver.map, MLP)
    assert isinstance(solver.potential, MLPPotential)
    assert sum(p.numel() for p in solver.map.parameters()) == 20_702
    assert sum(p.numel() for p in solver.potential.parameters()) == 20_601
    assert solver.transport().network is solver.map  # no averaging


@pytest.mark.parametrize("critic", ["dense_icnn", "mlp"])
def test_short_run_beats_the_identity(coupled: Make, make_run: Make, critic: str) -> None:
    pair = coupled(2, n=4096, seed=101)
    solver = make_run(NOT, pair.problem(torch.float32), steps=60, batch_size=256, critic=critic).train()
    assert uvp(solver, pair) < 0.3 * pair.identity()


def test_resumed_run_equals_an_unbroken_one_bit_for_bit(coupled: Make, make_run: Make) -> None:
    problem = coupled(3).problem(torch.float32)
    whole, first, second = (make_run(NOT, problem, steps=8, seed=seed, **SMALL) for seed in (100, 100, 101))
    whole.train()
    first.train(3)
    second.solver.load_state_dict(first.solver.state_dict())
    second.done = 3
    second.train(5)
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(whole.solver.transport().forward(x), second.solver.transport().forward(x))
    for a, b in zip(whole.solver.potential.parameters(), second.solver.potential.parameters(), strict=True):
        assert torch.equal(a, b)


def test_map_keeps_the_shape_carries_no_graph_and_is_all_that_is_stored(coupled: Make, make_run: Make) -> None:
    solver = make_run(NOT, coupled(4).problem(), **SMALL).train()
    x = torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moved = solver.transport().forward(x)
    assert moved.shape == x.shape
    assert not moved.requires_grad
    assert all(name.startswith("network.") for name in solver.transport().state_dict())
    assert not solver.transport().two_way
    assert not solver.transport().stochastic


def test_critic_moves_once_and_the_map_inner_times_per_step(coupled: Make, make_run: Make) -> None:
    solver = make_run(NOT, coupled(2).problem(), batch_size=32, inner=3, steps=4).train()
    taken = [
        {int(state["step"]) for state in optimiser.state.values()}
        for optimiser in (solver.map_optimiser, solver.potential_optimiser)
    ]
    assert taken == [{12}, {4}]


def test_presets_build_and_only_the_quadratic_cost_is_taken(coupled: Make) -> None:
    (note,) = registrations(NOT)
    assert set(note.presets) == {"smoke", "quick", "full", "paper"}
    for preset in note.presets.values():
        build_config(NOTConfig, {k: v for k, v in preset.items() if k != "steps"}, owner="solver not")
    problem = coupled(2).problem()
    assert NOT.supports(problem).ok
    assert not NOT.supports(Problem(problem.source, problem.target, PowerCost(3.0), problem.device, problem.dtype)).ok
