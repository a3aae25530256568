"""From records to rows: what every report shows, before it is drawn.

One section is one instance under one preset; one row is one solver with one setting, over its seeds. Sanity rows come
first, published numbers last, and only beside presets that may be compared with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

import numpy as np
import pandas as pd

from otbench.record import MetricInfo, PublishedKey, Record, Status

COMPARABLE = ("full", "paper")
"""Presets whose rows may stand beside published numbers."""
ABOVE_IDENTITY = "!"
WORSE_THAN_START = "v"
NEVER_MOVED = "~"
START = "start"
"""Column: the solver's own score at step 0, in the section's first metric."""


@dataclass(frozen=True)
class Number:
    """A mean over seeds.

    Attributes:
        mean: arithmetic mean.
        half: half width of the 95 % t-interval of the mean; None for one seed.
        n: number of seeds.
    """

    mean: float
    half: float | None
    n: int


@dataclass
class Row:
    """One solver with one setting on one instance.

    Attributes:
        label: the solver as typed.
        kind: baseline, solver or published.
        numbers: by column key; a missing one does not apply.
        marks: `!` above identity, `v` worse than its own start, `~` a network that never moved.
        failures: "seed 1: diverged: ..." for runs that are not ok.
        source: where a published row is from.
        note: footnote of a published row.
    """

    label: str
    kind: str
    numbers: dict[str, Number] = field(default_factory=dict)
    marks: str = ""
    failures: list[str] = field(default_factory=list)
    source: str = ""
    note: str = ""


@dataclass
class Section:
    """One instance under one preset."""

    task: str
    instance: str
    preset: str
    device: str
    metrics: list[MetricInfo]
    rows: list[Row]

    @property
    def comparable(self) -> bool:
        """Whether these numbers may stand beside published ones."""
        return self.preset in COMPARABLE

    @property
    def start(self) -> MetricInfo | None:
        """The first metric as it was before the first step: a column of its own."""
        return self.metrics[0].model_copy(update={"name": START, "label": "at step 0"}) if self.metrics else None


def sections(records: Iterable[Record]) -> list[Section]:
    """Group `records` into sections, in the order of task, preset and instance."""
    grouped: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        spec = record.spec
        device = str(record.environment.get("device") or spec.device)
        config = tuple((k, v if isinstance(v, (int, float)) else str(v)) for k, v in sorted(spec.task_config.items()))
        grouped.setdefault((spec.task, spec.preset, device, config), []).append(record)
    ordered = sorted(grouped.items(), key=lambda item: [_sortable(part) for part in item[0]])
    return [_section(group) for _, group in ordered]


def _sortable(value: object) -> tuple[int, float, str] | tuple[tuple[int, float, str], ...]:
    if isinstance(value, tuple):
        return tuple(_sortable(part) for part in value)  # type: ignore[misc]
    if isinstance(value, (int, float)):
        return (0, float(value), "")
    return (1, 0.0, str(value))


def _section(records: Sequence[Record]) -> Section:
    first = next((r for r in records if r.metric_info), records[0])
    rows: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        rows.setdefault((record.spec.kind, record.label or record.spec.solver), []).append(record)
    identity = _identity(records)
    made = [_row(label, kind, group, first.metric_info, identity) for (kind, label), group in rows.items()]
    made.sort(key=lambda row: (row.kind != "baseline", row.label))
    section = Section(
        task=first.spec.task,
        instance=first.instance or _instance_words(first),
        preset=first.spec.preset,
        device=str(first.environment.get("device") or first.spec.device),
        metrics=[
            metric for metric in first.metric_info if metric.primary and any(metric.name in row.numbers for row in made)
        ],
        rows=made,
    )
    if section.comparable and first.published is not None:
        section.rows += _published_rows(first.published)
    return section


def _instance_words(record: Record) -> str:
    return ", ".join(f"{key} = {value}" for key, value in record.spec.task_config.items() if value is not None)


def _identity(records: Iterable[Record]) -> dict[str, float]:
    """Return the mean metrics of the identity row, against which marks are given."""
    values = [r.metrics for r in records if r.spec.solver == "identity" and r.status is Status.OK]
    return {name: float(np.mean([v[name] for v in values])) for name in (values[0] if values else {})}


def _row(
    label: str, kind: str, records: Sequence[Record], metrics: Sequence[MetricInfo], identity: Mapping[str, float]
) -> Row:
    row = Row(label, kind)
    good = [record for record in records if record.status is Status.OK]
    row.failures = [
        f"seed {record.spec.seed}: {record.status}: {record.reason}"
        for record in records
        if record.status is not Status.OK
    ]
    values: dict[str, list[float]] = {}
    first = next((metric.name for metric in metrics if metric.primary), "")
    for record in good:
        start = record.start.get(first) if kind == "solver" else None
        for key, value in {**_columns(record), START: start}.items():
            if value is not None:
                values.setdefault(key, []).append(float(value))
    row.numbers = {key: number(column) for key, column in values.items()}
    if kind == "solver":
        marked = [metric for metric in metrics if metric.marked]
        if any(_worse(r.metrics, identity, metric) for r in good for metric in marked):
            row.marks += ABOVE_IDENTITY
        if any(_worse(r.metrics, r.start, metric) for r in good for metric in marked):
            row.marks += WORSE_THAN_START
        if any(not moved for r in good for moved in r.counts.networks_moved.values()):
            row.marks += NEVER_MOVED
    return row


def _worse(values: Mapping[str, float], reference: Mapping[str, float], metric: MetricInfo) -> bool:
    if metric.name not in values or metric.name not in reference:
        return False
    sign = -1 if metric.higher_is_better else 1
    return sign * values[metric.name] > sign * reference[metric.name]


def _columns(record: Record) -> dict[str, float | None]:
    times, memory, counts = record.times, record.memory, record.counts
    training = None if times.train_s is None else times.train_s + (times.warmup_s or 0.0)
    on_gpu = memory.cuda_peak_allocated is not None
    return {
        **record.metrics,
        "steps": counts.steps,
        "samples": counts.samples,
        "train_s": training,
        "step_ms": times.step_ms,
        "infer_fwd_ms": None if times.infer_fwd_s is None else 1000 * times.infer_fwd_s,
        "infer_bwd_ms": None if times.infer_bwd_s is None else 1000 * times.infer_bwd_s,
        "memory": memory.cuda_peak_allocated if on_gpu else memory.rss_above_imports,
        "stored_bytes": counts.stored_bytes,
        "parameters": counts.parameters,
        "directions": counts.directions,
    }


def number(values: Sequence[float]) -> Number:
    """Return mean and 95 % t-interval of `values`."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1 or not math.isfinite(mean):
        return Number(mean, None, n)
    from scipy.stats import t

    spread = float(np.std(values, ddof=1))
    return Number(mean, float(t.ppf(0.975, n - 1)) * spread / math.sqrt(n), n)


@cache
def published_table(name: str) -> pd.DataFrame:
    """Return results/published/`name`.csv: one number per row, with source and note."""
    text = resources.files("otbench.published").joinpath(f"{name}.csv")
    with text.open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False)


def _published_rows(key: PublishedKey) -> list[Row]:
    table = published_table(key.table)
    for column, value in key.where.items():
        table = table[table[column].astype(str) == str(value)]
    rows = []
    for (method, source), group in table.groupby(["method", "source"], sort=False):
        row = Row(str(method), "published", source=str(source))
        row.numbers = {str(r["metric"]): Number(float(r["value"]), None, 0) for _, r in group.iterrows()}
        row.note = " ".join(dict.fromkeys(note for note in group["note"].astype(str) if note))
        rows.append(row)
    return rows
