from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otbench.metrics.gaussian import exact_maps, generate_pair
from otbench.metrics.uvp import cosine, mean_square, uvp

cases = settings(max_examples=25, deadline=None, derandomize=True)
sizes = st.tuples(st.integers(2, 40), st.integers(1, 6), st.integers(0, 10_000))


def points(n: int, d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y, noise = (torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(3))
    return x, y, y + 0.1 * noise


def variance(y: torch.Tensor) -> float:
    return mean_square(y - y.mean(0))


@cases
@given(sizes)
def test_exact_map_scores_zero_and_the_best_constant_hundred(size: tuple[int, int, int]) -> None:
    _, y, _ = points(*size)
    assert uvp(y, y, variance(y)) == 0.0
    assert uvp(y.mean(0).expand_as(y), y, variance(y)) == pytest.approx(100)


@cases
@given(sizes, st.floats(-50, 50))
def test_invariant_to_translation_and_rotation(size: tuple[int, int, int], shift: float) -> None:
    x, y, mapped = points(*size)
    q, _ = torch.linalg.qr(points(size[1], size[1], size[2] + 1)[0])
    before = uvp(mapped, y, variance(y))
    assert uvp(mapped + shift, y + shift, variance(y + shift)) == pytest.approx(before, rel=1e-6)
    assert uvp(mapped @ q, y @ q, variance(y @ q)) == pytest.approx(before, rel=1e-9)
    turned = cosine(x @ q, mapped @ q, y @ q)
    assert turned == pytest.approx(cosine(x, mapped, y), abs=1e-9)


@cases
@given(sizes, st.floats(1e-3, 1e3))
def test_invariant_to_scale(size: tuple[int, int, int], scale: float) -> None:
    _, y, mapped = points(*size)
    scaled = uvp(scale * mapped, scale * y, variance(scale * y))
    assert scaled == pytest.approx(uvp(mapped, y, variance(y)), rel=1e-9)


@cases
@given(sizes)
def test_cosine_is_bounded_and_one_for_the_exact_map(size: tuple[int, int, int]) -> None:
    x, y, mapped = points(*size)
    assert cosine(x, y, y) == pytest.approx(1)
    assert cosine(x, 2 * x - y, y) == pytest.approx(-1)
    value = cosine(x, mapped, y)
    assert value is not None
    assert abs(value) <= 1 + 1e-12


def test_cosine_of_a_map_that_moves_nothing_is_undefined() -> None:
    x, y, _ = points(5, 3, 0)
    assert cosine(x, x, y) is None
    assert cosine(x, y, x) is None


def test_sums_run_in_float64_and_images_are_flattened() -> None:
    y = torch.full((3, 2, 4, 4), 1e4, dtype=torch.float32)
    assert uvp(y + 1, y, 32.0) == pytest.approx(100)
    many = torch.full((2**18, 1), 0.1, dtype=torch.float32)
    exact = float(torch.tensor(0.1).double()) ** 2
    assert mean_square(many) == pytest.approx(exact, rel=1e-12)


def test_nan_stays_nan() -> None:
    x, y, _ = points(4, 2, 0)
    assert math.isnan(uvp(y * math.nan, y, 1.0))
    value = cosine(x, y * math.nan, y)
    assert value is not None
    assert math.isnan(value)


@pytest.mark.parametrize("dim", [1, 2, 5, 64])
def test_generator_follows_the_protocol(dim: int) -> None:
    for seed in range(5):
        pair = generate_pair(dim, seed)
        for cov in (pair.cov0, pair.cov1):
            spectrum = np.linalg.eigvalsh(cov)
            assert spectrum[0] >= 0.5 - 1e-12
            assert spectrum[-1] <= 2 + 1e-12
            assert (cov == cov.T).all()
        assert not pair.mean0.any()
        assert not pair.mean1.any()


def test_generator_is_deterministic_and_log_uniform() -> None:
    assert (generate_pair(8, 3).cov1 == generate_pair(8, 3).cov1).all()
    assert not np.allclose(generate_pair(8, 3).cov0, generate_pair(8, 4).cov0)
    assert not np.allclose(generate_pair(8, 3).cov0, generate_pair(8, 3).cov1)
    logs = np.sort(np.log(np.linalg.eigvalsh(generate_pair(400, 0).cov0)))
    uniform = np.linspace(-np.log(2), np.log(2), 400)
    assert np.abs(logs - uniform).max() < 0.15  # Kolmogorov-Smirnov: 1.36/20 of the width at 5 %


def test_exact_maps_push_forward_and_invert() -> None:
    pair = generate_pair(6, 1)
    exact = exact_maps(pair)
    a, b = exact.forward
    s, _ = exact.backward
    np.testing.assert_allclose(a @ pair.cov0 @ a.T, pair.cov1, atol=1e-12)
    np.testing.assert_allclose(a @ s, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(a, a.T, atol=1e-12)
    assert not b.any()
    closed = np.trace((a - np.eye(6)) @ pair.cov0 @ (a - np.eye(6)))  # E|T(x) - x|^2
    assert exact.w2_squared == pytest.approx(closed, rel=1e-10)
