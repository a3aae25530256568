"""One report: records in, files of all formats out."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from otbench.errors import UsageError
from otbench.files import known_formats
from otbench.names import listed, plain
from otbench.records.record import Record
from otbench.report.files import Folder, Slugs
from otbench.report.pooled import for_files, pooled
from otbench.report.rows import sections
from otbench.report.summary.summary import Summary, summarise
from otbench.report.tables import Family, Table, families, tables

if TYPE_CHECKING:
    from otbench.report.figures.canvas import Drawing

FORMATS = ("latex", "pdf", "png", "svg", "markdown", "csv", "html")
"""All formats, in the order in which they are named everywhere."""
_PICTURES = ("pdf", "png", "svg")
_DRAWN = 40
"""Families that get figures: a report of thousands of instances would draw for an hour."""
_LATEX_SECONDS = 120


def parse_formats(text: str) -> list[str]:
    """Return the formats in `text`, separated by commas.

    Raises:
        UsageError: one is unknown.
    """
    return sorted(known_formats(listed(text.lower()), FORMATS), key=FORMATS.index)


def build(
    records: Iterable[Record],
    out: Path,
    formats: Sequence[str],
    *,
    command: str,
    folders: Sequence[Path] = (),
    stale: Mapping[str, str] = {},
    verified: Mapping[str, str] = {},
    references: Mapping[str, str] = {},
) -> Folder:
    """Write a report of `records` to `out`; return the folder, which knows what was made and what could not be.

    Args:
        records: what to report.
        out: folder to write to; files already there are replaced one by one, none is deleted.
        formats: of `FORMATS`.
        command: the command that makes the report again, written into its files.
        folders: where the records come from, for links to them and for the pictures that lie beside them.
        stale: see `sections`.
        verified: see `sections`.
        references: citations of solvers and baselines in words, by name, for the bibliography.

    Raises:
        StoreError: `out` cannot be written.
    """
    folder = Folder(out)
    slugs = Slugs()
    given = list(records)
    found = sections(given, stale=stale, verified=verified)
    summary = summarise(given, stale=stale, verified=verified)
    pools = pooled(found)
    members = families(for_files(pools), slugs)
    made = [(family, tables(family, slugs)) for family in members]
    if "csv" in formats:
        from otbench.report.markdown import numbers_csv

        folder.write("numbers.csv", numbers_csv(found))
    if "latex" in formats or "pdf" in formats:
        _latex(made, summary, folder, formats, command, references)
    pictures = [name for name in _PICTURES if name in formats]
    paged: list[Family] = []
    if "html" in formats:
        from otbench.report.page import image, ordered, page

        paged = ordered(families(pools, Slugs()))
    drawn = _figures(members if pictures else [], paged, folder, pictures, folders)
    overall = _overall(summary, folder, pictures, "html" in formats)
    if "markdown" in formats:
        from otbench.report.markdown import markdown
        from otbench.report.summary.markdown import document

        ending = next((name for name in ("svg", "png") if name in pictures), None)
        shown = [name for name in folder.written if ending is not None and name.endswith(f".{ending}")]
        folder.write("tables.md", markdown(made, command, shown))
        folder.write("summary.md", document(summary, command, [name for name in shown if "/summary--" in name]))
    if "html" in formats:
        from otbench.report.summary.html import fragment

        text = page(
            paged,
            drawn,
            title=plain(", ".join(dict.fromkeys(section.task for section in found)), 80),
            command=command,
            folders=folders,
            target=out,
            summary=fragment(summary, {one.name: image(one) for one in overall}),
        )
        folder.write("index.html", "".join(text))
    return folder


def _latex(
    made: Sequence[tuple[Family, Sequence[Table]]],
    overall: Summary,
    folder: Folder,
    formats: Sequence[str],
    command: str,
    references: Mapping[str, str],
) -> None:
    from otbench.report.bibliography import bibliography, cited
    from otbench.report.latex import Stems, comment, definitions, document, fragment, works_of
    from otbench.report.latex_summary import summary

    some = [table for _, members in made for table in members if table.columns and table.lines]
    stems = Stems()
    names = [stems.make(table) for table in some]
    sources = {f"{name}.tex": fragment(table, command, name) for name, table in zip(names, some, strict=True)}
    solvers = dict.fromkeys(line.row.solver for table in some for line in table.lines if line.row.kind != "published")
    works = [*works_of(some), *(work for name in solvers for work, _ in cited(references.get(name, "")))]
    sources["otbench.bib"] = bibliography(works, comment(command))
    front = {"summary": summary(overall, command), "definitions": definitions(some, command)}
    front = {name: text for name, text in front.items() if text}
    sources |= {f"{name}.tex": text for name, text in front.items()}
    sources["report.tex"] = document([*front, *names], command, alone=len(front))
    if "latex" in formats:
        for name, text in sources.items():
            folder.write(f"latex/{name}", text)
    if "pdf" in formats:
        try:
            folder.write("tables.pdf", compile_latex(sources))
        except UsageError as error:
            folder.notes.append(str(error))


def compile_latex(sources: Mapping[str, str], main: str = "report.tex", *, logs: list[str] | None = None) -> bytes:
    """Return the PDF that pdflatex makes of `sources`, by file name, in a folder of their own.

    Where there is a `.bib` file, and bibtex, references are resolved; that takes three runs in place of one.

    Args:
        sources: texts by file name.
        main: the document.
        logs: takes what the last run of pdflatex wrote.

    Raises:
        UsageError: there is no pdflatex, or it failed; the message says why.
    """
    program, sorter = shutil.which("pdflatex"), shutil.which("bibtex")
    if program is None:
        raise UsageError(
            "tables.pdf: left out: there is no pdflatex (Debian: texlive-latex-recommended, texlive-science, lmodern)"
        )
    with tempfile.TemporaryDirectory(prefix="otbench-latex-") as name:
        place = Path(name)
        for file, text in sources.items():
            (place / file).write_text(text, encoding="utf-8")
        words = [program, "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", main]
        log = _run_latex(words, place)
        result = (place / main).with_suffix(".pdf")
        if (
            sorter is not None
            and any(file.endswith(".bib") for file in sources)
            and "\\cite" in "".join(sources.values())
        ):
            _run_latex([sorter, Path(main).stem], place, halt=False)
            for _ in range(2):
                log = _run_latex(words, place)
        if logs is not None:
            logs.append(log)
        if not result.exists():
            raise UsageError("tables.pdf: left out: pdflatex made no file")
        return result.read_bytes()


def _run_latex(words: Sequence[str], place: Path, *, halt: bool = True) -> str:
    """Run one program of TeX in `place` and return what it wrote.

    Raises:
        UsageError: it failed, or took too long.
    """
    # no date and no random name in the file: the same records give the same bytes
    fixed = {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1", "openin_any": "p", "max_print_line": "1000"}
    try:
        done = subprocess.run(
            words,
            cwd=place,
            env=os.environ | fixed,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LATEX_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"tables.pdf: left out: {Path(words[0]).name} took more than {_LATEX_SECONDS} s") from None
    log = done.stdout.decode("utf-8", "replace")
    if done.returncode and halt:
        why = next((line for line in log.splitlines() if line.startswith("!")), f"exit code {done.returncode}")
        more = "; Debian: texlive-science has siunitx" if "siunitx.sty" in why else ""
        raise UsageError(f"tables.pdf: left out: pdflatex failed: {plain(why)}{more}")
    return log


def _figures(
    members: Sequence[Family],
    paged: Sequence[Family],
    folder: Folder,
    pictures: Sequence[str],
    folders: Sequence[Path],
) -> dict[str, list[Drawing]]:
    """Write the figures of `members`; return those of `paged`, the families of the page, by their slugs.

    A family that is among both, with the same sections, is drawn once.
    """
    drawn: dict[str, list[Drawing]] = {}
    if not members and not paged:
        return drawn
    from otbench.report.figures import curves, dimension
    from otbench.report.figures.gallery import Gallery, pictures_of

    gallery = Gallery(folders)
    on_page = {tuple(map(id, family.sections)): family.slug for family in paged[:_DRAWN]}
    in_files = {tuple(map(id, family.sections)): family for family in members[:_DRAWN]}
    others = {key: family for family in paged[:_DRAWN] if (key := tuple(map(id, family.sections))) not in in_files}
    for key, family in (in_files | others).items():
        wanted = [*(pictures if key in in_files else ()), *(("svg",) if key in on_page else ())]
        makers = (curves.drawings(family, wanted), dimension.drawings(family, wanted))
        for drawing in itertools.chain(*makers, pictures_of(family, gallery, wanted)):
            for name in pictures if key in in_files else ():
                folder.write(f"figures/{drawing.name}.{name}", drawing.data[name])
            if key in on_page:
                drawn.setdefault(on_page[key], []).append(drawing)
    if (most := max(len(members), len(paged))) > _DRAWN:
        folder.notes.append(
            f"figures of the first {_DRAWN} of {most} groups of instances only; choose others with --task,"
            " --preset or --solvers"
        )
    folder.notes += gallery.notes
    return drawn


def _overall(summary: Summary, folder: Folder, pictures: Sequence[str], on_page: bool) -> list[Drawing]:
    """Write the figures of the summary; return them."""
    wanted = [*pictures, "svg"] if on_page else list(pictures)
    if not wanted:
        return []
    from otbench.report.figures.overall import drawings

    drawn = list(drawings(summary, wanted))
    for drawing in drawn:
        for name in pictures:
            folder.write(f"figures/{drawing.name}.{name}", drawing.data[name])
    return drawn
