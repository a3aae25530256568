"""The optimisers that solvers offer by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import torch
from torch import nn

from otbench.ops.soap import SOAP

OptimiserName: TypeAlias = Literal["adam", "soap"]
"""Adam, or SOAP (Vyas et al., arXiv 2409.11321): Adam in the eigenbasis of Shampoo's preconditioner."""


def build_optimiser(
    name: OptimiserName,
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Return an optimiser of `parameters`; its weight decay is decoupled from the gradient.

    Args:
        name: which.
        parameters: what it trains.
        lr: learning rate.
        betas: memory of gradients and of their squares.
        weight_decay: each step shrinks all weights by learning rate * this.
    """
    if name == "adam":
        return torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
    return SOAP(parameters, lr=lr, betas=betas, weight_decay=weight_decay)
