r"""OT-Flow: a continuous normalising flow along the gradient of a potential, with transport and HJB penalties.

Source: Onken, Wu Fung, Li, Ruthotto, "OT-Flow: Fast and Accurate Continuous Normalizing Flows via Optimal Transport",
AAAI 2021 (arXiv 2006.00104), and its released code. Data flow to N(0, I) along x' = -grad_x Phi(x, t), 0 <= t <= 1,
together with three integrals that start at 0:

    l' = -tr Hess_x Phi,    L' = |x'|^2 / 2,    R' = | -Phi_t + |grad_x Phi|^2 / 2 |.

The loss is E L + alpha_c E [|z|^2 / 2 + d/2 log 2 pi - l] + alpha_r E R, with z = x(1) and l, L, R at t = 1: transport
cost, negative log-likelihood, and the error of the Hamilton-Jacobi equation. RK4 with `nt` steps; gradient and trace in
closed form (otbench.nets.otflow_potential). S (data to normal) integrates t from 0 to 1, T (normal to data) from 1 to
0, each with 4 `nt_test` gradients. The trade of penalties biases the map unless alpha_c is infinite.

All parameters are clamped to [-1.5, 1.5] before each step. The validation loss is watched: the rate is divided by
`drop` when `patience` validations in a row bring nothing better; after the third drop the next such stall ends
training. The maps use the weights of the best validation.

Preset `paper` has the published values of the data set whose dimension the problem has (`settings=auto`), with its
number of iterations. Deviations from the paper, all parameters of this file, in the other presets:

* `schedule=cosine`: the rate follows the used share of the budget; validation only chooses the weights.
* `start=identity`: w = 0, and a tenth of A. The published w = 1 makes Phi convex, so that the flow contracts whatever
  the data; data that are narrow in many dimensions (BSDS300) first drive K_0 to 0, where w has no derivative, and
  training stays at the identity for thousands of steps.
* Smaller networks and batches, fewer time steps, and at most `validation_points` points at a validation.
* Where a target sets no validation points aside, a fixed sample of it takes their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from otbench.config import settle
from otbench.nets.otflow_potential import OTFlowPotential
from otbench.nets.start import start_of
from otbench.nets.watch import Watch
from otbench.ops.descent import descend, set_rates
from otbench.ops.optimisers import OptimiserName, build_optimiser
from otbench.ops.points import held_out
from otbench.ops.rk4 import rk4
from otbench.ops.schedule import warmup_cosine
from otbench.samplers import EpochSampler
from otbench.solver import Config, Context, Field, Problem, StepInfo, Transport, register_solver
from otbench.solvers._flow import Flow, RowName, log_normal, row_named

CLAMP = 1.5
"""Largest size of a parameter at the start of a step."""
DROPS = 3
"""Drops of the rate; the stall after the last ends training."""
SHARE = 0.1
"""Of the published A, what `start=identity` begins with."""
CHUNK = 8192
"""Points of a validation that are carried at a time."""


class OTFlowConfig(Config):
    """Parameters of OT-Flow; those left at none have the value of the row `settings`."""

    settings: RowName = Field("ours", "row of settings: ours, a published one by name, or auto: by dimension")
    optimiser: OptimiserName = Field("adam", "Adam, or SOAP: Adam in Shampoo's eigenbasis")
    width: int | None = Field(None, "width of the network", ge=1)
    batch_size: int | None = Field(None, "samples per step", unit="samples", ge=1)
    lr: float | None = Field(None, "learning rate, at its peak", gt=0)
    alpha_c: float | None = Field(None, "weight of the negative log-likelihood", gt=0)
    alpha_r: float | None = Field(None, "weight of the HJB penalty", ge=0)
    nt: int | None = Field(None, "RK4 steps in training", unit="steps", ge=1)
    nt_validate: int | None = Field(None, "RK4 steps in validation", unit="steps", ge=1)
    nt_test: int | None = Field(None, "RK4 steps of maps and densities", unit="steps", ge=1)
    validate_every: int | None = Field(None, "steps between validations", unit="steps", ge=1)
    patience: int | None = Field(None, "validations without improvement until the rate drops", ge=1)
    drop: float | None = Field(None, "divisor of the rate at a drop", gt=1)
    iterations: int | None = Field(None, "steps after which training ends in any case", unit="steps", ge=1)
    start: Literal["identity", "published"] = Field("identity", "first map: the identity, nearly, or a contraction")
    schedule: Literal["plateau", "cosine"] = Field("plateau", "rate: by validation, or cosine over the budget")
    validation_points: int = Field(2000, "most points of a validation", unit="points", ge=1)


@dataclass(frozen=True)
class _Settings:
    width: int
    batch_size: int
    lr: float
    alpha_c: float
    alpha_r: float
    nt: int
    nt_validate: int
    nt_test: int
    validate_every: int
    patience: int
    drop: float
    iterations: int | None


SETTINGS = {
    "ours": _Settings(64, 128, 0.02, 100, 5, 4, 6, 12, 20, 15, 10, None),
    "power": _Settings(128, 10_000, 0.03, 500, 5, 10, 22, 24, 30, 20, 10, 36_000),
    "gas": _Settings(350, 2000, 0.01, 1200, 40, 10, 28, 30, 50, 20, 10, 60_000),
    "hepmass": _Settings(256, 2000, 0.02, 500, 40, 12, 24, 24, 50, 15, 10, 40_000),
    "miniboone": _Settings(256, 2000, 0.02, 100, 15, 6, 10, 18, 20, 15, 10, 8000),
    "bsds300": _Settings(512, 300, 0.001, 2000, 800, 14, 30, 40, 100, 15, 3.3, 120_000),
}
"""Our settings, and the published ones (the released code's README and set-up notes)."""


@register_solver(
    "otflow",
    config=OTFlowConfig,
    reference="Onken, Wu Fung, Li, Ruthotto, AAAI 2021, arXiv 2006.00104",
    search={
        "lr": (0.01, 0.02, 0.05),
        "optimiser": ("adam", "soap"),
        "batch_size": (128, 512, 1000),
        "alpha_c": (100.0, 300.0, 1000.0),
    },
    presets={
        "smoke": {"steps": 40, "width": 32, "batch_size": 128, "lr": 0.03, "schedule": "cosine"},
        "quick": {"steps": 800, "schedule": "cosine"},
        "full": {"steps": 11_000, "alpha_c": 100.0, "batch_size": 128, "lr": 0.02, "schedule": "cosine"},
        "paper": {
            "steps": 120_000,
            "settings": "auto",
            "optimiser": "adam",
            "start": "published",
            "validation_points": 10**6,
        },
    },
)
class OTFlow(Flow[OTFlowConfig]):
    """OT-Flow: maximum likelihood along straightened characteristics of one potential; trained on the target alone.

    Attributes:
        settings: the values that this run uses.
        potential: Phi, the network that is trained.
        watch: the best weights so far, and the rule for the learning rate.
        validate_every: steps between validations.
    """

    settings: _Settings

    def __init__(self, problem: Problem, config: OTFlowConfig, context: Context) -> None:
        """Build the network and the optimiser, and set validation points aside.

        Raises:
            UsageError: `settings=auto` in a dimension without published settings.
        """
        super().__init__(problem, config, context)
        self.settings = settle(SETTINGS[row_named(config.settings, problem.dim, owner="otflow")], config)
        self.validate_every = self.settings.validate_every
        self.potential = self.build_potential()
        self.optimiser = build_optimiser(config.optimiser, self.potential.parameters(), lr=self.settings.lr)
        self.watch = Watch(self.potential, waits=(self.settings.patience,) * (DROPS + 1), restart=True)
        self.steps_done = torch.zeros((), dtype=torch.int64)  # on the host; a tensor, so that it is saved
        self.target = EpochSampler(problem.target, self.settings.batch_size, context.generator)
        self.held_out = held_out(problem.target, config.validation_points, context.generator)

    def build_potential(self) -> nn.Module:
        """Return Phi with `gradient` and `gradient_and_trace`; override to put another potential in."""
        potential = OTFlowPotential(
            self.problem.dim,
            width=self.settings.width,
            **start_of(self.context),
        )
        if self.config.start == "identity":
            with torch.no_grad():
                potential.readout.zero_()
                potential.quadratic.mul_(SHARE)
        return potential

    def step(self) -> StepInfo:
        """Do one step on a new batch; it waits for the device only where SOAP does."""
        settings = self.settings
        with torch.no_grad():
            for parameter in self.potential.parameters():
                parameter.clamp_(-CLAMP, CLAMP)
        loss, nll, cost, residual = self.losses(self.target.next().x, settings.nt)
        set_rates(self.optimiser, settings.lr * self._rate())
        descend(self.optimiser, loss)
        self.steps_done += 1
        self.function_evaluations = 4 * settings.nt * int(self.steps_done)
        scalars = {"nll": nll.detach(), "transport": cost.detach(), "hjb": residual.detach()}
        return StepInfo(loss.detach(), scalars, done=int(self.steps_done) == settings.iterations)

    def _rate(self) -> float:
        """Return the learning rate as a share of the peak."""
        if self.config.schedule == "cosine":
            return warmup_cosine(self.context.progress(), end=0.01)
        return float(self.settings.drop**-self.watch.drops)

    def losses(self, y: Tensor, nt: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the loss and its parts C, L, R, each a mean of shape (), for data `y` of shape (n, d)."""
        z, integrals = integrate_with_costs(self.potential, y, nt)
        log_det, cost, residual = integrals.mean(1)
        nll = -log_normal(z).mean() - log_det
        return cost + self.settings.alpha_c * nll + self.settings.alpha_r * residual, nll, cost, residual

    @torch.no_grad()
    def validate(self) -> StepInfo:
        """Compute the loss on the points set aside; done when the fourth stall has come (`schedule=plateau`)."""
        total = 0.0
        for part in self.held_out.split(CHUNK):  # type: ignore[no-untyped-call]
            total += float(self.losses(part, self.settings.nt_validate)[0]) * len(part) / len(self.held_out)
        self.watch.look(total)
        return StepInfo(total, done=self.watch.done and self.config.schedule == "plateau")

    def transport(self) -> OTFlowMaps:
        """Return the flow of the best validation, both ways."""
        return OTFlowMaps(self.watch.module, steps=self.settings.nt_test)

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take over `state`, and the count that follows from it."""
        super().load_state_dict(state)
        self.function_evaluations = 4 * self.settings.nt * int(self.steps_done)


class OTFlowMaps(Transport):
    """The flow as two maps, its velocity, and the density of its image of the normal."""

    differentiable = True

    def __init__(self, potential: nn.Module, *, steps: int) -> None:
        """Hold Phi and the number of RK4 steps."""
        super().__init__()
        self.potential, self.steps = potential, steps

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return T(x), normal to data, shape of `x` (n, d)."""
        return integrate(self.potential, x, 1.0, 0.0, self.steps)

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return S(y), data to normal, shape of `y` (n, d)."""
        return integrate(self.potential, y, 0.0, 1.0, self.steps)

    def log_prob(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return log densities of T#source at `y`, shape (n,): the normal's at S(y), plus log |det dS|."""
        z, integrals = integrate_with_costs(self.potential, y, self.steps)
        return log_normal(z) + integrals[0]

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """Return the velocity at `x`, shape (n, d), and time `t`, which is 0 at the source and 1 at the target."""
        return -_velocity(self.potential, x, 1 - t)

    def interpolate(self, x: Tensor, t: float) -> Tensor:
        """Return where the points that start at `x`, shape (n, d), are at time `t`."""
        return integrate(self.potential, x, 1.0, 1 - t, self.steps)


def integrate(potential: nn.Module, x: Tensor, start: float, end: float, steps: int) -> Tensor:
    """Return where x' = -grad_x Phi carries `x`, shape (n, d), from time `start` to `end`, by RK4."""
    return rk4(lambda x, t: (_velocity(potential, x, t),), (x,), start, end, steps)[0]


def integrate_with_costs(potential: nn.Module, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return x(1), shape (n, d), and the integrals l, L, R from 0 to 1, shape (3, n), by RK4."""
    moved, total = rk4(lambda x, t: _rates(potential, x, t), (x, x.new_zeros((3, len(x)))), 0.0, 1.0, steps)
    return moved, total


def _velocity(potential: nn.Module, x: Tensor, t: float) -> Tensor:
    return -potential.gradient(x, t)[:, :-1]  # type: ignore[operator, no-any-return]


def _rates(potential: nn.Module, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Return x', shape (n, d), and l', L', R', shape (3, n)."""
    gradient, trace = potential.gradient_and_trace(x, t)  # type: ignore[operator]
    kinetic = gradient[:, :-1].square().sum(1) / 2
    return -gradient[:, :-1], torch.stack((-trace, kinetic, (kinetic - gradient[:, -1]).abs()))
