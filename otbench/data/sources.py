"""Data that tasks get from elsewhere: what there is, where it is, getting it, checking it.

A task class names its sources (`otbench.task.Task.sources`); `otbench data` acts on them.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from pathlib import Path

from otbench.data.remote import RemoteFile, cached_copy, locate, users_copy, verify


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


def size(*files: RemoteFile) -> str:
    """Return how much a download of `files` is ("about 800 MB"), as far as it is known."""
    known = [file.size for file in files if file.size is not None]
    if len(known) < len(files):
        return "size not known"
    total = sum(known)
    return f"about {total / 1e6:.0f} MB" if total >= 1e6 else f"about {total / 1e3:.0f} kB"
