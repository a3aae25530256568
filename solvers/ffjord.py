r"""FFJORD and RNODE: free-form continuous normalising flows, by torchdiffeq.

Sources: Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud, "FFJORD", ICLR 2019 (arXiv 1810.01367); Finlay, Jacobsen,
Nurbekyan, Oberman, "How to train your neural ODE" (RNODE), ICML 2020 (arXiv 2002.02798); and their released code. Data
flow to N(0, I) through `blocks` networks in turn, x' = f(x, t) and l' = tr df/dx for 0 <= t <= end, by maximum
likelihood: the loss is E [|z|^2 / 2 + d/2 log 2 pi - l]. In training the trace is e^T (df/dx) e with one normal
e per point and solve; log densities have the exact trace. Adam with weight decay; the rate is a tenth after `patience`
/ 3 validations without improvement, a hundredth after 2 `patience` / 3, and training ends after `patience`. The maps
use the weights of the best validation.

* `ffjord`: dopri5 with an adaptive step, and a learnt end time (the square of a parameter).
* `rnode`: RK4 with a fixed step to time 1, and two penalties, `kinetic` * int |f|^2 / 2 and `jacobian` *
  int |(df/dx) e|^2.

Maps and densities use dopri5 with `test_tolerance`, absolute and relative. Time is scaled, so that each block is solved
on 0 <= t <= 1. The published parameter counts need the end time and concatsquash layers on all data sets.

Deviations, in all presets:

* Derivatives along e are computed forward through the layers, (df/dx) e rather than e^T (df/dx): the same trace
  estimate, and a penalty of the same mean, without a second backward pass.
* Both parts of the RNODE loss are sums over coordinates; its image code divides both by their number.
* Gradients through the solver's own steps; `adjoint=true` (preset `paper`) integrates the adjoint equation instead.
* Validation has the trace estimate with the same e each time. A problem without validation points has a fixed sample.

Presets smoke, quick and full have smaller networks and looser tolerances, and `schedule=cosine`: the rate follows the
used share of the budget, and validation only chooses the weights. In preset `paper` the number of steps is a guess
(early stopping ends training), and so are all of RNODE's settings, which are not public for tables: FFJORD's networks,
8 RK4 steps, both weights 0.01 as for images.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from otbench.nets.continuous_flow import Flowed, dopri5
from otbench.solver import Field, Preset, register_solver
from otbench.solvers._cnf import CNF, CNFConfig


class FFJORDConfig(CNFConfig):
    """Parameters of FFJORD."""

    atol: float = Field(1e-3, "absolute tolerance in training", gt=0)
    rtol: float = Field(1e-3, "relative tolerance in training", gt=0)


class RNODEConfig(CNFConfig):
    """Parameters of RNODE."""

    rk4_steps: int = Field(4, "RK4 steps of a block in training", unit="steps", ge=1)
    kinetic: float = Field(0.01, "weight of the kinetic energy", ge=0)
    jacobian: float = Field(0.01, "weight of the squared norm of the Jacobian", ge=0)


_OURS: Preset = {"lr": 5e-3, "least_width": 64, "schedule": "cosine", "validate_every": 50}
_SMOKE: Preset = {**_OURS, "steps": 30, "batch_size": 128, "least_width": 32, "lr": 0.02, "test_tolerance": 1e-4}
_FULL: Preset = {**_OURS, "batch_size": 1000, "factor": 4, "lr": 2e-3}
_PAPER: Preset = {
    "steps": 200_000,
    "settings": "auto",
    "optimiser": "adam",
    "validation_points": 10**6,
    "adjoint": True,
}


@register_solver(
    "ffjord",
    config=FFJORDConfig,
    reference="Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud, ICLR 2019, arXiv 1810.01367",
    search={"lr": (1e-3, 3e-3, 1e-2), "optimiser": ("adam", "soap"), "batch_size": (250, 500, 1000)},
    presets={
        "smoke": {**_SMOKE, "atol": 1e-2, "rtol": 1e-2},
        "quick": {**_OURS, "steps": 800},
        "full": {**_FULL, "steps": 4000},
        "paper": {**_PAPER, "atol": 1e-8, "rtol": 1e-6},
    },
)
class FFJORD(CNF[FFJORDConfig]):
    """FFJORD: free-form flow by maximum likelihood, adaptive steps, learnt end time; no transport cost in the loss."""

    learnt_end: ClassVar[bool] = True

    def training_options(self) -> dict[str, object]:
        """Return dopri5 with the tolerances of training."""
        return dopri5(self.config.atol, self.config.rtol)


@register_solver(
    "rnode",
    config=RNODEConfig,
    reference="Finlay, Jacobsen, Nurbekyan, Oberman, ICML 2020, arXiv 2002.02798",
    search={
        "lr": (1e-3, 3e-3, 1e-2),
        "optimiser": ("adam", "soap"),
        "batch_size": (250, 500, 1000),
        "kinetic": (0.01, 0.1, 1.0),
    },
    presets={
        "smoke": _SMOKE,
        "quick": {**_OURS, "steps": 1200},
        "full": {**_FULL, "steps": 14_000, "optimiser": "soap", "lr": 1e-2, "batch_size": 250, "kinetic": 0.1},
        "paper": {**_PAPER, "rk4_steps": 8},
    },
)
class RNODE(CNF[RNODEConfig]):
    """RNODE: free-form flow with penalties on kinetic energy and Jacobian, for straight paths and few RK4 steps."""

    penalised: ClassVar[bool] = True

    def training_options(self) -> dict[str, object]:
        """Return RK4 with a fixed step."""
        return {"method": "rk4", "options": {"step_size": 1 / self.config.rk4_steps}}

    def penalise(self, nll: Tensor, flowed: Flowed) -> Tensor:
        """Return the negative log-likelihood plus both penalties, shape ()."""
        return nll + self.config.kinetic * flowed.kinetic.mean() + self.config.jacobian * flowed.jacobian.mean()
