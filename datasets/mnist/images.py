"""Labelled grey images, 32 x 32: MNIST and Fashion-MNIST in torchvision's splits, scikit-learn's digits as stand-in.

Every downloaded or given file is verified by its SHA-256 before anything reads it.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional

from otbench.data.remote import RemoteFile, locate, present
from otbench.errors import DataError, UsageError

SIDE = 32
CLASSES = 10
SetName: TypeAlias = Literal["MNIST", "FashionMNIST", "digits"]
SETS: tuple[SetName, ...] = get_args(SetName)
TEST_COUNT: dict[SetName, int] = {"MNIST": 10_000, "FashionMNIST": 10_000, "digits": 450}
"""Test images of each set."""
_CHUNK = 4096
_TEST_EVERY = 4
"""Of the stand-in's images, every fourth is a test image."""

_URLS = {
    "MNIST": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "FashionMNIST": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
}
_HASHES = {
    "MNIST": {
        "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
}


@dataclass(frozen=True)
class Images:
    """Images `pixels`, shape (n, 32, 32), uint8, and their classes `label`, shape (n,), int64; on the CPU."""

    pixels: Tensor
    label: Tensor

    def unit(self, device: torch.device) -> Tensor:
        """Return the images in [0, 1], shape (n, 1, 32, 32), float32, on `device`."""
        return self.pixels.to(device)[:, None].float() / 255


@dataclass(frozen=True)
class ImageSet:
    """One data set.

    Attributes:
        name: of the set, as torchvision calls it.
        train: what solvers and networks learn from.
        test: what is only measured on.
        digest: SHA-256 of all pixels and labels as published, before enlarging, hexadecimal; of a part of them, one of
            its own.
    """

    name: SetName
    train: Images
    test: Images
    digest: str

    def of_class(self, k: int) -> ImageSet:
        """Return the images of class `k` alone, 0 to 9, as a set with a digest of its own."""
        train, test = (
            Images(part.pixels[part.label == k], part.label[part.label == k]) for part in (self.train, self.test)
        )
        digest = hashlib.sha256(f"{self.digest} class {k}".encode()).hexdigest()
        return replace(self, train=train, test=test, digest=digest)

    def setting_aside(self, count: int) -> ImageSet:
        """Return the set whose last `count` training images take the place of its test images, with its own digest.

        Raises:
            UsageError: fewer than as many would be left.
        """
        images = self.train
        if 2 * count > len(images.label):
            raise UsageError(
                f"{self.name} has {len(images.label)} training images: held_out={count} is more than half of them"
            )
        train, test = (Images(images.pixels[part], images.label[part]) for part in (slice(-count), slice(-count, None)))
        digest = hashlib.sha256(f"{self.digest} setting aside {count}".encode()).hexdigest()
        return replace(self, train=train, test=test, digest=digest)


def files(name: SetName) -> tuple[RemoteFile, ...]:
    """Return the files of a set; the stand-in comes with scikit-learn and has none."""
    return tuple(
        RemoteFile(f"{_URLS[name]}{plain}.gz", sha256, (f"{name}/raw/{plain}.gz",))
        for plain, sha256 in _HASHES.get(name, {}).items()
    )


def all_present(names: Sequence[SetName], data_dir: Path | None) -> bool:
    """Say whether these sets can be had without a download."""
    return all(present(file, data_dir) for name in names for file in files(name))


def load(name: SetName, data_dir: Path | None) -> ImageSet:
    """Return a set: from `data_dir` (torchvision's layout), from the cache, or downloaded.

    28 x 28 images are enlarged to 32 x 32, 8 x 8 ones too, by linear interpolation without cropping.

    Raises:
        DataError: a file is missing and cannot be downloaded, or has another content than it should.
    """
    parts = _digits() if name == "digits" else _published(name, data_dir)
    made = []
    digest = hashlib.sha256(str(SIDE).encode())
    for pixels, label in parts:
        digest.update(pixels.contiguous().numpy().tobytes())
        digest.update(label.long().contiguous().numpy().tobytes())
        if len(pixels) != len(label):
            raise DataError(f"{name}: {len(pixels)} images but {len(label)} labels; replace both files")
        made.append(Images(_enlarged(pixels), label.long()))
    train, test = made
    return ImageSet(name, train, test, digest.hexdigest())


def _published(name: SetName, data_dir: Path | None) -> list[tuple[Tensor, Tensor]]:
    """Return pixels and labels of the verified files, training images first: bytes behind a header that says sizes."""
    numbers = []
    for file, header in zip(files(name), (16, 8, 16, 8), strict=True):
        path = locate(file, data_dir)
        try:
            content = bytearray(gzip.decompress(path.read_bytes()))
        except (OSError, EOFError) as error:
            raise DataError(f"{path}: cannot be read ({error}); check its permissions") from error
        numbers.append(torch.frombuffer(content, dtype=torch.uint8, offset=header))
    return [(numbers[k].view(-1, 28, 28), numbers[k + 1]) for k in (0, 2)]


def _digits() -> list[tuple[Tensor, Tensor]]:
    from sklearn.datasets import load_digits  # here: slow to import

    bunch = load_digits()
    pixels = torch.from_numpy((bunch.images * (255 / 16)).round().astype("uint8"))
    label = torch.from_numpy(bunch.target)
    test = torch.arange(len(label)) % _TEST_EVERY == 0
    return [(pixels[~test], label[~test]), (pixels[test], label[test])]


def _enlarged(pixels: Tensor) -> Tensor:
    """Return (n, 32, 32) uint8 from (n, h, w) uint8."""
    parts = [
        functional.interpolate(part[:, None].float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
        for part in torch.split(pixels, _CHUNK)
    ]
    return torch.cat([part[:, 0].round().to(torch.uint8) for part in parts])
