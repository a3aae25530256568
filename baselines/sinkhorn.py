"""Entropic optimal transport between two samples, carried on to unseen points.

With the scalings u, v of the entropic plan pi_ij = u_i exp(-|x_i - y_j|^2 / reg) v_j,

    T(x) = sum_j w_j(x) y_j,  w(x) = softmax_j(log v_j - |x - y_j|^2 / reg),

and S likewise with log u: on the samples this is the barycentric map of the plan (Pooladian and Niles-Weed,
arXiv 2109.12004; Seguy et al., ICLR 2018). Solver: `ot.bregman.sinkhorn_log` of POT, which works with logarithms.
`reg` is relative to the median squared distance, so that it means the same on every task. The entropy blurs the plan
and pulls images towards the mean: a small score is not to be expected at a large `reg`.
"""

from __future__ import annotations

import ot
import torch
from torch import Tensor

from otbench.baselines._two_maps import TwoMaps
from otbench.ops.points import training_points
from otbench.recorded import Recorded
from otbench.solver import Config, Context, Field, Problem, StepInfo, register_baseline

CHUNK = 4096
"""Points mapped at a time: bounds the weight matrix."""


class SinkhornConfig(Config):
    """Parameters of the entropic map."""

    n: int = Field(2000, "sample on each side; time and memory grow as n^2", unit="points", ge=2, le=20_000)
    reg: float = Field(0.05, "strength of the entropy, in units of the median squared distance", gt=0, le=100)
    iterations: int = Field(1000, "upper limit of Sinkhorn iterations", unit="iterations", ge=1)
    tolerance: float = Field(1e-6, "stop at this error of the plan's marginals (2-norm)", gt=0)


class SoftmaxMap(Recorded):
    """x -> softmax-weighted mean of stored points; on flattened points."""

    points: Tensor
    log_scaling: Tensor
    reg: Tensor

    def __init__(self, points: Tensor) -> None:
        """Hold `points`, shape (m, d), all of the same weight as yet."""
        super().__init__()
        self.keeps_rows = len(points)
        self.register_buffer("points", points)
        self.register_buffer("log_scaling", points.new_zeros(len(points)))
        self.register_buffer("reg", points.new_ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return the images of `x`, same shape (n, *shape) and dtype; weights in float64."""
        points, log_scaling, reg = self.points.double(), self.log_scaling.double(), self.reg.double()
        parts = []
        for part in torch.chunk(x.flatten(1).double(), -(-len(x) // CHUNK) or 1):
            weights = torch.softmax(log_scaling - torch.cdist(part, points).square() / reg, 1)
            parts.append(weights @ points)
        return torch.cat(parts).to(x.dtype).reshape(x.shape)


@register_baseline(
    "sinkhorn",
    config=SinkhornConfig,
    reference="Cuturi, Sinkhorn Distances, NeurIPS 2013; Pooladian, Niles-Weed, Entropic estimation of optimal "
    "transport maps, arXiv 2109.12004; Flamary et al., POT, JMLR 22, 2021",
    presets={"smoke": {"n": 300}},
)
class Sinkhorn(TwoMaps[SinkhornConfig, SoftmaxMap]):
    """Entropic plan between two subsamples; unseen points by its softmax extension."""

    def __init__(self, problem: Problem, config: SinkhornConfig, context: Context) -> None:
        """Draw the two subsamples."""
        super().__init__(problem, config, context)
        self._forward = SoftmaxMap(training_points(problem.target, context.generator, config.n))
        self._backward = SoftmaxMap(training_points(problem.source, context.generator, config.n))

    def step(self) -> StepInfo:
        """Run Sinkhorn's iteration in float64 on the device; POT reads the marginal error every ten iterations."""
        x, y = self._backward.points.double(), self._forward.points.double()
        squared = torch.cdist(x, y).square()
        median = squared.median()
        reg = self.config.reg * torch.where(median > 0, median, 1.0)  # 0: most points coincide, any scale will do
        uniform = [torch.full((len(z),), 1 / len(z), dtype=z.dtype, device=z.device) for z in (x, y)]
        plan, log = ot.bregman.sinkhorn_log(
            *uniform,
            squared,
            reg,
            numItermax=self.config.iterations,
            stopThr=self.config.tolerance,
            log=True,
            warn=False,  # the error is reported with the step instead
        )
        self._forward.log_scaling.copy_(log["log_v"])
        self._backward.log_scaling.copy_(log["log_u"])
        for network in (self._forward, self._backward):
            network.reg.copy_(reg)
        return StepInfo((plan * squared).sum() / 2, {"marginal_error": float(log["err"][-1])}, done=True)
