"""What stands in the cells of a summary, the same in the terminal, as Markdown and on the page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from otbench.records.words import counted
from otbench.report.columns import Column, metric_column, shown, written
from otbench.report.rows import Number
from otbench.report.summary.contests import Contest, Entry, short_names, twin
from otbench.report.summary.scopes import ALPHA, Scope
from otbench.report.summary.summary import Summary

WITHIN = 2.0
"""Ratio to the best at which tables read performance profiles."""
_ALONE = 12


def runs(text: str) -> list[tuple[bool, str]]:
    """Return the parts of `text` in turn, and whether each is a name in backticks."""
    parts = re.split(r"`([^`]*)`", text)
    return [(index % 2 == 1, part) for index, part in enumerate(parts) if part]


def heads(contest: Contest) -> list[str]:
    """Return the heads of the table of a contest."""
    column = metric_column(contest.metric)
    back = twin(contest.metric.name)
    named = next((m for e in contest.entries for r in e.row.good for m in r.metric_info if m.name == back), None)
    behind = [] if named is None else [metric_column(named).head]
    trained = [f"training ({contest.clock})", "samples (k)", "optimiser"]
    if contest.terms.cut:
        return ["rank", "solver", column.head, *behind, *trained]
    return ["rank", "solver", column.head, *behind, *trained, "T (ms)", "S (ms)", "maps", "failed"]


def cells(contest: Contest, entry: Entry) -> list[str]:
    """Return what stands in the line of `entry` in the table of `contest`."""
    column = metric_column(contest.metric)
    behind = (
        [_cell(entry.back, column)] if len(heads(contest)) > (len(_CUT) if contest.terms.cut else len(_FIXED)) else []
    )
    first = entry.status or _cell(entry.error, column)
    samples = None if entry.samples is None else replace(entry.samples, mean=1e-3 * entry.samples.mean)
    start = [
        rank(entry),
        contest.names[entry.label],
        first,
        *behind,
        plain_number(entry.train) + (" *" if entry.on_front else ""),
        plain_number(samples),
        entry.optimiser or "-",
    ]
    if contest.terms.cut:
        return start
    return [
        *start,
        plain_number(entry.apply_ms),
        plain_number(entry.apply_back_ms),
        "both" if entry.both else "forward",
        f"{entry.failed} of {entry.runs}" if entry.failed else "0",
    ]


_CUT = ("rank", "solver", "error", "training", "samples", "optimiser")
_FIXED = (*_CUT, "T", "S", "maps", "failed")


def rank(entry: Entry) -> str:
    """Return the rank as it is written."""
    return "-" if entry.rank is None else str(entry.rank)


def plain_number(value: Number | None) -> str:
    """Return a mean with three digits; `-` for none."""
    return "-" if value is None else shown(replace(value, half=None))[0]


def _cell(value: Number | None, column: Column) -> str:
    return "-" if value is None else written(replace(value, half=None), column)[0]


def beside(contest: Contest) -> str:
    """Return the yardsticks with their scores, the best first."""
    column, name = metric_column(contest.metric), contest.metric.name
    rows = sorted(
        (row for row in contest.yardsticks if name in row.numbers),
        key=lambda row: (contest.sign * row.numbers[name].mean, row.label),
    )
    return ", ".join(f"`{row.label}` {_cell(row.numbers[name], column)}" for row in rows)


def alone(summary: Summary) -> list[str]:
    """Return a line for each solver that was run without another one: on which instances of a task."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for contest in summary.alone:
        entry = contest.entries[0]
        key = (contest.section.task, contest.terms.words, entry.label)
        value = entry.status or f"{_cell(entry.error, metric_column(contest.metric))} {contest.metric.unit}".strip()
        found.setdefault(key, []).append(f"{contest.section.instance}: {value}")
    lines = []
    for (task, terms, label), members in found.items():
        more = f"; and {len(members) - _ALONE} more" if len(members) > _ALONE else ""
        lines.append(f"`{label}` on {task} ({terms}): {'; '.join(members[:_ALONE])}{more}.")
    return lines


def scope_heads(scope: Scope) -> list[str]:
    """Return the heads of the table of a scope; columns without a number are left out."""
    out = ["solver", "mean rank"]
    out += [f"within {WITHIN:g}x of least error"] if scope.profile else []
    out += (
        [f"within {WITHIN:g}x of least time to {100 * scope.target:g} %"] if scope.target and scope.time_profile else []
    )
    out += ["error, geometric mean"] if scope.points else []
    return out + ([f"training, geometric mean ({scope.clock})"] if scope.points and not scope.limited else [])


def scope_cells(scope: Scope, label: str) -> list[str]:
    """Return what stands in the line of the solver `label`."""
    out = [short_names(scope.solvers)[label], f"{scope.mean_ranks[label]:.2f}"]
    for profile in (scope.profile, scope.time_profile):
        if profile:
            out.append(
                f"{100 * sum(ratio <= WITHIN for ratio, _ in profile.get(label, ())) / len(scope.counted):.0f} %"
            )
    if scope.points:
        seconds, error = scope.points.get(label, (None, None))
        values = (error, seconds)
        written_ = [plain_number(None if value is None else Number(value, None, 1)) for value in values]
        out += written_[:1] if scope.limited else [written_[0], written_[1] + (" *" if label in scope.front else "")]
    return out


def scope_remarks(scope: Scope) -> Iterator[str]:
    """Yield what the test says, and what was left out."""
    n, short = len(scope.counted), short_names(scope.solvers)
    if scope.friedman is not None:
        verdict = "no difference is shown" if scope.alike else "they differ"
        yield f"Friedman's test over {n} instances: p = {scope.friedman:.2g}, {verdict}."
    if not scope.alike and (difference := scope.critical_difference) is not None:
        apart = " | ".join(", ".join(f"`{short[label]}`" for label in group) for group in scope.groups)
        level = f"{100 * ALPHA:g} %"
        yield f"Nemenyi's test ({level}): mean ranks differ from {difference:.2f} on. Not told apart: {apart}."
    yield from scope.remarks


def instances(scope: Scope) -> str:
    """Return the instances of a scope in words, each task named once."""
    by_task: dict[str, list[str]] = {}
    for contest in scope.counted:
        by_task.setdefault(contest.section.task, []).append(contest.section.instance)
    return "; ".join(f"{task}: {'; '.join(members)}" for task, members in by_task.items())


def line_of(contest: Contest) -> str:
    """Return the solvers of a contest on one line, by rank: error and time of training."""
    column = metric_column(contest.metric)
    parts = []
    for entry in contest.entries:
        value = entry.status or _cell(entry.error, column)
        time = "" if entry.train is None or contest.terms.limited else f" ({plain_number(entry.train)} s)"
        parts.append(f"{'' if entry.rank is None else f'{entry.rank}. '}`{contest.names[entry.label]}` {value}{time}")
    return ", ".join(parts)


EXPLAINED = (
    "rank: shared where paired differences over seeds do not show that one is worse; -: one seed shows nothing, and"
    " rows stand in the order of their errors.",
    "*: no other solver is as good in both error and time. CPU s: seconds of processor time. samples: drawn, both"
    " sides. optimiser -: the solver has no choice of one. T, S: to map the test set forward, backward.",
)


def equal_title(contest: Contest) -> str:
    """Return what stands above the table of a contest at equal time."""
    cut = contest.terms.cut_s if contest.terms.cut_cpu_s is None else contest.terms.cut_cpu_s
    return f"At equal time, {cut:g} {contest.clock} of training each"


def sources(summary: Summary) -> Sequence[str]:
    """Return what stands above a summary: how many records, and what was left out."""
    return [f"From {counted(summary.records, 'record')}.", *summary.remarks]
