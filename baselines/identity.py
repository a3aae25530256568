"""The identity map: the row that every solver has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from otbench.solver import Config, No, Problem, Solver, StepInfo, Support, Transport, Yes, register_baseline


@register_baseline("identity", config=Config, reference="none: T(x) = x", always=True)
class Identity(Solver[Config]):
    """Leaves every point where it is; a solver that ends above it has made things worse."""

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take any cost; source and target points must have the same shape."""
        same = problem.source.shape == problem.target.shape
        return Yes if same else No(problem.shapes_differ)

    def step(self) -> StepInfo:
        """Do nothing."""
        return StepInfo(0.0, done=True)

    def transport(self) -> Unmoved:
        """Return the identity, which keeps nothing."""
        return Unmoved()


class Unmoved(Transport):
    """T(x) = x and S(y) = y, in the units of the user."""

    takes_user_units = True

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return `x`."""
        return x

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return `y`."""
        return y
