"""`otbench data`: list, fetch, verify what tasks get from elsewhere, and make what they train.

A subcommand is one function in `ACTIONS`: it is given the sources and a name, and returns lines for the screen.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from otbench.cli.common import AddCommand, registry_of
from otbench.errors import DataError, PluginError, UsageError
from otbench.names import did_you_mean

if TYPE_CHECKING:
    from otbench.data.sources import DataSource
    from otbench.plugins.registry import Registry

Action: TypeAlias = Callable[["Sequence[DataSource]", "str | None", "Path | None"], Sequence[str]]
"""Takes all sources, the name typed (or None) and the user's folder; returns lines."""


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


def act(action: str, name: str | None, *, registry: Registry, data_dir: Path | None) -> Sequence[str]:
    """Do one subcommand of `otbench data`.

    Raises:
        UsageError: an unknown action or name.
        DataError: what went wrong with the data.
    """
    if action not in ACTIONS:
        hint = did_you_mean(action, ACTIONS) or f"; actions: {', '.join(ACTIONS)}"
        raise UsageError(f"data: unknown action '{action}'{hint}")
    if data_dir is not None and not data_dir.is_dir():
        raise UsageError(f"--data-dir {data_dir}: no such folder")
    return ACTIONS[action](sources(registry), name, data_dir)


def _chosen(known: Sequence[DataSource], name: str) -> DataSource:
    by_name = {source.name: source for source in known}
    if name not in by_name:
        hint = did_you_mean(name, by_name) or f"; there is: {', '.join(by_name)}"
        raise UsageError(f"data: unknown data '{name}'{hint}")
    return by_name[name]


def _list(known: Sequence[DataSource], name: str | None, data_dir: Path | None) -> list[str]:
    from otbench.data.sources import size

    lines = []
    for source in known if name is None else [_chosen(known, name)]:
        place = source.find(data_dir)
        checks = ", ".join(dict.fromkeys(file.checked_by for file in source.files))
        hosts = ", ".join(dict.fromkeys(file.url.split("/")[2] for file in source.files))
        lines += [
            f"{source.name}: {source.what}",
            f"    {'here: ' + place if place else 'not on this machine; `data fetch ' + source.name + '` gets it'}",
            f"    download: {hosts}, {size(*source.files)}; checked by {checks}",
            f"    terms: {source.licence}",
        ]
    return lines


def _fetch(known: Sequence[DataSource], name: str | None, data_dir: Path | None) -> list[str]:
    if name is None:
        raise UsageError(f"data fetch: NAME is missing; there is: {', '.join(source.name for source in known)}")
    source = _chosen(known, name)
    return [f"{source.name}: ready: {source.fetch(data_dir)}"]


def _verify(known: Sequence[DataSource], name: str | None, data_dir: Path | None) -> list[str]:
    wanted = known if name is None else [_chosen(known, name)]
    lines = list(dict.fromkeys(line for source in wanted for line in source.verify(data_dir)))
    if not lines and name is not None:
        raise DataError(f"{name}: nothing of it on this machine to verify; `data fetch {name}` gets it")
    return lines or ["nothing on this machine to verify"]


ACTIONS: Mapping[str, Action] = {"list": _list, "fetch": _fetch, "verify": _verify}
"""Subcommands of `otbench data` by name."""


MAKE_OPTIONS = (
    ("set", "LIST", "images: MNIST, FashionMNIST, digits (default: the first two, of a classifier the first)"),
    ("kind", "LIST", "of a VAE: conditional, unconditional (default: both)"),
    ("size", "NAME", "default (40 epochs), paper (the authors' 1000) or tiny"),
    ("device", "NAME", "cpu (default), cuda, cuda:N or auto"),
    ("threads", "N", "CPU threads (default: the cores, at most 4)"),
)


def add_commands(add: AddCommand) -> None:
    """Announce these commands and their options."""
    parser = add("data", data, "list, fetch, verify or make the data and networks that tasks need")
    parser.add_argument(
        "action", metavar="ACTION", help="list, fetch (download, check, prepare), verify (checksums) or make (train)"
    )
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="which data, as `data list` prints it (default: all); of make: vae or classifier",
    )
    for option, metavar, text in MAKE_OPTIONS:
        parser.add_argument(f"--{option}", metavar=metavar, help=f"make: {text}")
    parser.add_argument("--force", action="store_true", help="make: make it again")
    parser.add_argument("--data-dir", metavar="DIR", help="your own copies of data files (also: OTBENCH_DATA_DIR)")


def data(options: argparse.Namespace) -> int:
    """List, fetch, verify or make data."""
    from otbench.cli.console import console

    if options.action == "make":
        return _make(options)
    for option in (*(name for name, _, _ in MAKE_OPTIONS), "force"):
        if getattr(options, option):
            raise UsageError(f"data {options.action}: --{option} is an option of make only")
    folder = options.data_dir or os.environ.get("OTBENCH_DATA_DIR") or None
    data_dir = None if folder is None else Path(folder)
    lines = act(options.action, options.name, registry=registry_of(options), data_dir=data_dir)
    console().print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    return 0


def _make(options: argparse.Namespace) -> int:
    from otbench.cli.console import console
    from otbench.datasets.mnist.pretrained import make
    from otbench.datasets.mnist.pretraining import Progress
    from otbench.harness.plan import resolve_device

    if options.name is None:
        raise UsageError("data make: say what: vae or classifier")
    device, _ = resolve_device(options.device or "cpu")
    threads = options.threads or str(min(4, os.cpu_count() or 1))
    if not (threads.isascii() and threads.isdigit() and 1 <= int(threads) <= 1024):
        raise UsageError(f"--threads {threads}: must be a whole number from 1 to 1024")
    folder = options.data_dir or os.environ.get("OTBENCH_DATA_DIR") or None
    if folder is not None and not Path(folder).is_dir():
        raise UsageError(f"--data-dir {folder}: no such folder")
    out = console()

    def show(progress: Progress) -> None:
        left = progress.seconds / progress.epoch * (progress.epochs - progress.epoch)
        out.print(
            f"{progress.name}: epoch {progress.epoch} of {progress.epochs}, {progress.text}, about {left:.0f} s to go",
            markup=False,
            soft_wrap=True,
        )

    paths = make(
        options.name,
        sets=_words(options.set) or None,
        kinds=_words(options.kind) or None,
        size=options.size or "default",
        data_dir=None if folder is None else Path(folder),
        device=device,
        threads=int(threads),
        force=options.force,
        listen=show,
    )
    for path in paths:
        out.print(f"ready: {path}", markup=False, soft_wrap=True)
    return 0


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())
