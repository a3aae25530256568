"""ENOT: gradients of both losses as the paper's, exact potentials are stationary, and both maps are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otbench.nets.elu_potential import ELUPotential, Pass
from otbench.solvers.enot import ENOT

Make = Callable[..., Any]
F64 = torch.float64


def papers_losses(solver: ENOT, f: ELUPotential, g: ELUPotential, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The losses of f and g with stopped gradients, as published."""
    tau, weight = solver.config.tau, solver.config.expectile

    def cost(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().sum(1) / 2

    def expectile(u: Tensor) -> Tensor:
        return (torch.where(u >= 0, tau, 1 - tau) * u.square()).mean()

    points = x.clone().requires_grad_()
    moved = x - torch.autograd.grad(f(points).sum(), points, create_graph=True)[0]
    stopped = moved.detach()
    at_x, at_y = cost(x, stopped) - g(stopped), g(y)
    penalty = expectile((at_x - cost(x, y)).detach() + at_y) + expectile((at_y - cost(x, y)).detach() + at_x)
    return (cost(x, moved) - g(moved)).mean(), weight * penalty - (at_x + at_y).mean()


def test_gradients_are_those_of_the_papers_losses(coupled: Make, make_run: Make) -> None:
    pair = coupled(3, n=64)
    solver = make_run(ENOT, pair.problem(), batch_size=64).solver
    solver.add_gradients(solver.f, solver.g, pair.x, pair.y)
    map_loss, conjugate_loss = papers_losses(solver, solver.f, solver.g, pair.x, pair.y)
    for network, loss in ((solver.f, map_loss), (solver.g, conjugate_loss)):
        wanted = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
        for parameter, gradient in zip(network.parameters(), wanted, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


class Quadratic(nn.Module):
    """x^T A x / 2 with the interface of an ELUPotential; keeps what it is told of the losses."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix, self.share, self.direction = matrix, torch.empty(0), torch.empty(0)

    def look(self, x: Tensor) -> Pass:
        gradient = x @ self.matrix
        return Pass([x], [], [], (gradient * x).sum(1) / 2, gradient)

    def add_value_gradient(self, seen: Pass, share: Tensor) -> None:
        self.share = share

    def add_direction_gradient(self, seen: Pass, direction: Tensor) -> None:
        self.direction = direction


@pytest.mark.parametrize("d", [2, 8])
def test_exact_potentials_are_stationary_on_coupled_batches(d: int, coupled: Make, make_run: Make) -> None:
    pair = coupled(d)
    solver = make_run(ENOT, pair.problem(), batch_size=64).solver
    eye = torch.eye(d, dtype=F64)
    f, g = Quadratic(eye - pair.gamma), Quadratic(eye - torch.linalg.inv(pair.gamma))
    _, dual = solver.add_gradients(f, g, pair.x, pair.y)
    assert float(f.direction.abs().max()) < 1e-10  # T already minimises c(x, T) - g(T)
    # T(x) = y on coupled points, so values of g at T(x) and at y cancel point by point
    at_moved, at_y = g.share.chunk(2)
    torch.testing.assert_close(at_moved, -at_y)
    cost = (pair.x - pair.y).square().sum(1).mean() / 2
    torch.testing.assert_close(dual, cost, rtol=1e-10, atol=0)


def test_both_directions_at_once_add_what_either_adds(coupled: Make, make_run: Make) -> None:
    pair = coupled(3, n=64)
    solver = make_run(ENOT, pair.problem(), batch_size=64).solver
    parameters = [*solver.f.parameters(), *solver.g.parameters()]
    for parameter in parameters:
        parameter.data.mul_(2)  # further from the start, where much is nearly zero
    losses = [
        solver.add_gradients(*ways)
        for ways in ((solver.f, solver.g, pair.x, pair.y), (solver.g, solver.f, pair.y, pair.x))
    ]
    wanted = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    torch.testing.assert_close(
        solver.add_gradients_both(pair.x, pair.y), tuple((a + b) / 2 for a, b in zip(*losses, strict=True))
    )
    for parameter, gradient in zip(parameters, wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_directions_take_turns(coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=256)
    run = make_run(ENOT, pair.problem(), steps=4, batch_size=64, directions="in turn")
    moved = []
    original = run.solver.add_gradients
    run.solver.add_gradients = lambda f, g, x, y: (moved.append(f is run.solver.f), original(f, g, x, y))[1]
    run.train(4)
    assert moved == [True, False, True, False]


@pytest.mark.parametrize(("optimiser", "directions"), [("soap", "both"), ("adam", "both"), ("soap", "in turn")])
def test_training_finds_both_maps(optimiser: str, directions: str, coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=4000)
    settings = {"steps": 400, "batch_size": 256, "optimiser": optimiser, "directions": directions}
    run = make_run(ENOT, pair.problem(torch.float32), **settings)
    forward, backward = pair.uvp(run.train())
    assert forward < pair.identity() / 10
    assert backward < pair.identity() / 10


def test_all_presets_are_valid(valid_presets: Make) -> None:
    assert valid_presets(ENOT)["paper"]["optimiser"] == "adam"
