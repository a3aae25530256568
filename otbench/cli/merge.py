"""`otbench merge`: records of several machines in one folder."""

from __future__ import annotations

import argparse

from otbench.cli.common import EXIT_FAILED_ROWS, AddCommand, out_folder, warn
from otbench.cli.console import say
from otbench.errors import UsageError
from otbench.files import typed_path
from otbench.records.words import counted


def add_commands(add: AddCommand) -> None:
    """Announce this command and its options."""
    parser = add("merge", merge, "put the records of several folders into one, and overwrite nothing")
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="folders with records, of other machines")
    parser.add_argument("--into", metavar="DIR", required=True, help="where they go; what is there stays")


def merge(options: argparse.Namespace) -> int:
    """Copy records to where they are not yet; 1 if two records of one run contradict each other."""
    from otbench.records.merge import merge
    from otbench.records.store import Store

    into = Store(out_folder(options.into, "--into"))
    sources = [Store(typed_path(folder, "FOLDER", folder=True)) for folder in options.folders]
    for source in sources:
        if source.folder.resolve() == into.folder.resolve():
            raise UsageError(f"{source.folder} is the folder that the records go into")
    done = merge(sources, into)
    warn(done.passed_over)
    for conflict in done.conflicts:
        say(f"conflict: {conflict}")
    say(
        f"{counted(done.added, 'record')} added to {into.folder}, {done.same} there already,"
        f" {counted(len(done.conflicts), 'conflict')}"
        + ("; move one of the two away where you want the other" if done.conflicts else "")
    )
    return EXIT_FAILED_ROWS if done.conflicts else 0
