r"""NCF, neural characteristic flow: one space-time potential, both maps, no inner iteration.

Source: Park, Liu, Zhou, Osher, "Neural Hamilton-Jacobi Characteristic Flows for Optimal Transport", ICLR 2026
(arXiv 2510.01153), eqs 11-14 and 53. For a cost l(y - x) with Hamiltonian H = l*, the optimal maps are straight
characteristics of u_t + H(grad u) = 0 on 0 <= t <= 1:

    T(x) = x + grad H(grad u(x, 0)),    S(y) = y - grad H(grad u(y, 1)).

A network u(x, t) minimises `hj_weight` * L_HJ + `mmd_weight` * (L_MMD(T#mu, nu) + L_MMD(S#nu, mu)), where L_MMD is the
energy distance of a batch (U-statistic) and L_HJ is the mean square, over collocation points, of the error of the
implicit solution formula. With p = grad u(x, t) and v = grad H(p):

    u(x, t) + t H(p) - t <p, v> - u(x - t v, 0).

Where both measures have classes, L_MMD is the mean over classes of the energy distance within each, of class-balanced
batches of labelled points.

Nothing is detached. The network is a DenseICNN on (x, t) with the widths of d, not clamped, started from N(0, 0.1^2).

Deviations from the paper, all parameters of this file:

* `collocation=path` (presets quick and full): points lie on segments between random source and target points, scaled
  about the data's centre, at the time of their place on the segment. The paper's uniform points in the bounding box
  (`collocation=box`) are nearly all far from the data once d exceeds a few.
* `formula=farther`, in no preset so far: each collocation point is compared with the end of its characteristic, e = 0
  or 1, that is farther away: u(x, t) + (t - e)(H(p) - <p, v>) - u(x - (t - e) v, e). The paper's formula for vectors
  always goes to t = 0 (`formula=start`), where it says nothing at small t. For images it has a loss from either end
  (`formula=both`).
* SOAP (Vyas et al., arXiv 2409.11321), which is Adam in the eigenbasis of Shampoo's preconditioner: the energy distance
  hardly feels fine and far-out errors of the maps, and Adam needs many times as many steps for them.
* Cosine decay of the learning rate, after a linear warm-up, and polynomial averaging of the weights (Shamir & Zhang,
  ICML 2013): a fixed rate leaves the noise of the batches in the maps.
* Batches walk through the pool in shuffled epochs rather than with replacement.
* `classes=input`: where there are classes, the network is told them, u(x, k, t), and collocation points have one. The
  paper's network is not (`classes=loss`): one u has one gradient at a point and time, so where the ways of two
  classes cross, no u zeroes both losses. On such sets of `toy2d` it turns half of the pairs within a class around.
  That network is wider (`class_width`), as it holds one map for each class.
* L_MMD is the U-statistic, in all presets: the paper does not say which, and V is biased by O(1/n).

Why the backward map can stay behind, from single short runs of preset quick (steps as given, run seed 100, no records
kept; UVP forward / backward and mean |S(T(x)) - x|^2, in %). The energy distance does not see a map with a reflected
axis, L_HJ alone does, and the two maps are gradients of one network at different times: one may be reflected and the
other not. We saw that only where the measures lie far apart.

* Two Gaussians in d = 12, covariances with eigenvalues in [1/4, 4], means 6 apart, the target's at the origin, 800
  steps, `formula=start`: 5.9 / 23.9, 25. On average S has slope -0.50 along one axis, and the exact least slope is
  0.48. With `formula=farther` the maps belong together, but then both are reflected: 12.7 / 15.1, 5.6.
* The same covariances with both means at 0, 1200 steps: 0.44 / 0.47, 0.50, and with `formula=farther` 0.33 / 0.43,
  0.30. So what helps is to centre the data.
* Pairs that are centred as they are, 400 steps, start and farther: Gaussian pair 100 at d = 8, 0.063 / 0.123, 0.111 and
  0.060 / 0.108, 0.091; `convex[family=lse-mid,dim=8,pair=100]`, 15.1 / 15.2, 15.0 and 13.7 / 15.4, 9.3.
  `convex[family=ridge-mid,dim=32,pair=101]`, run seed 101, 600 steps: 11.8 / 17.1, 4.9 and 11.7 / 16.4, 5.6;
  pair 100, run seed 100, 250 steps: 24.2 / 24.1, 1.5 and 25.6 / 23.2, 0.5.

Preset `paper` is the authors' setting on Gaussians only, as far as it is known: architecture, batch sizes and
collocation. Their learning rate, weight and number of iterations are not public; lr = 1e-3, constant, both weights 1
and 50 000 steps are our guesses. On codes of images they have residual tanh layers, both formulas and a weight of its
own: `--preset paper` with `ncf[network=resnet,formula=both]` is that, as far as it is known; width, depth and weight
are not. On points in the plane they have an MLP of 5 layers of width 64, which is not in this file, and batches of 750.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from otbench.nets.average import Averaged
from otbench.nets.dense_icnn import DenseICNN, dense_icnn_widths
from otbench.nets.potential import QuadraticCharacteristics
from otbench.nets.residual import ResidualNet
from otbench.nets.start import start_of
from otbench.ops.descent import descend, set_rates
from otbench.ops.energy import energy_distance
from otbench.ops.energy_losses import energy_losses
from otbench.ops.optimisers import OptimiserName, build_optimiser
from otbench.ops.schedule import warmup_cosine
from otbench.problem import Measure, cost_of, with_class
from otbench.samplers import by_class, sampler_of
from otbench.solver import (
    Config,
    Context,
    Field,
    No,
    Preset,
    Problem,
    Solver,
    StepInfo,
    Support,
    Transport,
    Yes,
    register_solver,
)

BOX_DRAW = 50_000
"""Samples per side from which box and centre are taken where a measure has no pool."""
_BETAS: dict[OptimiserName, tuple[float, float]] = {"adam": (0.9, 0.999), "soap": (0.95, 0.99)}
"""The optimisers' memory of gradients and of their squares."""


class NCFConfig(Config):
    """Parameters of NCF."""

    optimiser: OptimiserName = Field("soap", "Adam, or SOAP: Adam in Shampoo's eigenbasis")
    lr: float = Field(2e-3, "learning rate, at its peak", gt=0)
    lr_end: float = Field(1e-3, "last learning rate, as a share of the peak; 1 = constant rate", ge=0, le=1)
    warmup: float = Field(0.02, "share of the budget over which the rate rises from 0", ge=0, lt=1)
    weight_decay: float = Field(0.03, "decay: each step shrinks all weights by learning rate * this", ge=0)
    averaging: float = Field(8.0, "weights are averaged over about the last 1/averaging of all steps; 0 = off", ge=0)
    hj_weight: float = Field(0.05, "weight of L_HJ", ge=0)
    mmd_weight: float = Field(1.0, "weight of each L_MMD", ge=0)
    mmd_batch: int = Field(1000, "samples per side and step", unit="samples", ge=2)
    hj_points: int = Field(1000, "collocation points per step", unit="points", ge=1)
    collocation: Literal["path", "box"] = Field("path", "collocation points on random segments, or in the data's box")
    formula: Literal["start", "farther", "both"] = Field(
        "start", "implicit formula: from t = 0, from the farther end, or the mean of both ends"
    )
    network: Literal["icnn", "resnet"] = Field("icnn", "unclamped DenseICNN, or residual tanh layers")
    width: int = Field(256, "network=resnet: width of the layers", unit="units", ge=1)
    layers: int = Field(4, "network=resnet: residual layers", ge=1)
    path_scale: float = Field(1.0, "path: factor by which points are moved away from the data's centre", gt=0)
    classes: Literal["input", "loss"] = Field("input", "classes, if any: told to the network, or seen by L_MMD alone")
    class_width: int = Field(25, "least hidden width per class that is told; 0 = as without", unit="units", ge=0)


_PAPER: Preset = {
    "steps": 50_000,
    "optimiser": "adam",
    "lr": 1e-3,
    "lr_end": 1.0,
    "warmup": 0.0,
    "weight_decay": 0.0,
    "averaging": 0.0,
    "hj_weight": 1.0,
    "mmd_batch": 2000,
    "collocation": "box",
    "formula": "start",
    "classes": "loss",
}
"""The authors' values as far as they are known."""
PRESETS: dict[str, Preset] = {
    "smoke": {"steps": 60, "mmd_batch": 256, "hj_points": 256},
    "quick": {"steps": 1200, "lr": 3e-3},
    "full": {"steps": 22_000, "lr": 5e-3, "hj_weight": 0.5},
    "paper": _PAPER,
}


@register_solver(
    "ncf",
    config=NCFConfig,
    reference="Park, Liu, Zhou, Osher, ICLR 2026, arXiv 2510.01153",
    search={
        "lr": (1e-3, 2e-3, 5e-3),
        "optimiser": ("adam", "soap"),
        "hj_weight": (0.05, 0.2, 0.5),
        "formula": ("start", "farther"),
    },
    presets=PRESETS,
)
class NCF(Solver[NCFConfig]):
    """NCF: one space-time potential whose characteristics are both maps; no inner iteration.

    Attributes:
        potential: u(x, t), the network that is trained, on inputs (n, d + K + 1), time last.
        average: the averaged network, from which the maps are read.
        input_classes: number of classes that the network is told; 0 = none.
            Points are followed by their class, (n, d + K), in all but the maps; K = 0 where the network is not told it.
    """

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take costs of straight paths, by their Hamiltonian; of each class, the energy distance needs two points."""
        if not problem.cost.straight:
            return No(f"needs a cost of straight paths, not {problem.cost.name}")
        scarce = problem.scarce()
        return No(scarce) if scarce else Yes

    def __init__(self, problem: Problem, config: NCFConfig, context: Context) -> None:
        """Build the network, its average and the optimiser, and look at the extent of the data."""
        super().__init__(problem, config, context)
        self.input_classes = problem.classes if config.classes == "input" else 0
        self.potential = self.build_potential()
        self.average = Averaged(self.potential, config.averaging)
        self.optimiser = build_optimiser(
            config.optimiser,
            self.potential.parameters(),
            lr=config.lr,
            betas=_BETAS[config.optimiser],
            weight_decay=config.weight_decay,
        )
        self.source, self.target = (
            sampler_of(side, config.mmd_batch, context.generator, balanced=problem.classes > 0)
            for side in (problem.source, problem.target)
        )
        x, y = self._look(problem.source), self._look(problem.target)
        self._low, self._high = torch.minimum(x.amin(0), y.amin(0)), torch.maximum(x.amax(0), y.amax(0))
        self._centre = (x.mean(0) + y.mean(0)) / 2

    def build_potential(self) -> nn.Module:
        """Return u: R^(d+K+1) -> R with `value_and_gradient`; override to put another potential in."""
        d, config = self.problem.dim, self.config
        if config.network == "resnet":
            inputs = d + self.input_classes + 1
            return ResidualNet(inputs, width=config.width, layers=config.layers, **start_of(self.context))
        return DenseICNN(
            d + self.input_classes + 1,
            widths=dense_icnn_widths(d, config.class_width * self.input_classes),
            **start_of(self.context),
        )

    @staticmethod
    def exact_potential(matrix: Tensor, shift: Tensor) -> QuadraticCharacteristics:
        """Return the u whose map is x + matrix x + shift, for `otbench check`."""
        return QuadraticCharacteristics(matrix, shift)

    def step(self) -> StepInfo:
        """Do one step on a new batch. Adam never waits for the device; SOAP may, for a factorisation in ten steps."""
        config = self.config
        x, y = (
            with_class(batch.x, batch.label, self.input_classes) for batch in (self.source.next(), self.target.next())
        )
        where, when = self._collocate(x, y)
        hj, mmd_fwd, mmd_bwd = self.losses(x, y, where, when)
        loss = config.hj_weight * hj + config.mmd_weight * (mmd_fwd + mmd_bwd)
        rate = warmup_cosine(self.context.progress(), warmup=config.warmup, end=config.lr_end)
        set_rates(self.optimiser, config.lr * rate)
        descend(self.optimiser, loss)
        self.average.update(self.potential)
        scalars = {"hj": hj.detach(), "mmd_fwd": mmd_fwd.detach(), "mmd_bwd": mmd_bwd.detach()}
        return StepInfo(loss.detach(), scalars)

    def losses(self, x: Tensor, y: Tensor, where: Tensor, when: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return L_HJ, L_MMD(T#mu, nu) and L_MMD(S#nu, mu), each of shape ().

        The two last are without the spread of their target, a constant that costs a sixth of a step.

        Args:
            x: source batch, shape (n, d + K).
            y: target batch, shape (m, d + K).
            where: collocation points, shape (k, d + K).
            when: their times in [0, 1], shape (k, 1).
        """
        # One network call for everything that needs a gradient.
        points = torch.cat([_at(where, when), _at(x, 0.0), _at(y, 1.0)])
        value, gradient = self.potential.value_and_gradient(points)  # type: ignore[operator]
        k, d = len(where), self.problem.dim
        v_x, v_y = self.problem.cost.velocity(gradient[k:, :d]).split((len(x), len(y)))  # type: ignore[no-untyped-call]
        x, y = x[:, :d], y[:, :d]
        return (
            self.residual(where, when, value[:k], gradient[:k]).square().mean(),
            self._mmd(x + v_x, y),
            self._mmd(y - v_y, x),
        )

    def _mmd(self, image: Tensor, aim: Tensor) -> Tensor:
        """Return the energy distance between `image` (n, d) and `aim` (m, d) without the spread of `aim`, shape ()."""
        classes = self.problem.classes
        if not classes:
            return energy_distance(image, aim, target_term=False, unbiased=True)
        return energy_losses(by_class(image, classes), by_class(aim, classes)).mean()

    def residual(self, where: Tensor, when: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        """Return the error of the implicit solution formula at collocation points, shape (k,).

        The formula follows the characteristic from (x, t) to t = 0, or with `formula=farther` to the farther end; with
        `formula=both` to both ends, shape (2 k,).

        Args:
            where: points, shape (k, d + K).
            when: their times, shape (k, 1).
            value: u there, shape (k,).
            gradient: its gradient in all inputs, shape (k, d + K + 1).
        """
        cost, p = self.problem.cost, gradient[:, : self.problem.dim]
        v = cost.velocity(p)
        rate = cost.hamiltonian(p) - (p * v).sum(1)
        if self.config.formula == "both":
            end = torch.cat((torch.zeros_like(when), torch.ones_like(when)))
            where, when, value, v, rate = (torch.cat((one, one)) for one in (where, when, value, v, rate))
        else:
            end = (when < 0.5).to(when) if self.config.formula == "farther" else torch.zeros_like(when)
        span = when - end
        foot = self.potential(_at(where - functional.pad(span * v, (0, self.input_classes)), end))
        return value - foot + span.squeeze(1) * rate  # type: ignore[no-any-return]

    def transport(self) -> Characteristics:
        """Return both maps of the averaged network."""
        kind = Characteristics if self.input_classes else TimedCharacteristics
        return kind(self.average.module, classes=self.input_classes, exponent=self.problem.cost.exponent)

    def _collocate(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return collocation points (k, d + K) and times (k, 1)."""
        k, d, generator = self.config.hj_points, self.problem.dim, self.context.generator
        when = torch.rand(k, 1, generator=generator, dtype=x.dtype, device=x.device)
        # The batches are in random order, so their first points are random pairs (within a class, where there are
        # classes); they repeat where a batch is short.
        rows = torch.arange(k, device=x.device)
        x, y = x[rows % len(x)], y[rows % len(y)]
        if self.config.collocation == "box":
            share = torch.rand(k, d, generator=generator, dtype=x.dtype, device=x.device)
            where = torch.lerp(self._low, self._high, share)
        else:
            where = torch.lerp(self._centre, torch.lerp(x[:, :d], y[:, :d], when), self.config.path_scale)
        return torch.cat((where, x[:, d:]), 1), when

    def _look(self, measure: Measure) -> Tensor:
        pool = measure.pool
        if pool is None:
            pool = measure.sample(BOX_DRAW, generator=self.context.generator).x
        return pool.flatten(1)


class Characteristics(Transport):
    """T(x) = x + grad H(grad u(x, 0)) and S(y) = y - grad H(grad u(y, 1))."""

    differentiable = True

    def __init__(self, potential: nn.Module, *, classes: int, exponent: float) -> None:
        """Hold u.

        Args:
            potential: u, on inputs (n, d + classes + 1).
            classes: number of classes that u is told; 0 = none.
            exponent: of the cost.
        """
        super().__init__()
        self.potential, self.classes, self.cost = potential, classes, cost_of(exponent)
        self.reads_label = classes > 0

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return T(x), shape of `x` (n, *shape)."""
        return (x.flatten(1) + self._step(x, label, 0.0)).view_as(x)

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return S(y), shape of `y` (n, *shape)."""
        return (y.flatten(1) - self._step(y, label, 1.0)).view_as(y)

    def _step(self, x: Tensor, label: Tensor | None, t: float) -> Tensor:
        points = _at(with_class(x, label, self.classes), t)
        return self.cost.velocity(self.potential.gradient(points)[:, : -self.classes - 1])  # type: ignore[operator]


class TimedCharacteristics(Characteristics):
    """Both maps and all that lies between, where the network is told no class.

    X_t = x + t grad H(grad u(x, 0)), and the velocity is grad H(grad u): they agree as far as u solves its equation.
    """

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """Return grad H(grad u(x, t)), shape of `x` (n, *shape)."""
        return self._step(x, None, t).view_as(x)

    def interpolate(self, x: Tensor, t: float) -> Tensor:
        """Return X_t, shape of `x` (n, *shape)."""
        return (x.flatten(1) + t * self._step(x, None, 0.0)).view_as(x)


def _at(x: Tensor, t: float | Tensor) -> Tensor:
    """Return space-time points (n, d + K + 1), time last."""
    return torch.cat([x, t if isinstance(t, Tensor) else x.new_full((len(x), 1), t)], 1)
