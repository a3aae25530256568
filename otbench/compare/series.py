"""Cells: what is followed from version to version, and which of BASE stands against which of NEW."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from otbench.records.record import Record


@dataclass(frozen=True)
class Cell:
    """One solver with one setting on one instance: what is followed from version to version.

    The solver's parameters count as typed, not with their defaults: a default that changed is a change of the solver.

    Attributes:
        kind: solver or baseline.
        solver: registered name.
        label: the solver as typed.
        task: registered name.
        config: parameters of the task that are set.
        preset: smoke, quick, full or paper.
        time_limit: seconds, where the budget is one of time.
        dtype: floating type.
        device: cpu or cuda.
        instance: the instance in words; not part of the identity.
    """

    kind: str
    solver: str
    label: str
    task: str
    config: tuple[tuple[str, str], ...]
    preset: str
    time_limit: float | None
    dtype: str
    device: str
    instance: str = field(default="", compare=False)

    @property
    def order(self) -> tuple[object, ...]:
        """Where the cell stands in a list."""
        return self.task, self.instance, self.preset, self.kind, self.label, self.device, repr(self.time_limit)


def cell_of(record: Record) -> Cell:
    """Return the cell that `record` belongs to."""
    spec = record.spec
    config = tuple((k, _canonical(v)) for k, v in sorted(spec.task_config.items()) if v is not None)
    return Cell(
        kind=spec.kind,
        solver=spec.solver,
        label=record.label or spec.solver,
        task=spec.task,
        config=config,
        preset=spec.preset,
        time_limit=spec.time_limit,
        dtype=spec.dtype,
        device=spec.device.split(":")[0],
        instance=record.instance or ", ".join(f"{k} = {v}" for k, v in config),
    )


def _canonical(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{as_float(value)!r}"
    return str(value)


Runs = Mapping[int, Record]
"""The runs of one cell by seed."""


def cells(records: Sequence[Record]) -> tuple[dict[Cell, dict[int, Record]], int]:
    """Group by cell and seed; of several records of one run (a folder outlives many versions) the newest counts.

    Returns:
        The runs of each cell by seed, and how many older records were left out.
    """
    found: dict[Cell, dict[int, Record]] = {}
    for record in sorted(records, key=lambda r: (r.created, r.id)):
        found.setdefault(cell_of(record), {})[record.spec.seed] = record
    return found, len(records) - sum(len(runs) for runs in found.values())


def paired(left: Iterable[Cell], right: Iterable[Cell]) -> list[tuple[Cell | None, Cell | None]]:
    """Pair equal cells; what is left over is paired across devices where there is only one such pair."""
    ours, theirs = dict.fromkeys(left), dict.fromkeys(right)
    pairs: list[tuple[Cell | None, Cell | None]] = [(cell, cell) for cell in ours if cell in theirs]
    lonely = [cell for cell in ours if cell not in theirs]
    others: dict[Cell, list[Cell]] = {}
    for cell in theirs:
        if cell not in ours:
            others.setdefault(replace(cell, device=""), []).append(cell)
    counts = Counter(replace(cell, device="") for cell in lonely)
    for cell in lonely:
        free = others.get(replace(cell, device=""), [])
        if len(free) == 1 and counts[replace(cell, device="")] == 1:
            pairs.append((cell, free.pop()))
        else:
            pairs.append((cell, None))
    return pairs + [(None, cell) for free in others.values() for cell in free]


def as_float(value: float) -> float:
    """Return `value` as a float; a whole number too large for one is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
