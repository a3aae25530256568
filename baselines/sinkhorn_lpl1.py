r"""Entropic optimal transport that keeps the classes of the source apart, carried on to unseen points.

Courty, Flamary, Tuia, Rakotomamonjy, "Optimal Transport for Domain Adaptation", IEEE PAMI 39, 2017 (`SinkhornLpl1` of
POT). With M the matrix of squared distances in units of their median, the plan minimises

$$\langle \pi, M \rangle + \mathrm{reg} \sum_{ij} \pi_{ij} \log \pi_{ij}
+ \eta \sum_j \sum_k \Big( \sum_{i \in k} \pi_{ij} \Big)^{1/2} ,$$

whose last term wants each target point to be reached from one class. It is concave: each outer step replaces it by its
tangent, $M + \eta W$ with $W = (s + 0.001)^{-1/2} / 2$ and s the class sums, and runs Sinkhorn's iteration.

Where target points are labelled, too, pairs of two classes cost ten times the largest distance, which at the default
reg forbids them; a target point with label -1 is open to all. The shares of the classes in two samples differ, so no
plan has both marginals then: the source's is met, `marginal_error` is what the target's lacks. An unseen point moves as
its nearest sample point does (see `otbench.baselines.emd`). Deviation from POT's defaults: the cost is measured in
units of its median, without which reg = 1 means something else on every task, and underflows on images.
"""

from __future__ import annotations

import numpy as np
import ot
import torch
from numpy.typing import NDArray

from otbench.baselines._two_maps import TwoMaps
from otbench.baselines.emd import NearestShift, shifts_of
from otbench.ops.points import training_batch
from otbench.samplers import ClassSampler
from otbench.solver import Config, Context, Field, No, Problem, StepInfo, Support, register_baseline

EPSILON = 1e-3
"""Added to class sums: keeps the tangent finite."""
FORBIDDEN = 10.0
"""Cost of a pair of two classes, in units of the largest one."""

_Array = NDArray[np.float64]


class SinkhornLpL1Config(Config):
    """Parameters of the plan that keeps classes apart."""

    n: int = Field(1000, "sample on each side; time and memory grow as n^2", unit="points", ge=2, le=20_000)
    reg: float = Field(0.05, "strength of the entropy, in units of the median squared distance", gt=0, le=100)
    eta: float = Field(0.1, "strength of the class term, in units of the median squared distance", ge=0)
    outer: int = Field(10, "outer steps", unit="iterations", ge=1)
    iterations: int = Field(200, "upper limit of Sinkhorn iterations in an outer step", unit="iterations", ge=1)
    tolerance: float = Field(1e-8, "stop an outer step at this error of the plan's marginals", gt=0)


@register_baseline(
    "sinkhorn_lpl1",
    config=SinkhornLpL1Config,
    reference="Courty, Flamary, Tuia, Rakotomamonjy, Optimal Transport for Domain Adaptation, IEEE PAMI 39, 2017; "
    "Flamary et al., POT, JMLR 22, 2021",
    presets={"smoke": {"n": 300}},
)
class SinkhornLpL1(TwoMaps[SinkhornLpL1Config, NearestShift]):
    """Entropic plan that keeps source classes apart; unseen points move as their nearest neighbour does."""

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take the quadratic cost between points of the same shape, with classes at the source."""
        if not problem.source.classes:
            return No("needs classes of the source points")
        scarce = problem.scarce(1, sides=("source",))
        return No(scarce) if scarce else super().supports(problem)

    def __init__(self, problem: Problem, config: SinkhornLpL1Config, context: Context) -> None:
        """Draw the two subsamples: of the source labelled points, of the target any."""
        super().__init__(problem, config, context)
        source = ClassSampler(problem.source, config.n, context.generator).next()
        target = training_batch(problem.target, context.generator, config.n)
        self._forward, self._backward = (NearestShift(side.x.flatten(1)) for side in (source, target))
        assert source.label is not None
        self._label = source.label
        self._target_label = torch.full_like(self._label[:1], -1).expand(len(target.x)).clone()
        if target.label is not None:
            self._target_label = target.label

    def step(self) -> StepInfo:
        """Run all outer steps on the host in float64: one transfer each way. The loss is the cost of the plan."""
        x, y = (network.points.cpu().double().numpy() for network in (self._forward, self._backward))
        label, there = self._label.cpu().numpy(), self._target_label.cpu().numpy()
        squared = ot.dist(x, y)
        cost = squared / (np.median(squared) or 1.0)
        apart = (label[:, None] != there) & (there >= 0)
        cost = np.where(apart, FORBIDDEN * cost.max(), cost)
        config = self.config
        plan = grouped_plan(
            cost,
            label,
            reg=config.reg,
            eta=config.eta,
            outer=config.outer,
            iterations=config.iterations,
            tolerance=config.tolerance,
        )
        for network, shifts in zip((self._forward, self._backward), shifts_of(plan, x, y), strict=True):
            network.shifts.copy_(torch.from_numpy(shifts))
        error = float(np.abs(plan.sum(0) - 1 / len(y)).sum())  # the iteration ends on the source's, which is exact
        return StepInfo(float((plan * squared).sum() / 2), {"marginal_error": error}, done=True)


def grouped_plan(
    cost: _Array, label: NDArray[np.int64], *, reg: float, eta: float, outer: int, iterations: int, tolerance: float
) -> _Array:
    """Return the plan between uniform samples, shape (n, m), by `outer` steps from W = 0.

    Args:
        cost: shape (n, m).
        label: class of each source point, shape (n,).
        reg: strength of the entropy, in the cost's unit.
        eta: strength of the class term, in the cost's unit.
        outer: outer steps.
        iterations: upper limit of Sinkhorn iterations in each.
        tolerance: error of the marginals at which one ends.
    """
    weights = ot.unif(cost.shape[0]), ot.unif(cost.shape[1])
    present, row = np.unique(label, return_inverse=True)
    member = np.eye(len(present))[row]
    tangent = np.zeros_like(cost)
    for _ in range(outer):
        plan = ot.sinkhorn(
            *weights, cost + eta * tangent, reg, numItermax=iterations, stopThr=tolerance, warn=False
        )  # the error is reported with the step instead
        tangent = (0.5 * (member.T @ plan + EPSILON) ** -0.5)[row]
    return plan  # type: ignore[no-any-return]
