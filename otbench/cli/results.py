"""Commands that read records: `table`, `report`, `export`, `compare`, `accept`."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from otbench.cli.common import (
    EXIT_FAILED_ROWS,
    EXIT_NOTHING_COMPARED,
    AddCommand,
    out_file,
    out_folder,
    program_name,
    registry_of,
    warn,
)
from otbench.cli.console import console, say
from otbench.errors import OtbenchError, UsageError
from otbench.files import results_folder, typed_path
from otbench.names import few, hint, listed
from otbench.records.words import counted

if TYPE_CHECKING:
    from otbench.harness.identity import Standing
    from otbench.records.record import Record


def add_commands(add: AddCommand) -> None:
    """Announce these commands and their options."""
    parser = add("table", table, "print recorded results again")
    _add_selection(parser)
    parser.add_argument("--current", action="store_true", help="only what the code of this checkout made")
    parser = add("report", report, "write recorded results as tables, figures and a page")
    _add_selection(parser)
    parser.add_argument(
        "--format", metavar="LIST", help="latex,pdf,png,svg,markdown,csv,html, or some of these (default: all)"
    )
    parser.add_argument("--out", metavar="DIR", help="where the report goes (default: reports)")
    parser = add("export", export, "write records as one tidy table, one row per number")
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="folders with records (default: results/local)")
    parser.add_argument("--format", metavar="LIST", default="csv", help="csv (default), parquet, or both: csv,parquet")
    parser.add_argument("--out", metavar="DIR", required=True, help="where metrics.csv, metrics.parquet go")
    parser = add("compare", compare, "say what is better or worse in the records of NEW than in those of BASE")
    parser.add_argument("base", metavar="BASE", help="folder with the records to compare with")
    parser.add_argument("new", metavar="NEW", nargs="?", help="folder with the records to judge")
    parser.add_argument(
        "--solver",
        metavar="NAME",
        action="append",
        help="twice, with one folder: is the second solver worse than the first? as typed, `ncf[lr=1e-3]`",
    )
    parser.add_argument("--all", action="store_true", help="show what is the same, too")
    parser.add_argument("--metrics", metavar="LIST", help="metrics to judge (default: the primary ones of each task)")
    parser.add_argument(
        "--tolerance", metavar="F", type=float, default=0.05, help="relative change that never counts (default: 0.05)"
    )
    parser.add_argument(
        "--gate-time", metavar="K", type=float, help="fail on time, too: beyond K times its own noise (try 3)"
    )
    parser.add_argument("--require-all", action="store_true", help="fail (code 3) unless all of BASE was measured")
    parser.add_argument(
        "--suspects",
        metavar="FILE",
        help="write what may be worse and the seeds of it that NEW lacks, to run these, too",
    )
    parser.add_argument("--markdown", metavar="FILE", help="write it for a pull request")
    parser.add_argument("--junit", metavar="FILE", help="write JUnit XML")
    parser.add_argument("--json", metavar="FILE", help="write NEW's numbers for github-action-benchmark")
    parser.add_argument("--pytest-benchmark", metavar="FILE", help="write NEW's numbers as pytest-benchmark does")
    parser.add_argument("--asv", metavar="DIR", help="add NEW's numbers to the results folder of asv")
    parser = add("accept", accept, "make the records of NEW the ones that `compare` is given as BASE")
    parser.add_argument("new", metavar="NEW", help="folder with records, all of them ok or skipped")
    parser.add_argument("--into", metavar="DIR", help="the baseline (default: results/reference/ci)")
    parser.add_argument("--prune", action="store_true", help="remove runs of the baseline that NEW does not have")


def print_records(
    records: Sequence[Record], standing: Standing | None = None, *, full_command: str | None = None
) -> None:
    """Print `records` as tables, and the command for comparable numbers.

    Args:
        records: what to print.
        standing: how they stand to this checkout's code; None = it made them all.
        full_command: the command for comparable numbers.
    """
    from otbench.report.rows import sections
    from otbench.report.terminal import print_sections

    print_sections(console(), sections(records, **_words(standing)), full_command=full_command)


def _words(standing: Standing | None) -> dict[str, Mapping[str, str]]:
    """Return what reports are told of the code behind records, by the names of their parameters."""
    return {} if standing is None else {"stale": standing.stale, "verified": standing.lifted}


def table(options: argparse.Namespace) -> int:
    """Print recorded results again."""
    records, standing = _selected(options)
    if options.current:
        records = [record for record in records if record.id not in standing.stale]
        if not records:
            raise UsageError("none of these records is by the code of this checkout; leave out --current to see all")
    _print_lines(records)
    print_records(records, standing)
    return 0


def _print_lines(records: Sequence[Record]) -> None:
    """Print solvers by rank, one line for each instance, where tables of several follow."""
    from otbench.report.summary.summary import summarise
    from otbench.report.summary.terminal import print_lines

    summary = summarise(records)
    if len(summary.compared) > 1:
        print_lines(console(), summary)


def _selected(options: argparse.Namespace) -> tuple[list[Record], Standing]:
    """Return the records that `options` ask for, at least one, and how they stand to this checkout's code."""
    from otbench.harness.identity import standing
    from otbench.records.verified import read_verified

    records, folders = _recorded(options)
    stands = standing(records, registry_of(options), read_verified(folders))
    return chosen(options, records, ", ".join(str(folder) for folder in folders)), stands


def chosen(options: argparse.Namespace, records: Sequence[Record], where: str) -> list[Record]:
    """Return those of `records`, which lie in `where`, that --solvers, --task and --preset ask for: at least one."""
    kept = list(records)
    for option, field in (("solvers", "solver"), ("task", "task"), ("preset", "preset")):
        if (typed := getattr(options, option)) is not None:
            have = sorted({str(getattr(record.spec, field)) for record in kept})
            names = _known_names(option, typed, have, f"no such records in {where}")
            kept = [record for record in kept if getattr(record.spec, field) in names]
    if not kept:
        raise no_records(where)
    if (typed := getattr(options, "metrics", None)) is not None:
        metrics = _metric_names(typed, kept)
        kept = [_showing(record, metrics) for record in kept]
    return kept


def no_records(where: str) -> UsageError:
    """Return what is said where there are no records, and how they are made."""
    return UsageError(f"no records in {where}; make some with: {program_name()} --solvers ... --task ...")


def _showing(record: Record, metrics: Sequence[str]) -> Record:
    """Return `record` as if its task had named these metrics as the ones to show, in this order.

    Those of the way that are not named are left out, so that there is no table of them beside what was asked for.
    """
    from otbench.report.way import WAY

    places = {name: place for place, name in enumerate(metrics)}
    infos = [info for info in record.metric_info if info.name in places or info.name not in WAY]
    infos.sort(key=lambda info: places.get(info.name, len(places)))
    return record.model_copy(update={"metric_info": [replace(info, primary=info.name in places) for info in infos]})


def _recorded(options: argparse.Namespace) -> tuple[list[Record], list[Path]]:
    """Return all records of the folders that `options` name, and these folders; warn of files passed over."""
    from otbench.records.store import read_all

    folders = _folders(options)
    if not options.folders and not folders[0].exists():  # nothing was run here yet
        raise no_records(str(folders[0]))
    records, notes = read_all(folders)
    warn(notes)
    return records, folders


def _known_names(option: str, typed: str, have: Sequence[str], why: str, *, most: int | None = None) -> tuple[str, ...]:
    """Return the names in `typed`; one that the records do not `have` is refused, and so is no name at all."""
    names = tuple(listed(typed))
    if not names:
        raise UsageError(
            f"--{option} {typed!r}: nothing is named; there is: {few(have, most or len(have)) or 'nothing'}"
        )
    for name in names:
        if name not in have:
            raise UsageError(f"--{option} {name}: {why}{hint(name, have, 'there is', most=most)}")
    return names


def _folders(options: argparse.Namespace) -> list[Path]:
    return [typed_path(folder, "FOLDER") for folder in options.folders] or [results_folder()]


def _typed(text: str | None, option: str) -> Path | None:
    return None if text is None else typed_path(text, option)


def report(options: argparse.Namespace) -> int:
    """Write recorded results as tables, figures and a page."""
    from otbench.report.build import FORMATS, build, parse_formats

    formats = parse_formats(options.format) if options.format is not None else list(FORMATS)
    out = out_folder(str(results_folder().parent.parent / "reports") if options.out is None else options.out, "--out")
    words = [*program_name().split(), "report", *options.folders]
    for name in ("solvers", "task", "preset"):  # formats and place do not change what a table holds
        if (typed := getattr(options, name)) is not None:
            words += [f"--{name}", typed]
    if options.metrics is not None:
        words += ["--metrics", options.metrics]
    records, standing = _selected(options)
    made = build(
        records,
        out,
        formats,
        command=shlex.join(words),
        folders=_folders(options),
        references=_references(options, records) if {"latex", "pdf"} & set(formats) else {},
        **_words(standing),
    )
    warn(made.notes)
    page = "; open index.html in a browser" if "index.html" in made.written else ""
    say(f"{counted(len(made.written), 'file')} in {out}{page}")
    return 0


def _references(options: argparse.Namespace, records: Sequence[Record]) -> dict[str, str]:
    """Return what the solvers and baselines of `records` cite, by name; those that are not here are left out."""
    registry, found = registry_of(options), {}
    for name in sorted({record.spec.solver for record in records}):
        with contextlib.suppress(OtbenchError):
            found[name] = registry.load(registry.find(name, "solver", "baseline")).reference
    return found


def compare(options: argparse.Namespace) -> int:
    """Say what is better or worse in one folder than in another, or one solver than another in one folder."""
    from otbench.compare import trackers, writers
    from otbench.compare.between import between
    from otbench.compare.compare import compare
    from otbench.compare.verdict import Rules
    from otbench.harness.selection import check_number
    from otbench.records.store import read_all, write_output
    from otbench.statistics.paired import ALPHA

    base, new = typed_path(options.base, "BASE"), _typed(options.new, "NEW")
    outputs = {
        name: None if (typed := getattr(options, name.replace("-", "_"))) is None else out_file(typed, f"--{name}")
        for name in ("markdown", "junit", "json", "suspects", "pytest-benchmark")
    }
    folder = None if options.asv is None else out_folder(options.asv, "--asv")
    solvers = options.solver or []
    if new is None and len(solvers) != 2:
        raise UsageError(
            "compare takes two folders, BASE and NEW, or one folder and --solver twice: BASE's, then NEW's"
        )
    if new is not None and solvers:
        raise UsageError("--solver compares two solvers in one folder; leave NEW out")
    if new is not None and base.resolve() == new.resolve():
        raise UsageError(f"BASE and NEW are the same folder, {base}; to compare two solvers in it, use --solver twice")
    for option, value, most in (("--gate-time", options.gate_time, 1e6), ("--tolerance", options.tolerance, 100.0)):
        check_number(option, value, 0, most)
    before, notes = read_all([base])
    now, more = read_all([new]) if new is not None else ([], [])
    warn([*notes, *more])
    metrics = None if options.metrics is None else _metric_names(options.metrics, [*before, *now])
    rules = Rules(
        tolerance=options.tolerance, gate_time=options.gate_time, metrics=metrics, require_all=options.require_all
    )
    outcome = (
        compare(before, now, rules)
        if new is not None
        else between(before, solvers[0], solvers[1], replace(rules, alpha=ALPHA))
    )
    writers.print_comparison(console(), outcome, everything=options.all)
    for option, text in (("markdown", writers.markdown), ("junit", writers.junit), ("json", writers.benchmark_json)):
        if (path := outputs[option]) is not None:
            write_output(path, text(outcome).encode())
    if (path := outputs["pytest-benchmark"]) is not None:
        write_output(path, trackers.pytest_benchmark(outcome, now or before).encode())
    if folder is not None:
        for name, content in trackers.asv(outcome, now or before, folder).items():
            write_output(folder / name, content.encode())
    if (path := outputs["suspects"]) is not None:
        write_output(path, writers.suspects(outcome).encode())
    if outcome.regressed:
        return EXIT_FAILED_ROWS
    return 0 if outcome.compared else EXIT_NOTHING_COMPARED


def _metric_names(typed: str, records: Sequence[Record]) -> tuple[str, ...]:
    have = sorted({name for record in records for name in record.metrics})
    return _known_names("metrics", typed, have, "no record has it", most=30)


def accept(options: argparse.Namespace) -> int:
    """Make the records of one folder the baseline."""
    from otbench.compare.accept import accept
    from otbench.records.store import Store

    new = Store(typed_path(options.new, "NEW"))
    typed = str(results_folder().parent / "reference" / "ci") if options.into is None else options.into
    into = Store(out_folder(typed, "--into"))
    done = accept(new, into, prune=options.prune)
    warn(into.passed_over)
    say(
        f"{counted(done.written, 'run')} accepted into {into.folder}; {done.replaced} replaced, {done.pruned} removed, "
        f"{done.kept} kept"
    )
    return 0


def export(options: argparse.Namespace) -> int:
    """Write records as one tidy table."""
    from otbench.records.export import export

    out = out_folder(options.out, "--out")
    records, folders = _recorded(options)
    if not records:
        raise no_records(", ".join(map(str, folders)))
    for path in export(records, out, listed(options.format)):
        say(f"{counted(len(records), 'record')} written to {path}")
    return 0


def _add_selection(parser: argparse.ArgumentParser) -> None:
    """Add what says which records are meant."""
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="folders with records (default: results/local)")
    for name, text in (("solvers", "only these solvers"), ("task", "only this task"), ("preset", "only this preset")):
        parser.add_argument(f"--{name}", metavar=name.upper(), help=text)
    parser.add_argument("--metrics", metavar="LIST", help="metrics to show (default: the primary ones of each task)")
