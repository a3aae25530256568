"""The plug-in Bures map of each class: the optimal map between two Gaussians, with the moments of the class.

For each class k the map of `linear`, from the labelled points of class k in the training pools of both sides. The maps
are told the class of the point that they move: what a solver adds to this row is what is not Gaussian within a class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from otbench.baselines._two_maps import TwoMaps
from otbench.baselines.linear import LinearConfig, set_bures
from otbench.nets.affine import AffineMap
from otbench.ops.points import class_points
from otbench.recorded import Recorded
from otbench.solver import Context, No, Problem, StepInfo, Support, register_baseline


class ByClass(Recorded):
    """One map for each class; unlabelled points (-1) stay where they are."""

    def __init__(self, maps: list[AffineMap]) -> None:
        """Hold the maps, in the order of the classes."""
        super().__init__()
        self.maps = nn.ModuleList(maps)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the images of `x` (n, *shape), of the classes `label` (n,)."""
        image = x.clone()
        for k, network in enumerate(self.maps):
            image[label == k] = network(x[label == k])
        return image


@register_baseline(
    "classwise_linear",
    config=LinearConfig,
    reference="Knott, Smith, On the optimal mapping of distributions, JOTA 43, 1984; Flamary et al., POT, JMLR 2021",
)
class ClasswiseLinear(TwoMaps[LinearConfig, ByClass]):
    """Bures map of each class, from the moments of its labelled training points; reads the class of a point."""

    reads_label = True

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take the quadratic cost between points of the same shape, with classes on both sides."""
        scarce = problem.scarce(needed=True)
        return No(scarce) if scarce else super().supports(problem)

    def __init__(self, problem: Problem, config: LinearConfig, context: Context) -> None:
        """Start at the identity; the moments are read by the step."""
        super().__init__(problem, config, context)
        eye = torch.eye(problem.dim, device=context.device, dtype=context.dtype)
        self._forward, self._backward = (
            ByClass([AffineMap(eye.clone(), torch.zeros_like(eye[0])) for _ in range(problem.classes)])
            for _ in range(2)
        )

    def step(self) -> StepInfo:
        """Read the moments of each class and compute its maps, in float64 on the CPU: one transfer each way."""
        for k, (forward, backward) in enumerate(zip(self._forward.maps, self._backward.maps, strict=True)):
            assert isinstance(forward, AffineMap)
            assert isinstance(backward, AffineMap)
            x, y = (
                class_points(side, k, self.context.generator) for side in (self.problem.source, self.problem.target)
            )
            set_bures(forward, backward, x, y, ridge=self.config.ridge)
        return StepInfo(0.0, done=True)
