"""Parameters drawn uniformly: how the networks of the flows start."""

from __future__ import annotations

import torch
from torch import nn


def uniform(
    bound: float,
    *shape: int,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Parameter:
    """Return a parameter of `shape`, drawn uniformly from [-bound, bound).

    Args:
        bound: largest size.
        shape: of the parameter.
        generator: source of randomness, on `device`.
        device: where the parameter lives.
        dtype: its floating type.
    """
    return nn.Parameter(torch.empty(shape, device=device, dtype=dtype).uniform_(-bound, bound, generator=generator))
