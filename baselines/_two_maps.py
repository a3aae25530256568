"""What closed-form and discrete rows share: two fixed maps as modules, filled by their only step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from otbench.solver import Config, No, Problem, Solver, Support

ConfigT = TypeVar("ConfigT", bound=Config)
ModuleT = TypeVar("ModuleT", bound=nn.Module)


class TwoMaps(Solver[ConfigT], Generic[ConfigT, ModuleT]):
    """A row whose maps are two modules, `_forward` and `_backward`, each from (n, *shape) to (n, *shape).

    Where `reads_label`, the modules are given the classes, too, shape (n,).
    """

    _forward: ModuleT
    _backward: ModuleT

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        """Take the quadratic cost between points of the same shape."""
        if problem.source.shape != problem.target.shape:
            return No(f"shapes differ: {problem.source.shape} and {problem.target.shape}")
        return super().supports(problem)

    def forward_map(
        self, x: Tensor, label: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return T(x), shape (n, *shape)."""
        return self._move(self._forward, x, label)

    def backward_map(
        self, y: Tensor, label: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return S(y), shape (n, *shape); of discrete plans, not the inverse of T off the samples."""
        return self._move(self._backward, y, label)

    def stored_modules(self) -> Mapping[str, nn.Module]:
        """Return both maps with what they hold."""
        return {"forward": self._forward, "backward": self._backward}

    @torch.no_grad()
    def _move(self, network: nn.Module, x: Tensor, label: Tensor | None) -> Tensor:
        if not self.reads_label:
            return network(x)  # type: ignore[no-any-return]
        if label is None:
            raise ValueError("these maps go class by class: they need the class of each point")
        return network(x, label)  # type: ignore[no-any-return]
