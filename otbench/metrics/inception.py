"""Inception features, and the Frechet and kernel distances of them (FID, KID), where the standard weights are at hand.

Network and weights are those of torch-fidelity (Obukhov et al., 2020), which are the original TensorFlow ones.
KID: Binkowski et al., "Demystifying MMD GANs", ICLR 2018, kernel (x.y / d + 1)^3, unbiased, over all pairs.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from otbench.data.remote import RemoteFile, locate, present
from otbench.errors import DataError

_NAME = "weights-inception-2015-12-05-6726825d.pth"
WEIGHTS = RemoteFile(
    f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{_NAME}",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ("pt_inception-2015-12-05-6726825d.pth", _NAME),
)
"""The weights that every published FID uses; pytorch-fid and torch-fidelity name the same file differently."""
DIMENSION = 2048
_CHUNK = 64


class Inception:
    """The feature extractor, held on one device."""

    def __init__(self, weights: Path, device: torch.device) -> None:
        """Load verified `weights` (see `find_weights`).

        Raises:
            DataError: torch-fidelity is not installed.
        """
        if importlib.util.find_spec("torch_fidelity") is None:
            raise DataError("Inception features need torch-fidelity: pip install 'otbench[images]'")
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self._network = FeatureExtractorInceptionV3("inception", [str(DIMENSION)], str(weights)).to(device)
        self._device = device

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return features (n, 2048), float32, on the CPU, of grey images in [0, 1], shape (n, 1, h, w)."""
        parts = []
        for part in torch.split(images, _CHUNK):
            grey = (part.to(self._device) * 255).round().clamp(0, 255).to(torch.uint8)
            parts.append(self._network(grey.expand(-1, 3, -1, -1))[0].float().cpu())
        return torch.cat(parts)


def find_weights(data_dir: Path | None, *, download: bool = False) -> tuple[Path | None, str]:
    """Return the verified weights, or None and why there are none.

    Args:
        data_dir: the user's own data folder, if any.
        download: fetch them where they are not on this machine (95 MB).

    Raises:
        DataError: a file of that name has another content, or the download failed.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        return None, "torch-fidelity is not installed (pip install 'otbench[images]')"
    if not download and not present(WEIGHTS, data_dir):
        return None, f"no weights on this machine (put {_NAME} into --data-dir, or: data fetch inception)"
    return locate(WEIGHTS, data_dir), ""


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """Return the unbiased squared maximum mean discrepancy of features (n, d) and (m, d), cubic kernel; can be < 0."""
    x, y = x.double(), y.double()

    def total(a: Tensor, b: Tensor, *, same: bool) -> float:
        found = 0.0
        for part in torch.split(a, 1000):
            found += float((part @ b.T / a.shape[1] + 1).pow(3).sum())
        if same:
            found -= float((a.square().sum(1) / a.shape[1] + 1).pow(3).sum())
        return found

    n, m = len(x), len(y)
    within = total(x, x, same=True) / (n * (n - 1)) + total(y, y, same=True) / (m * (m - 1))
    return within - 2 * total(x, y, same=False) / (n * m)
