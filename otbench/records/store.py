"""One JSON file per run, written atomically; read back as records.

What a run leaves to draw lies beside its record, in an .npz file of the same name.

A torn or foreign file in the folder, a pipe or a device is reported and passed over, never deleted.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from otbench.data.arrays import load_arrays
from otbench.errors import DataError, StoreError
from otbench.files import MAP_ENDING, read_regular, shown, write_atomically, write_whole, writing
from otbench.picture import MAX_ARRAYS, MAX_BYTES, POINTS, Picture, PictureKind
from otbench.records.record import SCHEMA, PictureInfo, Record
from otbench.records.verified import VERIFIED
from otbench.records.words import why_unread

if TYPE_CHECKING:
    import pandas as pd


def _then(option: str) -> str:
    return (
        f"results already there are kept; free space or permissions, or choose another folder with {option}, then"
        " repeat the same command"
    )


_THEN = _then("--out")
MAX_RECORD = 2**26
"""A record has at most this many bytes; a larger file is passed over."""


class Store:
    """A folder of records."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`; nothing is created or read yet."""
        self.folder = Path(folder)
        self.passed_over: list[str] = []

    def prepare(self, option: str = "--out") -> None:
        """Create the folder and prove that it can be written.

        Args:
            option: which option of the command names another folder, for the message.

        Raises:
            StoreError: it cannot; the message says why.
        """
        with writing(self.folder, _then(option)):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / ".probe", b"otbench\n")
            (self.folder / ".probe").unlink(missing_ok=True)  # another run of the program may have been quicker

    def path(self, run_id: str) -> Path:
        """Return where the record of `run_id` is, or would be."""
        return self.folder / f"{run_id}.json"

    def pictures(self, run_id: str) -> Path:
        """Return where the arrays of what `run_id` left to draw are, or would be."""
        return self.folder / f"{run_id}.npz"

    def checkpoint(self, run_id: str) -> Path:
        """Return where an unfinished run keeps its state."""
        return self.folder / "checkpoints" / f"{run_id}.pt"

    def snapshots(self, run_id: str) -> Path:
        """Return the folder where an unfinished run keeps its maps at the points of the curve."""
        return self.folder / "checkpoints" / run_id

    def forget(self, run_id: str) -> None:
        """Remove what an unfinished run left, so that it begins anew."""
        self.checkpoint(run_id).unlink(missing_ok=True)
        shutil.rmtree(self.snapshots(run_id), ignore_errors=True)

    def map_path(self, run_id: str) -> Path:
        """Return where the final maps of `run_id` are, or would be."""
        return self.folder / f"{run_id}{MAP_ENDING}"

    def write(self, record: Record) -> None:
        """Write `record`, replacing an older one of the same run, and its pictures and maps if the new one has none.

        Raises:
            StoreError: the file cannot be written; records already there are untouched.
        """
        write_whole(self.path(record.id), (record.model_dump_json(indent=1) + "\n").encode(), _THEN)
        if not record.pictures:
            with writing(self.pictures(record.id), _THEN):
                self.pictures(record.id).unlink(missing_ok=True)
            if not record.map_digest:
                self.map_path(record.id).unlink(missing_ok=True)

    def write_pictures(self, run_id: str, pictures: Sequence[Picture]) -> list[PictureInfo]:
        """Write the arrays of `pictures`, replacing older ones of the same run; return what the record says of them.

        Of clouds the first `POINTS` points are kept. The same arrays give the same bytes.

        Raises:
            DataError: two pictures have the same name, or there is too much; nothing is written.
            StoreError: the file cannot be written; what is already there is untouched.
        """
        if not pictures:
            return []
        infos = [
            PictureInfo(name=p.name, kind=p.kind, title=p.title, arrays=list(p.arrays), names=list(p.names))
            for p in pictures
        ]
        if len({info.name for info in infos}) < len(infos):
            raise DataError(f"two pictures have the same name: {', '.join(sorted(info.name for info in infos))}")
        arrays = {f"{p.name}/{name}": array for p in map(_kept, pictures) for name, array in p.arrays.items()}
        size = sum(array.nbytes for array in arrays.values())
        if size > MAX_BYTES or len(arrays) > MAX_ARRAYS:
            raise DataError(
                f"pictures hold {len(arrays)} arrays with {size:,} bytes; at most {MAX_ARRAYS} arrays with"
                f" {MAX_BYTES:,} bytes are kept: leave some out"
            )
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)
        write_whole(self.pictures(run_id), file.getvalue(), _THEN)
        return infos

    def read(self, run_id: str) -> Record | None:
        """Return the record of `run_id`; None if there is none, or if its file cannot be used (then noted)."""
        path = self.path(run_id)
        return self._load(path) if path.exists() else None

    def all(self) -> list[Record]:
        """Return every readable record of the folder, by file name.

        Raises:
            StoreError: the folder does not exist or cannot be listed.
        """
        return [record for _, record in self.files()]

    def files(self) -> list[tuple[Path, Record]]:
        """Return every readable record of the folder with its file, by file name; folders inside are not entered.

        Raises:
            StoreError: the folder does not exist or cannot be listed.
        """
        try:
            paths = sorted(path for path in self.folder.iterdir() if path.suffix == ".json" and path.name != VERIFIED)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            why = "no such folder" if missing else "is a file" if self.folder.is_file() else why_unread(error)
            raise StoreError(f"cannot read results in '{shown(self.folder)}': {why}") from error
        return [(path, record) for path in paths if (record := self._load(path)) is not None]

    def _load(self, path: Path) -> Record | None:
        """Return the record in `path`; None, and a note, if it holds none."""
        try:
            record = Record.model_validate_json(read_regular(path, MAX_RECORD))
        except ValidationError:
            self._pass_over(path, "not a record of otbench")
            return None
        except (OSError, ValueError) as error:
            self._pass_over(path, "is a folder" if path.is_dir() else why_unread(error))
            return None
        if record.schema_version > SCHEMA:
            self._pass_over(path, f"written by a newer otbench, schema {record.schema_version}")
            return None
        return record

    def _pass_over(self, path: Path, reason: str) -> None:
        note = f"{path}: passed over ({reason})"
        if note not in self.passed_over:  # a file is read more than once in a run; it is told of once
            self.passed_over.append(note)


def read_all(folders: Sequence[Path]) -> tuple[list[Record], list[str]]:
    """Return all records of `folders`, and a line for each file that was passed over."""
    records: list[Record] = []
    notes: list[str] = []
    for folder in folders:
        store = Store(folder)
        records += store.all()
        notes += store.passed_over
    return records, notes


def read_pictures(path: Path, infos: Sequence[PictureInfo]) -> list[Picture]:
    """Return the pictures that a record names, out of the file beside it, which may be torn, foreign or hostile.

    Raises:
        DataError: the file cannot be used; the message says why.
    """
    wanted = [f"{info.name}/{array}" for info in infos for array in info.arrays]
    if len(wanted) > MAX_ARRAYS:
        raise DataError(f"{path}: {len(wanted)} arrays are named, more than the {MAX_ARRAYS} that are read")
    arrays = load_arrays(path, wanted, max_bytes=MAX_BYTES + 1024 * len(wanted))  # and the headers
    try:
        return [
            Picture(
                info.name,
                cast("PictureKind", info.kind),  # checked by the class
                info.title,
                {name: _typed(arrays[f"{info.name}/{name}"]) for name in info.arrays},
                tuple(info.names),
            )
            for info in infos
        ]
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _kept(picture: Picture) -> Picture:
    """Return what is kept of a picture: the first points of a cloud; floats in single precision, enough to draw."""
    rows = POINTS if picture.kind in ("points", "arrows") else None
    return replace(picture, arrays={name: _typed(array[:rows]) for name, array in picture.arrays.items()})


def _typed(array: NDArray[np.generic]) -> NDArray[np.float32] | NDArray[np.uint8] | NDArray[np.int64]:
    if array.dtype == np.uint8:
        return cast("NDArray[np.uint8]", array)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which no picture may be
        return array.astype(np.float32) if array.dtype.kind == "f" else array.astype(np.int64)


_SPEC_COLUMNS = ("solver", "kind", "task", "preset", "seed", "steps", "time_limit", "cpu_limit", "device", "threads")


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row per record: spec, status, metrics, times, memory and counts as columns.

    Parameters are `solver.NAME` and `task.NAME`, metrics `metric.NAME`, the rest `time.`, `memory.`, `count.`.
    """
    import pandas as pd

    rows = []
    for record in records:
        spec = record.spec
        row: dict[str, object] = {"id": record.id}
        row |= {name: getattr(spec, name) for name in _SPEC_COLUMNS}
        row |= {"status": str(record.status), "reason": record.reason, "instance": record.instance}
        groups: dict[str, Mapping[str, object]] = {
            "solver": spec.solver_config,
            "task": spec.task_config,
            "metric": record.metrics,
            "start": record.start,
            "time": record.times.model_dump(),
            "memory": record.memory.model_dump(),
            "count": record.counts.model_dump(exclude={"networks_moved"}),
        }
        row |= {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def write_output(path: Path, content: bytes) -> None:
    """Write what a user asked for by name: a file as a whole, a pipe or a device (`/dev/stdout`) as it is.

    Raises:
        StoreError: it cannot be written.
    """
    if path.exists() and not path.is_file():
        with writing(path):
            path.write_bytes(content)  # never renamed over
    else:
        write_whole(path, content)
