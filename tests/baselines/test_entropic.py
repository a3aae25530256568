"""The entropic map and ProgOT: closed form, choice of eps, invariances, the paper's steps, and draws."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from otbench.baselines.entropic import Entropic, EntropicConfig
from otbench.datasets.convex import Convex, ConvexConfig, ConvexInstance
from otbench.datasets.eot import EOT, EOTConfig
from otbench.ops.sinkhorn import entropic_map, sinkhorn
from otbench.problem import PoolMeasure, Problem, QuadraticCost
from otbench.solver import Context, StepInfo
from otbench.task import Outputs
from otbench.transport import Transport

CPU = torch.device("cpu")
F64 = torch.float64


def sample(n: int, d: int, *, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


def fitted(problem: Problem, **values: object) -> tuple[Transport, StepInfo]:
    context = Context(CPU, problem.dtype, torch.Generator().manual_seed(0), lambda: 0.0)
    solver = Entropic(problem, EntropicConfig(**values), context)
    info = solver.step()
    assert info.done
    return solver.transport(), info


def problem(x: Tensor, y: Tensor) -> Problem:
    return Problem(PoolMeasure(x), PoolMeasure(y), QuadraticCost(), CPU, x.dtype)


def curved(dim: int, *, pool: int, seed: int = 0, pair: int = 0) -> ConvexInstance:
    config = ConvexConfig(family="lse-mid", dim=dim, pair=pair, pool=str(pool))
    return Convex(config).build(seed=seed, device=CPU, dtype=torch.float32)


def uvp(instance: ConvexInstance, image: Tensor) -> float:
    return instance.score(Outputs(image, None, None))["uvp_fwd"]


def both_uvp(instance: ConvexInstance, maps: Transport) -> tuple[float, float]:
    forward, back = maps.forward(instance.test.source.x), maps.backward(instance.test.target.x)
    scores = instance.score(Outputs(forward, back, None))
    return scores["uvp_fwd"], scores["uvp_bwd"]


@pytest.mark.parametrize("eps", [0.2, 1.0])
def test_between_standard_normals_the_map_shrinks_by_the_closed_form(eps: float) -> None:
    maps, _ = fitted(problem(sample(4000, 2), sample(4000, 2, seed=1)), eps=eps, unit="cost")
    x = sample(4000, 2, seed=2)
    slope = math.sqrt(eps**2 / 4 + 1) - eps / 2
    for method in (maps.forward, maps.backward):
        found = torch.linalg.lstsq(x, method(x)).solution
        torch.testing.assert_close(found, slope * torch.eye(2, dtype=F64), atol=0.04, rtol=0)


@pytest.mark.parametrize("values", [{}, {"eps": 0.1}, {"method": "progot", "stages": 3}])
def test_shifts_and_units_move_the_images_alike(values: dict[str, object]) -> None:
    x, y, points = sample(150, 3), 2 * sample(160, 3, seed=1), sample(20, 3, seed=2)
    maps, info = fitted(problem(x, y), **values)
    a, b = torch.tensor([[100.0, -7.0, 3.0]], dtype=F64), torch.tensor([[-20.0, 50.0, 0.0]], dtype=F64)
    moved, other = fitted(problem(5 * x + a, 5 * y + b), **values)
    torch.testing.assert_close(moved.forward(5 * points + a), 5 * maps.forward(points) + b)
    torch.testing.assert_close(moved.backward(5 * points + b), 5 * maps.backward(points) + a)
    assert [*info.scalars] == [*other.scalars]
    for name, value in info.scalars.items():
        assert float(other.scalars[name]) == pytest.approx(float(value), abs=1e-9)


@pytest.mark.parametrize("dim", [2, 8])
def test_the_chosen_eps_is_nearly_the_best_in_both_directions(dim: int) -> None:
    pair = curved(dim, pool=800, seed=100, pair=100)
    maps, info = fitted(pair.problem)
    chosen = float(info.scalars["eps"])
    assert math.log2(chosen) == round(math.log2(chosen))
    forward, back = both_uvp(pair, maps)
    others = [both_uvp(pair, fitted(pair.problem, eps=2.0**-k)[0]) for k in range(3, 9)]
    assert forward < 1.4 * min(found for found, _ in others)
    assert back < 1.4 * min(found for _, found in others)
    assert forward < min(others[0][0], others[-1][0])


def test_progot_of_one_plan_is_the_entropic_map() -> None:
    pair = problem(sample(100, 2), 1 + sample(120, 2, seed=1))
    x = sample(10, 2, seed=2)
    progot, _ = fitted(pair, method="progot", stages=1, tolerance=1e-10)
    plain, _ = fitted(pair, eps=0.25, tolerance=1e-10)  # its first strength, a quarter of the mean cost
    torch.testing.assert_close(progot.forward(x), plain.forward(x), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(progot.backward(x), plain.backward(x), rtol=1e-6, atol=1e-6)


def plain_progot(x: Tensor, y: Tensor, z: Tensor, last: float, *, plans: int, faulty: bool = False) -> Tensor:
    """Images of z, written down from the paper; with the fault, the fit starts each step at X instead of X_k."""
    first = 0.25 * (x.square().sum(1).mean() + y.square().sum(1).mean()).item() / 2
    original = x
    for k in range(plans):
        eps, alpha = first + k / plans * (last - first), 1 / (plans - k)
        columns = sinkhorn(x, y, eps, tolerance=1e-3).columns
        base = original if faulty else x
        x = (1 - alpha) * base + alpha * entropic_map(x, y, columns, eps)
        image = entropic_map(z, y, columns, eps)
        z = (1 - alpha) * z + alpha * image
    return image


def test_progot_goes_on_from_where_the_points_have_come() -> None:
    x, y, z = sample(60, 2), 2 * sample(70, 2, seed=1), sample(10, 2, seed=2)
    x, y = x - x.mean(0), y - y.mean(0)
    mean = (x.square().sum(1).mean() + y.square().sum(1).mean()).item() / 2
    maps, _ = fitted(problem(x, y), method="progot", stages=4, eps=0.05)
    right, wrong = (plain_progot(x, y, z, 0.05 * mean, plans=4, faulty=faulty) for faulty in (False, True))
    assert float((right - wrong).norm()) > 0.1 * float(right.norm())
    # early plans of the paper's are rough, so images agree only nearly
    assert float((maps.forward(z) - right).norm()) < 0.1 * float((right - wrong).norm())


@pytest.mark.parametrize(("dim", "right", "wrong"), [(2, (0.7, 2.0), 2.5), (8, (7.0, 10.5), 12.0)])
def test_the_fault_of_another_library_costs_what_was_measured(
    dim: int, right: tuple[float, float], wrong: float
) -> None:
    pair = curved(dim, pool=1024)
    maps, info = fitted(pair.problem, method="progot", stages=8)
    low, high = right
    assert low < uvp(pair, maps.forward(pair.test.source.x)) < high
    x, y, z = pair.problem.source.pool, pair.problem.target.pool, pair.test.source.x
    a, b = x.mean(0), y.mean(0)
    mean = ((x - a).square().sum(1).mean() + (y - b).square().sum(1).mean()).item() / 2
    last = float(info.scalars["eps_fwd"]) * mean
    assert uvp(pair, b + plain_progot(x - a, y - b, z - a, last, plans=8, faulty=True)) > wrong


def test_draws_are_training_points_whose_mean_is_the_map() -> None:
    y = 1 + sample(80, 2, seed=1)
    pair, x = problem(sample(70, 2), y), sample(3, 2, seed=2)
    for values in ({"eps": 0.2}, {"eps": 0.2, "method": "progot", "stages": 3}):
        maps, _ = fitted(pair, output="draw", **values)
        assert maps.stochastic
        assert maps.keeps_rows == 150
        drawn = maps.forward(x.repeat(3000, 1), None, torch.Generator().manual_seed(3))
        nearest = (drawn[:50, None] - y).abs().amax(2).amin(1)
        assert float(nearest.max()) < 1e-9
        mean, _ = fitted(pair, **values)
        torch.testing.assert_close(drawn.view(3000, 3, 2).mean(0), mean.forward(x), atol=0.08, rtol=0)


@pytest.mark.parametrize("eps", [0.1, 1.0, 10.0])
def test_a_problem_of_entropic_transport_has_its_plan_drawn_from(eps: float) -> None:
    """What is left of the exact plan's own spread is the error of 800 points; the mean of the plan has all of it."""
    instance = EOT(EOTConfig(dim=2, eps=eps)).build(seed=0, device=CPU, dtype=torch.float32)
    scores = {}
    for output in ("mean", None):
        maps, info = fitted(instance.problem, points=800, output=output, unit="cost")
        assert info.scalars["eps"] == eps
        x, y = instance.test.source.x, instance.test.target.x
        draw = torch.Generator().manual_seed(1)
        images = (maps.forward(x, None, draw), maps.backward(y, None, draw), None)
        scores[output] = instance.score(Outputs(*images))["cbw2_uvp"]
    assert scores[None] < scores["mean"] / 4


@pytest.mark.parametrize("method", ["map", "progot"])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_points_are_enough(n: int, method: str) -> None:
    x, y = sample(n, 2), sample(n, 2, seed=1)
    maps, _ = fitted(problem(x, y), method=method, stages=2)
    assert bool(maps.forward(x).isfinite().all() & maps.backward(y).isfinite().all())
