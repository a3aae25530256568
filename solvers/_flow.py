"""What the continuous normalising flows share: which problems they take, published rows, and watching a held-out pool.

A flow is trained by maximum likelihood on target samples alone: it carries data to N(0, I), and its inverse is the
forward map.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from torch import Tensor

from otbench.config import Config
from otbench.errors import UsageError
from otbench.problem import Problem
from otbench.solver import No, Solver, Support

Row = Literal["ours", "auto", "power", "gas", "hepmass", "miniboone", "bsds300"]
"""Names of rows of settings; `auto` is the published row of the problem's dimension."""
DIMENSIONS = {"power": 6, "gas": 8, "hepmass": 21, "miniboone": 43, "bsds300": 63}
"""Coordinates of the published data sets."""

ConfigT = TypeVar("ConfigT", bound=Config)
SettingsT = TypeVar("SettingsT")


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


def settle(table: Mapping[str, SettingsT], row: Row, config: Config, dim: int, *, owner: str) -> SettingsT:
    """Return a row of settings, with the parameters of `config` that are given (not None) in place of the row's.

    Args:
        table: dataclasses by row name; their fields are parameters of `config`.
        row: which of them.
        config: what the user gave.
        dim: coordinates of the problem, by which `auto` chooses.
        owner: the solver's name, for the message.

    Raises:
        UsageError: `auto`, and no published data set has `dim` coordinates.
    """
    if row == "auto":
        names = [name for name, d in DIMENSIONS.items() if d == dim]
        if not names:
            known = ", ".join(f"{name} ({d})" for name, d in DIMENSIONS.items())
            raise UsageError(
                f"{owner}: there are no published settings for d = {dim}, only for {known}; "
                f"name a row, as in {owner}[settings=miniboone], or use another preset"
            )
        row = names[0]  # type: ignore[assignment]
    settings: Any = table[row]
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(settings)}
    changed: SettingsT = dataclasses.replace(settings, **{k: v for k, v in given.items() if v is not None})
    return changed


def log_normal(z: Tensor) -> Tensor:
    """Return log densities of N(0, I) at `z`, shape (n,), for `z` of shape (n, d)."""
    return -(z.square().sum(1) + z.shape[1] * math.log(2 * math.pi)) / 2
