r"""LS: the dual problem of regularised transport, its constraint turned into a penalty.

Seguy, Damodaran, Flamary, Courty, Rolet & Blondel, "Large-scale optimal transport and mapping estimation", ICLR 2018
(arXiv 1711.02283), first stage, as implemented by Korotin et al., "Do neural optimal transport solvers work?",
NeurIPS 2021 (arXiv 2106.01954). Both potentials are free networks, trained together:

$$\min_{\psi, \bar\psi} \; E_\mu \psi(x) + E_\nu \bar\psi(y) + E_{\mu \times \nu} R(v(x, y)), \qquad
  v(x, y) = \langle x, y \rangle - \psi(x) - \bar\psi(y),$$

with $R(v) = \max(v, 0)^2 / (4 \epsilon)$ (`regulariser=l2`) or $R(v) = \epsilon \exp(v / \epsilon)$
(`regulariser=entropic`). Maps: gradients of the potentials; the second stage of the paper, a network fitted to the
barycentric map, is left out, as in the benchmark.

The minimiser is that of the regularised problem, so the maps are biased for every epsilon > 0, the more the higher the
dimension. A small epsilon asks for many pairs: only those with v > 0, or near it, are felt. The exponential overflows
where v exceeds about 88 epsilon in float32; then the run ends as diverged, as it would in the authors' code.

The derivative $p = R'(v)$ is the density of the plan with respect to $\mu \times \nu$: the loss is stationary where
that plan has the marginals mu and nu, as far as the networks can tell.

Deviations from the released code, all of them parameters (`paper` sets them back):
    pairs: the penalty's mean over all pairs of a batch, one matrix product, instead of over the B pairs of points that
        stand at the same place in both batches; the same expectation, with less variance.
    epsilon: 3e-5 instead of 0.03 with `l2`: less bias, now that enough pairs are felt.
    networks: softplus, with |x|^2/2 built in (`strong_convexity=1`): no pre-training is needed.
    learning rate: short warm-up and cosine decay, instead of a constant rate.
    maps: from a weighted average of the iterates, instead of the last ones.
    data: batches walk through the pool in shuffled epochs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from otbench.nets.potential import Potential
from otbench.solver import Context, Field, Problem, StepInfo, register_solver
from otbench.solvers._paired import PAPER, FreeConfig, PairedPotentials


class LSConfig(FreeConfig):
    """Parameters of LS."""

    batch_size: int = Field(512, "points per side and batch", unit="points", ge=2)
    regulariser: Literal["l2", "entropic"] = Field("l2", "penalty on a violated constraint: square, or exponential")
    epsilon: float | None = Field(
        None, "strength of the regulariser; left out: 3e-5 with l2, 0.03 with entropic", unit="data units squared", gt=0
    )
    pairs: Literal["all", "batch"] = Field("all", "pairs in the penalty: all B^2, or the authors' B")


_EPSILON = {"l2": 3e-5, "entropic": 0.03}


@register_solver(
    "ls",
    config=LSConfig,
    reference="Seguy et al., ICLR 2018, arXiv 1711.02283; Korotin et al., NeurIPS 2021, arXiv 2106.01954",
    search={
        "lr": (1e-3, 3e-3, 1e-2),
        "optimiser": ("adam", "soap"),
        "batch_size": (512, 1024),
        "epsilon": (1e-5, 3e-5, 1e-4, 1e-3),
    },
    presets={
        "smoke": {"steps": 100, "batch_size": 256, "epsilon": 1e-3},
        "quick": {"steps": 2000},
        "full": {"steps": 66_000, "optimiser": "soap", "lr": 1e-2, "batch_size": 1024, "epsilon": 1e-5},
        "paper": {**PAPER, "steps": 100_001, "regulariser": "l2", "epsilon": 0.03, "pairs": "batch"},
    },
)
class LS(PairedPotentials[LSConfig]):
    """LS: the regularised dual over two free potentials, its constraint turned into a penalty.

    A step waits for the device only where SOAP does.

    Attributes:
        epsilon: strength of the regulariser that is used, data units squared.
    """

    def __init__(self, problem: Problem, config: LSConfig, context: Context) -> None:
        """Build both potentials."""
        super().__init__(problem, config, context)
        self.epsilon = config.epsilon or _EPSILON[config.regulariser]

    def update(self) -> StepInfo:
        """Take one step on both potentials, on a new pair of batches."""
        x, y = self.source.next().x.flatten(1), self.target.next().x.flatten(1)
        loss, scalars = self.loss(self.psi, self.psi_bar, x, y)
        self.descend(loss)
        return StepInfo(loss.detach(), scalars)

    def loss(
        self, psi: Potential, psi_bar: Potential, x: Tensor, y: Tensor
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the loss, shape (), at independent `x` and `y`, each (n, d).

        Its derivative by psi(x_i) is (1 - mean_j p_ij) / n, and likewise by psi_bar(y_j), with p = R'(v): no graph over
        the pairs is needed.

        Returns:
            The loss, and the numbers to report: the penalty in it, and the mass of the plan, mean p.
        """
        config = self.config
        at_x, at_y = psi(x), psi_bar(y)
        with torch.no_grad():
            if config.pairs == "all":
                violation = torch.addmm(at_y, x, y.t(), beta=-1).sub_(at_x.unsqueeze(1))
            else:
                violation = (x * y).sum(1).sub_(at_x).sub_(at_y)
            if config.regulariser == "l2":
                density = violation.relu_().div_(2 * self.epsilon)
                penalty = density.square().mean() * self.epsilon
            else:
                density = violation.div_(self.epsilon).exp_()
                penalty = density.mean() * self.epsilon
            by_x, by_y = (density.mean(1), density.mean(0)) if config.pairs == "all" else (density, density)
        slope = (at_x * (1 - by_x)).mean() + (at_y * (1 - by_y)).mean()
        value = at_x.detach().mean() + at_y.detach().mean() + penalty
        return slope + (value - slope.detach()), {"penalty": penalty, "mass": by_x.mean()}
