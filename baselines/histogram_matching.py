"""Colour transfer that gives each channel of sRGB the histogram of the other picture's channel.

Level a goes to the level b with CDF_t(b) = CDF_s(a), interpolated between levels (`skimage.exposure.match_histograms`).
Each channel's map is the optimal one between its marginals, so W1 by channel is nearly as low as it can be; what
channels have to do with each other is not looked at. A level goes to one level and others stay empty: the intersection
of the histograms suffers from these gaps. Levels that no training pixel has are interpolated. The way back is the same
with the sides exchanged, no inverse.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from otbench.baselines._colour_maps import ColourMaps
from otbench.ops.colours import LEVELS, ColourSpace, from_rgb, levels_of, to_rgb
from otbench.recorded import Recorded
from otbench.solver import Config, StepInfo, register_baseline


class LevelTable(Recorded):
    """What each level of each channel of sRGB becomes, linear between levels; for colours of any space."""

    table: Tensor

    def __init__(self, space: ColourSpace) -> None:
        """Start at the identity; `space` is that of the colours."""
        super().__init__()
        self._space: ColourSpace = space
        self.register_buffer("table", torch.linspace(0, 1, LEVELS, dtype=torch.float64).repeat(3, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the images of colours, same shape (n, 3) and dtype."""
        level = (to_rgb(x.double(), self._space).clamp(0, 1) * (LEVELS - 1)).T.contiguous()
        below = level.floor().clamp_(max=LEVELS - 2)
        low, high = (self.table.gather(1, below.long() + k) for k in (0, 1))
        return from_rgb(torch.lerp(low, high, level - below).T, self._space).to(x.dtype)


@register_baseline(
    "histogram_matching",
    config=Config,
    reference="Gonzalez, Woods, Digital Image Processing, 3.3; van der Walt et al., scikit-image, PeerJ 2:e453, 2014",
)
class HistogramMatching(ColourMaps[LevelTable]):
    """Histograms of sRGB channels, one channel at a time: classical colour transfer, low in W1 by construction."""

    def build(self) -> LevelTable:
        """Return a map of colours of `space`, at the identity."""
        return LevelTable(self.space)

    def step(self) -> StepInfo:
        """Match the histograms of both pools, on the host."""
        x, y = (self._levels(side) for side in self.colours())
        self._forward.table.copy_(torch.from_numpy(matched(x, y)))
        self._backward.table.copy_(torch.from_numpy(matched(y, x)))
        return StepInfo(0.0, done=True)

    def _levels(self, points: Tensor) -> NDArray[np.uint8]:
        return levels_of(to_rgb(points.double(), self.space).cpu().numpy())


def matched(here: NDArray[np.uint8], there: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return what each level of each channel of `here` (n, 3) becomes in `there` (m, 3), in [0, 1], shape (3, 256)."""
    from skimage.exposure import match_histograms  # here: slow to import

    moved = match_histograms(here[None], there[None], channel_axis=-1)[0]
    tables = []
    for k in range(3):
        seen, first = np.unique(here[:, k], return_index=True)
        tables.append(np.interp(np.arange(LEVELS), seen, moved[first, k].astype(np.float64)))
    return np.stack(tables) / (LEVELS - 1)
