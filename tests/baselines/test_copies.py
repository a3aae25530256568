from __future__ import annotations

import torch

from otbench.baselines.copies import Copies
from otbench.ops.points import FRESH_POINTS
from otbench.problem import FreshMeasure, Measure, PoolMeasure, Problem, QuadraticCost
from otbench.solver import Config, Context, Transport

CPU = torch.device("cpu")


def copies(source: Measure, target: Measure) -> Transport:
    problem = Problem(source, target, QuadraticCost(), CPU, torch.float32)
    solver = Copies(problem, Config(), Context(CPU, torch.float32, torch.Generator().manual_seed(0), lambda: 0.0))
    assert solver.step().done
    return solver.transport()


def drawn(n: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(n, 1, 2, generator=generator)


def test_images_are_training_rows_that_follow_the_generator_alone() -> None:
    pools = [torch.arange(40.0).view(20, 1, 2) + 100 * side for side in range(2)]
    maps = copies(*(PoolMeasure(pool) for pool in pools))
    assert maps.stochastic
    assert maps.keeps_rows == 40
    x = torch.zeros(500, 1, 2)
    for method, pool in ((maps, pools[1]), (maps.backward, pools[0])):
        one, again, other = (method(x, None, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
        assert torch.equal(one, again)
        assert not torch.equal(one, other)
        assert {tuple(row) for row in one.flatten(1).tolist()} == {tuple(row) for row in pool.flatten(1).tolist()}


def test_of_a_measure_without_a_pool_fresh_points_are_kept() -> None:
    maps = copies(FreshMeasure((1, 2), drawn), PoolMeasure(torch.zeros(5, 1, 2)))
    assert maps.keeps_rows == FRESH_POINTS + 5
    assert maps.backward(torch.zeros(3, 1, 2), None, torch.Generator().manual_seed(0)).shape == (3, 1, 2)
