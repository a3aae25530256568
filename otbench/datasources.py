"""Data that tasks get from elsewhere: what there is, where it is, getting it, checking it. Behind `otbench data`.

A task class names its sources (`otbench.task.Task.sources`). A subcommand of `otbench data` is one function in
`ACTIONS`: it is given the sources and a name, and returns lines for the screen.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from otbench.data import RemoteFile, cached_copy, locate, users_copy, verify
from otbench.errors import DataError, PluginError, UsageError
from otbench.names import did_you_mean
from otbench.registry import Registry


class DataSource(abc.ABC):
    """One thing that can be fetched by name.

    Attributes:
        name: what a user types.
        what: what it is, in a few words.
        files: what is downloaded.
        licence: under which terms, and where they stand.
    """

    name: str
    what: str
    files: tuple[RemoteFile, ...]
    licence: str

    @abc.abstractmethod
    def find(self, data_dir: Path | None) -> str | None:
        """Return where it is on this machine, in words; None where it is not. Downloads nothing."""

    @abc.abstractmethod
    def fetch(self, data_dir: Path | None) -> str:
        """Get it, checked and ready for use; return where it is.

        Raises:
            DataError: it cannot be downloaded, or is not what it should be.
        """

    def verify(self, data_dir: Path | None) -> Sequence[str]:
        """Compare the files on this machine with what is known of them; return a line for each.

        Raises:
            DataError: one has another content.
        """
        lines = []
        for file in self.files:
            path = users_copy(file, data_dir) or cached_copy(file)
            if path is not None:
                lines.append(f"{path}: {verify(path, file)}: good")
        return lines


class RemoteSource(DataSource):
    """Files that are used as they are downloaded."""

    def __init__(self, name: str, what: str, files: Sequence[RemoteFile], licence: str) -> None:
        """Name `files`. See `DataSource` for the rest."""
        self.name = name
        self.what = what
        self.files = tuple(files)
        self.licence = licence

    def find(self, data_dir: Path | None) -> str | None:
        """Return the folder of the first file; None unless all are there."""
        found = [users_copy(file, data_dir) or cached_copy(file) for file in self.files]
        first = found[0]
        return None if first is None or None in found else str(first.parent)

    def fetch(self, data_dir: Path | None) -> str:
        """Download what is missing and check all."""
        paths = [locate(file, data_dir) for file in self.files]
        return str(paths[0].parent)


Action: TypeAlias = Callable[[Sequence[DataSource], str | None, Path | None], Sequence[str]]
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


def size(*files: RemoteFile) -> str:
    """Return how much a download of `files` is ("about 800 MB"), as far as it is known."""
    known = [file.size for file in files if file.size is not None]
    if len(known) < len(files):
        return "size not known"
    total = sum(known)
    return f"about {total / 1e6:.0f} MB" if total >= 1e6 else f"about {total / 1e3:.0f} kB"
