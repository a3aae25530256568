"""What the training loop itself costs per step: small beside the smallest training step there is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from otbench.harness.measure import PeakMemory
from otbench.harness.train import Budget, Progress, Trainer
from otbench.problem import PoolMeasure, Problem, QuadraticCost
from otbench.solver import Config, Context, Solver, StepInfo, Transport

pytestmark = pytest.mark.speed

STEPS = 5000
CPU = torch.device("cpu")
LEAST_RATIO = 4.0
"""Of one step of Adam on a network of 3 numbers to the harness's own work per step."""


class Idle(Solver[Config]):
    """Does nothing in a step, so that all the time is the harness's."""

    def step(self) -> StepInfo:
        return StepInfo(0.0)

    def transport(self) -> Transport:
        return Transport()


def test_the_harness_is_cheap_beside_the_smallest_step(
    race: Callable[..., tuple[float, float]], tell: Callable[[str], None]
) -> None:
    pool = PoolMeasure(torch.zeros(8, 2))
    problem = Problem(pool, pool, QuadraticCost(), CPU, torch.float32)
    net = nn.Linear(2, 1)
    optimiser = torch.optim.Adam(net.parameters())
    x = torch.randn(8, 2)

    def train() -> None:
        for _ in range(STEPS // 10):
            loss = net(x).square().sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    def harness() -> None:
        progress = Progress(Budget(steps=STEPS))
        solver = Idle(problem, Config(), Context(CPU, torch.float32, torch.Generator(), progress))
        Trainer(solver, progress, keep=lambda point: None, memory=PeakMemory(CPU)).run()

    slow, fast = race(train, harness, rounds=5, least=LEAST_RATIO / 10)
    step, own = slow / (STEPS // 10), fast / STEPS
    tell(f"harness {own * 1e6:.1f} us a step, smallest step of Adam {step * 1e6:.0f} us")
    assert step / own >= LEAST_RATIO
