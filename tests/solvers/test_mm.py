"""MM and MM:R: exact potentials are stationary for both players, and the cheap inner loss has the right gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otbench.nets.dense_icnn import DenseICNN
from otbench.nets.potential import QuadraticPotential
from otbench.solvers.mm import MM, MMReversed

Make = Callable[..., Any]
F64 = torch.float64


def largest(loss: Tensor, *modules: nn.Module) -> float:
    parameters = [p for module in modules for p in module.parameters()]
    return max(float(g.abs().max()) for g in torch.autograd.grad(loss, parameters))


@pytest.mark.parametrize("d", [2, 8])
@pytest.mark.parametrize("kind", [MM, MMReversed])
def test_exact_potentials_have_no_gradient_on_coupled_batches(kind: type[MM], d: int, coupled: Make) -> None:
    pair = coupled(d)
    psi, psi_bar = QuadraticPotential(pair.gamma), QuadraticPotential(torch.linalg.inv(pair.gamma))
    potential, mover = (psi_bar, psi) if kind.reverse else (psi, psi_bar)
    here, there = (pair.y, pair.x) if kind.reverse else (pair.x, pair.y)
    assert largest(kind.potential_loss(potential, mover, here, there), potential) < 1e-5
    loss, residual = kind.map_loss(potential, mover, there)
    assert largest(loss, mover) < 1e-5
    assert float(residual) < 1e-20


def test_the_inner_loss_has_the_gradient_of_the_papers() -> None:
    generator = torch.Generator().manual_seed(5)
    psi, mover = (DenseICNN(3, generator=generator, dtype=F64, strong_convexity=1.0) for _ in range(2))
    y = torch.randn(64, 3, generator=generator, dtype=F64)
    moved = mover.gradient(y)
    paper = psi(moved).mean() - (moved * y).sum(1).mean()
    ours, _ = MM.map_loss(psi, mover, y)
    wanted, found = (torch.autograd.grad(loss, list(mover.parameters())) for loss in (paper, ours))
    for a, b in zip(wanted, found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", [MM, MMReversed])
def test_a_step_moves_the_potential_once_and_the_map_inner_times(kind: type[MM], coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=600)
    solver = make_run(kind, pair.problem(), batch_size=100, inner=4).solver
    solver.step()
    potential, mover = (solver.psi_bar, solver.psi) if kind.reverse else (solver.psi, solver.psi_bar)
    taken = [{int(solver.optimiser.state[p]["step"]) for p in net.parameters()} for net in (potential, mover)]
    assert taken == [{1}, {4}]
    # one batch for the potential, and one for each step of the map and for the potential's second term
    drawn = (solver.problem.source.drawn, solver.problem.target.drawn)
    assert drawn == ((500, 100) if kind.reverse else (100, 500))


@pytest.mark.parametrize("kind", [MM, MMReversed])
def test_the_potential_has_a_rate_of_its_own(kind: type[MM], coupled: Make, make_run: Make) -> None:
    solver = make_run(kind, coupled(2, n=600).problem(), batch_size=100, inner=1, critic_rate=0.25).solver
    before = (
        [p.detach().clone() for p in solver.psi.parameters()],
        [p.detach().clone() for p in solver.psi_bar.parameters()],
    )
    solver.step()
    # the first step of Adam moves each weight by the rate
    sizes = [
        max(float((p.detach() - old).abs().max()) for p, old in zip(net.parameters(), olds, strict=True))
        for net, olds in zip((solver.psi, solver.psi_bar), before, strict=True)
    ]
    potential, mover = reversed(sizes) if kind.reverse else sizes
    assert potential == pytest.approx(0.25 * mover, rel=1e-2)


@pytest.mark.parametrize("kind", [MM, MMReversed])
def test_training_finds_both_maps(kind: type[MM], coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=4000)
    forward, backward = pair.uvp(make_run(kind, pair.problem(torch.float32), steps=120, batch_size=256).train())
    assert forward < pair.identity() / 20
    assert backward < pair.identity() / 20
