"""The potentials of the official pairs: where they are, and how a file becomes a network.

Two potentials for each dimension, from the repository of Korotin et al. (MIT licence). The content of all files but
those of d = 256 is known to us and is checked by SHA-256; those two are checked by the id that git gives their content.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from otbench.data.remote import RemoteFile, cached_copy, locate, users_copy
from otbench.data.sources import RemoteSource
from otbench.errors import DataError
from otbench.nets.dense_icnn import DenseICNN, dense_icnn_widths

_URL = (
    "https://raw.githubusercontent.com/iamalexkorotin/Wasserstein2Benchmark/"
    "647a1acc85f88e207733d087cbe87987cc0dea06/benchmarks/Mix3toMix10/"
)
_SHA256 = {
    2: (
        "12fbf72953af1371002cb4a0b67757bd63b335e923fc5f7d4076fbeb81ee72b5",
        "28d161bf7b352d678fb77f512b51266574da06455d3eabf9173695813efc1716",
    ),
    4: (
        "edbe9ff24297c685d070811930f2d17b63f0fd299cba0f792617798211e1bbc2",
        "ec2a061e00be682b5212cfd9801d6d874768bd8b7ba3c2a80e2dc48d5a473425",
    ),
    8: (
        "0ace0d609d39eac0cbbb0f1e26ca1cd2329a8c48da7122f3118389755ca5be16",
        "f2ef690cf8f9c3c9aed9c15471a64c8dc9da68f5d565b1c091d8f2e7caec5cb5",
    ),
    16: (
        "d50a23710ca3b71a01007cd53c6b578de087c9879e0506866bac9196357e1891",
        "722088932a1a0dbbf9cc1e90a6b9d86df0536f4520caf205b33161c74c0dd574",
    ),
    32: (
        "d843897886c9346c3a0d14c2a0824f5b235ca4cf7932dda77a8c8f5c1a3fc201",
        "34e8fed6bc0c7cfc54fa607b2bfb17118b70a1c135be486f55299299062f767f",
    ),
    64: (
        "ea8778313115151315cdc4a60198fea41e18800295559391c97e9a49b5b8f56c",
        "2bbc6d8e5c7f29a6e188e23ea10b811e1b07b1bd0f355cc8916356eed2e7428b",
    ),
    128: (
        "69146834f2b33b6f05accbc7d4d49ef43e9517f38d5a7ab71c50a936c0c613ab",
        "d03ed8ab9b8bab886ecc7d69e1dba1173b154f4eae9378a295a7cbbc93d52321",
    ),
}
_GIT_BLOBS = {256: ("2c660c94439ea86a2ef56f09d0b0c79a78276ba0", "fdb31a331d448bd5dcf909dabc8175de1ff4bfe4")}
DIMS = (*_SHA256, *_GIT_BLOBS)
"""Dimensions for which there are potentials."""
_CONTAINER_BYTES = 4431
"""What a file has beside its float32 numbers."""
STRONG_CONVEXITY = 1e-2
"""Weight of |x|^2 / 2 with which the benchmark loads its potentials (they were trained with 1e-4)."""


def potential_files(dim: int) -> tuple[RemoteFile, RemoteFile]:
    """Return the files of both potentials of dimension `dim`, one of `DIMS`."""
    first, second = (_file(dim, number) for number in (1, 2))
    return first, second


def _file(dim: int, number: int) -> RemoteFile:
    name = f"{dim}_v{number}.pt"
    sha256, blob = (table[dim][number - 1] if dim in table else None for table in (_SHA256, _GIT_BLOBS))
    floats = sum(torch.Size(shape).numel() for shape in _shapes(dim).values())
    size = 4 * floats + _CONTAINER_BYTES
    return RemoteFile(_URL + name, sha256, (f"w2bench/{name}", name), git_blob=blob, size=size)


def _shapes(dim: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a file, by its key."""
    widths = dense_icnn_widths(dim)
    shapes: dict[str, tuple[int, ...]] = {}
    for k, width in enumerate(widths):
        layer = f"quadratic_layers.{k}."
        shapes |= {f"{layer}quadratic_decomposed": (dim, 1, width)}
        shapes |= {f"{layer}weight": (width, dim), f"{layer}bias": (width,)}
    for k in range(len(widths) - 1):
        shapes[f"convex_layers.{k}.weight"] = (widths[k + 1], widths[k])
    return shapes | {"final_layer.weight": (1, widths[-1])}


def load_pair(dim: int, data_dir: Path | None) -> tuple[DenseICNN, DenseICNN]:
    """Return both potentials of dimension `dim`, one of `DIMS`: from the user's folder, the cache, or their host.

    Raises:
        DataError: a file is missing and cannot be downloaded, or is not what it should be.
    """
    first, second = (read_potential(locate(file, data_dir), dim) for file in potential_files(dim))
    return first, second


def read_potential(path: Path, dim: int) -> DenseICNN:
    """Return the convex potential that `path` holds, in float64 on the CPU; nothing in the file is executed.

    Raises:
        DataError: it holds no convex potential of dimension `dim`.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file can raise anything; nothing in it was executed
        raise _refused(path, "it cannot be read as a file of tensors") from error
    tensors = _checked(path, dim, content)
    network = DenseICNN(dim, activation="celu", strong_convexity=STRONG_CONVEXITY, dtype=torch.float64)

    def layers(name: str) -> list[Tensor]:
        return [tensors[f"quadratic_layers.{k}.{name}"].double() for k in range(len(network.widths))]

    with torch.no_grad():
        network.quadratic.copy_(torch.cat([a[:, 0] for a in layers("quadratic_decomposed")], 1))
        network.linear.copy_(torch.cat(layers("weight")).T)
        network.bias.copy_(torch.cat(layers("bias")))
        for k, mixing in enumerate(network.mixing):
            mixing.copy_(tensors[f"convex_layers.{k}.weight"].T)
        network.readout.copy_(tensors["final_layer.weight"][0])
    return network.eval().requires_grad_(False)


def _checked(path: Path, dim: int, content: object) -> Mapping[str, Tensor]:
    shapes = _shapes(dim)
    if not isinstance(content, dict) or content.keys() != shapes.keys():
        raise _refused(path, f"it does not hold the {len(shapes)} tensors of a DenseICNN")
    for name, shape in shapes.items():
        tensor = content[name]
        if not isinstance(tensor, Tensor) or tensor.dtype != torch.float32 or tensor.shape != shape:
            raise _refused(path, f"{name} is not a float32 tensor of shape {shape}, which d = {dim} needs")
        if not tensor.isfinite().all():
            raise _refused(path, f"{name} holds NaN or infinite values")
        if name.startswith(("convex", "final")) and tensor.min() < 0:
            raise _refused(path, f"{name} has negative entries, so the potential is not convex")
    return content


def _refused(path: Path, why: str) -> DataError:
    return DataError(f"{path}: not a potential of the benchmark: {why}. Replace it by {_URL}{path.name.split('-')[-1]}")


class PotentialSource(RemoteSource):
    """All potentials. Dimensions are taken one by one, so a part of them is of use, too."""

    def __init__(self) -> None:
        """Name the files of every dimension."""
        what = f"the potentials of the Wasserstein-2 benchmark, d = {DIMS[0]} to {DIMS[-1]}; a run gets what it needs"
        files = [file for dim in DIMS for file in potential_files(dim)]
        licence = "MIT; https://github.com/iamalexkorotin/Wasserstein2Benchmark"
        super().__init__("w2bench", what, files, licence)

    def find(self, data_dir: Path | None) -> str | None:
        """Return the folders of the potentials that are here, and of which dimensions these are."""
        folders: dict[Path, list[int]] = {}
        for dim in DIMS:
            paths = [users_copy(file, data_dir) or cached_copy(file) for file in potential_files(dim)]
            if paths[0] is not None and None not in paths:
                folders.setdefault(paths[0].parent, []).append(dim)
        return "; ".join(f"{folder} (d = {', '.join(map(str, dims))})" for folder, dims in folders.items()) or None
