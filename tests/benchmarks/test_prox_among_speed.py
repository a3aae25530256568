"""Inner solves that go on from the last solution of the same batch, against those from the best of the points."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from otbench.nets.dense_icnn import DenseICNN
from otbench.ops.prox_among import solve_prox_among

pytestmark = pytest.mark.speed

DIM, BATCH, STEP = 16, 1024, 1e-3
"""Coordinates, points of a side, and the size of a training step, as a share of the weights."""
LEAST_SPEED_UP = 1.5

Race = Callable[..., tuple[float, float]]
Tell = Callable[[str], None]


def test_the_last_solution_is_a_better_start(benchmark: BenchmarkFixture, race: Race, tell: Tell) -> None:
    generator = torch.Generator().manual_seed(0)
    net = DenseICNN(DIM, init_std=0.15, generator=generator)
    net.clamp_convex_()
    x = torch.randn(BATCH, DIM, generator=generator)
    z = (x + net.gradient(x)).detach()
    points = torch.randn(BATCH, DIM, generator=generator)
    last = solve_prox_among(net.value_and_gradient, z, points, tol=1e-3).y
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(1 + STEP * torch.randn(weight.shape, generator=generator))

    cold, warm = (
        lambda start=start: solve_prox_among(net.value_and_gradient, z, points, start=start, tol=1e-2)
        for start in (None, last)
    )
    torch.testing.assert_close(cold().y, warm().y, atol=5e-2, rtol=0)
    slow, fast = race(cold, warm, rounds=10, least=LEAST_SPEED_UP)
    tell(
        f"warm {fast * 1e3:.1f} ms, {warm().evaluations:.1f} evaluations a sample; "
        f"cold {slow * 1e3:.1f} ms, {cold().evaluations:.1f}; ratio {slow / fast:.1f}"
    )
    benchmark.pedantic(warm, rounds=5, warmup_rounds=1)
    assert slow / fast >= LEAST_SPEED_UP
