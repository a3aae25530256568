"""How parameters start: where they live, their type, and the generator that they are drawn from."""

from __future__ import annotations

from typing import TypedDict, Unpack

import torch
from torch import Tensor, nn

from otbench.solver import Context


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
