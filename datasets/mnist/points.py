"""One side of the image task: from images to the points that solvers move, and back."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from otbench.data.tensorfile import cached
from otbench.datasets.mnist.images import CLASSES, Images, ImageSet
from otbench.datasets.mnist.pretrained import Trained
from otbench.nets.vae import VAE

_CHUNK = 1000


class Side:
    """One side of the problem: its images, their (re)named classes, and the way to points and back."""

    def __init__(self, data: ImageSet, shift: int, vae: Trained[VAE] | None, device: torch.device) -> None:
        self.data, self.shift, self.vae, self._device = data, shift, vae, device
        self.train_label, self.test_label = ((part.label + shift) % CLASSES for part in (data.train, data.test))
        if vae is None:
            return
        held = cached(
            f"codes-{data.name}",
            {"images": data.digest, "encoder": vae.digest},
            lambda: {"train": self._encode(data.train), "test": self._encode(data.test)},
        ).tensors
        self._mean, deviation = held["train"].mean(0), held["train"].std(0)
        # a coordinate that the encoder does not use has no scale of its own
        self._deviation = torch.where(deviation > 1e-6 * deviation.max(), deviation, 1.0)
        self._codes = {name: (codes - self._mean) / self._deviation for name, codes in held.items()}

    def points(self, part: Literal["train", "test"], dtype: torch.dtype) -> Tensor:
        """Return what solvers move: (n, latent), or (n, 1, 32, 32) in [-1, 1]."""
        if self.vae is not None:
            return self._codes[part].to(self._device, dtype)
        images = self.data.train if part == "train" else self.data.test
        return 2 * images.unit(self._device).to(dtype) - 1

    @torch.no_grad()
    def images(self, points: Tensor, label: Tensor) -> Tensor:
        """Return images in [0, 1], (n, 1, 32, 32), float32, of `points` meant to be of classes `label` (n,)."""
        if self.vae is None:
            return ((points.float() + 1) / 2).clamp(0, 1)
        mean, deviation = self._mean.to(points.device), self._deviation.to(points.device)
        codes, own = points.float() * deviation + mean, (label - self.shift) % CLASSES
        network = self.vae.network
        parts = zip(torch.split(codes, _CHUNK), torch.split(own, _CHUNK), strict=True)
        return torch.cat([network.decode(code, part) for code, part in parts])

    def decoded(self) -> Tensor | None:
        """Return the test images through the VAE, in [0, 1], (n, 1, 32, 32); None where there is none."""
        if self.vae is None:
            return None
        return self.images(self.points("test", torch.float32), self.test_label.to(self._device))

    @torch.no_grad()
    def _encode(self, part: Images) -> Tensor:
        assert self.vae is not None
        codes = []
        for pixels, label in zip(torch.split(part.pixels, _CHUNK), torch.split(part.label, _CHUNK), strict=True):
            x = Images(pixels, label).unit(self._device)
            codes.append(self.vae.network.encode(x, label.to(self._device))[0].cpu())
        return torch.cat(codes)
