"""ELUPotential: what is written out by hand agrees with automatic differentiation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from otbench.nets.elu_potential import ELUPotential


def made(dim: int = 5, widths: tuple[int, ...] = (16, 12, 8)) -> tuple[ELUPotential, Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(7)
    network = ELUPotential(dim, widths=widths, generator=generator, dtype=torch.float64)
    return network, 2 * torch.randn(33, dim, generator=generator, dtype=torch.float64), generator


def by_autograd(network: ELUPotential, x: Tensor) -> Tensor:
    points = x.clone().requires_grad_()
    return torch.autograd.grad(network(points).sum(), points, create_graph=True)[0]


@pytest.mark.parametrize("widths", [(16,), (16, 12, 8)])
def test_value_and_gradient(widths: tuple[int, ...]) -> None:
    network, x, _ = made(widths=widths)
    seen, (value, gradient) = network.look(x), network.value_and_gradient(x)
    for found, wanted in ((seen.value, network(x)), (value, network(x)), (gradient, by_autograd(network, x))):
        torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(seen.gradient, gradient)


@pytest.mark.parametrize("widths", [(16,), (16, 12, 8)])
def test_gradients_of_losses_add_up(widths: tuple[int, ...]) -> None:
    network, x, generator = made(widths=widths)
    direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    share = torch.randn(len(x), generator=generator, dtype=x.dtype)
    loss = (by_autograd(network, x) * direction).sum() + (share * network(x)).sum()
    wanted = torch.autograd.grad(loss, list(network.parameters()))
    seen = network.look(x)
    network.add_direction_gradient(seen, direction)
    network.add_value_gradient(seen, share)
    for parameter, gradient in zip(network.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive sizes"):
        ELUPotential(2, widths=(0,))
