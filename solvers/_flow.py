"""What the continuous normalising flows share: which problems they take, published rows, and watching a held-out pool.

A flow is trained by maximum likelihood on target samples alone: it carries data to N(0, I), and its inverse is the
forward map.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from otbench.config import Config
from otbench.errors import UsageError
from otbench.problem import Measure, Problem
from otbench.solver import No, Solver, Support

Row = Literal["ours", "auto", "power", "gas", "hepmass", "miniboone", "bsds300"]
"""Names of rows of settings; `auto` is the published row of the problem's dimension."""
DIMENSIONS = {"power": 6, "gas": 8, "hepmass": 21, "miniboone": 43, "bsds300": 63}
"""Coordinates of the published data sets."""

ConfigT = TypeVar("ConfigT", bound=Config)
SettingsT = TypeVar("SettingsT")


class Flow(Solver[ConfigT]):
    """A solver that needs a standard normal source; by it a record hashes this file too."""

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


def held_out(measure: Measure, most: int, generator: torch.Generator) -> Tensor:
    """Return at most `most` points to validate on, shape (v, d): a fixed sample where the measure sets none aside.

    A finite pool without a validation part is validated on its own points, which shows no over-fitting.
    """
    pool = measure.validation
    if pool is None:
        return measure.sample(most, generator=generator).x.flatten(1)
    if len(pool) > most:
        pool = pool[torch.randperm(len(pool), generator=generator, device=pool.device)[:most]]
    return pool.flatten(1)


def log_normal(z: Tensor) -> Tensor:
    """Return log densities of N(0, I) at `z`, shape (n,), for `z` of shape (n, d)."""
    return -(z.square().sum(1) + z.shape[1] * math.log(2 * math.pi)) / 2


class Watch:
    """Keeps the weights of the best validation, and says when to lower the learning rate and when to stop.

    The rate is lowered when `waits[drops]` validations in a row were no better than the best; the last wait stops.

    Attributes:
        loss: best validation loss so far; infinite before the first.
        stall: validations without improvement, since the best, or since the last drop if `restart`.
        drops: how often the rate was lowered.
        done: whether to stop.
    """

    def __init__(self, module: nn.Module, *, waits: tuple[int, ...], restart: bool) -> None:
        """Watch `module`; `restart` says whether a drop begins the count again."""
        self._module, self._waits, self._restart = module, waits, restart
        self._best = copy.deepcopy(module).requires_grad_(False)
        self.loss, self.stall, self.drops, self.done = math.inf, 0, 0, False

    @property
    def module(self) -> nn.Module:
        """The network with the best weights; as it is now, before any validation."""
        return self._module if math.isinf(self.loss) else self._best

    def look(self, loss: float) -> None:
        """Take note of a validation; a loss that is not a number is no improvement."""
        if loss < self.loss:
            self.loss, self.stall = loss, 0
            with torch.no_grad():
                for best, now in zip(self._best.parameters(), self._module.parameters(), strict=True):
                    best.copy_(now)
            return
        self.stall += 1
        if self.done or self.stall < self._waits[self.drops]:
            return
        self.done = self.drops + 1 == len(self._waits)
        self.drops += not self.done
        if self._restart:
            self.stall = 0

    def state_dict(self) -> dict[str, object]:
        """Return counters and best weights."""
        return {
            "loss": self.loss,
            "stall": self.stall,
            "drops": self.drops,
            "done": self.done,
            "best": self._best.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.loss, self.stall, self.drops, self.done = (state[name] for name in ("loss", "stall", "drops", "done"))
        self._best.load_state_dict(state["best"])
