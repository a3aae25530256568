"""Records as one tidy table, one row per number: for pandas, R, a spreadsheet or a database."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from otbench.files import known_formats
from otbench.records.record import Record, Status
from otbench.records.series import real
from otbench.records.store import Store, write_output

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("csv", "parquet")
STEM = "metrics"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a text that begins with one of these for a formula, unless an apostrophe precedes it."""


def tidy(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row per number: what was run, then `group`, `metric`, `label`, `unit`, direction and `value`.

    Groups are `metric` (at the end), `start` (the same at step 0), `time` (seconds or ms, as the name says), `memory`
    (bytes), `count`, and `run`, whose single number `ok` is 1 or 0: every record has at least that row, so that no
    failure is lost. Parameters stand in `solver_config` and `task_config` as JSON.
    """
    import pandas as pd

    rows: list[list[object]] = []
    for record in records:
        run = [value(record) for _, value in _RUN.values()]
        known = {info.name: info for info in record.metric_info}
        for group, name, number in _numbers(record):
            info = known.get(name) if group in ("metric", "start") else None
            said: tuple[object, ...] = (name, "bytes" if group == "memory" else "", None, None)
            if info is not None:
                said = (info.label, info.unit, info.higher_is_better, info.primary)
            cells = (*run, group, name, *said, number)
            rows.append([_text(cell) if isinstance(cell, str) else cell for cell in cells])
    # fixed types, whatever the records hold: a column of nothing must not become another type in each file
    types = {name: kind for name, (kind, _) in _RUN.items()} | _NUMBER
    return pd.DataFrame(rows, columns=list(types), dtype=object).astype(types)


def export(records: Iterable[Record], folder: Path, formats: Iterable[str]) -> list[Path]:
    """Write the tidy table of `records` into `folder` as `metrics.csv`, `metrics.parquet`; return the paths.

    Raises:
        UsageError: an unknown format.
        StoreError: a file cannot be written, for want of space or permission.
    """
    wanted = known_formats(formats, FORMATS)
    Store(folder).prepare()
    table = tidy(records)
    paths = []
    for name in wanted:
        path = folder / f"{STEM}.{name}"
        write_output(path, _csv(table) if name == "csv" else table.to_parquet(index=False))
        paths.append(path)
    return paths


_RUN: dict[str, tuple[str, Callable[[Record], object]]] = {
    "id": ("string", lambda record: record.id),
    "kind": ("string", lambda record: record.spec.kind),
    "solver": ("string", lambda record: record.spec.solver),
    "label": ("string", lambda record: record.label or record.spec.solver),
    "solver_config": ("string", lambda record: json.dumps(record.spec.solver_config, sort_keys=True)),
    "task": ("string", lambda record: record.spec.task),
    "task_config": ("string", lambda record: json.dumps(record.spec.task_config, sort_keys=True)),
    "instance": ("string", lambda record: record.instance),
    "preset": ("string", lambda record: record.spec.preset),
    "seed": ("Int64", lambda record: _whole(record.spec.seed)),
    "budget_steps": ("Int64", lambda record: _whole(record.spec.steps)),
    "budget_s": ("float64", lambda record: _float(record.spec.time_limit)),
    "budget_cpu_s": ("float64", lambda record: _float(record.spec.cpu_limit)),
    "device": ("string", lambda record: record.spec.device),
    "device_name": ("string", lambda record: str(record.environment.get("device") or "")),
    "dtype": ("string", lambda record: record.spec.dtype),
    "threads": ("Int64", lambda record: _whole(record.spec.threads)),
    "shared_device": ("bool", lambda record: record.shared_device),
    "status": ("string", lambda record: str(record.status)),
    "reason": ("string", lambda record: record.reason),
    "created": ("string", lambda record: record.created),
    "commit": ("string", lambda record: str(record.environment.get("commit") or "")),
}
"""Columns that say what was run: the type of each, and where it is in the record."""
_NUMBER = {
    "group": "string",
    "metric": "string",
    "metric_label": "string",
    "unit": "string",
    "higher_is_better": "boolean",
    "primary": "boolean",
    "value": "float64",
}
"""Columns that say what the number of the row is, with their types."""


def _numbers(record: Record) -> Iterator[tuple[str, str, float]]:
    yield "run", "ok", float(record.status is Status.OK)
    for group, values in (("metric", record.metrics), ("start", record.start)):
        for name, value in values.items():
            yield group, name, _float(value)
    for group, model in (("time", record.times), ("memory", record.memory), ("count", record.counts)):
        for name, value in model.model_dump(exclude={"networks_moved"}).items():
            if value is not None:
                yield group, name, _float(value)


def _float(value: float | None) -> float:
    return math.nan if value is None else real(value)


def _whole(value: int | None) -> int | None:
    return value if value is not None and abs(value) < 2**63 else None  # what a column of whole numbers can hold


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode()  # half a surrogate pair can stand in JSON, but in no file


def _csv(table: pd.DataFrame) -> bytes:
    """Return CSV in which no text is a formula: a spreadsheet would evaluate a name that begins with `=`."""
    safe = table.copy()
    for name in safe.columns[safe.dtypes == "string"]:
        cells = safe[name]
        safe[name] = cells.where(~cells.str.startswith(FORMULA), "'" + cells).str.replace("\x00", "", regex=False)
    return safe.to_csv(index=False, lineterminator="\n").encode()
