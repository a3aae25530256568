r"""Fixed-point neural optimal transport: one potential, one minimisation, both maps.

Park, Gelphman, Osher, Wu Fung, "Implicit Neural Optimal Transport via Fixed-Point Optimization", arXiv 2605.10792.
With g a network and c(x, y) = |x - y|^2 / 2, the dual problem is

$$\min_g \; E_\mu g(x) - E_\nu \big[ g(y^*(z)) + |z - y^*(z)|^2 / 2 \big], \qquad
y^*(z) = \arg\min_y g(y) + |z - y|^2 / 2, \quad \text{that is} \quad y^* + \nabla g(y^*) = z.$$

Its minimum is minus half the squared Wasserstein distance. By the envelope theorem (Lemma 3.2) y* is held fixed when
the loss is differentiated. Maps: T(x) = x + grad g(x), S(z) = y*(z). g needs to be 1-weakly convex only.

The problem is symmetric, so the potential may live on either side. On the target's (`side=target`) its explicit map is
S, and T is solved for. `side=auto` takes that where the source can be sampled without end and the target is a finite
pool: data near lower-dimensional sets are reached by contractions, for which I + Hess g would have to be nearly
singular.

Where both measures have classes, g(x, k) is also given the class, as K more inputs of zeros and a one, held fixed in
all gradients; batches hold as many labelled points of each class on both sides: each class has its own dual problem.

Deviations from the paper and its code, all of them parameters (`paper` sets them back):
    side: see above; the paper has the potential on the source's side.
    inner solver: L-BFGS (`otbench.ops.prox_among`) instead of fixed steps of 0.1 / L, which diverge for small L. It
        starts from the best point of the other batch, which bounds the loss whatever g is: y* that are stationary but
        no minimisers let it fall without end. A point of a pool starts from its last y* where that is lower; fresh
        points do so in the further steps on one batch. With classes, per-sample Anderson acceleration
        (`otbench.ops.prox`) from the last y* of the same pool point, which has no such bound.
    data: batches without replacement over whole epochs, a new batch each step instead of every third.
    learning rate: short warm-up and cosine decay to zero; the paper has one constant rate, its code 1e-3 for d < 16 and
        1e-4 above (`paper`: 1e-3 for all, as the text says).
    weight decay: falls to zero with the rate. Without it the network ends by fitting the noise of its finite pool;
        held constant, it biases the map.
        Where both sides are fresh there is none.
    optimiser: SOAP in the preset `full`, Adam elsewhere.
    inner tolerance: in the preset `full` it falls with the rate, and a sample takes at most 8 iterations a step. One
        that is not done goes on in the next step, as each batch serves 8 steps.
    maps: from a weighted average of the iterates, and where the target sets validation rows aside, from the average
        whose dual value on these is the lowest: on a small pool the last third of training fits its points one by one,
        as the weight decay falls. Validation has fresh, fixed points on a side without rows, and stays off the clock.
    width: with classes the network is wider, as it holds one map for each.

Without classes the implicit map is solved from kept points of the potential's side, at most 4096. If that side is a
pool, they are images of points of the other side under the trained map itself, so that no training row is kept.

Single runs on one thread of a busy machine, seed 100, no records kept; forward and backward UVP in %: `full` ends at
0.43 and 0.65 on `convex[family=lse-mid,dim=8]` after 12 CPU seconds (621 steps), and with `lr=1e-2` on
`w2bench[dim=16]` at 2.9 and 0.86 after 40 (1171 steps), with `side=target` besides at 5.0 and 1.2. With Adam and the
defaults, lse-mid ends at 4.0 and 3.7 after 12. With SOAP but new batches each step and
`tol_peak=1e-3,max_inner=50,lr=3e-3`, w2bench ends at 13.4 and 2.6 after 26 (357 steps).

On codes of images the authors have another network, a squared MMD beside the dual, and a rate that halves where epochs
no longer help: `--preset paper --steps 18760` with
`fixedpoint[network=resnet,lr=1e-4,batch_size=64,steps_per_batch=1,mmd_weight=1e-3,epoch=938]`. The MMD is between the
images of a batch and the batch of the other side, whatever their classes. Ours differs in the loss that decides about
the rate: theirs leaves |z - y*|^2 / 2 out, which changes no gradient but makes that number meaningless; in the pairs of
a batch, which share their classes but are no couples; and in float32 (theirs is float64).
The released code also clamps g to be convex (`convex=true`), under which no map with a Jacobian eigenvalue below 1 can
be reached; the paper's results need the unclamped network, so `paper` does not clamp.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from otbench.config import Renamed
from otbench.errors import UsageError
from otbench.nets.average import Averaged
from otbench.nets.dense_icnn import DenseICNN, dense_icnn_widths
from otbench.nets.potential import QuadraticPotential, gradient_beside
from otbench.nets.residual import ResidualNet
from otbench.nets.start import start_of
from otbench.nets.watch import Watch
from otbench.ops.descent import descend, set_rates
from otbench.ops.inner import InnerSolver
from otbench.ops.jacobian import solved_with_derivative
from otbench.ops.kernel_loss import kernel_loss
from otbench.ops.optimisers import OptimiserName, build_optimiser
from otbench.ops.points import held_out
from otbench.ops.prox import ProxResult, solve_prox, solve_prox_paper
from otbench.ops.prox_among import solve_prox_among
from otbench.ops.schedule import warmup_cosine
from otbench.problem import Measure, with_class
from otbench.samplers import Repeated, sampler_of
from otbench.solver import Config, Context, Field, No, Problem, Solver, StepInfo, Support, Transport, register_solver

_ANCHORS = 4096
"""Points from which the maps of an instance without warm start solve: a finer choice than a batch, and still cheap."""
_SEED = 20_230
_SHARE = 0.25
"""Of what a residual layer adds, as published."""
_MAP_ITERATIONS = 200
_VALIDATION_POINTS = 2000
"""Most points of either side on which the dual is validated."""


def _decay(on: bool | str) -> dict[str, float]:
    """Return what stands for the old parameter `decay`."""
    if str(on).lower() not in ("true", "false"):
        raise UsageError(f"decay={on}: this old parameter is true or false; use lr_end and warmup")
    return {"lr_end": 0.0, "warmup": 0.02} if str(on).lower() == "true" else {"lr_end": 1.0, "warmup": 0.0}


def _anchored(kind: str) -> dict[str, float]:
    """Return what stands for the old parameter `anchors`: nothing, as only one of its values is left."""
    if kind != "images":
        raise UsageError(f"anchors={kind}: maps no longer keep training rows; leave this old parameter out")
    return {}


class FixedPointConfig(Config):
    """Parameters of `FixedPoint`."""

    renamed: ClassVar[Mapping[str, Renamed]] = {"average": "averaging", "decay": _decay, "anchors": _anchored}

    side: Literal["auto", "source", "target"] = Field("auto", "the measure on which the potential lives")
    optimiser: OptimiserName = Field("adam", "Adam, or SOAP: Adam in Shampoo's eigenbasis")
    lr: float = Field(3e-3, "peak learning rate", gt=0)
    lr_end: float = Field(0.0, "last learning rate, as a share of the peak; 1 = constant rate", ge=0, le=1)
    warmup: float = Field(0.02, "share of the budget over which the rate rises", ge=0, lt=1)
    beta2: float = Field(0.999, "Adam's memory of squared gradients", gt=0, lt=1)
    weight_decay: float = Field(1.0, "peak of the weight decay, which falls with the rate; none if all is fresh", ge=0)
    averaging: float = Field(8.0, "maps use the mean of iterates k with weights ~ k^averaging; 0 = the last", ge=0)
    batch_size: int = Field(2048, "points per side and step; at most those of a pool", unit="points", ge=1)
    steps_per_batch: int = Field(1, "steps on one batch; 1 where a pool's solutions are kept", unit="steps", ge=1)
    grad_clip: float = Field(10.0, "largest norm of the gradient", gt=0)
    inner: Literal["anderson", "paper"] = Field("anderson", "inner solver: ours, or the authors' fixed steps")
    tol: float = Field(1e-3, "inner tolerance on each sample's residual", unit="data units", gt=0)
    tol_peak: float = Field(1e-3, "tolerance at the peak of the rate; it falls to tol with it", unit="data units", gt=0)
    max_inner: int = Field(50, "most inner iterations", unit="iterations", ge=1)
    warm_start: bool = Field(True, "start from the last solution or a point of the other batch (inner=anderson only)")
    convex: bool = Field(False, "clamp the network to be convex after each step, as the released code does")
    network: Literal["icnn", "resnet"] = Field("icnn", "DenseICNN, or residual softplus layers and a quadratic")
    width: int = Field(512, "network=resnet: width of the layers", unit="units", ge=1)
    layers: int = Field(2, "network=resnet: residual layers", ge=1)
    mmd_weight: float = Field(0.0, "weight of the squared MMD between images of a batch and the other batch", ge=0)
    epoch: int = Field(0, "steps after which the mean loss decides about the rate; 0 = warm-up and cosine", ge=0)
    activation: Literal["softplus", "celu"] = Field("softplus", "activation of the DenseICNN")
    class_width: int = Field(25, "least hidden width per class, if any; 0 = the published width", unit="units", ge=0)
    validate_every: int = Field(50, "steps between looks at validation rows, if any; 0 = never", unit="steps", ge=0)


@register_solver(
    "fixedpoint",
    config=FixedPointConfig,
    reference="Park, Gelphman, Osher, Wu Fung: Implicit Neural Optimal Transport via Fixed-Point Optimization, 2026",
    search={
        "lr": (3e-3, 5e-3, 1e-2),
        "optimiser": ("adam", "soap"),
        "batch_size": (512, 1024, 2048),
        "weight_decay": (0.0, 0.2, 0.6),
    },
    presets={
        "smoke": {"steps": 30, "batch_size": 256},
        "quick": {"steps": 600, "batch_size": 1024},
        "full": {
            "steps": 26_000,
            "optimiser": "soap",
            "lr": 5e-3,
            "weight_decay": 0.6,
            "batch_size": 1024,
            "steps_per_batch": 8,
            "tol_peak": 3e-2,
            "max_inner": 8,
        },
        "paper": {
            "steps": 5000,
            "optimiser": "adam",
            "lr": 1e-3,
            "weight_decay": 0.0,
            "lr_end": 1.0,
            "warmup": 0.0,
            "averaging": 0.0,
            "steps_per_batch": 3,
            "side": "source",
            "inner": "paper",
            "max_inner": 1000,
            "warm_start": False,
            "class_width": 0,
            "validate_every": 0,
        },
    },
)
class FixedPoint(Solver[FixedPointConfig]):
    """Fixed-point neural OT: one potential gives both maps; each step solves an inner problem for a batch of points.

    A step asks the host once per inner iteration (the tolerance test), and with `epoch` once an epoch, nowhere else.

    Attributes:
        potential: g, the network that is trained.
        average: the averaged network, and the number of steps so far.
        plateau: halves the rate when epochs no longer bring a lower mean loss; None where the rate follows the budget.
        reverse: whether the potential lives on the target's side, so that S is explicit and T is solved for.
        inner: finds y*, from the last y* of the same point where the solved side is a finite pool.
        watch: the best network so far by validation; None where there are no validation rows.
        validate_every: steps between validations; 0 = there are none.
        anchors: points of the potential's own side from which the maps solve; None where they start from z.
        solved: the last y*, where there are anchors: of each point of the solved side's pool, shape (N, d), or of the
            last batch, shape (n, d), where that side is fresh.
        seeds: points of the other side whose images take the anchors' place in the maps; None where they do not.
            Points are followed by their class, (n, d + K), in all but the maps; K = 0 without classes.
    """

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take the quadratic cost; with classes, each needs a labelled point on both sides."""
        scarce = problem.scarce(1)
        return No(scarce) if scarce else super().supports(problem)

    def __init__(self, problem: Problem, config: FixedPointConfig, context: Context) -> None:
        """Build the network, its average, the optimiser and the two samplers.

        Raises:
            UsageError: a network that cannot be clamped is to be convex.
        """
        super().__init__(problem, config, context)
        if config.convex and config.network != "icnn":
            raise UsageError("fixedpoint: convex=true clamps a DenseICNN; leave network=icnn, or convex out")
        balanced = problem.classes > 0
        self.potential: DenseICNN | ResidualNet = self.build_potential()
        self.average = Averaged(self.potential, config.averaging)
        self.optimiser = build_optimiser(
            config.optimiser,
            self.potential.parameters(),
            lr=config.lr,
            betas=(0.9, config.beta2),
            weight_decay=config.weight_decay,
        )
        near, far = problem.source, problem.target
        validated = bool(config.validate_every) and far.validation is not None and not balanced
        # fresh points cannot be learnt by heart
        self.decay = config.weight_decay if near.pool is not None or far.pool is not None else 0.0
        self.plateau: ReduceLROnPlateau | None = None
        if config.epoch:
            set_rates(self.optimiser, config.lr, weight_decay=self.decay)
            self.plateau = ReduceLROnPlateau(self.optimiser, factor=0.5, patience=5, min_lr=1e-7)
        self.epoch_loss = torch.zeros((), device=problem.device, dtype=problem.dtype)
        self.reverse = config.side == "target" or (config.side == "auto" and near.pool is None and far.pool is not None)
        if self.reverse:
            near, far = far, near
        # a fresh side draws no more points than a small pool has: the rest would cost time and say little
        pools = [len(side.pool) for side in (near, far) if side.pool is not None and not balanced]
        size = min([config.batch_size, *pools])
        # a pool's points remember their solutions: nothing is gained by using a batch again
        times = 1 if config.warm_start and far.pool is not None else config.steps_per_batch
        self.near, self.far = (
            Repeated(sampler_of(side, size, context.generator, balanced=balanced), times) for side in (near, far)
        )
        anchored = config.warm_start and config.inner == "anderson" and not problem.classes
        pool = None if far.pool is None else with_class(far.pool, far.pool_label, problem.classes)
        self.inner = InnerSolver(
            solve_prox,
            solve_prox_paper if config.inner == "paper" else None,
            pool=pool if config.warm_start and not anchored else None,
            generator=context.generator,
            tol=config.tol,
            max_iter=config.max_inner,
        )
        self.anchors = _some(near, context.generator) if anchored else None
        self.solved = torch.zeros(size, problem.dim, device=problem.device, dtype=problem.dtype)
        if anchored and pool is not None:
            self.solved = pool.clone()
        self.seeds: Tensor | None = None
        if anchored and near.pool is not None:
            self.seeds = _some(far, torch.Generator(problem.device).manual_seed(_SEED))
        self.watch: Watch | None = None
        self.validate_every = config.validate_every if validated else 0
        if validated:
            self.watch = Watch(self.average.module)
            self.held_near, self.held_far = (
                held_out(side, _VALIDATION_POINTS, context.generator) for side in (near, far)
            )
            self.held_solved = self.held_far.clone()

    def build_potential(self) -> DenseICNN | ResidualNet:
        """Return the network g on points followed by their class; tests put an exact potential here."""
        config, inputs = self.config, self.problem.dim + self.problem.classes
        if config.network == "resnet":
            sizes = {"width": config.width, "layers": config.layers}
            return ResidualNet(
                inputs, **sizes, activation="softplus", share=_SHARE, quadratic=True, **start_of(self.context)
            )
        return DenseICNN(
            inputs,
            widths=dense_icnn_widths(inputs, config.class_width * self.problem.classes),
            activation=config.activation,
            **start_of(self.context),
        )

    @staticmethod
    def exact_potential(matrix: Tensor, shift: Tensor) -> QuadraticPotential:
        """Return the g whose map is x + matrix x + shift, for `otbench check`."""
        return QuadraticPotential(matrix, shift)

    def step(self) -> StepInfo:
        """Do one step of Adam on a pair of batches."""
        config, near, far = self.config, self.near.next(), self.far.next()
        rate = self._rate()
        x, z = (with_class(side.x, side.label, self.problem.classes) for side in (near, far))
        found = self.solve_batch(x, z, far.index, tol=max(config.tol, rate * config.tol_peak))
        loss = self.loss(self.potential, x, z, found.y)
        if config.mmd_weight:
            d = self.problem.dim
            image = x + gradient_beside(self.potential, self.problem.classes)(x)
            loss = loss + config.mmd_weight * kernel_loss(image[:, :d], z[:, :d])
        if self.plateau is None:
            set_rates(self.optimiser, config.lr * rate, weight_decay=self.decay * rate)
        descend(self.optimiser, loss, grad_clip=config.grad_clip)
        if config.convex and isinstance(self.potential, DenseICNN):
            self.potential.clamp_convex_()
        self.average.update(self.potential)
        if self.plateau is not None:
            self.epoch_loss += loss.detach()
            if self.average.steps_done % config.epoch == 0:
                self.plateau.step(float(self.epoch_loss) / config.epoch)
                self.epoch_loss.zero_()
        scalars: dict[str, Tensor | float] = {
            "inner_iterations": float(found.iterations),
            "unconverged": found.unconverged,
            "residual": found.residual.max(),
        }
        return StepInfo(loss.detach(), scalars)

    def _rate(self) -> float:
        """Return the learning rate as a share of the peak."""
        if self.plateau is not None:
            return self.optimiser.param_groups[0]["lr"] / self.config.lr  # type: ignore[no-any-return]
        return warmup_cosine(self.context.progress(), warmup=self.config.warmup, end=self.config.lr_end)

    @torch.no_grad()
    def validate(self) -> StepInfo:
        """Compute the dual's value on the points set aside, for the network that maps would use; never done."""
        assert self.watch is not None
        network = self.average.module
        start = None if math.isinf(self.watch.loss) else self.held_solved
        self.held_solved = self._maps(network).implicit(self.held_far, start)
        value = self.loss(network, self.held_near, self.held_far, self.held_solved)
        self.watch.look(float(value))
        return StepInfo(value)

    @staticmethod
    def loss(network: DenseICNN | ResidualNet, x: Tensor, z: Tensor, y: Tensor) -> Tensor:
        """Return the dual's value, shape (), from points `x` of the potential's side, `z` of the other, and y*(z)."""
        at_x, at_y = network(torch.cat((x, y))).split((len(x), len(y)))
        return at_x.mean() - at_y.mean() - (z - y).square().sum(1).mean() / 2  # type: ignore[no-any-return]

    def transport(self) -> FixedPointMaps:
        """Return both maps, by the best network by validation, else the latest."""
        network: DenseICNN | ResidualNet = self.average.module if self.watch is None else self.watch.module  # type: ignore[assignment]
        maps = self._maps(network)
        if self.seeds is None:
            return maps
        with torch.no_grad():
            return self._maps(network, maps.implicit(self.seeds))

    def _maps(self, network: DenseICNN | ResidualNet, images: Tensor | None = None) -> FixedPointMaps:
        return FixedPointMaps(
            network,
            classes=self.problem.classes,
            reverse=self.reverse,
            tolerance=self.config.tol / 10,
            anchors=self.anchors if images is None else images,
        )

    def solve_batch(self, x: Tensor, z: Tensor, index: Tensor | None = None, *, tol: float) -> ProxResult:
        """Return y*(z) of the network in training, at a batch `z` of the places `index` of the pool, beside `x`."""
        if self.anchors is None:
            return self.inner(gradient_beside(self.potential, self.problem.classes), z, index, tol=tol)
        start = self.solved if self.far.again else None
        found = solve_prox_among(
            self.potential.value_and_gradient,
            z,
            x,
            start=start if index is None else self.solved[index],
            best=index is not None,
            tol=tol,
            max_iter=self.config.max_inner,
        )
        if index is None:
            self.solved = found.y
        else:
            self.solved[index] = found.y
        return found


class FixedPointMaps(Transport):
    """x + grad g(x), and its inverse, which is solved for; the first is T, or S where the potential is on that side.

    Attributes:
        potential: g.
        anchors: points from which the inverse is solved, shape (m, d); None where it is solved from the point itself.
    """

    differentiable = True
    anchors: Tensor | None

    def __init__(
        self,
        potential: DenseICNN | ResidualNet,
        *,
        classes: int,
        reverse: bool,
        tolerance: float,
        anchors: Tensor | None,
    ) -> None:
        """Hold g and the anchors.

        Args:
            potential: g, of points followed by their class.
            classes: number of classes; 0 = none.
            reverse: whether g lives on the target's side.
            tolerance: of the residual of the inverse.
            anchors: points of the side of g, shape (m, d), without classes.
        """
        super().__init__()
        self.potential, self.classes, self.tolerance = potential, classes, tolerance
        self.register_buffer("anchors", anchors)
        self.reads_label, self.solves_forward = classes > 0, reverse

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return T(x), same shape as `x` (n, *shape); where it is solved for, only vectors have a graph."""
        return self._moved(x, label, explicit=not self.solves_forward)

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return S(y), same shape as `y` (n, *shape)."""
        return self._moved(y, label, explicit=self.solves_forward)

    def _moved(self, x: Tensor, label: Tensor | None, *, explicit: bool) -> Tensor:
        points = with_class(x, label, self.classes)
        moved = self.explicit(points) if explicit else self.implicit(points)
        return moved[:, : moved.shape[1] - self.classes].reshape(x.shape)

    def explicit(self, x: Tensor) -> Tensor:
        """Return x + grad g(x), shape of `x` (n, d + K)."""
        return x + gradient_beside(self.potential, self.classes)(x)

    def implicit(self, z: Tensor, start: Tensor | None = None) -> Tensor:
        """Return y with y + grad g(y) = z, shape of `z` (n, d + K), to the tolerance; else the best iterate.

        Args:
            z: points, shape (n, d + K).
            start: first iterates, such as the solution for a g that was nearly the same; None = z, or the best anchors.
        """
        network, tol, far = self.potential, self.tolerance, z.detach()
        if self.anchors is None:
            gradient = gradient_beside(network, self.classes)
            found = solve_prox(gradient, far, start=start, tol=tol, max_iter=_MAP_ITERATIONS).y
        else:
            found = solve_prox_among(
                network.value_and_gradient, far, self.anchors, start=start, tol=tol, max_iter=_MAP_ITERATIONS
            ).y
        if not (z.requires_grad and torch.is_grad_enabled()):
            return found
        return solved_with_derivative(self.explicit, z, found)


def _some(measure: Measure, generator: torch.Generator) -> Tensor:
    """Return `_ANCHORS` points of `measure`, flattened, shape (n, d), or a whole pool that has fewer."""
    points = measure.pool
    if points is None:
        points = measure.sample(_ANCHORS, generator=generator).x
    else:
        points = points[torch.randperm(len(points), generator=generator, device=points.device)[:_ANCHORS]]
    return points.flatten(1)
