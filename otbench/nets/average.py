"""Polynomial averaging of the iterates of a network (Shamir & Zhang, ICML 2013)."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, *, taken: int, power: float) -> None:
    """Move `average` so that its parameters are the mean of all iterates k of `network` with weights ~ k^power.

    Floating buffers, such as the running means of a batch norm, are averaged alike.

    The recursion needs no memory of the past: the newest of t iterates has the share (power + 1) / (t + power).

    Args:
        average: the averaged network; a copy of `network` in shape.
        network: the newest iterate.
        taken: steps so far, t >= 1, the newest included.
        power: 0 = plain mean; about the last 1/power of all steps count.
    """
    share = (power + 1) / (taken + power)
    mine, newest = (
        [*net.parameters(), *(held for held in net.buffers() if held.is_floating_point())] for net in (average, network)
    )
    torch._foreach_lerp_(mine, newest, share)
