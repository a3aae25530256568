"""The summary as `otbench summary` prints it, and its first lines as `otbench table` does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from otbench.report.columns import metric_column
from otbench.report.summary.contests import Contest
from otbench.report.summary.scopes import Scope
from otbench.report.summary.summary import RULE, Summary
from otbench.report.summary.text import (
    EXPLAINED,
    alone,
    beside,
    cells,
    heads,
    instances,
    line_of,
    runs,
    scope_cells,
    scope_heads,
    scope_remarks,
    sources,
)


def print_summary(out: Console, summary: Summary) -> None:
    """Print the guide, the contests and the statistics over instances."""
    out.print(_text("Which solver when", "bold"))
    out.print(_text(" ".join(sources(summary)), "dim"))
    print_guide(out, summary)
    if summary.compared:
        out.print()
        out.print(_text("By task and size", "bold"))
        out.print(_text(RULE, "dim"))
    for contest in summary.compared:
        _print_contest(out, contest)
    if summary.compared:
        for line in EXPLAINED:
            out.print(_text(line, "dim"))
    if summary.alone:
        out.print()
        out.print(_text("One solver only, so nothing to compare", "bold"))
        for line in alone(summary):
            out.print(_text(line))
    for scope in summary.scopes:
        _print_scope(out, scope)


def print_guide(out: Console, summary: Summary) -> None:
    """Print the answers by need."""
    for need, members in groupby(summary.guide, key=lambda advice: advice.need):
        out.print()
        out.print(_text(need, "bold"))
        for advice in members:
            where = f"{advice.detail}: " if advice.detail else ""
            out.print(Padding(_text(where).append_text(_text(advice.answer, code="bold")), (0, 0, 0, 2)))
            if advice.text:
                out.print(Padding(_text(advice.text, "dim"), (0, 0, 0, 4)))


def print_lines(out: Console, summary: Summary) -> None:
    """Print a line for each contest: solvers by rank, with error and seconds of training."""
    out.print(_text("In short: solvers by rank, their errors and seconds of training", "bold"))
    for contest in summary.compared:
        where = f"{contest.title}, {metric_column(contest.metric).head}"
        out.print(Padding(_text(where, "dim").append_text(_text(f": {line_of(contest)}")), (0, 0, 0, 2)))
    out.print(_text("Which solver when, and why: the command `summary`.", "dim"))


def _print_contest(out: Console, contest: Contest) -> None:
    out.print()
    out.print(_text(contest.title, "bold").append(f"  ({contest.terms.words})", style="not bold"))
    columns = heads(contest)
    out.print(_grid(columns, [cells(contest, entry) for entry in contest.entries], left=1))
    if yardsticks := beside(contest):
        out.print(_text(f"beside, not ranked: {yardsticks}"))
    for entry in contest.entries:
        for failure in entry.row.failures[:3]:
            out.print(Text(f"{entry.label}: {failure}", style="red"))
    for remark in contest.remarks:
        out.print(_text(remark, "dim"))


def _print_scope(out: Console, scope: Scope) -> None:
    out.print()
    count = len(scope.counted)
    out.print(_text(f"Over {count} instances: {scope.title}", "bold").append(f"  ({scope.terms})", style="not bold"))
    out.print(_text(instances(scope), "dim"))
    out.print(_grid(scope_heads(scope), [scope_cells(scope, label) for label in scope.solvers], left=0))
    for remark in scope_remarks(scope):
        out.print(_text(remark))


def _grid(columns: Sequence[str], lines: Iterable[Sequence[str]], *, left: int) -> Grid:
    """Return a table; the column of that number holds names."""
    grid = Grid(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for index, head in enumerate(columns):
        name = index == left
        # below each other where the head is in two parts: as narrow as the numbers
        grid.add_column(Text(head.replace(" (", "\n(")), justify="left" if name else "right", overflow="fold")
    for line in lines:
        grid.add_row(*map(Text, line))
    return grid


def _text(text: str, style: str = "", *, code: str = "") -> Text:
    """Return `text` with names in backticks in a style of their own."""
    made = Text(style=style)
    for is_code, part in runs(text):
        made.append(part, style=code if is_code and code else None)
    return made
