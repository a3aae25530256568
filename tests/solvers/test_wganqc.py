"""WGAN-QC: loss and gradient against plain autograd with HiGHS, both directions from one program, training, presets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor

from otbench.nets.dense_icnn import DenseICNN
from otbench.solvers.wganqc import WGANQC

from ..helpers.plain_icnn import by_definition

Make = Callable[..., Any]
GAMMA = 0.1


def plain_program(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """r, f with sum zero, and the plan with rows y, by HiGHS; unique for coprime sizes."""
    n, m = len(y), len(x)
    matrix = np.zeros((n * m, n + m))
    for i in range(n):
        for j in range(m):
            matrix[i * m + j, [i, n + j]] = 1, -1
    cost = torch.stack([((y[i] - x[j]) ** 2).sum() / 2 for i in range(n) for j in range(m)])
    goal = np.array([-1 / n] * n + [1 / m] * m)
    found = scipy.optimize.linprog(goal, matrix, cost.numpy(), bounds=(None, None), method="highs")
    both = torch.from_numpy(found.x)
    r, f = (both - both.mean()).split_with_sizes([n, m])
    return r, f, torch.from_numpy(-found.ineqlin.marginals).view(n, m)


def plain_loss(net: DenseICNN, x: Tensor, y: Tensor, r: Tensor, f: Tensor, partner: Tensor) -> Tensor:
    """The published loss of the direction from x to y, with K = 1 and the published factors."""
    x = x.clone().requires_grad_()
    u_x, u_y = (by_definition(net, z) - (z * z).sum(1) / 2 for z in (x, y))
    (slope,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
    gap = slope.norm(dim=1) / 2 - (y[partner] - x.detach()).norm(dim=1) / 2
    fit = 0.5 * (u_y.mean() - r.mean()) ** 2 + 0.5 * ((u_x - f) ** 2).mean()
    return fit + 4 * GAMMA * 0.5 * (gap**2).mean()


def gradients(solver: WGANQC, loss: Tensor | None = None) -> Tensor:
    parameters = [*solver.psi.parameters(), *solver.psi_bar.parameters()]
    if loss is None:
        return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])


@pytest.mark.parametrize("inner", ["simplex", "highs"])
@pytest.mark.parametrize("activation", ["celu", "softplus"])
def test_loss_and_gradient_are_those_of_plain_autograd(
    activation: str, inner: str, coupled: Make, make_run: Make
) -> None:
    """One program per direction here, pools of 21 and 20 points, so that its solution is unique."""
    pair = coupled(3, n=21)
    x, pair.y = pair.x, coupled(3, n=20, seed=101).y
    y = pair.y
    values = {"activation": activation, "inner": inner, "gamma": GAMMA}
    run = make_run(WGANQC, pair.problem(), **values, strong_convexity=1.0, pretraining=0, averaging=0.0)
    solver = run.in_order().solver
    with torch.no_grad():  # two different networks
        for parameter in solver.psi_bar.parameters():
            parameter.mul_(0.5)
    r, f, plan = plain_program(x, y)
    wanted = plain_loss(solver.psi, x, y, r, f, plan.argmax(0))
    r, f, plan = plain_program(y, x)
    wanted = wanted + plain_loss(solver.psi_bar, y, x, r, f, plan.argmax(0))
    reference = gradients(solver, wanted)
    info = solver.step()
    assert float(info.loss) == pytest.approx(float(wanted.detach()), rel=1e-9)
    torch.testing.assert_close(gradients(solver), reference, rtol=1e-7, atol=1e-10)


def test_both_inner_solvers_lead_to_the_same_step(coupled: Make, make_run: Make) -> None:
    pair, after = coupled(2, n=256), []
    for inner in ("simplex", "highs"):
        solver = make_run(WGANQC, pair.problem(), inner=inner, batch_size=64).train(3)
        after.append(torch.cat([p.detach().flatten() for p in solver.psi.parameters()]))
    torch.testing.assert_close(after[0], after[1], atol=1e-6, rtol=0)


def test_exchanging_the_measures_exchanges_the_gradients(coupled: Make, make_run: Make) -> None:
    """One program serves both directions: neither has the better half of it."""
    pair, found = coupled(2, n=64), []
    for x, y in ((pair.x, pair.y), (pair.y, pair.x)):
        pair.x, pair.y = x, y
        solver = make_run(WGANQC, pair.problem(), averaging=0.0).in_order().solver
        solver.step()
        found.append([torch.cat([p.grad.flatten() for p in net.parameters()]) for net in (solver.psi, solver.psi_bar)])
    for a, b in zip(found[0], reversed(found[1]), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-7)


def test_training_lowers_the_error_both_ways(coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=4000)
    forward, backward = pair.uvp(make_run(WGANQC, pair.problem(torch.float32), steps=200, batch_size=64).train())
    assert forward < pair.identity() / 2
    assert backward < pair.identity() / 2


def test_presets(valid_presets: Make) -> None:
    paper = valid_presets(WGANQC)["paper"]
    published = {"steps": 100_001, "batch_size": 64, "lr": 1e-3, "lr_end": 1.0, "gamma": 0.1, "averaging": 0.0}
    assert published.items() <= paper.items()
    assert paper["activation"] == "celu"
