"""The share of turned pairs: nothing for optimal maps, everything for a reflection, and the brute-force count."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from otbench.datasets.gaussian import Gaussian, GaussianConfig
from otbench.metrics.gaussian import exact_maps, generate_pair
from otbench.metrics.monotone import monotone_violations


def points(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def brute_force(x: Tensor, image: Tensor, label: Tensor) -> float:
    product = ((x[:, None] - x) * (image[:, None] - image)).sum(2)
    pairs = (label[:, None] == label) & (label >= 0) & ~torch.eye(len(x), dtype=torch.bool)
    return 100 * float((product[pairs] < 0).double().mean())


@pytest.mark.parametrize("dim", [2, 8, 64])
def test_exact_maps_of_gaussian_pairs_turn_nothing(dim: int) -> None:
    instance = Gaussian(GaussianConfig(dim=dim, pool="10")).build(
        seed=0, device=torch.device("cpu"), dtype=torch.float64
    )
    x = instance.test.source.x[:2500]
    matrix, offset = (torch.from_numpy(part) for part in exact_maps(generate_pair(dim, 0)).forward)
    image = x @ matrix.T + offset
    assert monotone_violations(x, image) == 0
    assert monotone_violations(x.float(), image.float()) == 0


def test_reflection_turns_every_pair_and_equal_images_none() -> None:
    x = points(1500, 3)
    assert monotone_violations(x, -x) == 100
    assert monotone_violations(x, torch.ones_like(x)) == 0
    assert monotone_violations(x.repeat(2, 1), x.repeat(2, 1)) == 0


def test_quarter_turn_turns_half_of_the_pairs_of_its_class_only() -> None:
    x, label = points(2000, 2), torch.arange(2000) % 2
    flip = torch.where(label[:, None] == 1, x * torch.tensor([1.0, -1.0]), x)
    assert monotone_violations(x, flip, label) == pytest.approx(25, abs=1.5)
    assert monotone_violations(x, flip, torch.where(label == 1, -1, label)) == 0


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 40), st.integers(1, 4), st.integers(0, 10**6))
def test_equals_the_count_over_all_pairs(n: int, d: int, seed: int) -> None:
    x, image = points(n, d, seed), points(n, d, seed + 1)
    label = torch.randint(-1, 3, (n,), generator=torch.Generator().manual_seed(seed))
    label[:2] = 0  # at least one pair
    assert monotone_violations(x, image, label) == pytest.approx(brute_force(x, image, label))


def test_images_need_no_shape_and_the_numbers_must_match() -> None:
    x = points(6, 12).view(6, 3, 2, 2)
    assert monotone_violations(x, 2 * x) == 0
    assert monotone_violations(x[:1], x[:1]) == 0
    with pytest.raises(ValueError, match="do not match"):
        monotone_violations(x, x[:3])
