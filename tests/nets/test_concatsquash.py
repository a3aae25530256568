"""Concatsquash layers: the formula, and exact derivatives along directions."""

from __future__ import annotations

import pytest
import torch

from otbench.nets.concatsquash import ConcatSquash, Smooth

F64 = torch.float64
T = torch.tensor(0.7, dtype=F64)


def build(activation: Smooth, *widths: int) -> ConcatSquash:
    generator = torch.Generator().manual_seed(100)
    return ConcatSquash(3, widths=widths, activation=activation, generator=generator, dtype=F64)


def test_one_layer_is_the_formula() -> None:
    net, x = build("tanh"), torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    gate = torch.sigmoid(net.gates[0] * T + net.gate_biases[0])
    torch.testing.assert_close(net(x, T), (x @ net.weights[0].T + net.biases[0]) * gate + net.shifts[0] * T)


@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_tangents_are_the_jacobian_times_directions(activation: Smooth) -> None:
    net, generator = build(activation, 7, 6), torch.Generator().manual_seed(2)
    x = torch.randn(4, 3, generator=generator, dtype=F64)
    jacobian = torch.stack([torch.autograd.functional.jacobian(lambda p: net(p[None], T)[0], one) for one in x])
    value, basis = net.value_and_tangents(x, T, torch.eye(3, dtype=F64)[None])
    torch.testing.assert_close(value, net(x, T))
    torch.testing.assert_close(basis.transpose(1, 2), jacobian)
    directions = torch.randn(4, 2, 3, generator=generator, dtype=F64)
    torch.testing.assert_close(net.value_and_tangents(x, T, directions)[1], directions @ jacobian.transpose(1, 2))


@pytest.mark.parametrize("activation", ["tanh", "softplus"])
@pytest.mark.parametrize("widths", [(), (7,), (7, 6), (5, 6, 7)])
def test_the_trace_is_that_of_the_jacobian(activation: Smooth, widths: tuple[int, ...]) -> None:
    net = build(activation, *widths)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(3), dtype=F64)
    velocity, trace = net.value_and_trace(x, T)
    torch.testing.assert_close(velocity, net(x, T))
    tangents = net.value_and_tangents(x, T, torch.eye(3, dtype=F64)[None])[1]
    wanted = tangents.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(trace, wanted)
    parameters = [p for p in net.parameters() if p is not net.biases[-1] and p is not net.shifts[-1]]
    ours, theirs = (torch.autograd.grad(one.square().sum(), parameters) for one in (trace, wanted))
    torch.testing.assert_close(ours, theirs)


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive sizes"):
        build("tanh", 0)
