r"""Networks of image translators: encoder, decoder that noise steers, code of an image, critic of patches.

An image becomes features at a quarter of its height and width (`ImageEncoder`), and features become an image of the
other side (`ImageDecoder`). Noise enters the decoder's residual blocks by adaptive instance norm (Huang & Belongie,
ICCV 2017): features are normalised per image and channel, then become $(1 + \gamma(z)) h + \beta(z)$.

The layers are those of Huang, Liu, Belongie, Kautz, "Multimodal Unsupervised Image-to-Image Translation" (ECCV 2018):
with `width=64, blocks=4` the published size but for what 32 x 32 pixels leave no room for. Almahairi et al. (ICML 2018)
use a residual network of the same kind. Weights start as torch's own do, those of critics by He's rule.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from otbench.nets.convolution import convolution
from otbench.nets.mlp import MLP
from otbench.nets.start import Start
from otbench.recorded import Recorded

SHRUNK = 4
"""Features have this fraction of an image's height and width."""
LEAST_SIDE = 32
"""Least height and width of an image: a critic halves it three times, at the coarsest of three scales."""
_SLOPE = 0.2
"""Of LeakyReLU below zero, in critics."""
_LEVELS = 4
"""Halvings of an image that becomes a code."""
_LAYERS = 3
"""Halvings of an image in a critic; four would leave nothing of the coarsest scale."""


class ImageEncoder(Recorded):
    """Features of images: a 7 x 7 convolution, two that halve height and width, residual blocks; instance norm."""

    def __init__(self, inputs: int, *, width: int, blocks: int, **start: Unpack[Start]) -> None:
        """Build it.

        Args:
            inputs: channels of an image.
            width: channels at full resolution; features have four times as many.
            blocks: residual blocks.
            start: see `Start`.
        """
        super().__init__()
        conv = functools.partial(convolution, **start)
        layers: list[nn.Module] = []
        for before, after, size, stride in (
            (inputs, width, 7, 1),
            (width, 2 * width, 4, 2),
            (2 * width, 4 * width, 4, 2),
        ):
            layers += [conv(before, after, size, stride=stride), nn.InstanceNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.blocks = nn.ModuleList(_Residual(4 * width, start) for _ in range(blocks))
        self.to(memory_format=torch.channels_last)  # faster on a CPU

    def forward(self, x: Tensor) -> Tensor:
        """Return the features, shape (n, 4 width, h / 4, w / 4), of images `x`, shape (n, inputs, h, w)."""
        value: Tensor = self.layers(x)
        for block in self.blocks:
            value = block(value)
        return value


class ImageDecoder(Recorded):
    """Images from features and noise, in [-1, 1]: steered residual blocks, then two steps up with layer norm.

    Attributes:
        noise: coordinates of the noise.
    """

    def __init__(
        self, outputs: int, *, width: int, blocks: int, noise: int, hidden: Sequence[int], **start: Unpack[Start]
    ) -> None:
        """Build it.

        Args:
            outputs: channels of an image.
            width: channels at full resolution.
            blocks: residual blocks.
            noise: coordinates of the noise.
            hidden: hidden widths of the network that makes scales and shifts of the noise; none = an affine map.
            start: see `Start`.
        """
        super().__init__()
        conv = functools.partial(convolution, **start)
        self.noise = noise
        self.blocks = nn.ModuleList(_Residual(4 * width, start) for _ in range(blocks))
        self.steering = MLP(noise, blocks * 2 * 2 * 4 * width, widths=hidden, activation="relu", **start)
        layers: list[nn.Module] = []
        for before, after in ((4 * width, 2 * width), (2 * width, width)):
            up = nn.Upsample(scale_factor=2)
            layers += [up, conv(before, after, 5), _layer_norm(after, start), nn.ReLU()]
        self.layers = nn.Sequential(*layers, conv(width, outputs, 7), nn.Tanh())
        self.to(memory_format=torch.channels_last)

    def forward(self, features: Tensor, z: Tensor) -> Tensor:
        """Return images, shape (n, outputs, h, w).

        Args:
            features: shape (n, 4 width, h / 4, w / 4).
            z: noise, shape (n, noise).
        """
        # scale and shift, of two norms in each block
        steering = self.steering(z).view(len(z), len(self.blocks), 2, 2, -1, 1, 1).unbind(1)
        for block, part in zip(self.blocks, steering, strict=True):
            features = block(features, part)
        return self.layers(features)  # type: ignore[no-any-return]


class ImageCode(Recorded):
    """A vector for each image: convolutions that halve height and width four times, without norm, and their mean."""

    def __init__(self, inputs: int, outputs: int, *, width: int, **start: Unpack[Start]) -> None:
        """Build it.

        Args:
            inputs: channels of an image.
            outputs: coordinates of its code.
            width: channels at full resolution; four times as many are the most.
            start: see `Start`.
        """
        super().__init__()
        conv = functools.partial(convolution, **start)
        layers: list[nn.Module] = [conv(inputs, width, 7), nn.ReLU()]
        sizes = [width * min(2**level, 4) for level in range(_LEVELS + 1)]
        for before, after in itertools.pairwise(sizes):
            layers += [conv(before, after, 4, stride=2), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), conv(sizes[-1], outputs, 1), nn.Flatten())
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Return the codes, shape (n, outputs), of images `x`, shape (n, inputs, h, w)."""
        return self.layers(x)  # type: ignore[no-any-return]


class PatchCritic(nn.Module):
    """One value for each patch of an image, at one or more scales, each half as fine as the one before."""

    def __init__(self, inputs: int, *, width: int, scales: int, **start: Unpack[Start]) -> None:
        """Build one network a scale.

        Args:
            inputs: channels of an image.
            width: channels after the first convolution.
            scales: number of scales, 1 to 3.
            start: see `Start`.

        Raises:
            ValueError: a number of scales that images of `LEAST_SIDE` pixels do not have.
        """
        super().__init__()
        if not 1 <= scales <= 3:
            raise ValueError(f"a critic of patches has 1 to 3 scales, not {scales}")
        conv = functools.partial(convolution, he=True, **start)
        self.nets = nn.ModuleList()
        for _ in range(scales):
            layers: list[nn.Module] = []
            sizes = [inputs, *(width * 2**level for level in range(_LAYERS))]
            for before, after in itertools.pairwise(sizes):
                layers += [conv(before, after, 4, stride=2), nn.LeakyReLU(_SLOPE)]
            self.nets.append(nn.Sequential(*layers, conv(sizes[-1], 1, 1)))
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the values at each scale, shapes (n, 1, h', w'), for images `x`, shape (n, inputs, h, w)."""
        values = []
        for k, net in enumerate(self.nets):
            if k:
                x = functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
            values.append(net(x))
        return values


class _Residual(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), each norm followed by a given scale and shift, or by none."""

    def __init__(self, channels: int, start: Start) -> None:
        super().__init__()
        self.inner, self.outer = (convolution(channels, channels, 3, **start) for _ in range(2))

    def forward(self, x: Tensor, steering: Tensor | None = None) -> Tensor:
        """Return the features, same shape as `x` (n, c, h, w); `steering` is (n, 2 norms, 2, c, 1, 1)."""
        inner = torch.relu(_steered(self.inner(x), None if steering is None else steering[:, 0]))
        return x + _steered(self.outer(inner), None if steering is None else steering[:, 1])


def _steered(x: Tensor, steering: Tensor | None) -> Tensor:
    normed = functional.instance_norm(x)
    return normed if steering is None else (1 + steering[:, 0]) * normed + steering[:, 1]


def _layer_norm(channels: int, start: Start) -> nn.GroupNorm:
    return nn.GroupNorm(1, channels, device=start.get("device"), dtype=start.get("dtype"))
