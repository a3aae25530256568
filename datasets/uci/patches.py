"""BSDS300's patches, cut anew from its images.

The published file holds a million patches whose positions nobody wrote down, so these are other patches of the same
images, cut by the published recipe (Zoran and Weiss 2011; Uria, Murray, Larochelle 2013): 8x8 grey patches, blurred
with uniform noise of one grey level, divided by 256, the patch's mean removed, the last pixel dropped (the others
determine it). Positions and noise come from a generator seeded with the number of the image in alphabetical order.
As in the recipe, one training image in ten is set aside: its patches validate.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from otbench.datasets.uci.tables import Array
from otbench.errors import DataError

SIDE = 8
PER_IMAGE = 1000
"""Patches from each image."""
VALIDATION_EVERY = 10
MAX_SIDE = 4096
"""Images that are larger are refused before they are decoded."""
_SEED = 300
_TRAIN, _TEST = 0, 1


def cut(train: Sequence[Path], test: Sequence[Path]) -> tuple[Array, Array, Array]:
    """Return training, validation and test patches, each of shape (1000 per image, 63), float64.

    Args:
        train: training images, in alphabetical order.
        test: test images, in alphabetical order.

    Raises:
        DataError: an image cannot be read, is too large, or smaller than a patch.
    """
    known = [_patches(path, _TRAIN, k) for k, path in enumerate(train)]
    validation = known[VALIDATION_EVERY - 1 :: VALIDATION_EVERY]
    training = [patches for k, patches in enumerate(known) if (k + 1) % VALIDATION_EVERY]
    held_out = [_patches(path, _TEST, k) for k, path in enumerate(test)]
    return np.vstack(training), np.vstack(validation), np.vstack(held_out)


def _patches(path: Path, role: int, number: int) -> Array:
    grey = _grey(path)
    generator = np.random.Generator(np.random.PCG64([_SEED, role, number]))
    height, width = grey.shape
    windows = np.lib.stride_tricks.sliding_window_view(grey, (SIDE, SIDE))
    top = generator.integers(height - SIDE + 1, size=PER_IMAGE)
    left = generator.integers(width - SIDE + 1, size=PER_IMAGE)
    patches = windows[top, left].reshape(PER_IMAGE, SIDE * SIDE)
    patches = (patches + generator.random(patches.shape)) / 256
    patches -= patches.mean(1, keepdims=True)
    return np.asarray(patches[:, :-1])


def _grey(path: Path) -> Array:
    """Return the luma of an image in whole levels 0..255, shape (height, width)."""
    from PIL import Image

    try:
        with Image.open(path, formats=["JPEG", "PNG"]) as image:
            if not all(SIDE <= side <= MAX_SIDE for side in image.size):
                raise DataError(
                    f"{path}: an image of {image.width}x{image.height} pixels; sides from {SIDE} to {MAX_SIDE} are read"
                )
            return np.asarray(image.convert("L"), dtype=np.float64)
    except DataError:
        raise
    except Exception as error:  # a damaged image can raise anything from the decoders
        raise DataError(f"{path}: not a readable image; it may be truncated. Get it again") from error
