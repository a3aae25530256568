"""Projected distances: POT's on a line, and gradients."""

from __future__ import annotations

import ot
import pytest
import torch
from torch import Tensor

from otbench.ops.sliced import projected_w2_squared, unit_directions


def sample(n: int, *, seed: int) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("m", [6, 9])
def test_each_direction_has_the_distance_of_pot_and_its_gradient(m: int) -> None:
    x, y = sample(6, seed=0).requires_grad_(), 1 + sample(m, seed=1)
    directions = unit_directions(4, 3, torch.Generator().manual_seed(2))
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(4, dtype=torch.float64))
    found = projected_w2_squared(x, y, directions)
    lines = [((x.detach() @ way).numpy(), (y @ way).numpy()) for way in directions]
    torch.testing.assert_close(found.detach(), torch.tensor([ot.emd2_1d(*line) for line in lines], dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda points: projected_w2_squared(points, y, directions), x)
