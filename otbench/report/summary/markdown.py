"""The summary as Markdown: a document of its own, or its guide between two marks of another one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from otbench.report.markdown import markdown_escape
from otbench.report.summary.contests import Contest
from otbench.report.summary.guide import Advice
from otbench.report.summary.scopes import Scope
from otbench.report.summary.summary import RULE, Summary
from otbench.report.summary.text import (
    EXPLAINED,
    alone,
    beside,
    cells,
    equal_title,
    heads,
    instances,
    runs,
    scope_cells,
    scope_heads,
    scope_remarks,
    sources,
)

BEGIN, END = "<!-- summary: ", "<!-- end of the summary -->"
"""Marks between which `put_between` writes; the first goes on with the command."""


def command_of(program: str, folders: Sequence[str], options: Mapping[str, str | None]) -> str:
    """Return the command that prints the same summary."""
    words = [*program.split(), "summary", *folders]
    for name, typed in options.items():
        words += [] if typed is None else [f"--{name}", typed]
    return re.sub(r"[`\r\n]|-->", "?", shlex.join(words))


def put_between(text: str, summary: Summary, command: str) -> str:
    """Return `text` with the guide between its marks; empty where it has none."""
    head, mark, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not mark or not end:
        return ""
    return f"{head}{BEGIN}made by `{command}` -->\n\n{short(summary)}\n{END}{tail}"


def document(summary: Summary, command: str, figures: Sequence[str] = ()) -> str:
    """Return the whole summary.

    Args:
        summary: what to write.
        command: the command that makes it again.
        figures: paths of its figures, relative to the document.
    """
    out = ["# Which solver when", "", f"Made by otbench; made again by `{command}`.", ""]
    out += _paragraphs(sources(summary))
    out += [*_guide(summary.guide), ""]
    if summary.compared:
        out += ["## By task and size", "", *_paragraphs([RULE, *EXPLAINED])]
    for contest in summary.compared:
        out += [*_contest(contest), ""]
    if summary.alone:
        out += ["## One solver only, so nothing to compare", ""]
        out += [*(f"* {marked(line)}" for line in alone(summary)), ""]
    for number, scope in enumerate(summary.scopes, 1):
        out += [*_scope(scope), ""]
        out += [f"![{_alt(scope)}]({name})\n" for name in figures if f"--{number}-" in name]
    for scope in summary.equal_scopes:
        out += [*_scope(scope), ""]
    return "\n".join(out).rstrip() + "\n"


def short(summary: Summary) -> str:
    """Return what the guide advises, on how many instances each answer rests, and from which records."""
    answered = [advice for advice in summary.guide if advice.solvers]
    out = [*_guide(answered, reasons=False), ""] if answered else []
    missing = dict.fromkeys(advice.need for advice in summary.unanswered)
    out += _paragraphs([f"Too few records to advise on: {'; '.join(missing)}."] if missing else [])
    out += _paragraphs(sources(summary))
    return "\n".join(out).rstrip() + "\n"


def marked(text: str) -> str:
    """Return `text` escaped, with names in backticks as code."""
    return "".join(f"`{part}`" if is_code else markdown_escape(part) for is_code, part in runs(text))


def _guide(answers: Sequence[Advice], *, reasons: bool = True) -> Iterator[str]:
    """Yield the guide as a table, with the reasons or the number of instances behind each answer."""
    lines = []
    before = ""
    for advice in answers:
        need = "" if advice.need == before else f"**{markdown_escape(advice.need)}**"
        last = marked(advice.text) if reasons else str(advice.instances)
        lines.append([need, marked(advice.answer), markdown_escape(advice.detail), last])
        before = advice.need
    heads = ["you have, or want", "take", "measured on", "why" if reasons else "instances"]
    yield from _table(heads, lines, right=int(not reasons))


def _contest(contest: Contest) -> Iterator[str]:
    yield from (f"### {markdown_escape(contest.title)}", "", markdown_escape(contest.terms.words), "")
    columns = heads(contest)
    yield from _table(
        columns, [list(map(markdown_escape, cells(contest, e))) for e in contest.entries], right=len(columns) - 2
    )
    yield ""
    if (equal := contest.equal) is not None:
        yield from (f"{markdown_escape(equal_title(equal))}:", "")
        columns = heads(equal)
        lines = [list(map(markdown_escape, cells(equal, entry))) for entry in equal.entries]
        yield from (*_table(columns, lines, right=len(columns) - 2), "")
    if yardsticks := beside(contest):
        yield f"Beside, not ranked: {marked(yardsticks)}."
        yield ""
    failures = [f"{entry.label}: {failure}" for entry in contest.entries for failure in entry.row.failures[:3]]
    yield from _paragraphs([*contest.remarks, *failures])


def _scope(scope: Scope) -> Iterator[str]:
    yield from (f"## Over {len(scope.counted)} instances: {markdown_escape(scope.title)}", "")
    yield from (markdown_escape(f"{scope.terms}. {instances(scope)}."), "")
    columns = scope_heads(scope)
    lines = [list(map(markdown_escape, scope_cells(scope, label))) for label in scope.solvers]
    yield from _table(columns, lines, right=len(columns) - 1)
    yield ""
    yield from _paragraphs(list(scope_remarks(scope)))


def _alt(scope: Scope) -> str:
    return markdown_escape(f"{scope.title}: {', '.join(scope.solvers)}").replace("\n", " ")


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]], *, right: int = 0) -> Iterator[str]:
    """Yield a table whose last `right` columns hold numbers."""
    yield "| " + " | ".join(map(markdown_escape, columns)) + " |"
    yield "| " + " | ".join(["---"] * (len(columns) - right) + ["---:"] * right) + " |"
    for line in lines:
        yield "| " + " | ".join(line) + " |"


def _paragraphs(texts: Sequence[str]) -> list[str]:
    return [" ".join(map(marked, texts)), ""] if texts else []
