r"""Variational autoencoders of 32 x 32 grey images, with or without a label in encoder and decoder.

The conditional one is that of Park, Gelphman, Osher, Wu Fung (arXiv 2605.10792, released code): four strided
convolutions; a decoder of transposed convolutions and residual blocks; the label enters as a one-hot vector after the
encoder's convolutions and before the decoder's first layer. `width=64, blocks=3, latent=15` is its size. Without a
label it is a beta-VAE (Higgins et al., ICLR 2017). Loss, for pixels x in [0, 1] and decoder output p,

$$\sum_{pixels} \mathrm{BCE}(p, x) + \beta \, \mathrm{KL}(N(\mu, \sigma^2) \,|\, N(0, I)),$$

averaged over images. Deviation: group norms have at most 16 groups, as many as divide the channels of a narrow net.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from otbench.recorded import Recorded

SIDE = 32
"""Height and width of an image, pixels."""
_LEVELS = (1, 2, 4, 8)
_CORNER = 2
"""Height and width of the innermost feature map: 32 / 2^4."""


class VAELoss(NamedTuple):
    """The two parts of the loss, each of shape (), mean over images, nats."""

    reconstruction: Tensor
    divergence: Tensor


class VAE(Recorded):
    """A Gaussian encoder and a Bernoulli decoder.

    Attributes:
        latent: dimension of the code.
        classes: number of labels that encoder and decoder read; 0 = they read none.
    """

    def __init__(self, *, width: int = 16, blocks: int = 1, latent: int = 15, classes: int = 0) -> None:
        """Build the networks, with torch's default initialisation (global random state).

        Args:
            width: channels of the first convolution; the innermost has eight times as many.
            blocks: residual blocks at each of the decoder's three resolutions.
            latent: dimension of the code.
            classes: number of labels; 0 = unconditional.
        """
        super().__init__()
        self.latent, self.classes = latent, classes
        channels = [width * level for level in _LEVELS]
        self._inner = channels[-1]
        inner = self._inner * _CORNER**2
        down: list[nn.Module] = []
        for before, after in zip([1, *channels], channels, strict=False):
            down += [nn.Conv2d(before, after, 4, 2, 1), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
        self.down = nn.Sequential(*down, nn.Flatten())
        self.mean = nn.Linear(inner + classes, latent)
        self.log_variance = nn.Linear(inner + classes, latent)

        self.start = nn.Linear(latent + classes, inner)
        up: list[nn.Module] = []
        for before, after in zip(channels[:0:-1], channels[-2::-1], strict=True):
            up += [nn.ConvTranspose2d(before, after, 4, 2, 1), _norm(after), nn.ReLU()]
            up += [_Residual(after) for _ in range(blocks)]
        self.up = nn.Sequential(*up, nn.ConvTranspose2d(channels[0], 1, 4, 2, 1))

    def encode(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the code, each (n, latent).

        Args:
            x: images in [0, 1], shape (n, 1, 32, 32).
            label: classes, shape (n,), int64; needed where `classes` > 0, not looked at else.
        """
        inner = self._with_label(self.down(x), label)
        return self.mean(inner), self.log_variance(inner)

    def logits(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the decoder's output before the sigmoid, (n, 1, 32, 32), for codes `z` of shape (n, latent)."""
        inner = self.start(self._with_label(z, label)).view(-1, self._inner, _CORNER, _CORNER)
        return self.up(inner)  # type: ignore[no-any-return]

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Return images in [0, 1], (n, 1, 32, 32), for codes `z` of shape (n, latent) and classes (n,)."""
        return torch.sigmoid(self.logits(z, label))

    def loss(self, x: Tensor, label: Tensor | None, generator: torch.Generator) -> VAELoss:
        """Return both parts of the loss at images `x` (n, 1, 32, 32); one draw of the code from `generator`."""
        mean, log_variance = self.encode(x, label)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        logits = self.logits(mean + noise * (log_variance / 2).exp(), label)
        reconstruction = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / (2 * len(x))
        return VAELoss(reconstruction, divergence)

    def _with_label(self, x: Tensor, label: Tensor | None) -> Tensor:
        if not self.classes:
            return x
        if label is None:
            raise ValueError(f"this VAE is conditional: it needs a label in 0..{self.classes - 1} for each image")
        return torch.cat([x, functional.one_hot(label, self.classes).to(x.dtype)], 1)


class _Residual(nn.Module):
    """x -> relu(x + conv norm relu conv norm), channels and size kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            _norm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            _norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(16, channels), channels)
