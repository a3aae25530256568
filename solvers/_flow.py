"""What the continuous normalising flows share: which problems they take, published rows, and watching a held-out pool.

A flow is trained by maximum likelihood on target samples alone: it carries data to N(0, I), and its inverse is the
forward map.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, TypeVar

from torch import Tensor

from otbench.config import Config
from otbench.errors import UsageError
from otbench.problem import Problem
from otbench.solver import No, Solver, Support

RowName: TypeAlias = Literal["ours", "auto", "power", "gas", "hepmass", "miniboone", "bsds300"]
"""Names of rows of settings; `auto` is the published row of the problem's dimension."""
DIMENSIONS: dict[RowName, int] = {"power": 6, "gas": 8, "hepmass": 21, "miniboone": 43, "bsds300": 63}
"""Coordinates of the published data sets."""

ConfigT = TypeVar("ConfigT", bound=Config)


class Flow(Solver[ConfigT]):
    """A solver that needs a standard normal source."""

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take vectors, the quadratic cost, and a source that is N(0, I): a flow knows no other density there."""
        if len(problem.source.shape) != 1:
            return No(f"needs points that are vectors, not of shape {problem.source.shape}")
        if not problem.source.is_standard_normal:
            return No("needs a source that is standard normal")
        return super().supports(problem)


def row_named(row: RowName, dim: int, *, owner: str) -> RowName:
    """Return `row`; for `auto`, the row of the published data set that has `dim` coordinates.

    Args:
        row: what the user gave.
        dim: coordinates of the problem.
        owner: the solver's name, for the message.

    Raises:
        UsageError: `auto`, and no published data set has `dim` coordinates.
    """
    if row != "auto":
        return row
    for name, d in DIMENSIONS.items():
        if d == dim:
            return name
    known = ", ".join(f"{name} ({d})" for name, d in DIMENSIONS.items())
    raise UsageError(
        f"{owner}: there are no published settings for d = {dim}, only for {known}; "
        f"name a row, as in {owner}[settings=miniboone], or use another preset"
    )


def log_normal(z: Tensor) -> Tensor:
    """Return log densities of N(0, I) at `z`, shape (n,), for `z` of shape (n, d)."""
    return -(z.square().sum(1) + z.shape[1] * math.log(2 * math.pi)) / 2
