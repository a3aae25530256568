r"""UNet: a map from images to images, with skips from each resolution on the way down to the same one on the way up.

The architecture is that of Korotin, Selikhanovych, Burnaev (ICLR 2023, released code) with `width=48, norm="batch"`:
five resolutions, each a pair of 3 x 3 convolutions with norm and ReLU; 2 x 2 max-pooling between them on the way down,
bilinear interpolation on the way up, and a last 1 x 1 convolution. With `noise` it is the one of Asadulaev et al. (ICLR
2024, released code): before each of the four steps up, features are normalised per image and channel, then scaled and
shifted by ReLU(A z + a) and ReLU(B z + b).

Group norm acts on each image by itself, so that a map with it is a function of one point, in training as after it; with
batch norm that holds in evaluation mode only, by running means.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from otbench.nets.convolution import convolution
from otbench.nets.start import Start
from otbench.recorded import Recorded

Norm = Literal["group", "batch"]
STEPS = 4
"""Halvings of height and width."""
_GROUP = 4
"""Channels that share a mean and a variance in group norm; fewer where their number does not divide."""
_EPS = 1e-5


class UNet(Recorded):
    """Maps images of `inputs` channels to images of `outputs` channels, same height and width.

    Attributes:
        inputs: channels of the input.
        outputs: channels of the output.
        noise: coordinates of the noise z that the way up takes; 0 = none.
        residual: whether the first `outputs` channels of the input are added to the output.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int = 8,
        norm: Norm = "group",
        noise: int = 0,
        residual: bool = False,
        zero_last: bool = False,
        **start: Unpack[Start],
    ) -> None:
        """Draw all weights and biases from U(-1, 1) / sqrt(fan-in).

        Args:
            inputs: channels of the input.
            outputs: channels of the output.
            width: channels at full resolution; 48 is the published size.
            norm: of groups of 4 channels in one image, or of single channels over the batch, as published.
            noise: coordinates of the noise.
            residual: add the first `outputs` channels of the input to the output.
            zero_last: start with the last convolution at zero: the network is 0, or the identity if residual.
            start: see `Start`.

        Raises:
            ValueError: a size that is not positive, or a residual network with fewer inputs than outputs.
        """
        super().__init__()
        if min(inputs, outputs, width) < 1 or noise < 0:
            raise ValueError(f"UNet needs positive sizes, got {inputs} -> {width} -> {outputs} channels, noise {noise}")
        if residual and inputs < outputs:
            raise ValueError(f"a residual UNet needs at least as many channels in as out, got {inputs} and {outputs}")
        self.inputs, self.outputs, self.noise, self.residual = inputs, outputs, noise, residual
        conv = functools.partial(convolution, **start)

        def pair(before: int, between: int, after: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for one, other in ((before, between), (between, after)):
                layers += [conv(one, other, 3), _norm(norm, other, start), nn.ReLU()]
            return nn.Sequential(*layers)

        # the innermost resolution has no more channels than the one before it: interpolation adds none
        sizes = [width * 2 ** min(level, STEPS - 1) for level in range(STEPS + 1)]
        self.first = pair(inputs, width, width)
        self.down = nn.ModuleList(pair(one, other, other) for one, other in itertools.pairwise(sizes))
        self.mix, self.up = nn.ModuleList(), nn.ModuleList()
        below = sizes[STEPS]
        for level in reversed(range(STEPS)):
            if noise:
                self.mix.append(_Modulation(below, conv(noise, below, 1), conv(noise, below, 1)))
            after = width if level == 0 else sizes[level] // 2
            self.up.append(pair(sizes[level] + below, (sizes[level] + below) // 2, after))
            below = after
        self.last = conv(width, outputs, 1)
        if zero_last:
            nn.init.zeros_(self.last.weight)
            assert self.last.bias is not None
            nn.init.zeros_(self.last.bias)
        self.to(memory_format=torch.channels_last)  # a third faster on a CPU

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """Return the image of each x_i, shape (n, outputs, h, w).

        Args:
            x: images, shape (n, inputs, h, w), h and w multiples of 16 and at least 32.
            z: noise, shape (n, noise); needed if and only if the network takes noise.

        Raises:
            ValueError: noise is missing or not wanted, or the image has another height or width.
        """
        if (z is not None) != bool(self.noise):
            raise ValueError(f"this UNet takes {self.noise} coordinates of noise: z is {'not ' * (z is None)}given")
        if any(size % 2**STEPS or size < 2 ** (STEPS + 1) for size in x.shape[2:]):  # one pixel cannot be normalised
            raise ValueError(f"a UNet needs height and width of 32, 48, 64, ... pixels, got {tuple(x.shape[2:])}")
        skips = [self.first(x)]
        for layer in self.down:
            skips.append(layer(functional.max_pool2d(skips[-1], 2)))
        value = skips.pop()
        for step, layer in enumerate(self.up):
            if z is not None:
                value = self.mix[step](value, z)
            value = functional.interpolate(value, scale_factor=2.0, mode="bilinear", align_corners=True)
            value = layer(torch.cat((skips.pop(), value), 1))
        moved: Tensor = self.last(value)
        return moved + x[:, : self.outputs] if self.residual else moved


class _Modulation(nn.Module):
    """Instance norm whose scale and shift are read off the noise."""

    def __init__(self, channels: int, scale: nn.Conv2d, shift: nn.Conv2d) -> None:
        super().__init__()
        self.channels, self.scale, self.shift = channels, scale, shift

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the features `x`, (n, channels, h, w), after modulation by `z`, (n, noise)."""
        z = z[:, :, None, None]
        variance, mean = torch.var_mean(x, (2, 3), keepdim=True)
        normed = (x - mean) * torch.rsqrt(variance + _EPS)
        return normed * torch.relu(self.scale(z)) + torch.relu(self.shift(z))


def _norm(kind: Norm, channels: int, start: Start) -> nn.GroupNorm | nn.BatchNorm2d:
    device, dtype = start.get("device"), start.get("dtype")
    if kind == "batch":
        return nn.BatchNorm2d(channels, device=device, dtype=dtype)
    return nn.GroupNorm(channels // math.gcd(_GROUP, channels), channels, device=device, dtype=dtype)
