"""Networks of torch's own layers, drawn from a solver's generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from otbench.solver import Context

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def drawn(build: Callable[[], ModuleT], context: Context) -> ModuleT:
    """Return the module that `build` makes, its layers drawn from `context.generator`, on `context.device`.

    Torch's own layers (`nn.Linear`, `nn.Conv2d` ...) draw from its global state when they are made, so that two runs of
    one seed would differ. Here that state is seeded from the generator for the time of `build`, and given back. Layers
    are drawn on the CPU: they are the same on every device.

    Args:
        build: makes the module; `lambda: Network(dim, 64)`.
        context: of the solver.
    """
    seed = int(torch.randint(2**63 - 1, (), generator=context.generator, device=context.generator.device))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        made = build()
    return made.to(context.device, context.dtype)
