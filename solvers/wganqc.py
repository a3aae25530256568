r"""WGAN-QC: a potential fitted, batch by batch, to the exact potentials of the discrete problem between two batches.

Liu, Gu & Samaras, "Wasserstein GAN with Quadratic Transport Cost", ICCV 2019, as a solver of Wasserstein-2 problems by
Korotin et al., "Do neural optimal transport solvers work?", NeurIPS 2021 (arXiv 2106.01954). One function
$u = \psi - |\cdot|^2/2$ plays both potentials. For batches of B points x_j and y_i, let r, f solve the linear program

$$\max_{r, f} \; \bar r - \bar f \quad \text{subject to} \quad r_i - f_j \le |y_i - x_j|^2 / 2, \qquad
  \sum_i r_i + \sum_j f_j = 0,$$

and let y_{i(j)} be the partner of x_j in its optimal plan. Then psi takes one step on

$$\tfrac12 \big( \overline{u(y)} - \bar r \big)^2 + \tfrac1{2B} \sum_j (u(x_j) - f_j)^2
  + \frac{\gamma}{2B} \sum_j \big( |\nabla u(x_j)| - |y_{i(j)} - x_j| \big)^2 .$$

This is the authors' K = 1, with the factors of their regulariser multiplied out. The inverse map has a potential and a
loss of its own, the two batches exchanged. Maps: gradients of the potentials.

The target is that of a pair of small samples, not of the measures: with few points in many dimensions r and f over-fit
each batch, and the map is biased; the published ones on Gaussian pairs are worse than the identity from d = 4 on
(results/published/gaussian.csv). The program has many solutions, and the authors take the one that their solver ends
at; here it is the centre of them all (`otbench.ops.dual_lp`), which does not depend on the solver.

One program serves both directions: exchanging the batches changes its solution to r' = -f, f' = -r and transposes the
plan. The authors solve it twice.

Deviations from the released code, all of them parameters (`paper` sets them back, but for the exact inner solver):
    inner solver: POT's network simplex instead of a general solver of linear programs. Both are exact.
    batch size: larger, since an exact program is cheap: less bias.
    networks: softplus, with |x|^2/2 built in (`strong_convexity=1`): no pre-training is needed.
    learning rate: short warm-up and cosine decay, instead of a constant rate.
    maps: from a weighted average of the iterates, instead of the last ones.
    data: batches walk through the pool in shuffled epochs.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from otbench.nets.potential import Potential
from otbench.ops.dual_lp import DualSolution, solve_dual_general, solve_dual_simplex
from otbench.solver import Field, StepInfo, register_solver
from otbench.solvers._paired import PAPER, FreeConfig, PairedPotentials


class WGANQCConfig(FreeConfig):
    """Parameters of WGAN-QC."""

    batch_size: int = Field(
        128, "points per side and batch; the linear program's time grows faster than its square", unit="points", ge=2
    )
    gamma: float = Field(0.1, "weight of the term that compares |grad u| with the distance to the partner", ge=0)
    inner: Literal["simplex", "highs"] = Field("simplex", "exact linear program: network simplex, or general solver")


@register_solver(
    "wganqc",
    config=WGANQCConfig,
    reference="Liu, Gu, Samaras, ICCV 2019; Korotin et al., NeurIPS 2021, arXiv 2106.01954",
    search={
        "lr": (1e-3, 3e-3, 1e-2),
        "optimiser": ("adam", "soap"),
        "batch_size": (64, 128, 256),
        "gamma": (0.01, 0.1, 1.0),
    },
    presets={
        "smoke": {"steps": 100, "batch_size": 64},
        "quick": {"steps": 1500},
        "full": {"steps": 20_000, "batch_size": 256},
        "paper": {**PAPER, "steps": 100_001, "batch_size": 64, "gamma": 0.1},
    },
)
class WGANQC(PairedPotentials[WGANQCConfig]):
    """WGAN-QC: potentials fitted, batch by batch, to exact discrete ones, one training per direction.

    A step waits for the host once, for the linear program, and where SOAP does.
    """

    directions_trained: ClassVar[int] = 2

    def update(self) -> StepInfo:
        """Solve the program of a new pair of batches and take one step on both potentials."""
        x, y = self.source.next().x.flatten(1), self.target.next().x.flatten(1)
        distance = torch.cdist(y, x, compute_mode="donot_use_mm_for_euclid_dist")
        found = self.solve(distance.square().div_(2))
        apart_x = torch.linalg.vector_norm(x - y[found.row_of_column], dim=1)
        apart_y = torch.linalg.vector_norm(y - x[found.column_of_row], dim=1)
        high, low = found.rows.mean(), found.columns.mean()
        loss = self.loss(self.psi, x, y, low=found.columns, mean_high=high, apart=apart_x)
        loss = loss + self.loss(self.psi_bar, y, x, low=-found.rows, mean_high=-low, apart=apart_y)
        self.descend(loss)
        return StepInfo(loss.detach(), {"batch_cost": high - low})

    def solve(self, cost: Tensor) -> DualSolution:
        """Return potentials and partners for a cost |y_i - x_j|^2/2, shape (B, B), rows y; on the host."""
        return (solve_dual_simplex if self.config.inner == "simplex" else solve_dual_general)(cost)

    def loss(
        self, potential: Potential, here: Tensor, there: Tensor, *, low: Tensor, mean_high: Tensor, apart: Tensor
    ) -> Tensor:
        """Return the loss of one direction, shape ().

        Args:
            potential: psi, whose gradient moves `here` to `there`.
            here: points to move, shape (n, d).
            there: points of the other side, shape (m, d).
            low: f at `here`, shape (n,).
            mean_high: the mean of r at `there`, shape ().
            apart: distance of each point of `here` from its partner, data units, shape (n,).
        """
        value, gradient = potential.value_and_gradient(torch.cat((here, there)))
        n = len(here)
        u, u_there = value[:n] - here.square().sum(1) / 2, value[n:] - there.square().sum(1) / 2
        slope = torch.linalg.vector_norm(gradient[:n] - here, dim=1)
        fit = (u_there.mean() - mean_high).square() + (u - low).square().mean()
        return torch.add(fit, (slope - apart).square().mean(), alpha=self.config.gamma) / 2
