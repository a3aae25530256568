"""What an array of jobs is to do, and what its jobs say of it: files in the folder of records, which nodes share.

`slurm/NAME.json` is written before the array is handed in, and stays until all its runs are settled, so that a parent
that comes back finds its jobs. `slurm/NAME/` holds logs, and for each job a note.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from otbench.files import read_regular, write_whole
from otbench.harness.messages import Planned
from otbench.records.record import Record
from otbench.records.store import MAX_RECORD, Store

FOLDER = "slurm"
"""Beside the records."""
MAX_BATCH = 2**28
LOG_TAIL = 4000


class Batch(BaseModel):
    """An array of jobs.

    Attributes:
        name: of its jobs in the queue.
        submitted: whether the queue has taken it.
        created: local time, ISO 8601.
        groups: for each job the runs that share its processes.
        lost: for each job, how often it was lost before, through no fault of its own.
        before: digest of the record that was there before, by run id; empty where there was none.
        card: class of device that the runs are named for.
        data_dir: the user's own data, if any.
        until_step: where solvers stop, see `execute`.
        keep_maps: whether final maps stay beside the records.
        shared: whether others may use the device at the same time.
    """

    name: str
    submitted: bool = False
    created: str = ""
    groups: list[list[Planned]]
    lost: list[int]
    before: dict[str, str]
    card: str = "cpu"
    data_dir: Path | None = None
    until_step: int | None = None
    keep_maps: bool = False
    shared: bool = False


class Note(BaseModel):
    """What a job last said of itself.

    Attributes:
        what: `going` from its start on; `again` where its time was up and it wants to go on; `stuck` where it was up
            and nothing had come of it; `stopped` where it was told to end; `refused` where it did not begin, for the
            reason in `message`; `cannot write` where a record could not be written.
        mark: what had come of its runs when it began, see `mark`.
        run: the run that it is at.
        progress: of that run, in [0, 1].
        step: of that run.
        message: a reason.
    """

    what: Literal["going", "again", "stuck", "stopped", "refused", "cannot write"]
    mark: str = ""
    run: str = ""
    progress: float = 0.0
    step: int = 0
    message: str = ""


class Batches:
    """The arrays of jobs of a folder of records."""

    def __init__(self, store: Store) -> None:
        """Look beside the records of `store`."""
        self._store = store
        self.folder = store.folder / FOLDER

    def all(self) -> list[Batch]:
        """Return all arrays whose runs are not settled, oldest first; files that are none are passed over."""
        found = [batch for path in self.folder.glob("otbench-*.json") if (batch := read_batch(path)) is not None]
        return sorted(found, key=lambda batch: batch.created)

    def path(self, batch: Batch) -> Path:
        """Return the file of `batch`."""
        return self.folder / f"{batch.name}.json"

    def logs(self, batch: Batch) -> Path:
        """Return the folder of its logs and notes."""
        return self.folder / batch.name

    def write(self, batch: Batch) -> None:
        """Write `batch`.

        Raises:
            StoreError: it cannot be written.
        """
        write_whole(self.path(batch), batch.model_dump_json().encode())

    def forget(self, batch: Batch, *, logs: bool) -> None:
        """Remove `batch`, and its logs where they are not to stay."""
        self.path(batch).unlink(missing_ok=True)
        if not logs:
            shutil.rmtree(self.logs(batch), ignore_errors=True)
        with contextlib.suppress(OSError):  # it is not empty
            self.folder.rmdir()

    def note(self, batch: Batch, place: int) -> Note | None:
        """Return what a job last said; None if nothing."""
        try:
            return Note.model_validate_json(read_regular(note_path(self.path(batch), place), MAX_RECORD))
        except (OSError, ValidationError):
            return None

    def news(self, batch: Batch, run: str) -> Record | None:
        """Return the record of a run if it is newer than `batch`."""
        return self._store.read(run) if record_digest(self._store, run) != batch.before[run] else None

    def log_tail(self, batch: Batch, place: int) -> str:
        """Return the end of the log of a job."""
        ends = f"_{place}_0_log.out" if len(batch.groups) > 1 else "_0_log.out"
        for path in sorted(self.logs(batch).glob(f"*{ends}")):
            try:
                return path.read_bytes()[-LOG_TAIL:].decode(errors="replace").strip()
            except OSError:
                continue
        return ""


def read_batch(path: Path) -> Batch | None:
    """Return the array of jobs in the file `path`; None if it holds none."""
    try:
        return Batch.model_validate_json(read_regular(path, MAX_BATCH))
    except (OSError, ValidationError):
        return None


def note_path(batch: Path, place: int) -> Path:
    """Return where the job at `place` of the array in the file `batch` leaves its note."""
    return batch.with_suffix("") / f"note-{place}.json"


def record_digest(store: Store, run: str) -> str:
    """Return what tells a record from an older one of the same run; empty where there is none."""
    try:
        return hashlib.sha256(read_regular(store.path(run), MAX_RECORD)).hexdigest()
    except OSError:
        return ""


def mark(store: Store, runs: list[Planned]) -> str:
    """Return what has come of `runs` so far: their records and checkpoints. It changes when they get on."""
    parts = []
    for run in runs:
        try:
            parts.append(str(store.checkpoint(run.id).stat().st_mtime_ns))
        except OSError:
            parts.append("")
        parts.append(record_digest(store, run.id))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def now() -> str:
    """Return the local time, ISO 8601, to the microsecond."""
    return datetime.now().isoformat(timespec="microseconds")
