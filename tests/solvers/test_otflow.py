"""OT-Flow: known potentials give known flows, densities follow from Jacobians, training finds what is there."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from otbench.errors import UsageError
from otbench.nets.otflow_potential import OTFlowPotential
from otbench.problem import Problem, QuadraticCost
from otbench.solvers.otflow import CLAMP, OTFlow

from ..helpers.from_normal import F64, problem, sample

Make = Callable[..., Any]


def bare(d: int) -> OTFlowPotential:
    """A potential that is zero."""
    potential = OTFlowPotential(d, width=4, generator=torch.Generator().manual_seed(1), dtype=F64)
    for parameter in (potential.readout, potential.quadratic):
        nn.init.zeros_(parameter)
    return potential


def with_potential(potential: nn.Module) -> type[OTFlow]:
    return type("Exact", (OTFlow,), {"build_potential": lambda self: potential})


def rough(d: int) -> OTFlowPotential:
    """A potential with all its terms."""
    generator = torch.Generator().manual_seed(3)
    potential = OTFlowPotential(d, width=8, generator=generator, dtype=F64)
    for parameter in potential.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=F64)
    return potential


def test_a_linear_potential_translates_and_costs_half_the_square(make_run: Make) -> None:
    potential, shift = bare(3), torch.tensor([0.5, -1.0, 2.0], dtype=F64)
    potential.linear.data[:-1] = shift  # S(y) = y - shift
    potential.linear.data[-1] = shift.square().sum() / 2  # Phi_t = |grad Phi|^2 / 2
    y = sample(50, 3)
    solver = make_run(with_potential(potential), problem(y), nt_test=3).solver
    torch.testing.assert_close(solver.transport().forward(y), y + shift)
    torch.testing.assert_close(solver.transport().backward(y), y - shift)
    wanted = torch.distributions.Normal(shift, torch.ones_like(shift)).log_prob(y).sum(1)
    torch.testing.assert_close(solver.transport().log_prob(y), wanted)
    torch.testing.assert_close(solver.transport().velocity(y, 0.3), shift.expand_as(y))
    torch.testing.assert_close(solver.transport().interpolate(y, 0.3), y + 0.3 * shift)
    loss, nll, cost, residual = solver.losses(y, 2)
    torch.testing.assert_close(cost, shift.square().sum() / 2)
    assert float(residual.detach()) < 1e-12
    torch.testing.assert_close(nll, -wanted.mean())
    torch.testing.assert_close(loss, cost + solver.settings.alpha_c * nll)


def test_a_quadratic_potential_scales(make_run: Make) -> None:
    potential, rates = bare(2), torch.tensor([0.8, -0.0], dtype=F64)
    potential.quadratic.data[0, 0] = math.sqrt(0.8)  # x_1' = -0.8 x_1
    y = sample(40, 2)
    solver = make_run(with_potential(potential), problem(y), nt_test=20).solver
    torch.testing.assert_close(solver.transport().forward(y), y * rates.exp(), rtol=1e-6, atol=1e-6)
    wanted = torch.distributions.Normal(torch.zeros(2, dtype=F64), rates.exp()).log_prob(y).sum(1)
    torch.testing.assert_close(solver.transport().log_prob(y), wanted, rtol=1e-6, atol=1e-6)


def test_there_and_back_and_densities_are_exact_to_the_integrators_order(make_run: Make) -> None:
    d, y = 4, sample(20, 4)
    gaps, errors = [], []
    for nt in (8, 16):
        solver = make_run(with_potential(rough(d)), problem(y), nt_test=nt).solver
        gaps.append(float((solver.transport().forward(solver.transport().backward(y)) - y).abs().max()))
        x = solver.transport().backward(y)
        moved = torch.autograd.functional.jacobian(solver.transport().forward, x)
        jacobian = moved[torch.arange(len(x)), :, torch.arange(len(x))]
        base = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
        brute = base - torch.linalg.slogdet(jacobian).logabsdet
        errors.append(float((solver.transport().log_prob(y) - brute).abs().max()))
    for coarse, fine in (gaps, errors):
        assert fine < 1e-3
        assert fine < coarse / 6  # order four would be 16


def test_training_finds_a_gaussian_and_its_density(make_run: Make) -> None:
    scale, shift = torch.tensor([0.6, 1.5], dtype=F64), torch.tensor([1.0, -0.5], dtype=F64)
    y, aside, test = (sample(n, 2, seed=s) * scale + shift for n, s in ((2000, 1), (500, 2), (2000, 3)))
    run = make_run(
        OTFlow, problem(y, aside), steps=60, width=8, batch_size=256, lr=0.1, nt=2, nt_validate=4, schedule="cosine"
    )
    before = -float(run.solver.transport().log_prob(test).mean())
    for _ in range(6):
        run.train(10)
        run.solver.validate()
    exact = -float(torch.distributions.Normal(shift, scale).log_prob(test).sum(1).mean())
    after = -float(run.solver.transport().log_prob(test).mean())
    assert after < before - 0.3
    assert after - exact < 0.06
    z = run.solver.transport().backward(test)
    assert float(z.mean(0).abs().max()) < 0.15
    assert float((z.std(0) - 1).abs().max()) < 0.15


def test_narrow_data_are_learnt_from_the_identity_but_not_from_the_published_start(make_run: Make) -> None:
    d, y = 20, 0.1 * sample(500, 20)
    at_identity = d / 2 * math.log(2 * math.pi) + 0.01 * d / 2  # minus the log density of N(0, I)
    after = {}
    for start in ("identity", "published"):
        run = make_run(
            OTFlow, problem(y), start=start, steps=80, width=8, batch_size=64, nt=2, nt_validate=2, schedule="cosine"
        )
        if start == "identity":
            assert float((run.solver.transport().forward(y) - y).square().mean() / y.square().mean()) < 0.01
        run.train(80)
        run.solver.validate()
        after[start] = -float(run.solver.transport().log_prob(y).mean())
    assert after["identity"] < at_identity - 10
    assert after["published"] > at_identity - 1


def test_the_rate_follows_the_validation_loss_and_the_fourth_stall_ends(
    make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = make_run(OTFlow, problem(sample(64, 2)), width=4, nt=1, patience=2, lr=0.01, drop=10.0).solver
    monkeypatch.setattr(solver, "losses", lambda y, nt: (torch.tensor(1.0),) * 4)
    verdicts = [solver.validate().done for _ in range(9)]
    assert verdicts == [False] * 8 + [True]
    monkeypatch.undo()
    solver.step()
    assert solver.optimiser.param_groups[0]["lr"] == pytest.approx(1e-5)


def test_a_budget_without_validation_points_has_a_fixed_sample(make_run: Make) -> None:
    fresh = problem(sample(64, 2)).source
    solver = make_run(
        OTFlow, Problem(fresh, fresh, QuadraticCost(), torch.device("cpu"), F64), width=4, nt=1, validation_points=30
    ).solver
    assert solver.held_out.shape == (30, 2)
    assert float(solver.validate().loss) == float(solver.validate().loss)


def test_parameters_are_clamped_before_a_step(make_run: Make) -> None:
    solver = make_run(OTFlow, problem(sample(64, 2)), width=4, nt=1, lr=1e-6).solver
    solver.potential.layer.data.fill_(9.0)
    solver.step()
    assert float(solver.potential.layer.detach().abs().max()) <= CLAMP + 1e-5


def test_a_resumed_run_is_the_unbroken_one(make_run: Make) -> None:
    y, values = sample(300, 3), {"width": 6, "nt": 2, "batch_size": 64, "patience": 1}
    unbroken = make_run(OTFlow, problem(y), steps=9, **values)
    unbroken.train(3)
    for _ in range(3):  # the second and third bring nothing better: a stall, and a drop
        unbroken.solver.validate()
    state = copy.deepcopy(unbroken.solver.state_dict())
    resumed = make_run(OTFlow, problem(y), steps=9, seed=7, **values)
    resumed.solver.load_state_dict(state)
    resumed.done = unbroken.done
    assert resumed.solver.watch.drops == 2
    for run in (unbroken, resumed):
        run.train(3)
        run.solver.validate()
    assert torch.equal(unbroken.solver.transport().log_prob(y), resumed.solver.transport().log_prob(y))
    assert unbroken.solver.function_evaluations == resumed.solver.function_evaluations == 4 * 2 * 6


@pytest.mark.parametrize(("dim", "count"), [(6, 17_721), (8, 126_791), (21, 72_179), (43, 78_053), (63, 297_153)])
def test_the_published_row_has_the_published_parameter_count(dim: int, count: int, make_run: Make) -> None:
    solver = make_run(OTFlow, problem(sample(20, dim).float()), settings="auto").solver
    assert sum(p.numel() for p in solver.transport().parameters()) == count


def test_other_dimensions_have_no_published_row(make_run: Make) -> None:
    with pytest.raises(UsageError, match=r"otflow.*d = 7"):
        make_run(OTFlow, problem(sample(20, 7)), settings="auto")


def test_published_iterations_end_training(make_run: Make) -> None:
    run = make_run(OTFlow, problem(sample(64, 2)), width=4, nt=1, iterations=2)
    assert [run.solver.step().done for _ in range(2)] == [False, True]
