"""The pictures of the published sets, and those that come with scikit-learn: where they are, and how they are checked.

Pair k is the k-th picture of each side. Pairs 1 to 10 are those of tables; 11 to 20 are for trying things out, so that
no setting is chosen on a pair that is reported. The paper with the published numbers does not name its pairs.

Twenty pictures a side of two sets are known by their SHA-256. Of `vangogh2photo`, which we never saw, the k-th file of
a side's folder counts, in the order of names, and the record keeps the SHA-256 that was found.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from otbench.data.sources import DataSource
from otbench.datasets.colour.checksums import SHA256
from otbench.errors import DataError
from otbench.files import file_digest, require_file, shown, unreadable

SetName: TypeAlias = Literal["scikit-learn", "summer2winter", "monet2photo", "vangogh2photo"]
BUNDLED: SetName = "scikit-learn"
"""The set that is there offline: one pair."""
SIDES: Mapping[SetName, tuple[str, str]] = {
    "summer2winter": ("summer", "winter"),
    "monet2photo": ("monet", "photo"),
    "vangogh2photo": ("vangogh", "photo"),
}
"""Folders of source and target of the sets that a user has in a data folder."""
PAIRS, REPORTED = 20, 10
"""Pairs of a set, and how many of them, the first, stand in tables."""
ENDINGS = (".jpg", ".jpeg", ".png")


class PictureSource(DataSource):
    """One set of photographs or paintings, of which the user has some."""

    files = ()
    licence = "those of the set's authors: https://github.com/junyanz/CycleGAN"

    def __init__(self, name: SetName) -> None:
        """Name the set."""
        self.name = name
        self._set: SetName = name
        known = f"{name}/{SIDES[name][0]}" in SHA256
        checked = f"{PAIRS} pictures a side; SHA-256, in the program" if known else "SHA-256 noted in each record"
        self.what = f"pictures of CycleGAN's set {name}"
        self._origin = f"your own copies only; checked by {checked}"

    @property
    def remedy(self) -> str:
        """What to do where the set is not on this machine, in words."""
        return _how(self._set)

    @property
    def origin(self) -> str:
        """That it is not downloaded, and how it is checked, in words."""
        return self._origin

    def find(self, data_dir: Path | None) -> str | None:
        """Return the set's folder, if both sides have a picture for the first pair."""
        try:
            paths = [_of_set(self._set, side, 1, data_dir) for side in (0, 1)]
        except DataError:
            return None
        return str(paths[0].parent.parent)

    def fetch(self, data_dir: Path | None) -> str:
        """Return where it is; it cannot be downloaded picture by picture.

        Raises:
            DataError: it is not here, and where it is wanted.
        """
        found = self.find(data_dir)
        if found is None:
            raise DataError(f"{self.name}: {self.remedy}")
        return found

    def verify(self, data_dir: Path | None) -> Sequence[str]:
        """Compare the pictures that are here with the SHA-256 known of them; return a line for each side.

        Raises:
            DataError: one has another content.
        """
        if self.find(data_dir) is None:
            return []
        lines = []
        for side, folder in enumerate(SIDES[self._set]):
            known = SHA256.get(f"{self.name}/{folder}", ())
            paths = [path for k in range(1, len(known) + 1) if (path := _known(self._set, side, k, data_dir))]
            for k, path in enumerate(paths):
                _check(path, known[k])
            lines += [f"{paths[0].parent}: {len(paths)} pictures: SHA-256: good"] if paths else []
        return lines


def pair_of(name: SetName, number: int, data_dir: Path | None) -> tuple[Path, Path]:
    """Return the files of source and target of pair `number`, checked where their SHA-256 is known.

    Args:
        name: of the set.
        number: of the pair, from 1.
        data_dir: the user's folder with own copies, if any.

    Raises:
        DataError: a picture is not there, or is not the one that is known under its name.
    """
    if name == BUNDLED:
        images = importlib.resources.files("sklearn.datasets.images")
        return Path(str(images / "china.jpg")), Path(str(images / "flower.jpg"))
    first, second = (_of_set(name, side, number, data_dir) for side in (0, 1))
    for path in (first, second):
        known = SHA256.get(f"{name}/{path.parent.name}")
        if known is not None:
            _check(path, known[number - 1])
    return first, second


def _of_set(name: SetName, side: int, number: int, data_dir: Path | None) -> Path:
    """Return the picture of one side of a pair, not yet checked."""
    if data_dir is None:
        raise DataError(f"task colour: set={name} needs your own copies: {_how(name)}")
    if not data_dir.is_dir():
        raise DataError(f"data folder {shown(data_dir)}: no such folder; correct --data-dir or OTBENCH_DATA_DIR")
    folder = data_dir / name / SIDES[name][side]
    path = _known(name, side, number, data_dir)
    if path is not None:
        return path
    if f"{name}/{folder.name}" in SHA256:
        raise DataError(f"{shown(folder)}: has no picture {number:02}.jpg; {_how(name)}")
    try:
        names = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS) if folder.is_dir() else []
    except OSError as error:
        raise unreadable(folder, error) from error
    if len(names) < number:
        raise DataError(f"{shown(folder)}: has {len(names)} pictures, too few for pair {number}; {_how(name)}")
    return names[number - 1]


def _known(name: SetName, side: int, number: int, data_dir: Path | None) -> Path | None:
    """Return the picture of a set whose checksums are known, None where it is not there."""
    folder = SIDES[name][side]
    if data_dir is None or f"{name}/{folder}" not in SHA256:
        return None
    path = data_dir / name / folder / f"{number:02}.jpg"
    return path if path.is_file() else None


def _how(name: SetName) -> str:
    one, other = SIDES[name]
    return f"put them into a folder as {name}/{one}/01.jpg, {name}/{other}/01.jpg, ... and give it with --data-dir"


def _check(path: Path, known: str) -> None:
    require_file(path)
    found = file_digest(path)
    if found != known:
        raise DataError(
            f"{shown(path)}: wrong checksum: expected SHA-256 {known}, found {found}. It is damaged or another "
            "picture; name it yourself with source= and target= if it is the one that you want"
        )
