"""Commands about plugins: `list`, `show`, `check`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from otbench.cli.common import EXIT_FAILED_ROWS, AddCommand, data_folder, registry_of, warn
from otbench.cli.console import console, plain_table
from otbench.errors import UsageError
from otbench.files import shown, typed_path
from otbench.names import hint

if TYPE_CHECKING:
    from otbench.plugins.registry import Entry, Registry


def add_commands(add: AddCommand) -> None:
    """Announce these commands and their options."""
    parser = add("list", list_names, "list solvers, baselines and tasks")
    parser.add_argument("kind", nargs="?", metavar="KIND", help="solvers, baselines or tasks (default: all)")
    parser = add("show", show, "say what a solver, baseline or task is, and its parameters")
    parser.add_argument("name", metavar="NAME", help="its name, as `list` prints it")
    parser = add("check", check, "test a solver, baseline or task against the contract, for its author")
    parser.add_argument("name", metavar="NAME|FILE", help="its name, or the file that registers it")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default), cuda or cuda:N")
    parser.add_argument("--data-dir", metavar="DIR", help="folder with your own copies of data that a task needs")


def list_names(options: argparse.Namespace) -> int:
    """Print all names, by kind."""
    from rich.text import Text

    from otbench.registration import Kind

    kinds: Mapping[str, Kind] = {"solvers": "solver", "baselines": "baseline", "tasks": "task"}
    if options.kind is not None and options.kind not in kinds:
        raise UsageError(f"unknown kind '{options.kind}'{hint(options.kind, kinds, 'kinds')}")
    registry = registry_of(options)
    out = console()
    for title, kind in kinds.items():
        if options.kind in (None, title):
            table = plain_table()
            for entry in registry.entries(kind):
                origin = "" if entry.origin == "built in" else f"({entry.origin})"
                table.add_row(entry.name, Text(entry.summary), origin)
            out.print(title, style="bold")
            out.print(table)
    warn([f"{problem.where}: left out: {problem.reason}" for problem in registry.problems])
    return 0


def show(options: argparse.Namespace) -> int:
    """Print what is known of one name."""
    from otbench.cli.show import describe

    registry = registry_of(options)
    entry = registry.find(options.name)
    describe(console(), entry, registry.load(entry))
    return 0


def _named(name: str, registry: Registry) -> Entry:
    """Return the entry called `name`; a name that is that of a file gets a word about files."""
    try:
        return registry.find(name)
    except UsageError:
        if Path(name).suffix[1:].isalpha() or os.sep in name:  # 1.5 is no file
            why = "check takes a name, or a Python file (.py) that registers one"
            raise UsageError(f"'{shown(name)}': {why}") from None
        raise


def check(options: argparse.Namespace) -> int:
    """Test plugins against the contract."""
    from otbench.harness.plan import resolve_device

    device, _ = resolve_device(options.device)
    registry = registry_of(options)
    if options.name.endswith(".py"):
        path = typed_path(options.name, "NAME|FILE").resolve()
        registry.add_plugin(path, shown(options.name))
        entries = [e for e in registry.entries() if e.path is not None and e.path.resolve() == path]
    else:
        entries = [_named(options.name, registry)]
    if not entries:
        why = "; ".join(f"{p.where}: {p.reason}" for p in registry.problems) or "it registers nothing"
        raise UsageError(f"{options.name}: nothing to check: {why}")
    from otbench.plugins.check import check as method_passes  # here: torch, which a misspelt name need not wait for
    from otbench.plugins.check_task import check_task

    data, results = data_folder(options.data_dir), []
    for entry in entries:
        found = registry.load(entry)
        if entry.kind == "task":
            results.append(check_task(found, device=device, data_dir=data, out=console()))
        else:
            results.append(method_passes(found, device=device, out=console()))
    return 0 if all(results) else EXIT_FAILED_ROWS
