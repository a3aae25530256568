"""Bures-Wasserstein distances of samples: against POT, and without the floor of finite samples."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch

from otbench.metrics.bures import bures

F64 = torch.float64


def covariance(d: int, generator: torch.Generator) -> torch.Tensor:
    root = torch.randn(d, d, generator=generator, dtype=F64)
    return root @ root.T / d + 0.3 * torch.eye(d, dtype=F64)


def test_plain_is_the_distance_between_gaussians() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(3, 40, 4, generator=generator, dtype=F64)
    means = torch.randn(3, 4, generator=generator, dtype=F64)
    covariances = torch.stack([covariance(4, generator) for _ in range(3)])
    found = bures(draws.float(), means, covariances)
    for k in range(3):
        x = draws[k].float().double().numpy()
        distance = ot.gaussian.bures_wasserstein_distance(
            x.mean(0), means[k].numpy(), np.cov(x.T), covariances[k].numpy()
        )
        assert float(found.plain[k]) == pytest.approx(float(distance) ** 2, rel=1e-8)


@pytest.mark.parametrize("d", [2, 32])
def test_draws_of_the_gaussian_itself_have_a_floor_and_no_corrected_distance(d: int) -> None:
    generator = torch.Generator().manual_seed(1)
    m, n = 4096 // d, 256
    draws = torch.randn(m, n, d, generator=generator, dtype=F64)
    found = bures(draws, torch.zeros(m, d, dtype=F64), torch.eye(d, dtype=F64).expand(m, d, d))
    floor = d * (d + 5) / (4 * n)
    assert float(found.plain.mean()) == pytest.approx(floor, rel=0.05)
    assert abs(float(found.corrected.mean())) < 0.03 * floor
    assert abs(float(found.mean.mean())) < 0.03 * floor


def test_another_gaussian_is_as_far_as_it_is() -> None:
    d, m, n = 8, 256, 256
    generator = torch.Generator().manual_seed(2)
    draws = 1.5 * torch.randn(m, n, d, generator=generator, dtype=F64) + 0.25
    found = bures(draws, torch.zeros(m, d, dtype=F64), torch.eye(d, dtype=F64).expand(m, d, d))
    assert float(found.corrected.mean()) == pytest.approx(d * (0.5**2 + 0.25**2), rel=0.01)
    assert float(found.mean.mean()) == pytest.approx(d * 0.25**2, rel=0.03)


def test_a_point_misses_the_whole_covariance() -> None:
    draws = torch.full((1, 64, 3), 2.0)
    found = bures(draws, torch.ones(1, 3, dtype=F64), 0.5 * torch.eye(3, dtype=F64)[None])
    assert (float(found.plain), float(found.corrected), float(found.mean)) == pytest.approx((4.5, 4.5, 3.0))


def test_what_is_not_finite_has_no_distance() -> None:
    draws = torch.randn(2, 16, 3, generator=torch.Generator().manual_seed(3))
    draws[1, 4, 0] = torch.inf
    found = bures(draws, torch.zeros(2, 3, dtype=F64), torch.eye(3, dtype=F64).expand(2, 3, 3))
    for values in found:
        assert values.isnan().tolist() == [False, True]
