"""A draw from the prior in place of a map: what a label-reading decoder makes of no transport at all.

Codes are standardised, so the prior is N(0, I) in the target's own mean and spread per coordinate. The point that is
moved is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from otbench.nets.affine import AffineMap
from otbench.ops.points import training_points
from otbench.solver import Config, Context, No, Problem, Solver, StepInfo, Support, Yes, register_baseline


@register_baseline("prior_sample", config=Config, reference="none: T(x) ~ N(E[y], diag Var[y])")
class PriorSample(Solver[Config]):
    """Sends every point to a fresh draw from a Gaussian with the target's mean and variances."""

    stochastic = True

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take codes: vectors of one dimension on both sides."""
        if len(problem.target.shape) != 1 or problem.source.shape != problem.target.shape:
            return No("a prior exists for codes only, not for images")
        return Yes

    def __init__(self, problem: Problem, config: Config, context: Context) -> None:
        """Start at zero; the moments are read by the step."""
        super().__init__(problem, config, context)
        self._spread, self._mean = (
            AffineMap(None, torch.zeros(problem.dim, device=context.device, dtype=context.dtype)) for _ in range(2)
        )

    def step(self) -> StepInfo:
        """Read the moments of the target's pool, in float64 on the CPU: one transfer from the device."""
        y = training_points(self.problem.target, self.context.generator).cpu().double()
        self._mean.offset.copy_(y.mean(0))
        self._spread.offset.copy_(y.std(0))
        return StepInfo(0.0, done=True)

    def forward_map(
        self, x: Tensor, label: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return one draw for each point of `x`, shape (n, d)."""
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return noise * self._spread.offset + self._mean.offset

    def stored_modules(self) -> Mapping[str, nn.Module]:
        """Return mean and spread."""
        return {"mean": self._mean, "spread": self._spread}
