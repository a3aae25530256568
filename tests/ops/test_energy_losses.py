"""The batched energy distance: that of a loop over its pairs of samples, in value and gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from otbench.ops.energy import energy_distance
from otbench.ops.energy_losses import energy_losses


def sample(n: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("own_term", [True, False])
@pytest.mark.parametrize(("classes", "n", "m", "d"), [(1, 5, 9, 3), (4, 30, 20, 2), (3, 700, 400, 2)])
def test_batched_losses_are_those_of_a_loop(classes: int, n: int, m: int, d: int, own_term: bool) -> None:
    shift = torch.arange(classes)[:, None, None]  # each pair of samples at its own place and of its own size
    x = (sample(classes * n, d, 0).view(classes, n, d) * (1 + shift) + 5 * shift).requires_grad_()
    y = 1.5 * sample(classes * m, d, 1).view(classes, m, d) - 3 * shift
    weight = 1.0 + torch.arange(classes)
    batched = energy_losses(x, y, own_term=own_term)
    (found,) = torch.autograd.grad((weight * batched).sum(), x)
    loop = torch.stack([energy_distance(a, b, target_term=False, unbiased=True) for a, b in zip(x, y, strict=True)])
    if not own_term:
        loop = torch.stack([2 * torch.cdist(a, b).mean() for a, b in zip(x, y, strict=True)])
    (expected,) = torch.autograd.grad((weight * loop).sum(), x)
    torch.testing.assert_close(batched, loop, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_batched_losses_of_equal_points_are_finite() -> None:
    x = torch.zeros(2, 4, 3, requires_grad=True)
    value = energy_losses(x, torch.zeros(2, 5, 3))
    value.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert value.abs().max() < 1e-6


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (torch.zeros(4, 2), torch.zeros(4, 2)),
        (torch.zeros(2, 4, 2), torch.zeros(3, 4, 2)),
        (torch.zeros(2, 4, 2), torch.zeros(2, 4, 3)),
        (torch.zeros(2, 1, 2), torch.zeros(2, 4, 2)),
        (torch.zeros(2, 4, 2), torch.zeros(2, 4, 2, dtype=torch.float64)),
        (torch.zeros(2, 4, 2), torch.zeros(2, 4, 2, requires_grad=True)),
    ],
)
def test_batched_losses_refuse_what_they_cannot_compare(x: Tensor, y: Tensor) -> None:
    with pytest.raises(ValueError, match="samples"):
        energy_losses(x, y)
