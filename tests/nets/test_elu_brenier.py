"""ELUBrenier: the formula, its derivatives by autograd, convexity, and how it begins."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from otbench.nets.elu_brenier import BATCH, ELUBrenier, Kind
from otbench.nets.potential import Potential
from otbench.recorded import build, describe

KINDS: tuple[Kind, ...] = ("mlp", "icnn")


def made(kind: Kind, *, dim: int = 4, flat: bool = False) -> tuple[ELUBrenier, Tensor]:
    generator = torch.Generator().manual_seed(7)
    network = ELUBrenier(dim, widths=(16, 12, 8), kind=kind, flat=flat, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        network.log_alpha.fill_(0.3 * (not flat))
    return network, 2 * torch.randn(50, dim, generator=generator, dtype=torch.float64)


def by_definition(network: ELUBrenier, x: Tensor) -> Tensor:
    h = functional.elu(x @ network.outer[0] + network.biases[0])
    for k, inner in enumerate(network.inner):
        z = h @ inner
        if network.convex:
            z = h @ functional.softplus(inner) / h.shape[1] + x @ network.outer[k + 1]
            z = z * network.scales[k].exp() if k < len(network.scales) else z
        h = functional.elu(z + network.biases[k + 1])
    return h[:, 0] + network.log_alpha.exp() * x.square().sum(1) / 2


@pytest.mark.parametrize("kind", KINDS)
def test_value_gradient_and_their_derivatives(kind: Kind) -> None:
    network, x = made(kind)
    assert isinstance(network, Potential)
    points = x.clone().requires_grad_()
    wanted = by_definition(network, points)
    (slope,) = torch.autograd.grad(wanted.sum(), points, create_graph=True)
    value, gradient = network.value_and_gradient(x)
    torch.testing.assert_close(network(x), wanted)
    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(gradient, slope)
    direction = torch.randn_like(x)
    pairs = ((gradient, slope), (network.gradient(x), slope))
    parameters = list(network.parameters())
    for ours, theirs in pairs:
        found, plain = (
            torch.autograd.grad((g * direction).sum(), parameters, retain_graph=True) for g in (ours, theirs)
        )
        for a, b in zip(found, plain, strict=True):
            torch.testing.assert_close(a, b)


def test_the_convex_one_is_convex() -> None:
    network, x = made("icnn")
    y = 5 * torch.randn(50, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert (network((x + y) / 2) <= (network(x) + network(y)) / 2).all()
    gap = ((network.gradient(x) - network.gradient(y)) * (x - y)).sum(1)
    assert (gap >= 1.3 * (x - y).square().sum(1)).all()  # e^0.3 = 1.35


@torch.no_grad()
def test_the_convex_one_begins_with_normalised_layers() -> None:
    network = ELUBrenier(3, widths=(64, 32, 16), kind="icnn", generator=torch.Generator().manual_seed(3))
    x = torch.empty(8 * BATCH, 3).uniform_(-5, 5, generator=torch.Generator().manual_seed(4))
    h = functional.elu(x @ network.outer[0] + network.biases[0])
    for inner, outer, scale, bias in zip(
        network.inner[:-1], network.outer[1:-1], network.scales, network.biases[1:-1], strict=True
    ):
        z = (h @ functional.softplus(inner) / h.shape[1] + x @ outer) * scale.exp() + bias
        assert float(z.mean(0).abs().max()) < 0.15
        torch.testing.assert_close(z.std(0), torch.ones_like(bias), atol=0.1, rtol=0)
        h = functional.elu(z)


@torch.no_grad()
@pytest.mark.parametrize(("kind", "off"), [("mlp", 0.0), ("icnn", 0.06)])
def test_a_flat_one_begins_at_the_identity(kind: Kind, off: float) -> None:
    network, x = made(kind, flat=True)
    error = (network.gradient(x) - x).square().sum(1).mean() / x.square().sum(1).mean()
    assert float(error) <= off


@pytest.mark.parametrize("kind", KINDS)
def test_it_can_be_built_again(kind: Kind) -> None:
    network, x = made(kind)
    again = build(describe(network), largest=10_000)
    again.load_state_dict(network.state_dict(), assign=True)
    torch.testing.assert_close(again(x), network(x), rtol=0, atol=0)


@pytest.mark.parametrize("widths", [(), (0,)])
def test_sizes_must_be_positive(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="positive sizes"):
        ELUBrenier(2, widths=widths)
