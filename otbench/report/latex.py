r"""Tables as LaTeX: one fragment per table for `\input`, definitions of their numbers, and a document of all.

Tables fit a text width of 5.5 inches, that of NeurIPS, in `\small` or `\footnotesize`: what is wider is set as panels
below each other. Fragments need booktabs and siunitx. Every text that comes out of a record is escaped; what pdfLaTeX
has no glyph for is written as its code point.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from otbench.report.bibliography import Work, cited
from otbench.report.columns import Column
from otbench.report.files import letter
from otbench.report.notation import display, entry, notation, notations
from otbench.report.rows import KEEPS, LEGEND, READS, STALE, START
from otbench.report.tables import Cell, Line, Table

TEXT_WIDTH = 390.0
"""Points that a table may take of a line of 5.5 inches, which has 397."""
_LONGEST = 36
"""Lines of one page; a longer table is continued in another float."""
_FLOATS = 4
"""Tables after which the page is cleared: LaTeX can hold back a limited number of floats."""
_NAME = 26
"""Letters of a method's name in a table; a longer one stands whole in a footnote."""
_EMPTY = "{--}"
_GAP = 8.0
"""Points between two columns, at `\\tabcolsep` of 4 points."""
_SIZES = {r"\small": 4.9, r"\footnotesize": 4.4}
"""Points of a digit or an average letter, with some to spare."""
_PLAIN_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+))?")
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
    text = re.sub(r"(?<=\w)\\textquotesingle\{\}(?=\w)", "'", text)  # an apostrophe within a word
    return re.sub(r"(?<=[-,])(?=[-,])", "{}", text)  # no ligatures of two hyphens or two commas


def _letter(character: str) -> str:
    accented = "À" <= character <= "ÿ" and (unicodedata.decomposition(character) or character in "ÆØßæø")
    if " " <= character <= "~" or accented:  # these exist in every font encoding
        return character
    return f"{{[}}U+{ord(character):04X}{{]}}"


def comment(text: str) -> str:
    """Return `text` on one line of printable ASCII, for a comment."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)


# --------------------------------------------------------------------------------------------------------------- names


class Stems:
    """Names of files and labels: from the task, its parameters, the preset and what is shown, and nothing else."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def make(self, table: Table) -> str:
        """Return the name of a table, without ending; two of one name are numbered, which no task of ours needs."""
        name = _stem(table)
        self._taken[name] = count = self._taken.get(name, 0) + 1
        return name if count == 1 else f"{name}-{count}"


def _stem(table: Table) -> str:
    records = next((line.row.records for line in table.lines if line.row.records), None)
    if records is None:
        return table.slug
    record = records[0]
    spec, words = record.spec, [record.spec.task]
    for name, value in spec.task_config.items():
        if value is None or (name == "dim" and _by_dimension(table)):
            continue
        if len({str(one.spec.task_config.get(name)) for one in records}) > 1:  # the pairs of a pool
            words.append(f"{name}s")
            continue
        text = str(value).rpartition("/")[2][:30]
        words.append(f"{'d' if name == 'dim' else name}{text}" if re.match(r"[\d.+-]", text) else text)
    device = str(record.environment.get("device") or spec.device)
    words += [spec.preset, *([] if device == "cpu" else [device[:30]]), _topic(table)]
    return "-".join(re.findall(r"[a-z0-9]+", " ".join(words).lower()))[:150] or table.slug


def _topic(table: Table) -> str:
    keys = {column.key for column in table.columns}
    reached = {key.partition("_to_")[0] for key in keys}
    if len(reached) == 1 and all("_to_" in key for key in keys):
        return f"training {reached.pop()}"
    if _by_dimension(table) and len(keys) == 1 and entry(key := keys.pop()):
        return key
    return table.title.partition(":")[0][:60]


def _by_dimension(table: Table) -> bool:
    return all(re.fullmatch(r"d = \d+", column.label) for column in table.columns)


def _shown_names(table: Table) -> Callable[[str], str]:
    """Return a function that puts the names of papers for the labels of this table's rows."""
    rows = [line.row for line in table.lines if line.row.kind != "published"]
    shown = {row.label: _settings(row.label, row.solver)[0] for row in rows}
    changed = sorted((label for label, name in shown.items() if name != label), key=len, reverse=True)
    if not changed:
        return lambda text: text
    # a label stands alone between signs; the solver "not" is no word of a sentence
    before, after = r"(?:(?<=\()|(?<=[,;:] )|(?<=with )|^)", r"(?=[),:;]| x\d| [+-]?\d| \(\d|$)"
    pattern = re.compile(f"{before}(?:{'|'.join(map(re.escape, changed))}){after}")
    return lambda text: pattern.sub(lambda found: shown[found[0]], text)


# --------------------------------------------------------------------------------------------------------------- pieces


@dataclass
class _Notes:
    """Footnotes in the order in which they are first called for; LaTeX."""

    texts: list[str] = field(default_factory=list)

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return letter(self.texts.index(text))


@dataclass(frozen=True)
class _Column:
    """A column, ready to be set: `cells` hold a number or words each, and what stands behind it in small print."""

    head: str
    unit: str
    cells: tuple[tuple[str, str], ...]

    @property
    def beside(self) -> bool:
        """Whether anything stands behind the numbers."""
        return any(small for _, small in self.cells)

    @property
    def _numbers(self) -> list[re.Match[str]]:
        """The numbers that are aligned: those not in braces."""
        return [number for text, _ in self.cells if (number := _PLAIN_NUMBER.search(text)) and text[:1] != "{"]

    @property
    def form(self) -> str:
        """The column as the preamble of a tabular has it."""
        found = self._numbers
        if not found:
            return "c" + (r"@{\,}>{\scriptsize}l" if self.beside else "")
        whole = max(len(number[2]) for number in found)
        sign = "-" if any(number[1] for number in found) else ""  # wider than a digit
        places = max(len(number[3] or "") for number in found)
        words = max((_length(text) for text, _ in self.cells if text.startswith("{")), default=0)
        whole = max(whole, words - places)  # words are centred in the room of the numbers
        return f"S[table-format={sign}{whole}.{places}]" + (r"@{\,}>{\scriptsize}l" if self.beside else "")

    def width(self, letter: float) -> float:
        """Points that the column takes, for letters so wide."""
        numbers = self._numbers
        aligned = max((len(n[1] + n[2]) for n in numbers), default=0) + max(
            (len(n[3] or "") for n in numbers), default=0
        )
        widest = max([aligned + 0.6, *(_length(text) for text, _ in self.cells if text[:1] == "{")])
        beside = 0.8 * max((_length(small) for _, small in self.cells), default=0)
        return _GAP + letter * max(_length(self.head), _length(self.unit), widest + beside + (0.4 if beside else 0))


def _length(tex: str) -> int:
    """Return about how many letters `tex` is wide."""
    tex = tex.replace(r"\times", "xx").replace(r"\pm", "x")
    return len(re.sub(r"[{}$^_~]", "", re.sub(r"\\(?:text\w+|math\w+|bfseries|itshape|symbol)|\\[a-zA-Z]+", "", tex)))


def _columns(table: Table, notes: _Notes, said: Callable[[str], str]) -> list[_Column]:
    """Return the columns of a paper: no score before training, ends of an interval beside what they enclose.

    What few rows do (to read labels, to keep training rows) is said in footnotes.
    """
    places = [k for k, column in enumerate(table.columns) if column.key not in (START, READS, KEEPS)]
    keys = {table.columns[k].key: k for k in places}
    ends = {
        key: (keys[f"{key}_low"], keys[f"{key}_high"]) for key in keys if {f"{key}_low", f"{key}_high"} <= keys.keys()
    }
    hidden = {place for pair in ends.values() for place in pair}
    made = []
    for k in (place for place in places if place not in hidden):
        column, cells = table.columns[k], []
        for line in table.lines:
            cell = line.cells[k]
            around = [line.cells[place].mean for place in ends.get(column.key, ())]
            small = rf"$\pm$\,{_number(cell.half)}" if cell.half else ""
            if around and all(around):
                small = rf"{{[}}{_number(around[0])}, {_number(around[1])}{{]}}"
            letters = [notes.mark(escape(said(table.notes[index]))) for index in cell.notes]
            cells.append((_text(cell), small + _raised([*cell.marks, *letters])))
        if any(text != _EMPTY for text, _ in cells):
            made.append(_Column(*_head(column), tuple(cells)))
    return made


def _head(column: Column) -> tuple[str, str]:
    found = notation(column.key)
    size = re.fullmatch(r"d = (\d+)", column.label)
    head = f"${column.label}$" if size else found.head if found else escape(column.label)
    unit = column.unit.replace("data units", "units").replace("k samples", "10^3 samples")
    if column.key == "samples":
        unit = "10^3"
    unit = re.sub(r"(\w*)\\textasciicircum\{\}(\d)", r"\1$^\2$", escape(unit))
    return head, f"({unit})" if unit else ""


def _text(cell: Cell) -> str:
    """Return the number for a column that aligns decimals, or anything else in braces."""
    if not cell.mean:
        return _EMPTY
    if cell.failed:
        return rf"{{\itshape {escape(cell.mean)}}}" if cell.mean not in ("yes", "no") else f"{{{cell.mean}}}"
    series = r"\bfseries " if cell.rank else ""
    if _PLAIN_NUMBER.fullmatch(cell.mean):
        return series + cell.mean
    bold = r"\boldmath" if cell.rank else ""
    return f"{{{series}{bold}{_number(cell.mean.removeprefix('> ')) if cell.mean[:1] != '>' else _above(cell.mean)}}}"


def _above(text: str) -> str:
    return rf"$>$\,{_number(text[2:])}"


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


def _raised(marks: Iterable[str]) -> str:
    text = ",".join(marks)
    return rf"\textsuperscript{{{escape(text)}}}" if text else ""


def _methods(table: Table, notes: _Notes, said: Callable[[str], str]) -> list[str]:
    """Return the first cell of each line: a name, with settings, failures and sources in footnotes."""
    made, above = [], ""
    for line in table.lines:
        row = line.row
        letters = []
        if row.kind == "published":
            own = re.fullmatch(rf"(?i){_loosely(display(row.solver))}(.*)", row.label) if row.solver == above else None
            name = f"published, {own[1].strip()}".removesuffix(", ") if own else f"{row.label}, published"
            said_of = [table.notes[index].removeprefix(f"{row.label}, published: ") for index in line.notes]
            source = "" if line.source is None else _cite(table.sources[line.source - 1])
            letters.append(notes.mark("; ".join([source, *map(escape, said_of)]) if source else escape(said_of[0])))
            text = ("\\quad " if row.solver == above else "") + rf"\textit{{{escape(name)}}}"
        else:
            above = row.solver
            name, settings = _settings(row.label, row.solver)
            if len(name) > _NAME:
                letters.append(notes.mark(escape(name)))
                name = name[: _NAME - 1] + "…"
            if settings:
                letters.append(notes.mark(escape(settings)))
            numbers = row.numbers if {READS, KEEPS} & {column.key for column in table.columns} else {}
            if READS in numbers and numbers[READS].mean > 0:
                letters.append(notes.mark("Told the class of the point that it moves."))
            if KEEPS in numbers and numbers[KEEPS].mean > 0:
                letters.append(notes.mark(f"Keeps {numbers[KEEPS].mean:.0f} training rows."))
            letters += [notes.mark(escape(said(table.notes[index]))) for index in line.notes]
            text = escape(name)
        made.append(text + _raised([*line.marks, *letters]))
    return made


def _loosely(name: str) -> str:
    """Return a pattern for `name` with any punctuation between its letters: MMv1 is MM-v1, too."""
    return r"\W?".join(re.escape(character) for character in name if character.isalnum())


def _settings(label: str, solver: str) -> tuple[str, str]:
    """Return a row's name in papers and its settings in words: ncf[lr=1e-2] (100 steps) is NCF, with lr = 1e-2 ..."""
    found = re.fullmatch(rf"{re.escape(solver)}(?:\[(.*)\])?(?: \((.*)\))?", label)
    if found is None:
        return display(label), ""
    typed = [
        f"{name} = {value}" for name, _, value in (part.partition("=") for part in (found[1] or "").split(",")) if name
    ]
    return display(solver), ", ".join([*typed, *([found[2]] if found[2] else [])])


def _cite(source: str) -> str:
    places = [
        rf"\cite[{escape(place)}]{{{work.key}}}" if place else rf"\cite{{{work.key}}}" for work, place in cited(source)
    ]
    return ", ".join(places) or escape(source)


# --------------------------------------------------------------------------------------------------------------- tables


def works_of(tables: Iterable[Table]) -> Iterator[Work]:
    """Yield the works that published lines of `tables` are from."""
    for source in dict.fromkeys(source for table in tables for source in table.sources):
        yield from (work for work, _ in cited(source))


def fragment(table: Table, command: str, name: str) -> str:
    r"""Return one table for `\input`.

    Args:
        table: what to print.
        command: the command that makes it again, for the header.
        name: of its file, without ending, and of its label.
    """
    lines = [
        f"% Made by otbench; made again by: {comment(command)}",
        rf"% Needs \usepackage{{booktabs,siunitx}}. Use: \input{{{name}}}, \ref{{tab:{name}}}, otbench.bib",
    ]
    notes, said = _Notes(), _shown_names(table)
    methods, columns = _methods(table, notes, said), _columns(table, notes, said)
    size, panels = _panels(methods, columns)
    most = max(_LONGEST // len(panels), 6)
    starts = _starts(table.lines, most)
    for part, (start, end) in enumerate(pairwise([*starts, len(table.lines)])):
        if part and part % _FLOATS == 0:
            lines.append(r"\clearpage")
        rows = slice(start, end)
        lines += [r"\begin{table}[htbp]", r"\centering", rf"\caption{{{_caption(table, part, len(starts))}}}"]
        lines += [] if part else [rf"\label{{tab:{name}}}"]
        lines += [rf"{size}\setlength{{\tabcolsep}}{{4pt}}", r"\sisetup{mode=text, detect-all, group-digits=integer}"]
        groups = [line.group for line in table.lines[rows]]
        for number, panel in enumerate(panels):
            lines += [r"\par\medskip"] if number else []
            lines.append(_tabular(methods[rows], groups, [replace(c, cells=c.cells[rows]) for c in panel], panel))
        said_below = _below(table, notes, said) if part == len(starts) - 1 else []
        if said_below:
            lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize"]
            lines += [*(text + r"\par" for text in said_below), r"\end{minipage}"]
        lines.append(r"\end{table}")
    return "\n".join(lines) + "\n"


def _starts(lines: Sequence[Line], most: int) -> list[int]:
    """Return where the floats of a table begin: at most `most` lines in each, a solver's published rows beside it."""
    starts = [0]
    while (full := starts[-1] + most) < len(lines):
        heads = (n for n in range(full, starts[-1], -1) if lines[n].group != 1 or lines[n].row.kind != "published")
        starts.append(next(heads, full))
    return starts


def _panels(methods: Sequence[str], columns: Sequence[_Column]) -> tuple[str, list[list[_Column]]]:
    """Return the size of letters in which the columns fit, and which stand side by side."""
    first = max((_length(text) for text in methods), default=0)
    for size, wide in _SIZES.items():
        if first * wide + sum(column.width(wide) for column in columns) <= TEXT_WIDTH:
            return size, [list(columns)]
    size, wide = list(_SIZES.items())[-1]
    panels: list[list[_Column]] = [[]]
    for column in columns:
        taken = first * wide + sum(other.width(wide) for other in [*panels[-1], column])
        if panels[-1] and taken > TEXT_WIDTH:
            panels.append([])
        panels[-1].append(column)
    return size, panels


def _tabular(
    methods: Sequence[str], groups: Sequence[int], columns: Sequence[_Column], whole: Sequence[_Column]
) -> str:
    """Return the tabular, with a rule between the groups; `whole` are the columns with all rows of the table."""
    out = [rf"\begin{{tabular}}{{@{{}}l{''.join(column.form for column in whole)}@{{}}}}", r"\toprule"]

    def across(pick: Callable[[_Column], str]) -> str:
        return " & ".join(
            rf"\multicolumn{{2}}{{c}}{{{pick(column)}}}" if column.beside else f"{{{pick(column)}}}" for column in whole
        )

    out.append(rf"method & {across(lambda column: column.head)} \\")
    if any(column.unit for column in whole):
        out.append(rf" & {across(lambda column: column.unit)} \\")
    group = None
    for index, method in enumerate(methods):
        out += [r"\midrule"] if groups[index] != group else []
        cells = [
            f"{column.cells[index][0]} & {column.cells[index][1]}" if parent.beside else column.cells[index][0]
            for column, parent in zip(columns, whole, strict=True)
        ]
        out.append(rf"{' & '.join([method, *cells])} \\")
        group = groups[index]
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}"])


def _caption(table: Table, part: int, parts: int) -> str:
    spec = next((record.spec for line in table.lines for record in line.row.records), None)
    where = table.context
    if spec is not None and where.startswith(f"{spec.task}: "):
        where = f"{display(spec.task)}: {where.removeprefix(f'{spec.task}: ')}"
    where = re.sub(r", cpu(?=[;)])", ", CPU", where)
    text = f"{_with_heads(table.heading, table)}. {spaced(escape(where))}."
    keys = {column.key for column in table.columns}
    meaning = notation(keys.pop()) if len(keys) == 1 else None
    if meaning is not None and not part:
        text += " " + escape(re.match(r".*?\.(?= |$)", meaning.says)[0])  # type: ignore[index]
    return text + (f" Continued, part {part + 1} of {parts}." if part else "")


def _with_heads(text: str, table: Table) -> str:
    """Return a text with the names of metrics as the heads of columns have them."""
    infos = [info for line in table.lines for record in line.row.records[:1] for info in record.metric_info]
    symbols = {info.label: info.name for info in infos if not re.fullmatch("[a-z ]*", info.label)}  # no mere words
    heads = {label: found.head for label, name in symbols.items() if (found := notation(name))}
    if not heads:
        return spaced(escape(text))
    pattern = "|".join(re.escape(label) for label in sorted(heads, key=len, reverse=True) if label)
    parts = re.split(rf"(?i)(?<!\w)({pattern})(?!\w)", text)
    lower = {label.lower(): head for label, head in heads.items()}
    return "".join(lower.get(piece.lower(), spaced(escape(piece))) for piece in parts)


def spaced(tex: str) -> str:
    """Return LaTeX with thin spaces between thousands, and dimensions in mathematics."""
    tex = re.sub(r"(?<=\d) (?=\d{3}\b)", r"\\,", tex)
    tex = re.sub(r"\bd = (\d+)", r"$d = \1$", tex)
    return re.sub(r"(?<=\d) (?=\\%)", "~", tex)


def _below(table: Table, notes: _Notes, said: Callable[[str], str]) -> list[str]:
    lines = [text for text in table.legend("bold") if LEGEND[STALE] not in text or text[:1] == STALE]
    if table.seeds:
        interval = any(cell.half for line in table.lines for cell in line.cells)
        lines.append(f"Mean, {table.seeds}; ±: 95 % t-interval of the mean." if interval else f"Mean, {table.seeds}.")
    rows = [row for line in table.lines for row in (line.row, *(cell.row for cell in line.cells)) if row is not None]
    code = list(dict.fromkeys(words.removeprefix("commit ") for row in rows for words in row.stale))
    if code and not any(STALE in line.marks + "".join(cell.marks for cell in line.cells) for line in table.lines):
        lines.append(f"Code: otbench, commit {', '.join(code)}.")
    out = [_with_heads(said(" ".join(lines)), table)] if lines else []
    return out + [rf"\textsuperscript{{{letter(index)}}}\,{spaced(text)}" for index, text in enumerate(notes.texts)]


# ----------------------------------------------------------------------------------------------------------- the rest


def definitions(tables: Iterable[Table], command: str) -> str:
    r"""Return a list of what the columns of `tables` mean, with formulas, for `\input`."""
    keys = dict.fromkeys(entry(column.key) for table in tables for column in table.columns)
    known = notations()
    lines = [f"% Made by otbench; made again by: {comment(command)}", r"\begin{description}\small"]
    for key in (key for key in keys if key and known[key].formula and not key.endswith(("_low", "_high"))):
        found = known[key]
        head = found.head.replace("{map}", "T")
        lines.append(rf"\item[\normalfont {head}:] {escape(found.says.replace('`', ''))}")
        lines.append(rf"\[ {found.formula} \]")
    return "\n".join([*lines, r"\end{description}"]) + "\n" if len(lines) > 2 else ""


def document(names: Sequence[str], command: str, *, alone: int = 0) -> str:
    """Return a document of its own that inputs the fragments `names`.

    Args:
        names: of files, without ending.
        command: the command that makes it again.
        alone: how many of the first ones have pages of their own.
    """
    lines = [
        f"% Made by otbench; made again by: {comment(command)}",
        r"\documentclass[10pt]{article}",
        r"\usepackage[T1]{fontenc}",
        r"\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}",
        r"\usepackage[letterpaper,textwidth=5.5in,textheight=9in]{geometry}",
        r"\usepackage{booktabs,siunitx}",
        r"\setlength{\belowcaptionskip}{6pt}",
        r"\begin{document}",
    ]
    for index, name in enumerate(names, 1):
        lines.append(rf"\input{{{name}}}")
        if index <= alone or (index - alone) % _FLOATS == 0:
            lines.append(r"\clearpage")
    return "\n".join([*lines, r"\bibliographystyle{plain}", r"\bibliography{otbench}", r"\end{document}"]) + "\n"
