"""All scores of a trained pair of maps where the exact ones are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from otbench.metrics.uvp import cosine, mean_square, uvp
from otbench.metrics.way import action_ratio, continuity, interpolants, velocity_error
from otbench.ops.points import fixed_rows
from otbench.picture import POINTS, Picture
from otbench.problem import Cost
from otbench.reporting import Metric
from otbench.task import TIMES, Outputs, Way

KNOWN_MAP_METRICS = (
    Metric("uvp_fwd", "UVP fwd", "%", primary=True, flag_worse=True),
    Metric("uvp_bwd", "UVP bwd", "%", primary=True, flag_worse=True),
    Metric("uvp_mean", "UVP mean T", "%", primary=True, flag_worse=True),
    Metric("cosine_fwd", "cosine fwd", higher_is_better=True),
    Metric("cosine_bwd", "cosine bwd", higher_is_better=True),
    Metric("cost", "cost", "data units^2"),
    Metric("cost_gap", "cost gap", "%"),
    Metric("inverse_gap", "|S(T(x))-x|^2", "%"),
)
"""What `KnownMaps.scores` returns of the maps."""
KNOWN_WAY_METRICS = (
    Metric("uvp_quarter", "UVP X_1/4", "%"),
    Metric("uvp_half", "UVP X_1/2", "%"),
    Metric("uvp_three_quarters", "UVP X_3/4", "%"),
    Metric("velocity_error", "velocity error", "%"),
    Metric("action_ratio", "action"),
    Metric("continuity", "continuity", "%"),
)
"""What it returns beside them of `Outputs.way`."""
_FOLLOWED = 4096
"""Exact paths at each time at which velocities are looked at, at most."""
_NO_COST = 1e-12
"""Below this share of the variances the exact cost is rounding error: the two measures are the same."""


@dataclass(frozen=True)
class KnownMaps:
    """Test points, where the exact maps take them, and what scores are relative to; points in float64 on the CPU.

    Attributes:
        x: points of the source, shape (n, d).
        forward: their exact images T*(x), shape (n, d).
        y: points of the target, shape (m, d).
        backward: their exact images S*(y), shape (m, d).
        variances: total variances of source and target.
        cost: E c(x, T*(x)) in the population.
        ground: c, the cost of moving one point.
    """

    x: Tensor
    forward: Tensor
    y: Tensor
    backward: Tensor
    variances: tuple[float, float]
    cost: float
    ground: Cost

    def scores(self, outputs: Outputs) -> dict[str, float]:
        """Return metrics by name; cosines that are 0/0 and backward scores of one-way maps are left out.

        `uvp_fwd` of a stochastic map is that of single draws, `uvp_mean` that of the mean over draws.

        The sampling error of the cost is nearly that of the exact map on the same points, so `cost_gap` is relative
        to the latter: (cost of T - cost of T*, both on the test points) / exact cost.
        """
        variance0, variance1 = self.variances
        moves = self._moves
        forward = outputs.forward.cpu().double()
        cost, exact_cost = (float(self.ground(self.x, image).mean()) for image in (forward, self.forward))
        scores: dict[str, float | None] = {
            "uvp_fwd": uvp(forward, self.forward, variance1),
            "cosine_fwd": cosine(self.x, forward, self.forward) if moves else None,
            "cost": cost,
            "cost_gap": 100 * (cost - exact_cost) / self.cost if moves else None,
        }
        if outputs.forward_mean is not None:
            scores["uvp_mean"] = uvp(outputs.forward_mean, self.forward, variance1)
        if outputs.backward is not None:
            scores["uvp_bwd"] = uvp(outputs.backward, self.backward, variance0)
            scores["cosine_bwd"] = cosine(self.y, outputs.backward, self.backward) if moves else None
        if outputs.roundtrip is not None:
            scores["inverse_gap"] = uvp(outputs.roundtrip, self.x, variance0)
        if outputs.way is not None:
            scores |= self._way_scores(outputs.way)
        return {name: value for name, value in scores.items() if value is not None}

    def pictures(self, outputs: Outputs) -> tuple[Picture, ...]:
        """Return where points are on their way, and should be, in the first two coordinates; none of one coordinate."""
        if outputs.way is None or self.x.shape[1] < 2:
            return ()
        rows = outputs.way.rows.cpu()
        arrays = {}
        for k, (places, t) in enumerate(zip(outputs.way.points.cpu(), TIMES, strict=True)):
            exact = self.ground.path(self.x[rows], self.forward[rows], t)
            for name, points in (("place", places), ("exact", exact)):
                arrays[f"{name}-{k}"] = points[:POINTS, :2].float().numpy()
        return (Picture("way", "way", "The way from source to target", arrays),)

    def waypoints(self) -> Tensor:
        """Return points of exact paths at the inner `TIMES`, shape (3, m, d), each path at one time only."""
        return self._on_exact_paths(self.ground.path)

    @property
    def _moves(self) -> bool:
        """Whether the exact map moves anything."""
        return mean_square(self.forward - self.x) > _NO_COST * sum(self.variances)

    def _on_exact_paths(self, what: Callable[[Tensor, Tensor, float], Tensor]) -> Tensor:
        times = TIMES[1:-1]
        most = min(_FOLLOWED, len(self.x) // len(times))
        rows = fixed_rows(len(self.x), most * len(times))
        return torch.stack(
            [what(self.x[rows[k :: len(times)]], self.forward[rows[k :: len(times)]], t) for k, t in enumerate(times)]
        )

    def _way_scores(self, way: Way) -> dict[str, float]:
        rows, points = way.rows.cpu(), way.points.cpu().double()
        exact = torch.stack([self.ground.path(self.x[rows], self.forward[rows], t) for t in TIMES])
        found = interpolants(points, exact)
        scores = {
            f"uvp_{name}": value for name, value in zip(("quarter", "half", "three_quarters"), found, strict=True)
        }
        if not self._moves:
            return scores
        scores["action_ratio"] = action_ratio(points, exact, self.ground)
        if way.exact is not None:
            wanted = self._on_exact_paths(self.ground.path_velocity)
            scores["velocity_error"] = velocity_error(way.exact.cpu().double(), wanted)
        if way.velocity is not None:
            scores["continuity"] = continuity(points, way.velocity.cpu().double(), exact)
        return scores
