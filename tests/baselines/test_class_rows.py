"""Closed-form rows that know of classes: class-wise Bures maps, plans within a class, plans that keep classes apart."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from otbench.baselines.classwise_linear import ClasswiseLinear
from otbench.baselines.emd import EMD, EMDConfig
from otbench.baselines.emd_class import EMDClass
from otbench.baselines.linear import LinearConfig
from otbench.baselines.sinkhorn_lpl1 import SinkhornLpL1, SinkhornLpL1Config, grouped_plan
from otbench.config import Config
from otbench.errors import UsageError
from otbench.problem import PoolMeasure, Problem, QuadraticCost
from otbench.registration import registrations
from otbench.solver import Context, Solver

CPU = torch.device("cpu")
ALL: list[tuple[type[Solver[Config]], Config]] = [
    (ClasswiseLinear, LinearConfig()),
    (EMDClass, EMDConfig(n=60)),
    (SinkhornLpL1, SinkhornLpL1Config(n=60)),
]


def points(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def swap(n: int = 60, *, known: int | None = None) -> Problem:
    """Clusters at -2 and 2 on the first axis change places; the first `known` target points are labelled."""
    label = torch.arange(n) % 2
    side = torch.stack([4.0 * label - 2, torch.zeros(n)], 1).double()
    there = label.clone()
    if known is not None:
        there[known:] = -1
    return Problem(
        PoolMeasure(side + 0.2 * points(n, 2), label=label, classes=2),
        PoolMeasure(-side + 0.2 * points(n, 2, seed=1), label=there, classes=2),
        QuadraticCost(),
        CPU,
        torch.float64,
    )


def solve(cls: type[Solver[Config]], config: Config, problem: Problem) -> tuple[Solver[Config], float]:
    solver = cls(problem, config, Context(CPU, problem.dtype, torch.Generator().manual_seed(0), lambda: 0.0))
    info = solver.step()
    assert info.done
    return solver, float(info.loss)


@pytest.mark.parametrize(("cls", "config"), ALL)
def test_registered_as_closed_form_and_only_on_request(cls: type[Solver[Config]], config: Config) -> None:
    (note,) = registrations(cls)
    assert note.kind == "baseline"
    assert note.closed_form
    assert not note.always
    assert note.config is type(config)


@pytest.mark.parametrize(("cls", "config"), ALL)
def test_declines_problems_without_classes(cls: type[Solver[Config]], config: Config) -> None:
    labelled = swap()
    plain = PoolMeasure(points(20, 2))
    assert cls.supports(labelled).ok
    assert "classes" in cls.supports(Problem(plain, plain, QuadraticCost(), CPU, torch.float64)).reason
    one_sided = Problem(labelled.source, plain, QuadraticCost(), CPU, torch.float64)
    assert cls.supports(one_sided).ok == (cls is SinkhornLpL1)
    empty = PoolMeasure(points(9, 2), label=torch.full((9,), -1), classes=2)
    assert not cls.supports(Problem(empty, labelled.target, QuadraticCost(), CPU, torch.float64)).ok


@pytest.mark.parametrize(("cls", "config"), ALL)
@pytest.mark.parametrize("known", [None, 20])
def test_classes_change_places_both_ways(cls: type[Solver[Config]], config: Config, known: int | None) -> None:
    problem = swap(known=known)
    if known is not None and cls is SinkhornLpL1:
        pytest.skip("unlabelled target points are open to all: nothing tells their class")
    solver, _ = solve(cls, config, problem)
    assert isinstance(problem.source, PoolMeasure)
    x, label = problem.source.pool, problem.source.pool_label
    assert label is not None
    image = solver.transport().forward(x, label)
    assert image.dtype == x.dtype
    assert torch.equal(image[:, 0] > 0, label == 0)
    assert solver.transport().reads_label == (cls is ClasswiseLinear)
    back = solver.transport().backward(image, label)  # type: ignore[attr-defined]
    assert torch.equal(back[:, 0] < 0, label == 0)
    fresh = cls(problem, config, Context(CPU, problem.dtype, torch.Generator().manual_seed(9), lambda: 0.0))
    fresh.load_state_dict(solver.state_dict())
    assert torch.equal(fresh.transport().forward(x, label), image)


def test_classwise_linear_is_the_bures_map_of_each_class() -> None:
    problem = swap(400)
    solver, _ = solve(ClasswiseLinear, LinearConfig(ridge=0.0), problem)
    assert isinstance(problem.source, PoolMeasure)
    assert isinstance(problem.target, PoolMeasure)
    x, label = problem.source.pool, problem.source.pool_label
    assert label is not None
    image = solver.transport().forward(x, label)
    for k in (0, 1):
        aim, found = problem.target.pool[problem.target.members(k)], image[label == k]
        torch.testing.assert_close(found.mean(0), aim.mean(0))
        torch.testing.assert_close(found.T.cov(correction=0), aim.T.cov(correction=0))
    unlabelled = solver.transport().forward(x, torch.full_like(label, -1))
    assert torch.equal(unlabelled, x)
    with pytest.raises(UsageError, match="class of each point"):
        solver.transport().forward(x)


def test_class_plans_cost_what_the_plan_of_each_class_costs() -> None:
    problem = swap()
    _, cost = solve(EMDClass, EMDConfig(n=60), problem)
    assert isinstance(problem.source, PoolMeasure)
    assert isinstance(problem.target, PoolMeasure)
    parts = []
    for k in (0, 1):
        x, y = (side.pool[side.members(k)].numpy() for side in (problem.source, problem.target))
        parts.append(ot.emd2(ot.unif(30), ot.unif(30), ot.dist(x, y) / 2))
    assert cost == pytest.approx(sum(parts) / 2)
    _, free = solve(EMD, EMDConfig(n=60), problem)
    assert free < cost / 10


def test_plan_is_that_of_pot() -> None:
    x, y = points(12, 3).numpy(), points(15, 3, seed=1).numpy()
    label = np.arange(12) % 3
    cost = ot.dist(x, y)
    expected = ot.da.sinkhorn_lpl1_mm(
        ot.unif(12), label, ot.unif(15), cost, 1.0, eta=0.5, numItermax=6, numInnerItermax=300
    )
    found = grouped_plan(cost, label, reg=1.0, eta=0.5, outer=6, iterations=300, tolerance=1e-9)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)
    apart = grouped_plan(cost, label, reg=1.0, eta=0.0, outer=6, iterations=300, tolerance=1e-9)

    def mixed(plan: np.ndarray) -> float:  # type: ignore[type-arg]
        shares = np.stack([plan[label == k].sum(0) for k in range(3)])
        return float((shares.sum(0) - shares.max(0)).sum())

    assert mixed(found) < mixed(apart)


def test_labelled_pairs_of_two_classes_are_avoided() -> None:
    problem = swap(known=30)
    solver, _ = solve(SinkhornLpL1, SinkhornLpL1Config(n=60), problem)
    assert isinstance(problem.target, PoolMeasure)
    y = problem.target.pool
    for k in (0, 1):  # labelled target points come from their own class; the others, from the nearer one
        known = problem.target.members(k)
        back = solver.transport().backward(y[known])  # type: ignore[attr-defined]
        assert float((back[:, 0] * (2 * k - 1)).min()) > 0
