r"""Tables as LaTeX: one fragment per table for `\input`, and one document that holds them all.

Fragments need the packages booktabs and graphicx. Every text that comes out of a record is escaped; what pdfLaTeX has
no glyph for is written as its code point.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from otbench.report.tables import Cell, Line, Table

_LONGEST = 36
"""Lines of one page; a longer table is continued in another float."""
_FLOATS = 4
"""Tables after which the page is cleared: LaTeX can hold back a limited number of floats."""
_EMPTY = "--"
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # never an argument of the command before it
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "\u00d7": r"$\times$",
    "\u2013": r"\textendash{}",
    "…": r"\dots{}",
    "²": r"\textsuperscript{2}",
}


def escape(text: str) -> str:
    """Return `text` such that LaTeX prints it as it stands."""
    text = "".join(_SPECIAL.get(character, _letter(character)) for character in text)
    return re.sub(r"(?<=[-,])(?=[-,])", "{}", text)  # no ligatures of two hyphens or two commas


def _letter(character: str) -> str:
    accented = "À" <= character <= "ÿ" and (unicodedata.decomposition(character) or character in "ÆØßæø")
    if " " <= character <= "~" or accented:  # these exist in every font encoding
        return character
    return f"{{[}}U+{ord(character):04X}{{]}}"


def comment(text: str) -> str:
    """Return `text` on one line of printable ASCII, for a comment."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)


def fragment(table: Table, command: str) -> str:
    r"""Return one table for `\input`.

    Args:
        table: what to print.
        command: the command that makes it again, for the header.
    """
    head = [
        f"% Made by otbench; made again by: {comment(command)}",
        r"% Needs \usepackage{booktabs,graphicx}. Use: \input{" + table.slug + ".tex}",
    ]
    parts = [table.lines[start : start + _LONGEST] for start in range(0, len(table.lines), _LONGEST)]
    floats = []
    for index, lines in enumerate(parts):
        if index and index % _FLOATS == 0:
            floats.append(r"\clearpage")
        floats.append(_float(table, lines, index, len(parts)))
    return "\n".join([*head, *floats]) + "\n"


def document(slugs: Sequence[str], command: str) -> str:
    """Return a document of its own that inputs the fragments named by `slugs`."""
    lines = [
        f"% Made by otbench; made again by: {comment(command)}",
        r"\documentclass[10pt]{article}",
        r"\usepackage[T1]{fontenc}",
        r"\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}",
        r"\usepackage[a4paper,landscape,margin=18mm]{geometry}",
        r"\usepackage{booktabs,graphicx}",
        r"\begin{document}",
    ]
    for index, slug in enumerate(slugs, 1):
        lines.append(rf"\input{{{slug}.tex}}")
        if index % _FLOATS == 0:
            lines.append(r"\clearpage")
    return "\n".join([*lines, r"\end{document}"]) + "\n"


def _float(table: Table, lines: Sequence[Line], part: int, parts: int) -> str:
    caption = f"{table.title[:1].upper()}{table.title[1:]}. {table.context}."
    if part:
        caption += f" Continued, part {part + 1} of {parts}."
    out = [r"\begin{table}[htbp]", r"\centering", rf"\caption{{{escape(caption)}}}"]
    if not part:
        out.append(rf"\label{{tab:{table.slug}}}")
    out += [r"\small", r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"]
    out += [_tabular(table, lines) + "}", r"\par\smallskip"]
    notes = _notes(table) if part == parts - 1 else []
    if notes:
        out += [r"\begin{minipage}{\linewidth}\footnotesize", *[note + r"\par" for note in notes], r"\end{minipage}"]
    return "\n".join([*out, r"\end{table}"])


def _tabular(table: Table, lines: Sequence[Line]) -> str:
    """Return the tabular: pandas writes it, then a rule is set between the groups."""
    cells = pd.DataFrame([[_method(line, table), *map(_cell, line.cells)] for line in lines])
    looks = pd.DataFrame([["", *(_look(cell) for cell in line.cells)] for line in lines])
    units = [f" ({column.unit})" if column.unit else "" for column in table.columns]
    heads = ["method", *(escape(column.label + unit) for column, unit in zip(table.columns, units, strict=True))]
    templates = [head.replace("{", "{{").replace("}", "}}") for head in heads]  # pandas calls str.format on them
    styler: Styler = cells.style.hide(axis="index").relabel_index(templates, axis="columns")
    styler = styler.apply(lambda _: looks, axis=None)
    text = styler.to_latex(hrules=True, column_format="l" + "r" * len(table.columns))
    rows = text.strip().splitlines()
    first = next(index for index, row in enumerate(rows) if row == r"\midrule") + 1
    for index in range(len(lines) - 1, 0, -1):
        if lines[index].group != lines[index - 1].group:
            rows.insert(first + index, r"\midrule")
    return "\n".join(rows)


def _method(line: Line, table: Table) -> str:
    name = escape(line.label)
    if line.kind == "published":
        name = rf"\quad\textit{{{name}}} [{line.source}]"
    return name + _raised(line.marks, line.notes)


def _cell(cell: Cell) -> str:
    if not cell.mean:
        return _EMPTY + _raised(cell.marks, cell.notes)
    if cell.failed:
        return rf"\textit{{{escape(cell.mean)}}}" + _raised(cell.marks, cell.notes)
    return (
        _number(cell.mean)
        + (rf" {{\footnotesize$\pm$\,{_number(cell.half)}}}" if cell.half else "")
        + _raised(cell.marks, cell.notes)
    )


def _look(cell: Cell) -> str:
    return {1: "textbf:--rwrap;", 2: "underline:--rwrap;"}.get(cell.rank, "")


def _number(text: str) -> str:
    """Return a number with a real minus sign and a power of ten in place of `e`."""
    found = re.fullmatch(r"(-?)([\d.]+)(?:e([+-])0*(\d+))?", text)
    if found is None:  # inf, nan
        return escape(text)
    minus, digits, sign, power = found.groups()
    out = ("$-$" if minus else "") + digits
    if power is not None:
        out += rf"$\times10^{{{'-' if sign == '-' else ''}{power}}}$"
    return out


def _raised(marks: str, notes: Sequence[int]) -> str:
    text = ",".join([*marks, *(letter(note) for note in notes)])
    return rf"\textsuperscript{{{escape(text)}}}" if text else ""


def letter(index: int) -> str:
    """Return the letter of a footnote: a to z, then aa, ab, ..."""
    text = ""
    while index >= 0:
        text = chr(ord("a") + index % 26) + text
        index = index // 26 - 1
    return text


def _notes(table: Table) -> list[str]:
    lines = table.legend("bold", "underlined")
    if table.seeds:
        interval = any(cell.half for line in table.lines for cell in line.cells)
        lines.append(f"{table.seeds}; ±: 95 % t-interval of the mean." if interval else f"{table.seeds}.")
    text = [escape(" ".join(lines))] if lines else []
    text += [rf"\textsuperscript{{{letter(index)}}} {escape(note)}" for index, note in enumerate(table.notes)]
    text += [rf"[{index}] {escape(source)}" for index, source in enumerate(table.sources, 1)]
    return text
