"""NCF: exact potentials give exact maps, training finds them, a resumed run equals an unbroken one."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from otbench.config import build_config
from otbench.nets.residual import ResidualNet
from otbench.problem import Cost, FreshMeasure, PoolMeasure, PowerCost, Problem, QuadraticCost
from otbench.registration import registrations
from otbench.solver import Context
from otbench.solvers.ncf import NCF, NCFConfig

F64 = torch.float64


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=generator(seed), dtype=F64)


def problem_of(x: Tensor, y: Tensor, cost: Cost | None = None) -> Problem:
    return Problem(PoolMeasure(x), PoolMeasure(y), cost or QuadraticCost(), x.device, x.dtype)


class Run:
    """A solver with the clock that a harness would give it."""

    def __init__(
        self, problem: Problem, *, steps: int, seed: int = 100, solver: type[NCF] = NCF, **values: float | str
    ) -> None:
        self.steps, self.done = steps, 0
        context = Context(problem.device, problem.dtype, generator(seed), lambda: self.done / self.steps)
        self.solver = solver(problem, build_config(NCFConfig, values, owner="ncf"), context)

    def train(self, steps: int | None = None) -> NCF:
        for _ in range(self.steps if steps is None else steps):
            self.solver.step()
            self.done += 1
        return self.solver


class Exact(nn.Module):
    """A known potential u(x, t), with the interface of the network."""

    def __init__(self, u: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.u = u
        self.unused = nn.Parameter(torch.zeros((), dtype=F64))  # an optimiser needs something

    def __deepcopy__(self, memo: object) -> Exact:
        return Exact(self.u)

    def forward(self, z: Tensor) -> Tensor:
        return self.u(z[:, :-1], z[:, -1:])

    def value_and_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            value = self(z)
            return value.detach(), torch.autograd.grad(value.sum(), z)[0]

    def gradient(self, z: Tensor) -> Tensor:
        return self.value_and_gradient(z)[1]


def solver_with(u: Callable[[Tensor, Tensor], Tensor], problem: Problem, formula: str) -> NCF:
    class WithExact(NCF):
        def build_potential(self) -> nn.Module:
            return Exact(u)

    return Run(problem, steps=1, solver=WithExact, mmd_batch=200, formula=formula).solver


def error(found: Tensor, truth: Tensor) -> float:
    """Mean squared error over the truth's variance, in %: UVP."""
    return 100 * float((found - truth).square().sum(1).mean() / truth.var(0).sum())


def power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values**exponent) @ vectors.T


def gaussian_pair(d: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two covariances and the optimal map between their centred Gaussians (each d x d)."""
    root0, root1 = (torch.linalg.qr(normal(d, d, seed + k))[0] for k in (0, 1))
    scale = [torch.exp(math.log(2) * (2 * torch.rand(d, generator=generator(seed + k), dtype=F64) - 1)) for k in (2, 3)]
    s0, s1 = root0 @ torch.diag(scale[0]) @ root0.T, root1 @ torch.diag(scale[1]) @ root1.T
    half = power(s0, 0.5)
    return s0, s1, power(s0, -0.5) @ power(half @ s1 @ half, 0.5) @ power(s0, -0.5)


def spread(x: Tensor) -> float:
    return float(torch.pdist(x).mean())


@pytest.mark.parametrize("formula", ["start", "farther", "both"])
@pytest.mark.parametrize("d", [2, 8])
def test_exact_gaussian_potential_has_no_residual_and_gives_the_maps(d: int, formula: str) -> None:
    s0, s1, gamma = gaussian_pair(d, 100)
    a0, eye = gamma - torch.eye(d, dtype=F64), torch.eye(d, dtype=F64)

    def u(x: Tensor, t: Tensor) -> Tensor:  # x^T A0 (I + t A0)^-1 x / 2
        bent = torch.linalg.solve(eye + t[:, :, None] * a0, x[:, :, None]).squeeze(2)
        return (x @ a0 * bent).sum(1) / 2

    x, y = normal(500, d, 1) @ power(s0, 0.5), normal(500, d, 2) @ power(s1, 0.5)
    solver = solver_with(u, problem_of(x, y), formula)
    when = torch.rand(500, 1, generator=generator(3), dtype=F64)
    hj, mmd_fwd, mmd_bwd = solver.losses(x, y, 3 * normal(500, d, 4), when)
    assert float(hj) < 1e-20
    # the losses leave out the spread of their target
    assert float(mmd_fwd) - spread(y) < 0.02
    assert float(mmd_bwd) - spread(x) < 0.02
    assert error(solver.transport().forward(x), x @ gamma) < 1e-6
    assert error(solver.transport().backward(y), y @ torch.linalg.inv(gamma)) < 1e-6
    maps, middle = solver.transport(), torch.lerp(x, x @ gamma, 0.4)
    assert error(maps.interpolate(x, 0.4), middle) < 1e-6
    assert error(maps.velocity(middle, 0.4), x @ gamma - x) < 1e-6


@pytest.mark.parametrize("formula", ["start", "farther", "both"])
@pytest.mark.parametrize("p", [1.5, 3.0])
def test_exact_affine_potential_under_a_power_cost(p: float, formula: str) -> None:
    """T(x) = m + s x, coordinate by coordinate, from the characteristics of the cost sum |x_i - y_i|^p / p."""
    cost = PowerCost(p)
    s, m = torch.tensor([1.6, 0.7], dtype=F64), torch.tensor([0.4, -0.3], dtype=F64)

    def u(x: Tensor, t: Tensor) -> Tensor:
        start = (x - t * m) / (1 + t * (s - 1))
        v = (s - 1) * start + m
        g = (v.abs() ** p / (p * (s - 1))).sum(1)
        momentum = v.sign() * v.abs() ** (p - 1)  # v = grad H(momentum)
        return g + t.squeeze(1) * ((momentum * v).sum(1) - cost.hamiltonian(momentum))

    x = normal(400, 2, 1)
    y = normal(400, 2, 2) * s + m
    solver = solver_with(u, problem_of(x, y, cost), formula)
    when = torch.rand(400, 1, generator=generator(3), dtype=F64)
    hj, *_ = solver.losses(x, y, 2 * normal(400, 2, 4), when)
    assert float(hj) < 1e-20
    assert error(solver.transport().forward(x), s * x + m) < 1e-10
    assert error(solver.transport().backward(y), (y - m) / s) < 1e-10


@pytest.mark.parametrize("p", [1.5, 3.0])
def test_training_finds_the_monotone_rearrangement_under_a_power_cost(p: float) -> None:
    """Product measures and separable cost: the optimal map rearranges each coordinate monotonically."""
    draw = normal(20_000, 2, 1)
    x, z = draw[:10_000], draw[10_000:]

    def rearrange(x: Tensor) -> Tensor:
        return torch.stack([x[:, 0] + 0.5 * torch.tanh(2 * x[:, 0]) + 0.5, 0.6 * x[:, 1] - 0.3], 1)

    problem = problem_of(x.float(), rearrange(z).float(), PowerCost(p))
    solver = Run(problem, steps=250, lr=5e-3, mmd_batch=400, hj_points=400).train()
    test = normal(4000, 2, 5)
    truth = rearrange(test)
    identity, trained = error(test, truth), error(solver.transport().forward(test.float()).double(), truth)
    assert trained < identity / 10, (trained, identity)
    back = error(solver.transport().backward(truth.float()).double(), test)
    assert back < error(truth, test) / 10, back


@pytest.mark.parametrize("collocation", ["path", "box"])
def test_short_training_beats_identity_both_ways(collocation: str) -> None:
    s0, s1, gamma = gaussian_pair(4, 101)
    pools = [normal(5000, 4, seed) @ power(s, 0.5) for seed, s in ((1, s0), (2, s1))]
    solver = Run(
        problem_of(pools[0].float(), pools[1].float()),
        steps=150,
        lr=5e-3,
        mmd_batch=400,
        hj_points=400,
        collocation=collocation,
    ).train()
    x, y = normal(2000, 4, 3) @ power(s0, 0.5), normal(2000, 4, 4) @ power(s1, 0.5)
    for found, start, truth in (
        (solver.transport().forward(x.float()), x, x @ gamma),
        (solver.transport().backward(y.float()), y, y @ torch.linalg.inv(gamma)),
    ):
        assert error(found.double(), truth) < error(start, truth) / 3


def small_problem(fresh: bool = False) -> Problem:
    if fresh:
        measures = [FreshMeasure((2,), lambda n, g, a=a: a * torch.randn(n, 2, generator=g)) for a in (1.0, 1.5)]
        return Problem(*measures, QuadraticCost(), torch.device("cpu"), torch.float32)
    return problem_of(normal(100, 2, 1).float(), 1.5 * normal(130, 2, 2).float())


@pytest.mark.parametrize("optimiser", ["soap", "adam"])
@pytest.mark.parametrize("fresh", [False, True])
def test_resumed_run_equals_an_unbroken_one(fresh: bool, optimiser: str) -> None:
    values: dict[str, float | str] = {"mmd_batch": 32, "hj_points": 48, "optimiser": optimiser}
    # SOAP turns its basis every ten steps: once before the break and once after it
    unbroken = Run(small_problem(fresh), steps=30, **values)
    unbroken.train(15)
    state = copy.deepcopy(unbroken.solver.state_dict())
    unbroken.train(15)
    resumed = Run(small_problem(fresh), steps=30, seed=7, **values)
    resumed.solver.load_state_dict(state)
    resumed.done = 15
    resumed.train(15)
    x = normal(50, 2, 3).float()
    assert torch.equal(unbroken.solver.transport().forward(x), resumed.solver.transport().forward(x))
    assert torch.equal(unbroken.solver.transport().backward(x), resumed.solver.transport().backward(x))
    assert torch.equal(unbroken.solver.context.generator.get_state(), resumed.solver.context.generator.get_state())


def test_maps_keep_shape_and_carry_no_graph() -> None:
    solver = Run(small_problem(), steps=1, mmd_batch=32, hj_points=32).train()
    x = normal(7, 2, 3).float()
    for image in (solver.transport().forward(x), solver.transport().backward(x)):
        assert image.shape == x.shape
        assert not image.requires_grad


def test_loss_is_the_weighted_sum_of_its_parts() -> None:
    run = Run(small_problem(), steps=4, mmd_batch=32, hj_points=32, hj_weight=0.3, mmd_weight=2.0)
    info = run.solver.step()
    parts = {name: float(value) for name, value in info.scalars.items()}
    assert set(parts) == {"hj", "mmd_fwd", "mmd_bwd"}
    assert float(info.loss) == pytest.approx(0.3 * parts["hj"] + 2 * (parts["mmd_fwd"] + parts["mmd_bwd"]), rel=1e-5)


def test_without_averaging_the_trained_network_gives_the_maps() -> None:
    solver = Run(small_problem(), steps=1, mmd_batch=32, hj_points=32, averaging=0).solver
    assert solver.transport().potential is solver.potential


def test_with_both_formulas_the_loss_is_their_mean() -> None:
    """Before t = 1/2 the farther end of a characteristic is at 1."""
    x, y, where = (normal(20, 2, seed).float() for seed in (1, 2, 3))
    when = torch.rand(20, 1, generator=generator(4)) / 2.01
    found = {}
    for formula in ("start", "farther", "both"):
        solver = Run(small_problem(), steps=1, mmd_batch=32, hj_points=32, formula=formula).solver
        found[formula] = float(solver.losses(x, y, where, when)[0].detach())
    assert found["start"] != found["farther"]
    assert found["both"] == pytest.approx((found["start"] + found["farther"]) / 2, rel=1e-5)


def test_the_network_of_the_papers_images_trains() -> None:
    run = Run(
        small_problem(), steps=6, mmd_batch=32, hj_points=32, network="resnet", formula="both", width=16, layers=2
    )
    first = float(run.solver.step().loss)
    assert isinstance(run.solver.potential, ResidualNet)
    assert all(torch.isfinite(run.solver.step().loss) for _ in range(5))
    assert math.isfinite(first)


def test_every_preset_is_a_valid_configuration() -> None:
    (note,) = registrations(NCF)
    assert set(note.presets) == {"smoke", "quick", "full", "paper"}
    for values in note.presets.values():
        assert values["steps"]
        build_config(NCFConfig, {k: v for k, v in values.items() if k != "steps"}, owner="ncf")  # type: ignore[misc]
