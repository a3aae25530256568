"""The mean of the wanted class: the most that a label alone can say of the target."""

from __future__ import annotations

import torch
from torch import Tensor

from otbench.baselines._two_maps import TwoMaps
from otbench.ops.points import class_points
from otbench.problem import PoolMeasure
from otbench.recorded import Recorded
from otbench.solver import Config, Context, No, Problem, StepInfo, Support, Yes, register_baseline


class Means(Recorded):
    """One stored point for each class."""

    means: Tensor

    def __init__(self, means: Tensor) -> None:
        """Hold the points, shape (classes, *shape)."""
        super().__init__()
        self.register_buffer("means", means)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the point of each class in `label`, shape (n, *shape)."""
        return self.means[label]


@register_baseline("class_mean", config=Config, reference="none: T(x, k) = E[y | k]")
class ClassMean(TwoMaps[Config, Means]):
    """Sends every point to the mean of the labelled training points of its class on the other side."""

    reads_label = True

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take finite pools with the same classes on both sides."""
        for side in (problem.source, problem.target):
            if not isinstance(side, PoolMeasure) or not side.classes:
                return No("needs classes on both sides")
        return Yes

    def __init__(self, problem: Problem, config: Config, context: Context) -> None:
        """Start at zero; the means are read by the step."""
        super().__init__(problem, config, context)
        self._forward, self._backward = (
            Means(torch.zeros(side.classes, *side.shape, device=context.device, dtype=context.dtype))
            for side in (problem.target, problem.source)
        )

    def step(self) -> StepInfo:
        """Read the class means of both pools, summed in float64, class by class."""
        for network, side in ((self._forward, self.problem.target), (self._backward, self.problem.source)):
            for k in range(side.classes):
                points = class_points(side, k, self.context.generator)
                if len(points):
                    network.means[k] = points.double().mean(0).view(side.shape)
        return StepInfo(0.0, done=True)
