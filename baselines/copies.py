"""Copies of training rows: what a method reaches that has learnt nothing but its training data by heart.

T(x) is a training row of the target, drawn at random; the point that is moved is not looked at. New draws from the
right distribution would score the same on average, up to the distance of the training rows themselves. So a two-sample
distance at or below that of this row says nothing more: neither that a map is good, nor that it is better than another.
`novelty` (0 for copies) and the cost tell a map from copies.
"""

from __future__ import annotations

import torch
from torch import Tensor

from otbench.ops.points import FRESH_POINTS, training_batch
from otbench.solver import Config, Context, No, Problem, Solver, StepInfo, Support, Transport, Yes, register_baseline


@register_baseline("copies", config=Config, reference="none: T(x) = a training row of the target, at random")
class Copies(Solver[Config]):
    """Sends every point to a random training row of the other side: what memorising reaches.

    A two-sample distance below this row's says nothing.
    """

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take any cost; source and target points must have the same shape."""
        same = problem.source.shape == problem.target.shape
        return Yes if same else No(problem.shapes_differ)

    def __init__(self, problem: Problem, config: Config, context: Context) -> None:
        """Start at zero; the rows are read by the step."""
        super().__init__(problem, config, context)
        self._source, self._target = (torch.zeros(1, *side.shape) for side in (problem.source, problem.target))

    def step(self) -> StepInfo:
        """Take the training rows of both sides, at most `FRESH_POINTS` of each."""
        self._source, self._target = (
            training_batch(side, self.context.generator, FRESH_POINTS).x
            for side in (self.problem.source, self.problem.target)
        )
        return StepInfo(0.0, done=True)

    def transport(self) -> DrawnRows:
        """Return the rows; points of a side without a pool are fresh draws, and no training rows."""
        sides = ((self.problem.source, self._source), (self.problem.target, self._target))
        rows = sum(len(points) for side, points in sides if side.pool is not None)
        return DrawnRows(self._source, self._target, keeps_rows=rows)


class DrawnRows(Transport):
    """A stored row for each point, drawn with replacement."""

    stochastic = True
    source: Tensor
    target: Tensor

    def __init__(self, source: Tensor, target: Tensor, *, keeps_rows: int) -> None:
        """Hold points of both sides, shapes (N, *shape) and (M, *shape), of which `keeps_rows` are training rows."""
        super().__init__()
        self.register_buffer("source", source)
        self.register_buffer("target", target)
        self.keeps_rows = keeps_rows

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return a row of the target for each point of `x`, shape (n, *shape)."""
        return _drawn(self.target, x, generator)

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return a row of the source for each point of `y`, shape (n, *shape)."""
        return _drawn(self.source, y, generator)


def _drawn(rows: Tensor, x: Tensor, generator: torch.Generator | None) -> Tensor:
    return rows[torch.randint(len(rows), (len(x),), generator=generator, device=rows.device)].to(x.dtype)
