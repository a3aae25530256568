"""Early stopping: the weights of the best validation."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

_COUNTERS = ("loss", "stall", "drops", "done")


class Watch:
    """Keeps the weights of the best validation, and says when to lower the learning rate and when to stop.

    The rate is lowered when `waits[drops]` validations in a row were no better than the best; the last wait stops. Left
    out, neither ever happens.

    Attributes:
        loss: best validation loss so far; infinite before the first.
        stall: validations without improvement, since the best, or since the last drop if `restart`.
        drops: how often the rate was lowered.
        done: whether to stop.
    """

    def __init__(self, module: nn.Module, *, waits: tuple[float, ...] = (math.inf,), restart: bool = True) -> None:
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
        return {name: getattr(self, name) for name in _COUNTERS} | {"best": self._best.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.loss, self.stall, self.drops, self.done = (state[name] for name in _COUNTERS)
        self._best.load_state_dict(state["best"])
