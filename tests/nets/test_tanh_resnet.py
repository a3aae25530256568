"""TanhResNet: its gradient agrees with automatic differentiation, its value is bounded, and files rebuild it."""

from __future__ import annotations

import pytest
import torch

from otbench.nets.tanh_resnet import TanhResNet


@pytest.mark.parametrize(("layers", "width"), [(1, 16), (4, 24)])
def test_value_and_gradient(layers: int, width: int) -> None:
    generator = torch.Generator().manual_seed(3)
    network = TanhResNet(5, width=width, layers=layers, generator=generator, dtype=torch.float64)
    x = (2 * torch.randn(33, 5, generator=generator, dtype=torch.float64)).requires_grad_()
    value, gradient = network.value_and_gradient(x)
    torch.testing.assert_close(value, network(x))
    wanted = torch.autograd.grad(network(x).sum(), x, create_graph=True)[0]
    torch.testing.assert_close(gradient, wanted)
    torch.testing.assert_close(gradient, network.gradient(x))
    ours, theirs = (torch.autograd.grad(one.square().sum(), list(network.parameters())) for one in (gradient, wanted))
    torch.testing.assert_close(ours, theirs)


def test_it_is_bounded_far_out() -> None:
    network = TanhResNet(3, width=8, layers=4, generator=torch.Generator().manual_seed(4))
    far = 1e6 * torch.randn(50, 3, generator=torch.Generator().manual_seed(5))
    assert network(far).abs().max() <= 2 * network.readout.abs().sum()


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive sizes"):
        TanhResNet(2, width=0, layers=1)
