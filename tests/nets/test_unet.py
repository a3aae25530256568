from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from otbench.nets.convolution import convolution
from otbench.nets.unet import Norm, UNet

DOUBLE = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, channels: int = 1, *, side: int = 32, seed: int = 1) -> Tensor:
    return torch.randn(n, channels, side, side, generator=generator(seed), dtype=DOUBLE)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def pair(before: int, between: int, after: int) -> int:
    """Parameters of two 3 x 3 convolutions with biases, and of two norms."""
    return 9 * before * between + between + 2 * between + 9 * between * after + after + 2 * after


@pytest.mark.parametrize("width", [48, 2])
@pytest.mark.parametrize("noise", [0, 128])
def test_parameter_count_is_that_of_the_published_architecture(width: int, noise: int) -> None:
    b = width
    down = [pair(1, b, b), pair(b, 2 * b, 2 * b), pair(2 * b, 4 * b, 4 * b)]
    down += [pair(4 * b, 8 * b, 8 * b), pair(8 * b, 8 * b, 8 * b)]
    up = [pair(16 * b, 8 * b, 4 * b), pair(8 * b, 4 * b, 2 * b), pair(4 * b, 2 * b, b), pair(2 * b, b, b)]
    modulation = sum(2 * (noise * size + size) for size in (8 * b, 4 * b, 2 * b, b)) if noise else 0
    assert count(UNet(1, 1, width=width, norm="batch", noise=noise)) == sum(down) + sum(up) + modulation + b + 1


def test_value_is_the_formula() -> None:
    net = UNet(2, 1, width=2, noise=3, residual=True, generator=generator(), dtype=DOUBLE)
    x, z = images(3, 2), torch.randn(3, 3, generator=generator(5), dtype=DOUBLE)

    def both(layers: nn.Module, value: Tensor) -> Tensor:
        first, one, _, second, other, _ = layers.children()
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.Conv2d)
        value = functional.conv2d(value, first.weight, first.bias, padding=1)
        value = functional.conv2d(one(value).relu(), second.weight, second.bias, padding=1)
        return other(value).relu()

    levels = [both(net.first, x)]
    for layer in net.down:
        n, c, h, w = levels[-1].shape
        levels.append(both(layer, levels[-1].view(n, c, h // 2, 2, w // 2, 2).amax((3, 5))))
    value = levels.pop()
    assert value.shape == (3, 16, 2, 2)
    for mix, layer in zip(net.mix, net.up, strict=True):
        spread = value.flatten(2).var(2)[:, :, None, None] + 1e-5
        value = (value - value.flatten(2).mean(2)[:, :, None, None]) / spread.sqrt()
        scale, shift = (functional.linear(z, c.weight[:, :, 0, 0], c.bias).relu() for c in (mix.scale, mix.shift))
        value = value * scale[:, :, None, None] + shift[:, :, None, None]
        side = 2 * value.shape[2]
        grown = functional.interpolate(value, size=(side, side), mode="bilinear", align_corners=True)
        value = both(layer, torch.cat((levels.pop(), grown), 1))
    expected = (value * net.last.weight[0, :, 0, 0, None, None]).sum(1, keepdim=True) + net.last.bias + x[:, :1]
    torch.testing.assert_close(net(x, z), expected)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_gradient_is_that_of_finite_differences(norm: Norm) -> None:
    net = UNet(1, 1, width=1, norm=norm, generator=generator(), dtype=DOUBLE).eval()
    x, direction = images(1), images(1, seed=2)
    weights = images(1, seed=3)
    at = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad((net(at) * weights).sum(), at)
    with torch.no_grad():
        ahead, behind = (float((net(x + step * direction) * weights).sum()) for step in (1e-6, -1e-6))
    assert float((slope * direction).sum()) == pytest.approx((ahead - behind) / 2e-6, rel=1e-5)


def test_start_has_the_stated_spread_and_follows_the_generator_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (UNet(1, 1, width=4, generator=generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(one.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.last.weight, other.last.weight)
    layer = convolution(64, 32, 3, generator=generator())
    assert layer.bias is not None
    for weight in (layer.weight, layer.bias):
        assert float(weight.detach().abs().max()) <= (64 * 9) ** -0.5
    assert float(layer.weight.detach().std()) == pytest.approx((3 * 64 * 9) ** -0.5, rel=0.05)
    assert float(convolution(64, 32, 3, he=True).weight.detach().std()) == pytest.approx(
        (2 / (32 * 9)) ** 0.5, rel=0.05
    )


def test_zero_last_layer_gives_the_identity_or_zero() -> None:
    x = images(2, 3).float()
    plain = UNet(3, 1, width=2, zero_last=True, generator=generator())
    residual = UNet(3, 1, width=2, zero_last=True, residual=True, generator=generator())
    assert torch.equal(plain(x), torch.zeros(2, 1, 32, 32))
    assert torch.equal(residual(x), x[:, :1])


def test_group_norm_makes_each_image_a_function_of_its_own_point() -> None:
    x = images(4)
    for norm, alone in (("group", True), ("batch", False)):
        net = UNet(1, 1, width=2, norm=norm, generator=generator(), dtype=DOUBLE)  # type: ignore[arg-type]
        net(images(4, seed=9))
        training = net(x)[:1], net(torch.cat((x[:1], images(3, seed=7))))[:1]
        net.eval()
        torch.testing.assert_close(net(x)[:1], net(x[:1]))
        assert torch.allclose(*training) == alone


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        UNet(1, 1, width=0)
    with pytest.raises(ValueError, match="as many channels"):
        UNet(1, 2, width=2, residual=True)
    with pytest.raises(ValueError, match="32, 48, 64"):
        UNet(1, 1, width=2)(torch.zeros(1, 1, 28, 28))
    with pytest.raises(ValueError, match="z is not given"):
        UNet(1, 1, width=2, noise=3)(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match="z is given"):
        UNet(1, 1, width=2)(torch.zeros(1, 1, 32, 32), torch.zeros(1, 3))
