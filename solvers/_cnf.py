"""What FFJORD and RNODE share: a free-form continuous normalising flow, its likelihood, validation, maps and densities.

The module docstring of `otbench.solvers.ffjord` has the method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from otbench.config import settle
from otbench.nets.concatsquash import ConcatSquash, Smooth
from otbench.nets.continuous_flow import Block, Flowed, carry, dopri5
from otbench.nets.start import start_of
from otbench.nets.watch import Watch
from otbench.ops.descent import descend, set_rates
from otbench.ops.optimisers import OptimiserName, build_optimiser
from otbench.ops.points import held_out
from otbench.ops.schedule import warmup_cosine
from otbench.samplers import EpochSampler
from otbench.solver import Config, Context, Field, Problem, StepInfo, Transport
from otbench.solvers._flow import Flow, RowName, log_normal, row_named

CHUNK_NUMBERS = 2**24
"""Numbers of an intermediate result of the exact trace, at most: 64 MiB in float32."""


class CNFConfig(Config):
    """Parameters of both flows; those left at none have the value of the row `settings`."""

    settings: RowName = Field("ours", "row of settings: ours, a published one by name, or auto: by dimension")
    activation: Smooth | None = Field(None, "activation of the networks")
    layers: int | None = Field(None, "hidden layers of a network", ge=1)
    factor: int | None = Field(None, "hidden width, in multiples of the dimension", ge=1)
    blocks: int | None = Field(None, "networks in turn, each with its own ODE", ge=1)
    batch_size: int | None = Field(None, "samples per step", unit="samples", ge=1)
    least_width: int = Field(1, "least hidden width", ge=1)
    optimiser: OptimiserName = Field("adam", "Adam, or SOAP: Adam in Shampoo's eigenbasis")
    lr: float = Field(1e-3, "learning rate, at its peak", gt=0)
    weight_decay: float = Field(1e-6, "weight of |parameters|^2 / 2; SOAP's decay is decoupled", ge=0)
    schedule: Literal["plateau", "cosine"] = Field("plateau", "rate: by validation, or cosine over the budget")
    validate_every: int = Field(200, "steps between validations", unit="steps", ge=1)
    patience: int = Field(30, "validations without improvement that end training", ge=3)
    validation_points: int = Field(2000, "most points of a validation", unit="points", ge=1)
    test_tolerance: float = Field(1e-5, "tolerance of maps and densities", gt=0)
    adjoint: bool = Field(False, "gradients by the adjoint equation: less memory, more time")


ConfigT = TypeVar("ConfigT", bound=CNFConfig)


@dataclass(frozen=True)
class _Settings:
    activation: Smooth
    layers: int
    factor: int
    blocks: int
    batch_size: int


SETTINGS = {
    "ours": _Settings("tanh", 2, 2, 1, 256),
    "power": _Settings("tanh", 3, 10, 5, 10_000),
    "gas": _Settings("tanh", 3, 20, 5, 1000),
    "hepmass": _Settings("softplus", 2, 10, 10, 10_000),
    "miniboone": _Settings("softplus", 2, 20, 1, 1000),
    "bsds300": _Settings("tanh", 3, 20, 2, 10_000),
}
"""Our settings, and the published ones. BSDS300: tanh in the tabular script of CNF-TPR, softplus in FFJORD's paper."""


class CNF(Flow[ConfigT]):
    """What FFJORD and RNODE share: blocks, likelihood, validation, maps, densities.

    Attributes:
        settings: the values that this run uses.
        blocks: the networks, in the order data to normal.
        watch: the best weights so far, and the rule for the learning rate.
        validate_every: steps between validations.
    """

    learnt_end: ClassVar[bool] = False
    """Whether the time at which the flow ends is a parameter."""
    penalised: ClassVar[bool] = False
    """Whether kinetic energy and Jacobian are integrated along the way."""
    settings: _Settings

    def __init__(self, problem: Problem, config: ConfigT, context: Context) -> None:
        """Build networks and optimiser, and set validation points aside.

        Raises:
            UsageError: `settings=auto` in a dimension without published settings.
        """
        super().__init__(problem, config, context)
        row = row_named(config.settings, problem.dim, owner=type(self).__name__.lower())
        self.settings = settle(SETTINGS[row], config)
        self.validate_every = config.validate_every
        self.blocks = nn.ModuleList(self.build_block() for _ in range(self.settings.blocks))
        self.optimiser = build_optimiser(
            config.optimiser,
            self.blocks.parameters(),
            lr=config.lr,
            weight_decay=config.weight_decay,
            decoupled=False,
        )
        waits = (config.patience // 3, 2 * config.patience // 3, config.patience)
        self.watch = Watch(self.blocks, waits=waits, restart=False)
        self.target = EpochSampler(problem.target, self.settings.batch_size, context.generator)
        self.held_out = held_out(problem.target, config.validation_points, context.generator)
        self.held_out_probe = self._draw(self.held_out)
        self.function_evaluations: int = 0

    def build_block(self) -> Block:
        """Return one block; override to put another network in."""
        width = max(self.config.least_width, self.settings.factor * self.problem.dim)
        net = ConcatSquash(
            self.problem.dim,
            widths=(width,) * self.settings.layers,
            activation=self.settings.activation,
            **start_of(self.context),
        )
        return Block(net, learnt_end=self.learnt_end)

    def training_options(self) -> dict[str, object]:
        """Return method, tolerances and steps of the solver in training, as torchdiffeq takes them."""
        raise NotImplementedError

    def step(self) -> StepInfo:
        """Do one step on a new batch; an adaptive solver waits for the device at each of its steps.

        Raises:
            DivergedError: the solver's step became too small, or it took too many.
        """
        blocks = _blocks(self.blocks)
        for block in blocks:
            block.evaluations = 0
        batch = self.target.next().x
        loss, nll, flowed = self.losses(batch, self._draw(batch))
        rate = 0.1**self.watch.drops
        if self.config.schedule == "cosine":
            rate = warmup_cosine(self.context.progress(), end=0.01)
        set_rates(self.optimiser, self.config.lr * rate)
        descend(self.optimiser, loss)
        nfe = sum(block.evaluations for block in blocks)
        self.function_evaluations += nfe
        scalars: dict[str, Tensor | float] = {"nll": nll.detach(), "nfe": float(nfe)}
        if self.penalised:
            scalars |= {"kinetic": flowed.kinetic.detach().mean(), "jacobian": flowed.jacobian.detach().mean()}
        return StepInfo(loss.detach(), scalars)

    def losses(self, y: Tensor, probes: Tensor) -> tuple[Tensor, Tensor, Flowed]:
        """Return the loss and the negative log-likelihood, each of shape (), and where the points went.

        Args:
            y: data, shape (n, d).
            probes: directions of the trace estimates, shape (blocks, n, d).
        """
        blocks = _blocks(self.blocks)
        flowed = carry(
            blocks,
            y,
            options=self.training_options(),
            probes=probes,
            penalised=self.penalised,
            adjoint=self.config.adjoint and torch.is_grad_enabled(),
        )
        nll = -(log_normal(flowed.x) + flowed.log_det).mean()
        return self.penalise(nll, flowed), nll, flowed

    def penalise(self, nll: Tensor, flowed: Flowed) -> Tensor:
        """Return the loss, shape (), from the negative log-likelihood."""
        return nll

    @torch.no_grad()
    def validate(self) -> StepInfo:
        """Compute the likelihood of the points set aside; done after `patience` stalls (`schedule=plateau`)."""
        total, size = 0.0, self.settings.batch_size
        for begin in range(0, len(self.held_out), size):
            part, probes = self.held_out[begin : begin + size], self.held_out_probe[:, begin : begin + size]
            total += float(self.losses(part, probes)[1]) * len(part) / len(self.held_out)
        self.watch.look(total)
        return StepInfo(total, done=self.watch.done and self.config.schedule == "plateau")

    def transport(self) -> CNFMaps:
        """Return the flow of the best validation, both ways."""
        return CNFMaps(_blocks(self.watch.module), tolerance=self.config.test_tolerance)

    def state_dict(self) -> dict[str, object]:
        """Return all state, with the count of evaluations."""
        return super().state_dict() | {"evaluations": self.function_evaluations}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take over `state`."""
        count = state["evaluations"]
        assert isinstance(count, int)
        self.function_evaluations = count
        super().load_state_dict({name: value for name, value in state.items() if name != "evaluations"})

    def _draw(self, y: Tensor) -> Tensor:
        shape = (self.settings.blocks, *y.shape)
        return torch.randn(shape, generator=self.context.generator, dtype=y.dtype, device=y.device)


class CNFMaps(Transport):
    """The flow as two maps, and the density of its image of the normal."""

    def __init__(self, blocks: list[Block], *, tolerance: float) -> None:
        """Hold the blocks, in the order data to normal, and the tolerance of maps and densities."""
        super().__init__()
        self.blocks, self.options = nn.ModuleList(blocks), dopri5(tolerance, tolerance)

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return T(x), normal to data, shape of `x` (n, d)."""
        return carry(_blocks(self.blocks), x, options=self.options, reverse=True, density=False).x

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return S(y), data to normal, shape of `y` (n, d)."""
        return carry(_blocks(self.blocks), y, options=self.options, density=False).x

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """Return the velocity at `x`, shape (n, d), and time `t`: the blocks share the time from 0 to 1 evenly."""
        block, left = self._at(t)
        return -len(self.blocks) * block(x.new_tensor(left), (x,))[0]  # type: ignore[no-any-return]

    def interpolate(self, x: Tensor, t: float) -> Tensor:
        """Return where the points that start at `x`, shape (n, d), are at time `t`."""
        block, left = self._at(t)
        blocks = _blocks(self.blocks)
        x = carry(blocks[blocks.index(block) + 1 :], x, options=self.options, reverse=True, density=False).x
        if left == 1:
            return x.clone()
        return carry([block], x, options=self.options, reverse=True, start=left, density=False).x

    def _at(self, t: float) -> tuple[Block, float]:
        """Return the block that points pass at time `t` of their way to the data, and where its own time then is."""
        blocks = _blocks(self.blocks)
        passed = min(int(t * len(blocks)), len(blocks) - 1)
        return blocks[-1 - passed], 1 - (t * len(blocks) - passed)

    def log_prob(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return log densities of T#source at `y`, shape (n,), with the exact trace."""
        blocks = _blocks(self.blocks)
        widest = max(parameter.shape[0] for parameter in blocks[0].net.parameters())
        parts = []
        for part in y.split(max(1, CHUNK_NUMBERS // (y.shape[1] * widest))):  # type: ignore[no-untyped-call]
            flowed = carry(blocks, part, options=self.options)
            parts.append(log_normal(flowed.x) + flowed.log_det)
        return torch.cat(parts)


def _blocks(module: nn.Module) -> list[Block]:
    return [block for block in module.children() if isinstance(block, Block)]
