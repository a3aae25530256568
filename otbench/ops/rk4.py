"""The classical Runge-Kutta method of order 4 with fixed steps, for points and integrals along their way."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def rk4(
    rates: Callable[[Tensor, float], tuple[Tensor, ...]],
    state: tuple[Tensor, ...],
    start: float,
    end: float,
    steps: int,
) -> tuple[Tensor, ...]:
    """Return `state` at time `end`.

    Args:
        rates: derivatives of all parts of the state, from its first part, the points, and the time.
        state: at time `start`.
        start: the first time.
        end: the last; it may be the earlier one.
        steps: number of steps, each of which takes four evaluations.
    """
    h = (end - start) / steps
    for k in range(steps):
        x, t = state[0], start + k * h
        first = rates(x, t)
        second = rates(x + h / 2 * first[0], t + h / 2)
        third = rates(x + h / 2 * second[0], t + h / 2)
        fourth = rates(x + h * third[0], t + h)
        parts = zip(state, first, second, third, fourth, strict=True)
        state = tuple(s + h / 6 * (r1 + 2 * (r2 + r3) + r4) for s, r1, r2, r3, r4 in parts)
    return state
