"""ResidualNet: its gradient agrees with automatic differentiation, and with tanh its value is bounded."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from otbench.nets.residual import ResidualNet


@pytest.mark.parametrize(("layers", "width"), [(1, 16), (4, 24)])
@pytest.mark.parametrize("activation", ["tanh", "softplus"])
@pytest.mark.parametrize("quadratic", [False, True])
def test_value_and_gradient(
    layers: int, width: int, activation: Literal["tanh", "softplus"], *, quadratic: bool
) -> None:
    start = {"generator": torch.Generator().manual_seed(3), "dtype": torch.float64}
    network = ResidualNet(
        5, width=width, layers=layers, activation=activation, share=0.25, quadratic=quadratic, **start
    )
    x = (2 * torch.randn(33, 5, **start)).requires_grad_()
    value, gradient = network.value_and_gradient(x)
    torch.testing.assert_close(value, network(x))
    wanted = torch.autograd.grad(network(x).sum(), x, create_graph=True)[0]
    torch.testing.assert_close(gradient, wanted)
    torch.testing.assert_close(gradient, network.gradient(x))
    ours, theirs = (torch.autograd.grad(one.square().sum(), list(network.parameters())) for one in (gradient, wanted))
    torch.testing.assert_close(ours, theirs)


def test_it_is_bounded_far_out() -> None:
    network = ResidualNet(3, width=8, layers=4, generator=torch.Generator().manual_seed(4))
    far = 1e6 * torch.randn(50, 3, generator=torch.Generator().manual_seed(5))
    assert network(far).abs().max() <= 2 * network.readout.abs().sum()


def test_the_quadratic_is_what_is_added() -> None:
    start = {"width": 4, "layers": 1, "activation": "softplus"}
    with_it, without = (
        ResidualNet(3, **start, quadratic=added, generator=torch.Generator().manual_seed(6)) for added in (True, False)
    )
    assert with_it.quadratic is not None
    assert with_it.slope is not None
    with torch.no_grad():
        with_it.slope += 1
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(7))
    wanted = (x @ with_it.quadratic).square().sum(1) / 2 + x.sum(1)
    torch.testing.assert_close(with_it(x) - without(x), wanted)


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive sizes"):
        ResidualNet(2, width=0, layers=1)
