r"""NOT, neural optimal transport with a strong cost: a map and a critic, trained against each other.

Korotin, Selikhanovych, Burnaev, "Neural Optimal Transport", ICLR 2023 (arXiv 2201.12220), eq. 16, and its released
code. With c(x, y) = |x - y|^2 / 2, the map T and the critic f solve the saddle problem

$$\sup_f \inf_T \; E_\mu \big[ c(x, T(x)) - f(T(x)) \big] + E_\nu f(y) ,$$

whose value is the cost of transport. At its solution T is the optimal map and $f = |\cdot|^2/2 - \bar\psi$, with
$\bar\psi$ the Brenier potential of the way back. One outer iteration takes `inner` steps of T on
$E_\mu [c(x, T(x)) - f(T(x))]$ with f fixed, then one step of f on $E_\mu f(T(x)) - E_\nu f(y)$ with T fixed, each on
new points. MM:R is the same problem with T the gradient of a potential. There is no map back.

The steps of T need of f only its gradient at T(x), which has a closed form: no graph is built through f.

Deviations from the paper and its code, all of them parameters (`paper` sets them back):
    map: x + network, whose last layer starts at zero, so that training starts from the identity. A plain network starts
        from a map that knows nothing of x.
    critic: DenseICNN, the potential of the benchmark's other solvers, left free, in place of an MLP.
    activation: smooth; f enters through its gradient, which is piecewise constant for ReLU.
    cost: summed over coordinates and halved, so that f is the potential above; the code averages the squares.
    rates: the critic's is higher than the map's; short warm-up and cosine decay of both, instead of constant rates.
    weight decay: falls to zero with the rate; it keeps the critic from fitting the noise of its finite pool.
    map: from a weighted average of the iterates.
Batches walk through the pool in shuffled epochs in all presets. The authors publish no strong-cost run on toy data:
`paper` is the strong loop of their image notebook with the networks and values of their weak toy notebook. Their weight
decay, 1e-10, is Adam's; here it is AdamW's, as small.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from otbench.nets.average import update_average
from otbench.nets.dense_icnn import DenseICNN
from otbench.nets.mlp import MLP, MLPPotential, mlp_width
from otbench.ops.schedule import warmup_cosine
from otbench.problem import EpochSampler
from otbench.solver import Config, Context, Field, Preset, Problem, Solver, StepInfo, register_solver


class NOTConfig(Config):
    """Parameters of NOT."""

    lr: float = Field(3e-3, "learning rate of the map's Adam, at its peak", gt=0)
    critic_rate: float = Field(2.0, "learning rate of the critic, as a multiple of the map's", gt=0)
    lr_end: float = Field(0.0, "last learning rate, as a share of the peak; 1 = constant rate", ge=0, le=1)
    warmup: float = Field(0.02, "share of the budget over which the rates rise", ge=0, lt=1)
    weight_decay: float = Field(1.0, "peak of AdamW's weight decay, which falls with the learning rate", ge=0)
    averaging: float = Field(8.0, "the map is the mean of iterates k with weights ~ k^averaging; 0 = the last", ge=0)
    batch_size: int = Field(1024, "points per side and update", unit="points", ge=2)
    inner: int = Field(5, "updates of the map per update of the critic", unit="updates", ge=1)
    critic: Literal["dense_icnn", "mlp"] = Field("dense_icnn", "network of the critic")
    layers: int = Field(3, "hidden layers of an MLP", ge=1)
    width: int | None = Field(None, "hidden width of an MLP; none = max(2d, 64)", ge=1)
    activation: Literal["silu", "relu"] = Field("silu", "activation of an MLP")
    residual: bool = Field(True, "the map is x + network; the last layer of an MLP starts at zero")
    cost_scale: Literal["sum", "mean"] = Field("sum", "cost |x-y|^2/2, or the mean of (x-y)^2 over coordinates")


PAPER: Preset = {
    "steps": 10_001,
    "lr": 1e-4,
    "critic_rate": 1.0,
    "lr_end": 1.0,
    "warmup": 0.0,
    "weight_decay": 1e-10,
    "averaging": 0.0,
    "batch_size": 64,
    "inner": 10,
    "critic": "mlp",
    "layers": 3,
    "width": 100,
    "activation": "relu",
    "residual": False,
    "cost_scale": "mean",
}
"""The authors' toy notebook."""


@register_solver(
    "not",
    config=NOTConfig,
    reference="Korotin, Selikhanovych, Burnaev, ICLR 2023, arXiv 2201.12220",
    presets={
        "smoke": {"steps": 30, "batch_size": 256},
        "quick": {"steps": 800},
        "full": {"steps": 2500},
        "paper": PAPER,
    },
)
class NOT(Solver[NOTConfig]):
    """NOT with a strong cost: a free map against a critic, forward only.

    A step never waits for the device.

    Attributes:
        map: T, the network that is trained, from (n, d) to (n, d).
        potential: f, the critic.
        average: the averaged map; `map` itself if averaging is off.
        taken: outer iterations so far, shape (), on the host.
    """

    def __init__(self, problem: Problem, config: NOTConfig, context: Context) -> None:
        """Build both networks, the map's average, both optimisers and both samplers."""
        super().__init__(problem, config, context)
        self.map, self.potential = self.build_map(), self.build_potential()
        self.average = copy.deepcopy(self.map).requires_grad_(False) if config.averaging else self.map
        self.map_optimiser, self.potential_optimiser = (
            torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
            for network in (self.map, self.potential)
        )
        self.taken = torch.zeros((), dtype=torch.int64)
        self.source = EpochSampler(problem.source, config.batch_size, context.generator)
        self.target = EpochSampler(problem.target, config.batch_size, context.generator)

    def build_map(self) -> nn.Module:
        """Return T, from (n, d) to (n, d); tests put the exact map here."""
        return self._build_map(self.problem.dim)

    def build_potential(self) -> DenseICNN | MLPPotential:
        """Return f, a `Potential`; tests put the exact one here."""
        config, context, d = self.config, self.context, self.problem.dim
        if config.critic == "dense_icnn":
            return DenseICNN(
                d, strong_convexity=0.0, generator=context.generator, device=context.device, dtype=context.dtype
            )
        return MLPPotential(
            d,
            widths=[config.width or mlp_width(d)] * config.layers,
            activation=config.activation,
            zero_last=config.residual,
            generator=context.generator,
            device=context.device,
            dtype=context.dtype,
        )

    def step(self) -> StepInfo:
        """Take `inner` steps of the map, then one of the critic."""
        config = self.config
        rate = warmup_cosine(self.context.progress(), warmup=config.warmup, end=config.lr_end)
        for optimiser, factor in ((self.map_optimiser, 1.0), (self.potential_optimiser, config.critic_rate)):
            for group in optimiser.param_groups:
                group["lr"], group["weight_decay"] = config.lr * factor * rate, config.weight_decay * rate
        for _ in range(config.inner):
            inner = self.map_loss(_points(self.source))
            _descend(self.map_optimiser, inner)
        self.taken += 1
        if config.averaging:
            update_average(self.average, self.map, taken=int(self.taken), power=config.averaging)
        outer = self.potential_loss(_points(self.source), _points(self.target))
        _descend(self.potential_optimiser, outer)
        return StepInfo(inner.detach(), {"gap": outer.detach()})

    def map_loss(self, x: Tensor) -> Tensor:
        """Return E[c(x, T(x)) - f(T(x))], shape (), at source points `x` (n, d); f takes no gradient."""
        moved = self.transport(self.map, x, self.context.generator)
        return self.scaled((moved - x).square()) - self.critic_mean(moved)

    def potential_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return E f(T(x)) - E f(y), shape (), at source points `x` and target points `y`; T takes no gradient.

        Args:
            x: shape (n, d).
            y: shape (m, d).
        """
        with torch.no_grad():
            moved = self.transport(self.map, x, self.context.generator)
        value = self.potential(torch.cat((moved, y)))
        return value[: len(x)].mean() - value[len(x) :].mean()  # type: ignore[no-any-return]

    def transport(self, network: nn.Module, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return T(x), shape (n, d), with `network` for T; a stochastic map draws from `generator`."""
        return network(x)  # type: ignore[no-any-return]

    def critic_mean(self, moved: Tensor) -> Tensor:
        """Return E f, shape (), at points `moved` (n, d), with its gradient in `moved` only.

        f is replaced by its tangent at each point: same value, same gradient, and no graph through f.
        """
        with torch.no_grad():
            value, gradient = self.potential.value_and_gradient(moved)
        return (value + ((moved - moved.detach()) * gradient).sum(1)).mean()

    def scaled(self, square: Tensor) -> Tensor:
        """Return the cost, shape (), of squared differences of coordinates `square`, shape (n, d)."""
        return square.sum(1).mean() / 2 if self.config.cost_scale == "sum" else square.mean()

    @torch.no_grad()
    def forward_map(
        self, x: Tensor, label: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return T(x), same shape as `x` (n, *shape)."""
        return self.transport(self.average, x.flatten(1), generator).view_as(x)

    def forward_map_with_grad(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Return T(x), same shape as `x` (n, *shape), with a graph back to `x`."""
        return self.transport(self.average, x.flatten(1), None).view_as(x)

    def stored_modules(self) -> Mapping[str, nn.Module]:
        """Return the map alone: the critic is not needed to apply it."""
        return {"map": self.average}

    def _build_map(self, inputs: int) -> MLP:
        config, context, d = self.config, self.context, self.problem.dim
        return MLP(
            inputs,
            d,
            widths=[config.width or mlp_width(d)] * config.layers,
            activation=config.activation,
            residual=config.residual,
            zero_last=config.residual,
            generator=context.generator,
            device=context.device,
            dtype=context.dtype,
        )


def _points(sampler: EpochSampler) -> Tensor:
    return sampler.next().x.flatten(1)


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
