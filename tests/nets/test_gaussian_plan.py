"""The plan of a mixture of Gaussians: values, mean and draws against their definitions, diagonal and full."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from otbench.nets.gaussian_plan import GaussianPlan, Shape

F64 = torch.float64
SHAPES: tuple[Shape, ...] = ("diagonal", "full")


def plan(shape: Shape, *, d: int = 3, components: int = 4, epsilon: float = 0.3) -> GaussianPlan:
    generator = torch.Generator().manual_seed(0)
    made = GaussianPlan(d, components=components, epsilon=epsilon, shape=shape, dtype=F64)
    for parameter in made.parameters():
        parameter.data.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=F64))
    return made


def matrices(made: GaussianPlan) -> Tensor:
    """S_k by its definition, shape (K, d, d)."""
    if made.lower is None:
        return torch.diag_embed(made.log_scale.exp())
    factor = torch.diag_embed((made.log_scale / 2).exp()) + made.lower.tril(-1)
    return factor @ factor.mT


def log_v(made: GaussianPlan, y: Tensor) -> Tensor:
    normal = MultivariateNormal(made.centre, made.epsilon * matrices(made))
    return (normal.log_prob(y[:, None]) + made.level / made.epsilon).logsumexp(1)


def log_terms(made: GaussianPlan, x: Tensor) -> Tensor:
    squares = torch.einsum("nd,kde,ne->nk", x, matrices(made), x)
    return (squares + 2 * x @ made.centre.T) / (2 * made.epsilon) + made.level / made.epsilon


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_the_definition(shape: Shape) -> None:
    made = plan(shape)
    x, y = torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    for found, wanted in ((made.log_c(x), log_terms(made, x).logsumexp(1)), (made.log_v(y), log_v(made, y))):
        torch.testing.assert_close(found, wanted)
        parameters = list(made.parameters())
        gradients = (torch.autograd.grad(value.mean(), parameters, allow_unused=True) for value in (found, wanted))
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("shape", SHAPES)
def test_c_normalises_the_plan(shape: Shape) -> None:
    made = plan(shape, d=1)
    x = torch.linspace(-2, 2, 5, dtype=F64)[:, None]
    y = torch.linspace(-30, 30, 60_001, dtype=F64)[:, None]
    mass = (x @ y.T / made.epsilon + made.log_v(y)).logsumexp(1) + math.log(0.001)
    torch.testing.assert_close(mass, made.log_c(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_mean_is_the_gradient_of_a_convex_function(shape: Shape) -> None:
    made = plan(shape)
    x = torch.randn(6, 3, dtype=F64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    (gradient,) = torch.autograd.grad(made.log_c(x).sum(), x, create_graph=True)
    torch.testing.assert_close(made.epsilon * gradient, made.mean(x))
    for row in torch.autograd.functional.jacobian(lambda z: made.mean(z[None])[0], x[0].detach())[None]:
        assert torch.linalg.eigvalsh(row).min() > 0
        torch.testing.assert_close(row, row.T)


@pytest.mark.parametrize("shape", SHAPES)
def test_draws_have_the_moments_of_the_plan(shape: Shape) -> None:
    made, n = plan(shape), 100_000
    x = torch.tensor([[0.3, -0.8, 0.5]], dtype=F64)
    y = made.draw(x.expand(n, -1), torch.Generator().manual_seed(3))
    assert not y.requires_grad
    w, means = log_terms(made, x).softmax(1)[0], made.centre + matrices(made) @ x[0]
    torch.testing.assert_close(made.shares(x)[0], w)
    about = means - w @ means
    covariance = torch.einsum("k,kd,ke->de", w, about, about) + made.epsilon * torch.einsum(
        "k,kde->de", w, matrices(made)
    )
    torch.testing.assert_close(made.mean(x)[0], w @ means)
    assert (y.mean(0) - w @ means).abs().max() < 5 * (covariance.max() / n).sqrt()
    assert (torch.cov(y.T) - covariance).abs().max() < 8 * covariance.max() / n**0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_it_starts_as_pieces_around_its_points(shape: Shape) -> None:
    generator = torch.Generator().manual_seed(4)
    points, x = (torch.randn(n, 3, generator=generator, dtype=F64) for n in (7, 50))
    made = GaussianPlan(3, components=7, epsilon=1e-6, shape=shape, dtype=F64)
    made.place_(points, 0.4)
    nearest = points[torch.cdist(x, points).argmin(1)]
    torch.testing.assert_close(made.mean(x), 0.4 * x + 0.6 * nearest)
