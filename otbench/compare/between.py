"""One solver against another in the same records, as if they were two states of one program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from otbench.compare.compare import compare
from otbench.compare.verdict import Aspect, Comparison, Comparisons, Rules, Verdict
from otbench.errors import UsageError
from otbench.names import hint, plain
from otbench.records.record import Record, Status
from otbench.records.series import FLOORS, series_of
from otbench.statistics.paired import ALPHA, Block, adjusted


def between(records: Iterable[Record], first: str, second: str, rules: Rules | None = None) -> Comparisons:
    """Say whether `second` is worse than `first`, where both ran on the same instances under the same terms.

    They are paired and tested as BASE and NEW are. Between Gaussians, the error of each pool, which the row `linear`
    shows, is taken out first, as in tables. Memory and time are shown and make nobody worse.

    Args:
        records: both, and the floors beside them.
        first: a solver or baseline as typed, `ncf[lr=1e-3]`.
        second: another one.
        rules: what counts as worse (default: `Rules()`, but with the level of tables).

    Raises:
        UsageError: a name is not in the records, or they are the same.
    """
    everything = list(records)
    known = sorted({plain(record.label or record.spec.solver) for record in everything})
    for name in (first, second):
        if name not in known:
            raise UsageError(f"--solver {name}: no record of it here{hint(name, known, 'there is', most=30)}")
    if first == second:
        raise UsageError(f"--solver {first}: named twice; two different ones are compared")
    sides = [
        [record for record in everything if plain(record.label or record.spec.solver) == name]
        for name in (first, second)
    ]
    floors = _floors(everything)
    kind = "solver" if any(record.spec.kind == "solver" for side in sides for record in side) else "baseline"
    label = f"{second} against {first}"
    one, other = _without_floors(sides, floors)
    made = compare(_named(one, label, kind), _named(other, label, kind), rules or Rules(alpha=ALPHA))
    rows = tuple(_told(row, first, second) for row in made.rows)
    notes = made.notes
    if any(a is not b for side, sent in zip(sides, (one, other), strict=True) for a, b in zip(side, sent, strict=True)):
        notes += ("gaussian: values are without the error of each pool, as linear has it, and with its mean",)
    return replace(made, rows=rows, notes=notes, between=(first, second))


def _told(row: Comparison, first: str, second: str) -> Comparison:
    """Return `row` in the names of the two; memory and time of two solvers are no regression."""
    gated = row.gated and row.aspect in (Aspect.STATUS, Aspect.QUALITY)
    if row.metric == "run" and row.verdict in (Verdict.NOTHING, Verdict.NOT_COMPARABLE):
        return replace(row, gated=False, verdict=Verdict.NOT_COMPARABLE, reason="only one of the two ran there")
    return replace(row, gated=gated)


def _named(records: Sequence[Record], label: str, kind: str) -> list[Record]:
    """Return `records` as runs of one and the same solver."""
    update = {"solver": label, "kind": kind}
    return [r.model_copy(update={"label": label, "spec": r.spec.model_copy(update=update)}) for r in records]


def _floors(records: Sequence[Record]) -> dict[str, dict[Block, float]]:
    """Return, by metric, the scores of the baseline that is exact but for its pool."""
    found: dict[str, dict[Block, float]] = {}
    for record in records:
        if record.status is Status.OK and record.spec.solver == FLOORS.get(record.spec.task):
            for name, value in record.metrics.items():
                found.setdefault(name, {})[_block(record)] = value
    return found


def _block(record: Record) -> Block:
    series = series_of(record)
    return (series.task, series.config, series.preset), record.spec.seed


def _without_floors(
    sides: Sequence[Sequence[Record]], floors: Mapping[str, Mapping[Block, float]]
) -> list[list[Record]]:
    """Return both sides with metrics adjusted for the floor of each pool, wherever it is known for all of them."""
    made = [list(side) for side in sides]
    for name, floor in floors.items():
        info = [metric for side in sides for record in side for metric in record.metric_info if metric.name == name]
        if any(metric.higher_is_better for metric in info):
            continue
        values = [
            {
                _block(record): record.metrics[name]
                for record in side
                if name in record.metrics and _block(record) in floor
            }
            for side in sides
        ]
        moved = adjusted({str(k): by_block for k, by_block in enumerate(values)}, floor)
        if min((value for by_block in moved.values() for value in by_block.values()), default=0.0) <= 0:
            continue
        for k, side in enumerate(made):
            for place, record in enumerate(side):
                if name in record.metrics and _block(record) in moved[str(k)]:
                    metrics = record.metrics | {name: moved[str(k)][_block(record)]}
                    side[place] = record.model_copy(update={"metrics": metrics})
    return made
