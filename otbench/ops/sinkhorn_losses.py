r"""The Sinkhorn divergence and the Monge gap as training losses, with gradients by Danskin's theorem.

With c(x, y) = |x - y|^2 / 2, uniform weights and
$W_\varepsilon = \min_\pi \langle \pi, c \rangle + \varepsilon \sum \pi \log \pi$ under the marginals,

$$\Delta_\varepsilon(x, y) = W_\varepsilon(x, y) - W_\varepsilon(x, x) / 2 - W_\varepsilon(y, y) / 2, \qquad
\mathcal{M}_\varepsilon(x, t) = \frac1n \sum_i c(x_i, t_i) - W_\varepsilon(x, t) .$$

The second is the Monge gap of images t_i of points x_i (Uscidda, Cuturi, ICML 2023, arXiv 2302.04953): never negative,
since the coupling i -> i is one of those that W minimises over, at an entropy that only lowers W. It is at least
eps log n, and what exceeds this vanishes with eps where the images are optimal.

The plan is held fixed in the gradient. With E the entropic map from a sample to another, the gradient of
W_eps(x, y) in x_i is (x_i - E(x_i)) / n; so those of both losses are differences of barycentres,

$$\frac{\partial \Delta}{\partial x_i} = \frac{E_{x \to x}(x_i) - E_{x \to y}(x_i)}{n}, \qquad
\frac{\partial \mathcal{M}}{\partial t_i} = \frac{E_{t \to x}(t_i) - x_i}{n} .$$
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from otbench.ops.sinkhorn import Plan, columns_at, entropic_map, self_sinkhorn, sinkhorn


class WarmSinkhorn:
    """Sinkhorn's iteration on one batch after another: it starts from the last one's dual potential.

    A potential is a function of a point, so it can be evaluated at the new batch, by one more pass. What it lacks there
    is the noise of both batches and what the map has learnt between them.

    Attributes:
        eps: strength of the entropy, in units of |x - y|^2 / 2.
        passes: over all pairs of two samples, so far.
    """

    def __init__(self, eps: float, *, tolerance: float, iterations: int, warm: bool = True) -> None:
        """Begin without a potential.

        Args:
            eps: strength of the entropy.
            tolerance: error of the marginals at which an iteration ends.
            iterations: upper limit of one iteration.
            warm: False starts from zero each time.
        """
        self.eps, self.passes, self._warm = eps, 0, warm
        self._tolerance, self._iterations = tolerance, iterations
        self._last: tuple[Tensor, Tensor] | None = None

    def plan(self, x: Tensor, y: Tensor) -> Plan:
        """Return the plan from `x`, shape (n, d), to `y`, shape (m, d), both without a graph."""
        start = None
        if self._last is not None and self._warm:
            start = columns_at(y, *self._last, self.eps)
            self.passes += 1
        found = sinkhorn(x, y, self.eps, start=start, tolerance=self._tolerance, iterations=self._iterations)
        self._last = x, found.rows
        self.passes += found.iterations
        return found

    def self_plan(self, x: Tensor) -> Plan:
        """Return the plan from `x`, shape (n, d), to itself: from zero, as that takes no more passes."""
        found = self_sinkhorn(x, self.eps, tolerance=self._tolerance, iterations=self._iterations)
        self.passes += found.iterations
        return found

    def state_dict(self) -> dict[str, object]:
        """Return the last potential, eps and the count."""
        return {"last": self._last, "eps": self.eps, "passes": self.passes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._last, self.eps, self.passes = state["last"], state["eps"], state["passes"]


def sinkhorn_divergence(x: Tensor, y: Tensor, plans: WarmSinkhorn, *, target_term: bool = True) -> Tensor:
    """Return the Sinkhorn divergence of two samples, shape (), with a gradient in `x`.

    Args:
        x: first sample, shape (n, d).
        y: second sample, shape (m, d), constant.
        plans: makes the plans.
        target_term: False leaves out W_eps(y, y) / 2, which does not depend on `x`.
    """
    points = x.detach()
    cross, own = plans.plan(points, y), plans.self_plan(points)
    value = _cost(cross, points, y) - _cost(own, points, points) / 2
    if target_term:
        value = value - _cost(plans.self_plan(y), y, y) / 2
    pull = entropic_map(points, points, own.columns, own.eps) - entropic_map(points, y, cross.columns, cross.eps)
    return _tangent(value, x, pull / len(x))


def monge_gap(x: Tensor, image: Tensor, plans: WarmSinkhorn) -> Tensor:
    """Return the Monge gap of images of points, shape (), with a gradient in `image`.

    Args:
        x: points, shape (n, d), constant.
        image: where a map takes them, shape (n, d).
        plans: makes the plans from points to images.
    """
    points = image.detach()
    plan = plans.plan(x, points)
    value = (points - x).square().sum(1).mean() / 2 - _cost(plan, x, points)
    return _tangent(value, image, (entropic_map(points, x, plan.rows, plan.eps) - x) / len(x))


def _cost(plan: Plan, x: Tensor, y: Tensor) -> Tensor:
    """Return the dual value of a plan, shape (): W_eps where it is optimal, less before."""
    norms = x.square().sum(1).mean() + y.square().sum(1).mean()
    return plan.eps * (plan.rows.mean() + plan.columns.mean()) + norms / 2


def _tangent(value: Tensor, points: Tensor, gradient: Tensor) -> Tensor:
    """Return `value`, with `gradient` as its gradient in `points`."""
    return value + ((points - points.detach()) * gradient).sum()
