"""A cache of prepared arrays: what takes seconds or minutes to make from raw data is made once.

An entry is a folder with one float32 .npy per array and a manifest, which holds the SHA-256 of each: an entry that was
changed or damaged is made again. Its name holds a digest of the content that it was
made from, of its parameters and of the version of the code that made it, so a change of any of them makes a new entry.
Folders are filled under another name and renamed: there is no such thing as half an entry.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from otbench.config import Value
from otbench.data.remote import cache_folder
from otbench.errors import DataError
from otbench.files import file_digest, require_file, unreadable, write_atomically, writing

MANIFEST = "manifest.json"
REMEMBERED_BYTES = 2**25
"""Digests of larger files are remembered by path, size and time of change, so that no run reads gigabytes for them."""


@dataclass(frozen=True)
class Prepared:
    """Arrays ready for use.

    Attributes:
        arrays: by name, float32, mapped into memory; writing to them changes no file.
        facts: numbers and words about them.
        names: names of columns, where there are any.
        manifest: the file that says what the arrays were made from; None where they are not cached.
    """

    arrays: Mapping[str, NDArray[np.float32]]
    facts: Mapping[str, Value] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    manifest: Path | None = None


@dataclass(frozen=True)
class Content:
    """What an entry is made of.

    Attributes:
        name: first part of the entry's folder, readable ("uci-power").
        version: of the code that makes it; a new one makes all entries anew.
        parameters: what else decides the arrays.
        sources: digests of the raw data, by role.
    """

    name: str
    version: int
    parameters: Mapping[str, Value]
    sources: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """Where the entry lies, or would lie."""
        text = json.dumps([self.version, dict(self.parameters), dict(self.sources)], sort_keys=True)
        return cache_folder() / "prepared" / f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


Made = tuple[Mapping[str, NDArray[np.float64]], Mapping[str, Value], Sequence[str]]
"""Arrays, facts, names of columns."""


def lookup(content: Content) -> Prepared | None:
    """Return the entry of `content`, or None where there is none, or only a damaged one.

    The SHA-256 of every array is compared; that of a large one is remembered by size and time of change.
    """
    manifest = content.folder / MANIFEST
    try:
        saved = json.loads(manifest.read_text(encoding="utf-8"))
        arrays = {}
        for name, shape in saved["shapes"].items():
            path = content.folder / f"{name}.npy"
            if _remembered(path) != saved["sha256"][name]:
                return None
            array = np.load(path, mmap_mode="c", allow_pickle=False)
            if array.dtype != np.float32 or list(array.shape) != shape:
                return None
            arrays[name] = array
        return Prepared(arrays, saved["facts"], tuple(saved["names"]), manifest)
    except (DataError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def prepare(content: Content, make: Callable[[], Made]) -> Prepared:
    """Return the entry of `content`; where there is none, make it.

    Args:
        content: what it is made of.
        make: returns the arrays (stored as float32), facts and names of columns.

    Raises:
        StoreError: the cache cannot be written. What `make` raises is passed on. Nothing is left behind then.
    """
    found = lookup(content)
    if found is not None:
        return found
    arrays, facts, names = make()
    folder = content.folder
    with writing(folder), scratch() as scratched:
        for name, array in arrays.items():
            np.save(scratched / f"{name}.npy", np.ascontiguousarray(array, dtype=np.float32))
        manifest = {
            "made_from": dict(content.sources),
            "parameters": dict(content.parameters),
            "version": content.version,
            "sha256": {name: file_digest(scratched / f"{name}.npy") for name in arrays},
            "shapes": {name: list(array.shape) for name, array in arrays.items()},
            "facts": dict(facts),
            "names": list(names),
        }
        (scratched / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
        folder.parent.mkdir(parents=True, exist_ok=True)
        if lookup(content) is None:  # nobody was faster; a damaged entry makes way
            shutil.rmtree(folder, ignore_errors=True)
            scratched.rename(folder)
    made = lookup(content)
    if made is None:
        raise DataError(f"{folder}: prepared data cannot be read back; remove this folder and try again")
    return made


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Lend an empty folder on the disk of the cache; what is left in it afterwards is removed."""
    with writing(cache_folder()):
        cache_folder().mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".making-", dir=cache_folder()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def digest_of(paths: Sequence[Path]) -> str:
    """Return one digest of the contents of `paths`, in their order, and of their file names.

    Raises:
        DataError: one of them cannot be read.
    """
    lines = [f"{path.name} {_remembered(path)}" for path in paths]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _remembered(path: Path) -> str:
    require_file(path)
    try:
        stat = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    if stat.st_size < REMEMBERED_BYTES:
        return file_digest(path)
    mark = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode(errors="surrogateescape")
    note = cache_folder() / "digests" / hashlib.sha256(mark).hexdigest()
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = note.read_text(encoding="ascii")
        if len(text) == 64:
            return text
    digest = file_digest(path)
    with contextlib.suppress(OSError):  # only a saving of time
        os.makedirs(note.parent, exist_ok=True)
        write_atomically(note, digest.encode())
    return digest
