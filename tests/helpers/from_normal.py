"""What tests of flows share: problems from N(0, I) to a pool, and samples in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from otbench.problem import FreshMeasure, PoolMeasure, Problem, QuadraticCost

F64 = torch.float64


def problem(y: Tensor, validation: Tensor | None = None) -> Problem:
    d = y.shape[1]
    source = FreshMeasure((d,), lambda n, g: torch.randn(n, d, generator=g, dtype=y.dtype), is_standard_normal=True)
    return Problem(source, PoolMeasure(y, validation=validation), QuadraticCost(), torch.device("cpu"), y.dtype)


def sample(n: int, d: int, *, seed: int = 5) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)
