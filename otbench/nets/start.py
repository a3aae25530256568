"""How parameters start: where they live, their type, and the generator that they are drawn from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict, TypeVar, Unpack

import torch
from torch import Tensor, nn

from otbench.solver import Context


ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Start(TypedDict, total=False):
    """Options that all networks take.

    Attributes:
        generator: source of randomness, on `device`.
        device: where the parameters live.
        dtype: floating type of the parameters.
    """

    generator: torch.Generator | None
    device: torch.device | str | None
    dtype: torch.dtype | None


def start_of(context: Context) -> Start:
    """Return the options of a solver's networks."""
    return {"generator": context.generator, "device": context.device, "dtype": context.dtype}


def drawn(build: Callable[[], ModuleT], context: Context) -> ModuleT:
    """Return the module that `build` makes, its layers drawn from `context.generator`, on `context.device`.

    For networks of torch's own layers (`nn.Linear`, `nn.Conv2d` ...), which draw from torch's global state when they are
    made: two runs of one seed would differ. Here that state is seeded from the generator, for the time of `build`, and
    given back. Layers are drawn on the CPU, so that they are the same on every device.

    Args:
        build: makes the module; `lambda: Network(dim, 64)`.
        context: of the solver.
    """
    seed = int(torch.randint(2**63 - 1, (), generator=context.generator, device=context.generator.device))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        made = build()
    return made.to(context.device, context.dtype)


def uniform(bound: float, *shape: int, **start: Unpack[Start]) -> nn.Parameter:
    """Return a parameter of `shape`, drawn uniformly from [-bound, bound)."""
    return nn.Parameter(_empty(shape, start).uniform_(-bound, bound, generator=start.get("generator")))


def normal(std: float, *shape: int, **start: Unpack[Start]) -> nn.Parameter:
    """Return a parameter of `shape`, drawn from N(0, std^2)."""
    return nn.Parameter(_empty(shape, start).normal_(0.0, std, generator=start.get("generator")))


def constant(value: float, *shape: int, **start: Unpack[Start]) -> nn.Parameter:
    """Return a parameter of `shape` that has `value` everywhere."""
    return nn.Parameter(_empty(shape, start).fill_(value))


def _empty(shape: tuple[int, ...], start: Start) -> Tensor:
    return torch.empty(shape, device=start.get("device"), dtype=start.get("dtype"))
