from __future__ import annotations

import pytest
import torch

from otbench.metrics.class_energy import class_energy
from otbench.problem import Batch


def test_class_energy_is_the_mean_over_classes() -> None:
    x, label = torch.tensor([[0.0], [0.0], [5.0], [5.0]], dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    image = Batch(torch.tensor([[1.0], [1.0], [5.0], [5.0]], dtype=torch.float64), label)
    assert class_energy(image, Batch(x, label)) == pytest.approx((2 + 0) / 2)
    # without classes: 2 (1 + 5 + 4 + 0) / 4 - 8 / 12 * 4 - 8 / 12 * 5
    assert class_energy(Batch(image.x), Batch(x)) == pytest.approx(-1)
