"""FFJORD and RNODE: linear fields give known flows, densities follow from Jacobians, counts and stops are right."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otbench.errors import DivergedError
from otbench.nets.concatsquash import ConcatSquash
from otbench.nets.continuous_flow import Block, carry, dopri5
from otbench.solvers.ffjord import FFJORD, RNODE

from ..helpers.from_normal import F64, problem, sample

Make = Callable[..., Any]
BOTH = pytest.mark.parametrize("kind", [FFJORD, RNODE])


def parameters(solver: Any) -> int:
    return sum(p.numel() for p in solver.transport().parameters())


def scaling(rates: Tensor, *, learnt_end: bool = False) -> Block:
    """x' = rates * x: one concatsquash layer whose gate is 1/2."""
    net = ConcatSquash(len(rates), widths=(), activation="tanh", dtype=F64)
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    net.weights[0].data.copy_(2 * torch.diag(rates))
    return Block(net, learnt_end=learnt_end)


def test_linear_fields_scale_and_blocks_follow_each_other(make_run: Make) -> None:
    rates, y = torch.tensor([0.5, -0.4], dtype=F64), sample(30, 2)
    first, second = scaling(rates, learnt_end=True), scaling(torch.tensor([0.1, 0.2], dtype=F64))
    first.root.data.fill_(math.sqrt(2.0))  # until time 2
    total = 2 * rates + torch.tensor([0.1, 0.2], dtype=F64)
    options = dopri5(1e-9, 1e-9)
    there = carry([first, second], y, options=options)
    torch.testing.assert_close(there.x, y * total.exp())
    torch.testing.assert_close(there.log_det, total.sum().expand(30))
    torch.testing.assert_close(carry([first, second], there.x, options=options, reverse=True).x, y)


@BOTH
def test_velocities_are_those_of_the_interpolation_in_each_block(kind: Any, make_run: Make) -> None:
    y = sample(20, 3)
    solver = make_run(kind, problem(y), blocks=2, least_width=8, test_tolerance=1e-9).solver
    maps, step = solver.transport(), 1e-4
    for t in (0.1, 0.4, 0.8):
        ahead, here, behind = (maps.interpolate(y, t + h) for h in (step, 0.0, -step))
        torch.testing.assert_close(maps.velocity(here, t), (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-5)


def test_penalties_of_a_linear_field_are_its_energy_and_norm() -> None:
    rate, y, probes = 0.3, sample(30, 2), sample(30, 2, seed=6)[None]
    block = scaling(torch.full((2,), rate, dtype=F64))
    found = carry([block], y, options={"method": "rk4", "options": {"step_size": 0.05}}, probes=probes, penalised=True)
    size = probes[0].square().sum(1)
    torch.testing.assert_close(found.log_det, rate * size)
    torch.testing.assert_close(found.jacobian, rate**2 * size)
    wanted = rate * (math.exp(2 * rate) - 1) / 4 * y.square().sum(1)  # int (rate x e^(rate t))^2 / 2
    torch.testing.assert_close(found.kinetic, wanted, rtol=1e-6, atol=1e-8)
    assert block.evaluations == 4 * 20


@BOTH
def test_densities_are_those_of_the_jacobian_and_maps_invert_each_other(kind: Any, make_run: Make) -> None:
    y = sample(6, 3)
    solver = make_run(kind, problem(y), blocks=2, least_width=8, test_tolerance=1e-9).solver
    torch.testing.assert_close(solver.transport().forward(solver.transport().backward(y)), y, rtol=1e-6, atol=1e-6)
    blocks = [block for block in solver.blocks if isinstance(block, Block)]

    def back(one: Tensor) -> Tensor:
        return carry(blocks, one[None], options=dopri5(1e-9, 1e-9), density=False).x[0]

    jacobian = torch.stack([torch.autograd.functional.jacobian(back, one) for one in y])
    base = torch.distributions.Normal(0.0, 1.0).log_prob(solver.transport().backward(y)).sum(1)
    brute = base + torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(solver.transport().log_prob(y), brute, rtol=1e-6, atol=1e-6)


def test_the_trace_estimate_is_unbiased(make_run: Make) -> None:
    y = sample(1, 3).expand(20_000, 3).contiguous()
    solver = make_run(RNODE, problem(y), least_width=8, validation_points=10).solver
    with torch.no_grad():
        probes = sample(20_000, 3, seed=8)[None]
        blocks = [block for block in solver.blocks if isinstance(block, Block)]
        estimates = carry(blocks, y, options=solver.training_options(), probes=probes).log_det
        exact = carry(blocks, y[:1], options=solver.training_options()).log_det
    assert abs(float(estimates.mean() - exact)) < 4 * float(estimates.std()) / math.sqrt(20_000)


def test_adjoint_gradients_are_those_through_the_solver(make_run: Make) -> None:
    y = sample(16, 2)
    found = []
    for adjoint in (False, True):
        solver = make_run(FFJORD, problem(y), least_width=6, atol=1e-9, rtol=1e-9, adjoint=adjoint).solver
        loss = solver.losses(y, sample(16, 2, seed=9)[None])[0]
        found.append(torch.autograd.grad(loss, list(solver.blocks.parameters())))
    for direct, other in zip(*found, strict=True):
        torch.testing.assert_close(direct, other, rtol=1e-4, atol=1e-6)


@BOTH
def test_training_improves_the_likelihood_of_held_out_points(kind: Any, make_run: Make) -> None:
    def mixture(n: int, seed: int) -> Tensor:
        side = torch.randint(2, (n, 1), generator=torch.Generator().manual_seed(seed), dtype=F64) * 2 - 1
        return 0.4 * sample(n, 2, seed=seed + 1) + 1.5 * side

    y, test = mixture(1000, 1), mixture(1000, 3)
    run = make_run(
        kind, problem(y, mixture(300, 7)), steps=45, least_width=16, batch_size=128, lr=0.04, schedule="cosine"
    )
    before = -float(run.solver.transport().log_prob(test).mean())
    info = None
    for _ in range(3):
        run.train(15)
        info = run.solver.validate()
    after = -float(run.solver.transport().log_prob(test).mean())
    assert after < before - 0.8
    assert info is not None
    assert float(info.loss) == pytest.approx(after, abs=0.3)  # trace estimate against exact trace


def test_rk4_counts_four_evaluations_a_step(make_run: Make) -> None:
    solver = make_run(RNODE, problem(sample(64, 2)), blocks=2, least_width=4, rk4_steps=3).solver
    info = solver.step()
    assert info.scalars["nfe"] == 2 * 4 * 3
    solver.transport().forward(sample(5, 2))  # maps do not count
    solver.step()
    assert solver.function_evaluations == 2 * 2 * 4 * 3
    assert {"kinetic", "jacobian"} < set(info.scalars)


def test_the_rate_falls_twice_and_the_third_wait_ends(make_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    solver = make_run(FFJORD, problem(sample(64, 2)), least_width=4, patience=6, lr=0.01).solver
    flat = torch.tensor(1.0)
    monkeypatch.setattr(solver, "losses", lambda y, probes: (flat, flat, None))
    assert [solver.validate().done for _ in range(7)] == [False] * 6 + [True]
    monkeypatch.undo()
    solver.step()
    assert solver.optimiser.param_groups[0]["lr"] == pytest.approx(1e-4)


@BOTH
def test_a_resumed_run_is_the_unbroken_one(kind: Any, make_run: Make) -> None:
    y, values = sample(200, 2), {"least_width": 6, "batch_size": 64, "patience": 3}
    unbroken = make_run(kind, problem(y), steps=6, **values)
    unbroken.train(2)
    for _ in range(2):
        unbroken.solver.validate()
    resumed = make_run(kind, problem(y), steps=6, seed=100, **values)
    resumed.solver.load_state_dict(copy.deepcopy(unbroken.solver.state_dict()))
    assert resumed.solver.watch.drops == 1
    for run in (unbroken, resumed):
        run.train(2)
        run.solver.validate()
    assert torch.equal(unbroken.solver.transport().log_prob(y), resumed.solver.transport().log_prob(y))
    assert unbroken.solver.function_evaluations == resumed.solver.function_evaluations > 0


@pytest.mark.parametrize(("dim", "count"), [(6, 43_325), (8, 278_565), (21, 546_850), (43, 820_613), (63, 6_698_666)])
def test_the_published_row_has_the_published_parameter_count(dim: int, count: int, make_run: Make) -> None:
    assert parameters(make_run(FFJORD, problem(sample(4, dim).float()), settings="auto").solver) == count
    fixed_end = make_run(RNODE, problem(sample(4, dim).float()), settings="auto").solver
    assert parameters(fixed_end) == count - len(fixed_end.blocks)  # no end time to learn


def test_an_equation_that_blows_up_is_a_divergence() -> None:
    class Explosive(ConcatSquash):
        def value_and_trace(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            return x**3 * 1e4, 3 * x.square().sum(1) * 1e4

    block = Block(Explosive(2, widths=(), activation="tanh", dtype=F64), learnt_end=False)
    with pytest.raises(DivergedError, match="gave up on block 0"):
        carry([block], sample(5, 2), options=dopri5(1e-5, 1e-5))
