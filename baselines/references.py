"""Rows that need the task's test data: no map makes them, so the task itself says what they score.

`real_images` is what a perfect method would reach, with the noise of a finite test set; `reconstruction` is what the
task's decoder lets any method reach.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from otbench.solver import Config, No, Problem, Solver, StepInfo, Support, register_baseline


class ReferenceConfig(Config):
    """No parameters."""


class _Reference(Solver[ReferenceConfig]):
    """A row without a map: the harness asks the task for it and never trains or applies it."""

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Refuse: there is nothing to solve."""
        return No("not a method: a row that some tasks score from their own test data")

    def step(self) -> StepInfo:
        """Do nothing."""
        return StepInfo(0.0, done=True)

    def forward_map(
        self, x: Tensor, label: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Refuse.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a reference row has no map")

    def stored_modules(self) -> Mapping[str, nn.Module]:
        """Return nothing."""
        return {}


@register_baseline("real_images", config=ReferenceConfig, reference="none: test data in place of mapped points")
class RealImages(_Reference):
    """Real test images: accuracy of the classifier itself, distances of training images to test images."""

    reference = "real_images"


@register_baseline("reconstruction", config=ReferenceConfig, reference="none: test data, encoded and decoded")
class Reconstruction(_Reference):
    """Test images through the task's VAE: bounds every method that moves its codes."""

    reference = "reconstruction"
