from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from otbench.nets.average import update_average


@pytest.mark.parametrize("power", [0.0, 2.0, 8.0])
def test_it_is_the_weighted_mean_of_all_iterates(power: float) -> None:
    generator = torch.Generator().manual_seed(1)
    network = nn.Linear(3, 2).double()
    average, iterates = copy.deepcopy(network), []
    for k in range(1, 41):
        with torch.no_grad():
            for weight in network.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
        iterates.append(network.weight.detach().clone())
        update_average(average, network, taken=k, power=power)
    # the recursion's weights are Gamma(k + p) / Gamma(k), which is k^p to first order
    k = torch.arange(1, 41, dtype=torch.float64)
    weights = torch.exp(torch.lgamma(k + power) - torch.lgamma(k))
    mean = (torch.stack(iterates) * (weights / weights.sum())[:, None, None]).sum(0)
    torch.testing.assert_close(average.weight.detach(), mean)
