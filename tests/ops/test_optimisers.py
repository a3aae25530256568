from __future__ import annotations

import pytest
import torch
from torch import nn

from otbench.ops.optimisers import OptimiserName, build_optimiser


@pytest.mark.parametrize("name", ["adam", "soap"])
def test_they_descend_and_take_their_settings(name: OptimiserName) -> None:
    weight = nn.Parameter(torch.ones(4, 3))
    optimiser = build_optimiser(name, [weight], lr=0.05, betas=(0.8, 0.9), weight_decay=0.1)
    (group,) = optimiser.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.05, (0.8, 0.9), 0.1)
    for _ in range(50):
        optimiser.zero_grad()
        weight.square().sum().backward()
        optimiser.step()
    assert float(weight.detach().square().sum()) < 1


@pytest.mark.parametrize("name", ["adam", "soap"])
def test_they_take_tensors_of_any_shape(name: OptimiserName) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(), (1,), (300,), (1, 1), (1, 20), (3, 2, 5), (6, 4, 3, 3)]
    weights = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    weights[-1].data = weights[-1].data.contiguous(memory_format=torch.channels_last)  # as our image networks have it
    optimiser = build_optimiser(name, weights, lr=0.05)
    start = [float(weight.detach().square().sum()) for weight in weights]
    for _ in range(25):
        optimiser.zero_grad()
        torch.stack([weight.square().sum() for weight in weights]).sum().backward()
        optimiser.step()
    for before, weight in zip(start, weights, strict=True):
        assert float(weight.detach().square().sum()) < before


def test_the_decay_of_adam_may_be_a_part_of_its_gradient() -> None:
    weights = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    for weight, decoupled in zip(weights, (True, False), strict=True):
        optimiser = build_optimiser("adam", [weight], lr=0.1, weight_decay=0.5, decoupled=decoupled)
        weight.grad = torch.zeros(3)
        optimiser.step()
    torch.testing.assert_close(weights[0].detach(), torch.full((3,), 1 - 0.1 * 0.5))
    torch.testing.assert_close(weights[1].detach(), torch.full((3,), 0.9))  # a step by the sign of the decay's gradient
