"""CFM: exact velocities minimise the loss and give exact maps; pairs keep every point; reflow costs less."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otbench.ops.coupling import assigned
from otbench.problem import PoolMeasure, Problem, QuadraticCost, Units
from otbench.solvers.cfm import CFM

from ..helpers.from_normal import F64, problem, sample

Make = Callable[..., Any]
SMALL: dict[str, Any] = {"batch_size": 64, "pairing_batch": 128, "pairing_passes": 2, "width": 32}
SPREAD, MEAN = torch.tensor([0.5, 1.6], dtype=F64), torch.tensor([1.0, -0.5], dtype=F64)


class Exact(nn.Module):
    """E[x_1 - x_0 | x_t] for independent x_0 ~ N(0, I) and x_1 ~ N(MEAN, diag(SPREAD^2)), plus a linear error.

    With var_t = (1 - t)^2 + t^2 SPREAD^2 it is MEAN + (var_t)' / (2 var_t) (x - t MEAN), so that the flow scales each
    coordinate by sqrt(var_t).
    """

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(2, 2, dtype=F64))
        self.offset = nn.Parameter(torch.zeros(2, dtype=F64))

    def forward(self, inputs: Tensor) -> Tensor:
        x, t = inputs[:, :2], inputs[:, 2:]
        return MEAN + self._rate(t) * (x - t * MEAN) + x @ self.matrix + self.offset

    def divergence(self, inputs: Tensor) -> Tensor:
        return self._rate(inputs[:, 2:]).sum(1) + self.matrix.trace()

    @staticmethod
    def _rate(t: Tensor) -> Tensor:
        return (t * SPREAD**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * SPREAD**2)


class Gaussian(CFM):
    def build_network(self) -> nn.Module:
        return Exact()


def pool(x: Tensor, y: Tensor, units: Units | None = None) -> Problem:
    return Problem(PoolMeasure(x), PoolMeasure(y), QuadraticCost(), torch.device("cpu"), x.dtype, units)


def curved(n: int, d: int) -> Problem:
    """Two pools of which one is no Gaussian."""
    return pool(sample(n, d), torch.tanh(2 * sample(n, d, seed=6)) + sample(n, d, seed=7) / 2)


def test_the_conditional_expectation_is_where_the_gradient_vanishes(make_run: Make) -> None:
    n = 40_000
    x, y = sample(n, 2), sample(n, 2, seed=6) * SPREAD + MEAN
    t = torch.rand(n, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
    solver = make_run(Gaussian, pool(x, y)).solver
    network, found = solver.network, []
    for offset in (0.0, 0.1):
        network.offset.data.fill_(offset)
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(solver.loss(x, y, t), network.parameters())]))
    # The gradient is the mean over points and coordinates of 2 error * input, whose deviation is below 4.
    assert float(found[0].abs().max()) < 4 * 4 / n**0.5
    torch.testing.assert_close(found[1][4:], found[0][4:] + 0.1)  # of the offset, which costs its square


def test_the_exact_velocity_gives_the_exact_maps_and_density(make_run: Make) -> None:
    x = sample(30, 2)
    maps = make_run(Gaussian, problem(x), ode_steps=20).solver.transport()
    y = x * SPREAD + MEAN
    close: Any = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(maps.forward(x), y, **close)
    torch.testing.assert_close(maps.backward(y), x, **close)
    wanted = torch.distributions.Normal(MEAN, SPREAD).log_prob(x).sum(1)
    torch.testing.assert_close(maps.log_prob(x), wanted, **close)
    between = maps.interpolate(x, 0.3)
    torch.testing.assert_close(between, x * (0.7**2 + 0.3**2 * SPREAD**2).sqrt() + 0.3 * MEAN, **close)
    ahead, behind = maps.interpolate(x, 0.3 + 1e-3), maps.interpolate(x, 0.3 - 1e-3)
    torch.testing.assert_close(maps.velocity(between, 0.3), (ahead - behind) / 2e-3, rtol=1e-3, atol=1e-3)
    assert torch.equal(maps.interpolate(x, 0.0), x)
    torch.testing.assert_close(maps.interpolate(x, 1.0), maps.forward(x))


def test_density_integrates_to_one(make_run: Make) -> None:
    solver = make_run(CFM, problem(0.5 * sample(300, 2) + 1), steps=40, lr=1e-2, **SMALL).train()
    side = torch.linspace(-4, 6, 81, dtype=F64)
    grid = torch.cartesian_prod(side, side)
    assert float(solver.transport().log_prob(grid).exp().sum()) * 0.125**2 == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("integrator", ["rk4", "dopri5"])
def test_maps_invert_each_other(integrator: str, make_run: Make) -> None:
    run = make_run(CFM, curved(400, 3), steps=60, lr=1e-2, integrator=integrator, tolerance=1e-6, ode_steps=30, **SMALL)
    maps, x = run.train().transport(), sample(50, 3, seed=9)
    assert float((maps.forward(x) - x).norm(dim=1).mean()) > 0.1
    torch.testing.assert_close(maps.backward(maps.forward(x)), x, rtol=1e-4, atol=1e-4)


def test_only_a_standard_normal_source_has_densities(make_run: Make) -> None:
    assert hasattr(make_run(CFM, problem(sample(80, 2)), **SMALL).solver.transport(), "log_prob")
    maps = make_run(CFM, curved(80, 2), **SMALL).solver.transport()
    assert not hasattr(maps, "log_prob")
    assert hasattr(maps, "velocity")


def pairs_of(solver: Any, steps: int) -> list[tuple[Tensor, Tensor]]:
    """The pairs of the next steps."""
    seen: list[tuple[Tensor, Tensor]] = []
    loss = solver.loss

    def spy(x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        seen.append((x, y))
        return loss(x, y, t)  # type: ignore[no-any-return]

    solver.loss = spy
    for _ in range(steps):
        solver.step()
    return seen


def all_of(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    x, y = (torch.cat(side) for side in zip(*pairs, strict=True))
    return x, y


def cost(pairs: list[tuple[Tensor, Tensor]]) -> float:
    x, y = all_of(pairs)
    return float((x - y).square().sum(1).mean())


def test_each_pass_has_every_point_of_the_block_once(make_run: Make) -> None:
    n, given = 128, curved(128, 3)
    seen = pairs_of(make_run(CFM, given, **SMALL).solver, 8)
    first, second, third = (all_of(seen[k : k + 2]) for k in (0, 2, 4))
    for pairs in (first, second, third):
        for side, measure in zip(pairs, (given.source, given.target), strict=True):
            assert measure.pool is not None
            assert torch.equal(side.sort(0).values, measure.pool.sort(0).values)
    order, again = first[0][:, 0].argsort(), second[0][:, 0].argsort()
    assert torch.equal(first[1][order], second[1][again])  # the same pairs
    assert not torch.equal(order, again)  # in another order
    assert len(first[0]) == n


def test_larger_pairing_batches_cost_less_and_no_assignment_most(make_run: Make) -> None:
    given, batch = curved(1024, 8), {"batch_size": 64, "width": 8, "pairing_passes": 1}
    costs = [
        cost(pairs_of(make_run(CFM, given, coupling=how, pairing_batch=n, **batch).solver, 16))
        for how, n in (("independent", 64), ("minibatch", 64), ("minibatch", 1024))
    ]
    assert costs[2] < 0.9 * costs[1] < 0.7 * costs[0]


def test_entropic_pairs_are_of_strength_eps_in_the_units_of_the_user(make_run: Make) -> None:
    x, y = sample(256, 2), sample(256, 2, seed=6)
    costs = []
    for eps, scale in ((0.01, 1.0), (1.0, 1.0), (1.0, 10.0)):
        units = Units(x.new_zeros(2), x.new_zeros(2), x.new_tensor(scale))
        solver = make_run(CFM, pool(x, y, units), coupling="sinkhorn", eps=eps, **SMALL).solver
        costs.append(cost(pairs_of(solver, 4)))
    assert costs[0] < 0.6 * costs[1]
    assert costs[2] == pytest.approx(costs[0], rel=0.2)  # the same strength, seen from the points


def test_training_finds_a_gaussian_map(coupled: Callable[..., Any], make_run: Make) -> None:
    pair = coupled(4)
    run = make_run(CFM, pair.problem(), steps=200, lr=1e-2, **{**SMALL, "pairing_batch": 512})
    forward, backward = pair.uvp(run.train())
    assert forward < pair.identity() / 8
    assert backward < pair.identity() / 8


def test_reflow_lowers_the_cost_of_the_map_and_counts_evaluations(make_run: Make) -> None:
    long, turn = torch.tensor([0.3, 1.5], dtype=F64), torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=F64) / 2**0.5
    x, y = sample(1000, 2) * long, (sample(1000, 2, seed=6) * long) @ turn  # an ellipse that is turned by 45 degrees
    steps, values = 150, {**SMALL, "coupling": "independent", "lr": 1e-2, "pairing_passes": 4, "ode_steps": 5}
    costs, evaluations = [], []
    for reflow in (0, 1):
        run = make_run(CFM, pool(x, y), steps=steps * (reflow + 1), reflow=reflow, **values)
        image = run.train().transport().forward(x)
        assert float((image.std(0) - y.std(0)).abs().max()) < 0.05
        costs.append(cost([(x, image)]))
        evaluations.append(run.solver.function_evaluations)
    assert cost([(x, y[assigned(x, y)])]) < costs[1] < 0.98 * costs[0]
    blocks = 3  # of 1000 pairs, which last for 4 * 15 steps
    assert evaluations == [None, 4 * 5 * blocks]


def test_rounds_share_the_budget(make_run: Make) -> None:
    run = make_run(CFM, curved(200, 2), steps=30, reflow=2, **SMALL)
    rounds = []
    for _ in range(30):
        run.train(1)
        rounds.append(int(run.solver.round))
    assert rounds == [0] * 10 + [1] * 10 + [2] * 10


@pytest.mark.parametrize("at", [3, 13])
def test_a_resumed_run_is_the_unbroken_one(at: int, make_run: Make) -> None:
    values = {**SMALL, "reflow": 1}
    unbroken = make_run(CFM, curved(300, 3), steps=16, **values)
    unbroken.train(at)
    state = copy.deepcopy(unbroken.solver.state_dict())
    resumed = make_run(CFM, curved(300, 3), steps=16, seed=7, **values)
    resumed.solver.load_state_dict(state)
    resumed.done = at
    for run in (unbroken, resumed):
        run.train(16 - at)
    x = sample(9, 3)
    assert torch.equal(unbroken.solver.transport().forward(x), resumed.solver.transport().forward(x))
    assert unbroken.solver.function_evaluations == resumed.solver.function_evaluations


@pytest.mark.parametrize(("given", "own", "used"), [(None, None, 0.1), (None, 3.0, 3.0), (0.5, 3.0, 0.5)])
def test_a_problem_of_entropic_transport_has_its_own_strength(
    make_run: Make, given: float | None, own: float | None, used: float
) -> None:
    problem = dataclasses.replace(curved(40, 2), epsilon=own)
    solver = make_run(CFM, problem, coupling="sinkhorn", eps=given, **SMALL).solver
    assert solver.settings.eps == used


def test_a_small_pool_is_paired_whole(make_run: Make) -> None:
    solver = make_run(CFM, pool(sample(70, 2), sample(50, 2)), **SMALL).solver
    solver.step()
    assert solver.settings.paired_points == 50
    assert solver.settings.map_evaluations == 20


def test_evaluations_of_an_adaptive_integrator_are_counted(make_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otbench.solvers.cfm.COUNT_EVERY", 5)
    solver = make_run(CFM, curved(60, 2), steps=20, **SMALL, integrator="dopri5", tolerance=1e-6).solver
    calls: list[None] = []
    solver.average.module.register_forward_hook(lambda *_: calls.append(None))
    by_step = []
    for _ in range(11):
        before = len(calls)
        said = solver.step().scalars["map_evaluations"]
        by_step.append((len(calls) - before, int(said)))
    counts = [(step, found) for step, (found, _) in enumerate(by_step) if found]
    assert [step for step, _ in counts] == [0, 5, 10]
    assert all(found % 6 == 2 for _, found in counts)  # two for the length of the first step, six for each step
    assert [said for _, said in by_step] == [found for _, found in counts[:2] for _ in range(5)] + [counts[2][1]]
    assert not make_run(CFM, curved(60, 2), **SMALL).solver.step().scalars


def test_points_of_different_shape_are_declined() -> None:
    assert "shapes differ" in CFM.supports(pool(sample(9, 2), sample(9, 3))).reason


def test_presets(valid_presets: Callable[..., Any]) -> None:
    assert valid_presets(CFM)["paper"]["integrator"] == "dopri5"
