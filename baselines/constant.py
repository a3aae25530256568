"""The constant map to the mean of the other side: UVP 100 % by definition."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from otbench.nets.affine import AffineMap
from otbench.ops.points import training_points
from otbench.solver import Config, Context, Problem, Solver, StepInfo, Support, Yes, register_baseline


class ConstantConfig(Config):
    """No parameters."""


@register_baseline("constant", config=ConstantConfig, reference="none: T(x) = E[y]", always=True)
class Constant(Solver[ConstantConfig]):
    """Sends every point to the mean of the other side's training pool: the 100 % row of the UVP."""

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take any problem."""
        return Yes

    def __init__(self, problem: Problem, config: ConstantConfig, context: Context) -> None:
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

    def forward_map(
        self, x: Tensor, label: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the target's mean for each point of `x`, shape (n, *shape)."""
        return self._forward.forward(x)

    def backward_map(
        self, y: Tensor, label: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the source's mean for each point of `y`, shape (n, *shape)."""
        return self._backward.forward(y)

    def stored_modules(self) -> Mapping[str, nn.Module]:
        """Return the two means."""
        return {"forward": self._forward, "backward": self._backward}
