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
