r"""MM-v1: maximin correlation with the conjugate solved to the end, sample by sample.

Taghvaei & Jalali, "2-Wasserstein approximation via restricted convex potentials", 2019 (arXiv 1902.07197), as
implemented by Korotin et al., "Do neural optimal transport solvers work?", NeurIPS 2021 (arXiv 2106.01954). With psi
convex,

$$\min_\psi \; E_\mu \psi(x) - E_\nu \psi(y^*(y)), \qquad
y^*(y) = \arg\max_w \langle w, y \rangle - \psi(w), \quad \text{that is} \quad \nabla\psi(y^*) = y;$$

y* is held fixed when the loss is differentiated (envelope theorem). The inverse map has a potential and a problem of
its own, with the roles of the two measures exchanged: two trainings side by side. Maps: gradients of the potentials.

Deviations from the released code, all of them parameters but the last (`paper` sets them back):
    inner solver: per-sample Anderson acceleration, started from the last y* of the same pool point (elsewhere from y),
        instead of Adam on the whole batch from a uniform point of the unit cube.
    inner tolerance: in the preset `full` it falls with the rate, and a sample takes at most 10 iterations a step. One
        that is not done goes on the next time: fresh batches serve 8 steps each, and points of a pool keep their
        solutions.
    optimiser: SOAP in the preset `full`, Adam elsewhere.
    learning rate: short warm-up and cosine decay, instead of a constant rate.
    maps: from a weighted average of the iterates. The released code keeps the checkpoint with the lowest error against
        the ground truth, which no solver here can see.
    data: batches walk through the pool in shuffled epochs.

Where its error comes from, by single runs on `w2bench[dim=2]` (one thread of a busy machine, seed 100, 15 processor
seconds, no records kept; forward and backward UVP in %). With Adam, `lr=3e-3` and exact inner solves
395 steps end at 1.9 and 2.3: most of the time goes into the inner solves of two trainings. With the same settings SOAP
alone ends at 3.0 and 2.8, as its steps cost more. With inexact solves on batches that serve 8 steps, 609 steps of Adam
end at 1.7 and 1.9, and 531 of SOAP at `lr=1e-2`, which is `full`, at 0.87 and 0.74.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from otbench.nets.potential import Potential
from otbench.ops.conjugate import solve_conjugate, solve_conjugate_paper
from otbench.ops.inner import InnerSolver
from otbench.samplers import Repeated
from otbench.solver import Context, Field, Problem, StepInfo, register_solver
from otbench.solvers._paired import PAPER, PairedConfig, PairedPotentials


class MMv1Config(PairedConfig):
    """Parameters of MM-v1."""

    inner: Literal["anderson", "paper"] = Field("anderson", "inner solver: ours, or the authors' Adam")
    tol: float = Field(1e-3, "inner tolerance on a sample's residual (paper: on their mean)", unit="data units", gt=0)
    tol_peak: float = Field(1e-3, "tolerance at the peak of the rate; it falls to tol with it", unit="data units", gt=0)
    max_inner: int = Field(50, "most inner iterations", unit="iterations", ge=1)
    steps_per_batch: int = Field(1, "steps on one batch; 1 where pools' solutions are kept", unit="steps", ge=1)
    warm_start: bool = Field(True, "start from the last solution of the same pool point (inner=anderson only)")


@register_solver(
    "mmv1",
    config=MMv1Config,
    reference="Taghvaei, Jalali, 2019, arXiv 1902.07197; Korotin et al., NeurIPS 2021, arXiv 2106.01954",
    search={"lr": (3e-3, 1e-2, 2e-2), "optimiser": ("adam", "soap"), "batch_size": (256, 512, 1024)},
    presets={
        "smoke": {"steps": 30, "batch_size": 256, "pretraining": 200},
        "quick": {"steps": 600},
        "full": {
            "steps": 11_000,
            "optimiser": "soap",
            "lr": 1e-2,
            "steps_per_batch": 8,
            "tol_peak": 3e-2,
            "max_inner": 10,
        },
        "paper": {**PAPER, "steps": 20_001, "inner": "paper", "max_inner": 1000, "warm_start": False},
    },
)
class MMv1(PairedPotentials[MMv1Config]):
    """MM-v1: the dual over convex potentials with conjugates solved to the end, one training per direction.

    A step asks the host once per inner iteration (the tolerance test) and nowhere else.

    Attributes:
        batches: batches of the source, each as often as it serves.
        batches_bar: those of the target.
        conjugate: finds the maximisers of psi's conjugate, at target points.
        conjugate_bar: finds those of psi_bar's, at source points.
    """

    convex = True
    directions_trained: ClassVar[int] = 2

    def __init__(self, problem: Problem, config: MMv1Config, context: Context) -> None:
        """Build and pre-train both potentials."""
        super().__init__(problem, config, context)
        # a pool's points remember their solutions: nothing is gained by using a batch again
        kept = config.warm_start and problem.source.pool is not None and problem.target.pool is not None
        self.batches, self.batches_bar = (
            Repeated(sampler, 1 if kept else config.steps_per_batch) for sampler in (self.source, self.target)
        )
        self.conjugate, self.conjugate_bar = (
            InnerSolver(
                solve_conjugate,
                solve_conjugate_paper if config.inner == "paper" else None,
                pool=side.pool.flatten(1) if config.warm_start and side.pool is not None else None,
                generator=context.generator,
                tol=config.tol,
                max_iter=config.max_inner,
            )
            for side in (problem.target, problem.source)
        )

    def update(self) -> StepInfo:
        """Solve both conjugates on a new pair of batches and take one step on both potentials."""
        source, target = self.batches.next(), self.batches_bar.next()
        x, y = source.x.flatten(1), target.x.flatten(1)
        config = self.config
        rate = self.optimiser.param_groups[0]["lr"] / config.lr
        how = {"tol": max(config.tol, config.tol_peak * rate), "again": config.warm_start and self.batches.again}
        at_y = self.conjugate(self.psi.gradient, y, target.index, **how)
        at_x = self.conjugate_bar(self.psi_bar.gradient, x, source.index, **how)
        loss = self.loss(self.psi, x, at_y.y) + self.loss(self.psi_bar, y, at_x.y)
        self.descend(loss)
        scalars: dict[str, Tensor | float] = {
            "inner_iterations": float(max(at_y.iterations, at_x.iterations)),
            "unconverged": (at_y.unconverged + at_x.unconverged) / 2,
        }
        return StepInfo(loss.detach(), scalars)

    @staticmethod
    def loss(potential: Potential, here: Tensor, solved: Tensor) -> Tensor:
        """Return the mean of the potential at `here` minus that at the conjugate's `solved` points, each (n, d)."""
        value = potential(torch.cat((here, solved)))
        return value[: len(here)].mean() - value[len(here) :].mean()
