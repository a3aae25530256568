"""`otbench submit`: somebody else's records, checked, and laid where the pull request has them."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from otbench.cli.common import EXIT_FAILED_ROWS, AddCommand, data_folder, out_folder, program_name, registry_of
from otbench.cli.console import say
from otbench.errors import UsageError
from otbench.files import read_regular, results_folder, typed_path, unreadable, write_whole
from otbench.names import few, plain
from otbench.records.words import counted

if TYPE_CHECKING:
    from otbench.records.record import Record

MAX_TEXT = 2**20


def add_commands(add: AddCommand) -> None:
    """Announce this command and its options."""
    parser = add("submit", submit, "check records and lay them where a pull request to the reference set has them")
    parser.add_argument("folder", metavar="FOLDER", help="folder with your records, and what `verify` found of them")
    parser.add_argument("--name", metavar="NAME", help="of the folder in the reference set (default: FOLDER's)")
    parser.add_argument("--into", metavar="DIR", help="the reference set (default: results/reference)")
    parser.add_argument("--data-dir", metavar="DIR", help="your own copies of data files (also: OTBENCH_DATA_DIR)")


def submit(options: argparse.Namespace) -> int:
    """Check records; where nothing is amiss, copy them. 1 if something is."""
    from otbench.harness.submission import objections, verified_ids
    from otbench.records.merge import merge
    from otbench.records.reference_set import CHANGES, version, with_line
    from otbench.records.store import Store
    from otbench.records.verified import read_verified

    store = Store(typed_path(options.folder, "FOLDER", folder=True))
    name = store.folder.resolve().name if options.name is None else options.name
    if not re.fullmatch("[a-z0-9][a-z0-9_-]{0,40}", name) or name == "ci":
        raise UsageError(f"--name {plain(name, 60)}: use small letters, digits, - and _; not 'ci'")
    reference = out_folder(
        str(results_folder().parent / "reference") if options.into is None else options.into, "--into"
    )
    into = Store(reference / name)
    if store.folder.resolve() == into.folder.resolve():
        raise UsageError(f"{store.folder} is in the reference set already")
    records, verified = store.all(), read_verified([store.folder])
    if not records and not store.passed_over:
        raise UsageError(f"no records in {store.folder}")
    found = list(store.passed_over)
    if records:
        data_dir = data_folder(options.data_dir)
        found += objections(records, verified, registry_of(options), verify=_verify(options), data_dir=data_dir)
    if found:
        say(*found, f"{counted(len(records), 'record')}: {counted(len(found), 'objection')}; nothing was written")
        return EXIT_FAILED_ROWS
    done = merge([store], into)
    if done.conflicts or done.passed_over:
        say(*done.conflicts, *done.passed_over, "give the folder another name with --name")
        return EXIT_FAILED_ROWS
    again = len(verified_ids(records, verified))
    line = f"`{name}`: {_what(records)}, {again} of them verified"
    log = _text(reference / CHANGES)
    write_whole(into.folder / "README.md", _readme(name, records, again).encode())
    write_whole(reference / CHANGES, with_line(log, line).encode())
    say(
        f"{counted(len(records), 'record')} in {into.folder}",
        f"a line is in {reference / CHANGES}, among what comes after version {version(log)}",
        "commit both, with the files of plugins that they need, and open a pull request",
    )
    return 0


def _verify(options: argparse.Namespace) -> str:
    """Return the command that runs the records again, with what they need."""
    words = [*program_name().split(), "verify", options.folder]
    words += [] if options.data_dir is None else ["--data-dir", options.data_dir]
    return shlex.join([*words, *(word for plugin in options.plugin for word in ("--plugin", plugin))])


def _what(records: Sequence[Record]) -> str:
    return f"{counted(len(records), 'record')} of {_names(records, 'solver')} on {_names(records, 'task')}"


def _names(records: Sequence[Record], field: str) -> str:
    return few(sorted({str(getattr(record.spec, field)) for record in records}), 6)


def _readme(name: str, records: Sequence[Record], again: int) -> str:
    """Return what the folder says of itself."""
    facts = {
        fact: sorted({str(record.environment.get(fact)) for record in records if record.environment.get(fact)})
        for fact in ("commit", "cpu", "device", "torch")
    }
    seeds = ", ".join(map(str, sorted({record.spec.seed for record in records})))
    busy = sum(record.shared_device or record.loaded for record in records)
    lines = [
        f"# {name}",
        "",
        f"{_what(records)}; seeds {seeds}. `otbench verify` ran {again} of them again, and they came out the same.",
        "",
        *(f"* {fact}: {few(values, 3)}" for fact, values in facts.items() if values),
        f"* beside other work, so that their times say little: {busy}",
        "",
        f"    python bench.py table results/reference/{name}",
        "",
    ]
    return "\n".join(lines)


def _text(path: Path) -> str:
    try:
        return read_regular(path, MAX_TEXT).decode() if path.exists() else "# Changes of the reference set\n"
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError):
            raise unreadable(path, error) from None
        raise UsageError(f"{path}: is not text") from None
