"""What is said of a map of which only samples of both sides are known: held-out data, mapped and compared.

Distances end in `_fwd` for images of the source against held-out target points, in `_bwd` for the way back. A distance
as small as that of copies of training points (baseline `copies`) is as small as this test can see: below it, no row is
better than another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from otbench.config import Value
from otbench.metrics.discrete import plan_cost
from otbench.metrics.novelty import novelty
from otbench.metrics.two_sample import CURVE_POINTS, FINAL_POINTS, TEST_POINTS, HeldOut
from otbench.metrics.uvp import mean_square
from otbench.ops.points import fixed_rows
from otbench.picture import POINTS, Picture
from otbench.problem import Cost, QuadraticCost
from otbench.reporting import Metric

PLAN_POINTS = 2000
"""Most points of a side of the exact discrete plan."""
_SEED = 20260104
"""Of the permutation test."""

METRICS = (
    Metric("mmd_fwd", "MMD^2 fwd", primary=True, flag_worse=True),
    Metric("mmd_bwd", "MMD^2 bwd", primary=True),
    Metric("energy_fwd", "energy fwd", primary=True),
    Metric("sliced_w2_fwd", "sliced W2 fwd", primary=True),
    Metric("inverse_gap", "|S(T(x))-x|^2", "%", primary=True),
    Metric("novelty", "novelty", higher_is_better=True, primary=True),
    Metric("p_value_fwd", f"p (n <= {TEST_POINTS})", higher_is_better=True, primary=True),
    Metric("p_value_bwd", "p bwd", higher_is_better=True),
    Metric("p_points_fwd", "n of p", higher_is_better=True),
    Metric("p_points_bwd", "n of p bwd", higher_is_better=True),
    Metric("energy_bwd", "energy bwd"),
    Metric("sliced_w2_bwd", "sliced W2 bwd"),
    Metric("mmd_low_fwd", "MMD^2 fwd, low"),
    Metric("mmd_high_fwd", "MMD^2 fwd, high"),
    Metric("mmd_low_bwd", "MMD^2 bwd, low"),
    Metric("mmd_high_bwd", "MMD^2 bwd, high"),
    Metric("cost", "cost", "data units^2"),
)
"""How the numbers of `TwoSides.scores` are shown, but for those that only some tasks ask for."""


class TwoSides:
    """Held-out data of both sides; what depends on them alone is computed once for all maps."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        *,
        training: Tensor | None = None,
        source_variance: float | None = None,
        vstat: bool = False,
        plan: bool = True,
        ground: Cost | None = None,
    ) -> None:
        """Hold the data.

        Args:
            x: held-out source points, shape (n, *shape) with n >= 2, any floating dtype.
            y: held-out target points, shape (m, *shape) with m >= 2.
            training: training points of the target, shape (N, *shape), for `novelty`; None leaves it out.
            source_variance: E|x - E x|^2 of the source, to which `inverse_gap` is relative; None = that of `x`.
            vstat: whether OT-Flow's statistic is made as well.
            plan: whether the cost is held against that of an exact discrete plan.
            ground: c, the cost of moving one point; None = the quadratic cost.
        """
        self._x, self._y, self._training = x, y, training
        self.held_out = {"fwd": HeldOut(y, vstat=vstat), "bwd": HeldOut(x, vstat=vstat)}
        flat = x.detach().flatten(1).double()
        self._variance = mean_square(flat - flat.mean(0)) if source_variance is None else source_variance
        self._plan, self._ground = plan, QuadraticCost() if ground is None else ground
        self._plan_cost: float | None = None

    def facts(self) -> dict[str, Value]:
        """Return what is to be known of the comparison, for a record."""
        facts: dict[str, Value] = {
            "scored_points_at_most": FINAL_POINTS,
            "curve_points_at_most": CURVE_POINTS,
            "permutation_points": min(TEST_POINTS, len(self._x), len(self._y)),
        }
        for side, data in self.held_out.items():
            facts[f"mmd_bandwidths_{side}"] = ", ".join(f"{b:.6g}" for b in data.bandwidths(final=True))
        return facts

    def scores(
        self, forward: Tensor, backward: Tensor | None = None, roundtrip: Tensor | None = None, *, final: bool = True
    ) -> dict[str, float]:
        """Return all numbers by name; those that do not apply are left out.

        `novelty` is the distance of T(x) to the nearest training points, over that of held-out points: copies have 0.
        `inverse_gap` is E|S(T(x)) - x|^2 in % of the source's variance. `cost_gap` is |cost - exact discrete cost| in %
        of the latter, both of the same held-out points, at most `PLAN_POINTS` a side.

        Args:
            forward: T(x), shape (n, *shape).
            backward: S(y), shape (m, *shape); None for one-way maps.
            roundtrip: S(T(x)), shape (n, *shape); None for one-way maps.
            final: whether training is over; before, costly numbers are left out.
        """
        scores = {
            f"{name}_{side}": value
            for side, mapped in (("fwd", forward), ("bwd", backward))
            if mapped is not None
            for name, value in self.held_out[side].compare(mapped, seed=_SEED, final=final).items()
        }
        scores["cost"] = self._cost(self._x, forward)
        if final and self._training is not None:
            found = novelty(forward.flatten(1), self._training.flatten(1), self._y.flatten(1))
            if not math.isnan(found):  # else the held-out points are copies, too
                scores["novelty"] = found
        if roundtrip is not None and self._variance > 0:
            scores["inverse_gap"] = 100 * mean_square(roundtrip - self._x) / self._variance
        if final and self._plan and (gap := self._cost_gap(forward)) is not None:
            scores["cost_gap"] = gap
        return scores

    def picture(self, forward: Tensor, names: Sequence[str]) -> Picture:
        """Return held-out points of both sides and T(x), at most 2000 fixed ones of each; `names` are of columns."""
        clouds = {"data": self._y, "mapped": forward, "source": self._x}
        arrays = {
            name: x[fixed_rows(len(x), POINTS).to(x.device)].detach().flatten(1).cpu().float().numpy()
            for name, x in clouds.items()
        }
        return Picture("rows", "points", "Test rows and pushforward", arrays, tuple(names))

    def _cost_gap(self, forward: Tensor) -> float | None:
        """Return how far the cost is from that of the exact plan, in %; None where nothing has to move."""
        rows, columns = (fixed_rows(len(side), PLAN_POINTS).to(side.device) for side in (self._x, self._y))
        x = self._x[rows]
        if self._plan_cost is None:
            self._plan_cost = plan_cost(x, self._y[columns], self._ground.exponent)
        if self._plan_cost <= 0:
            return None
        return 100 * abs(self._cost(x, forward[rows]) - self._plan_cost) / self._plan_cost

    def _cost(self, x: Tensor, image: Tensor) -> float:
        return float(self._ground(x.double(), image.double()).mean())


def two_sample_scores(
    x: Tensor,
    y: Tensor,
    forward: Tensor,
    backward: Tensor | None = None,
    roundtrip: Tensor | None = None,
    *,
    training: Tensor | None = None,
) -> dict[str, float]:
    """Return what held-out points and their images say of a map: `TwoSides.scores` of one map.

    Args:
        x: held-out source points, shape (n, *shape).
        y: held-out target points, shape (m, *shape), dtype and device of `x`.
        forward: T(x), shape (n, *shape).
        backward: S(y), shape (m, *shape); None for one-way maps.
        roundtrip: S(T(x)), shape (n, *shape); None for one-way maps.
        training: training points of the target, shape (N, *shape), for `novelty`.

    Raises:
        ValueError: the samples cannot be compared: other shapes, fewer than two points.
    """
    return TwoSides(x, y, training=training).scores(forward, backward, roundtrip)
