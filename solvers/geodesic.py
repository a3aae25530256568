r"""Geodesic: whole paths of mass against a critic, then the velocity along them; for any Lagrangian.

Source: Liu and Chen, "Neural solver for Wasserstein geodesics and optimal transport dynamics" (arXiv 2602.22003). The
dynamic problem is to move mu to nu along paths G(x, .), G(x, 0) = x, of least mean action. Phase 1 is its saddle
problem with a critic f for the end of the paths,

$$\sup_f \inf_G \; E_\mu \int_0^1 L(G(x, t), \partial_t G(x, t)) \, dt - E_\mu f(G(x, 1)) + E_\nu f(y) ,$$

and phase 2 finds one velocity of points and time by regression on the paths that phase 1 left,

$$\min_v \; E_{\mu, t} \, |v(G(x, t), t) - \partial_t G(x, t)|^2 , \qquad t \sim U[0, 1] .$$

T(x) = G(x, 1), and `interpolate(x, t)` is G(x, t). S integrates v from the target back to the source, with `ode_steps`
steps of RK4; `velocity(x, t)` is v. Before phase 2 begins, v = 0 and S is the identity. The critic only serves
training.

A step of phase 1 takes `inner` updates of the paths, then one of the critic, each on new points; a step of phase 2
takes `inner` updates of v. Phase 2 has the share `regression` of the budget at its end.

Paths are G(x, t) = x + t F(x) + t (1 - t) sum_k c_k(x) (2 t - 1)^k, k < `bends`, with one network for F and all c_k: a
path and its velocity at all times are one evaluation, and polynomials of time are integrated exactly by few nodes.
Where the Lagrangian depends on the velocity alone (the quadratic cost, powers), straight lines are optimal and `bends`
is 0 unless it is given: phase 1 is then the loop of `not`.

Lagrangians are those of the problem's cost: |v|^2 / 2; sum_i |v_i|^p / p (`convex[cost=power]`); and
|v|^2 / 2 + omega^2 |x|^2 / 2 (`gaussian[omega=2]`), for which the paths are known in closed form
(`otbench.problem.HarmonicCost`).

Classes are ignored: within one set of images (`mnist[pair=transfer]`) both measures are the same to it; one digit
becomes another with `mnist[pair=transfer,digit=3]`.

Failings: the two networks of phase 1 follow each other and the loss says little; nothing in phase 1 keeps paths from
crossing, and where they do v is the mean of their velocities, so that S and T do not belong together.

Single short runs with the values of preset quick, run seed 100, steps as given, no records kept (UVP forward /
backward, UVP of X_1/2, relative error of v at t = 1/2 along exact paths, in %; the first two on points that were not
standardised):

* Gaussian pair 100, d = 8, 200 steps: 0.039 / 0.053, 0.010, 11. With `omega=1`, d = 2, 600 steps: 0.015 / 0.011, 0.003,
  3.1.
* `convex[source=mixture,dim=10,pair=100]`, a mixture of Gaussians in ten dimensions under a curved map, 400 steps:
  8.3 / 7.4, 2.2, and 42 over all times.

The paper's networks and settings are not known to us; this is a reconstruction from its abstract and a summary. What is
ours: the polynomials in time, instead of a network that is told it; the critic is a free DenseICNN with a higher rate
than the paths, as in `not`; weight decay that falls with the rate; a short warm-up and cosine decay in each phase;
averaged weights. In preset `paper` all values are guesses: plain MLPs, Adam with 1e-4 (v: 1e-3), 10 updates of the
paths to one of the critic, constant rates, and as many updates of v as of the paths.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from otbench.nets.average import Averaged
from otbench.nets.dense_icnn import DenseICNN
from otbench.nets.mlp import MLP, MLPPotential, mlp_width
from otbench.nets.start import start_of
from otbench.ops.descent import descend, set_rates
from otbench.ops.optimisers import OptimiserName, build_optimiser
from otbench.ops.rk4 import rk4
from otbench.ops.schedule import warmup_cosine
from otbench.samplers import EpochSampler
from otbench.solver import (
    Config,
    Context,
    Field,
    No,
    Problem,
    Solver,
    StepInfo,
    Support,
    Transport,
    Yes,
    register_solver,
)

_BENDS = 3
"""Polynomials of curved paths."""
_NODES = 6
"""Times at which the Lagrangian of curved paths is evaluated: exact to degree 11."""


class GeodesicConfig(Config):
    """Parameters of the geodesic solver."""

    optimiser: OptimiserName = Field("adam", "Adam, or SOAP: Adam in Shampoo's eigenbasis")
    lr: float = Field(3e-3, "learning rate of the paths, at its peak", gt=0)
    critic_rate: float = Field(2.0, "learning rate of the critic, as a multiple of the paths'", gt=0)
    velocity_lr: float = Field(3e-3, "learning rate of the velocity, at its peak", gt=0)
    lr_end: float = Field(0.0, "last rates, as a share of the peak; 1 = constant rates", ge=0, le=1)
    warmup: float = Field(0.02, "share of a phase over which its rates rise", ge=0, lt=1)
    weight_decay: float = Field(1.0, "peak of the weight decay of phase 1, which falls with the rate", ge=0)
    averaging: float = Field(8.0, "networks are the mean of iterates k with weights ~ k^this; 0 = the last", ge=0)
    batch_size: int = Field(1024, "points per side and update", unit="points", ge=2)
    inner: int = Field(5, "updates of the paths per update of the critic", unit="updates", ge=1)
    regression: float = Field(0.3, "share of the budget for phase 2", gt=0, lt=1)
    bends: int | None = Field(
        None, "polynomials that bend the paths; left out: 3, or 0 if straight lines are best", ge=0, le=4
    )
    critic: Literal["dense_icnn", "mlp"] = Field("dense_icnn", "network of the critic")
    layers: int = Field(3, "hidden layers of an MLP", ge=1)
    width: int | None = Field(None, "hidden width of an MLP; left out: max(2d, 64)", unit="units", ge=1)
    ode_steps: int = Field(10, "steps of the map back", unit="steps", ge=1)


@register_solver(
    "geodesic",
    config=GeodesicConfig,
    reference="Chen, Liu, arXiv 2602.22003",
    search={
        "lr": (1e-3, 3e-3, 1e-2),
        "optimiser": ("adam", "soap"),
        "critic_rate": (0.3, 1.0, 2.0),
        "velocity_lr": (1e-3, 3e-3, 1e-2),
    },
    presets={
        "smoke": {"steps": 60, "batch_size": 256},
        "quick": {"steps": 1000},
        "full": {"steps": 13_000, "optimiser": "soap", "lr": 1e-2, "critic_rate": 0.3, "velocity_lr": 1e-3},
        "paper": {
            "steps": 40_000,
            "optimiser": "adam",
            "lr": 1e-4,
            "critic_rate": 1.0,
            "velocity_lr": 1e-3,
            "lr_end": 1.0,
            "warmup": 0.0,
            "weight_decay": 0.0,
            "averaging": 0.0,
            "inner": 10,
            "regression": 0.5,
            "critic": "mlp",
            "width": 256,
        },
    },
)
class Geodesic(Solver[GeodesicConfig]):
    """Geodesic: paths of least action against a critic, then their velocity by regression; maps both ways.

    Attributes:
        paths: the network that is trained in phase 1, from points (n, d) to (n, (1 + bends) d): F, c_0, c_1, ...
        potential: f, the critic, of points (n, d).
        velocity: v, trained in phase 2, of points followed by the time, (n, d + 1).
        average: the averaged paths.
        velocity_average: the averaged velocity.
    """

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take every cost, through its Lagrangian, between vectors of one dimension."""
        if problem.source.shape != problem.target.shape:
            return No(problem.shapes_differ)
        return (
            Yes if len(problem.source.shape) == 1 else No(f"needs vectors, not points of shape {problem.source.shape}")
        )

    def __init__(self, problem: Problem, config: GeodesicConfig, context: Context) -> None:
        """Build all networks, their averages, optimisers and samplers."""
        super().__init__(problem, config, context)
        self.bends = (0 if problem.cost.straight else _BENDS) if config.bends is None else config.bends
        self.paths, self.potential, self.velocity = self.build_paths(), self.build_potential(), self.build_velocity()
        self.average, self.velocity_average = (
            Averaged(network, config.averaging) for network in (self.paths, self.velocity)
        )
        self.paths_optimiser, self.potential_optimiser, self.velocity_optimiser = (
            build_optimiser(config.optimiser, network.parameters(), lr=config.lr)
            for network in (self.paths, self.potential, self.velocity)
        )
        self.source, self.target = (
            EpochSampler(side, config.batch_size, context.generator) for side in (problem.source, problem.target)
        )

    def build_paths(self) -> nn.Module:
        """Return the network of F and all c_k, zero at first; tests put exact paths here."""
        return self._mlp(self.problem.dim, (1 + self.bends) * self.problem.dim)

    def build_velocity(self) -> nn.Module:
        """Return v, zero at first; tests put the exact one here."""
        return self._mlp(self.problem.dim + 1, self.problem.dim)

    def build_potential(self) -> DenseICNN | MLPPotential:
        """Return f, a `Potential` of points (n, d); tests put the exact one here."""
        start = start_of(self.context)
        if self.config.critic == "dense_icnn":
            return DenseICNN(self.problem.dim, strong_convexity=0.0, **start)
        return MLPPotential(self.problem.dim, widths=self._widths(), zero_last=True, **start)

    def step(self) -> StepInfo:
        """Take a step of the phase that it is time for; it waits for the device only where SOAP does."""
        config = self.config
        done, first = self.context.progress(), 1 - config.regression
        if done < first:
            return self._match(warmup_cosine(done / first, warmup=config.warmup, end=config.lr_end))
        return self._regress(warmup_cosine((done - first) / config.regression, warmup=config.warmup, end=config.lr_end))

    def _match(self, rate: float) -> StepInfo:
        """Take a step of phase 1, with this share of the peak rates."""
        config = self.config
        for optimiser, peak in (
            (self.paths_optimiser, config.lr),
            (self.potential_optimiser, config.lr * config.critic_rate),
        ):
            set_rates(optimiser, peak * rate, weight_decay=config.weight_decay * rate)
        for _ in range(config.inner):
            inner = self.paths_loss(self.source.next().x)
            descend(self.paths_optimiser, inner)
        self.average.update(self.paths)
        outer = self.potential_loss(self.source.next().x, self.target.next().x)
        descend(self.potential_optimiser, outer)
        return StepInfo(inner.detach(), {"gap": outer.detach()})

    def _regress(self, rate: float) -> StepInfo:
        """Take a step of phase 2, with this share of the peak rate."""
        set_rates(self.velocity_optimiser, self.config.velocity_lr * rate)
        for _ in range(self.config.inner):
            x = self.source.next().x
            # one time in each n-th of [0, 1]; the points are in random order
            first = torch.arange(len(x), dtype=x.dtype, device=x.device)
            t = first + torch.rand(len(x), generator=self.context.generator, dtype=x.dtype, device=x.device)
            loss = self.velocity_loss(x, t[:, None] / len(x))
            descend(self.velocity_optimiser, loss)
            self.velocity_average.update(self.velocity)
        return StepInfo(loss.detach())

    def paths_loss(self, x: Tensor) -> Tensor:
        """Return E[int L dt - f(G(x, 1))], shape (), at source points `x` (n, d); f takes no gradient."""
        parts = self.paths(x)
        end = path(x, parts, 1.0)
        with torch.no_grad():
            value, gradient = self.potential.value_and_gradient(end)
        # f by its tangent at each end: same value, same gradient, and no graph through f
        return (self.action(x, parts) - value - ((end - end.detach()) * gradient).sum(1)).mean()

    def action(self, x: Tensor, parts: Tensor) -> Tensor:
        """Return int_0^1 L(G, dG/dt) dt of the paths that begin at `x`, shape (n,)."""
        lagrangian = self.problem.cost.lagrangian
        if self.problem.cost.straight and not self.bends:
            return lagrangian(x, parts)
        return sum(
            (weight * lagrangian(path(x, parts, t), path_velocity(x, parts, t)) for t, weight in _gauss_legendre()),
            start=x.new_zeros(len(x)),
        )

    def potential_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return E f(G(x, 1)) - E f(y), shape (), at points `x` and `y` of shape (n, d); G takes no gradient."""
        with torch.no_grad():
            end = path(x, self.paths(x), 1.0)
        value = self.potential(torch.cat((end, y)))
        return value[: len(x)].mean() - value[len(x) :].mean()  # type: ignore[no-any-return]

    def velocity_loss(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the mean square error of v along the averaged paths from `x` (n, d) at times `t` (n, 1), shape ()."""
        with torch.no_grad():
            parts = self.average.module(x)
            place, wanted = path(x, parts, t), path_velocity(x, parts, t)
        return (self.velocity(torch.cat((place, t), 1)) - wanted).square().sum(1).mean()  # type: ignore[no-any-return]

    def transport(self) -> Paths:
        """Return averaged paths and velocity; the critic is not needed any more."""
        return Paths(self.average.module, self.velocity_average.module, steps=self.config.ode_steps)

    def _mlp(self, inputs: int, outputs: int) -> MLP:
        return MLP(inputs, outputs, widths=self._widths(), zero_last=True, **start_of(self.context))

    def _widths(self) -> list[int]:
        return [self.config.width or mlp_width(self.problem.dim)] * self.config.layers


class Paths(Transport):
    """G both as map and as interpolation, v, and the map back along v."""

    differentiable = True

    def __init__(self, paths: nn.Module, field: nn.Module, *, steps: int) -> None:
        """Hold the networks of the paths and of the velocity, and the number of RK4 steps of the map back."""
        super().__init__()
        self.paths, self.field, self.steps = paths, field, steps

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return T(x) = G(x, 1), shape of `x` (n, d)."""
        return self.interpolate(x, 1.0)

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return S(y), shape of `y` (n, d): where v comes from."""
        return rk4(lambda x, t: (self.velocity(x, t),), (y,), 1.0, 0.0, self.steps)[0]

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """Return v(x, t), shape of `x` (n, d)."""
        return self.field(torch.cat((x, x.new_full((len(x), 1), t)), 1))  # type: ignore[no-any-return]

    def interpolate(self, x: Tensor, t: float) -> Tensor:
        """Return G(x, t), shape of `x` (n, d)."""
        return path(x, self.paths(x), t)


def path(x: Tensor, parts: Tensor, t: float | Tensor) -> Tensor:
    """Return G(x, t), shape (n, d).

    Args:
        x: where paths begin, shape (n, d).
        parts: F, c_0, c_1, ... at `x`, shape (n, (1 + bends) d).
        t: one time, or one for each path, shape (n, 1).
    """
    whole, *bends = parts.split(x.shape[1], 1)  # type: ignore[no-untyped-call]
    moved = x + t * whole
    for k, bend in enumerate(bends):
        moved = moved + t * (1 - t) * (2 * t - 1) ** k * bend
    return moved  # type: ignore[no-any-return]


def path_velocity(x: Tensor, parts: Tensor, t: float | Tensor) -> Tensor:
    """Return the derivative of G(x, t) in t, shape (n, d); arguments as for `path`."""
    rate, *bends = parts.split(x.shape[1], 1)  # type: ignore[no-untyped-call]
    for k, bend in enumerate(bends):
        share = -((2 * t - 1) ** (k + 1))
        if k:
            share = share + 2 * k * t * (1 - t) * (2 * t - 1) ** (k - 1)
        rate = rate + share * bend
    return rate  # type: ignore[no-any-return]


def _gauss_legendre() -> list[tuple[float, float]]:
    """Return times in [0, 1] and their weights, which sum to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return [(float(1 + node) / 2, float(weight) / 2) for node, weight in zip(nodes, weights, strict=True)]
