"""Copies of training rows: what a method reaches that has learnt nothing but its training data by heart.

T(x) is a training row of the target, drawn at random; the point that is moved is not looked at. New draws from the
right distribution would score the same on average, up to the distance of the training rows themselves. So a two-sample
distance at or below that of this row says nothing more: neither that a map is good, nor that it is better than another.
`novelty` (0 for copies) and the cost tell a map from copies.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from otbench.ops.points import FRESH_POINTS, training_points
from otbench.solver import Config, Context, No, Problem, Solver, StepInfo, Support, Yes, register_baseline


class _Rows(nn.Module):
    """Stored rows; each call draws from them with replacement."""

    rows: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows)

    def forward(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        index = torch.randint(len(self.rows), (len(x),), generator=generator, device=x.device)
        return self.rows[index].view_as(x)


@register_baseline("copies", config=Config, reference="none: T(x) = a training row of the target, at random")
class Copies(Solver[Config]):
    """Sends every point to a random training row of the other side: what memorising reaches.

    A two-sample distance below this row's says nothing.
    """

    stochastic = True

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take any cost; source and target points must have the same shape."""
        same = problem.source.shape == problem.target.shape
        return Yes if same else No(f"shapes differ: {problem.source.shape} and {problem.target.shape}")

    def __init__(self, problem: Problem, config: Config, context: Context) -> None:
        """Start without rows; they are read by the step."""
        super().__init__(problem, config, context)
        empty = torch.zeros(1, problem.dim, device=context.device, dtype=context.dtype)
        self._forward, self._backward = _Rows(empty), _Rows(empty)

    def step(self) -> StepInfo:
        """Take the training rows of both sides, at most `FRESH_POINTS` of each."""
        self._forward, self._backward = (
            _Rows(training_points(side, self.context.generator, FRESH_POINTS))
            for side in (self.problem.target, self.problem.source)
        )
        return StepInfo(0.0, done=True)

    def forward_map(
        self, x: Tensor, label: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return a row of the target for each point of `x`, shape (n, *shape)."""
        return self._forward(x, generator)  # type: ignore[no-any-return]

    def backward_map(
        self, y: Tensor, label: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return a row of the source for each point of `y`, shape (m, *shape)."""
        return self._backward(y, generator)  # type: ignore[no-any-return]

    def stored_modules(self) -> Mapping[str, nn.Module]:
        """Return the rows."""
        return {"forward": self._forward, "backward": self._backward}
