"""Closed forms of flows against plain ones, as ratios of times within one run.

OT-Flow: both forms give the gradient of the potential, the trace of its Hessian, and the derivative of a loss of both
by all parameters, on the same points, on one thread. The autograd form is what one would write first: a gradient with a
graph, then one more backward pass per coordinate. FFJORD: the exact trace stands against the diagonal of the whole
Jacobian, by unit vectors that pass through the network beside the points.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from otbench.nets.concatsquash import ConcatSquash
from otbench.nets.otflow_potential import OTFlowPotential

pytestmark = pytest.mark.speed

POINTS, DIM, WIDTH = 128, 43, 64
LEAST_SPEED_UP = 8
LEAST_OF_TRACE = 5
"""Measured: 16 at d = 32, with the widths of `full`."""

Race = Callable[..., tuple[float, float]]
Tell = Callable[[str], None]


def build() -> tuple[OTFlowPotential, Tensor]:
    generator = torch.Generator().manual_seed(100)
    return OTFlowPotential(DIM, width=WIDTH, generator=generator), torch.randn(POINTS, DIM, generator=generator)


def plain(potential: OTFlowPotential, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
    x, when = x.detach().requires_grad_(), torch.full((len(x), 1), t, requires_grad=True)
    in_x, in_t = torch.autograd.grad(potential(x, when).sum(), (x, when), create_graph=True)
    trace = torch.zeros_like(in_t[:, 0])
    for j in range(x.shape[1]):
        trace = trace + torch.autograd.grad(in_x[:, j].sum(), x, create_graph=True)[0][:, j]
    return torch.cat([in_x, in_t], 1), trace


def train(potential: OTFlowPotential, gradient: Tensor, trace: Tensor) -> list[Tensor]:
    loss = gradient.square().sum(1).mean() - trace.mean()
    parameters = [p for name, p in potential.named_parameters() if name not in ("constant", "linear")]
    return list(torch.autograd.grad(loss, parameters))


def test_closed_form_is_faster_than_autograd(benchmark: BenchmarkFixture, race: Race, tell: Tell) -> None:
    potential, x = build()

    def ours() -> list[Tensor]:
        return train(potential, *potential.gradient_and_trace(x, 0.3))

    def theirs() -> list[Tensor]:
        return train(potential, *plain(potential, x, 0.3))

    for a, b in zip(ours(), theirs(), strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-3
    slow, fast = race(theirs, ours, rounds=4, least=LEAST_SPEED_UP)
    tell(f"gradient, trace, derivatives: ours {fast * 1e3:.2f} ms, autograd {slow * 1e3:.2f} ms, {slow / fast:.1f}x")
    benchmark.pedantic(ours, rounds=3)
    assert slow / fast >= LEAST_SPEED_UP


def test_the_trace_is_faster_than_the_jacobian(benchmark: BenchmarkFixture, race: Race, tell: Tell) -> None:
    generator = torch.Generator().manual_seed(100)
    net = ConcatSquash(32, widths=(128, 128), activation="tanh", generator=generator)
    x, t, units = torch.randn(2048, 32, generator=generator), torch.tensor(0.3), torch.eye(32)[None]

    @torch.no_grad()
    def ours() -> Tensor:
        return net.value_and_trace(x, t)[1]

    @torch.no_grad()
    def theirs() -> Tensor:
        return net.value_and_tangents(x, t, units)[1].diagonal(dim1=1, dim2=2).sum(1)

    assert float((ours() - theirs()).norm() / theirs().norm()) < 1e-4
    slow, fast = race(theirs, ours, rounds=4, least=LEAST_OF_TRACE)
    tell(f"exact trace: ours {fast * 1e3:.2f} ms, by the Jacobian {slow * 1e3:.2f} ms, {slow / fast:.1f}x")
    benchmark.pedantic(ours, rounds=3)
    assert slow / fast >= LEAST_OF_TRACE
