"""Pairs between batches: the assignment is the best permutation, entropic partners follow the entropic plan."""

from __future__ import annotations

import itertools

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from otbench.ops.coupling import SIMPLEX_DIM, SIMPLEX_POINTS, assigned, entropic_partners


def points(n: int, d: int, *, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def cost(x: Tensor, y: Tensor) -> float:
    return float((x.double() - y.double()).square().sum(1).mean())


def test_the_best_of_all_permutations_is_found() -> None:
    x, y = points(6, 3, seed=1), points(6, 3, seed=2)
    best = min(cost(x, y[list(order)]) for order in itertools.permutations(range(6)))
    assert cost(x, y[assigned(x, y)]) == pytest.approx(best)


@pytest.mark.parametrize("d", [2, SIMPLEX_DIM + 1])
@pytest.mark.parametrize("n", [SIMPLEX_POINTS // 2, SIMPLEX_POINTS + 50])
def test_either_solver_gives_a_permutation_of_the_exact_cost(n: int, d: int) -> None:
    x, y = points(n, d, seed=3), 1.5 * points(n, d, seed=4) + 1
    place = assigned(x, y)
    assert torch.equal(place.sort().values, torch.arange(n))
    exact = ot.emd2([], [], ot.dist(x.double().numpy(), y.double().numpy()))
    assert cost(x, y[place]) == pytest.approx(exact)


def test_points_far_from_the_origin_are_assigned_as_well() -> None:
    x, y = points(50, 2, seed=5).double(), points(50, 2, seed=6).double()
    assert torch.equal(assigned(x, y), assigned(x + 1e5, y - 1e5))


def test_entropic_partners_come_as_often_as_the_plan_says() -> None:
    x, y, strength = points(5, 2, seed=7), points(5, 2, seed=8), 0.5
    plan = ot.sinkhorn([], [], ot.dist(x.double().numpy(), y.double().numpy()) / 2, strength)
    generator, count, draws = torch.Generator().manual_seed(0), np.zeros((5, 5)), 400
    for _ in range(draws):
        count[np.arange(5), entropic_partners(x, y, strength, generator).numpy()] += 1
    assert np.abs(count / draws - 5 * plan).max() < 5 * 0.5 / np.sqrt(draws)


def test_a_weak_entropy_gives_the_assignment_and_a_strong_one_chance() -> None:
    x, y = points(60, 2, seed=9), points(60, 2, seed=10)
    generator = torch.Generator().manual_seed(0)
    costs = [cost(x, y[entropic_partners(x, y, strength, generator)]) for strength in (1e-2, 1.0, 1e3)]
    assert costs[0] == pytest.approx(cost(x, y[assigned(x, y)]), rel=0.1)
    assert costs[0] < costs[1] < costs[2]
    assert costs[2] == pytest.approx(cost(x.repeat(60, 1), y.repeat_interleave(60, 0)), rel=0.3)
