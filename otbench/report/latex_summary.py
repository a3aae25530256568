r"""The summary as one page of LaTeX, for `\input`: which solver by need, who leads where, and mean ranks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from otbench.report.columns import metric_column, written
from otbench.report.latex import comment, escape, spaced
from otbench.report.notation import display, notation
from otbench.report.rows import Number
from otbench.report.summary.contests import Contest, Entry
from otbench.report.summary.summary import RULE, Summary
from otbench.report.summary.text import runs

_NEEDS, _CONTESTS, _SCOPES = 12, 16, 8
"""Lines of each part: together they are a page."""
_TYPED = r"\textsuperscript{$\dagger$}"
"""Stands behind a solver with other settings than its preset's."""
_LONG = 90


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
    parts = [_guide(found), _contests(contests), _scopes(found)]
    out = [
        f"% Made by otbench; made again by: {comment(command)}",
        rf"% Needs \usepackage{{array,booktabs}}. Use: \input{{{name}}}, \ref{{tab:{name}}}",
        r"\begin{table}[p]",
        r"\centering",
        rf"\caption{{Which solver when, from {found.records} runs.}}",
        rf"\label{{tab:{name}}}",
        r"\footnotesize\setlength{\tabcolsep}{4pt}",
        "\n\\par\\medskip\n".join(part for part in parts if part),
        r"\par\smallskip",
        r"\begin{minipage}{\linewidth}\scriptsize",
    ]
    notes = [escape(RULE), "In parentheses: not ranked, as one seed shows nothing; in the order of the error."]
    if any(_TYPED in part for part in parts):
        notes.append(rf"{_TYPED} with settings of its own.")
    open_needs = dict.fromkeys(advice.need for advice in found.guide if not advice.solvers and not advice.part)
    answered = {advice.need for advice in found.guide if advice.solvers}
    if missing := [need for need in open_needs if need not in answered]:
        notes.append(f"Too few records to say anything of: {escape(', '.join(missing))}.")
    notes += [escape(remark) for remark in found.remarks]
    return "\n".join([*out, spaced(" ".join(notes)), r"\end{minipage}", r"\end{table}"]) + "\n"


def _guide(found: Summary) -> str:
    rows = [
        (
            escape(advice.need),
            spaced(escape(advice.detail)),
            _typeset(advice.answer[:1].upper() + advice.answer[1:]) + ".",
        )
        for advice in found.guide
        if advice.solvers and not advice.part
    ]
    form = r"p{0.19\linewidth}p{0.29\linewidth}p{0.46\linewidth}"
    return _part(form, ("need", "measured on", "solver"), rows, _NEEDS)


def _contests(contests: Sequence[Contest]) -> str:
    rows = []
    for contest in contests:
        column = metric_column(contest.metric)
        known = notation(contest.metric.name)
        head = (known.head if known else escape(column.label)) + (f" ({escape(column.unit)})" if column.unit else "")
        best = next((entry.error for entry in contest.entries if entry.error is not None), None)
        least = "--" if best is None else _number(best, contest)
        title = contest.title[: _LONG - 1] + "…" if len(contest.title) > _LONG else contest.title
        task, _, rest = title.partition(": ")
        rows.append((spaced(escape(f"{display(task)}: {rest}")), head, least, _order(contest.entries)))
    form = r"p{0.33\linewidth}lrp{0.37\linewidth}"
    return _part(form, ("instance", "metric", "first", "solvers by rank"), rows, _CONTESTS)


def _scopes(found: Summary) -> str:
    rows = []
    for scope in found.scopes:
        ranks = sorted(scope.mean_ranks.items(), key=lambda item: (item[1], item[0]))
        words = ", ".join(f"{_solver(label)} {rank:.1f}" for label, rank in ranks)
        p = "--" if scope.friedman is None else f"{scope.friedman:.2g}"
        rows.append((escape(display(scope.title)), str(len(scope.instances)), p, words))
    form = r"p{0.2\linewidth}rrp{0.56\linewidth}"
    return _part(form, ("over instances of", "$n$", "$p$", "mean ranks ($p$: Friedman's test)"), rows, _SCOPES)


def _part(form: str, heads: Sequence[str], rows: Sequence[Sequence[str]], most: int) -> str:
    if not rows:
        return ""
    form = re.sub(r"p\{", r">{\\raggedright\\arraybackslash}p{", form)
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
