"""What solvers share that train one free map, x + network, on a loss of its images: no potential, and no way back."""

from __future__ import annotations

import abc
from typing import Literal, TypeVar

from torch import Tensor

from otbench.nets.average import Averaged
from otbench.nets.mlp import MLP, mlp_width
from otbench.nets.start import start_of
from otbench.ops.descent import descend, set_rates
from otbench.ops.optimisers import OptimiserName, build_optimiser
from otbench.ops.schedule import warmup_cosine
from otbench.samplers import EpochSampler
from otbench.solver import Config, Context, Field, Preset, Problem, Solver, StepInfo
from otbench.solvers._saddle import FreeMap


class FreeMapConfig(Config):
    """Parameters that all these solvers have."""

    optimiser: OptimiserName = Field("soap", "Adam, or SOAP: Adam in Shampoo's eigenbasis")
    lr: float = Field(3e-3, "learning rate, at its peak", gt=0)
    lr_end: float = Field(0.0, "last learning rate, as a share of the peak; 1 = constant rate", ge=0, le=1)
    warmup: float = Field(0.02, "share of the budget over which the rate rises", ge=0, lt=1)
    averaging: float = Field(8.0, "the map is the mean of iterates k with weights ~ k^averaging; 0 = the last", ge=0)
    batch_size: int = Field(1024, "points per side and step", unit="points", ge=2)
    layers: int = Field(3, "hidden layers", ge=1)
    width: int | None = Field(None, "hidden width; none = max(2d, 64)", unit="units", ge=1)
    activation: Literal["silu", "gelu", "elu"] = Field("silu", "activation of the network")
    residual: bool = Field(True, "the map is x + network, whose last layer starts at zero; else the network alone")


PLAIN: Preset = {"optimiser": "adam", "lr_end": 1.0, "warmup": 0.0, "averaging": 0.0}
"""What is left of these parameters where the authors have a constant rate and no averages."""

ConfigT = TypeVar("ConfigT", bound=FreeMapConfig)


class FreeMapSolver(Solver[ConfigT]):
    """One map, one optimiser, one schedule, averages; forward only. Subclasses define `loss`.

    Attributes:
        map: T, the network that is trained, from (n, d) to (n, d).
        average: the averaged map.
    """

    def __init__(self, problem: Problem, config: ConfigT, context: Context) -> None:
        """Build the map, its average, its optimiser and both samplers."""
        super().__init__(problem, config, context)
        self.map = self.build_map()
        self.average = Averaged(self.map, config.averaging)
        self.optimiser = build_optimiser(config.optimiser, self.map.parameters(), lr=config.lr)
        self.source, self.target = (
            EpochSampler(side, config.batch_size, context.generator) for side in (problem.source, problem.target)
        )

    def build_map(self) -> MLP:
        """Return T as it begins; tests put the exact map here."""
        d, config = self.problem.dim, self.config
        return MLP(
            d,
            d,
            widths=self.widths(),
            activation=config.activation,
            residual=config.residual,
            zero_last=config.residual,
            **start_of(self.context),
        )

    def widths(self) -> list[int]:
        """Return the hidden widths."""
        return [self.config.width or mlp_width(self.problem.dim)] * self.config.layers

    def step(self) -> StepInfo:
        """Take one step on new batches."""
        config = self.config
        x, y = self.source.next().x.flatten(1), self.target.next().x.flatten(1)
        loss, scalars = self.loss(x, y)
        rate = warmup_cosine(self.context.progress(), warmup=config.warmup, end=config.lr_end)
        set_rates(self.optimiser, config.lr * rate)
        descend(self.optimiser, loss)
        self.average.update(self.map)
        return StepInfo(loss.detach(), scalars)

    @abc.abstractmethod
    def loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the loss of the map, shape (), and what is to be reported, on points `x` (n, d) and `y` (m, d)."""

    def transport(self) -> FreeMap:
        """Return the averaged map."""
        return FreeMap(self.average.module, classes=0, noise_dim=0, noise_std=0.0)
