"""Series: one solver with one setting on one instance, over its seeds. How records belong together, for all readers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from otbench.config import Value
from otbench.records.record import Record

KeyT = TypeVar("KeyT")
FLOORS = {"gaussian": "linear"}
"""By task, the baseline that is exact but for the pool it is given: the pool's own error, which all rows hold."""
Runs = Mapping[int, Record]
"""The runs of one series by seed."""


@dataclass(frozen=True)
class Series:
    """One solver with one setting on one instance: what is followed from version to version.

    The solver's parameters count as typed, not with their defaults: a default that changed is a change of the solver.

    Attributes:
        kind: solver or baseline.
        solver: registered name.
        label: the solver as typed.
        task: registered name.
        config: parameters of the task that are set; equal numbers are equal, however they are written.
        preset: smoke, quick, full or paper.
        time_limit: seconds, where the budget is one of time.
        cpu_limit: CPU seconds, where it is one of these.
        dtype: floating type.
        device: cpu or cuda.
        instance: the instance in words; not part of the identity.
    """

    kind: str
    solver: str
    label: str
    task: str
    config: tuple[tuple[str, float | str], ...]
    preset: str
    time_limit: float | None
    cpu_limit: float | None
    dtype: str
    device: str
    instance: str = field(default="", compare=False)

    @property
    def order(self) -> tuple[object, ...]:
        """Where the series stands in a list."""
        budget = repr((self.time_limit, self.cpu_limit))
        return self.task, self.instance, self.preset, self.kind, self.label, self.device, budget


def series_of(record: Record) -> Series:
    """Return the series that `record` belongs to."""
    spec = record.spec
    config = {name: value for name, value in sorted(spec.task_config.items()) if value is not None}
    return Series(
        kind=spec.kind,
        solver=spec.solver,
        label=record.label or spec.solver,
        task=spec.task,
        config=tuple((name, _canonical(value)) for name, value in config.items()),
        preset=spec.preset,
        time_limit=spec.time_limit,
        cpu_limit=spec.cpu_limit,
        dtype=spec.dtype,
        device=spec.device.split(":")[0],
        instance=record.instance or ", ".join(f"{name} = {value}" for name, value in config.items()),
    )


def newest(records: Iterable[Record], key: Callable[[Record], KeyT]) -> dict[KeyT, dict[int, Record]]:
    """Group `records` by `key` and seed; of several records of one run the newest counts.

    A folder outlives many versions: an older record of a run was made by an older state of the code.
    """
    found: dict[KeyT, dict[int, Record]] = {}
    for record in sorted(records, key=lambda r: (r.spec.seed, r.created, r.id)):
        found.setdefault(key(record), {})[record.spec.seed] = record
    return found


def real(value: float) -> float:
    """Return `value` as a float; a whole number too large for one as infinity."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _canonical(value: Value) -> float | str:
    """Return `value` as something equal to itself, which a nan is not."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(real(value)):
        return real(value)
    return str(value)
