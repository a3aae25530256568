"""Networks of images in the place of networks of vectors.

Solvers hold points as rows, each image flat, with its class (one-hot) and noise behind it. The two networks here take
such rows: classes become constant planes beside the image, noise becomes planes, or goes to the UNet as it is.
"""

from __future__ import annotations

import math
from typing import Unpack

import torch
from torch import Tensor

from otbench.nets.potential import AutogradPotential
from otbench.nets.resnet_critic import ResNetCritic
from otbench.nets.start import Start
from otbench.nets.unet import Norm, UNet
from otbench.recorded import Recorded

Shape = tuple[int, int, int]
"""(channels, height, width) of an image."""


class ImageMap(Recorded):
    """A UNet from rows (image, class, noise), shape (n, d + classes + noise), to flat images (n, d).

    Attributes:
        net: the UNet.
        shape: of one image; d is its number of pixels, all channels together.
        classes: number of classes that a row carries.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        classes: int = 0,
        noise: int = 0,
        planes: bool = False,
        width: int = 8,
        norm: Norm = "group",
        residual: bool = False,
        **start: Unpack[Start],
    ) -> None:
        """Build the UNet; if residual, it starts as the identity.

        Args:
            shape: of one image.
            classes: number of classes that a row carries.
            noise: coordinates of noise that a row carries.
            planes: give the noise as further channels of the image, rather than to each step of the UNet's way up.
            width: of the UNet.
            norm: of the UNet.
            residual: add the image to the output, and start with the last convolution at zero.
            start: see `Start`.

        Raises:
            ValueError: noise that is to be planes does not fill them.
        """
        super().__init__()
        self.shape, self.classes, self._planes = shape, classes, planes
        channels, height, width_pixels = shape
        added, rest = divmod(noise, height * width_pixels) if planes else (0, 0)
        if rest:
            raise ValueError(f"{noise} coordinates of noise do not fill planes of {height} x {width_pixels} pixels")
        self.net = UNet(
            channels + classes + added,
            channels,
            width=width,
            norm=norm,
            noise=0 if planes else noise,
            residual=residual,
            zero_last=residual,
            **start,
        )

    def forward(self, points: Tensor) -> Tensor:
        """Return the image of each row, flat, shape (n, d), for `points` of shape (n, d + classes + noise)."""
        marked = math.prod(self.shape) + self.classes
        x, z = _planes(points[:, :marked], self.shape), points[:, marked:]
        if self._planes:
            x, z = torch.cat((x, z.reshape(len(z), -1, *self.shape[1:])), 1), z[:, :0]
        return self.net(x, z if z.shape[1] else None).flatten(1)  # type: ignore[no-any-return]


class ImageCritic(AutogradPotential):
    """A ResNet critic as a `Potential` of rows (image, class), shape (n, d + classes).

    Attributes:
        net: the critic.
        shape: of one image.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        classes: int = 0,
        width: int = 8,
        **start: Unpack[Start],
    ) -> None:
        """Build the critic.

        Args:
            shape: of one image.
            classes: number of classes that a row carries.
            width: of the critic.
            start: see `Start`.
        """
        super().__init__()
        self.shape = shape
        channels, height, width_pixels = shape
        inputs = (channels + classes, height, width_pixels)
        self.net = ResNetCritic(inputs, width=width, **start)

    def forward(self, points: Tensor) -> Tensor:
        """Return f at each row, shape (n,), for `points` of shape (n, d + classes)."""
        return self.net(_planes(points, self.shape))  # type: ignore[no-any-return]


def _planes(points: Tensor, shape: Shape) -> Tensor:
    """Return images with a constant plane per class, (n, c + classes, h, w), from rows (n, d + classes)."""
    d = math.prod(shape)
    marks = points[:, d:, None, None].expand(-1, -1, *shape[1:])
    return torch.cat((points[:, :d].reshape(-1, *shape), marks), 1)
