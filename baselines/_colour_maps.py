"""What rows share that map colours to colours by two maps of their own."""

from __future__ import annotations

import abc

from torch import Tensor

from otbench.baselines._two_maps import ModuleT, TwoMaps
from otbench.ops.colours import ColourSpace
from otbench.ops.points import training_points
from otbench.solver import Config, Context, No, Problem, Support, Yes


class ColourMaps(TwoMaps[Config, ModuleT]):
    """Two maps between colours of the problem's space, made of the training points of both sides.

    Attributes:
        space: that of the problem's colours.
    """

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take problems whose points are colours."""
        return Yes if problem.colours else No("its points are no colours")

    def __init__(self, problem: Problem, config: Config, context: Context) -> None:
        """Start at the identity; the colours are read by the step."""
        super().__init__(problem, config, context)
        self.space: ColourSpace = "lab" if problem.colours == "lab" else "rgb"
        self._forward, self._backward = (self.build().to(context.device) for _ in range(2))

    @abc.abstractmethod
    def build(self) -> ModuleT:
        """Return a map of colours of `space`, at the identity."""

    def colours(self) -> list[Tensor]:
        """Return the training colours of source and target, each (n, 3)."""
        return [training_points(side, self.context.generator) for side in (self.problem.source, self.problem.target)]
