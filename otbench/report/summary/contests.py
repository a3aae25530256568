"""Contests: which rows may be ranked together, and how they rank.

Rows of one contest have in common the task with all of its parameters, the preset, the device, the floating type, the
budget (each solver's own length, or one limit of time for all) and whether solvers trained on centred points. So no row
that was given longer, and none from before points were centred, is ranked with one that was not. Rows made by different
commits may be; the contest says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from otbench.names import few
from otbench.records.record import Record, Status
from otbench.records.series import FLOORS, series_of
from otbench.report.equal import CPU_SECONDS, SECONDS, at_equal_time, clock_of, optimisers_of, processors_said
from otbench.report.rows import LOADED, Number, Row, Section, number, sections
from otbench.reporting import Metric
from otbench.statistics.paired import ranking

SMOKE = "smoke"
"""The preset that shows that a solver runs, and nothing else."""
_DIMENSIONS = ("dim",)
_SAMPLES = ("pool", "pool_source", "pool_target", "training_rows", "source_training_rows", "target_training_rows")
"""Facts of an instance that say how many points solvers train on."""
_COMMITS_SHOWN = 3


@dataclass(frozen=True)
class Terms:
    """On what terms rows of a contest were made, beside the instance.

    Attributes:
        cut_s, cut_cpu_s: seconds of training at which curves were read, in place of the ends of runs.
    """

    preset: str
    device: str
    dtype: str
    time_limit: float | None
    cpu_limit: float | None
    standardise: bool
    cut_s: float | None = None
    cut_cpu_s: float | None = None

    @property
    def cut(self) -> bool:
        """Whether curves were read at an equal time."""
        return self.cut_s is not None or self.cut_cpu_s is not None

    @property
    def limited(self) -> bool:
        """Whether all solvers were given the same time."""
        return self.time_limit is not None or self.cpu_limit is not None or self.cut

    @property
    def kind(self) -> Terms:
        """What is the same for terms that differ in how long a limit of time is alone."""
        found = (self.time_limit, self.cpu_limit, self.cut_s, self.cut_cpu_s)
        wall, processor, cut, cut_cpu = (None if one is None else 0.0 for one in found)
        return replace(self, time_limit=wall, cpu_limit=processor, cut_s=cut, cut_cpu_s=cut_cpu)

    @property
    def budget(self) -> str:
        """How long solvers trained, in words."""
        return _budget([self])

    @property
    def words(self) -> str:
        """All terms in words; what is the same everywhere is left out."""
        return words_of([self])


def words_of(several: Sequence[Terms]) -> str:
    """Return terms of one kind in words, with all of their limits; what is the same everywhere is left out."""
    terms = several[0]
    parts = [f"preset {terms.preset}", terms.device, "" if terms.dtype == "float32" else terms.dtype]
    parts += ["centred points" if terms.standardise else "", _budget(several)]
    return ", ".join(filter(None, parts))


def cut_words(several: Sequence[Terms]) -> str:
    """Return at which seconds of training curves were read; empty where they were not."""
    return _limits(several, "cut_s", "cut_cpu_s")


def _budget(several: Sequence[Terms]) -> str:
    if cut := cut_words(several):
        return f"curves read at {cut}"
    given = _limits(several, "time_limit", "cpu_limit")
    return f"{given} each" if given else "each solver's own length"


def _limits(several: Sequence[Terms], wall: str, processor: str) -> str:
    """Return the values of two fields of `several` in words."""
    found = []
    for name, unit in ((wall, "s"), (processor, "CPU s")):
        values = sorted({value for terms in several if (value := getattr(terms, name)) is not None})
        words = [f"{value:g}" for value in values]
        words = [", ".join(words[:-1]), words[-1]] if len(words) > 1 else words
        found += [f"{' or '.join(words)} {unit}"] if words else []
    return " and ".join(found)


@dataclass(frozen=True)
class Entry:
    """One solver in a contest.

    Attributes:
        row: what it is made of.
        rank: 1 for the best; rows that are not shown to differ share it. None where it is not ranked.
        error: score in the contest's metric.
        back: that of the map back.
        train: seconds of training on the contest's clock; None where the machine was too busy to tell.
        samples: drawn in training, both sides.
        optimiser: by which it was trained; empty where it has no choice of one.
        apply_ms: to map the test set forward.
        apply_back_ms: to map it backward.
        both: whether it has both maps.
        failed: runs that failed.
        runs: all runs.
        on_front: whether no other entry is as good in both error and time of training, and better in one.
    """

    row: Row
    rank: int | None = None
    error: Number | None = None
    back: Number | None = None
    train: Number | None = None
    samples: Number | None = None
    optimiser: str = ""
    apply_ms: Number | None = None
    apply_back_ms: Number | None = None
    both: bool = False
    failed: int = 0
    runs: int = 0
    on_front: bool = False

    @property
    def label(self) -> str:
        """The solver as typed."""
        return self.row.label

    @property
    def status(self) -> str:
        """What became of it where there is no number."""
        return self.row.status

    @property
    def sound(self) -> bool:
        """Whether all of its runs ended well, with a number."""
        return not self.failed and self.error is not None and math.isfinite(self.error.mean)


@dataclass
class Contest:
    """Rows that may be ranked together, on one instance.

    Attributes:
        section: the rows and the instance.
        terms: what they have in common beside.
        metric: what they are ranked by: the first metric of the task.
        entries: solvers by rank; those that failed last.
        yardsticks: rows that are no solvers, which stand beside and are not ranked.
        clock: of training times, "CPU s" or "s".
        remarks: what else a reader has to know.
        equal: the same solvers at an equal time of training; None where all had the same, or curves do not tell.
    """

    section: Section
    terms: Terms
    metric: Metric
    entries: list[Entry]
    yardsticks: list[Row]
    clock: str
    remarks: list[str] = field(default_factory=list)
    equal: Contest | None = None

    @property
    def title(self) -> str:
        """Task and instance."""
        return f"{self.section.task}: {self.section.instance}"

    @property
    def brief_title(self) -> str:
        """The title without what follows a semicolon, which tells which part of the data is here."""
        return self.title.partition(";")[0]

    @property
    def sign(self) -> int:
        """1 where less is better, else -1."""
        return -1 if self.metric.higher_is_better else 1

    @property
    def ranked(self) -> list[Entry]:
        """The entries that have a rank."""
        return [entry for entry in self.entries if entry.rank is not None]

    @cached_property
    def dimension(self) -> float | None:
        """The dimension of the points; None where neither the task's parameters nor the records tell."""
        return _least_of(self, _DIMENSIONS)

    @cached_property
    def samples(self) -> float | None:
        """How many points of a side solvers trained on, of the smaller side; infinite where each draw is fresh."""
        return _least_of(self, _SAMPLES)

    @cached_property
    def names(self) -> dict[str, str]:
        """What the entries are called, by label."""
        return short_names(entry.label for entry in self.entries)

    def yardstick(self, label: str, metric: str) -> float | None:
        """Return the score of the yardstick called `label`."""
        return next((r.numbers[metric].mean for r in self.yardsticks if r.label == label and metric in r.numbers), None)


def contests(
    records: Iterable[Record], *, stale: Mapping[str, str] = {}, verified: Mapping[str, str] = {}
) -> list[Contest]:
    """Return the contests of `records`, in the order of task, preset and instance.

    Args:
        records: of any folders, tasks and presets.
        stale: see `otbench.report.rows.sections`.
        verified: see `otbench.report.rows.sections`.
    """
    yardsticks: list[Record] = []
    solvers: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        spec = record.spec
        if spec.kind == "baseline":
            yardsticks.append(record)
        else:
            key = (spec.dtype, spec.time_limit, spec.cpu_limit, spec.standardise)
            solvers.setdefault(key, []).append(record)
    found = []
    for members in solvers.values():
        spec = members[0].spec
        beside = _beside([one for one in yardsticks if one.spec.dtype == spec.dtype], members)
        for section in sections([*members, *beside], stale=stale, verified=verified):
            if section.metrics and any(row.kind == "solver" for row in section.rows):
                terms = (spec.dtype, spec.time_limit, spec.cpu_limit, spec.standardise)
                found.append(_contest(section, Terms(section.preset, section.device, *terms)))
    found.sort(key=_order)
    _tell_apart(found)
    return found


def _beside(yardsticks: Sequence[Record], members: Sequence[Record]) -> list[Record]:
    """Return those of `yardsticks` that have a seed in common with `members` on their instance, or all without one.

    A seed draws the pool: what a yardstick has on another one says nothing about these.
    """
    seeds: dict[tuple[object, ...], set[int]] = {}
    for record in members:
        seeds.setdefault(_instance(record), set()).add(record.spec.seed)
    rows: dict[tuple[tuple[object, ...], str], list[Record]] = {}
    for record in yardsticks:
        rows.setdefault((_instance(record), record.spec.solver), []).append(record)
    found: list[Record] = []
    for (instance, _), row in rows.items():
        shared = [record for record in row if record.spec.seed in seeds.get(instance, ())]
        found += shared or row
    return found


def _instance(record: Record) -> tuple[object, ...]:
    series = series_of(record)
    return series.task, series.config


def twin(metric: str) -> str:
    """Return the name that a forward metric has backward."""
    return metric.removesuffix("_fwd") + "_bwd"


def _order(contest: Contest) -> tuple[object, ...]:
    dimension = contest.dimension
    return contest.section.task, dimension is None, dimension or 0.0, contest.section.instance, contest.terms.words


def _contest(section: Section, terms: Terms) -> Contest:
    metric = section.metrics[0]
    rows = [row for row in section.rows if row.kind == "solver"]
    left_out = [row.label for row in rows if row.records and all(r.status is Status.SKIPPED for r in row.records)]
    rows = [row for row in rows if row.label not in left_out]
    clock = clock_of(rows)
    entries = [_entry(row, metric, clock) for row in rows]
    contest = Contest(section, terms, metric, entries, [r for r in section.rows if r.kind == "baseline"], clock)
    if left_out:
        contest.remarks.append(f"Cannot take this task: {', '.join(left_out)}.")
    contest.entries = _ranked(contest)
    if not terms.limited:
        contest.entries = _on_front(contest.entries, contest.sign)
    contest.remarks += _circumstances(contest)
    if not terms.limited and (found := at_equal_time(replace(section, rows=[*rows, *contest.yardsticks]))) is not None:
        by_processor = found.clock == CPU_SECONDS
        at = (None, found.seconds) if by_processor else (found.seconds, None)
        equal = _contest(found.section, replace(terms, cut_s=at[0], cut_cpu_s=at[1]))
        contest.equal = equal if equal.metric.name == metric.name else None
    return contest


def _entry(row: Row, metric: Metric, clock: str) -> Entry:
    good = row.good
    failed = sum(record.status not in (Status.OK, Status.SKIPPED) for record in row.records)
    train = row.numbers.get("train_s")
    if clock == CPU_SECONDS:
        seconds = [record.times.train_cpu_s for record in good if record.times.train_cpu_s is not None]
        train = number(seconds) if seconds else None
    elif LOADED in row.marks:
        train = None
    back = row.numbers.get(twin(metric.name))
    return Entry(
        row=row,
        error=row.numbers.get(metric.name),
        back=back,
        train=train,
        samples=row.numbers.get("samples"),
        optimiser=optimisers_of(row),
        apply_ms=row.numbers.get("infer_fwd_ms"),
        apply_back_ms=row.numbers.get("infer_bwd_ms"),
        both=back is not None or "infer_bwd_ms" in row.numbers,
        failed=failed,
        runs=len(row.records),
    )


def _circumstances(contest: Contest) -> Iterator[str]:
    """Yield what a reader has to know of how the entries were made."""
    for label, name in contest.names.items():
        if label != name:
            yield f"`{name}`: `{label}`."
    records = [record for entry in contest.entries for record in entry.row.records]
    commits = sorted({str(record.environment.get("commit") or "unknown")[:8] for record in records})
    if len(commits) > 1:
        yield f"Made by {len(commits)} states of the code: commits {few(commits, _COMMITS_SHOWN)}."
    if said := processors_said(entry.row for entry in contest.entries):
        yield said
    if len(threads := sorted({record.spec.threads for record in records})) > 1:
        yield f"Runs had {threads[0]} to {threads[-1]} threads."
    if any(record.shared_device for record in records):
        yield "Some runs shared the device; their times are not to be compared."
    if contest.clock == SECONDS and any(LOADED in entry.row.marks for entry in contest.entries):
        yield "Times of runs on a busy machine are left out."


def _tell_apart(found: Sequence[Contest]) -> None:
    """Say on which points solvers trained, where an instance has contests of both kinds."""
    kinds: dict[tuple[str, str], set[bool]] = {}
    for contest in found:
        kinds.setdefault((contest.title, contest.terms.preset), set()).add(contest.terms.standardise)
    for contest in found:
        if len(kinds[contest.title, contest.terms.preset]) > 1:
            how = "centred points in one scale" if contest.terms.standardise else "the points as they are"
            contest.remarks.insert(0, f"Trained on {how}; rows of the other kind are ranked apart.")


def _ranked(contest: Contest) -> list[Entry]:
    """Return the entries by rank, then those without one."""
    sound = [entry for entry in contest.entries if entry.sound]
    others = [entry for entry in contest.entries if not entry.sound]
    if len(sound) > 1:
        ranks = _ranks(contest, sound)
        sound = [replace(entry, rank=rank) for entry, rank in zip(sound, ranks, strict=True)]
    sound.sort(key=lambda entry: (entry.rank or 0, _cost(entry, contest.sign), entry.label))
    return [*sound, *sorted(others, key=lambda entry: entry.label)]


def _cost(entry: Entry, sign: int) -> float:
    return sign * entry.error.mean if entry.error is not None else math.inf


def _ranks(contest: Contest, sound: Sequence[Entry]) -> list[int | None]:
    """Return the ranks of entries that ended well, in their order: 1 for those not shown to be worse than the best.

    The others are ranked among themselves in the same way. Entries with fewer than two seeds in common with another
    have none.
    """
    metric = contest.metric
    values = {entry.label: entry.row.blocks[metric.name] for entry in sound}
    floor = next((row for row in contest.yardsticks if row.label == FLOORS.get(contest.section.task)), None)
    below = None if floor is None else floor.blocks.get(metric.name)
    ranks: dict[str, int] = {}
    while values:
        found = ranking(values, higher_is_better=metric.higher_is_better, percent=metric.unit == "%", floor=below)
        if not found.not_worse:
            break
        ranks |= dict.fromkeys(found.not_worse, len(ranks) + 1)
        values = {label: kept for label, kept in values.items() if label not in found.not_worse | found.left_out}
        if len(values) == 1:  # shown to be worse than all others
            ranks |= dict.fromkeys(values, len(ranks) + 1)
            break
    return [ranks.get(entry.label) for entry in sound]


def _on_front(entries: Sequence[Entry], sign: int) -> list[Entry]:
    """Return `entries` with those marked that no other beats in error and time."""
    points = {e.label: (_cost(e, sign), e.train.mean) for e in entries if e.sound and e.train is not None}
    front = pareto_front(points) if len(points) > 1 else set()
    return [replace(entry, on_front=entry.label in front) for entry in entries]


def pareto_front(points: Mapping[str, tuple[float, float]]) -> set[str]:
    """Return the names of those `points` that no other is at most as large as in both numbers, and smaller in one."""
    return {
        name
        for name, (x, y) in points.items()
        if not any(a <= x and b <= y and (a < x or b < y) for a, b in points.values())
    }


def _least_of(contest: Contest, names: Sequence[str]) -> float | None:
    """Return the least of the numbers called `names` among facts and parameters of the task; "fresh" is infinite."""
    facts = [record.facts for entry in contest.entries for record in entry.row.records][:1]
    found = []
    for name in names:
        for value in (contest.section.config.get(name), *(fact.get(name) for fact in facts)):
            if value == "fresh":
                found.append(math.inf)
            elif isinstance(value, (int, float, str)) and not isinstance(value, bool):
                try:
                    found.append(float(value))
                except (ValueError, OverflowError):
                    continue
    good = [value for value in found if value > 0]
    return min(good) if good else None


def dimensions(contests: Iterable[Contest]) -> str:
    """Return the dimensions of contests in words, with a comma behind them; empty where none is known."""
    found = sorted({contest.dimension for contest in contests if contest.dimension is not None})
    return f"d = {few([f'{value:g}' for value in found], 6)}, " if found else ""


def short_names(labels: Iterable[str]) -> dict[str, str]:
    """Return what each label is called: without settings, where no other label is of its solver."""
    known = list(labels)
    solvers = [label.partition("[")[0] for label in known]
    return {
        label: f"{solver}[…]" if solver != label and solvers.count(solver) == 1 else label
        for label, solver in zip(known, solvers, strict=True)
    }
