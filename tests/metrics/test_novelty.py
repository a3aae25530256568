from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from otbench.metrics.novelty import novelty


def cloud(seed: int, n: int = 3000, d: int = 5) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_new_points_of_the_same_law_are_as_far_as_held_out_ones() -> None:
    assert abs(novelty(cloud(1), cloud(2), cloud(3)) - 1) < 0.05


def test_copies_are_at_zero_and_the_distance_scales() -> None:
    training = cloud(2)
    assert novelty(training.clone(), training, cloud(3)) < 1e-2  # rounding of the product form
    near = novelty(training + 1e-2 * cloud(4), training, cloud(3))
    assert 0 < near < 0.1
    assert novelty(cloud(1) + 100, training, cloud(3)) > 50


def test_held_out_copies_leave_nothing_to_compare_with() -> None:
    same = torch.zeros(10, 2)
    assert math.isnan(novelty(cloud(1, d=2), same, same))


@pytest.mark.parametrize("n", [1, 7])
def test_few_points(n: int) -> None:
    training = torch.tensor([[0.0], [10.0]])
    assert novelty(torch.ones(n, 1), training, torch.full((3, 1), 2.0)) == pytest.approx(0.5)
