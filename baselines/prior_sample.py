"""A draw from the prior in place of a map: what a label-reading decoder makes of no transport at all.

Codes are standardised, so the prior is N(0, I) in the target's own mean and spread per coordinate. The point that is
moved is not looked at.
"""

from __future__ import annotations

import torch
from torch import Tensor

from otbench.ops.points import training_points
from otbench.solver import Config, Context, No, Problem, Solver, StepInfo, Support, Transport, Yes, register_baseline


@register_baseline("prior_sample", config=Config, reference="none: T(x) ~ N(E[y], diag Var[y])")
class PriorSample(Solver[Config]):
    """Sends every point to a fresh draw from a Gaussian with the target's mean and variances."""

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take codes: vectors of one dimension on both sides."""
        if len(problem.target.shape) != 1 or problem.source.shape != problem.target.shape:
            return No("a prior exists for codes only, not for images")
        return Yes

    def __init__(self, problem: Problem, config: Config, context: Context) -> None:
        """Start at zero; the moments are read by the step."""
        super().__init__(problem, config, context)
        self.mean, self.spread = torch.zeros(2, problem.dim, device=context.device, dtype=context.dtype).unbind()

    def step(self) -> StepInfo:
        """Read the moments of the target's pool, in float64 on the CPU: one transfer from the device."""
        y = training_points(self.problem.target, self.context.generator).cpu().double()
        self.mean.copy_(y.mean(0))
        self.spread.copy_(y.std(0))
        return StepInfo(0.0, done=True)

    def transport(self) -> Draw:
        """Return the Gaussian."""
        return Draw(self.mean, self.spread)


class Draw(Transport):
    """A fresh draw from a Gaussian for each point."""

    stochastic = True
    mean: Tensor
    spread: Tensor

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        """Hold mean and standard deviations, each of shape (d,)."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return one draw for each point of `x`, shape (n, d)."""
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return noise * self.spread + self.mean
