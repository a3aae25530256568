r"""The entropic map with its strength chosen on held-out points, and ProgOT: plans between samples, no training.

The cost is c(x, y) = |x - y|^2 / 2. The entropic plan of strength eps between two samples moves any point x to

$$T_\varepsilon(x) = \sum_j w_j(x) y_j, \qquad w(x) = \mathrm{softmax}_j \big( (g_j - c(x, y_j)) / \varepsilon \big) ,$$

with g its dual potential at y (Pooladian, Niles-Weed, arXiv 2109.12004). A large eps pulls images to the mean, a small
one follows single points, so all depends on eps. `eps` is in units of the mean of c over all pairs of centred points:
the user's shifts and units do not matter.

`method=map`: one plan. Where `eps` is left out, a fifth of the points of each side is held out, and the rest is halved:
T is from one half, S from the other. Chosen is the power of 1/2 with the smallest

$$E |S(T(x)) - x|^2 / \mathrm{Var}\, x + E |T(S(y)) - y|^2 / \mathrm{Var}\, y$$

over held-out points. The exact maps have 0. As T and S are from different points, their errors cannot undo each other:
neither the bias of a large eps, nor what a small one learns by heart. The plan is then made again from all points.

`method=progot`: Kassraie, Pooladian, Klein, Thornton, Niles-Weed, Cuturi, "Progressive entropic optimal transport
solvers", NeurIPS 2024 (arXiv 2406.05061). K plans, each from where the points have come: $X_0 = X$, then

$$X_{k+1} = (1 - \alpha_k) X_k + \alpha_k E_k(X_k), \qquad \alpha_k = 1 / (K - k),$$

where E_k is the entropic map from X_k to Y of strength eps_k. A new point goes the same way, and T(x) is where the last
plan sends it. Strengths are $\varepsilon_k = (1 - k/K) \varepsilon_0 + (k/K) \varepsilon_K$, with eps_0 a quarter of
the mean cost (5/20 in the paper). Where `eps`, eps_K, is left out, it is chosen as in the paper: Y without a fifth is
mapped to itself, and that eps is taken whose map moves held-out points least, out of 2^s / 20 of the mean cost within
Y, s = -3, ..., 3. A dual potential starts at 1 - alpha_k times the last one; the tolerance falls evenly from 0.1 to
`tolerance`. S is made alike, from Y to X.

Releases 0.5.1, 0.5.2 and 0.6.0 of OTT interpolate from X, instead of X_k, when they fit: a test has the difference.
Deviation from the paper: points are centred first, so that the mean cost does not depend on where the sides lie.

Both methods map to weighted means of training points: variances come out too small, and no image leaves the convex
hull of the points. On soft-max pairs (`lse-mid`, pair and seed 100, pools of 1000; single runs, no records kept; UVP
forward, backward in %) the map ended at 0.9, 1.7 in d = 2 and 6.6, 34 in d = 16, ProgOT at 1.4, 2.5 and 13.5, 70.

With `output=draw` an image is one training point, drawn from the plan at x; ProgOT draws from its last plan. Where the
problem is one of entropic transport (task `eot`), `method=map` makes the plan of the problem's own strength, and images
are draws unless `output` says otherwise. ProgOT does not aim at the plan of one strength: it chooses as ever.

There are no presets but `smoke` and nothing for `otbench tune`: what matters, eps, is chosen from the points.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from otbench.baselines._two_maps import TwoMaps, TwoModules
from otbench.ops.points import training_points
from otbench.ops.sinkhorn import Plan, entropic_draw, entropic_map, self_sinkhorn, sinkhorn
from otbench.recorded import Recorded
from otbench.solver import Config, Context, Field, Problem, StepInfo, register_baseline

Columns: TypeAlias = tuple[Tensor, float]
"""h of a plan, shape (m,), and its eps."""
ROUGH = 1e-2
"""Tolerance of plans on the way to a smaller eps, and of those that are only compared."""
FIRST = 0.25
"""First eps of ProgOT, in units of the mean cost."""
MOST_HALVINGS = 12
"""Smallest eps that is looked at: 2^-this."""
PATIENCE = 2
"""Halvings without a better one after which the search ends."""
SCALES = tuple(2.0**s / 20 for s in range(-3, 4))
"""ProgOT's candidates for its last eps, in units of the mean cost within one side."""


class EntropicConfig(Config):
    """Parameters of the entropic map and of ProgOT."""

    method: Literal["map", "progot"] = Field("map", "one entropic plan, or ProgOT")
    points: int = Field(10_000, "sample on each side; time grows as n^2", unit="points", ge=2, le=200_000)
    eps: float | None = Field(
        None, "strength of the entropy, ProgOT's last; none = the problem's own, or chosen on held-out points", gt=0
    )
    unit: Literal["mean", "cost"] = Field(
        "mean", "unit of eps: the mean cost of centred points, or |x - y|^2 / 2 as is"
    )
    stages: int = Field(16, "plans of ProgOT (K)", ge=1, le=1000)
    tolerance: float = Field(1e-3, "stop at this error of the plan's marginals (1-norm)", gt=0)
    iterations: int = Field(1000, "upper limit of Sinkhorn iterations of one plan", unit="iterations", ge=1)
    output: Literal["mean", "draw"] | None = Field(
        None, "an image: mean of the plan at x, or a draw from it; none = draw if the problem has its own eps"
    )


@register_baseline(
    "entropic",
    config=EntropicConfig,
    reference="Pooladian, Niles-Weed, Entropic estimation of optimal transport maps, arXiv 2109.12004; "
    "Kassraie et al., Progressive entropic optimal transport solvers, NeurIPS 2024, arXiv 2406.05061",
    presets={"smoke": {"points": 300}},
)
class Entropic(TwoMaps[EntropicConfig, "EntropicSteps"]):
    """Entropic plans between two subsamples, carried on to unseen points; the strength is chosen on held-out points."""

    def __init__(self, problem: Problem, config: EntropicConfig, context: Context) -> None:
        """Draw the two subsamples."""
        super().__init__(problem, config, context)
        plans = config.stages if config.method == "progot" else 1
        self._forward, self._backward = (
            EntropicSteps(training_points(side, context.generator, config.points), plans=plans)
            for side in (problem.target, problem.source)
        )

    def step(self) -> StepInfo:
        """Choose eps and make all plans; the device is read once in each of Sinkhorn's iterations."""
        x, y = self._backward.points, self._forward.points
        a, b = x.mean(0), y.mean(0)
        there, back, scalars = (self._progot if self.config.method == "progot" else self._map)(x - a, y - b)
        self._forward.set_plans(there, start=a, end=b)
        self._backward.set_plans(back, start=b, end=a)
        loss = (self._forward(x) - x).square().sum(1).mean() / 2
        return StepInfo(loss, scalars, done=True)

    def _map(self, x: Tensor, y: Tensor) -> tuple[list[Columns], list[Columns], dict[str, float]]:
        """Return the plan as seen from either side, and what is to be reported."""
        config, unit = self.config, self._unit(x, y)
        if config.eps is not None:
            eps = config.eps * unit
        else:  # the cost of a problem's own eps is |x - y|^2 / 2 as is
            eps = self.problem.epsilon or cycle_eps(x, y, self.context.generator)
        plan = annealed(x, y, eps, tolerance=config.tolerance, iterations=config.iterations)
        scalars = {"eps": eps / unit, "marginal_error": plan.error, "iterations": plan.iterations}
        return [(plan.columns, eps)], [(plan.rows, eps)], scalars

    def _progot(self, x: Tensor, y: Tensor) -> tuple[list[Columns], list[Columns], dict[str, float]]:
        """Return the plans of either way, and what is to be reported."""
        config, unit, ways, scalars = self.config, self._unit(x, y), [], dict[str, float]()
        for name, here, there in (("fwd", x, y), ("bwd", y, x)):
            eps = self_map_eps(there, self.context.generator) if config.eps is None else config.eps * unit
            plans = progot(
                here, there, eps, plans=config.stages, tolerance=config.tolerance, iterations=config.iterations
            )
            ways.append([(plan.columns, plan.eps) for plan in plans])
            scalars |= {
                f"eps_{name}": eps / unit,
                f"marginal_error_{name}": plans[-1].error,
                f"iterations_{name}": sum(plan.iterations for plan in plans),
            }
        return ways[0], ways[1], scalars

    def _unit(self, x: Tensor, y: Tensor) -> float:
        return mean_cost(x, y) if self.config.unit == "mean" else 1.0

    def transport(self) -> EntropicMaps:
        """Return both maps with all points of both sides."""
        usual = "mean" if self.problem.epsilon is None else "draw"
        return EntropicMaps(self._forward, self._backward, draw=(self.config.output or usual) == "draw")


class EntropicMaps(TwoModules):
    """T and S, or one draw of each plan for each point."""

    def __init__(self, there: EntropicSteps, back: EntropicSteps, *, draw: bool) -> None:
        """Hold both ways."""
        super().__init__(there, back)
        self.draw = self.stochastic = draw

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return T(x), or a draw, same shape as `x` (n, *shape)."""
        return self._moved(self.there, x, generator)

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return S(y), or a draw, same shape as `y` (n, *shape)."""
        return self._moved(self.back, y, generator)

    def _moved(self, way: nn.Module, x: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.draw:
            return way(x)  # type: ignore[no-any-return]
        return way(x, generator or torch.Generator(x.device).manual_seed(0))  # type: ignore[no-any-return]


class EntropicSteps(Recorded):
    """x -> where K entropic plans take it, each a share 1 / (K - k) of the way to the mean of stored points there.

    Attributes:
        points: the sample that all plans go to, shape (m, d).
        columns: h of each plan (`otbench.ops.sinkhorn`), shape (K, m).
        eps: strength of each, shape (K,).
        start: mean of the points that move, shape (d,).
        end: mean of `points`, shape (d,).
    """

    points: Tensor
    columns: Tensor
    eps: Tensor
    start: Tensor
    end: Tensor

    def __init__(self, points: Tensor, *, plans: int) -> None:
        """Hold `points`, shape (m, d), all of the same weight as yet."""
        super().__init__()
        self.keeps_rows = len(points)
        self.register_buffer("points", points)
        self.register_buffer("columns", points.new_zeros(plans, len(points)))
        self.register_buffer("eps", points.new_ones(plans))
        self.register_buffer("start", points.new_zeros(points.shape[1]))
        self.register_buffer("end", points.new_zeros(points.shape[1]))

    def set_plans(self, plans: list[Columns], *, start: Tensor, end: Tensor) -> None:
        """Take over h and eps of each plan, between points that are centred by `start` and `end`."""
        for k, (columns, eps) in enumerate(plans):
            self.columns[k], self.eps[k] = columns, eps
        self.start.copy_(start)
        self.end.copy_(end)

    @torch.no_grad()
    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the images of `x`, same shape (n, *shape); with a generator, one of the points each, drawn."""
        z, y = x.flatten(1).to(self.points) - self.start, self.points - self.end
        *first, (columns, eps) = zip(self.columns, self.eps.tolist(), strict=True)
        for k, plan in enumerate(first):
            z = torch.lerp(z, entropic_map(z, y, *plan), share(k, len(self.eps)))
        if generator is None:
            image = entropic_map(z, y, columns, eps)
        else:
            image = entropic_draw(z, y, columns, eps, generator=generator)
        return (self.end + image).to(x.dtype).reshape(x.shape)


def share(k: int, plans: int) -> float:
    """Return alpha_k, the share of the way that plan k of ProgOT goes: of equal length, the last to the end."""
    return 1 / (plans - k)


def mean_cost(x: Tensor, y: Tensor) -> float:
    """Return the mean of |x_i - y_j|^2 / 2 over all pairs of two centred samples; 1 where all points coincide."""
    return float(x.square().sum(1).mean() + y.square().sum(1).mean()) / 2 or 1.0


def annealed(x: Tensor, y: Tensor, eps: float, *, tolerance: float, iterations: int) -> Plan:
    """Return the plan of strength `eps`, by way of rough ones of 1/2, 1/4, ... of the mean cost while above `eps`."""
    level, start = mean_cost(x, y) / 2, None
    while level > eps:
        plan = sinkhorn(x, y, level, start=start, tolerance=ROUGH, iterations=iterations)
        level = max(level / 2, eps)
        start = plan.start_at(level)
    return sinkhorn(x, y, eps, start=start, tolerance=tolerance, iterations=iterations)


def progot(x: Tensor, y: Tensor, last: float, *, plans: int, tolerance: float, iterations: int) -> list[Plan]:
    """Return ProgOT's plans from `x`, shape (n, d), to `y`, shape (m, d), both centred; `last` is eps_K."""
    first, found, start = FIRST * mean_cost(x, y), list[Plan](), None
    norms = y.square().sum(1) / 2
    for k in range(plans):
        eps = first + k / plans * (last - first)
        if found:  # h holds the dual potential less |y|^2 / 2, over eps
            potential = (1 - share(k - 1, plans)) * (found[-1].columns * found[-1].eps + norms)
            start = (potential - norms) / eps
        stop = 0.1 + (k + 1) / plans * (tolerance - 0.1)
        plan = sinkhorn(x, y, eps, start=start, tolerance=stop, iterations=iterations)
        x = torch.lerp(x, entropic_map(x, y, plan.columns, eps), share(k, plans))
        found.append(plan)
    return found


def cycle_eps(x: Tensor, y: Tensor, generator: torch.Generator) -> float:
    """Return the eps with which plans of two halves come back to held-out points best, of 2^-k of the mean cost.

    Args:
        x: centred points, shape (n, d).
        y: centred points, shape (m, d).
        generator: shuffles the points.
    """
    (x0, x1, x2), (y0, y1, y2) = (_parts(side, generator) for side in (x, y))
    spread = [float(side.square().sum(1).mean()) or 1.0 for side in (x, y)]
    unit, best, lowest = mean_cost(x, y), 0, math.inf
    starts: list[Tensor | None] = [None, None]
    for k in range(1, MOST_HALVINGS + 1):
        eps = unit * 2.0**-k
        there, back = (
            sinkhorn(*pair, eps, start=start, tolerance=ROUGH)
            for pair, start in zip(((x1, y1), (x2, y2)), starts, strict=True)
        )
        around = entropic_map(entropic_map(x0, y1, there.columns, eps), x2, back.rows, eps)
        other = entropic_map(entropic_map(y0, x2, back.rows, eps), y1, there.columns, eps)
        gaps = (float((a - b).square().sum(1).mean()) for a, b in ((around, x0), (other, y0)))
        error = sum(gap / size for gap, size in zip(gaps, spread, strict=True))
        if error < lowest:
            best, lowest = k, error
        elif k - best >= PATIENCE:
            break
        starts = [plan.start_at(eps / 2) for plan in (there, back)]
    return unit * 2.0**-best


def self_map_eps(y: Tensor, generator: torch.Generator) -> float:
    """Return the eps of `SCALES` whose entropic map of `y` to itself moves held-out points least: the paper's choice.

    Args:
        y: centred points, shape (m, d).
        generator: shuffles the points.
    """
    held, *rest = _parts(y, generator)
    fitted = torch.cat(rest)
    unit, errors = mean_cost(y, y), dict[float, float]()
    for scale in SCALES:
        eps = scale * unit
        plan = self_sinkhorn(fitted, eps, tolerance=ROUGH)
        errors[eps] = float((entropic_map(held, fitted, plan.columns, eps) - held).square().sum(1).mean())
    return min(errors, key=errors.__getitem__)


def _parts(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return a fifth of the points, at random, and the rest in two halves; of fewer than three, all of them thrice."""
    if len(x) < 3:
        return x, x, x
    x = x[torch.randperm(len(x), generator=generator, device=x.device)]
    held = -(-len(x) // 5)
    return x[:held], x[held : (held + len(x) + 1) // 2], x[(held + len(x) + 1) // 2 :]
