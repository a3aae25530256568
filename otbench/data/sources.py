"""Data that tasks get from elsewhere and networks that they train: what there is, where, getting it, checking it.

A task class names its sources (`otbench.task.Task.sources`); `otbench data` acts on them.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from otbench.data.remote import RemoteFile, cached_copy, locate, users_copy, verify


@dataclass(frozen=True)
class Progress:
    """Where a training is: `epoch` of `epochs` done after `seconds`; `text` says how good it is by now."""

    name: str
    epoch: int
    epochs: int
    seconds: float
    text: str


Listener: TypeAlias = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Say nothing."""


class DataSource(abc.ABC):
    """One thing that can be fetched by name.

    Attributes:
        name: what a user types.
        what: what it is, in a few words.
        files: what is downloaded; nothing for what is trained here.
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

    @property
    def remedy(self) -> str:
        """What to do where it is not on this machine, in words."""
        return f"`data fetch {self.name}` gets it"

    @property
    def origin(self) -> str:
        """Where it comes from, how much that is, and how it is checked, in words."""
        hosts = ", ".join(dict.fromkeys(file.url.split("/")[2] for file in self.files))
        checks = ", ".join(dict.fromkeys(file.checked_by for file in self.files))
        return f"download: {hosts}, {size(*self.files)}; checked by {checks}"

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


@dataclass(frozen=True, kw_only=True)
class MakeOptions:
    """How a trained source is made. Words that it does not know it refuses.

    Attributes:
        sets: which data to train on; None = what tasks need by default.
        kinds: which kinds of network; None = all.
        size: of networks and trainings.
        device: where to train.
        threads: of the CPU.
        force: make it even if it is there; what is there stays until the new one is whole.
        listen: told of every epoch.
    """

    sets: Sequence[str] | None = None
    kinds: Sequence[str] | None = None
    size: str = "default"
    device: str = "cpu"
    threads: int = min(4, os.cpu_count() or 1)
    force: bool = False
    listen: Listener = silent


class TrainedSource(DataSource):
    """Networks that are trained on this machine, from a seed, and kept."""

    files = ()
    origin = "trained on this machine (data make); checked by the SHA-256 of its tensors"

    @abc.abstractmethod
    def make(self, data_dir: Path | None, options: MakeOptions) -> Sequence[Path]:
        """Train what `options` name and what is not there yet; return the files.

        Raises:
            UsageError: an unknown word in `options`.
            DataError: what it is trained on is missing or damaged, or a file that is there is no such network.
            StoreError: the cache cannot be written.
        """

    def fetch(self, data_dir: Path | None) -> str:
        """Make it with the default options."""
        return ", ".join(map(str, self.make(data_dir, MakeOptions())))


def size(*files: RemoteFile) -> str:
    """Return the total size of `files` in words ("about 800 MB"), or that it is not known."""
    known = [file.size for file in files if file.size is not None]
    if len(known) < len(files):
        return "size not known"
    total = sum(known)
    return f"about {total / 1e6:.0f} MB" if total >= 1e6 else f"about {total / 1e3:.0f} kB"
