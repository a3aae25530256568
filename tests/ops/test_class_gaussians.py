"""Distances between classes as Gaussians equal the formula, whatever the sizes, and so does their gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from otbench.ops.class_gaussians import class_distances


def root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    found: Tensor = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    return found


def plain(x: Tensor, y: Tensor) -> Tensor:
    """W_2^2 between N(a, A) and N(b, B), with roots of matrices."""
    a, b = (torch.cov(side.T, correction=0) for side in (x, y))
    half = root(a)
    mean = (x.mean(0) - y.mean(0)).square().sum()
    return mean + a.trace() + b.trace() - 2 * root(half @ b @ half).trace()


@pytest.mark.parametrize(("n", "m", "d"), [(40, 30, 3), (3, 4, 10), (40, 3, 5), (3, 40, 5), (4, 4, 2)])
def test_equals_the_formula(n: int, m: int, d: int) -> None:
    generator = torch.Generator().manual_seed(n + d)
    x = torch.randn(2, n, d, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 2.0])[:, None, None]
    y = torch.randn(3, m, d, generator=generator, dtype=torch.float64) + 1
    found = class_distances(x, y)
    assert found.shape == (2, 3)
    expected = torch.stack([torch.stack([plain(one, other) for other in y]) for one in x])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_gradient_equals_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, n, 4, generator=generator, dtype=torch.float64) for n in (9, 7))
    assert torch.autograd.gradcheck(lambda points: class_distances(points, y), x.requires_grad_(), atol=1e-4)


def test_a_class_is_at_no_distance_from_itself_turned_in_order() -> None:
    x = torch.randn(1, 20, 3, generator=torch.Generator().manual_seed(0))
    assert float(class_distances(x, x.flip(1))) == pytest.approx(0, abs=1e-5)
