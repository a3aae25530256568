from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from otbench.nets.mlp import MLP, Activation, MLPPotential, mlp_width
from otbench.nets.potential import Potential

DOUBLE = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(n: int, dim: int, *, seed: int = 1) -> Tensor:
    return torch.randn(n, dim, generator=generator(seed), dtype=DOUBLE)


def parameters(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("activation", ["silu", "gelu", "relu", "elu"])
@pytest.mark.parametrize("residual", [False, True])
def test_value_is_the_formula(activation: Activation, residual: bool) -> None:
    net = MLP(5, 3, widths=(7, 4), activation=activation, residual=residual, generator=generator(), dtype=DOUBLE)
    x = points(11, 5)
    sigma = {
        "silu": lambda p: p * torch.sigmoid(p),
        "gelu": lambda p: p * (1 + torch.erf(p / math.sqrt(2))) / 2,
        "relu": lambda p: p.clamp_min(0),
        "elu": lambda p: torch.where(p > 0, p, p.exp() - 1),
    }[activation]
    (w1, w2, w3), (b1, b2, b3) = net.weights, net.biases
    expected = sigma(sigma(x @ w1 + b1) @ w2 + b2) @ w3 + b3 + (x[:, :3] if residual else 0)
    torch.testing.assert_close(net(x), expected)


def test_torch_linear_layers_with_the_same_weights_agree() -> None:
    net = MLP(2, 2, widths=(100, 100, 100), activation="relu", generator=generator(), dtype=DOUBLE)
    z = x = points(9, 2)
    for weight, bias in zip(net.weights[:-1], net.biases[:-1], strict=True):
        z = functional.relu(functional.linear(z, weight.T, bias))
    torch.testing.assert_close(net(x), functional.linear(z, net.weights[-1].T, net.biases[-1]))


def test_parameter_counts_of_the_toy_networks() -> None:
    widths = (100, 100, 100)
    assert parameters(MLP(2, 2, widths=widths)) == 20_702
    assert parameters(MLP(4, 2, widths=widths)) == 20_902
    assert parameters(MLPPotential(2, widths=widths)) == 20_601


def test_start_has_the_stated_spread_and_follows_the_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    net = MLP(50, 40, widths=(400, 400), generator=generator(3), dtype=DOUBLE)
    again = MLP(50, 40, widths=(400, 400), generator=generator(3), dtype=DOUBLE)
    assert torch.equal(before, torch.get_rng_state())
    for weight, bias, other in zip(net.weights, net.biases, again.weights, strict=True):
        assert float(weight.detach().std()) == pytest.approx(math.sqrt(2 / len(weight)), rel=0.05)
        assert float(bias.detach().abs().max()) <= 1 / math.sqrt(len(weight))
        assert torch.equal(weight, other)


def test_zero_last_layer_gives_the_identity_or_zero() -> None:
    x = points(6, 5)
    plain = MLP(5, 3, widths=(8,), zero_last=True, generator=generator(), dtype=DOUBLE)
    residual = MLP(5, 3, widths=(8,), zero_last=True, residual=True, generator=generator(), dtype=DOUBLE)
    assert torch.equal(plain(x), torch.zeros(6, 3, dtype=DOUBLE))
    assert torch.equal(residual(x), x[:, :3])


@pytest.mark.parametrize("n", [1, 6])
def test_potential_knows_its_gradient_and_that_can_be_differentiated(n: int) -> None:
    net = MLPPotential(3, widths=(6, 5), generator=generator(), dtype=DOUBLE)
    assert isinstance(net, Potential)
    x = points(n, 3).requires_grad_()
    value, gradient = net.value_and_gradient(x)
    assert value.shape == (n,)
    torch.testing.assert_close(value, net(x))
    assert torch.autograd.gradcheck(net, (x,))
    assert torch.autograd.gradcheck(net.gradient, (x,))
    torch.testing.assert_close(gradient, torch.autograd.grad(net(x).sum(), x)[0])
    gradient.square().sum().backward()
    assert all(p.grad is not None for p in net.weights)


def test_potential_leaves_no_graph_and_its_input_alone_where_autograd_is_off() -> None:
    net = MLPPotential(3, widths=(6,), generator=generator(), dtype=DOUBLE)
    x = points(4, 3)
    with torch.no_grad():
        value, gradient = net.value_and_gradient(x)
    assert not value.requires_grad
    assert not gradient.requires_grad
    assert not x.requires_grad
    torch.testing.assert_close(gradient, net.gradient(x).detach())


def test_width_follows_the_dimension_and_wrong_sizes_are_refused() -> None:
    assert [mlp_width(d) for d in (2, 32, 64)] == [64, 64, 128]
    with pytest.raises(ValueError, match="positive"):
        MLP(0, 2, widths=(4,))
    with pytest.raises(ValueError, match="positive"):
        MLP(2, 2, widths=(4, 0))
    with pytest.raises(ValueError, match="as many inputs"):
        MLP(2, 3, widths=(4,), residual=True)
