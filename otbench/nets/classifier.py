"""The image classifier of class-guided transport: torchvision's ResNet-18 for one channel and ten classes.

Asadulaev et al., "Neural Optimal Transport with General Cost Functionals", ICLR 2024, released notebooks: first
convolution 7 x 7 with stride 2, images 32 x 32 with values in [-1, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FEATURES = 512
"""Dimension of the penultimate layer."""


class Classifier(nn.Module):
    """A residual network with its penultimate layer in reach."""

    def __init__(self, *, blocks: int = 2, classes: int = 10) -> None:
        """Build the network, with torchvision's initialisation (global random state).

        Args:
            blocks: residual blocks at each of four resolutions; 2 = ResNet-18.
            classes: number of outputs.
        """
        from torchvision.models.resnet import BasicBlock, ResNet  # here: slow to import

        super().__init__()
        body = ResNet(BasicBlock, [blocks] * 4, num_classes=classes)
        body.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.head = body.fc
        body.fc = nn.Identity()
        self.body = body

    def features(self, x: Tensor) -> Tensor:
        """Return the penultimate layer, (n, 512), at images `x` in [-1, 1], shape (n, 1, 32, 32)."""
        return self.body(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (n, classes), at images `x` in [-1, 1], shape (n, 1, 32, 32)."""
        return self.head(self.features(x))  # type: ignore[no-any-return]

    @torch.no_grad()
    def look(self, x: Tensor, *, chunk: int = 500) -> tuple[Tensor, Tensor]:
        """Return (features (n, 512), classes found (n,) int64) in evaluation mode, without a graph.

        Args:
            x: images in [0, 1], shape (n, 1, 32, 32), on the network's device.
            chunk: images at a time: bounds memory.
        """
        self.eval()
        features, found = [], []
        for part in torch.split(x, chunk):
            features.append(self.features(2 * part - 1))
            found.append(self.head(features[-1]).argmax(1))
        return torch.cat(features), torch.cat(found)
