r"""A continuous normalising flow as a chain of ODEs, solved by torchdiffeq, with integrals along the way.

Source: Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud, "FFJORD", ICLR 2019 (arXiv 1810.01367); penalties of Finlay,
Jacobsen, Nurbekyan, Oberman, ICML 2020 (arXiv 2002.02798).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from otbench.errors import DivergedError
from otbench.recorded import Recorded

MAX_STEPS = 2000
"""Steps after which the adaptive solver gives up on one block."""


class Flowed(NamedTuple):
    """Where points went: x (n, d), and integrals along the way, each (n,)."""

    x: Tensor
    log_det: Tensor
    kinetic: Tensor
    jacobian: Tensor


class Block(Recorded):
    """One network and its end time, as an ODE on 0 <= t <= 1 for (x, l, int |f|^2 / 2, int |(df/dx) e|^2).

    Attributes:
        net: f.
        root: square root of the end time, shape (), where it is learnt; else None, and the end time is 1.
        probe: e, shape (n, 1, d); None for the exact trace, without penalties.
        evaluations: calls so far.
    """

    def __init__(self, net: nn.Module, *, learnt_end: bool) -> None:
        """Join a network on (x, t), such as `ConcatSquash`, with its end time, which is 1 at first."""
        super().__init__()
        self.net = net
        one = torch.ones_like(next(net.parameters()).detach().flatten()[0])
        self.root = nn.Parameter(one) if learnt_end else None
        self.probe: Tensor | None = None
        self.evaluations = 0

    def forward(self, t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the derivative of `state` at scaled time `t`; of the points alone if `state` is only them."""
        self.evaluations += 1
        end, x = 1.0 if self.root is None else self.root.square(), state[0]
        t = t.to(x.dtype) * end
        if len(state) == 1:
            return (end * self.net(x, t),)
        if self.probe is None:
            velocity, trace = self.net.value_and_trace(x, t)  # type: ignore[operator]
            return end * velocity, end * trace
        velocity, tangents = self.net.value_and_tangents(x, t, self.probe)  # type: ignore[operator]
        trace = (tangents * self.probe).sum((1, 2))
        if len(state) == 2:
            return end * velocity, end * trace
        return end * velocity, end * trace, end * velocity.square().sum(1) / 2, end * tangents.square().sum((1, 2))


def carry(
    blocks: Sequence[Block],
    x: Tensor,
    *,
    options: dict[str, object],
    reverse: bool = False,
    start: float = 0.0,
    density: bool = True,
    probes: Tensor | None = None,
    penalised: bool = False,
    adjoint: bool = False,
) -> Flowed:
    """Carry points through all blocks, data to normal, or back.

    Args:
        blocks: in the order data to normal.
        x: points, shape (n, d).
        options: method, tolerances and steps, as torchdiffeq takes them.
        reverse: normal to data.
        start: time at which each block begins, or ends if `reverse`.
        density: whether to integrate the trace; zeros otherwise.
        probes: directions of the trace estimates, shape (blocks, n, d); None = exact trace.
        penalised: whether to integrate both penalties; zeros otherwise.
        adjoint: gradients by the adjoint equation.

    Raises:
        DivergedError: the solver's step became too small, or it took too many.
    """
    from torchdiffeq import odeint, odeint_adjoint

    solve = odeint_adjoint if adjoint else odeint
    times = torch.tensor([1.0, start] if reverse else [start, 1.0], dtype=x.dtype, device=x.device)
    zero = x.new_zeros(len(x))
    integrals = [zero] * (3 if penalised else int(density))
    for k, block in reversed(list(enumerate(blocks))) if reverse else enumerate(blocks):
        block.probe = None if probes is None else probes[k][:, None]
        try:
            path = solve(block, (x, *integrals), times, **options)
        except AssertionError as error:  # torchdiffeq's only word for an equation that it cannot solve
            raise DivergedError(f"the ODE solver gave up on block {k}: {error}") from None
        x, *integrals = (values[-1] for values in path)
    log_det, kinetic, jacobian = (*integrals, zero, zero, zero)[:3]
    return Flowed(x, log_det, kinetic, jacobian)


def dopri5(atol: float, rtol: float) -> dict[str, object]:
    """Return the options of `carry` for the adaptive solver of order 5 with these tolerances."""
    return {"method": "dopri5", "atol": atol, "rtol": rtol, "options": {"max_num_steps": MAX_STEPS}}
