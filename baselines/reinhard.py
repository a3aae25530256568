"""Colour transfer by means and standard deviations, channel by channel, in a space where channels hardly correlate.

v -> (v - mean_s) std_t / std_s + mean_t for each channel of CIELAB; the result is clipped to what a screen shows. The
paper has another such space, l-alpha-beta; CIELAB is the usual choice today. The way back is the same with the sides
exchanged, no inverse.
"""

from __future__ import annotations

import torch
from torch import Tensor

from otbench.baselines._colour_maps import ColourMaps
from otbench.ops.colours import ColourSpace, from_rgb, to_rgb
from otbench.recorded import Recorded
from otbench.solver import Config, StepInfo, register_baseline


class LabScaling(Recorded):
    """x -> a x + b in CIELAB, for colours of another space; a and b are buffers, one number a channel."""

    factor: Tensor
    offset: Tensor

    def __init__(self, space: ColourSpace) -> None:
        """Start at the identity; `space` is that of the colours."""
        super().__init__()
        self._space: ColourSpace = space
        self.register_buffer("factor", torch.ones(3, dtype=torch.float64))
        self.register_buffer("offset", torch.zeros(3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Return the images of colours, same shape (n, 3) and dtype."""
        lab = from_rgb(to_rgb(x.double(), self._space), "lab")
        shown = to_rgb(self.factor * lab + self.offset, "lab")
        return from_rgb(shown, self._space).to(x.dtype)


@register_baseline(
    "reinhard",
    config=Config,
    reference="Reinhard, Ashikhmin, Gooch, Shirley, Color Transfer between Images, IEEE CG&A 21, 2001",
)
class Reinhard(ColourMaps[LabScaling]):
    """Means and standard deviations of CIELAB channels: classical colour transfer."""

    def build(self) -> LabScaling:
        """Return a map of colours of `space`, at the identity."""
        return LabScaling(self.space)

    def step(self) -> StepInfo:
        """Read the moments of both pools, on the host in float64."""
        x, y = (from_rgb(to_rgb(side.double(), self.space), "lab") for side in self.colours())
        for network, here, there in ((self._forward, x, y), (self._backward, y, x)):
            spread = here.std(0, unbiased=False)
            factor = torch.where(spread > 0, there.std(0, unbiased=False) / spread, 1.0)
            network.factor.copy_(factor)
            network.offset.copy_(there.mean(0) - factor * here.mean(0))
        return StepInfo(0.0, done=True)
