"""One picture as points: pixels to train on, pixels that are held out, and all its colours, each once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from otbench.data.pictures import Pixels
from otbench.metrics.intensities import histograms, total_variation
from otbench.ops.colours import LEVELS, ColourSpace, distinct, to_rgb

TEST_SHARE = 0.2
MOST_HELD_OUT, MOST_VALIDATION = 2**14, 2**12
VALIDATION_SHARE = 0.05
"""Of the pixels that are not held out."""
_SPLIT, _POOL = 11, 12


@dataclass(frozen=True)
class Split:
    """Pixels of a picture by their places, rows of (height * width, 3): none is in two of the parts."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


class Side:
    """A picture and its colours.

    Attributes:
        picture: levels, shape (height, width, 3).
        colours: points of the space, shape (k, 3): each colour of the picture once.
        shares: of its levels, shape (3, 256).
        variation: total variation of what it shows, in [0, 1].
    """

    def __init__(self, picture: Pixels, space: ColourSpace, number: int) -> None:
        """Take a picture; `number` is 0 for the source, 1 for the target."""
        self.picture, self._space, self._number = picture, space, number
        self.colours, self._which = distinct(picture, space)
        self.shares = histograms(picture)
        self.variation = total_variation(picture / (LEVELS - 1))

    def split(self, pool: int, seed: int) -> Split:
        """Return which pixels train, validate and test: a fifth is held out, the same for all seeds.

        Args:
            pool: most pixels to train on.
            seed: chooses those that validate, and those that train where there are more.
        """
        n = len(self._which)
        order = _permutation(n, _SPLIT, self._number)
        held_out = max(2, round(TEST_SHARE * n))
        others = order[held_out:]
        others = others[_permutation(len(others), _POOL, self._number, seed)]
        aside = min(MOST_VALIDATION, round(VALIDATION_SHARE * len(others)))
        return Split(others[aside : aside + pool], others[:aside], order[:held_out][:MOST_HELD_OUT])

    def points(self, pixels: NDArray[np.int64]) -> Tensor:
        """Return the points of the space that pixels at these places are, shape (n, 3), float64."""
        return self.colours[torch.from_numpy(self._which[pixels])]

    def shown(self, images: Tensor) -> NDArray[np.float64]:
        """Return the picture in which each colour, in the order of `colours`, became that of `images`, shape (k, 3).

        It is sRGB, shape (height, width, 3), not clipped.
        """
        colours = to_rgb(images.detach().cpu().double(), self._space).numpy()
        return np.asarray(colours[self._which].reshape(self.picture.shape), dtype=np.float64)


def _permutation(n: int, *words: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.PCG64(list(words))).permutation(n)
