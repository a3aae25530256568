"""Checks records of somebody else before they may stand beside the reference set."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from otbench.config import build_config
from otbench.errors import OtbenchError
from otbench.harness.identity import code_hash, current_hash
from otbench.names import few
from otbench.plugins.registry import Registry
from otbench.records.record import Record
from otbench.records.series import Series, newest, series_of
from otbench.records.verified import Outcome, Verification
from otbench.records.words import counted
from otbench.task import Task

LEAST_VERIFIED, VERIFIED_SHARE = 3, 0.05
"""Records that must have been run again: this many, and this share."""
_SAME = (Outcome.EQUAL, Outcome.WITHIN)


def objections(
    records: Sequence[Record],
    verified: Sequence[Verification],
    registry: Registry,
    *,
    verify: str,
    data_dir: Path | None = None,
) -> list[str]:
    """Return what keeps `records` from being submitted, one line each; none if nothing does.

    Args:
        records: all of one folder, at least one.
        verified: what `otbench verify` found of them.
        registry: where solvers and tasks are found.
        verify: the command that runs records of this folder again.
        data_dir: the user's own data.
    """
    tables: dict[tuple[object, ...], dict[Series, Mapping[int, Record]]] = {}
    for series, runs in newest(records, series_of).items():
        budget = series.time_limit, series.cpu_limit
        table = (series.task, series.config, series.preset, budget, series.dtype, series.device)
        tables.setdefault(table, {})[series] = runs
    found = list(_code(records, registry))
    for rows in tables.values():
        found += _seeds(rows)
        found += _controls(rows, registry, data_dir)
    return [*found, *_verified(records, verified, verify)]


def verified_ids(records: Sequence[Record], verified: Sequence[Verification]) -> set[str]:
    """Return the ids of those of `records` that came out the same when they were run again."""
    code = {record.id: code_hash(record.source) for record in records}
    return {v.id for v in verified if v.outcome in _SAME and code.get(v.id) == v.recorded}


def _code(records: Sequence[Record], registry: Registry) -> Iterator[str]:
    """Object to records of which nobody can tell what made them."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.spec.solver, record.spec.task), []).append(record)
    for (solver, task), members in sorted(groups.items()):
        now = current_hash(solver, task, registry)
        if now is None:
            yield f"{solver} on {task}: not known here; name its file by --plugin, and send it in the same pull request"
            continue
        other = [record for record in members if code_hash(record.source) != now]
        unnamed = [r.id for r in other if not r.environment.get("commit") or r.environment.get("dirty")]
        if unnamed:
            yield (
                f"{solver} on {task}: made by other code than this checkout's, and by no commit as it was committed:"
                f" {few(unnamed, 3)}"
            )


def _seeds(rows: Mapping[Series, Mapping[int, Record]]) -> Iterator[str]:
    """Object to seeds that were chosen: all rows of a table have seeds 0, 1, ... without a gap."""
    seeds = set().union(*rows.values())
    if seeds != set(range(len(seeds))):
        yield f"{_where(next(iter(rows)))}: seeds must begin at 0 and have no gap, not {_listed(seeds)}"
    for series, runs in rows.items():
        if lacking := seeds - set(runs):
            yield f"{_where(series)}: {series.label} lacks seed {_listed(lacking)}, which other rows have"


def _listed(seeds: Collection[int]) -> str:
    return few([str(seed) for seed in sorted(seeds)], 5)


def _controls(rows: Mapping[Series, Mapping[int, Record]], registry: Registry, data_dir: Path | None) -> Iterator[str]:
    """Object to tables without the rows that always stand beside solvers."""
    series, runs = next(iter(rows.items()))
    spec = next(iter(runs.values())).spec
    try:
        wanted = [entry.name for entry in registry.entries("baseline") if registry.load(entry).always]
        note = registry.load(registry.find(spec.task, "task"))
        assert issubclass(note.cls, Task)
        config = build_config(note.config, spec.task_config, owner=f"task {spec.task}")
        wanted += note.cls(config, data_dir=data_dir).controls()
    except OtbenchError as error:
        yield f"{_where(series)}: {error}"
        return
    have = {series.solver for series in rows}
    if lacking := sorted(set(wanted) - have):
        yield f"{_where(series)}: the rows that always stand beside solvers are missing: {', '.join(lacking)}"


def _verified(records: Sequence[Record], verified: Sequence[Verification], verify: str) -> Iterator[str]:
    """Object to records that were not run again, or came out different."""
    code = {record.id: code_hash(record.source) for record in records}
    different = [v.id for v in verified if v.outcome is Outcome.DIFFERENT and code.get(v.id) == v.recorded]
    if different:
        yield f"run again, these came out different: {few(different, 5)}"
    needed = min(len(records), max(LEAST_VERIFIED, math.ceil(VERIFIED_SHARE * len(records))))
    good = len(verified_ids(records, verified))
    if good < needed:
        yield (
            f"{good} of {counted(len(records), 'record')} came out the same when run again, {needed} must:"
            f" {verify} --sample {needed}"
        )


def _where(series: Series) -> str:
    limit = "" if series.time_limit is None else f", {series.time_limit:g} s"
    limit += "" if series.cpu_limit is None else f", {series.cpu_limit:g} CPU s"
    return f"{series.task} ({series.instance}), {series.preset}{limit}, {series.device}"
