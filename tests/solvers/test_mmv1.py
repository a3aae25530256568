"""MM-v1: the exact potentials are a stationary point, the loss is the dual, both inner solvers agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otbench.nets.potential import QuadraticPotential
from otbench.solvers.mmv1 import MMv1

Make = Callable[..., Any]


def exact(gamma: Tensor) -> tuple[nn.Module, nn.Module]:
    """psi and psi_bar of the map gamma and its inverse."""
    return QuadraticPotential(gamma), QuadraticPotential(torch.linalg.inv(gamma))


def with_potentials(psi: nn.Module, psi_bar: nn.Module) -> type[MMv1]:
    class Fixed(MMv1):
        convex = False  # a quadratic has nothing to clamp

        def build_potentials(self) -> Any:
            return psi, psi_bar

    return Fixed


@pytest.mark.parametrize("d", [2, 8])
def test_exact_potentials_have_no_gradient_on_coupled_batches(d: int, coupled: Make, make_run: Make) -> None:
    pair = coupled(d)
    psi, psi_bar = exact(pair.gamma)
    run = make_run(with_potentials(psi, psi_bar), pair.problem(), tol=1e-10, max_inner=200, averaging=0.0, lr=1e-30)
    run.in_order().solver.step()
    for potential in (psi, psi_bar):
        assert float(potential.matrix.grad.abs().max()) < 1e-5
        assert float(potential.shift.grad.abs().max()) < 1e-5
    assert max(pair.uvp(run.solver)) < 1e-20


def test_the_loss_is_the_dual_value(coupled: Make, make_run: Make) -> None:
    # E psi(x) - E psi(y*) + E<y*, y> = E psi(x) + E psi^*(y) = E<x, T x> at the optimum
    pair = coupled(4)
    psi, psi_bar = exact(pair.gamma)
    solver = make_run(with_potentials(psi, psi_bar), pair.problem(), tol=1e-10, max_inner=200).solver
    solved = solver.conjugate(psi.gradient, pair.y).y
    torch.testing.assert_close(solved, pair.x, atol=1e-8, rtol=0)
    dual = solver.loss(psi, pair.x, solved).detach() + (solved * pair.y).sum(1).mean()
    assert float(dual) == pytest.approx(float((pair.x * pair.y).sum(1).mean()), rel=1e-9)


def test_inner_solvers_lead_to_the_same_step(coupled: Make, make_run: Make) -> None:
    pair, after = coupled(2, n=256), []
    for inner, iterations in (("anderson", 200), ("paper", 5000)):
        run = make_run(
            MMv1, pair.problem(), inner=inner, max_inner=iterations, tol=1e-7, batch_size=256, warm_start=False
        )
        run.in_order().solver.step()
        after.append(torch.cat([p.grad.flatten() for p in run.solver.psi.parameters()]))
    torch.testing.assert_close(after[0], after[1], atol=1e-5, rtol=1e-4)


def test_training_finds_both_maps_and_stays_convex(coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=4000)
    solver = make_run(MMv1, pair.problem(torch.float32), steps=150, batch_size=512).train()
    forward, backward = pair.uvp(solver)
    assert forward < pair.identity() / 20
    assert backward < pair.identity() / 20
    assert all((weight >= 0).all() for weight in (*solver.psi.mixing, solver.psi_bar.readout))
