"""The mean of the wanted class: the most that a label alone can say of the target."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from otbench.problem import Measure, PoolMeasure
from otbench.solver import Config, Context, No, Problem, Solver, StepInfo, Support, Yes, register_baseline


class ClassMeanConfig(Config):
    """No parameters."""


class _Means(nn.Module):
    """One stored point for each class."""

    means: Tensor

    def __init__(self, classes: int, like: Tensor, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("means", like.new_zeros(classes, *shape))

    def forward(self, label: Tensor) -> Tensor:
        return self.means[label]


@register_baseline("class_mean", config=ClassMeanConfig, reference="none: T(x, k) = E[y | k]")
class ClassMean(Solver[ClassMeanConfig]):
    """Sends every point to the mean of the labelled training points of its class on the other side."""

    reads_label = True

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take finite pools with the same classes on both sides."""
        for side in (problem.source, problem.target):
            if not isinstance(side, PoolMeasure) or not side.classes:
                return No("needs classes on both sides")
        return Yes

    def __init__(self, problem: Problem, config: ClassMeanConfig, context: Context) -> None:
        """Start at zero; the means are read by the step."""
        super().__init__(problem, config, context)
        like = torch.zeros((), device=context.device, dtype=context.dtype)
        self._forward, self._backward = (
            _Means(side.classes, like, side.shape) for side in (problem.target, problem.source)
        )

    def step(self) -> StepInfo:
        """Read the class means of both pools, summed in float64, class by class."""
        for network, side in ((self._forward, self.problem.target), (self._backward, self.problem.source)):
            for k, mean in _class_means(side):
                network.means[k] = mean
        return StepInfo(0.0, done=True)

    def forward_map(
        self, x: Tensor, label: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the target's mean of the class of each point, shape (n, *shape)."""
        return self._of(self._forward, label)

    def backward_map(
        self, y: Tensor, label: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the source's mean of the class of each point, shape (n, *shape)."""
        return self._of(self._backward, label)

    def stored_modules(self) -> Mapping[str, nn.Module]:
        """Return the means of both sides."""
        return {"forward": self._forward, "backward": self._backward}

    @staticmethod
    def _of(network: _Means, label: Tensor | None) -> Tensor:
        if label is None:
            raise ValueError("class_mean moves points of a known class: give their labels")
        return network(label)  # type: ignore[no-any-return]


def _class_means(side: Measure) -> list[tuple[int, Tensor]]:
    assert isinstance(side, PoolMeasure)
    label = side.pool_label
    assert label is not None
    found = []
    for k in range(side.classes):
        members = (label == k).nonzero().squeeze(1)
        if len(members):
            found.append((k, side.take(members).x.double().mean(0).to(side.pool.dtype)))
    return found
