"""Where a report is written: names made safe, nothing outside the folder, every file whole or not at all."""

from __future__ import annotations

import hashlib
import re
import string
from pathlib import Path

from otbench.errors import StoreError
from otbench.files import write_atomically, writing
from otbench.records.store import Store

_LONGEST = 80


class Folder:
    """The output folder of one report.

    Attributes:
        written: files, relative to the folder, in the order of their writing.
        notes: what could not be made, and why.
    """

    def __init__(self, root: Path) -> None:
        """Create `root` and prove that it can be written.

        Raises:
            StoreError: it cannot; the message says why.
        """
        Store(root).prepare()
        self.root = root
        self.written: list[str] = []
        self.notes: list[str] = []

    def write(self, name: str, content: str | bytes) -> Path:
        """Write one file.

        Args:
            name: parts joined by `/`, each made by `slug` or fixed in the program.
            content: text is written as UTF-8.

        Raises:
            StoreError: the file cannot be written.
            ValueError: `name` would leave the folder.
        """
        parts = name.split("/")
        if any(not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", part) for part in parts):
            raise ValueError(f"not a name for a file of a report: {name!r}")
        path = self.root.joinpath(*parts)
        then = "free space or permissions, or choose another folder with --out, then repeat the same command"
        with writing(path, then):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.parent.resolve().is_relative_to(self.root.resolve()):
                raise StoreError(f"cannot write '{path}': '{path.parent}' is a link that leads out of the folder")
            write_atomically(path, content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
        self.written.append(name)
        return path


def letter(index: int) -> str:
    """Return the letter of a footnote: a to z, then aa, ab, ..."""
    return (letter(index // 26 - 1) if index >= 26 else "") + string.ascii_lowercase[index % 26]


class Slugs:
    """Names for files and anchors: lower-case letters, digits and dashes, unique within one report."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}  # name: how often it was asked for

    def make(self, *parts: str) -> str:
        """Return a name for what `parts` describe; the same parts in the same order give the same names again."""
        text = "-".join(parts)
        name = "-".join(re.findall(r"[a-z0-9]+", text.lower())) or "x"
        if len(name) > _LONGEST:
            name = (
                f"{name[: _LONGEST - 9].rstrip('-')}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"
            )
        unique = name
        while unique in self._taken:
            self._taken[name] += 1
            unique = f"{name}-{self._taken[name]}"
        self._taken[unique] = 1
        return unique
