"""What the processes of a plan say to each other, one JSON line each.

Parent to guard: `Command`; guard to parent: `Account`s of processes, on a channel of their own; judge to parent:
`Event`s. Judge to guard: `Ask`; guard to judge: `Ended`. Trainer and appliers to judge: `Report`s, one way.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from otbench.config import Value
from otbench.plugins.registry import Entry
from otbench.records.record import Counts, CurvePoint, Memory, Record, RunSpec, Status, Times

CANNOT_WRITE = "cannot write"
"""Phase of the event that ends a plan: no record can be written, for the reason in the message."""


class Planned(BaseModel):
    """One run of a job: its spec, and what the parent already knows of its record.

    Attributes:
        solver: where the solver is.
        task: where the task is.
        scored_by_task: whether the row is no method, but the task's own (`otbench.registration.register_task_row`).
        packages: what it imports of packages that take long to load.
    """

    id: str
    spec: RunSpec
    label: str
    source: dict[str, str]
    command: str
    solver: Entry
    task: Entry
    scored_by_task: bool = False
    packages: list[str] = []

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
    """What the parent asks of a guard.

    Attributes:
        runs: one run, or several closed-form baselines of one instance.
        folder: where records go.
        data_dir: the user's own data, if any.
        shared_device: True if other runs may use the device at the same time.
        spool: folder for what the processes of this job hand each other; it exists, and is removed by the parent.
        until_step: where solvers stop, under the same budget; None = at its end.
        keep_maps: whether the final maps stay beside the record.
    """

    runs: list[Planned]
    folder: Path
    data_dir: Path | None
    shared_device: bool
    spool: Path
    until_step: int | None = None
    keep_maps: bool = False


class Command(BaseModel):
    """What a guard hears from the parent: a job, or to let the run in progress stop with a checkpoint, or to end."""

    job: Job | None = None
    what: Literal["job", "stop", "end"] = "job"


class Event(BaseModel):
    """What a judge says of a run. `record` is what is known so far, so that a killed judge leaves its curve."""

    id: str
    phase: str
    progress: float = 0.0
    step: int = 0
    record: Record | None = None
    message: str = ""


class Training(BaseModel):
    """What a trainer is given beside the problem.

    Attributes:
        spec: the run; the trainer reads the solver's side of it.
        entry: where the solver is.
        task: where the task is, whose code is loaded only where the problem is made of it.
        problem: the file of the problem.
        maps: folder for the maps at each point of the curve.
        checkpoint: where to keep the state of an unfinished run; None = nowhere.
        until_step: where to stop, under the same budget; None = at its end.
    """

    spec: RunSpec
    entry: Entry
    task: Entry
    problem: Path
    maps: Path
    checkpoint: Path | None = None
    until_step: int | None = None


class Applying(BaseModel):
    """What an applier is given.

    Attributes:
        direction: `roundtrip` applies the map back to images of the map, `velocity` asks for velocities.
        spec: the run, for device, dtype, threads and seed.
        entry: where the solver is.
        maps: files of kept maps, in the order of training.
        points: for each of them the file of points.
        label: file of the classes of the points.
        densities: file of points at which the last map gives densities, and their classes.
        images: folder for what the maps make of the points.
        mean: whether the mean over draws of a stochastic map is wanted.
        last: whether the last map is that of the end of training: it is timed.
        normal: whether the source is N(0, I), so that a map that can be differentiated has a density.
        followed: file of points that the last map is asked to follow on their way.
        times: for each of the maps, when velocities are wanted; of `velocity` alone.
    """

    direction: Literal["forward", "backward", "roundtrip", "velocity"]
    spec: RunSpec
    entry: Entry
    maps: list[Path]
    points: list[Path]
    label: Path | None
    images: Path
    densities: Path | None = None
    densities_label: Path | None = None
    mean: bool = False
    last: bool = False
    normal: bool = False
    followed: Path | None = None
    times: list[float] = []


class Ask(BaseModel):
    """A process that the judge wants: a trainer or an applier, for at most `limit` seconds."""

    run: str
    limit: float
    work: Training | Applying

    @property
    def role(self) -> str:
        """Name of the process in messages."""
        return "trainer" if isinstance(self.work, Training) else self.work.direction


class Ended(BaseModel):
    """What the guard knows of a process that has ended, and of all that it started.

    Attributes:
        run: whose process it was.
        role: what it was: "judge", "trainer", or the direction of an applier.
        code: exit code; -N where signal N ended it.
        wall_s: from its start to its end, on the guard's clock.
        cpu_s: CPU seconds.
        held_up: seconds of `wall_s` in which the guard looked at nothing, so that it may have ended before.
        timed_out: whether the guard ended it at its limit.
    """

    run: str
    role: str
    code: int
    wall_s: float
    cpu_s: float
    held_up: float = 0.0
    timed_out: bool = False


class Told(BaseModel):
    """What a guard tells the parent: a process has begun and may take `limit` seconds, or has ended."""

    limit: float | None = None
    ended: Ended | None = None


class Kept(BaseModel):
    """A point of the curve, without metrics, and the file of the maps at that point with its SHA-256."""

    point: CurvePoint
    file: str = Field(pattern=r"^[0-9a-z]+\.otmap$")
    digest: str


class Failure(BaseModel):
    """How a run failed."""

    status: Status
    reason: str
    traceback: str = ""


class Report(BaseModel):
    """What a trainer or an applier says of its work.

    Attributes:
        kind: "train" and "point" come on the way; the others end it.
        kept: the point of "point", and of "done" where training ended with its budget.
        failure: of "failed"; the reason of "skipped" and of "cannot write" is in `message`.
        times: of a trainer so far.
        scale: of the centred points that a trainer's solver is given; None where it has the user's.
        applied: maps that an applier has gone through.
        own_density: whether log densities are the map's own, at all points.
        has_velocity: whether the maps have a velocity, where points were to be followed.
        seconds: inference on all points.
    """

    kind: Literal["train", "point", "done", "skipped", "failed", "interrupted", "cannot write", "applied"]
    message: str = ""
    progress: float = 0.0
    step: int = 0
    kept: Kept | None = None
    failure: Failure | None = None
    times: Times | None = None
    counts: Counts | None = None
    memory: Memory | None = None
    settings: dict[str, Value] = {}
    scale: float | None = None
    applied: int = 0
    reads_label: bool = False
    keeps_rows: int = 0
    two_way: bool = False
    own_density: bool = False
    has_velocity: bool = False
    seconds: float | None = None
