from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from otbench.nets.average import Averaged


def iterates(network: nn.Linear, n: int) -> list[torch.Tensor]:
    """Values that the weights take in turn."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(network.weight.shape, generator=generator, dtype=torch.float64) for _ in range(n)]


def follow(average: Averaged[nn.Linear], network: nn.Linear, values: list[torch.Tensor]) -> torch.Tensor:
    for value in values:
        network.weight.data.copy_(value)
        average.update(network)
    return average.module.weight.detach().clone()


@pytest.mark.parametrize("power", [0.5, 2.0, 8.0])
def test_it_is_the_weighted_mean_of_all_iterates(power: float) -> None:
    network = nn.Linear(3, 2).double()
    values = iterates(network, 40)
    found = follow(Averaged(network, power), network, values)
    # the recursion's weights are Gamma(k + p) / Gamma(k), which is k^p to first order
    k = torch.arange(1, 41, dtype=torch.float64)
    weights = torch.exp(torch.lgamma(k + power) - torch.lgamma(k))
    mean = (torch.stack(values) * (weights / weights.sum())[:, None, None]).sum(0)
    torch.testing.assert_close(found, mean)


def test_without_averaging_it_is_the_network_itself() -> None:
    network = nn.Linear(3, 2)
    average = Averaged(network, 0.0)
    assert average.module is network
    average.update(network)
    assert average.steps_done == 1


def test_a_saved_average_goes_on_where_it_stopped() -> None:
    network = nn.Linear(3, 2).double()
    values = iterates(network, 9)
    whole, resumed = Averaged(network, 4.0), Averaged(copy.deepcopy(network), 4.0)
    follow(whole, network, values[:5])
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    assert resumed.steps_done == 5
    assert torch.equal(follow(whole, network, values[5:]), follow(resumed, network, values[5:]))
    assert not any(weight.requires_grad for weight in whole.parameters())
