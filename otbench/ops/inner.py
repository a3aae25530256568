"""The inner problem of a training step: which solver finds its solution, how exactly, and from where."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from otbench.ops.prox import ProxResult


class InnerSolver:
    """Solves an inner problem sample by sample: by our solver, or by the authors' with its own first iterates.

    Part of a solver's state.

    Attributes:
        starts: last solution at each point of a pool, shape (N, d), where ours starts; None without warm start.
        last: solution of the last call, where a batch that comes again starts; None before the first.
    """

    def __init__(
        self,
        ours: Callable[..., ProxResult],
        paper: Callable[..., ProxResult] | None,
        *,
        pool: Tensor | None,
        generator: torch.Generator,
        tol: float,
        max_iter: int,
    ) -> None:
        """Choose the solver.

        Args:
            ours: `solve_prox`, `solve_conjugate` or a function called as they are.
            paper: `solve_prox_paper`, `solve_conjugate_paper` or a function called as they are; replaces ours.
            pool: points from which the first solves start, shape (N, d); None = no warm start.
            generator: randomness of the authors' solver.
            tol: tolerance on residuals, data units.
            max_iter: most iterations.
        """
        self._ours, self._paper, self._generator, self._tol, self._max_iter = ours, paper, generator, tol, max_iter
        self.starts = None if pool is None or paper is not None else pool.clone()
        self.last: Tensor | None = None

    def __call__(
        self,
        gradient: Callable[[Tensor], Tensor],
        z: Tensor,
        index: Tensor | None = None,
        *,
        tol: float | None = None,
        again: bool = False,
    ) -> ProxResult:
        """Solve at points `z`, shape (n, d).

        Args:
            gradient: what the solver takes.
            z: right-hand sides.
            index: their places in the pool, shape (n,); None = not of a pool.
            tol: tolerance in the place of the usual one.
            again: whether these are the points of the last call.
        """
        tol = self._tol if tol is None else tol
        if self._paper is not None:
            return self._paper(gradient, z, generator=self._generator, tol=tol, max_iter=self._max_iter)
        start = self.last if again else None
        if self.starts is not None and index is not None:
            start = self.starts[index]
        found = self._ours(gradient, z, start=start, tol=tol, max_iter=self._max_iter)
        self.last = found.y
        if self.starts is not None and index is not None:
            self.starts[index] = found.y
        return found

    def state_dict(self) -> dict[str, object]:
        """Return the last solutions."""
        return {"starts": self.starts, "last": self.last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the last solutions."""
        self.last = state["last"]
        if self.starts is not None:
            self.starts.copy_(state["starts"])
