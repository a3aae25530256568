from __future__ import annotations

import pytest
import torch
from torch import distributions
from torchvision.models import resnet18

from otbench.nets.classifier import FEATURES, Classifier
from otbench.nets.vae import VAE


def images(n: int = 6) -> torch.Tensor:
    return torch.rand(n, 1, 32, 32, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([0, 1, 2, 3, 9, 9])


def test_paper_size() -> None:
    """Layers of section 19.4: 4 x 4 convolutions 64-128-256-512, 2048 inner features, code 15, 18 residual blocks."""
    net = VAE(width=64, blocks=3, latent=15, classes=10)
    convolutions = [m for m in net.down if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [64, 128, 256, 512]
    assert all(m.kernel_size == (4, 4) and m.stride == (2, 2) for m in convolutions)
    assert (net.mean.in_features, net.mean.out_features) == (2058, 15)
    assert (net.start.in_features, net.start.out_features) == (25, 2048)
    inside = [m for m in net.up.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in inside] == [256] * 6 + [128] * 6 + [64] * 6
    assert all(m.num_groups == 16 for m in net.up.modules() if isinstance(m, torch.nn.GroupNorm))


@pytest.mark.parametrize("classes", [0, 10])
@pytest.mark.parametrize("width", [2, 8])
def test_shapes_and_ranges(classes: int, width: int) -> None:
    net = VAE(width=width, blocks=2, latent=3, classes=classes).eval()
    mean, log_variance = net.encode(images(), LABELS)
    assert mean.shape == log_variance.shape == (6, 3)
    decoded = net.decode(mean, LABELS).detach()
    assert decoded.shape == (6, 1, 32, 32)
    assert float(decoded.min()) >= 0
    assert float(decoded.max()) <= 1


def test_only_the_conditional_one_reads_labels() -> None:
    x, other = images(), (LABELS + 1) % 10
    with_label, without = (VAE(width=2, latent=3, classes=k).eval() for k in (10, 0))
    assert torch.equal(without.encode(x, LABELS)[0], without.encode(x)[0])
    assert not torch.equal(with_label.encode(x, LABELS)[0], with_label.encode(x, other)[0])
    z = with_label.encode(x, LABELS)[0]
    assert not torch.equal(with_label.decode(z, LABELS), with_label.decode(z, other))
    with pytest.raises(ValueError, match="needs a label"):
        with_label.encode(x)


def test_loss_is_that_of_the_distributions() -> None:
    net, x = VAE(width=4, latent=3, classes=10).eval().double(), images().double()
    loss = net.loss(x, LABELS, torch.Generator().manual_seed(3))
    mean, log_variance = net.encode(x, LABELS)
    code = distributions.Normal(mean, (log_variance / 2).exp())
    prior = distributions.Normal(torch.zeros(3).double(), 1.0)
    exact = distributions.kl_divergence(code, prior).sum(1).mean()
    torch.testing.assert_close(loss.divergence, exact)
    noise = torch.randn(6, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    pixels = distributions.Bernoulli(logits=net.logits(mean + noise * code.stddev, LABELS), validate_args=False)
    torch.testing.assert_close(loss.reconstruction, -pixels.log_prob(x).flatten(1).sum(1).mean())


def test_classifier_is_resnet18_for_one_channel() -> None:
    net, theirs = Classifier(), resnet18(num_classes=10)
    count, expected = (sum(p.numel() for p in m.parameters()) for m in (net, theirs))
    assert count == expected - 2 * 64 * 7 * 7
    first = net.body.conv1
    assert (first.in_channels, first.kernel_size, first.stride) == (1, (7, 7), (2, 2))


def test_classifier_looks_in_evaluation_mode_whatever_the_chunk() -> None:
    net = Classifier(blocks=1).train()
    x = images()
    features, found = net.look(x, chunk=4)
    assert features.shape == (6, FEATURES)
    assert not net.training
    torch.testing.assert_close(features, net.features(2 * x - 1).detach())
    assert torch.equal(found, net(2 * x - 1).argmax(1))
