"""Speed of the inner solve and of the network's derivatives, against plain forms of the same things.

Both sides of each ratio run alternately in one process on one thread; absolute times are shown, never asserted.
The plain forms are idiomatic PyTorch for the same mathematics, written here for comparison.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.nn import functional

from otbench.nets.dense_icnn import DenseICNN
from otbench.ops.prox import solve_prox

from ..helpers.plain_icnn import PlainICNN

pytestmark = pytest.mark.speed

DIM, BATCH, TOL = 32, 2048, 1e-3
LEAST_SPEED_UP = 8.0
"""Of the inner solve, against the plain form."""
LARGEST_SHARE = 0.7
"""Of the time that the plain form takes to differentiate the gradient; measured: 0.55."""

Race = Callable[..., tuple[float, float]]
Tell = Callable[[str], None]


def plain_lipschitz(net: PlainICNN, z: Tensor) -> Tensor:
    """Largest Hessian norm over the batch: 20 power iterations and one evaluation, each from scratch."""
    v = functional.normalize(torch.randn_like(z), dim=1)
    for _ in range(21):
        x = z.detach().requires_grad_()
        (v,) = torch.autograd.grad(net.gradient(x, create_graph=True), x, v)
        size = v.norm(dim=1, keepdim=True)
        v = v / (size + 1e-12)
    return size.max()


def plain_solve(net: PlainICNN, z: Tensor) -> tuple[Tensor, int]:
    """Fixed steps of 0.1 / L, with one gradient for the step and another for the residual."""
    step = 0.1 / (plain_lipschitz(net, z) + 1e-8)
    y = z.clone()
    iterations = 0
    while iterations < 1000:
        iterations += 1
        y = y - step * (y - z + net.gradient(y))
        if (y - z + net.gradient(y)).norm(dim=1).max() < TOL:
            break
    return y, iterations


@pytest.fixture(scope="module")
def fitted() -> tuple[DenseICNN, Tensor, Tensor]:
    """A network fitted to an exact d = 32 potential with the published spectrum, targets, and exact solutions."""
    generator = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator))
    gamma = q * torch.linspace(0.575, 1.533, DIM) @ q.t()
    net = DenseICNN(DIM, generator=generator)
    steps = 400
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x = torch.randn(256, DIM, generator=generator) * 1.2
        loss = (net.gradient(x) - (x @ gamma - x)).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    y = torch.randn(BATCH, DIM, generator=generator)
    with torch.no_grad():
        z = y + net.gradient(y)
    return net, z, y


def test_inner_solve_is_many_times_faster_than_the_plain_form(
    fitted: tuple[DenseICNN, Tensor, Tensor], benchmark: BenchmarkFixture, race: Race, tell: Tell
) -> None:
    net, z, exact = fitted
    plain = PlainICNN(net)
    torch.testing.assert_close(plain.gradient(z), net.gradient(z).detach(), atol=1e-4, rtol=1e-4)
    found, (plain_y, plain_iterations) = solve_prox(net.gradient, z, tol=TOL), plain_solve(plain, z)
    for y in (found.y, plain_y):
        assert (y - z + plain.gradient(y)).norm(dim=1).max() < 1.1 * TOL
        assert (y - exact).norm(dim=1).max() < 5 * TOL

    slow, fast = race(
        lambda: plain_solve(plain, z), lambda: solve_prox(net.gradient, z, tol=TOL), rounds=3, least=LEAST_SPEED_UP
    )
    slow_gradient, fast_gradient = race(lambda: plain.gradient(z), torch.no_grad()(lambda: net.gradient(z)), rounds=20)
    power, _ = race(lambda: plain_lipschitz(plain, z), lambda: net.gradient(z), rounds=1)
    tell(
        f"ours {fast * 1e3:.1f} ms ({found.iterations} gradients, {fast_gradient * 1e3:.2f} ms each), "
        f"plain {slow * 1e3:.0f} ms ({plain_iterations} iterations of 2 gradients, {slow_gradient * 1e3:.2f} ms each; "
        f"power iteration {power * 1e3:.0f} ms), ratio {slow / fast:.1f}"
    )
    benchmark.pedantic(solve_prox, args=(net.gradient, z), kwargs={"tol": TOL}, rounds=5, warmup_rounds=1)
    assert slow / fast >= LEAST_SPEED_UP


@pytest.mark.parametrize("dim", [2, 8, 32])
def test_differentiating_the_gradient_beats_autograd(
    dim: int, benchmark: BenchmarkFixture, race: Race, tell: Tell
) -> None:
    net = DenseICNN(dim, generator=torch.Generator().manual_seed(0))
    plain = PlainICNN(net)
    x = torch.randn(BATCH, dim, generator=torch.Generator().manual_seed(1))
    aim = torch.randn(BATCH, dim, generator=torch.Generator().manual_seed(2))

    def slow_step() -> None:
        gradient = plain.gradient(x.detach().requires_grad_(), create_graph=True)
        (gradient - aim).square().sum(1).mean().backward()

    def fast_step() -> None:
        (net.gradient(x) - aim).square().sum(1).mean().backward()

    slow, fast = race(slow_step, fast_step, rounds=25, least=1 / LARGEST_SHARE)
    tell(f"ours {fast * 1e3:.1f} ms, plain {slow * 1e3:.1f} ms, share {fast / slow:.2f}")
    benchmark.pedantic(fast_step, rounds=10, warmup_rounds=2)
    assert fast / slow <= LARGEST_SHARE
