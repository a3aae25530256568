"""Discrete optimal transport between two samples, carried on to unseen points.

The plan pi between n and m points gives the barycentric maps T(x_i) = sum_j pi_ij y_j / sum_j pi_ij and, from the same
plan, S(y_j) = sum_i pi_ij x_i / sum_i pi_ij. An unseen point moves as its nearest sample point does,
T(x) = T(x_nn) + x - x_nn (Ferradans et al., SIAM J. Imaging Sciences 7, 2014). With n = m the plan is a permutation.
Solver: the network simplex of POT (`ot.emd`). The plan is that of the problem's cost, whatever it is; where it splits a
point, the mean of the parts is the best place for the quadratic cost alone.
"""

from __future__ import annotations

import numpy as np
import ot
import torch
from numpy.typing import NDArray
from torch import Tensor

from otbench.baselines._two_maps import TwoMaps
from otbench.ops.cost_matrix import cost_matrix
from otbench.ops.points import training_points
from otbench.recorded import Recorded
from otbench.solver import Config, Context, Field, No, Problem, StepInfo, Support, Yes, register_baseline

CHUNK = 4096
"""Points mapped at a time: bounds the distance matrix."""
_Array = NDArray[np.float64]


class EMDConfig(Config):
    """Parameters of the discrete map."""

    n: int = Field(
        2000, "sample on each side; time grows as n^3, memory as 8 n^2 bytes", unit="points", ge=2, le=20_000
    )


class NearestShift(Recorded):
    """x -> x + shift of the nearest stored point; on flattened points."""

    points: Tensor
    shifts: Tensor

    def __init__(self, points: Tensor) -> None:
        """Hold `points`, shape (n, d), not moved yet."""
        super().__init__()
        self.keeps_rows = len(points)
        self.register_buffer("points", points)
        self.register_buffer("shifts", torch.zeros_like(points))

    def forward(self, x: Tensor) -> Tensor:
        """Return the images of `x`, same shape (n, *shape) and dtype; distances in float64."""
        flat, points = x.flatten(1), self.points.double()
        parts = [torch.cdist(part.double(), points).argmin(1) for part in torch.chunk(flat, -(-len(x) // CHUNK) or 1)]
        return (flat + self.shifts[torch.cat(parts)].to(x.dtype)).reshape(x.shape)


@register_baseline(
    "emd",
    config=EMDConfig,
    reference="Flamary et al., POT: Python Optimal Transport, JMLR 22, 2021",
    presets={"smoke": {"n": 300}},
)
class EMD(TwoMaps[EMDConfig, NearestShift]):
    """Exact plan between two subsamples; unseen points move as their nearest neighbour does."""

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take every cost between points of the same shape."""
        return Yes if problem.source.shape == problem.target.shape else No(problem.shapes_differ)

    def __init__(self, problem: Problem, config: EMDConfig, context: Context) -> None:
        """Draw the two subsamples."""
        super().__init__(problem, config, context)
        self._forward = NearestShift(training_points(problem.source, context.generator, config.n))
        self._backward = NearestShift(training_points(problem.target, context.generator, config.n))

    def step(self) -> StepInfo:
        """Solve the linear program, on the host in float64: one transfer each way. The loss is the cost of the plan."""
        x, y = (network.points.cpu().double().numpy() for network in (self._forward, self._backward))
        forward, backward, cost = barycentric_shifts(x, y, self.problem.cost.exponent)
        self._forward.shifts.copy_(torch.from_numpy(forward))
        self._backward.shifts.copy_(torch.from_numpy(backward))
        return StepInfo(cost, done=True)


def barycentric_shifts(x: _Array, y: _Array, exponent: float) -> tuple[_Array, _Array, float]:
    """Return T(x_i) - x_i (n, d), S(y_j) - y_j (m, d) and the cost of the plan of uniform samples.

    Args:
        x: shape (n, d).
        y: shape (m, d).
        exponent: p of the cost E sum_k |x_k - y_k|^p / p.
    """
    cost = cost_matrix(x, y, exponent)
    plan = ot.emd(ot.unif(len(x)), ot.unif(len(y)), cost, numItermax=10_000_000)
    return *shifts_of(plan, x, y), float((plan * cost).sum())


def shifts_of(plan: _Array, x: _Array, y: _Array) -> tuple[_Array, _Array]:
    """Return T(x_i) - x_i (n, d) and S(y_j) - y_j (m, d) of a plan (n, m)."""
    return plan @ y / plan.sum(1, keepdims=True) - x, plan.T @ x / plan.T.sum(1, keepdims=True) - y
