"""Sinkhorn divergence and Monge gap: values of geomloss, gradients of the unrolled iteration, zeros, warm starts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from otbench.ops.sinkhorn_losses import WarmSinkhorn, monge_gap, sinkhorn_divergence

F64 = torch.float64


def sample(n: int, d: int = 2, *, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


def exact(eps: float) -> WarmSinkhorn:
    return WarmSinkhorn(eps, tolerance=1e-12, iterations=5000)


def divergence(x: Tensor, y: Tensor, eps: float) -> Tensor:
    return sinkhorn_divergence(x, y, exact(eps))


def unrolled_cost(x: Tensor, y: Tensor, eps: float) -> Tensor:
    """W_eps by 400 plain iterations, through all of which autograd goes."""
    n, m = len(x), len(y)
    cost = (x[:, None] - y).square().sum(2) / 2
    g = y.new_zeros(m)
    for _ in range(400):
        f = -eps * torch.logsumexp((g - cost) / eps, 1) - eps * math.log(n)
        g = -eps * torch.logsumexp((f[:, None] - cost) / eps, 0) - eps * math.log(m)
    plan = torch.exp((f[:, None] + g - cost) / eps)
    return (plan * (cost + eps * plan.log())).sum()


def unrolled_divergence(x: Tensor, y: Tensor, eps: float) -> Tensor:
    own, other = unrolled_cost(x, x, eps), unrolled_cost(y, y, eps)
    return unrolled_cost(x, y, eps) - own / 2 - other / 2


def unrolled_gap(x: Tensor, y: Tensor, eps: float) -> Tensor:
    return (x - y).square().sum(1).mean() / 2 - unrolled_cost(y, x, eps)


@pytest.mark.parametrize("eps", [0.5, 1.0])
@pytest.mark.parametrize(
    ("ours", "plain"),
    [(divergence, unrolled_divergence), (lambda x, y, eps: monge_gap(y, x, exact(eps)), unrolled_gap)],
)
def test_value_and_gradient_are_those_of_the_unrolled_iteration(
    ours: Callable[..., Tensor], plain: Callable[..., Tensor], eps: float
) -> None:
    x, y = sample(12).requires_grad_(), 0.5 + 1.5 * sample(12, seed=1)
    values = ours(x, y, eps), plain(x, y, eps)
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-8)
    found, wanted = (torch.autograd.grad(value, x)[0] for value in values)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_the_divergence_is_that_of_geomloss() -> None:
    with warnings.catch_warnings():
        # geomloss looks for an optional package when it is imported, and says so with a deprecated function
        warnings.simplefilter("ignore")
        from geomloss import SamplesLoss
    x, y = sample(40), 1 + sample(30, seed=1)
    theirs = SamplesLoss("sinkhorn", p=2, blur=math.sqrt(0.4), scaling=0.95, debias=True, backend="tensorized")
    assert float(divergence(x, y, 0.4)) == pytest.approx(float(theirs(x, y)), rel=1e-3)


def test_equal_samples_are_at_the_minimum() -> None:
    x = sample(30).requires_grad_()
    value = divergence(x, x.detach().flip(0), 0.2)
    assert float(value.detach()) == pytest.approx(0, abs=1e-6)
    assert float(torch.autograd.grad(value, x)[0].abs().max()) < 1e-6


def test_the_gap_vanishes_for_gradients_of_convex_functions_only() -> None:
    x = sample(200)
    optimal = x + x.abs() * x / 2  # the gradient of |x|^2 / 2 + sum |x_i|^3 / 6
    turned = x @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=F64)
    gaps = []
    for eps in (0.3, 0.03, 0.003):
        warm = WarmSinkhorn(eps, tolerance=1e-3, iterations=3000)
        gaps.append(float(monge_gap(x, optimal, warm)))
        assert gaps[-1] >= eps * math.log(200)
        assert float(monge_gap(x, turned, WarmSinkhorn(eps, tolerance=1e-3, iterations=3000))) > 1
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.02


def test_few_passes_already_bound_the_gap_from_above() -> None:
    x, image = sample(50), sample(50, seed=1)
    values = [float(monge_gap(x, image, WarmSinkhorn(0.05, tolerance=0, iterations=most))) for most in (1, 3, 10, 1000)]
    assert values == sorted(values, reverse=True)
    assert values[-1] > 0.05 * math.log(50)


def test_a_warm_start_saves_passes_on_new_batches() -> None:
    passes = {}
    for warm in (True, False):
        plans = WarmSinkhorn(0.03, tolerance=0.05, iterations=1000, warm=warm)
        for k in range(6):
            plans.plan(sample(300, seed=2 * k), 2 * sample(300, seed=2 * k + 1))
        passes[warm] = plans.passes
    assert passes[True] < 0.8 * passes[False]


def test_a_kept_state_goes_on_as_before() -> None:
    plans, other = exact(0.3), exact(1.0)
    plans.plan(sample(20), sample(20, seed=1))
    other.load_state_dict(plans.state_dict())
    found = [each.plan(sample(20, seed=2), sample(20, seed=3)) for each in (plans, other)]
    assert torch.equal(found[0].rows, found[1].rows)
    assert plans.passes == other.passes
