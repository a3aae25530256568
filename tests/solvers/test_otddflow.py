"""OTDD flow: the distance is its formula, classes that are shifted come to rest on their copies, unseen rows follow."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
import torch

from otbench.ops.class_gaussians import class_distances
from otbench.problem import PoolMeasure, PowerCost, Problem, QuadraticCost
from otbench.samplers import by_class
from otbench.solvers.otddflow import OTDDFlow

Make = Callable[..., Any]
CPU = torch.device("cpu")
SHIFT = torch.tensor([1.0, 2.0])


def shifted(n: int = 60, *, renamed: bool = False) -> Problem:
    """Two clusters four apart, of different spread; the target is the same set, moved by SHIFT."""
    label = torch.arange(n) % 2
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0)) * (0.1 + 0.2 * label)[:, None]
    x[:, 0] += 4.0 * label
    named = 1 - label if renamed else label
    sides = PoolMeasure(x, label=label, classes=2), PoolMeasure(x + SHIFT, label=named, classes=2)
    return Problem(*sides, QuadraticCost(), CPU, torch.float32)


@pytest.mark.parametrize("renamed", [False, True])
def test_shifted_classes_arrive_whatever_their_names(renamed: bool, make_run: Make) -> None:
    problem = shifted(renamed=renamed)
    run = make_run(OTDDFlow, problem, steps=30, n=60)
    first = float(run.solver.distance().detach())
    assert first == pytest.approx(10, rel=1e-4)  # |SHIFT|^2 of the points, and as much of their classes
    maps = run.train().transport()
    x = problem.source.pool
    assert x is not None
    assert torch.allclose(maps.forward(x), x + SHIFT, atol=1e-3)
    unseen = x + 0.01
    assert torch.allclose(maps.forward(unseen), unseen + SHIFT, atol=1e-3)
    assert maps.keeps_rows == 60
    assert not maps.two_way
    assert not maps.reads_label


def test_distance_is_that_of_the_best_assignment(make_run: Make) -> None:
    problem = shifted(n=6)
    solver = make_run(OTDDFlow, problem, n=6, label_weight=0.5).solver
    x, y = solver.start, solver.goals
    apart = class_distances(by_class(x, 2), by_class(y, 2))
    turns = torch.arange(6) % 2
    cost = torch.cdist(x, y).square() + 0.5 * apart[turns][:, turns]
    best = min(float(cost[torch.arange(6), list(order)].mean()) for order in permutations(range(6)))
    assert float(solver.distance().detach()) == pytest.approx(best, rel=1e-4)


def test_a_resumed_run_is_an_unbroken_one(make_run: Make) -> None:
    problem = shifted()
    for more in ({}, {"descent": "adam", "grad_clip": 10.0}):
        whole, first, second = (make_run(OTDDFlow, problem, seed=seed, n=20, **more) for seed in (5, 5, 6))
        whole.train(4)
        first.train(2)
        second.solver.load_state_dict(first.solver.state_dict())
        second.train(2)
        assert torch.equal(whole.solver.particles, second.solver.particles)
        x = problem.source.pool
        assert torch.equal(whole.solver.transport().forward(x), second.solver.transport().forward(x))


def test_unlabelled_points_are_no_goals_and_points_keep_their_shape(make_run: Make) -> None:
    label = torch.arange(20) % 2
    x = torch.rand(20, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    known = torch.where(torch.arange(20) < 8, label, -1)
    problem = Problem(
        PoolMeasure(x, label=label, classes=2),
        PoolMeasure(x + 1, label=known, classes=2),
        QuadraticCost(),
        CPU,
        x.dtype,
    )
    solver = make_run(OTDDFlow, problem, n=20).train()
    rows = {tuple(row) for row in (x[:8] + 1).flatten(1).tolist()}
    assert len(solver.goals) == 8
    assert {tuple(row) for row in solver.goals.tolist()} <= rows
    assert solver.transport().forward(x).shape == x.shape


def test_what_it_declines() -> None:
    side = PoolMeasure(torch.zeros(10, 2))
    assert "classes on both sides" in OTDDFlow.supports(Problem(side, side, QuadraticCost(), CPU, torch.float32)).reason
    given = shifted()
    other = Problem(given.source, given.target, PowerCost(3), CPU, torch.float32)
    assert "quadratic cost" in OTDDFlow.supports(other).reason


def test_presets(valid_presets: Make) -> None:
    paper = valid_presets(OTDDFlow)["paper"]
    assert {key: paper[key] for key in ("steps", "n", "descent", "lr", "grad_clip")} == {
        "steps": 10,
        "n": 2000,
        "descent": "adam",
        "lr": 1.0,
        "grad_clip": 10.0,
    }
