"""ResNet critic: a scalar function of images, of residual blocks and average pooling, without any norm.

The critic of Liu, Gu, Samaras (WGAN-QC, ICCV 2019, released code), as NOT and GNOT use it: `width=64`, at most 512
channels, the residual branch weighted by 0.1. At each resolution, from 32 x 32 to 4 x 4, one block keeps the channels
and one doubles them; a linear layer reads the value off the last features.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from otbench.nets.convolution import convolution, started
from otbench.nets.potential import AutogradPotential
from otbench.nets.start import Start

RESIDUAL = 0.1
"""Weight of a block's residual branch."""
SLOPE = 0.2
"""Of LeakyReLU below zero."""
_CORNER = 4
"""Height and width of the last features."""


class ResNetCritic(AutogradPotential):
    """A function of images as a `Potential`.

    Attributes:
        shape: (channels, height, width) of an image.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        width: int = 8,
        **start: Unpack[Start],
    ) -> None:
        """Draw weights of convolutions from N(0, 2 / fan-out), all else from U(-1, 1) / sqrt(fan-in).

        Args:
            shape: (channels, side, side) of an image, side = 4 * 2^k pixels.
            width: channels at full resolution, of which 8 times as many are the most; 64 is the published size.
            start: see `Start`.

        Raises:
            ValueError: the image is not square, its side is not 4 * 2^k, or a size is not positive.
        """
        super().__init__()
        channels, side, other = shape
        levels = int(math.log2(max(side, _CORNER) / _CORNER))
        if side != other or side != _CORNER * 2**levels:
            raise ValueError(f"the ResNet critic needs square images with a side of 4 * 2^k, got {side} x {other}")
        if width < 1 or channels < 1:
            raise ValueError(f"the ResNet critic needs positive widths, got {width} for {channels} channels")
        self.shape = shape
        kind = functools.partial(convolution, he=True, **start)
        sizes = [min(width * 2**level, 8 * width) for level in range(levels + 2)]
        self.first = kind(channels, sizes[0], 3)
        self.blocks = nn.ModuleList()
        for one, after in itertools.pairwise(sizes):
            self.blocks.append(nn.Sequential(_Block(one, one, kind), _Block(one, after, kind)))
        with torch.device("meta"):
            last = nn.Linear(sizes[-1] * _CORNER**2, 1, dtype=start.get("dtype"))
        self.last = started(last, **start)
        self.to(memory_format=torch.channels_last)  # a third faster on a CPU

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x_i), shape (n,), for images `x`, flat or not: shape (n, c h w) or (n, c, h, w)."""
        value = functional.leaky_relu(self.first(x.reshape(-1, *self.shape)), SLOPE)
        for level, block in enumerate(self.blocks):
            value = block(functional.avg_pool2d(value, 3, 2, 1) if level else value)
        return self.last(value.flatten(1)).squeeze(1)  # type: ignore[no-any-return]


class _Block(nn.Module):
    """LeakyReLU(shortcut(x) + 0.1 conv(LeakyReLU(conv(x)))), size kept; the shortcut is x where channels stay."""

    def __init__(self, before: int, after: int, kind: functools.partial[nn.Conv2d]) -> None:
        super().__init__()
        self.inner = kind(before, min(before, after), 3)
        self.outer = kind(min(before, after), after, 3)
        self.shortcut = kind(before, after, 1, bias=False) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.outer(functional.leaky_relu(self.inner(x), SLOPE))
        return functional.leaky_relu(self.shortcut(x) + RESIDUAL * branch, SLOPE)
