"""One step of an optimiser, and the rates that it takes: what every training loop here does alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def descend(optimiser: torch.optim.Optimizer, loss: Tensor, *, grad_clip: float | None = None) -> None:
    """Take one step of `optimiser` on `loss`, shape (); parameters outside its graph stay as they are.

    Args:
        optimiser: holds the parameters.
        loss: with a graph; no gradients of earlier losses are added to its own.
        grad_clip: largest norm of the gradient in all parameters together; None = as it is.
    """
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if grad_clip is not None:
        nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], grad_clip)
    optimiser.step()


def set_rates(optimiser: torch.optim.Optimizer, lr: float, *, weight_decay: float | None = None) -> None:
    """Set the learning rate and, if given, the weight decay of all parameters of `optimiser`."""
    for group in optimiser.param_groups:
        group["lr"] = lr
        if weight_decay is not None:
            group["weight_decay"] = weight_decay
