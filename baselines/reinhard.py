"""Colour transfer by means and standard deviations, channel by channel, in a space where channels hardly correlate.

v -> (v - mean_s) std_t / std_s + mean_t for each channel of CIELAB; the result is clipped to what a screen shows. The
paper has another such space, l-alpha-beta; CIELAB is the usual choice today. The way back is the same with the sides
exchanged, no inverse.
"""

from __future__ import annotations

import torch
from torch import Tensor

from otbench.baselines._two_maps import TwoMaps
from otbench.ops.colours import ColourSpace, from_rgb, to_rgb
from otbench.ops.points import training_points
from otbench.recorded import Recorded
from otbench.solver import Config, Context, No, Problem, StepInfo, Support, Yes, register_baseline


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
class Reinhard(TwoMaps[Config, LabScaling]):
    """Means and standard deviations of CIELAB channels: classical colour transfer."""

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take problems whose points are colours."""
        return Yes if problem.colours else No("its points are no colours")

    def __init__(self, problem: Problem, config: Config, context: Context) -> None:
        """Start at the identity; the moments are read by the step."""
        super().__init__(problem, config, context)
        space: ColourSpace = "lab" if problem.colours == "lab" else "rgb"
        self._forward, self._backward = (LabScaling(space).to(context.device) for _ in range(2))
        self._space: ColourSpace = space

    def step(self) -> StepInfo:
        """Read the moments of both pools, on the host in float64."""
        sides = (training_points(side, self.context.generator) for side in (self.problem.source, self.problem.target))
        x, y = (from_rgb(to_rgb(side.double(), self._space), "lab") for side in sides)
        for network, here, there in ((self._forward, x, y), (self._backward, y, x)):
            spread = here.std(0, unbiased=False)
            factor = torch.where(spread > 0, there.std(0, unbiased=False) / spread, 1.0)
            network.factor.copy_(factor)
            network.offset.copy_(there.mean(0) - factor * here.mean(0))
        return StepInfo(0.0, done=True)
