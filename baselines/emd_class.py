"""Discrete optimal transport class by class: `emd` whose plan never leaves a class.

For each class one exact plan between labelled points of both sides, as many of each class; unlabelled points are not
used. An unseen point moves as its nearest sample point of any class does: the map is not told the class.
"""

from __future__ import annotations

import torch

from otbench.baselines.emd import EMD, EMDConfig, NearestShift, barycentric_shifts
from otbench.samplers import ClassSampler
from otbench.solver import Context, No, Problem, StepInfo, Support, register_baseline


@register_baseline(
    "emd_class",
    config=EMDConfig,
    reference="Flamary et al., POT: Python Optimal Transport, JMLR 22, 2021",
    presets={"smoke": {"n": 300}},
)
class EMDClass(EMD):
    """Exact plans between two subsamples, class by class; unseen points move as their nearest neighbour does."""

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take every cost between points of the same shape, with classes on both sides."""
        scarce = problem.scarce(1, needed=True)
        return No(scarce) if scarce else super().supports(problem)

    def __init__(self, problem: Problem, config: EMDConfig, context: Context) -> None:
        """Draw the two subsamples, class-balanced."""
        super(EMD, self).__init__(problem, config, context)
        self._forward, self._backward = (
            NearestShift(ClassSampler(side, config.n, context.generator).next().x.flatten(1))
            for side in (problem.source, problem.target)
        )

    def step(self) -> StepInfo:
        """Solve a linear program per class, on the host in float64; the loss is the mean cost of the plans."""
        classes, total = self.problem.classes, 0.0
        for k in range(classes):
            turn = slice(k, None, classes)  # the points of class k in a class-balanced batch
            x, y = (network.points[turn].cpu().double().numpy() for network in (self._forward, self._backward))
            forward, backward, cost = barycentric_shifts(x, y, self.problem.cost.exponent)
            self._forward.shifts[turn] = torch.from_numpy(forward).to(self._forward.shifts)
            self._backward.shifts[turn] = torch.from_numpy(backward).to(self._backward.shifts)
            total += cost / classes
        return StepInfo(total, done=True)
