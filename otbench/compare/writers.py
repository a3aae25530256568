"""A comparison for people and for machines: terminal, Markdown for a pull request, JUnit XML, benchmark JSON.

Names and reasons come from records, which anybody can write. Here they are text and nothing else: control characters
are dropped, and each form is written by a library that escapes, or in a place where nothing is interpreted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from xml.etree import ElementTree

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from otbench.compare.verdict import Aspect, Comparison, Comparisons, Verdict
from otbench.names import plain

_STYLES = {
    Verdict.WORSE: "bold red",
    Verdict.SUSPICIOUS: "yellow",
    Verdict.BETTER: "green",
    Verdict.SAME: "dim",
    Verdict.NOT_COMPARABLE: "yellow",
    Verdict.NOTHING: "yellow",
}
_HEADS = ("verdict", "method", "instance", "number", "BASE", "NEW", "change", "95 % interval", "p", "n")
_UNJUDGED = (Verdict.NOT_COMPARABLE, Verdict.NOTHING)
_MOST_ROWS = 200
"""A pull request cannot show more, and GitHub refuses a comment of more than 65 536 characters."""
_MOST_REASONS = 50


def verdict_line(compared: Comparisons) -> str:
    """Return the result in one line."""
    counts = ", ".join(f"{compared.count(verdict)} {verdict}" for verdict in Verdict if compared.count(verdict))
    regressed, fine = "REGRESSED", "no regression"
    if compared.between is not None:
        first, second = map(plain, compared.between)
        regressed, fine = f"{second} IS WORSE than {first}", f"{second} is not shown to be worse than {first}"
    head = regressed if compared.regressed else fine if compared.compared else "COULD NOT COMPARE"
    return f"{head}: {counts or 'no runs at all'}"


def print_comparison(out: Console, compared: Comparisons, *, everything: bool = False) -> None:
    """Print what is not the same (with `everything`: all rows), the notes, and the result in one line."""
    rows = _shown(compared, everything)
    if rows:
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for index, head in enumerate(_heads(compared)):
            table.add_column(Text(head), overflow="fold", justify="right" if index >= 4 else "left")
        for row in rows:
            cells = [Text(cell) for cell in _cells(row)]
            cells[0].stylize(_STYLES[row.verdict] if row.gated else "dim")
            table.add_row(*cells)
        out.print(table)
    for reason, names in _reasons(rows).items():
        out.print(Text(f"{reason}: {names}", style="dim"))
    for note in compared.notes:
        out.print(Text(f"note: {plain(note)}"))
    out.print(Text(verdict_line(compared), style="bold red" if compared.regressed or not compared.compared else "bold"))


def markdown(compared: Comparisons) -> str:
    """Return the comparison as GitHub Markdown: the result, what is not the same, and the rest folded away."""
    lines = [f"### otbench: {verdict_line(compared)}", ""]
    different = _shown(compared, everything=False)
    lines += _markdown_table(different, _heads(compared))
    reasons = [f"- {_code(reason)}: {_code(names)}" for reason, names in _reasons(different).items()]
    lines += [*reasons, ""] if reasons else []
    lines += [f"Note: {_code(note)}\n" for note in compared.notes]
    same = [row for row in compared.rows if row.verdict is Verdict.SAME and row.aspect is not Aspect.STATUS]
    if same:
        lines += [f"<details><summary>{len(same)} numbers are the same</summary>", ""]
        lines += [*_markdown_table(same, _heads(compared)), "</details>", ""]
    return "\n".join(lines)


def suspects(compared: Comparisons) -> str:
    """Return what may be worse and could have more seeds: in each line solvers and seeds, a tab between."""
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for label, seeds in compared.suspects.items():
        if seeds:
            by_seeds.setdefault(seeds, []).append(plain(label))
    return "".join(f"{','.join(labels)}\t{','.join(map(str, seeds))}\n" for seeds, labels in by_seeds.items())


def junit(compared: Comparisons) -> str:
    """Return the comparison as JUnit XML: one test case per number; a regression is a failure."""
    root = ElementTree.Element("testsuites", name="otbench compare")
    suites: dict[str, list[Comparison]] = {}
    for row in compared.rows:
        suites.setdefault(plain(row.series.task), []).append(row)
    for task, rows in suites.items():
        failed = sum(row.regressed for row in rows)
        skipped = sum(row.verdict in _UNJUDGED for row in rows)
        counts = {"tests": str(len(rows)), "failures": str(failed), "errors": "0", "skipped": str(skipped)}
        suite = ElementTree.SubElement(root, "testsuite", {"name": task} | counts)
        for row in rows:
            where = plain(f"{row.series.task}.{row.series.instance}.{row.series.preset}")
            name = plain(f"{row.series.label}: {row.label}")
            case = ElementTree.SubElement(suite, "testcase", classname=where, name=name)
            said = plain(_sentence(row))
            if row.regressed:
                ElementTree.SubElement(case, "failure", message=said, type="regression").text = said
            elif row.verdict in _UNJUDGED:
                ElementTree.SubElement(case, "skipped", message=said)
            else:
                ElementTree.SubElement(case, "system-out").text = said
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f"<?xml version='1.0' encoding='utf-8'?>\n{text}\n"


def benchmark_json(compared: Comparisons) -> str:
    """Return NEW's numbers as `customSmallerIsBetter` of github-action-benchmark.

    Of a metric where higher is better the distance to its best value is given (1, or 100 in %), or its reciprocal.
    Numbers that are not finite cannot stand in JSON and are left out; the verdicts hold them.
    """
    entries: list[dict[str, str | float]] = []
    for row in sorted(compared.rows, key=lambda row: (row.series.order, row.aspect, row.metric)):
        if row.new is None or not math.isfinite(row.new):
            continue
        run = row.series
        name, value = shrinking(row, row.new)
        entry: dict[str, str | float] = {
            "name": plain(f"{run.task} / {run.instance} / {run.preset} / {run.label} / {name}"),
            "unit": plain(row.unit) or "1",
            "value": value,
        }
        if row.spread is not None and math.isfinite(row.spread):
            entry["range"] = f"± {row.spread:.3g}"
        entries.append(entry | {"extra": plain(_sentence(row))})
    return json.dumps(entries, indent=1, allow_nan=False) + "\n"


def shrinking(row: Comparison, value: float) -> tuple[str, float]:
    """Return the name and the value of something that is better where it is smaller.

    Of a metric where higher is better, the distance to its best value (1, or 100 in %), or its reciprocal beyond it.
    """
    if row.smaller_is_better:
        return row.label, value
    bound = 100.0 if row.unit == "%" else 1.0
    if value <= bound:
        return f"{bound:g} - {row.label}", bound - value
    return f"1 / {row.label}", 1 / value


def _heads(compared: Comparisons) -> list[str]:
    """Return the heads of the columns; where two solvers are compared, their names in place of BASE and NEW."""
    names = dict(zip(("BASE", "NEW"), map(plain, compared.between or ("BASE", "NEW")), strict=True))
    return [names.get(head, head) for head in _HEADS]


def _shown(compared: Comparisons, everything: bool) -> list[Comparison]:
    return [row for row in compared.rows if everything or row.verdict is not Verdict.SAME]


def _cells(row: Comparison) -> list[str]:
    verdict = str(row.verdict) if row.gated or row.verdict is Verdict.SAME else f"({row.verdict})"
    instance = f"{row.series.task}: {row.series.instance} ({row.series.preset})"
    number = f"{row.label}, {row.unit}" if row.unit else row.label
    change = _change(row, row.change)
    interval = "" if row.low is None or row.low == row.high else f"{_change(row, row.low)} to {_change(row, row.high)}"
    p = "" if row.p is None else f"{row.p:.2g}"
    values = [verdict, row.series.label, instance, number, _short(row.base), _short(row.new), change, interval, p]
    return [plain(value) for value in [*values, str(len(row.seeds) or "")]]


def _change(row: Comparison, value: float | None) -> str:
    if value is None:
        return ""
    if not row.relative:
        return f"{value:+.3g}"
    return f"gap x{value:.3g}" if row.of_gap else f"x{value:.3g}"


def _reasons(rows: Sequence[Comparison]) -> dict[str, str]:
    """Return what is to be said beside the numbers of `rows`, and of which rows: each reason once."""
    said: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.reason and row.verdict is not Verdict.SAME:
            said.setdefault(plain(row.reason), {})[f"{row.series.label} {row.label}"] = None
    return {reason: plain(", ".join(names)) for reason, names in list(said.items())[:_MOST_REASONS]}


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _sentence(row: Comparison) -> str:
    """Return the row as one line of text."""
    parts = [str(row.verdict)]
    if row.base is not None and row.new is not None:
        parts.append(f"{_short(row.base)} → {_short(row.new)} {row.unit}".rstrip())
    if row.change is not None:
        parts.append(_change(row, row.change))
    if row.p is not None:
        parts.append(f"p = {row.p:.2g}")
    return "; ".join([*parts, row.reason] if row.reason else parts)


def _markdown_table(rows: Sequence[Comparison], heads: Sequence[str]) -> list[str]:
    if not rows:
        return []
    lines = [
        "| " + " | ".join(head if head in _HEADS else _code(head) for head in heads) + " |",
        "|" + " --- |" * len(heads),
    ]
    for row in rows[:_MOST_ROWS]:
        verdict, *cells = _cells(row)
        shown = f"**{verdict}**" if row.regressed else verdict
        lines.append(f"| {shown} | " + " | ".join(_code(cell) for cell in cells) + " |")
    left = len(rows) - _MOST_ROWS
    return [*lines, "", *([f"and {left} more rows", ""] if left > 0 else [])]


def _code(text: str) -> str:
    """Return `text` as a code span, where neither Markdown nor HTML nor mentions are interpreted."""
    inside = plain(text).replace("`", "'").replace("|", "¦").strip()
    return f"`{inside}`" if inside else ""
