"""Layers of torch drawn from a generator: the same for one seed, and nothing else moves."""

from __future__ import annotations

import torch
from torch import nn

from otbench.nets.drawn import drawn
from otbench.solver import Context


def context(seed: int) -> Context:
    return Context(torch.device("cpu"), torch.float64, torch.Generator().manual_seed(seed), lambda: 0.0)


def test_layers_follow_the_generator_and_torchs_global_state_does_not_move() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = drawn(lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)), context(0))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    two, other = (drawn(lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)), context(seed)) for seed in (0, 1))
    assert all(map(torch.equal, one.parameters(), two.parameters()))
    assert not torch.equal(one[0].weight, other[0].weight)
    assert one[0].weight.dtype == torch.float64


def test_two_modules_of_one_generator_differ() -> None:
    shared = context(0)
    one, two = (drawn(lambda: nn.Linear(3, 3), shared) for _ in range(2))
    assert not torch.equal(one.weight, two.weight)
