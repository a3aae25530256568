"""Points that have to be kept to apply a map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from otbench.problem import Measure


class Anchors(nn.Module):
    """Points of a measure, flattened, shape (n, d), kept as a buffer."""

    points: Tensor

    def __init__(self, measure: Measure, most: int, generator: torch.Generator) -> None:
        """Choose `most` points, or a whole pool that has fewer; `generator` is on the measure's device."""
        super().__init__()
        points = measure.pool
        if points is None:
            points = measure.sample(most, generator=generator).x
        else:
            points = points[torch.randperm(len(points), generator=generator, device=points.device)[:most]]
        self.register_buffer("points", points.flatten(1))
