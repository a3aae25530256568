"""Points of R^3 that are colours: sRGB in [0, 1], or CIELAB over 100 (D65), the way between the two, and pictures.

Conversions are those of scikit-image, in float64 on the CPU. In CIELAB, equal distances look about equally large.
"""

from __future__ import annotations

import warnings
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ColourSpace: TypeAlias = Literal["rgb", "lab"]
LAB_SCALE = 100.0
"""What CIELAB is divided by: lightness then lies in [0, 1], as a channel of sRGB does."""
LEVELS = 256
CHUNK = 2**18
"""Colours converted at a time: bounds the memory that a conversion takes beside its result."""


def from_rgb(colours: Tensor, space: ColourSpace) -> Tensor:
    """Return sRGB colours in [0, 1], shape (n, 3), as points of `space`, in dtype and device of `colours`."""
    return colours if space == "rgb" else _converted(colours, "rgb2lab", before=1, after=1 / LAB_SCALE)


def to_rgb(points: Tensor, space: ColourSpace) -> Tensor:
    """Return points of `space`, shape (n, 3), as sRGB, in dtype and device of `points`.

    CIELAB has colours that no screen shows: they are clipped to [0, 1]. What is sRGB already stays as it is.
    """
    return points if space == "rgb" else _converted(points, "lab2rgb", before=LAB_SCALE, after=1)


def distinct(picture: NDArray[np.uint8], space: ColourSpace) -> tuple[Tensor, NDArray[np.int64]]:
    """Return the colours of a picture of 8-bit sRGB, each once, and which of them each pixel has.

    Args:
        picture: levels, shape (height, width, 3).
        space: of the points.

    Returns:
        Points, shape (k, 3), float64, in a fixed order; places among them, shape (height * width,).
    """
    packed = picture.reshape(-1, 3).astype(np.uint32) @ np.array([LEVELS**2, LEVELS, 1], np.uint32)
    found, which = np.unique(packed, return_inverse=True)
    levels = np.stack([found >> 16, (found >> 8) & (LEVELS - 1), found & (LEVELS - 1)], 1)
    return from_rgb(torch.from_numpy(levels / (LEVELS - 1)), space), which.ravel()


def levels_of(colours: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return sRGB colours, any shape, as the 8-bit levels that show them: clipped to [0, 1]."""
    return np.rint(np.clip(colours, 0, 1) * (LEVELS - 1)).astype(np.uint8)


def _converted(points: Tensor, name: Literal["rgb2lab", "lab2rgb"], *, before: float, after: float) -> Tensor:
    from skimage import color  # here: slow to import

    convert = getattr(color, name)
    array = points.detach().cpu().double().numpy() * before
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Conversion from CIE-LAB", UserWarning)  # that colours were clipped
        parts: list[NDArray[np.float64]] = [convert(array[k : k + CHUNK]) for k in range(0, len(array), CHUNK)]
    return torch.from_numpy(np.concatenate(parts) * after).to(points) if parts else points.clone()
