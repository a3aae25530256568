"""What a run is (`RunSpec`) and what it left behind (`Record`): the one schema that every report reads.

Times are seconds, memory is bytes, unless a name says otherwise.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from otbench.config import Value
from otbench.names import plain, plain_lines
from otbench.reporting import Metric, Published

SCHEMA = 1
"""Version of the record's form. Raise it when a field changes its meaning; older files must still load."""
LONGEST_REASON = 1000
BUSY_SHARE = 0.9
"""Share of a core that training on the CPU gets on an idle machine, at least."""
BUSY_SECONDS = 1.0
"""Training shorter than this says nothing about the machine's load: the processor's clock is too coarse."""


class Status(StrEnum):
    """How a planned run ended."""

    OK = "ok"
    TIMEOUT = "timeout"
    OOM = "oom"
    DIVERGED = "diverged"
    ERROR = "error"
    SKIPPED = "skipped"


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", ser_json_inf_nan="strings")


class RunSpec(BaseModel):
    """One run, fully resolved: with the same code and the same class of device it gives the same record.

    Attributes:
        kind: solver or baseline.
        solver: registered name.
        solver_config: all parameters of the solver, defaults written out.
        task: registered name.
        task_config: all parameters of the task, defaults written out.
        preset: which preset the parameters started from.
        seed: run seed: training pool and solver's randomness.
        steps: training length in steps; None = until `time_limit`, or until the solver says done.
        time_limit: training length in seconds on the training clock; None = no such limit.
        cpu_limit: training length in CPU seconds; None = no such limit.
        device: `cpu` or `cuda:N`.
        dtype: floating type of points and networks.
        threads: CPU threads of the run.
        standardise: whether a solver trains on centred points in one common scale, where the task allows it. False in
            records made before there was a choice.
        hard_limit: wall-clock seconds after which the process is ended. Not part of the identity.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["solver", "baseline"]
    solver: str
    solver_config: dict[str, Value]
    task: str
    task_config: dict[str, Value]
    preset: str
    seed: int
    steps: int | None
    time_limit: float | None
    cpu_limit: float | None = None
    device: str
    dtype: Literal["float32", "float64"] = "float32"
    threads: int
    standardise: bool = False
    hard_limit: float

    def run_id(self, source_hash: str, device_class: str) -> str:
        """Return the file name of this run: readable head, then the hash that tells it from all others."""
        identity = self.model_dump(exclude={"hard_limit"})
        if self.device.startswith("cuda"):
            identity["device"] = "cuda"  # which of several equal cards does not matter
        canonical = json.dumps([identity, source_hash, device_class], sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).hexdigest()[:16]
        head = "".join(c if c.isalnum() or c in "-_" else "_" for c in f"{self.task}-{self.solver}")[:60]
        return f"{head}-{digest}"


class CurvePoint(_Model):
    """Accuracy at one moment of training, the clock stopped.

    Attributes:
        step: steps until then.
        train_s: wall-clock seconds of these steps, the first ones included.
        train_cpu_s: CPU seconds of the training process until then, over all of its threads, as `Times` counts
            them; None in records made before it was kept.
        samples: samples drawn until then, both sides, as `Counts` counts them; None in records made before.
        metrics: scores of the maps as they were then.
        scalars: what the solver reported of its last step.
        digest: that of the solver's networks: two runs with equal digests have the same weights, bit for bit. Empty
            where there is no network.
    """

    step: int
    train_s: float
    train_cpu_s: float | None = None
    samples: int | None = None
    metrics: dict[str, float] = {}
    scalars: dict[str, float] = {}
    digest: str = ""


class Times(_Model):
    """Seconds by phase, on the clocks of the processes of a run. Evaluation never counts as training.

    `build_s` is what comes before set-up (plugins, the instance), `eval_s` applying maps and scoring, with timing of
    inference, `other_s` the harness's own work: between steps, maps for the curve, checkpoints, pictures. On a GPU
    `other_s` holds waiting for the device too.
    """

    build_s: float | None = None
    setup_s: float | None = None
    warmup_s: float | None = None
    train_s: float | None = None
    train_cpu_s: float | None = None
    validate_s: float | None = None
    eval_s: float | None = None
    other_s: float | None = None
    infer_fwd_s: float | None = None
    infer_bwd_s: float | None = None
    step_ms: float | None = None
    step_ms_p10: float | None = None
    step_ms_p90: float | None = None

    @property
    def total_s(self) -> float:
        """All seconds that the run reports: the sum of its phases."""
        phases = (self.build_s, self.setup_s, self.warmup_s, self.train_s, self.validate_s, self.eval_s, self.other_s)
        return sum(phase or 0.0 for phase in phases)


class Account(_Model):
    """What was measured of a run from outside, on clocks that no plugin reaches.

    Attributes:
        wall_s: from the request for the run, or the end of the run before in the same job, to the run's end.
        startup_s: the part of it before the run began.
        cpu_s: CPU seconds of the processes that train and apply, and of all that they started.
        trainer_s: wall clock of the process that trains, with its start and the reading of the problem.
    """

    wall_s: float | None = None
    startup_s: float = 0.0
    cpu_s: float | None = None
    trainer_s: float | None = None


class Memory(_Model):
    """Bytes. `rss_*` are the resident set, on the host, of the process that trains."""

    rss_imports: int | None = None
    rss_peak: int | None = None
    rss_above_imports: int | None = None
    cuda_peak_allocated: int | None = None
    cuda_peak_reserved: int | None = None


class Counts(_Model):
    """What a run consumed."""

    steps: int = 0
    samples: int = 0
    parameters: int | None = None
    stored_bytes: int | None = None
    directions: int = 1
    function_evaluations: int | None = None
    check_every: int | None = None
    resumed: int = 0
    networks_moved: dict[str, bool] = {}


class PictureInfo(_Model):
    """What a report can draw of the run; its arrays lie beside the record, see `otbench.picture`."""

    name: str
    kind: str
    title: str
    arrays: list[str]
    names: list[str] = []


class Record(_Model):
    """What one planned run left behind, whatever became of it.

    Attributes:
        label: the solver as typed, with the parameters that a user set.
        start: metrics at step 0.
        metrics: metrics at the end.
        facts: numbers about the instance (exact cost, sample sizes).
        instance: the instance in words.
        settings: values that the solver chose where its parameters are left at none, by name.
        source: hash of the code that made the numbers, by file.
        reads_label: whether the maps are given the class of the point that they move.
        keeps_rows: training rows that the maps keep.
        scale: of the centred points that the solver trained on; None where it trained on the points as they are.
        map_digest: checksum of the maps that `--keep-maps` left beside the record; empty where it was not asked for.
        account: wall clock and processor time as the harness measured them from outside.
        tries: how often it was tried: more than once where it failed before in a way that need not come again.
        cancelled: whether the user ended it in the queue of a cluster; it is tried again only when asked for.
        pictures: what a report can draw; the arrays lie in a file of the same name, ending `.npz`.
        command: how to repeat this run.
    """

    schema_version: int = SCHEMA
    id: str
    spec: RunSpec
    status: Status
    label: str = ""
    reason: str = ""
    traceback: str = ""
    stderr: str = ""
    instance: str = ""
    metrics: dict[str, float] = {}
    start: dict[str, float] = {}
    curve: list[CurvePoint] = []
    metric_info: list[Metric] = []
    published: Published | None = None
    facts: dict[str, Value] = {}
    settings: dict[str, Value] = {}
    times: Times = Times()
    account: Account = Account()
    memory: Memory = Memory()
    counts: Counts = Counts()
    reads_label: bool = False
    keeps_rows: int = 0
    scale: float | None = None
    map_digest: str = ""
    tries: int = 1
    cancelled: bool = False
    pictures: list[PictureInfo] = []
    environment: dict[str, Value] = {}
    source: dict[str, str] = {}
    shared_device: bool = False
    command: str = ""
    created: str = Field(default="", description="UTC, ISO 8601")

    @property
    def loaded(self) -> bool:
        """Whether the machine was under load: training on the CPU got less than 90 % of one core.

        The times of such a run say nothing about the solver. False where the record cannot tell.
        """
        times = self.times
        if self.spec.device != "cpu" or times.train_cpu_s is None or times.train_s is None:
            return False
        seconds = times.train_s + (times.warmup_s or 0.0)
        return seconds >= BUSY_SECONDS and times.train_cpu_s < BUSY_SHARE * seconds

    @property
    def passing(self) -> bool:
        """Whether it failed in a way that need not come again: an exception, no memory left, too long."""
        return self.status in (Status.ERROR, Status.OOM, Status.TIMEOUT) and not self.cancelled

    def end(self, status: Status, reason: str = "", *, traceback: str = "", stderr: str = "") -> None:
        """Note how the run ended. Messages can be a plugin's: they are cut and freed of control characters here."""
        self.status, self.reason = status, plain(reason, LONGEST_REASON)
        self.traceback, self.stderr = plain_lines(traceback), plain_lines(stderr)

    def final(self, spec: RunSpec) -> bool:
        """Say whether this record settles `spec`, so that it need not run again.

        `ok`, `diverged` and `skipped` are final; `timeout` until the limit changes, `oom` until the machine's memory
        does (a new device class is a new id); `error` is tried again, unless the user cancelled the run.
        """
        if self.cancelled:
            return True
        if self.status is Status.TIMEOUT:
            return self.spec.hard_limit == spec.hard_limit
        return self.status is not Status.ERROR
