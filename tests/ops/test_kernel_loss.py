"""The squared MMD as a loss: term by term, zero on average where the samples are alike, and with a gradient."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from otbench.ops.kernel_loss import kernel_loss


def sample(n: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def test_it_is_the_sum_over_pairs() -> None:
    x, y = sample(5, 0), sample(7, 1, 0.5)
    median = sorted(float((a - b).square().sum()) for a, b in product(x, y))[(5 * 7 - 1) // 2]

    def mean(left: torch.Tensor, right: torch.Tensor) -> float:
        pairs = [(a, b) for a, b in product(left, right) if a is not b]
        pairs = [(a, b) for a, b in pairs if not torch.equal(a, b)]
        kernels = (
            sum(math.exp(-float((a - b).square().sum()) / (2 * s * median)) for s in (0.25, 0.5, 1, 2, 4))
            for a, b in pairs
        )
        return sum(kernels) / len(pairs)

    wanted = mean(x, x) + mean(y, y) - 2 * mean(x, y)
    assert float(kernel_loss(x, y)) == pytest.approx(wanted, rel=1e-9)


def test_it_has_no_bias() -> None:
    """The mean over draws is 0 where both samples are of one measure; the biased estimate's would be about 10 / n."""
    losses = torch.stack([kernel_loss(sample(20, 2 * k), sample(20, 2 * k + 1)) for k in range(400)])
    assert abs(float(losses.mean())) < 4 * float(losses.std()) / math.sqrt(400) < 0.1


def test_its_gradient_leads_to_the_other_sample() -> None:
    x, y = sample(40, 0, 2.0).requires_grad_(), sample(40, 1)
    (slope,) = torch.autograd.grad(kernel_loss(x, y), x)
    assert bool((slope.sum(0) > 0).all())


def test_points_that_coincide_are_no_trouble() -> None:
    x = torch.zeros(4, 2, requires_grad=True)
    loss = kernel_loss(x, torch.zeros(4, 2))
    (slope,) = torch.autograd.grad(loss, x)
    assert float(loss.detach()) == 0
    assert bool(torch.isfinite(slope).all())
