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
    decoupled: bool = True,
) -> torch.optim.Optimizer:
    """Return an optimiser of `parameters`, which may have any shape.

    SOAP turns matrices and the weights of convolutions, and treats vectors and scalars as Adam does. Its first step
    measures the gradient and leaves all parameters as they are; every tenth one decomposes the preconditioners.

    Args:
        name: which.
        parameters: what it trains.
        lr: learning rate.
        betas: memory of gradients and of their squares.
        weight_decay: each step shrinks all weights by learning rate * this.
        decoupled: if not, Adam's gradient is that of the loss plus `weight_decay` * |parameters|^2 / 2, as it was
            before AdamW; SOAP's decay is decoupled in any case.
    """
    if name == "adam":
        kind = torch.optim.AdamW if decoupled else torch.optim.Adam
        return kind(parameters, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
    return SOAP(parameters, lr=lr, betas=betas, weight_decay=weight_decay)
