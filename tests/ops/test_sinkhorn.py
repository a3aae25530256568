"""Sinkhorn's iteration in blocks: the plan of POT, its map and draws, warm starts, small eps, and memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from otbench.ops.sinkhorn import Plan, entropic_draw, entropic_map, self_sinkhorn, sinkhorn

F64 = torch.float64


def sample(n: int, d: int = 3, *, seed: int = 0, size: float = 1.0, dtype: torch.dtype = F64) -> Tensor:
    return size * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plan_of(x: Tensor, y: Tensor, found: Plan) -> Tensor:
    return torch.exp(found.rows[:, None] + found.columns + x @ y.T / found.eps)


def plan_of_pot(x: Tensor, y: Tensor, eps: float) -> Tensor:
    cost = ot.dist(x.numpy(), y.numpy()) / 2
    weights = ot.unif(len(x)), ot.unif(len(y))
    return torch.from_numpy(ot.bregman.sinkhorn_log(*weights, cost, eps, numItermax=5000, stopThr=1e-13))


@pytest.mark.parametrize("chunk", [None, 7, 1])
def test_the_plan_is_that_of_pot(chunk: int | None) -> None:
    x, y = sample(30), 1 + sample(41, seed=1, size=2.0)
    found = sinkhorn(x, y, 0.3, tolerance=1e-12, chunk=chunk)
    assert found.error <= 1e-12
    torch.testing.assert_close(plan_of(x, y, found), plan_of_pot(x, y, 0.3), rtol=1e-6, atol=1e-12)
    own = self_sinkhorn(x, 0.3, tolerance=1e-12, chunk=chunk)
    torch.testing.assert_close(plan_of(x, x, own), plan_of_pot(x, x, 0.3), rtol=1e-6, atol=1e-12)


def test_the_map_is_barycentric_on_the_sample_and_the_same_in_blocks() -> None:
    x, y = sample(30), sample(41, seed=1)
    found = sinkhorn(x, y, 0.2, tolerance=1e-12)
    plan = plan_of(x, y, found)
    image = entropic_map(x, y, found.columns, 0.2)
    torch.testing.assert_close(image, 30 * plan @ y)
    torch.testing.assert_close(image, entropic_map(x, y, found.columns, 0.2, chunk=4))
    torch.testing.assert_close(entropic_map(y, x, found.rows, 0.2), 41 * plan.T @ x)
    assert entropic_map(x[:0], y, found.columns, 0.2).shape == (0, 3)


def test_draws_are_points_of_the_sample_whose_mean_is_the_map() -> None:
    x, y = sample(3), sample(50, seed=1)
    found = sinkhorn(x, y, 0.5)
    points = x.repeat(4000, 1)
    drawn = entropic_draw(points, y, found.columns, 0.5, generator=torch.Generator().manual_seed(0))
    assert bool((drawn[:100, None] == y).all(2).any(1).all())
    mean = drawn.view(4000, 3, 3).mean(0)
    torch.testing.assert_close(mean, entropic_map(x, y, found.columns, 0.5), atol=0.06, rtol=0)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_units_do_not_matter(size: float) -> None:
    x, y = sample(40), sample(50, seed=1)
    one = sinkhorn(x, y, 0.1, iterations=20, tolerance=0)
    other = sinkhorn(size * x, size * y, 0.1 * size**2, iterations=20, tolerance=0)
    torch.testing.assert_close(one.columns, other.columns)


def test_the_last_plan_is_a_start_for_a_smaller_eps() -> None:
    x, y = sample(200), sample(200, seed=1, size=1.5)
    rough = sinkhorn(x, y, 0.1, tolerance=1e-3)
    cold, warm = sinkhorn(x, y, 0.05), sinkhorn(x, y, 0.05, start=rough.start_at(0.05))
    assert warm.error <= 1e-3
    assert warm.iterations < cold.iterations


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_entries_that_underflow_do_no_harm(dtype: torch.dtype) -> None:
    x, y = sample(60, dtype=dtype), 30 + sample(50, seed=1, dtype=dtype)  # not centred, and eps far below the cost
    found = sinkhorn(x, y, 1e-2, iterations=50, tolerance=0)
    assert bool(found.rows.isfinite().all() & found.columns.isfinite().all())
    if dtype == F64:  # the last step makes the columns right
        mass = plan_of(x, y, found).sum(0)
        torch.testing.assert_close(mass, torch.full_like(mass, 1 / 50))


def test_a_point_that_nothing_reaches_at_first_gets_its_mass() -> None:
    x, y = sample(20), torch.cat((sample(19, seed=1), torch.full((1, 3), 60.0, dtype=F64)))
    found = sinkhorn(x, y, 0.5, tolerance=1e-3, iterations=2000)
    assert found.error <= 1e-3
    torch.testing.assert_close(plan_of(x, y, found).sum(1), torch.full((20,), 0.05, dtype=F64), rtol=0.02, atol=0)


PASSES = """
import sys, torch
from otbench.ops.sinkhorn import sinkhorn

def held(name):
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) * 1024 for line in stream if line.startswith(name))

n = int(sys.argv[1])
x, y = (torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
sinkhorn(x[:1000], y[:1000], 1.0)  # what is loaded once
before = held("VmRSS")
found = sinkhorn(x, y, 1.0, iterations=2, tolerance=0)
print(held("VmHWM") - before, found.iterations, found.error)
"""
"""In a process of its own: the peak of one that has run other tests says nothing."""


@pytest.mark.parametrize(
    ("n", "most"),
    [(10_000, 2**25), pytest.param(100_000, 2**32, marks=(pytest.mark.slow, pytest.mark.timeout(3600)))],
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the resident memory is read from /proc")
def test_two_iterations_hold_no_matrix(n: int, most: int) -> None:
    done = subprocess.run([sys.executable, "-c", PASSES, str(n)], capture_output=True, text=True, check=True)
    extra, iterations, error = map(float, done.stdout.split())
    assert extra < most  # the matrix would be 0.4 and 37 GiB
    assert iterations == 2
    assert np.isfinite(error)
