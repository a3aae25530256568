from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from otbench.baselines.constant import Constant
from otbench.baselines.emd import EMD, EMDConfig
from otbench.baselines.entropic import Entropic, EntropicConfig
from otbench.baselines.identity import Identity
from otbench.baselines.linear import Linear, LinearConfig
from otbench.baselines.sinkhorn import Sinkhorn, SinkhornConfig
from otbench.config import Config
from otbench.datasets.gaussian import Gaussian, GaussianConfig, GaussianInstance
from otbench.problem import FreshMeasure, PoolMeasure, PowerCost, Problem, QuadraticCost
from otbench.registration import registrations
from otbench.solver import Context, Solver
from otbench.task import Outputs

CPU = torch.device("cpu")
ALL: list[tuple[type[Solver[Config]], Config]] = [
    (Identity, Config()),
    (Constant, Config()),
    (Linear, LinearConfig()),
    (EMD, EMDConfig(n=50)),
    (Sinkhorn, SinkhornConfig(n=50)),
    (Entropic, EntropicConfig(points=50)),
    (Entropic, EntropicConfig(points=50, method="progot", stages=3)),
]


def instance(seed: int = 0, **values: object) -> GaussianInstance:
    return Gaussian(GaussianConfig(**values)).build(seed=seed, device=CPU, dtype=torch.float32)


def problem(x: Tensor, y: Tensor) -> Problem:
    return Problem(PoolMeasure(x), PoolMeasure(y), QuadraticCost(), CPU, x.dtype)


def solve(cls: type[Solver[Config]], config: Config, given: Problem, seed: int = 0) -> Solver[Config]:
    generator = torch.Generator().manual_seed(seed)
    solver = cls(given, config, Context(CPU, given.dtype, generator, lambda: 0.0))
    info = solver.step()
    assert info.done
    assert np.isfinite(float(info.loss))
    return solver


def scored(given: GaussianInstance, solver: Solver[Config]) -> Mapping[str, float]:
    maps, test = solver.transport(), given.test
    forward = maps.forward(test.source.x)
    return given.score(Outputs(forward, maps.backward(test.target.x), maps.backward(forward)))


def points(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def stored(solver: Solver[Config]) -> int:
    return sum(t.nbytes for t in solver.transport().state_dict().values())


@pytest.mark.parametrize(("cls", "config"), ALL)
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 4, 4)])
def test_contract_on_points_of_any_shape(cls: type[Solver[Config]], config: Config, shape: tuple[int, ...]) -> None:
    given = problem(points(60, *shape), 1 + points(70, *shape, seed=1))
    solver = solve(cls, config, given)
    fresh = cls(given, config, Context(CPU, given.dtype, torch.Generator().manual_seed(5), lambda: 0.0))
    fresh.load_state_dict(solver.state_dict())
    x = points(9, *shape, seed=2)
    for name in ("forward", "backward"):
        image = getattr(solver.transport(), name)(x)
        assert image.shape == x.shape
        assert image.dtype == x.dtype
        assert image.isfinite().all()
        assert not image.requires_grad
        assert torch.equal(image, getattr(fresh.transport(), name)(x))
        assert torch.equal(image, getattr(solve(cls, config, given).transport(), name)(x))
        assert getattr(solver.transport(), name)(x[:0]).shape == (0, *shape)


@pytest.mark.parametrize(("cls", "config"), ALL)
def test_registered_as_closed_form(cls: type[Solver[Config]], config: Config) -> None:
    (note,) = registrations(cls)
    assert note.kind == "baseline"
    assert note.closed_form
    assert note.always == (cls in (Identity, Constant, Linear))
    assert isinstance(config, note.config)


def test_supports_says_why_not() -> None:
    x = points(5, 2)
    general = Problem(PoolMeasure(x), PoolMeasure(x), PowerCost(3), CPU, x.dtype)
    other = problem(x, points(5, 3))
    assert Identity.supports(general).ok
    assert Constant.supports(general).ok
    assert Constant.supports(other).ok
    assert EMD.supports(general).ok
    for cls in (Linear, Sinkhorn, Entropic):
        assert "quadratic" in cls.supports(general).reason
    for cls in (Identity, Linear, EMD, Sinkhorn, Entropic):
        assert "shapes differ" in cls.supports(other).reason


def test_identity_stores_nothing() -> None:
    solver = solve(Identity, Config(), problem(points(5, 2), points(5, 2)))
    assert stored(solver) == 0
    x = points(4, 2, seed=3)
    assert torch.equal(solver.transport().forward(x), x)


@pytest.mark.parametrize("pool", ["100000", "fresh"])
def test_constant_is_the_hundred_percent_row(pool: str) -> None:
    given = instance(dim=8, pool=pool)
    solver = solve(Constant, Config(), given.problem)
    scores = scored(given, solver)
    assert scores["uvp_fwd"] == pytest.approx(100, abs=2)
    assert scores["uvp_bwd"] == pytest.approx(100, abs=2)
    assert stored(solver) == 2 * 8 * 4
    assert given.problem.source.drawn == 100_000


@pytest.mark.parametrize(("dim", "floor"), [(2, 0.004), (8, 0.0065), (16, 0.010)])
@pytest.mark.parametrize("pool", ["100000", "fresh"])
def test_linear_reaches_the_statistical_floor(dim: int, floor: float, pool: str) -> None:
    given = instance(dim=dim, pool=pool, seed=1)
    solver = solve(Linear, LinearConfig(), given.problem)
    scores = scored(given, solver)
    for name in ("uvp_fwd", "uvp_bwd"):
        assert floor / 8 < scores[name] < 4 * floor
    assert scores["inverse_gap"] < 1e-8
    assert stored(solver) == 2 * 4 * (dim * dim + dim)


def test_linear_maps_one_sample_s_moments_onto_the_other_s() -> None:
    x, y = points(400, 3, dtype=torch.float64), 2 * points(500, 3, seed=1, dtype=torch.float64) - 7
    solver = solve(Linear, LinearConfig(ridge=0), problem(x, y))
    image = solver.transport().forward(x)
    torch.testing.assert_close(image.mean(0), y.mean(0))
    torch.testing.assert_close(torch.cov(image.T, correction=0), torch.cov(y.T, correction=0))
    torch.testing.assert_close(solver.transport().backward(image), x)


def test_linear_survives_flat_directions() -> None:
    x = points(100, 1).expand(-1, 5).contiguous()  # rank one
    y = torch.ones(100, 5)  # a single point
    for given in (problem(x, points(100, 5, seed=1)), problem(x, y), problem(y, x), problem(y, y + 1)):
        solver = solve(Linear, LinearConfig(), given)
        assert solver.transport().forward(x).isfinite().all()
        assert solver.transport().backward(x).isfinite().all()
    torch.testing.assert_close(solver.transport().forward(y), y + 1)


def test_linear_survives_images_of_low_rank() -> None:
    x, y = (points(40, 256, seed=s, dtype=torch.float64) for s in (0, 1))
    x[:, 128:], y[:, :64] = 0.0, 0.5  # borders, as pixels have them
    solver = solve(Linear, LinearConfig(), problem(x, y))
    assert isinstance(solver, Linear)
    moved = solver.transport().forward(x)
    assert bool(moved.isfinite().all())
    wanted = torch.cov(y.T, correction=0)
    assert float((torch.cov(moved.T, correction=0) - wanted).norm() / wanted.norm()) < 0.01
    torch.testing.assert_close(moved.mean(0), y.mean(0), atol=1e-6, rtol=0)


def test_linear_is_the_map_of_pot() -> None:
    x, y = points(500, 5, dtype=torch.float64), points(400, 5, seed=1, dtype=torch.float64) * 2 + 1
    solver = solve(Linear, LinearConfig(ridge=0.0), problem(x, y))
    moments = (x.mean(0), y.mean(0), torch.cov(x.T, correction=0), torch.cov(y.T, correction=0))
    matrix, offset = ot.gaussian.bures_wasserstein_mapping(*(part.numpy() for part in moments))
    torch.testing.assert_close(solver.transport().forward(x), x @ torch.from_numpy(matrix).T + torch.from_numpy(offset))


def test_emd_of_equal_samples_is_the_permutation_of_pot() -> None:
    x, y = points(40, 2, dtype=torch.float64), points(40, 2, seed=1, dtype=torch.float64) + 1
    solver = solve(EMD, EMDConfig(n=40), problem(x, y))
    plan = ot.emd(ot.unif(40), ot.unif(40), ot.dist(x.numpy(), y.numpy()))
    partner = torch.from_numpy(plan.argmax(1))
    assert sorted(partner.tolist()) == list(range(40))
    torch.testing.assert_close(solver.transport().forward(x), y[partner])
    torch.testing.assert_close(solver.transport().backward(y[partner]), x)


def test_emd_follows_the_plan_of_the_cost_that_is_asked_for() -> None:
    x = torch.tensor([[0.0, 0.0], [2.0, 3.0]], dtype=torch.float64)
    y = torch.tensor([[2.0, 3.0], [5.0, 0.0]], dtype=torch.float64)
    # one far step and none, or two of a middle length: p decides
    for p, partner in ((1.1, [1, 0]), (6.0, [0, 1])):
        given = Problem(PoolMeasure(x), PoolMeasure(y), PowerCost(p), CPU, x.dtype)
        costs = {order: float(given.cost(x, y[list(order)]).sum()) for order in ((0, 1), (1, 0))}
        assert list(min(costs, key=costs.__getitem__)) == partner  # the example is one that p decides
        solver = solve(EMD, EMDConfig(), given)
        torch.testing.assert_close(solver.transport().forward(x), y[partner])


def test_emd_of_unequal_samples_is_barycentric() -> None:
    x, y = points(20, 2, dtype=torch.float64), points(33, 2, seed=1, dtype=torch.float64)
    solver = solve(EMD, EMDConfig(n=100), problem(x, y))
    plan = torch.from_numpy(ot.emd(ot.unif(20), ot.unif(33), ot.dist(x.numpy(), y.numpy())))
    torch.testing.assert_close(solver.transport().forward(x), 20 * plan @ y)
    torch.testing.assert_close(solver.transport().backward(y), 33 * plan.T @ x)


def test_emd_carries_unseen_points_like_their_nearest_neighbour() -> None:
    x = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    y = torch.tensor([[0.0, 3.0], [10.0, 5.0]])
    solver = solve(EMD, EMDConfig(), problem(x, y))
    torch.testing.assert_close(
        solver.transport().forward(torch.tensor([[1.0, -1.0], [9.0, 2.0]])), torch.tensor([[1, 2], [9, 7.0]])
    )


def test_subsamples_are_distinct_points_of_the_pool() -> None:
    x = torch.arange(100.0)[:, None]
    measure = PoolMeasure(x)
    given = Problem(measure, PoolMeasure(x + 0.5), QuadraticCost(), CPU, x.dtype)
    solver = solve(EMD, EMDConfig(n=30), given)
    held = solver.transport().get_buffer("there.points")
    assert held.shape == (30, 1)
    assert len(held.unique()) == 30
    assert measure.drawn == 30


def test_sinkhorn_on_its_samples_is_the_barycentric_map_of_the_entropic_plan() -> None:
    x, y = points(30, 2, dtype=torch.float64), points(40, 2, seed=1, dtype=torch.float64) + 1
    solver = solve(Sinkhorn, SinkhornConfig(n=100, reg=0.2, tolerance=1e-12), problem(x, y))
    cost = ot.dist(x.numpy(), y.numpy())
    held = solver.transport().get_buffer("there.reg")
    plan = torch.from_numpy(ot.sinkhorn(ot.unif(30), ot.unif(40), cost, float(held), stopThr=1e-12))
    torch.testing.assert_close(solver.transport().forward(x), 30 * plan @ y, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(solver.transport().backward(y), 40 * plan.T @ x, rtol=1e-6, atol=1e-8)


def test_discrete_maps_come_near_the_linear_one_in_two_dimensions() -> None:
    given = instance(dim=2, pool=5000)
    x = given.test.source.x[:2000]
    linear = solve(Linear, LinearConfig(), given.problem).transport().forward(x)
    spread = linear.square().sum(1).mean()
    for cls, config in ((EMD, EMDConfig(n=800)), (Sinkhorn, SinkhornConfig(n=500, reg=0.05))):
        image = solve(cls, config, given.problem).transport().forward(x)
        assert (image - linear).square().sum(1).mean() < 0.05 * spread


def test_large_costs_do_not_underflow() -> None:
    given = problem(255 * points(60, 1, 4, 4).abs(), 255 * points(50, 1, 4, 4, seed=1).abs())
    image = solve(Sinkhorn, SinkhornConfig(reg=0.01), given).transport().forward(given.source.pool[:5] * 10)
    assert image.isfinite().all()


def test_points_that_coincide() -> None:
    x = torch.zeros(10, 2)
    for cls, config in ((EMD, EMDConfig()), (Sinkhorn, SinkhornConfig()), (Entropic, EntropicConfig())):
        image = solve(cls, config, problem(x, x)).transport().forward(x)
        torch.testing.assert_close(image, x)


def test_fresh_measures_are_sampled() -> None:
    def sampler(n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, 2, generator=generator)

    measure = FreshMeasure((2,), sampler)
    solve(EMD, EMDConfig(n=20), Problem(measure, measure, QuadraticCost(), CPU, torch.float32))
    assert measure.drawn == 40
