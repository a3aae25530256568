"""LS: loss and gradient against plain autograd, what its penalties mean, training, presets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from otbench.solvers.ls import LS

from ..helpers.plain_icnn import by_definition

Make = Callable[..., Any]


def plain_loss(solver: LS, x: Tensor, y: Tensor) -> Tensor:
    """The loss, pair by pair where all pairs count."""
    config, eps = solver.config, solver.epsilon
    psi, psi_bar = by_definition(solver.psi, x), by_definition(solver.psi_bar, y)
    pairs = [(i, i) for i in range(len(x))]
    if config.pairs == "all":
        pairs = [(i, j) for i in range(len(x)) for j in range(len(y))]
    v = torch.stack([x[i] @ y[j] - psi[i] - psi_bar[j] for i, j in pairs])
    r = torch.relu(v) ** 2 / (4 * eps) if config.regulariser == "l2" else eps * torch.exp(v / eps)
    return psi.mean() + psi_bar.mean() + r.mean()


def gradients(loss: Tensor, solver: LS) -> Tensor:
    parameters = [*solver.psi.parameters(), *solver.psi_bar.parameters()]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])


@pytest.mark.parametrize("activation", ["celu", "softplus"])
@pytest.mark.parametrize("pairs", ["batch", "all"])
@pytest.mark.parametrize(("regulariser", "epsilon"), [("l2", 0.03), ("l2", None), ("entropic", 0.5)])
def test_loss_and_gradient_are_those_of_plain_autograd(
    regulariser: str, epsilon: float | None, pairs: str, activation: str, coupled: Make, make_run: Make
) -> None:
    pair = coupled(3, n=24)
    values = {"regulariser": regulariser, "epsilon": epsilon, "pairs": pairs, "activation": activation}
    solver = make_run(LS, pair.problem(), **values, strong_convexity=1.0, pretraining=0).solver
    with torch.no_grad():  # two different networks
        for parameter in solver.psi_bar.parameters():
            parameter.mul_(0.5)
    found, scalars = solver.loss(solver.psi, solver.psi_bar, pair.x, pair.y)
    wanted = plain_loss(solver, pair.x, pair.y)
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-12)
    assert float(scalars["penalty"]) > 0
    torch.testing.assert_close(gradients(found, solver), gradients(wanted, solver), rtol=1e-9, atol=1e-12)


def test_a_large_violation_of_the_entropic_penalty_overflows_as_written(coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=16)
    solver = make_run(LS, pair.problem(), regulariser="entropic", epsilon=1e-4).solver
    loss, _ = solver.loss(solver.psi, solver.psi_bar, 10 * pair.x, 10 * pair.y)
    assert math.isinf(float(loss.detach())) or math.isnan(float(loss.detach()))


def test_both_networks_take_one_step_on_one_pair_of_batches(coupled: Make, make_run: Make) -> None:
    solver = make_run(LS, coupled(2, n=200).problem(), batch_size=50).solver
    solver.step()
    taken = {int(solver.optimiser.state[p]["step"]) for net in (solver.psi, solver.psi_bar) for p in net.parameters()}
    assert taken == {1}
    assert (solver.problem.source.drawn, solver.problem.target.drawn) == (50, 50)


def test_training_lowers_the_error_and_gives_the_plan_unit_mass(coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=4000)
    run = make_run(LS, pair.problem(torch.float32), steps=200, batch_size=256, epsilon=0.01)
    forward, backward = pair.uvp(run.train())
    assert forward < pair.identity() / 2
    assert backward < pair.identity() / 2
    assert float(run.solver.step().scalars["mass"]) == pytest.approx(1, abs=0.2)


def test_epsilon_has_a_default_for_each_regulariser(coupled: Make, make_run: Make) -> None:
    problem = coupled(2, n=16).problem()
    solvers = [make_run(LS, problem, regulariser=regulariser).solver for regulariser in ("l2", "entropic")]
    assert [solver.epsilon for solver in solvers] == [3e-5, 0.03]


def test_presets(valid_presets: Make) -> None:
    paper = valid_presets(LS)["paper"]
    published = {"steps": 100_001, "batch_size": 1024, "lr": 1e-3, "lr_end": 1.0, "epsilon": 0.03, "averaging": 0.0}
    assert published.items() <= paper.items()
    assert (paper["regulariser"], paper["pairs"], paper["activation"]) == ("l2", "batch", "celu")
