"""Identity pre-training: the start of the Brenier solvers is a potential whose gradient is about the identity."""

from __future__ import annotations

import torch

from otbench.nets.dense_icnn import DenseICNN
from otbench.ops.descent import descend

SPREAD, BATCH, RATE, WEIGHT_DECAY = 3.0, 1024, 1e-3, 1e-10
TOLERANCE = 1e-3
LOOK_EVERY = 10


def pretrain_identity(potential: DenseICNN, *, generator: torch.Generator, steps: int = 5000, convex: bool) -> float:
    """Fit the gradient of `potential` to the identity on N(0, 9 I), in place.

    Minimises the mean square of grad psi(x) - x over points and coordinates by Adam until it is below 1e-3. Source:
    Korotin et al., "Do neural optimal transport solvers work?", NeurIPS 2021, released code. The error is looked at
    every tenth step, which keeps the device busy.

    Args:
        potential: the network.
        generator: source of the points, on the network's device.
        steps: most steps; 0 = none.
        convex: clamp the network to be convex after each step.

    Returns:
        The last mean square that was looked at, data units squared; infinite without steps.
    """
    like = potential.linear
    optimiser = torch.optim.Adam(potential.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY, fused=True)
    found = float("inf")
    for k in range(steps):
        x = torch.randn(BATCH, potential.dim, generator=generator, device=like.device, dtype=like.dtype).mul_(SPREAD)
        loss = (potential.gradient(x) - x).square().mean()
        descend(optimiser, loss)
        if convex:
            potential.clamp_convex_()
        if k % LOOK_EVERY == 0:
            found = float(loss.detach())
            if found < TOLERANCE:
                break
    return found
