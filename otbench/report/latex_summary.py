r"""The summary as one page of LaTeX, for `\input`: which solver by need, who leads where, and mean ranks."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from otbench.records.words import counted
from otbench.report.columns import metric_column, written
from otbench.report.latex import comment, escape, spaced
from otbench.report.notation import display, notation
from otbench.report.rows import Number
from otbench.report.summary.contests import Contest, Entry
from otbench.report.summary.summary import RULE, Summary
from otbench.report.summary.text import runs

_Column = tuple[str, float | str]
"""The head of a column, and its share of the line; l or r for one that is as wide as what stands in it."""
_Content = tuple[Sequence[_Column], Sequence[Sequence[str]]]
_NEEDS, _SCOPES = 12, 8
"""Rows of these parts at most."""
_LINES = 64
"""Lines of all rows together that fit the page, beside heads and notes; instances take what the other parts leave."""
_LETTERS = 95
"""Letters of a whole line, with some to spare."""
_PARAGRAPH = r">{\raggedright\arraybackslash}p{WIDTH\linewidth}"
_TYPED = r"\textsuperscript{$\dagger$}"
"""Stands behind a solver with other settings than its preset's."""
_LONG = 80
"""Letters of an instance in words at most: two lines."""


def summary(found: Summary, command: str, name: str = "summary") -> str:
    """Return the page; empty where no two solvers can be compared.

    Args:
        found: what the records say.
        command: the command that makes it again.
        name: of its file, without ending, and of its label.
    """
    contests = found.compared
    if not contests:
        return ""
    guide, scopes = _guide(found), _scopes(found)
    room = _LINES - _height(*guide, _NEEDS) - _height(*scopes, _SCOPES)
    parts = [_part(*guide, _NEEDS), _part(*(by_instance := _contests(contests)), _fitting(*by_instance, room))]
    parts.append(_part(*scopes, _SCOPES))
    out = [
        f"% Made by otbench; made again by: {comment(command)}",
        rf"% Needs \usepackage{{array,booktabs}}. Use: \input{{{name}}}, \ref{{tab:{name}}}",
        r"\begin{table}[p]",
        r"\centering",
        rf"\caption{{Which solver when, from {counted(found.records, 'run')}.}}",
        rf"\label{{tab:{name}}}",
        r"\scriptsize\setlength{\tabcolsep}{4pt}\renewcommand{\arraystretch}{0.95}",
        "\n\\par\\smallskip\n".join(part for part in parts if part),
        r"\par\smallskip",
        r"\begin{minipage}{\linewidth}\scriptsize",
    ]
    notes = [escape(RULE), "In parentheses: not ranked, in the order of the error."]
    if any(_TYPED in part for part in parts):
        notes.append(rf"{_TYPED} with settings of its own.")
    if missing := dict.fromkeys(advice.need for advice in found.unanswered if not advice.part):
        notes.append(f"Too few records to say anything of: {escape(', '.join(missing))}.")
    notes += [escape(remark) for remark in found.remarks]
    return "\n".join([*out, spaced(" ".join(notes)), r"\end{minipage}", r"\end{table}"]) + "\n"


def _guide(found: Summary) -> _Content:
    rows = [
        (
            escape(advice.need),
            spaced(escape(_named(advice.detail))),
            _typeset(advice.answer[:1].upper() + advice.answer[1:]) + ".",
        )
        for advice in found.guide
        if advice.solvers and not advice.part
    ]
    return [("need", 0.16), ("measured on", 0.37), ("solver", 0.42)], rows


def _contests(contests: Sequence[Contest]) -> _Content:
    rows = []
    for contest in contests:
        column = metric_column(contest.metric)
        known = notation(contest.metric.name)
        head = (known.head if known else escape(column.label)) + (f" ({escape(column.unit)})" if column.unit else "")
        best = next((entry.error for entry in contest.entries if entry.error is not None), None)
        least = "--" if best is None else _number(best, contest)
        task, _, rest = contest.brief_title.partition(": ")
        rest = rest[: _LONG - 1] + "…" if len(rest) > _LONG else rest
        rows.append((spaced(escape(f"{display(task)}: {rest}")), head, least, _order(contest.entries)))
    return [("instance", 0.43), ("metric", "l"), ("first", "r"), ("solvers by rank", 0.31)], rows


def _scopes(found: Summary) -> _Content:
    rows = []
    for scope in [*found.scopes, *found.equal_scopes]:
        ranks = sorted(scope.mean_ranks.items(), key=lambda item: (item[1], item[0]))
        words = ", ".join(f"{_solver(label)} {rank:.1f}" for label, rank in ranks)
        p = "--" if scope.friedman is None else f"{scope.friedman:.2g}"
        rows.append((escape(_named(scope.title)), str(len(scope.instances)), p, words))
    heads: list[_Column] = [
        ("over instances of", 0.22),
        ("$n$", "r"),
        ("$p$", "r"),
        ("mean ranks ($p$: Friedman's test)", 0.62),
    ]
    return heads, rows


def _named(text: str) -> str:
    """Return a text that begins with a task, with the task's name in papers."""
    task, comma, rest = text.partition(", ")
    return display(task) + comma + rest


def _height(columns: Sequence[_Column], rows: Sequence[Sequence[str]], most: int) -> int:
    """Return about how many lines the first `most` rows take, with the one that says how many more there are."""
    wide = [(index, width) for index, (_, width) in enumerate(columns) if isinstance(width, float)]
    letters = [
        [len(re.sub(r"\\[a-zA-Z]+|[{}$^]", "", row[index])) / (_LETTERS * width) for index, width in wide]
        for row in rows[:most]
    ]
    return sum(max(map(math.ceil, taken)) for taken in letters) + (len(rows) > most)


def _fitting(columns: Sequence[_Column], rows: Sequence[Sequence[str]], room: int) -> int:
    """Return how many of the rows fit into `room` lines."""
    return max((n for n in range(len(rows) + 1) if _height(columns, rows, n) <= room), default=0)


def _part(columns: Sequence[_Column], rows: Sequence[Sequence[str]], most: int) -> str:
    if not rows:
        return ""
    form = "".join(w if isinstance(w, str) else _PARAGRAPH.replace("WIDTH", f"{w:g}") for _, w in columns)
    heads = [head for head, _ in columns]
    lines = [rf"\begin{{tabular}}{{@{{}}{form}@{{}}}}", r"\toprule", f"{' & '.join(heads)} \\\\", r"\midrule"]
    lines += [f"{' & '.join(row)} \\\\" for row in rows[:most]]
    if len(rows) > most:
        lines.append(rf"\multicolumn{{{len(heads)}}}{{@{{}}l}}{{and {len(rows) - most} more}} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _order(entries: Sequence[Entry]) -> str:
    """Return solvers with their ranks, those that share one together."""
    ranked: dict[int, list[str]] = {}
    for entry in entries:
        if entry.rank is not None:
            ranked.setdefault(entry.rank, []).append(_solver(entry.row.label))
    others = [_solver(entry.row.label) for entry in entries if entry.rank is None and entry.error is not None]
    said = [f"{rank}: {', '.join(names)}" for rank, names in sorted(ranked.items())]
    return "; ".join([*said, *([f"({', '.join(others)})"] if others else [])]) or "--"


def _solver(label: str) -> str:
    name, typed, _ = label.partition("[")
    return escape(display(name)) + (_TYPED if typed else "")


def _typeset(text: str) -> str:
    return "".join(_solver(part) if code else spaced(escape(part)) for code, part in runs(text))


def _number(value: Number, contest: Contest) -> str:
    text = written(Number(value.mean, None, value.n), metric_column(contest.metric))[0]
    found = re.fullmatch(r"(-?[\d.]+)e([+-])0*(\d+)", text)
    return escape(text) if found is None else rf"${found[1]} \times 10^{{{found[2].strip('+')}{found[3]}}}$"
