"""The constant map to the mean of the other side: UVP 100 % by definition."""

from __future__ import annotations

import torch

from otbench.baselines._two_maps import TwoMaps
from otbench.nets.affine import AffineMap
from otbench.ops.points import training_points
from otbench.solver import Config, Context, Problem, StepInfo, Support, Yes, register_baseline


@register_baseline("constant", config=Config, reference="none: T(x) = E[y]", always=True)
class Constant(TwoMaps[Config, AffineMap]):
    """Sends every point to the mean of the other side's training pool: the 100 % row of the UVP."""

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take any problem."""
        return Yes

    def __init__(self, problem: Problem, config: Config, context: Context) -> None:
        """Start at zero; the means are read by the step."""
        super().__init__(problem, config, context)
        self._forward, self._backward = (
            AffineMap(None, torch.zeros(torch.Size(side.shape).numel(), device=context.device, dtype=context.dtype))
            for side in (problem.target, problem.source)
        )

    def step(self) -> StepInfo:
        """Read both means, summed in float64 on the CPU: one transfer from the device."""
        for network, side in ((self._forward, self.problem.target), (self._backward, self.problem.source)):
            mean = training_points(side, self.context.generator).cpu().double().mean(0)
            network.offset.copy_(mean)
        return StepInfo(0.0, done=True)
