"""`otbench data`: list, fetch, verify what tasks get from elsewhere, and make what they train.

A subcommand is one function in `ACTIONS`: it is given the sources and the options, and returns lines for the screen.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from otbench.cli.common import AddCommand, data_folder, registry_of
from otbench.cli.console import say
from otbench.errors import DataError, PluginError, UsageError
from otbench.names import did_you_mean, hint, listed

if TYPE_CHECKING:
    from otbench.data.sources import DataSource, Progress
    from otbench.plugins.registry import Registry

Action: TypeAlias = Callable[["Sequence[DataSource]", argparse.Namespace, "Path | None"], Sequence[str]]
"""Takes all sources, the options and the user's folder; returns lines."""

MAKE_OPTIONS = (
    ("set", "LIST", "which data to train on, as `data list` names them (default: those that tasks need)"),
    ("kind", "LIST", "which kinds of network (default: all)"),
    ("size", "NAME", "size and training of the networks (default: default)"),
    ("device", "NAME", "cpu (default), cuda, cuda:N or auto"),
    ("threads", "N", "CPU threads (default: the cores, at most 4)"),
)


def sources(registry: Registry) -> list[DataSource]:
    """Return the sources of all tasks that can be loaded, in the order of their names."""
    from otbench.task import Task

    found: dict[str, DataSource] = {}
    for entry in registry.entries("task"):
        try:
            cls = registry.load(entry).cls
        except PluginError:  # `list` says why; it hurts nobody else
            continue
        if issubclass(cls, Task):
            found |= {source.name: source for source in cls.sources()}
    return [found[name] for name in sorted(found)]


def _chosen(known: Sequence[DataSource], name: str) -> DataSource:
    by_name = {source.name: source for source in known}
    if name not in by_name:
        raise UsageError(f"data: unknown data '{name}'{hint(name, by_name, 'there is')}")
    return by_name[name]


def _list(known: Sequence[DataSource], options: argparse.Namespace, data_dir: Path | None) -> list[str]:
    lines = []
    for source in known if options.name is None else [_chosen(known, options.name)]:
        place = source.find(data_dir)
        lines += [
            f"{source.name}: {source.what}",
            f"    {'here: ' + place if place else 'not on this machine; ' + source.remedy}",
            f"    {source.origin}",
            f"    terms: {source.licence}",
        ]
    return lines


def _fetch(known: Sequence[DataSource], options: argparse.Namespace, data_dir: Path | None) -> list[str]:
    from otbench.data.sources import TrainedSource

    if options.name is None:
        raise UsageError(f"data fetch: NAME is missing; there is: {', '.join(source.name for source in known)}")
    source = _chosen(known, options.name)
    if isinstance(source, TrainedSource):
        return _make(known, options, data_dir)
    return [f"{source.name}: ready: {source.fetch(data_dir)}"]


def _verify(known: Sequence[DataSource], options: argparse.Namespace, data_dir: Path | None) -> list[str]:
    name = options.name
    wanted = known if name is None else [_chosen(known, name)]
    lines = list(dict.fromkeys(line for source in wanted for line in source.verify(data_dir)))
    if not lines and name is not None:
        raise DataError(f"{name}: nothing of it on this machine to verify; {wanted[0].remedy}")
    return lines or ["nothing on this machine to verify"]


def _make(known: Sequence[DataSource], options: argparse.Namespace, data_dir: Path | None) -> list[str]:
    from otbench.data.sources import MakeOptions, TrainedSource
    from otbench.harness.plan import resolve_device
    from otbench.harness.selection import check_number

    trained = {source.name: source for source in known if isinstance(source, TrainedSource)}
    if options.name is None:
        raise UsageError(f"data make: say what: {' or '.join(reversed(trained)) or 'no task trains anything'}")
    if options.name not in trained:
        near = did_you_mean(options.name, trained) or f": use {', '.join(reversed(trained))}"
        raise UsageError(f"data make '{options.name}'{near}")
    check_number("--threads", options.threads, 1, 1024)
    wanted = MakeOptions(
        sets=listed(options.set or "") or None,
        kinds=listed(options.kind or "") or None,
        size=options.size or MakeOptions.size,
        device=resolve_device(options.device or MakeOptions.device)[0],
        threads=options.threads or MakeOptions.threads,
        force=options.force,
        listen=_show,
    )
    return [f"ready: {path}" for path in trained[options.name].make(data_dir, wanted)]


def _show(progress: Progress) -> None:
    left = progress.seconds / progress.epoch * (progress.epochs - progress.epoch)
    say(f"{progress.name}: epoch {progress.epoch} of {progress.epochs}, {progress.text}, about {left:.0f} s to go")


ACTIONS: Mapping[str, Action] = {"list": _list, "fetch": _fetch, "verify": _verify, "make": _make}
"""Subcommands of `otbench data` by name."""


def add_commands(add: AddCommand) -> None:
    """Announce these commands and their options."""
    parser = add("data", data, "list, fetch, verify or make the data and networks that tasks need")
    parser.add_argument(
        "action", metavar="ACTION", help="list, fetch (download, check, prepare), verify (checksums) or make (train)"
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="which data, as `data list` prints it (default: all)")
    for option, metavar, text in MAKE_OPTIONS:
        kind = int if option == "threads" else str
        parser.add_argument(f"--{option}", metavar=metavar, type=kind, help=f"make: {text}")
    parser.add_argument("--force", action="store_true", help="make: make it again")
    parser.add_argument("--data-dir", metavar="DIR", help="your own copies of data files (also: OTBENCH_DATA_DIR)")


def data(options: argparse.Namespace) -> int:
    """List, fetch, verify or make data."""
    action = options.action
    if action not in ACTIONS:
        raise UsageError(f"data: unknown action '{action}'{hint(action, ACTIONS, 'actions')}")
    for option in (*(name for name, _, _ in MAKE_OPTIONS), "force"):
        if action != "make" and getattr(options, option) not in (None, False):
            raise UsageError(f"data {action}: --{option} is an option of make only")
    data_dir = data_folder(options.data_dir)
    say(*ACTIONS[action](sources(registry_of(options)), options, data_dir))
    return 0
