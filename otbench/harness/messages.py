"""What parent and worker say to each other: jobs one way, events the other, one JSON line each."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

from otbench.records.record import Record, RunSpec, Status

CANNOT_WRITE = "cannot write"
"""Phase of the event that ends a plan: no record can be written, for the reason in the message."""


class Planned(BaseModel):
    """One run of a job: its spec, and what the parent already knows of its record."""

    id: str
    spec: RunSpec
    label: str
    source: dict[str, str]
    command: str

    def blank(self) -> Record:
        """Return the record of this run before anything is known of it."""
        return Record(
            id=self.id,
            spec=self.spec,
            status=Status.ERROR,
            label=self.label,
            source=self.source,
            command=self.command,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )


class Job(BaseModel):
    """What the parent asks of a worker.

    Attributes:
        runs: one run, or several closed-form baselines of one instance.
        folder: where records go.
        data_dir: the user's own data, if any.
        plugins: files given by `--plugin`.
        shared_device: True if other runs may use the device at the same time.
        until_step: where solvers stop, under the same budget; None = at its end.
    """

    runs: list[Planned]
    folder: Path
    data_dir: Path | None
    plugins: list[Path]
    shared_device: bool
    until_step: int | None = None


class Event(BaseModel):
    """What a worker says of a run. `record` is what is known so far, so that a killed worker leaves its curve."""

    id: str
    phase: str
    progress: float = 0.0
    step: int = 0
    record: Record | None = None
    message: str = ""
