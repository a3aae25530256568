r"""What the Brenier solvers of the Wasserstein-2 benchmark share: two potentials, trained side by side.

psi on the source side and psi_bar on the target side are DenseICNNs in Brenier's convention: the maps are
$T = \nabla\psi$ and $S = \nabla\bar\psi$. Both start from one network, pre-trained to the identity (Korotin et al.,
"Do neural optimal transport solvers work?", NeurIPS 2021, arXiv 2106.01954, and its released code). A method adds its
loss, or its own order of updates.
"""

from __future__ import annotations

import abc
import copy
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from otbench.nets.average import Averaged
from otbench.nets.dense_icnn import DenseICNN, dense_icnn_widths
from otbench.nets.pretrain import pretrain_identity
from otbench.nets.start import start_of
from otbench.ops.descent import descend, set_rates
from otbench.ops.optimisers import OptimiserName, build_optimiser
from otbench.ops.schedule import warmup_cosine
from otbench.samplers import EpochSampler
from otbench.solver import Config, Context, Field, Preset, Problem, Solver, StepInfo, Transport


class PairedConfig(Config):
    """Parameters that all these solvers have."""

    optimiser: OptimiserName = Field("adam", "Adam, or SOAP: Adam in Shampoo's eigenbasis")
    lr: float = Field(3e-3, "learning rate, at its peak", gt=0)
    lr_end: float = Field(0.0, "last learning rate, as a share of the peak; 1 = constant rate", ge=0, le=1)
    warmup: float = Field(0.02, "share of the budget over which the rate rises", ge=0, lt=1)
    weight_decay: float = Field(0.0, "peak of the weight decay, which falls with the rate; none if all is fresh", ge=0)
    averaging: float = Field(8.0, "maps use the mean of iterates k with weights ~ k^averaging; 0 = the last", ge=0)
    batch_size: int = Field(1024, "points per side and batch", unit="points", ge=2)
    activation: Literal["celu", "softplus"] = Field("celu", "activation of the networks")
    strong_convexity: float = Field(1e-4, "weight of |x|^2/2 that is built into the networks", ge=0)
    width: int = Field(1, "factor of the published widths of the networks", ge=1)
    pretraining: int = Field(5000, "most steps of identity pre-training", unit="steps", ge=0)


class FreeConfig(PairedConfig):
    """Parameters of those whose networks are free, and begin near the identity without pre-training."""

    activation: Literal["celu", "softplus"] = Field("softplus", "activation of the networks")
    strong_convexity: float = Field(1.0, "weight of |x|^2/2 that is built into the networks", ge=0)
    pretraining: int = Field(0, "most steps of identity pre-training", unit="steps", ge=0)


PAPER: Preset = {
    "optimiser": "adam",
    "lr": 1e-3,
    "lr_end": 1.0,
    "warmup": 0.0,
    "weight_decay": 0.0,
    "averaging": 0.0,
    "batch_size": 1024,
    "activation": "celu",
    "strong_convexity": 1e-4,
    "width": 1,
    "pretraining": 5000,
}
"""What the released notebooks have in common."""

PairedT = TypeVar("PairedT", bound=PairedConfig)


class PairedPotentials(Solver[PairedT]):
    """Two potentials, one optimiser, one schedule, averaged maps. Subclasses define `loss`, or `update`.

    Attributes:
        psi: the potential on the source side, trained.
        psi_bar: the potential on the target side, trained.
        average: both averaged, from which the maps are read.
    """

    convex: bool = False
    """Whether the networks are clamped to be convex, in pre-training and after each step."""

    def __init__(self, problem: Problem, config: PairedT, context: Context) -> None:
        """Build and pre-train the networks; build optimiser and samplers."""
        super().__init__(problem, config, context)
        self.psi, self.psi_bar = self.build_potentials()
        pair = nn.ModuleList((self.psi, self.psi_bar))
        self.average = Averaged(pair, config.averaging)
        # Adam treats each weight by itself, and SOAP each matrix: one optimiser for both networks is one for each.
        self.optimiser = build_optimiser(
            config.optimiser, pair.parameters(), lr=config.lr, weight_decay=config.weight_decay
        )
        # fresh points cannot be learnt by heart
        pooled = problem.source.pool is not None or problem.target.pool is not None
        self.decay = config.weight_decay if pooled else 0.0
        self.source = EpochSampler(problem.source, config.batch_size, context.generator)
        self.target = EpochSampler(problem.target, config.batch_size, context.generator)

    def build_potentials(self) -> tuple[DenseICNN, DenseICNN]:
        """Return psi and psi_bar, the second an exact copy of the first; tests put exact potentials here."""
        config, context = self.config, self.context
        psi = DenseICNN(
            self.problem.dim,
            widths=[config.width * size for size in dense_icnn_widths(self.problem.dim)],
            activation=config.activation,
            strong_convexity=config.strong_convexity,
            **start_of(context),
        )
        if self.convex:
            psi.clamp_convex_()
        pretrain_identity(psi, generator=context.generator, steps=config.pretraining, convex=self.convex)
        return psi, copy.deepcopy(psi)

    def step(self) -> StepInfo:
        """Set the rates, let the method update its networks, average them."""
        config = self.config
        rate = warmup_cosine(self.context.progress(), warmup=config.warmup, end=config.lr_end)
        set_rates(self.optimiser, config.lr * rate, weight_decay=self.decay * rate)
        info = self.update()
        self.average.update(nn.ModuleList((self.psi, self.psi_bar)))
        return info

    @abc.abstractmethod
    def update(self) -> StepInfo:
        """Do one outer iteration of the method; the rates are set."""

    def descend(self, loss: Tensor, factor: float = 1.0) -> None:
        """Take one step of the optimiser on `loss`, shape (); networks outside its graph stay as they are.

        Args:
            loss: with a graph.
            factor: of the learning rate, in this step alone.
        """
        rate = self.optimiser.param_groups[0]["lr"]
        set_rates(self.optimiser, factor * rate)
        descend(self.optimiser, loss)
        set_rates(self.optimiser, rate)
        if self.convex:
            self.psi.clamp_convex_()
            self.psi_bar.clamp_convex_()

    def transport(self) -> PairedGradients:
        """Return the gradients of both averaged potentials: each map needs its own."""
        return PairedGradients(*self.average.module)


class PairedGradients(Transport):
    """T = grad psi and S = grad psi_bar."""

    differentiable = True

    def __init__(self, psi: DenseICNN, psi_bar: DenseICNN) -> None:
        """Hold both potentials."""
        super().__init__()
        self.psi, self.psi_bar = psi, psi_bar

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return T(x), same shape as `x` (n, *shape)."""
        return self.psi.gradient(x.flatten(1)).view_as(x)

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return S(y), same shape as `y` (n, *shape)."""
        return self.psi_bar.gradient(y.flatten(1)).view_as(y)
