"""Steps of MM-v1, MM and WGAN-QC against plain forms of the same mathematics, as ratios within one run.

The plain forms are idiomatic PyTorch: the network layer by layer, all its derivatives by autograd, the authors' inner
solvers. Both sides of each ratio run alternately in one process on one thread; absolute times are shown, never
asserted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from otbench.config import Value, build_config
from otbench.ops.dual_lp import solve_dual_simplex
from otbench.problem import PoolMeasure, Problem, QuadraticCost
from otbench.registration import registrations
from otbench.solver import Context, Solver
from otbench.solvers.mm import MM
from otbench.solvers.mmv1 import MMv1
from otbench.solvers.wganqc import WGANQC

from ..helpers.plain_icnn import PlainICNN

pytestmark = pytest.mark.speed

BATCH, TOL = 1024, 1e-3
PROGRAM = 64
"""Points per side in WGAN-QC's linear program: the authors' batch."""
LEAST_SPEED_UP = {"mmv1 step": 8.0, "program": 15.0, "wganqc step": 6.0}
LARGEST_SHARE = {"mm": 0.7, "wganqc": 0.7}
"""Of the plain form's time, for what needs a double backward pass; measured: 0.53 and 0.45."""

Race = Callable[..., tuple[float, float]]
Tell = Callable[[str], None]


def samples(dim: int, n: int) -> tuple[Tensor, Tensor]:
    """Two correlated Gaussian samples with about the spectra of the published pairs, shapes (n, dim)."""
    generator = torch.Generator().manual_seed(0)
    roots = [torch.linalg.qr(torch.randn(dim, dim, generator=generator))[0] for _ in range(2)]
    spread = torch.linspace(0.5, 2.0, dim).sqrt()
    x, y = (torch.randn(n, dim, generator=generator) * spread @ root.t() for root in roots)
    return x, y


def trained(kind: type[Solver[Any]], dim: int, steps: int, **values: Value) -> Any:
    """A solver after its pre-training and `steps` steps."""
    problem = Problem(
        *(PoolMeasure(z) for z in samples(dim, 20_000)), QuadraticCost(), torch.device("cpu"), torch.float32
    )
    context = Context(problem.device, problem.dtype, torch.Generator().manual_seed(100), lambda: 0.3)
    solver = kind(problem, build_config(registrations(kind)[0].config, values, owner="benchmark"), context)
    for _ in range(steps):
        solver.step()
    return solver


def plain_conjugate(net: PlainICNN, y: Tensor) -> tuple[Tensor, int]:
    """The authors' inner solver: Adam from a uniform point, on the whole batch."""
    w = torch.rand_like(y).requires_grad_()
    optimiser = torch.optim.Adam([w], lr=0.1)
    k = 0
    for k in range(1, 1001):  # noqa: B007
        force = net.gradient(w).detach() - y
        if force.square().mean(1).sqrt().mean() < TOL:
            break
        w.grad = force
        optimiser.step()
    return w.detach(), k


def rms(net: PlainICNN, w: Tensor, y: Tensor) -> float:
    """The authors' stopping criterion at `w`."""
    return float((net.gradient(w) - y).square().mean(1).sqrt().mean())


@pytest.mark.parametrize("dim", [2, 32])
def test_mmv1_step_is_many_times_faster_than_the_plain_form(
    dim: int, benchmark: BenchmarkFixture, race: Race, tell: Tell
) -> None:
    ours = trained(MMv1, dim, 40, batch_size=BATCH, tol=TOL, averaging=0.0, weight_decay=0.0)
    nets = [PlainICNN(net) for net in (ours.psi, ours.psi_bar)]
    optimiser = torch.optim.Adam([p for net in nets for p in net.parameters()], lr=1e-6)
    ours.config = ours.config.model_copy(update={"lr": 1e-6})  # both race on networks that stay as they are
    x, y = samples(dim, BATCH)

    def slow_step() -> list[int]:
        counts, loss = [], torch.zeros(())
        for net, here, there in ((nets[0], x, y), (nets[1], y, x)):
            solved, count = plain_conjugate(net, there)
            counts.append(count)
            loss = loss + net(here).mean() - net(solved).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for net in nets:
                for weight in (*(layer.weight for layer in net.mix), net.out.weight):
                    weight.clamp_(min=0)
        return counts

    # the inner tolerance is met as well as by the plain form, on the very points
    for net, potential, there in ((nets[0], ours.psi, y), (nets[1], ours.psi_bar, x)):
        torch.testing.assert_close(net.gradient(there), potential.gradient(there).detach(), atol=1e-4, rtol=1e-4)
        assert rms(net, ours.conjugate(potential.gradient, there).y, there) < TOL
        assert rms(net, plain_conjugate(net, there)[0], there) < 1.01 * TOL

    counts, iterations = slow_step(), ours.step().scalars["inner_iterations"]
    slow, fast = race(slow_step, ours.step, rounds=2, least=LEAST_SPEED_UP["mmv1 step"])
    tell(
        f"ours {fast * 1e3:.1f} ms (slowest sample {iterations:.0f} gradients), plain {slow * 1e3:.0f} ms "
        f"({counts[0]} and {counts[1]} iterations), ratio {slow / fast:.1f}"
    )
    benchmark.pedantic(ours.step, rounds=5, warmup_rounds=1)
    assert slow / fast >= LEAST_SPEED_UP["mmv1 step"]


@pytest.mark.parametrize("dim", [2, 32])
def test_mm_inner_step_beats_autograd(dim: int, benchmark: BenchmarkFixture, race: Race, tell: Tell) -> None:
    ours = trained(MM, dim, 5, batch_size=BATCH)
    psi, mover = PlainICNN(ours.psi), PlainICNN(ours.psi_bar)
    _, y = samples(dim, BATCH)

    def slow_step() -> None:
        moved = mover.gradient(y, create_graph=True)
        (psi(moved) - (moved * y).sum(1)).mean().backward()

    def fast_step() -> None:
        MM.map_loss(ours.psi, ours.psi_bar, y)[0].backward()

    for parameter in psi.parameters():  # the authors freeze it too
        parameter.requires_grad_(False)
    mover.zero_grad(), ours.psi_bar.zero_grad()
    slow_step(), fast_step()
    torch.testing.assert_close(mover.out.weight.grad.squeeze(0), ours.psi_bar.readout.grad, atol=1e-5, rtol=1e-3)
    slow, fast = race(slow_step, fast_step, rounds=25, least=1 / LARGEST_SHARE["mm"])
    tell(f"ours {fast * 1e3:.2f} ms, plain {slow * 1e3:.2f} ms, share {fast / slow:.2f}")
    benchmark.pedantic(fast_step, rounds=10, warmup_rounds=2)
    assert fast / slow <= LARGEST_SHARE["mm"]


def general_program() -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """The program as the authors' code gives it to a general solver; its sparse constraints are built once."""
    ones = np.ones((PROGRAM, 1))
    eye = scipy.sparse.identity(PROGRAM)
    matrix = scipy.sparse.hstack((scipy.sparse.kron(eye, ones), -scipy.sparse.kron(ones, eye))).tocsr()
    goal = np.array([-1 / PROGRAM] * PROGRAM + [1 / PROGRAM] * PROGRAM)

    def solve(cost: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = scipy.optimize.linprog(
            goal, A_ub=matrix, b_ub=cost.double().flatten().numpy(), bounds=(None, None), method="highs"
        )
        both = torch.from_numpy(found.x - found.x.mean()).float()
        partner = torch.from_numpy(-found.ineqlin.marginals).view(PROGRAM, PROGRAM).argmax(0)
        return both[:PROGRAM], both[PROGRAM:], partner

    return solve


@pytest.mark.parametrize("dim", [2, 32])
def test_linear_program_is_many_times_faster_than_a_general_solver(
    dim: int, benchmark: BenchmarkFixture, race: Race, tell: Tell
) -> None:
    x, y = samples(dim, PROGRAM)
    cost = torch.cdist(y, x).square() / 2
    solve = general_program()
    (r, f, partner), ours = solve(cost), solve_dual_simplex(cost)
    assert float(ours.rows.mean() - ours.columns.mean()) == pytest.approx(float(r.mean() - f.mean()), rel=1e-5)
    assert torch.equal(partner, ours.row_of_column)
    slow, fast = race(lambda: solve(cost), lambda: solve_dual_simplex(cost), rounds=7, least=LEAST_SPEED_UP["program"])
    tell(f"ours {fast * 1e3:.2f} ms, HiGHS {slow * 1e3:.1f} ms, ratio {slow / fast:.1f}")
    benchmark.pedantic(solve_dual_simplex, args=(cost,), rounds=10, warmup_rounds=2)
    assert slow / fast >= LEAST_SPEED_UP["program"]


def plain_qc_loss(net: PlainICNN, x: Tensor, y: Tensor, program: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    r, f, partner = program
    x = x.clone().requires_grad_()
    u_x, u_y = net(x) - x.square().sum(1) / 2, net(y) - y.square().sum(1) / 2
    slope = torch.autograd.grad(u_x.sum(), x, create_graph=True)[0]
    regulariser = 0.5 * (slope.norm(dim=1) / 2 - (y[partner] - x.detach()).norm(dim=1) / 2).square().mean()
    return 0.5 * (u_y.mean() - r.mean()).square() + 0.5 * (u_x - f).square().mean() + 0.4 * regulariser


@pytest.mark.parametrize("dim", [2, 32])
def test_wganqc_step_is_many_times_faster_than_the_plain_form(
    dim: int, benchmark: BenchmarkFixture, race: Race, tell: Tell
) -> None:
    ours = trained(WGANQC, dim, 5, batch_size=PROGRAM, averaging=0.0)
    nets = [PlainICNN(net) for net in (ours.psi, ours.psi_bar)]
    optimisers = [torch.optim.Adam(net.parameters(), lr=1e-3) for net in nets]
    solve = general_program()
    x, y = samples(dim, PROGRAM)

    def slow_step(program: tuple[Tensor, Tensor, Tensor] | None = None) -> None:
        """Both directions, with a program each."""
        for net, optimiser, here, there in zip(nets, optimisers, (x, y), (y, x), strict=True):
            cost = (there[:, None] - here).square().sum(2) / 2
            loss = plain_qc_loss(net, here, there, solve(cost) if program is None else program)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    program = solve((y[:, None] - x).square().sum(2) / 2)
    solved, fixed = ours.solve, ours.solve((y[:, None] - x).square().sum(2) / 2)
    slow, fast = race(slow_step, ours.step, rounds=5, least=LEAST_SPEED_UP["wganqc step"])
    ours.solve = lambda cost: fixed
    slow_net, fast_net = race(lambda: slow_step(program), ours.step, rounds=25, least=1 / LARGEST_SHARE["wganqc"])
    ours.solve = solved
    # with one program for both directions, which the authors' code does not use
    one = slow - (slow - slow_net) / 2
    tell(
        f"ours {fast * 1e3:.2f} ms, plain {slow * 1e3:.1f} ms, ratio {slow / fast:.1f} "
        f"(plain with one program: {one / fast:.1f}); without programs: ours {fast_net * 1e3:.2f} ms, "
        f"plain {slow_net * 1e3:.2f} ms, share {fast_net / slow_net:.2f}"
    )
    benchmark.pedantic(ours.step, rounds=10, warmup_rounds=2)
    assert slow / fast >= LEAST_SPEED_UP["wganqc step"]
    assert fast_net / slow_net <= LARGEST_SHARE["wganqc"]
