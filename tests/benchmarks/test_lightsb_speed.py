"""A step of LightSB against the same loss with an array of shape (points, components, coordinates), in one run."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from otbench.nets.gaussian_plan import GaussianPlan
from otbench.solvers.lightsb import plan_loss

pytestmark = pytest.mark.speed

DIM, COMPONENTS, BATCH, EPSILON = 64, 50, 512, 0.1
LEAST_RATIO = 2.0


def plain_loss(plan: GaussianPlan, x: Tensor, y: Tensor) -> Tensor:
    """The loss as the paper writes it."""
    scale, level = plan.log_scale.exp(), plan.level / EPSILON
    log_c = ((scale * x[:, None].square() + 2 * plan.centre * x[:, None]).sum(2) / (2 * EPSILON) + level).logsumexp(1)
    log_v = (
        -((y[:, None] - plan.centre).square() / (EPSILON * scale) + (2 * math.pi * EPSILON * scale).log()).sum(2) / 2
    )
    return log_c.mean() - (log_v + level).logsumexp(1).mean()


def test_expanded_squares_beat_the_broadcast(
    benchmark: BenchmarkFixture, race: Callable[..., tuple[float, float]], tell: Callable[[str], None]
) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, BATCH, DIM, generator=generator)
    plan = GaussianPlan(DIM, components=COMPONENTS, epsilon=EPSILON)
    plan.place_(torch.randn(COMPONENTS, DIM, generator=generator), 0.5)
    optimiser = torch.optim.AdamW(plan.parameters(), lr=0.0, fused=True)

    def step(loss: Callable[[GaussianPlan, Tensor, Tensor], Tensor]) -> None:
        optimiser.zero_grad()
        loss(plan, x, y).backward()
        optimiser.step()

    gradients = []
    for loss in (plain_loss, plan_loss):
        step(loss)
        gradients.append(torch.cat([p.grad.flatten() for p in plan.parameters() if p.grad is not None]))
    torch.testing.assert_close(*gradients, rtol=1e-2, atol=1e-3 * float(gradients[0].abs().max()))
    slow, fast = race(lambda: step(plain_loss), lambda: step(plan_loss), rounds=20, least=LEAST_RATIO)
    tell(f"expanded {fast * 1e3:.2f} ms, broadcast {slow * 1e3:.2f} ms, ratio {slow / fast:.1f}")
    benchmark.pedantic(step, args=(plan_loss,), rounds=10, warmup_rounds=1)
    assert slow / fast >= LEAST_RATIO
