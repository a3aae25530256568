"""Records as one tidy table, one row per number: for pandas, R, a spreadsheet or a database."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from otbench.errors import UsageError
from otbench.names import hint
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

    columns: dict[str, list[object]] = {name: [] for name in _COLUMNS}
    for record in records:
        head = _head(record)
        known = {info.name: info for info in record.metric_info}
        for group, name, value in _numbers(record):
            info = known.get(name) if group in ("metric", "start") else None
            tail = {
                "group": group,
                "metric": name,
                "metric_label": info.label if info else name,
                "unit": info.unit if info else _UNITS.get(group, ""),
                "higher_is_better": info.higher_is_better if info else None,
                "primary": info.primary if info else None,
                "value": value,
            }
            for column, cell in (head | tail).items():
                columns[column].append(_text(cell) if isinstance(cell, str) else cell)
    # fixed types, whatever the records hold: a column of nothing must not become another type in each file
    return pd.DataFrame(columns, dtype=object).astype(_COLUMNS)


def export(records: Iterable[Record], folder: Path, formats: Iterable[str]) -> list[Path]:
    """Write the tidy table of `records` into `folder` as `metrics.csv`, `metrics.parquet`; return the paths.

    Raises:
        UsageError: an unknown format.
        StoreError: a file cannot be written, for want of space or permission.
    """
    wanted = list(dict.fromkeys(formats))
    for name in wanted:
        if name not in FORMATS:
            raise UsageError(f"--format {name}: unknown{hint(name, FORMATS, 'formats')}")
    if not wanted:
        raise UsageError(f"--format: nothing given; formats: {', '.join(FORMATS)}")
    Store(folder).prepare()
    table = tidy(records)
    paths = []
    for name in wanted:
        path = folder / f"{STEM}.{name}"
        write_output(path, _csv(table) if name == "csv" else _parquet(table))
        paths.append(path)
    return paths


_COLUMNS = {
    "id": "string",
    "kind": "string",
    "solver": "string",
    "label": "string",
    "solver_config": "string",
    "task": "string",
    "task_config": "string",
    "instance": "string",
    "preset": "string",
    "seed": "Int64",
    "budget_steps": "Int64",
    "budget_s": "float64",
    "device": "string",
    "device_name": "string",
    "dtype": "string",
    "threads": "Int64",
    "shared_device": "bool",
    "status": "string",
    "reason": "string",
    "created": "string",
    "commit": "string",
    "group": "string",
    "metric": "string",
    "metric_label": "string",
    "unit": "string",
    "higher_is_better": "boolean",
    "primary": "boolean",
    "value": "float64",
}
_UNITS = {"memory": "bytes"}


def _head(record: Record) -> dict[str, object]:
    spec = record.spec
    return {
        "id": record.id,
        "kind": spec.kind,
        "solver": spec.solver,
        "label": record.label or spec.solver,
        "solver_config": json.dumps(spec.solver_config, sort_keys=True),
        "task": spec.task,
        "task_config": json.dumps(spec.task_config, sort_keys=True),
        "instance": record.instance,
        "preset": spec.preset,
        "seed": _whole(spec.seed),
        "budget_steps": _whole(spec.steps),
        "budget_s": _float(spec.time_limit),
        "device": spec.device,
        "device_name": str(record.environment.get("device") or ""),
        "dtype": spec.dtype,
        "threads": _whole(spec.threads),
        "shared_device": record.shared_device,
        "status": str(record.status),
        "reason": record.reason,
        "created": record.created,
        "commit": str(record.environment.get("commit") or ""),
    }


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
    for name in safe.columns[[kind == "string" for kind in _COLUMNS.values()]]:
        cells = safe[name]
        safe[name] = cells.where(~cells.str.startswith(FORMULA), "'" + cells).str.replace("\x00", "", regex=False)
    return safe.to_csv(index=False, lineterminator="\n").encode()


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
