"""OT-Flow's potential: closed-form gradient and trace are those of autograd, and so are their derivatives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from otbench.nets import otflow_potential
from otbench.nets.otflow_potential import OTFlowPotential

F64 = torch.float64


def build(dim: int, width: int, *, seed: int = 100) -> OTFlowPotential:
    generator = torch.Generator().manual_seed(seed)
    potential = OTFlowPotential(dim, width=width, generator=generator, dtype=F64)
    for parameter in potential.parameters():  # away from the ones and zeros of the start
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=F64)
    return potential


def points(n: int, dim: int, *, seed: int = 7) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=F64)


def by_autograd(potential: OTFlowPotential, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient in (x, t) and trace of the Hessian in x."""
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    in_x, in_t = torch.autograd.grad(potential(x, t).sum(), (x, t), create_graph=True)
    diagonal = [
        torch.autograd.grad(in_x[:, j].sum(), x, create_graph=True, retain_graph=True)[0][:, j]
        for j in range(x.shape[1])
    ]
    return torch.cat([in_x, in_t], 1), torch.stack(diagonal).sum(0)


@settings(max_examples=15, deadline=None)
@given(dim=st.integers(1, 12), width=st.integers(1, 20), n=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_gradient_and_trace_are_those_of_autograd(dim: int, width: int, n: int, seed: int) -> None:
    potential, x = build(dim, width, seed=seed), points(n, dim)
    t = torch.rand(n, 1, generator=torch.Generator().manual_seed(seed), dtype=F64)
    gradient, trace = potential.gradient_and_trace(x, t)
    wanted_gradient, wanted_trace = by_autograd(potential, x, t)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(trace, wanted_trace, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(potential.gradient(x, t), gradient)


def test_one_time_for_all_points_is_that_time_for_each() -> None:
    potential, x = build(5, 8), points(6, 5)
    each = torch.full((6, 1), 0.3, dtype=F64)
    torch.testing.assert_close(potential(x, 0.3), potential(x, each))
    for one, many in zip(potential.gradient_and_trace(x, 0.3), potential.gradient_and_trace(x, each), strict=True):
        torch.testing.assert_close(one, many)


@pytest.mark.parametrize("piece", [1, 150, 10**6])
def test_derivatives_of_gradient_and_trace_are_those_of_autograd(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otflow_potential, "PIECE", piece)
    potential, x, t = build(4, 7), points(11, 4).requires_grad_(), torch.full((11, 1), 0.6, dtype=F64)
    weights = points(11, 6, seed=8)
    parameters = [x, *(p for name, p in potential.named_parameters() if name != "constant")]

    def derivatives(gradient: Tensor, trace: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        loss = (weights[:, :5] * gradient).sum() + (weights[:, 5] * trace.square()).sum()
        return torch.autograd.grad(loss, [x, *parameters[1:]])

    ours = derivatives(*potential.gradient_and_trace(x, t), x)
    free = x.detach().requires_grad_()
    in_x = torch.autograd.grad(potential(free, t).sum(), free, create_graph=True)[0]
    trace = torch.stack([torch.autograd.grad(in_x[:, j].sum(), free, create_graph=True)[0][:, j] for j in range(4)])
    when = t.clone().requires_grad_()
    in_t = torch.autograd.grad(potential(free, when).sum(), when, create_graph=True)[0]
    wanted = derivatives(torch.cat([in_x, in_t], 1), trace.sum(0), free)
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_trace_without_a_graph_is_the_same() -> None:
    potential, x = build(6, 9), points(10, 6)
    with torch.no_grad():
        bare = potential.gradient_and_trace(x, 0.2)[1]
    torch.testing.assert_close(bare, potential.gradient_and_trace(x, 0.2)[1].detach(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("dim", "width", "count"), [(6, 128, 17_721), (8, 350, 126_791), (21, 256, 72_179), (43, 256, 78_053)]
)
def test_parameters_are_as_many_as_published(dim: int, width: int, count: int) -> None:
    assert sum(p.numel() for p in OTFlowPotential(dim, width=width).parameters()) == count


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive sizes"):
        OTFlowPotential(3, width=0)
