r"""Tables as LaTeX: one fragment per table for `\input`, and one document that holds them all.

Fragments need the packages booktabs and graphicx. Every text that comes out of a record is escaped; what pdfLaTeX has
no glyph for is written as its code point.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from otbench.report.files import letter
from otbench.report.tables import Cell, Line, Table, raised

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
    caption = f"{table.heading}. {table.context}."
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
    """Return the tabular, with a rule between the groups."""
    heads = ["method", *(escape(column.head) for column in table.columns)]
    out = [rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule", _joined(heads)]
    group = None
    for line in lines:
        out += [r"\midrule"] if line.group != group else []
        out.append(_joined([_method(line), *map(_cell, line.cells)]))
        group = line.group
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}"])


def _joined(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _method(line: Line) -> str:
    name = escape(line.row.label)
    if line.row.kind == "published":
        name = rf"\quad\textit{{{name}}} [{line.source}]"
    return name + _raised(line)


def _cell(cell: Cell) -> str:
    text = rf"\textit{{{escape(cell.mean)}}}" if cell.failed else _number(cell.mean) or _EMPTY
    if cell.half:
        text += rf" {{\footnotesize$\pm$\,{_number(cell.half)}}}"
    text += _raised(cell)
    return rf"\textbf{{{text}}}" if cell.rank else text


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


def _raised(part: Line | Cell) -> str:
    text = raised(part)
    return rf"\textsuperscript{{{escape(text)}}}" if text else ""


def _notes(table: Table) -> list[str]:
    lines = table.legend("bold")
    if table.seeds:
        interval = any(cell.half for line in table.lines for cell in line.cells)
        lines.append(f"{table.seeds}; ±: 95 % t-interval of the mean." if interval else f"{table.seeds}.")
    text = [escape(" ".join(lines))] if lines else []
    text += [rf"\textsuperscript{{{letter(index)}}} {escape(note)}" for index, note in enumerate(table.notes)]
    text += [rf"[{index}] {escape(source)}" for index, source in enumerate(table.sources, 1)]
    return text
