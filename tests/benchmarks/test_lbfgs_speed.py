"""Batched L-BFGS with samples that leave the batch when they are done, against the same without, in one run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from otbench.nets.elu_brenier import ELUBrenier
from otbench.ops.lbfgs import solve_conjugate_lbfgs

pytestmark = pytest.mark.speed

BATCH, FAR = 2048, 0.02
"""Points, and the share of them that begin far from their solution."""
LEAST_SPEED_UP = 2.0

Race = Callable[..., tuple[float, float]]
Tell = Callable[[str], None]


def batch(dim: int) -> tuple[ELUBrenier, Tensor, Tensor]:
    """A convex potential, right-hand sides, and starts as an amortiser gives them: most good, some bad."""
    generator = torch.Generator().manual_seed(0)
    psi = ELUBrenier(dim, widths=(128, 128, 64), kind="icnn", generator=generator)
    with torch.no_grad():
        psi.inner[-1].add_(40)  # curved: the condition of its Hessian is about 20
        psi.outer[0].mul_(3)
        psi.log_alpha.fill_(-3)
    w = torch.randn(BATCH, dim, generator=generator)
    start = w + 0.003 * torch.randn(BATCH, dim, generator=generator)
    far = int(FAR * BATCH)
    start[:far] = w[:far] + 2 * torch.randn(far, dim, generator=generator)
    return psi, psi.gradient(w).detach(), start


@pytest.mark.parametrize("dim", [8, 32])
def test_samples_that_are_done_leave_the_batch(dim: int, benchmark: BenchmarkFixture, race: Race, tell: Tell) -> None:
    psi, y, start = batch(dim)

    def solve(compact: float) -> Any:
        return solve_conjugate_lbfgs(psi.value_and_gradient, y, start=start, tol=1e-3, compact=compact)

    slow, fast = race(lambda: solve(2.0), lambda: solve(0.1), rounds=5, least=LEAST_SPEED_UP)
    kept, left = solve(2.0), solve(0.1)
    assert float(left.unconverged) == float(kept.unconverged) == 0
    torch.testing.assert_close(left.y, kept.y, atol=1e-2, rtol=0)
    tell(
        f"ours {fast * 1e3:.0f} ms, {left.evaluations:.1f} evaluations a sample; "
        f"without compaction {slow * 1e3:.0f} ms, {kept.evaluations:.1f}; ratio {slow / fast:.1f}"
    )
    benchmark.pedantic(solve, args=(0.1,), rounds=5, warmup_rounds=1)
    assert slow / fast >= LEAST_SPEED_UP
