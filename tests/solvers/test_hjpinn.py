"""HJ-PINN: the equation's residual vanishes at the exact potential, and only there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from otbench.nets.potential import QuadraticCharacteristics
from otbench.solvers.hjpinn import HJPINN

Make = Callable[..., Any]


@pytest.mark.parametrize("d", [2, 8])
def test_the_exact_potential_solves_the_equation(d: int, coupled: Make, make_run: Make) -> None:
    pair = coupled(d)
    a0 = pair.gamma - torch.eye(d, dtype=torch.float64)

    class Exact(HJPINN):
        def build_potential(self) -> QuadraticCharacteristics:
            return QuadraticCharacteristics(a0, torch.zeros(d, dtype=torch.float64))

    solver = make_run(Exact, pair.problem(), mmd_batch=100).solver
    when = torch.rand(512, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    hj, mmd_fwd, mmd_bwd = (loss.detach() for loss in solver.losses(pair.x, pair.y, 3 * pair.x, when))
    assert float(hj) < 1e-20
    # the images are the targets themselves: 2 E|X - Y| over all pairs, minus the U-statistic of one spread
    n = len(pair.y)
    inner = torch.pdist(pair.y).mean()
    assert float(mmd_fwd) == pytest.approx(float(inner * (2 * (n - 1) / n - 1)), rel=1e-9)
    assert max(pair.uvp(solver)) < 1e-20
    assert float(mmd_bwd) == pytest.approx(float(torch.pdist(pair.x).mean() * (2 * (n - 1) / n - 1)), rel=1e-9)


def test_the_residual_is_the_equations(coupled: Make, make_run: Make) -> None:
    pair = coupled(3, n=64)
    solver = make_run(HJPINN, pair.problem(), mmd_batch=64).solver
    when = torch.rand(64, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    points = torch.cat([pair.x, when], 1).requires_grad_()
    (slope,) = torch.autograd.grad(solver.potential(points).sum(), points)
    wanted = (slope[:, -1] + slope[:, :-1].square().sum(1) / 2).square().mean()
    found, _, _ = solver.losses(pair.x, pair.y, pair.x, when)
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-9)


def test_training_finds_both_maps(coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=4000)
    run = make_run(HJPINN, pair.problem(torch.float32), steps=200, mmd_batch=400, hj_points=400, lr=5e-3)
    forward, backward = pair.uvp(run.train())
    assert forward < pair.identity() / 10
    assert backward < pair.identity() / 10
