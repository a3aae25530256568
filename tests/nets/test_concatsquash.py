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


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive sizes"):
        build("tanh", 0)
