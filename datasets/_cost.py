"""The ground cost that a task is told by two parameters, `cost` and `p`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from otbench.errors import UsageError
from otbench.problem import Cost, PowerCost, QuadraticCost
from otbench.task import Metric

CostName: TypeAlias = Literal["quadratic", "power"]
EXPONENT = 3.0
"""Of cost=power, where nobody sets one."""


def chosen_cost(name: CostName, p: float | None, *, owner: str) -> Cost:
    """Return |x - y|^2 / 2, or with `power` sum_i |x_i - y_i|^p / p.

    Raises:
        UsageError: an exponent is set for the quadratic cost.
    """
    if name == "power":
        return PowerCost(EXPONENT if p is None else p)
    if p is not None:
        raise UsageError(f"{owner}: p={p:g} belongs to cost=power, not to cost=quadratic")
    return QuadraticCost()


def of_any_cost(metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    """Return `metrics`, the cost among them without a unit: its unit is that of its exponent."""
    return tuple(Metric("cost", "cost") if metric.name == "cost" else metric for metric in metrics)
