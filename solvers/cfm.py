r"""CFM: conditional flow matching; one velocity by regression on the straight lines between paired points, both maps.

Sources: Tong, Fatras, Malkin, Huguet, Zhang, Rector-Brooks, Wolf, Bengio, "Improving and generalizing flow-based
generative models with minibatch optimal transport", TMLR 2024 (arXiv 2302.00482), I-CFM and OT-CFM; Liu, Gong, Liu,
"Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow", ICLR 2023 (arXiv 2209.03003). For
pairs (x_0, x_1) with marginals mu and nu and t uniform on [0, 1],

$$\min_v \; E\, |v(x_t, t) - (x_1 - x_0)|^2, \qquad x_t = (1 - t) x_0 + t x_1 + \sigma \varepsilon .$$

The minimiser is v(x, t) = E[x_1 - x_0 | x_t = x], and for sigma = 0 its flow carries mu to nu, whatever the coupling. T
is the flow from 0 to 1, S the flow from 1 to 0 of the same v, so they are each other's inverse up to the error of the
integrator. Where mu is N(0, I), the flow has densities, with the exact trace. The coupling decides which map it is:

* `independent`: I-CFM, which is also the first rectified flow. No transport problem is solved: expect a large error.
* `minibatch`: OT-CFM. `pairing_batch` points of either side are assigned to each other at the least cost (see
  `otbench.ops.coupling` for the solvers and what they cost). The pairs, 2048 or more, are walked through in steps of
  `batch_size`, `pairing_passes` times, at new times t, and replaced.
* `sinkhorn`: partners drawn from the entropic plan of these points, of strength `eps` for the cost |x - y|^2 / 2. A
  plan takes the longer the smaller eps is, and time grows as the square of their number: give a smaller
  `pairing_batch`.
  Where the problem is itself one of entropic transport (task `eot`), eps is its own; the flow is still a map,
  which matches the target but draws from no plan.

`reflow=k` goes on with k further rounds of equal length on pairs (x_0, T(x_0)) of the flow that the round before left,
from its weights, with a rate that rises and falls anew. With exact flows no round raises the transport cost, but what
they tend to are straight paths, which need not be the optimal ones.

Where both measures have classes, points are paired within a class and the network is told it.

Failings: the plan between two batches of n points is biased towards the independent coupling, the more the higher the
dimension and the smaller n; only for n -> infinity is it exact, and longer training does not help. That is why
`pairing_batch` is larger than `batch_size`. v is no gradient field, so there is no potential. An image takes an
integration, 4 `ode_steps` evaluations by RK4.

The integrator was chosen on networks that had trained for 15 s of one core on convex[family=lse-mid,dim=8] and
convex[family=ridge-mid,dim=32] (pair and seed 100, pairing_batch=1024, pairing_passes=4, other defaults; no records
kept). Mean squared error of T, in % of the variance, against dopri5 at 1e-9 in float64: at the 20 evaluations of the
default 3e-7 and 5e-8 for RK4, 2e-6 and 5e-5 for dopri5 (tolerance 1e-4), 2e-5 and 6e-5 for the midpoint rule; at 40
1e-9 and 1e-10 for RK4. From a normal to eight Gaussians on a circle (seed 0, preset `quick`, 3000 steps,
pairing_batch=1024; no records kept), where the map nearly jumps, 2e-4 at 20 and 5e-6 at 40.

How many evaluations an image takes is among the settings of the record. With dopri5 it varies: then points of the curve
have the number that T took on the points in use, counted every 500 steps.

Deviations from the papers, all of them parameters unless said otherwise (`paper` sets them back):
    pairs: the released code of OT-CFM draws n pairs from the plan with replacement; here each point is in one pair.
        Not a parameter: the plan is a permutation, and the draw adds nothing but variance.
    times: one in each n-th of [0, 1], in random order, instead of independent ones. Not a parameter.
    optimiser, schedule: SOAP or Adam with a short warm-up and cosine decay to zero, and averaged weights.
    noise: sigma = 0, as a blurred path leads to a blurred target.
    network: wider; SiLU instead of SELU, not a parameter.
`paper` is what the released examples in the plane have (3 layers of 64, Adam 1e-3, sigma = 0.1, batch 256, 20 000
steps, dopri5 with tolerance 1e-4); the paper has no vectors in more dimensions but single-cell data.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from otbench.nets.average import Averaged
from otbench.nets.start import start_of
from otbench.nets.velocity import Velocity, VelocityMLP
from otbench.ops.coupling import assigned, entropic_partners
from otbench.ops.descent import descend, set_rates
from otbench.ops.optimisers import OptimiserName, build_optimiser
from otbench.ops.schedule import warmup_cosine
from otbench.problem import PoolMeasure, class_counts, with_class
from otbench.samplers import EpochSampler, sampler_of
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
    register_solver,
)
from otbench.solvers._flow import log_normal

EPSILON = 0.1
"""Strength of the entropy where neither the user nor the problem has one."""
COUNT_EVERY = 500
"""Steps between two counts of how many evaluations a map takes with an adaptive integrator."""
NODES = 10
"""Points along the way, at least, at which densities look at the divergence."""
BLOCK = 2048
"""Pairs that are walked through, at least, however few of them are made at a time."""
CHUNK_NUMBERS = 2**24
"""Numbers of an intermediate result of the exact trace, at most: 64 MiB in float32."""


class CFMConfig(Config):
    """Parameters of CFM."""

    coupling: Literal["independent", "minibatch", "sinkhorn"] = Field("minibatch", "who is paired with whom")
    pairing_batch: int = Field(2048, "points per side that are paired at a time", unit="points", ge=2, le=20_000)
    pairing_passes: int = Field(8, "times that these pairs are walked through", ge=1)
    eps: float | None = Field(
        None,
        "coupling=sinkhorn: strength of the entropy, in the units of the points; none = the problem's own, or 0.1",
        gt=0,
    )
    reflow: int = Field(0, "further rounds on pairs of the flow itself", ge=0, le=2)
    optimiser: OptimiserName = Field("adam", "Adam, or SOAP: Adam in Shampoo's eigenbasis")
    lr: float = Field(2e-3, "learning rate, at its peak", gt=0)
    lr_end: float = Field(0.0, "last learning rate, as a share of the peak; 1 = constant rate", ge=0, le=1)
    warmup: float = Field(0.02, "share of the budget over which the rate rises", ge=0, lt=1)
    averaging: float = Field(8.0, "maps use the mean of iterates k with weights ~ k^averaging; 0 = the last", ge=0)
    batch_size: int = Field(256, "pairs per step", unit="pairs", ge=1)
    sigma: float = Field(0.0, "standard deviation of the noise about the straight lines", ge=0)
    width: int = Field(256, "width of the hidden layers", unit="units", ge=1)
    layers: int = Field(3, "hidden layers", ge=1)
    integrator: Literal["rk4", "dopri5"] = Field("rk4", "fixed steps, or adaptive ones, for maps and densities")
    ode_steps: int = Field(5, "integrator=rk4: steps from 0 to 1", unit="steps", ge=1)
    tolerance: float = Field(1e-4, "integrator=dopri5: absolute and relative tolerance", gt=0)


@dataclass(frozen=True)
class _Settings:
    """What follows from parameters and data: pairs of a block, evaluations of the network per map (0 = varies), eps.

    Where evaluations vary, points of the curve have those of T at the last count.
    """

    paired_points: int
    map_evaluations: int
    eps: float


@register_solver(
    "cfm",
    config=CFMConfig,
    reference="Tong et al., TMLR 2024, arXiv 2302.00482; Liu, Gong, Liu, ICLR 2023, arXiv 2209.03003",
    search={
        "lr": (1e-3, 2e-3, 5e-3),
        "optimiser": ("adam", "soap"),
        "batch_size": (128, 256, 512),
        "pairing_batch": (512, 1024, 2048, 4096),
    },
    presets={
        "smoke": {"steps": 100, "pairing_batch": 256, "pairing_passes": 2, "width": 64},
        "quick": {"steps": 6000, "pairing_batch": 1024, "lr": 5e-3},
        "full": {"steps": 45_000, "pairing_passes": 12},
        "paper": {
            "steps": 20_000,
            "pairing_batch": 256,
            "pairing_passes": 1,
            "lr": 1e-3,
            "lr_end": 1.0,
            "warmup": 0.0,
            "averaging": 0.0,
            "sigma": 0.1,
            "width": 64,
            "integrator": "dopri5",
        },
    },
)
class CFM(Solver[CFMConfig]):
    """CFM: a velocity by regression on the straight lines between paired points; maps by integrating it both ways.

    Attributes:
        network: v, which is trained, on points followed by their class and the time, (n, d + K + 1).
        average: the averaged network, from which the maps are read.
        teacher: the network whose flow pairs the points of a later round; None where there is none.
        block: the pairs in use, source points followed by their class and target points, shape (n, 2 d + K).
        left: steps until they are replaced, shape (), int64.
        round: rounds of reflow that have begun, shape (), int64.
        evaluations: of the network by the integrator in training, shape (), int64.
        map_evaluations: of the network by T on the pairs in use at the last count, shape (), int64.
        since: steps since that count, shape (), int64.
        settings: the values that this run uses.
    """

    settings: _Settings

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take the quadratic cost between points of the same shape; with classes, two labelled points of each."""
        scarce = problem.scarce()
        return No(scarce) if scarce else super().supports(problem)

    def __init__(self, problem: Problem, config: CFMConfig, context: Context) -> None:
        """Build network, optimiser and samplers."""
        super().__init__(problem, config, context)
        d, k = problem.dim, problem.classes
        self.network = self.build_network()
        self.average = Averaged(self.network, config.averaging)
        self.teacher = copy.deepcopy(self.average.module).requires_grad_(False) if config.reflow else None
        self.optimiser = build_optimiser(config.optimiser, self.network.parameters(), lr=config.lr)
        groups = -(-max(BLOCK, config.batch_size) // config.pairing_batch)
        n = _paired_points(problem, groups * config.pairing_batch)
        self.source, self.target = (
            sampler_of(side, n, context.generator, balanced=k > 0) for side in (problem.source, problem.target)
        )
        self.block = torch.zeros(n, 2 * d + k, dtype=context.dtype, device=context.device)
        self.walk = EpochSampler(PoolMeasure(self.block), config.batch_size, context.generator)
        self.left, self.round, self.evaluations, self.map_evaluations, self.since = (
            torch.zeros((), dtype=torch.int64) for _ in range(5)
        )
        self._times = np.linspace(0, 1, config.ode_steps + 1).tolist()
        self._tolerance = config.tolerance if config.integrator == "dopri5" else None
        eps = problem.epsilon or EPSILON if config.eps is None else config.eps
        self.settings = _Settings(n, 0 if self._tolerance else 4 * config.ode_steps, eps)
        self.function_evaluations = 0 if config.reflow else None

    def build_network(self) -> nn.Module:
        """Return v as it begins; tests put exact velocities here."""
        config, problem = self.config, self.problem
        return VelocityMLP(
            problem.dim, told=problem.classes, hidden=config.width, layers=config.layers, **start_of(self.context)
        )

    def step(self) -> StepInfo:
        """Do one step on the next pairs.

        The device is waited for where pairs are replaced: the exact plan is made on the host, and Sinkhorn's iteration
        looks at its error. SOAP may wait, too.
        """
        config, d = self.config, self.problem.dim
        share = self._begin_round()
        if not int(self.left):  # on the host
            self.block.copy_(self._pairs())
            free = config.coupling == "independent" and not int(self.round)  # new pairs cost nothing
            passes = 1 if free else config.pairing_passes
            self.left.fill_(passes * (len(self.block) // self.walk.batch_size))
        pairs = self.walk.next().x
        self.left -= 1
        # One time in each n-th of [0, 1]; the pairs are in random order.
        n, generator = len(pairs), self.context.generator
        first = torch.arange(n, dtype=pairs.dtype, device=pairs.device)
        t = (first + torch.rand(n, generator=generator, dtype=pairs.dtype, device=pairs.device)) / n
        loss = self.loss(pairs[:, :-d], pairs[:, -d:], t[:, None])
        rate = warmup_cosine(share, warmup=config.warmup, end=config.lr_end)
        set_rates(self.optimiser, config.lr * rate)
        descend(self.optimiser, loss)
        self.average.update(self.network)
        return StepInfo(loss.detach(), {} if self._tolerance is None else {"map_evaluations": self._counted()})

    def loss(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """Return the mean square error of v on the lines from `x` to `y`, per coordinate, shape ().

        Args:
            x: source points, each followed by its class, shape (n, d + K).
            y: their partners, shape (n, d).
            t: times, shape (n, 1).
        """
        start, told = x[:, : y.shape[1]], x[:, y.shape[1] :]
        place = torch.lerp(start, y, t)
        if self.config.sigma:
            noise = torch.randn(y.shape, generator=self.context.generator, dtype=y.dtype, device=y.device)
            place = place + self.config.sigma * noise
        velocity: Tensor = Velocity(self.network, told)(place, t)
        return (velocity - (y - start)).square().mean()

    def _begin_round(self) -> float:
        """Begin the next round where it is time to; return the used share of this one's part of the budget."""
        rounds = self.config.reflow + 1
        done = rounds * self.context.progress()
        now = min(int(done), rounds - 1)
        if self.teacher is not None and now > int(self.round):
            self.round.fill_(now)
            self.left.zero_()
            for network in (self.teacher, self.network):
                network.load_state_dict(self.average.module.state_dict())
            self.average.steps_done = 0
            self.optimiser.state.clear()
        return done - now

    def _counted(self) -> Tensor:
        """Return the evaluations that T takes on the source points in use, shape (), from the last count."""
        if not int(self.map_evaluations) or int(self.since) >= COUNT_EVERY:
            with torch.no_grad():
                velocity, _ = self._flown(self.average.module, self.block[:, : -self.problem.dim])
            self.map_evaluations.fill_(velocity.evaluations)
            self.since.zero_()
        self.since += 1
        return self.map_evaluations

    def _flown(self, network: nn.Module, x: Tensor) -> tuple[Velocity, Tensor]:
        """Return the velocity of `network` for `x`, points and classes, (n, d + K), and their images, (n, d)."""
        d = self.problem.dim
        velocity = Velocity(network, x[:, d:])
        return velocity, velocity.path(x[:, :d], self._times, tolerance=self._tolerance)[-1]

    @torch.no_grad()
    def _pairs(self) -> Tensor:
        """Return new pairs, shape (n, 2 d + K); those of one class in their turns, where there are classes."""
        batch = self.source.next()
        x = with_class(batch.x, batch.label, self.problem.classes)
        if self.teacher is not None and int(self.round):
            velocity, y = self._flown(self.teacher, x)
            self.evaluations += velocity.evaluations
            self.function_evaluations = int(self.evaluations)
            return torch.cat((x, y), 1)
        y = self.target.next().x.flatten(1)
        if self.config.coupling == "independent":
            return torch.cat((x, y), 1)
        classes, paired = self.problem.classes or 1, torch.empty_like(y)
        together = max(2, self.config.pairing_batch // classes)
        for k in range(classes):  # row i is of class i % classes
            for rows in torch.arange(k, len(y), classes, device=y.device).split(together):  # type: ignore[no-untyped-call]
                there = y[rows]
                paired[rows] = there[self._partners(x[rows, : y.shape[1]], there)]
        return torch.cat((x, paired), 1)

    def _partners(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the places of the partners of `x`, shape (n, d), in `y`, shape (n, d)."""
        if self.config.coupling == "minibatch":
            return assigned(x, y)
        units = self.problem.units
        strength = self.settings.eps / (1.0 if units is None else float(units.scale) ** 2)
        return entropic_partners(x, y, strength, self.context.generator)

    def transport(self) -> FlowMaps:
        """Return the flow of the averaged network both ways; with densities, where the source is N(0, I)."""
        network, classes = self.average.module, self.problem.classes
        kind = FlowMaps if classes else NormalFlowMaps if self.problem.source.is_standard_normal else TimedFlowMaps
        return kind(network, classes=classes, steps=self.config.ode_steps, tolerance=self._tolerance)

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take over `state`, and the count that follows from it."""
        super().load_state_dict(state)
        if self.config.reflow:
            self.function_evaluations = int(self.evaluations)


def _paired_points(problem: Problem, most: int) -> int:
    """Return how many points of either side are paired: `most`, or what the smaller side has; as many of each class."""
    sides, classes = (problem.source, problem.target), problem.classes
    if classes:
        least = min(min(class_counts(side)) for side in sides)
        return classes * min(max(2, most // classes), least)
    return min([most, *(len(side.pool) for side in sides if side.pool is not None)])


class FlowMaps(Transport):
    """The flow from 0 to 1 and back."""

    differentiable = True

    def __init__(self, network: nn.Module, *, classes: int, steps: int, tolerance: float | None) -> None:
        """Hold v.

        Args:
            network: v, on inputs (n, d + classes + 1), time last.
            classes: number of classes that it is told; 0 = none.
            steps: of RK4 along the whole way; along a part of it as many as are no longer than these.
            tolerance: of dopri5, in place of RK4; None = RK4.
        """
        super().__init__()
        self.network, self.classes, self.steps, self.tolerance = network, classes, steps, tolerance
        self.reads_label = classes > 0

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return T(x), same shape as `x` (n, *shape)."""
        return self._carried(x, label, 0.0, 1.0)

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return S(y), same shape as `y` (n, *shape)."""
        return self._carried(y, label, 1.0, 0.0)

    def _carried(self, x: Tensor, label: Tensor | None, start: float, end: float) -> Tensor:
        points = with_class(x, label, self.classes)
        d, steps = points.shape[1] - self.classes, math.ceil(self.steps * abs(end - start))
        times = np.linspace(start, end, steps + 1).tolist()
        return Velocity(self.network, points[:, d:]).path(points[:, :d], times, tolerance=self.tolerance)[-1].view_as(x)


class TimedFlowMaps(FlowMaps):
    """The flow at all times, where the network is told no class."""

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """Return the velocity at `x`, same shape (n, *shape), and time `t`, 0 at the source and 1 at the target."""
        flat = x.flatten(1)
        return Velocity(self.network, flat[:, :0])(flat, flat.new_tensor(t)).view_as(x)

    def interpolate(self, x: Tensor, t: float) -> Tensor:
        """Return where the points that start at `x` are at time `t`, same shape (n, *shape)."""
        return self._carried(x, None, 0.0, t) if t else x.clone()


class NormalFlowMaps(TimedFlowMaps):
    """The flow and the density of its image of the normal."""

    def log_prob(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return log densities of T#source at `y`, shape (n,): the normal's at S(y), less the integral of div v.

        The divergence is exact, and its integral along the way by Gauss's rule: `NODES` divergences or `steps`, each as
        long as d evaluations, instead of one in each evaluation of the integrator.
        """
        nodes, weights = np.polynomial.legendre.leggauss(max(self.steps, NODES))
        times = [1.0, *((1 - nodes) / 2), 0.0]  # nodes rise from -1 to 1
        widest = max(parameter.shape[-1] for parameter in self.network.parameters())
        found = []
        for part in y.flatten(1).split(max(1, CHUNK_NUMBERS // (y[:1].numel() * widest))):  # type: ignore[no-untyped-call]
            velocity = Velocity(self.network, part[:, :0])
            path = velocity.path(part, times, tolerance=self.tolerance)
            rates = [velocity.divergence(x, x.new_tensor(t)) for x, t in zip(path[1:-1], times[1:-1], strict=True)]
            found.append(log_normal(path[-1]) - torch.stack(rates, 1) @ part.new_tensor(weights / 2))
        return torch.cat(found)
