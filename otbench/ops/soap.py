r"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., ICLR 2025, arXiv 2409.11321).

For a weight matrix W with gradient G, running means of $G G^T$ and $G^T G$ have the eigenvectors $Q_L$ and $Q_R$; Adam
runs on $Q_L^T G Q_R$, and its step is turned back. A tensor of more dimensions has one basis for each of them; vectors
are left to plain Adam, and so are dimensions longer than `LARGEST`.

Deviations from the authors' code:
    momentum: kept in the basis and turned with it, instead of turned anew in each step. This changes no step beyond
        rounding, and saves a third of the products.
    elementwise work: all parameters at once. Small networks are bound by the number of operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

FREQUENCY = 10
"""Steps between two turns of the bases."""
LARGEST = 768
"""Longest dimension that has a basis: decomposing a longer one costs more than it saves."""
_EPS = 1e-8


class SOAP(torch.optim.Optimizer):
    """SOAP with decoupled weight decay. The first gradient of a parameter sets its bases and moves nothing.

    Parameters without a gradient stay as they are. A parameter's moments are kept in its basis.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        """Take `parameters`.

        Args:
            parameters: what to train, of any shape.
            lr: learning rate.
            betas: memory of gradients, and of their squares and second moments.
            weight_decay: each step shrinks all weights by lr * this.
        """
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; the host waits for the device where a basis turns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step(group)
        return loss

    def _step(self, group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        moved: dict[int, list[Tensor]] = {}  # by number of the step
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if state:
                state["step"] += 1
                moved.setdefault(state["step"], []).append(p)
            else:
                moments = {k: _second_moment(p.grad, k) * (1 - beta2) for k in _sides(p)}
                bases = {k: torch.linalg.eigh(moment)[1].flip(1) for k, moment in moments.items()}
                state.update(step=0, mean=torch.zeros_like(p), square=torch.zeros_like(p), moments=moments, bases=bases)
        for count, parameters in moved.items():
            rate = group["lr"] * math.sqrt(1 - beta2**count) / (1 - beta1**count)
            self._move(parameters, rate, betas=(beta1, beta2), shrink=group["lr"] * group["weight_decay"])
            for p in parameters:
                self._look(p, beta2, turn=count % FREQUENCY == 0)

    def _move(self, parameters: list[Tensor], rate: float, *, betas: tuple[float, float], shrink: float) -> None:
        """Move parameters by Adam in their bases."""
        states = [self.state[p] for p in parameters]
        turned = [_turn(p.grad, state["bases"]) for p, state in zip(parameters, states, strict=True)]  # type: ignore[arg-type]
        means, squares = [state["mean"] for state in states], [state["square"] for state in states]
        torch._foreach_lerp_(means, turned, 1 - betas[0])
        torch._foreach_mul_(squares, betas[1])
        torch._foreach_addcmul_(squares, turned, turned, 1 - betas[1])
        scales = torch._foreach_sqrt(squares)
        torch._foreach_add_(scales, _EPS)
        moves = torch._foreach_div(means, scales)
        back = [_turn(move, _inverse(state["bases"])) for move, state in zip(moves, states, strict=True)]
        torch._foreach_add_(parameters, back, alpha=-rate)
        if shrink:
            torch._foreach_mul_(parameters, 1 - shrink)

    def _look(self, p: Tensor, memory: float, *, turn: bool) -> None:
        """Take the gradient of `p` into its second moments, and turn its bases by one power iteration."""
        state, gradient = self.state[p], p.grad
        assert gradient is not None
        turns = {}
        for k in _sides(p):
            moment, basis = state["moments"][k], state["bases"][k]
            rows = gradient.movedim(k, 0).flatten(1)
            moment.addmm_(rows, rows.T, beta=memory, alpha=1 - memory)
            if not turn:
                continue
            product = moment @ basis
            order = (basis * product).sum(0).argsort(descending=True)  # by eigenvalue
            state["square"] = state["square"].index_select(k, order)
            state["bases"][k] = torch.linalg.qr(product[:, order])[0]
            turns[k] = basis.T @ state["bases"][k]
        if turns:
            state["mean"] = _turn(state["mean"], turns)


def _sides(p: Tensor) -> list[int]:
    """Return the dimensions of `p` that have a basis."""
    return [k for k, size in enumerate(p.shape) if p.ndim > 1 and size <= LARGEST]


def _second_moment(gradient: Tensor, k: int) -> Tensor:
    rows = gradient.movedim(k, 0).flatten(1)
    return rows @ rows.T


def _inverse(bases: dict[int, Tensor]) -> dict[int, Tensor]:
    return {k: basis.T for k, basis in bases.items()}


def _turn(x: Tensor, bases: dict[int, Tensor]) -> Tensor:
    """Return `x` in the bases of its dimensions: Q_L^T x Q_R for a matrix; as it is in those that have none."""
    for k, basis in bases.items():
        if x.ndim == 2:
            x = x @ basis if k else basis.T @ x
        else:
            x = torch.tensordot(x, basis, dims=[[k], [0]]).movedim(-1, k)
    return x
