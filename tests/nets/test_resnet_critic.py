from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from otbench.nets.potential import Potential
from otbench.nets.resnet_critic import ResNetCritic

DOUBLE = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, channels: int = 1, *, side: int = 8, seed: int = 1) -> Tensor:
    return torch.randn(n, channels, side, side, generator=generator(seed), dtype=DOUBLE)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def small(channels: int = 1) -> ResNetCritic:
    return ResNetCritic((channels, 8, 8), width=2, generator=generator(), dtype=DOUBLE)


@pytest.mark.parametrize("width", [64, 3])
def test_parameter_count_is_that_of_the_published_architecture(width: int) -> None:
    sizes = [width, 2 * width, 4 * width, 8 * width, 8 * width]
    total = 9 * width + width  # first convolution
    for a, b in itertools.pairwise(sizes):
        total += 2 * (9 * a * a + a)  # a block that keeps the channels
        total += 9 * a * a + a + 9 * a * b + b + (a * b if a != b else 0)  # and one that changes them
    total += sizes[-1] * 16 + 1
    assert count(ResNetCritic((1, 32, 32), width=width)) == total


def test_published_channels() -> None:
    critic = ResNetCritic((1, 32, 32), width=64)
    assert [block[1].outer.out_channels for block in critic.blocks] == [128, 256, 512, 512]


def test_value_is_the_formula() -> None:
    net, x = small(), images(3)

    def leaky(value: Tensor) -> Tensor:
        return torch.where(value > 0, value, 0.2 * value)

    def conv(layer: nn.Conv2d, value: Tensor) -> Tensor:
        return functional.conv2d(value, layer.weight, layer.bias, padding=layer.weight.shape[2] // 2)

    value = leaky(conv(net.first, x))
    for level, pair in enumerate(net.blocks):
        if level:  # 3 x 3 means at every other pixel, a border of zeros included
            around = functional.pad(value, (1, 1, 1, 1)).unfold(2, 3, 2).unfold(3, 3, 2)
            value = around.mean((4, 5))
        for block in pair:
            kept = value if isinstance(block.shortcut, nn.Identity) else conv(block.shortcut, value)
            value = leaky(kept + 0.1 * conv(block.outer, leaky(conv(block.inner, value))))
    assert value.shape == (3, 8, 4, 4)
    torch.testing.assert_close(net(x), value.flatten(1) @ net.last.weight[0] + net.last.bias)


@pytest.mark.parametrize("flat", [False, True])
def test_critic_is_a_potential_of_images_flat_or_not(flat: bool) -> None:
    net = small(2)
    assert isinstance(net, Potential)
    x = images(2, 2)
    x = (x.flatten(1) if flat else x).requires_grad_()
    value, gradient = net.value_and_gradient(x)
    assert value.shape == (2,)
    assert gradient.shape == x.shape
    torch.testing.assert_close(value, net(x))
    torch.testing.assert_close(gradient, torch.autograd.grad(net(x).sum(), x)[0])
    assert torch.autograd.gradcheck(net, (x[:1].detach().requires_grad_(),), fast_mode=True)
    gradient.square().sum().backward()
    assert net.first.weight.grad is not None
    with torch.no_grad():
        value, gradient = net.value_and_gradient(x)
    assert not value.requires_grad
    assert not gradient.requires_grad


def test_start_has_the_stated_spread_and_follows_the_generator_alone() -> None:
    before = torch.get_rng_state()
    one, same = (ResNetCritic((1, 16, 16), width=16, generator=generator(3)) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(one.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    layer = one.blocks[2][0].inner
    assert float(layer.weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 32, 16), (1, 2, 2), (0, 32, 32)])
def test_wrong_shapes_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="ResNet critic needs"):
        ResNetCritic(shape)
    with pytest.raises(ValueError, match="positive widths"):
        ResNetCritic((1, 8, 8), width=0)
