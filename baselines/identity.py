"""The identity map: the row that every solver has to beat."""

from __future__ import annotations

from torch import nn

from otbench.baselines._two_maps import TwoMaps
from otbench.solver import Config, Context, No, Problem, StepInfo, Support, Yes, register_baseline


@register_baseline("identity", config=Config, reference="none: T(x) = x", always=True)
class Identity(TwoMaps[Config, nn.Identity]):
    """Leaves every point where it is; a solver that ends above it has made things worse."""

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take any cost; source and target points must have the same shape."""
        same = problem.source.shape == problem.target.shape
        return Yes if same else No(f"shapes differ: {problem.source.shape} and {problem.target.shape}")

    def __init__(self, problem: Problem, config: Config, context: Context) -> None:
        """Nothing is to be kept: both maps are the same empty module."""
        super().__init__(problem, config, context)
        self._forward = self._backward = nn.Identity()

    def step(self) -> StepInfo:
        """Do nothing."""
        return StepInfo(0.0, done=True)
