r"""w2ot: the dual with conjugates by L-BFGS, which starts at the guess of a second network.

Amos, "On amortizing convex conjugates for optimal transport", ICLR 2023 (arXiv 2210.12153), and its released code. With
a potential psi on one side, here the source's,

$$\min_\psi \; E_\mu \psi(x) + E_\nu [\langle \hat x, y \rangle - \psi(\hat x)], \qquad
\hat x(y) = \arg\min_w \psi(w) - \langle w, y \rangle,$$

where $\hat x$ is held fixed when the loss is differentiated. L-BFGS finds it, sample by sample
(`otbench.ops.lbfgs`), from the guess H(y) of an amortiser, to a coarse tolerance. To the loss is added what trains H:

* `amortisation=regression`: the mean of (H(y) - x^)^2 over points and coordinates;
* `objective`: the mean of psi(H(y)) - <H(y), y>, psi fixed;
* `cycle`: `cycle` times the mean of |grad psi(H(y)) - y|^2, psi fixed. Without `fine_tune` psi is not fixed there, and
  the mean of |H(grad psi(x)) - x|^2 is added, with the same weight: this is W2GN with a map in place of psi_bar;
* `none`: there is no H, and L-BFGS starts at y.

`fine_tune=false` takes H(y) for x^, without L-BFGS (`objective` and `cycle` only). Maps: T = grad psi, and S by L-BFGS
from H(y). With `side=target` the roles of the measures are exchanged: S = grad psi, and T is solved for. The potential
need not be convex (`potential=mlp`), and then x^ may be a local minimiser.

Deviations from the released code, all of them parameters but the last two (`paper` sets them back):
    optimiser: SOAP, or Adam at its usual betas, instead of AdamW with both betas 0.5; a higher rate, with a short
        warm-up. Both decay by a cosine.
    networks: twice as wide; the last layers of psi and H begin at zero, so that both maps begin at the identity (for
        the convex potential about there), instead of 10 001 steps of pre-training (`pretraining`).
    L-BFGS: what `otbench.ops.lbfgs` names: no search that succeeds takes another step, those that fail start again.
    batch: 256 points instead of 1024.
    iterations: fewer in training, where the few samples that need more would hold up all.
    tolerance: `full` solves for its conjugates ten times as closely.
    weight decay: more of it where a side is a pool (`pool_decay`).
    maps: from a weighted average of the iterates, instead of the last ones; S to a smaller tolerance than in training.
    data: batches walk through the pool in shuffled epochs.
    weight decay, if any: its strength falls with the rate, and AdamW multiplies by the rate once more.
`paper` is their setting for the W2 benchmark in d <= 256, potential `mlp` and `regression`; in the plane and on images
they have others.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from otbench.errors import UsageError
from otbench.nets.average import Averaged
from otbench.nets.dense_icnn import dense_icnn_widths
from otbench.nets.elu_brenier import BOX, ELUBrenier
from otbench.nets.mlp import MLP
from otbench.nets.potential import Potential, QuadraticPotential
from otbench.nets.start import start_of
from otbench.ops.descent import descend, set_rates
from otbench.ops.jacobian import solved_with_derivative
from otbench.ops.lbfgs import solve_conjugate_lbfgs
from otbench.ops.optimisers import OptimiserName, build_optimiser
from otbench.ops.schedule import warmup_cosine
from otbench.samplers import EpochSampler
from otbench.solver import Config, Context, Field, Problem, Solver, StepInfo, Transport, register_solver

_PRETRAINING_LOOKS = 1000
"""Steps of pre-training between two looks at its error."""
_PRETRAINED = 1e-6


class W2OTConfig(Config):
    """Parameters of w2ot."""

    potential: Literal["mlp", "icnn"] = Field("mlp", "network of the potential: plain, or convex")
    side: Literal["source", "target"] = Field("source", "the measure on which the potential lives")
    amortisation: Literal["regression", "objective", "cycle", "none"] = Field(
        "regression", "what trains the guess from which L-BFGS starts"
    )
    fine_tune: bool = Field(True, "take the guess to the conjugate by L-BFGS in training")
    cycle: float = Field(1.0, "weight of mean squared cycle errors (amortisation=cycle)", ge=0)
    optimiser: OptimiserName = Field("soap", "Adam, or SOAP: Adam in Shampoo's eigenbasis")
    lr: float = Field(1e-2, "learning rate, at its peak", gt=0)
    lr_end: float = Field(0.0, "last learning rate, as a share of the peak; 1 = constant rate", ge=0, le=1)
    warmup: float = Field(0.02, "share of the budget over which the rate rises", ge=0, lt=1)
    beta1: float = Field(0.9, "the optimiser's memory of gradients", ge=0, lt=1)
    beta2: float = Field(0.999, "its memory of squared gradients", gt=0, lt=1)
    weight_decay: float = Field(0.0, "peak of the weight decay, which falls with the learning rate", ge=0)
    pool_decay: float = Field(0.0, "more of it where a side is a pool, whose points can be learnt by heart", ge=0)
    averaging: float = Field(8.0, "maps use the mean of iterates k with weights ~ k^averaging; 0 = the last", ge=0)
    batch_size: int = Field(256, "points per side and batch", unit="points", ge=2)
    width: int = Field(2, "factor of the published widths (2b, 2b, b), b = max(d, 32)", ge=1)
    pretraining: int = Field(0, "most steps of identity pre-training; 0 = begin with last layers at zero", ge=0)
    tol: float = Field(0.1, "tolerance on the largest entry of a sample's residual", unit="data units", gt=0)
    max_inner: int = Field(20, "most iterations of L-BFGS in training", unit="iterations", ge=1)
    map_tol: float = Field(1e-3, "the same tolerance, for the map that is solved for", unit="data units", gt=0)
    max_map: int = Field(100, "most iterations of L-BFGS in that map", unit="iterations", ge=1)


@register_solver(
    "w2ot",
    config=W2OTConfig,
    reference="Amos, ICLR 2023, arXiv 2210.12153",
    search={"lr": (5e-3, 1e-2, 2e-2), "optimiser": ("adam", "soap"), "batch_size": (128, 256, 512), "width": (1, 2, 3)},
    presets={
        "smoke": {"steps": 60, "batch_size": 256},
        "quick": {"steps": 1500},
        "full": {"steps": 19_000, "tol": 0.01, "max_inner": 40, "pool_decay": 0.3},
        "paper": {
            "steps": 250_001,
            "optimiser": "adam",
            "lr": 5e-4,
            "lr_end": 1e-4,
            "warmup": 0.0,
            "beta1": 0.5,
            "beta2": 0.5,
            "weight_decay": 1e-4,
            "averaging": 0.0,
            "batch_size": 1024,
            "width": 1,
            "pretraining": 10_001,
            "max_inner": 100,
            "map_tol": 0.1,
        },
    },
)
class W2OT(Solver[W2OTConfig]):
    """w2ot: the dual over one potential, its conjugate by L-BFGS from an amortiser's guess.

    A step asks the host a few times per iteration of L-BFGS.

    Attributes:
        psi: the potential, trained.
        amortiser: H, trained; None without amortisation.
        average: both averaged, from which the maps are read.
    """

    def __init__(self, problem: Problem, config: W2OTConfig, context: Context) -> None:
        """Build and pre-train the networks; build optimiser and samplers.

        Raises:
            UsageError: `fine_tune=false` with an amortisation that needs the conjugate.
        """
        super().__init__(problem, config, context)
        if not config.fine_tune and config.amortisation in ("regression", "none"):
            raise UsageError(f"amortisation={config.amortisation} needs fine_tune=true: it has no conjugate without")
        self.psi = self.build_potential()
        self.amortiser = (
            None
            if config.amortisation == "none"
            else MLP(
                problem.dim,
                problem.dim,
                widths=self._widths(),
                activation="elu",
                residual=True,
                zero_last=not config.pretraining,
                **start_of(context),
            )
        )
        networks = self._networks()
        self._pretrain(networks)
        self.average = Averaged(networks, config.averaging)
        self.optimiser = build_optimiser(
            config.optimiser,
            networks.parameters(),
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
        )
        pooled = problem.source.pool is not None or problem.target.pool is not None
        self.decay = config.weight_decay + (config.pool_decay if pooled else 0.0)
        near, far = problem.source, problem.target
        if config.side == "target":
            near, far = far, near
        self.near, self.far = (EpochSampler(side, config.batch_size, context.generator) for side in (near, far))

    def _widths(self) -> tuple[int, ...]:
        return tuple(self.config.width * size for size in dense_icnn_widths(self.problem.dim))

    def build_potential(self) -> ELUBrenier:
        """Return psi as it begins; tests put an exact potential here."""
        config = self.config
        return ELUBrenier(
            self.problem.dim,
            widths=self._widths(),
            kind=config.potential,
            flat=not config.pretraining,
            **start_of(self.context),
        )

    def _pretrain(self, networks: nn.ModuleList) -> None:
        """Fit the gradient of psi, and H, to the identity on the box [-5, 5]^d, in place."""
        config, context = self.config, self.context
        optimiser = torch.optim.Adam(networks.parameters(), lr=1e-3)
        for k in range(config.pretraining):
            x = torch.empty(config.batch_size, self.problem.dim, device=context.device, dtype=context.dtype)
            x.uniform_(-BOX, BOX, generator=context.generator)
            loss = (self.psi.gradient(x) - x).square().sum(1).mean()
            if self.amortiser is not None:
                loss = loss + (self.amortiser(x) - x).square().sum(1).mean()
            descend(optimiser, loss)
            if k and k % _PRETRAINING_LOOKS == 0 and float(loss.detach()) < _PRETRAINED:
                break

    def step(self) -> StepInfo:
        """Solve the conjugates of a new batch, and take one step on both networks."""
        config = self.config
        x, y = self.near.next().x.flatten(1), self.far.next().x.flatten(1)
        guess = y if self.amortiser is None else self.amortiser(y)
        solved, scalars = guess.detach(), dict[str, Tensor | float]()
        if config.fine_tune:
            found = solve_conjugate_lbfgs(
                self.psi.value_and_gradient, y, start=solved, tol=config.tol, max_iter=config.max_inner
            )
            solved = found.y
            scalars = {"inner_iterations": float(found.iterations), "unconverged": found.unconverged}
        dual = self.dual_loss(self.psi, x, y, solved)
        loss = dual + self.amortisation_loss(x, y, guess, solved)
        rate = warmup_cosine(self.context.progress(), warmup=config.warmup, end=config.lr_end)
        set_rates(self.optimiser, config.lr * rate, weight_decay=self.decay * rate)
        descend(self.optimiser, loss)
        self.average.update(self._networks())
        return StepInfo(loss.detach(), scalars | {"dual": dual.detach()})

    def _networks(self) -> nn.ModuleList:
        return nn.ModuleList([self.psi, *([] if self.amortiser is None else [self.amortiser])])

    @staticmethod
    def dual_loss(psi: Potential, x: Tensor, y: Tensor, solved: Tensor) -> Tensor:
        """Return the dual's value, shape (), from points `x` (n, d), `y` (m, d) and the conjugate's `solved` (m, d)."""
        value = psi(torch.cat((x, solved)))
        at_x, at_solved = value[: len(x)], value[len(x) :]
        return at_x.mean() - at_solved.mean() + (solved * y).sum(1).mean()

    def amortisation_loss(self, x: Tensor, y: Tensor, guess: Tensor, solved: Tensor) -> Tensor:
        """Return what trains the amortiser, shape ().

        Args:
            x: points of the side of psi, shape (n, d).
            y: points of the other side, shape (m, d).
            guess: H(y), with a graph.
            solved: the conjugate's points, shape (m, d).
        """
        config, amortiser = self.config, self.amortiser
        if amortiser is None:
            return y.new_zeros(())
        if config.amortisation == "regression":
            return (guess - solved).square().mean()
        if config.amortisation == "objective":
            with torch.no_grad():
                value, slope = self.psi.value_and_gradient(guess)
                value = (value - (guess * y).sum(1)).mean()
            # grad psi(H(y)) - y at H(y) is the loss's derivative: psi needs no graph
            return value + ((guess - guess.detach()) * (slope - y)).sum(1).mean()
        if not config.fine_tune:
            back: Tensor = amortiser(self.psi.gradient(x))
            return config.cycle * (
                (self.psi.gradient(guess) - y).square().sum(1).mean() + (back - x).square().sum(1).mean()
            )
        at = guess.detach().requires_grad_()
        error = (self.psi.gradient(at) - y).square().sum(1).mean()
        (slope,) = torch.autograd.grad(error, at)
        return config.cycle * (error.detach() + ((guess - at.detach()) * slope).sum())

    def transport(self) -> ConjugateMaps:
        """Return both maps, by the averaged networks."""
        config = self.config
        networks: list[Any] = [*self.average.module, None]  # psi, and the amortiser where there is one
        reverse = config.side == "target"
        return ConjugateMaps(*networks[:2], reverse=reverse, tol=config.map_tol, max_iter=config.max_map)


class ConjugateMaps(Transport):
    """grad psi, and its inverse by L-BFGS; the first is T, or S where the potential is on the target's side."""

    differentiable = True

    def __init__(
        self,
        psi: ELUBrenier | QuadraticPotential,
        amortiser: MLP | None,
        *,
        reverse: bool,
        tol: float,
        max_iter: int,
    ) -> None:
        """Hold the networks.

        Args:
            psi: the potential.
            amortiser: gives the points from which L-BFGS starts; None = from the points themselves.
            reverse: whether psi lives on the target's side.
            tol: tolerance on the largest entry of a residual.
            max_iter: most iterations.
        """
        super().__init__()
        self.psi, self.amortiser, self.tol, self.max_iter = psi, amortiser, tol, max_iter
        self.solves_forward = reverse

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return T(x), same shape as `x` (n, *shape)."""
        return (self._conjugate if self.solves_forward else self.psi.gradient)(x.flatten(1)).view_as(x)

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return S(y), same shape as `y` (n, *shape)."""
        return (self.psi.gradient if self.solves_forward else self._conjugate)(y.flatten(1)).view_as(y)

    def _conjugate(self, y: Tensor) -> Tensor:
        """Return w with grad psi(w) = y, shape (n, d); else the best iterate."""
        with torch.no_grad():
            start = y if self.amortiser is None else self.amortiser(y)
        function = self.psi.value_and_gradient
        found = solve_conjugate_lbfgs(function, y.detach(), start=start, tol=self.tol, max_iter=self.max_iter).y
        if not (y.requires_grad and torch.is_grad_enabled()):
            return found
        return solved_with_derivative(self.psi.gradient, y, found)
