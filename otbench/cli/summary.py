"""`otbench summary`: which solver when, from the records."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from otbench.cli.common import AddCommand, out_file, program_name, warn
from otbench.cli.console import console, say
from otbench.errors import UsageError
from otbench.files import results_folder, shown, typed_path
from otbench.records.words import counted, why_unread

if TYPE_CHECKING:
    from otbench.report.summary.summary import Summary


def add_commands(add: AddCommand) -> None:
    """Announce this command and its options."""
    parser = add("summary", summary, "say which solver when, from recorded results")
    parser.add_argument(
        "folders",
        nargs="*",
        metavar="FOLDER",
        help="folders with records, read with their subfolders (default: results/local; without records there,"
        " results/reference)",
    )
    parser.add_argument("--task", metavar="LIST", help="only these tasks")
    parser.add_argument("--solvers", metavar="LIST", help="only these solvers")
    parser.add_argument("--preset", metavar="LIST", help="only these presets")
    parser.add_argument(
        "--markdown",
        metavar="FILE",
        help="write it as Markdown; in a file with the marks of a summary, its guide between these",
    )
    parser.add_argument("--json", metavar="FILE", help="write it as data")


def summary(options: argparse.Namespace) -> int:
    """Print which solver when, or write it."""
    from otbench.cli.results import chosen
    from otbench.records.store import read_all, write_output
    from otbench.report.summary.summary import summarise

    files = {
        name: out_file(typed, f"--{name}")
        for name in ("markdown", "json")
        if (typed := getattr(options, name)) is not None
    }
    folders = _folders(options)
    records, notes = read_all(folders)
    warn(notes)
    where = ", ".join(map(str, folders))
    records = chosen(options, records, where)
    made = summarise(records)
    if "markdown" in files:
        write_output(files["markdown"], _markdown(files["markdown"], made, options).encode())
    if "json" in files:
        from otbench.report.summary.data import as_json

        write_output(files["json"], as_json(made).encode())
    if files:
        say(
            f"summary of {counted(made.records, 'record')} written to {', '.join(str(path) for path in files.values())}"
        )
        return 0
    from otbench.report.summary.terminal import print_summary

    out = console()
    print_summary(out, made)
    out.print(f"\nRecords of {where}; all numbers: {program_name()} table FOLDER", style="dim", markup=False)
    return 0


def _markdown(path: Path, made: Summary, options: argparse.Namespace) -> str:
    from otbench.report.summary.markdown import command_of, document, put_between

    command = command_of(
        program_name(), options.folders, {n: getattr(options, n) for n in ("solvers", "task", "preset")}
    )
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--markdown {shown(path)}: cannot be read: {why_unread(error)}; name another file") from None
    return put_between(text, made, command) or document(made, command)


def _folders(options: argparse.Namespace) -> list[Path]:
    """Return the folders to read: those named, or one that has records, each with its subfolders."""
    from otbench.cli.results import no_records

    local = results_folder()
    reference = local.parent / "reference"
    named = [typed_path(folder, "FOLDER", folder=True) for folder in options.folders]
    if not named:
        named = [local] if any(local.rglob("*.json")) else [reference]
    found = [folder for root in named for folder in _with_records(root)]
    if not found:
        tried = ", ".join(str(folder) for folder in named)
        raise no_records(tried)
    return list(dict.fromkeys(found))


def _with_records(root: Path) -> list[Path]:
    """Return `root` and its subfolders, as far as they hold files that may be records."""
    return sorted({path.parent for path in root.rglob("*.json")})
