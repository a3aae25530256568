r"""HJ-PINN: NCF with the residual of the partial differential equation in the place of the implicit formula.

The ablation of Park, Liu, Zhou, Osher, "Neural Hamilton-Jacobi Characteristic Flows for Optimal Transport", ICLR 2026
(arXiv 2510.01153), sec. 6.1: L_HJ is the mean square, over the same collocation points, of

    u_t(x, t) + H(grad u(x, t)),

and all else is NCF's, deviations and parameters included (`otbench.solvers.ncf`). The residual alone does not single
out the viscosity solution, whose characteristics do not cross.
"""

from __future__ import annotations

from torch import Tensor

from otbench.solver import register_solver
from otbench.solvers.ncf import NCF, PRESETS, NCFConfig


@register_solver(
    "hjpinn",
    config=NCFConfig,
    reference="Park, Liu, Zhou, Osher, ICLR 2026, arXiv 2510.01153, sec. 6.1",
    search={
        "lr": (1e-3, 2e-3, 5e-3),
        "optimiser": ("adam", "soap"),
        "mmd_batch": (500, 1000, 2000),
        "hj_weight": (0.01, 0.05, 0.2),
    },
    presets=PRESETS,
)
class HJPINN(NCF):
    """HJ-PINN: NCF with the residual of the Hamilton-Jacobi equation in the place of the implicit formula."""

    def residual(self, where: Tensor, when: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        """Return u_t + H(grad u) at collocation points, shape (k,), from the gradient in (x, t)."""
        return gradient[:, -1] + self.problem.cost.hamiltonian(gradient[:, : self.problem.dim])
