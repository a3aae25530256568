"""What closed-form and discrete rows share: two fixed maps as modules, filled by their only step."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from otbench.solver import Config, Solver, Transport

ConfigT = TypeVar("ConfigT", bound=Config)
ModuleT = TypeVar("ModuleT", bound=nn.Module)


class TwoMaps(Solver[ConfigT], Generic[ConfigT, ModuleT]):
    """A row whose maps are two modules, `_forward` and `_backward`, each from (n, *shape) to (n, *shape).

    Where `reads_label`, the modules are given the classes, too, shape (n,).
    """

    reads_label: ClassVar[bool] = False
    _forward: ModuleT
    _backward: ModuleT

    def transport(self) -> TwoModules:
        """Return both maps with what they hold; of discrete plans, S is not the inverse of T off the samples."""
        return TwoModules(self._forward, self._backward, reads_label=self.reads_label)


class TwoModules(Transport):
    """T and S as one module each."""

    def __init__(self, there: nn.Module, back: nn.Module, *, reads_label: bool = False) -> None:
        """Hold both modules, each from (n, *shape) to (n, *shape); where `reads_label`, they take the classes, too."""
        super().__init__()
        self.there, self.back, self.reads_label = there, back, reads_label
        self.keeps_rows = sum(getattr(module, "keeps_rows", 0) for module in (there, back))

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return T(x), same shape as `x` (n, *shape)."""
        return self.there(x, label) if self.reads_label else self.there(x)  # type: ignore[no-any-return]

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return S(y), same shape as `y` (n, *shape)."""
        return self.back(y, label) if self.reads_label else self.back(y)  # type: ignore[no-any-return]
