"""From records to rows: what every report shows, before it is drawn.

One section is one instance under one preset; one row is one solver with one setting, over its seeds. Sanity rows come
first, published numbers last, and only beside presets that may be compared with them. Which record of a run counts is
said in `otbench.records.series`. Texts out of records lose their control characters here, once for all reports; each
report escapes the rest in its own way.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources

import pandas as pd

from otbench.config import Value
from otbench.names import plain
from otbench.records.record import Record, RunSpec, Status
from otbench.records.series import newest, real, series_of
from otbench.reporting import Metric
from otbench.statistics.paired import Block

COMPARABLE = ("full", "paper")
"""Presets whose rows may stand beside published numbers."""
ABOVE_IDENTITY = "!"
WORSE_THAN_START = "v"
NEVER_MOVED = "~"
LOADED = "?"
STALE = "*"
LEGEND = {
    ABOVE_IDENTITY: "ends above identity: worse than doing nothing",
    WORSE_THAN_START: "ends worse than it began",
    NEVER_MOVED: "holds a network whose weights never moved",
    LOADED: "processor share below 90 %: times are not to be trusted",
    STALE: "made by other code than this checkout's",
}
"""What marks mean. A sign is no letter, which are for footnotes, and begins no formula of a spreadsheet."""
_SELECTING = ("space",)
"""Parameters of tasks that select published rows, beside those that a record names: codes are not pixels."""
IDENTITY = "identity"
"""The baseline that does nothing."""
COPIES = "copies"
"""The baseline that draws training rows."""
COPIES_SAY = (
    "copies: training rows drawn at random, which is what memorising reaches; a two-sample distance at or below theirs "
    "says nothing more."
)
START = "start"
"""Column: the solver's own score at step 0, in the section's first metric."""
READS = "reads_label"
"""Column: 1 where the maps are given the class of the point that they move, else 0."""
KEEPS = "keeps_rows"
"""Column: training rows that the maps keep."""


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


@dataclass(eq=False)
class Row:
    """One solver with one setting on one instance; equal to nothing but itself.

    Attributes:
        label: the solver as typed.
        kind: baseline, solver or published.
        numbers: by column key; a missing one does not apply.
        blocks: what `numbers` are means of, by column key: one value for each instance and seed.
        marks: signs of `LEGEND`.
        failures: "seed 1: diverged: ..." for runs that are not ok.
        source: where a published row is from.
        note: footnote of a published row.
        solver: registered name; of a published row the solver that implements it, or empty.
        stale: what names the other code that made records of this row ("commit 0eebcbe"); nothing where none did.
        verified: how far such code was found to give the same numbers as this checkout's ("3 of 9 verified").
        records: what the row is made of; nothing for a published row.
    """

    label: str
    kind: str
    solver: str = ""
    numbers: dict[str, Number] = field(default_factory=dict)
    blocks: dict[str, dict[Block, float]] = field(default_factory=dict)
    marks: str = ""
    failures: list[str] = field(default_factory=list)
    source: str = ""
    note: str = ""
    stale: list[str] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str, str]:
        """What is equal for the rows of one line where several sections stand in one table."""
        return self.kind, self.label, self.source

    @property
    def good(self) -> list[Record]:
        """The runs that ended well."""
        return [record for record in self.records if record.status is Status.OK]

    @property
    def status(self) -> str:
        """What became of a row without numbers: the status of its first failed run."""
        bad = next((record for record in self.records if record.status is not Status.OK), None)
        return str(bad.status) if bad is not None and not self.numbers else ""


@dataclass
class Section:
    """One instance under one preset.

    Attributes:
        metrics: the primary ones that some row has.
        config: the task's parameters.
        secondary: the other ones that some row has.
    """

    task: str
    instance: str
    preset: str
    device: str
    metrics: list[Metric]
    rows: list[Row]
    config: dict[str, Value] = field(default_factory=dict)
    secondary: list[Metric] = field(default_factory=list)

    @property
    def comparable(self) -> bool:
        """Whether these numbers may stand beside published ones."""
        return self.preset in COMPARABLE and not self.stand_in

    @property
    def context(self) -> str:
        """Preset and device in words."""
        note = "" if self.comparable else "; not comparable with published numbers"
        return f"preset {self.preset}, {self.device}{note}"

    @property
    def stand_in(self) -> bool:
        """Whether the data are a part of the published ones, or a demonstration: no preset makes them comparable."""
        facts = [record.facts for row in self.rows for record in row.records]
        return any(bool(fact.get("partial") or fact.get("demo")) for fact in facts)

    @property
    def shown(self) -> list[Metric]:
        """The metrics, then the first as it was before the first step: a column of its own."""
        return [*self.metrics, *(replace(metric, name=START, label="at step 0") for metric in self.metrics[:1])]


def sections(
    records: Iterable[Record], *, stale: Mapping[str, str] = {}, verified: Mapping[str, str] = {}
) -> list[Section]:
    """Group `records` into sections, in the order of task, preset and instance.

    Args:
        records: what to show.
        stale: by id of a record, what names the code that made it, where that is not this checkout's.
        verified: by id of a record, how far other code was found to give the same numbers as this checkout's.
    """
    grouped: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        series = series_of(record)
        grouped.setdefault((series.task, series.preset, _device(record), series.config), []).append(record)
    ordered = sorted(grouped.items(), key=lambda item: [_sortable(part) for part in item[0]])
    made = [_section(group) for _, group in ordered]
    for row in (row for section in made for row in section.rows):
        row.stale = _said(stale, row.records)
        row.verified = _said(verified, row.records)
        row.marks += STALE if row.stale else ""
    return made


def _said(words: Mapping[str, str], records: Iterable[Record]) -> list[str]:
    """Return what `words` say of `records`, each thing once."""
    return list(dict.fromkeys(plain(words[record.id]) for record in records if record.id in words))


def _device(record: Record) -> str:
    return plain(str(record.environment.get("device") or record.spec.device))


def _sortable(value: object) -> tuple[object, ...]:
    if isinstance(value, tuple):
        return tuple(_sortable(part) for part in value)
    return (0, value, "") if isinstance(value, float) else (1, 0.0, str(value))


def _section(records: Sequence[Record]) -> Section:
    first = next((r for r in records if r.metric_info), records[0])
    rows = _grouped(records)
    identity = _identity([record for (_, label), group in rows.items() if label == IDENTITY for record in group])
    made = [_row(label, kind, group, first.metric_info, identity) for (kind, label), group in rows.items()]
    made.sort(key=lambda row: (row.kind != "baseline", row.label))
    for name in (READS, KEEPS):
        if any(getattr(record, name) for row in made for record in row.records):  # else nobody asks
            for row in (row for row in made if row.numbers):
                row.numbers[name] = number([float(getattr(record, name)) for record in row.good])
    metrics = [
        replace(metric, label=plain(metric.label, 40), unit=plain(metric.unit, 40))
        for metric in first.metric_info
        if any(metric.name in row.numbers for row in made)
    ]
    section = Section(
        task=plain(first.spec.task),
        instance=plain(series_of(first).instance),
        preset=plain(first.spec.preset),
        device=_device(first),
        metrics=[metric for metric in metrics if metric.primary],
        rows=made,
        config=first.spec.task_config,
        secondary=[metric for metric in metrics if not metric.primary],
    )
    if section.comparable and first.published is not None:
        where = {name: first.spec.task_config[name] for name in _SELECTING if name in first.spec.task_config}
        where |= first.published.where
        section.rows += _published_rows(first.published.table, tuple(sorted(where.items())))
    return section


def _length(spec: RunSpec) -> str:
    """Return the training length that was asked for, in words."""
    parts = [] if spec.steps is None else [f"{spec.steps} steps"]
    parts += [] if spec.time_limit is None else [f"{spec.time_limit:g} s"]
    parts += [] if spec.cpu_limit is None else [f"{spec.cpu_limit:g} CPU s"]
    return ", ".join(parts) or "until done"


def _grouped(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """Return the records of each row, by kind and label.

    Runs of different lengths are never averaged; where a label has several lengths, they are told apart.
    """

    def key(record: Record) -> tuple[str, str, str]:
        spec = record.spec
        label = plain(record.label, 80) or plain(spec.solver, 80) or "(no name)"
        return spec.kind, label, _length(spec)

    by_length = newest(records, key)
    lengths = Counter((kind, label) for kind, label, _ in by_length)
    rows: dict[tuple[str, str], list[Record]] = {}
    for (kind, label, length), runs in by_length.items():
        if lengths[kind, label] > 1:
            label = f"{label} ({length})"
        rows.setdefault((kind, label), []).extend(runs.values())
    return rows


def _identity(records: Iterable[Record]) -> dict[str, float]:
    """Return the mean metrics of the identity row, against which marks are given."""
    values = [r.metrics for r in records if r.status is Status.OK]
    shared = set(values[0]).intersection(*values) if values else set()
    return {name: number([v[name] for v in values]).mean for name in shared}


def _row(
    label: str, kind: str, records: Sequence[Record], metrics: Sequence[Metric], identity: Mapping[str, float]
) -> Row:
    row = Row(label, kind, records[0].spec.solver, records=list(records))
    good = row.good
    row.failures = [
        plain(f"seed {record.spec.seed}: {record.status}: {record.reason}", 400)
        for record in records
        if record.status is not Status.OK
    ]
    first = next((metric.name for metric in metrics if metric.primary), "")
    for record in good:
        start = record.start.get(first) if kind == "solver" else None
        for key, value in {**_columns(record), START: start}.items():
            if value is not None:
                row.blocks.setdefault(key, {})[block_of(record)] = real(value)
    row.numbers = {key: number(list(values.values())) for key, values in row.blocks.items()}
    if kind == "solver":
        if any(_worse(r.metrics, identity, metric) for r in good for metric in metrics):
            row.marks += ABOVE_IDENTITY
        if any(_worse(r.metrics, r.start, metric) for r in good for metric in metrics):
            row.marks += WORSE_THAN_START
        if any(not moved for r in good for moved in r.counts.networks_moved.values()):
            row.marks += NEVER_MOVED
    if any(record.loaded for record in good):
        row.marks += LOADED
    return row


def block_of(record: Record) -> Block:
    """Return what `record` shares with the other runs of its instance and seed."""
    return series_of(record).config, record.spec.seed


def _worse(values: Mapping[str, float], bar: Mapping[str, float], metric: Metric) -> bool:
    """Say whether to flag that `values` are worse than `bar` in `metric`."""
    if not metric.flag_worse or metric.name not in values or metric.name not in bar:
        return False
    sign = -1 if metric.higher_is_better else 1
    return sign * values[metric.name] > sign * bar[metric.name]


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


def values_of(record: Record) -> dict[str, float]:
    """Return what a run says for each column, in the units of records."""
    first = next((metric.name for metric in record.metric_info if metric.primary), "")
    values = {**_columns(record), START: record.start.get(first)}
    return {key: real(value) for key, value in values.items() if value is not None}


def number(values: Sequence[float]) -> Number:
    """Return mean and 95 % t-interval of `values`."""
    n = len(values)
    try:
        mean = math.fsum(values) / n
    except (OverflowError, ValueError):  # beyond the largest float; infinities of both signs
        mean = sum(values) / n
    if n == 1 or not math.isfinite(mean):
        return Number(mean, None, n)
    spread = math.hypot(*(value - mean for value in values)) / math.sqrt(n - 1)
    half = _quantile(n) * spread / math.sqrt(n)
    return Number(mean, half if math.isfinite(half) else None, n)


@cache
def _quantile(n: int) -> float:
    """Return the 0.975 quantile of Student's t with n - 1 degrees of freedom."""
    from scipy.stats import t

    return float(t.ppf(0.975, n - 1))


@cache
def published_table(name: str) -> pd.DataFrame:
    """Return results/published/`name`.csv: one number per row, with source and note."""
    text = resources.files("otbench.published").joinpath(f"{name}.csv")
    with text.open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False)


@cache
def _published_rows(name: str, where: tuple[tuple[str, Value], ...]) -> list[Row]:
    """Return the rows of the table that a record names; none where there is no such table or column."""
    if not re.fullmatch(r"\w{1,60}", name, re.ASCII):
        return []
    try:
        table = published_table(name)
    except FileNotFoundError:
        return []
    known = [(column, value) for column, value in where if column in table.columns or column not in _SELECTING]
    if not {column for column, _ in known} <= set(table.columns):
        return []
    for column, value in known:
        table = table[table[column].astype(str) == str(value)]
    rows = []
    for (method, source), group in table.groupby(["method", "source"], sort=False):
        row = Row(str(method), "published", str(group["solver"].iloc[0]), source=str(source))
        row.numbers = {str(r["metric"]): Number(float(r["value"]), None, 0) for _, r in group.iterrows()}
        row.note = " ".join(dict.fromkeys(note for note in group["note"].astype(str) if note))
        rows.append(row)
    return rows
