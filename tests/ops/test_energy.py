"""Energy distance: against the definition, in value, gradient, invariance and memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from otbench.ops.energy import energy_distance


def sample(n: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mean_distance(x: Tensor, y: Tensor) -> Tensor:
    """E|X - Y| by the definition; the square root's slope at 0 is taken as 0."""
    square = (x[:, None] - y[None]).square().sum(2)
    positive = square > 0
    return torch.where(positive, square.where(positive, 1.0).sqrt(), 0.0).mean()


def by_definition(x: Tensor, y: Tensor, *, target_term: bool = True) -> Tensor:
    value = 2 * mean_distance(x, y) - mean_distance(x, x)
    return value - mean_distance(y, y) if target_term else value


@pytest.mark.parametrize("target_term", [True, False])
@pytest.mark.parametrize("wants", ["x", "y", "xy"])
@pytest.mark.parametrize(("n", "m", "d"), [(37, 50, 3), (1, 4, 2), (60, 1, 1)])
def test_equals_the_definition_in_value_and_gradient(n: int, m: int, d: int, wants: str, target_term: bool) -> None:
    pairs = []
    for function in (energy_distance, by_definition):
        x, y = sample(n, d, 0).requires_grad_("x" in wants), (sample(m, d, 1) * 2 + 1).requires_grad_("y" in wants)
        value = function(x, y, target_term=target_term)
        (3 * value).backward()
        pairs.append((value.detach(), x.grad, y.grad))
    for ours, theirs in zip(*pairs, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_unbiased_leaves_out_the_pairs_of_a_point_with_itself() -> None:
    results = []
    for exact in (False, True):
        x, y = sample(20, 3, 0).requires_grad_(), sample(30, 3, 1).requires_grad_()
        if exact:
            inner = mean_distance(x, x) * 20 / 19 + mean_distance(y, y) * 30 / 29
            value = 2 * mean_distance(x, y) - inner
        else:
            value = energy_distance(x, y, unbiased=True)
        value.backward()
        results.append((value.detach(), x.grad, y.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="two points"):
        energy_distance(sample(1, 3, 0), sample(30, 3, 1), unbiased=True)


@pytest.mark.parametrize("d", [1, 2, 16])
def test_float32_agrees_with_float64_far_from_the_origin(d: int) -> None:
    x, y = sample(300, d, 0) + 50, sample(400, d, 1) * 1.5 + 50
    exact, single = x.clone().requires_grad_(), x.float().requires_grad_()
    expected = by_definition(x, y)
    by_definition(exact, y).backward()
    value = energy_distance(single, y.float())
    value.backward()
    assert float(value.detach()) == pytest.approx(float(expected), abs=2e-5)
    assert exact.grad is not None
    assert single.grad is not None
    # Each pair pulls by 1 / (n m); a few pairs are too close to tell their direction in float32.
    assert (single.grad - exact.grad).abs().max() * len(x) * len(y) < 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_sets_give_zero_and_no_force(dtype: torch.dtype) -> None:
    x = sample(200, 3, 0, dtype)
    x[50:100] = x[:50]
    moved = x.clone().requires_grad_()
    value = energy_distance(moved, x[torch.randperm(200, generator=torch.Generator().manual_seed(0))])
    value.backward()
    assert abs(float(value.detach())) < 1e-5
    assert moved.grad is not None
    assert moved.grad.abs().max() < 1e-5


@pytest.mark.parametrize("where", [0.0, 3.0])
def test_one_point_repeated_is_finite(where: float) -> None:
    x = torch.full((5, 2), where, requires_grad=True)
    value = energy_distance(x, torch.full((7, 2), where))
    value.backward()
    assert float(value.detach()) == 0
    assert x.grad is not None
    assert bool((x.grad == 0).all())


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_chunk_changes_nothing(chunk: int) -> None:
    results = []
    for rows in (chunk, None):
        x, y = sample(90, 4, 0).requires_grad_(), sample(70, 4, 1).requires_grad_()
        value = energy_distance(x, y, chunk=rows)
        value.backward()
        results.append((value.detach(), x.grad, y.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-13)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 5), st.integers(0, 10**6), st.floats(0.01, 100))
def test_is_a_distance_that_does_not_see_rigid_motions(n: int, m: int, d: int, seed: int, size: float) -> None:
    x, y = size * sample(n, d, seed), size * (sample(m, d, seed + 1) * 1.3 + 0.2)
    rotation = torch.linalg.qr(sample(d, d, seed + 2))[0]
    shift = 10 * size * sample(1, d, seed + 3)
    value = float(energy_distance(x, y))
    close = {"rel": 1e-7, "abs": 1e-7 * size}
    assert value >= -1e-7 * size
    assert value == pytest.approx(float(energy_distance(y, x)), **close)
    assert value == pytest.approx(float(energy_distance(x @ rotation.T + shift, y @ rotation.T + shift)), **close)
    assert value * 3 == pytest.approx(float(energy_distance(3 * x, 3 * y)), **close)


def test_keeps_nothing_of_the_size_of_the_distances() -> None:
    saved: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    x, y = sample(400, 3, 0).requires_grad_(), sample(500, 3, 1).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        energy_distance(x, y).backward()
    assert saved
    assert sum(saved) <= x.numel() + y.numel()


def test_refuses_a_second_derivative_rather_than_giving_a_wrong_one() -> None:
    x = sample(10, 2, 0).requires_grad_()
    (gradient,) = torch.autograd.grad(energy_distance(x, sample(10, 2, 1)), x, create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("x", "y", "chunk"),
    [
        (torch.zeros(3), torch.zeros(3), None),
        (torch.zeros(3, 2), torch.zeros(3, 4), None),
        (torch.zeros(0, 2), torch.zeros(3, 2), None),
        (torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.float64), None),
        (torch.zeros(3, 2), torch.zeros(3, 2), 0),
    ],
)
def test_refuses_what_it_cannot_compare(x: Tensor, y: Tensor, chunk: int | None) -> None:
    with pytest.raises(ValueError, match=r"samples|chunk"):
        energy_distance(x, y, chunk=chunk)
