"""The process that knows truth and test data: it has runs trained and maps applied, scores them, and writes records.

It imports no solver. Until the trainer has ended, test data are in its memory alone; what it hands to appliers are
points in an order of their own, and what comes back are numbers.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from pydantic import ValidationError

from otbench.data import mapfile
from otbench.errors import DivergedError, StoreError
from otbench.files import writing
from otbench.harness import evaluate, train
from otbench.harness.failures import failure, first_line
from otbench.harness.images import Images
from otbench.harness.measure import environment, synchronize, timed
from otbench.harness.messages import (
    CANNOT_WRITE,
    Applying,
    Ask,
    Ended,
    Event,
    Failure,
    Job,
    Kept,
    Planned,
    Report,
    Training,
)
from otbench.harness.spool import file_digest, write_problem
from otbench.plugins.kept import origin_of
from otbench.plugins.registry import load_entry
from otbench.records.record import Status, Times
from otbench.records.store import Store
from otbench.task import Instance, Outputs

EXIT_INTERRUPTED = 3
SHORT = 0.1
"""Share of a trainer's wall clock that may be missing from the times it reports."""
SHORT_SECONDS = 2.0
"""Seconds that may be missing beside that share: what no phase counts (the start of the process, reports on their way)
takes tenths of a second, and on a loaded machine or a slow disk about one."""


class Hands(Protocol):
    """Who starts processes for a judge."""

    def run(self, ask: Ask, hear: Callable[[Report], None]) -> Ended:
        """Have a trainer or an applier work to its end; `hear` gets what it reports on the way."""
        ...


class _Interrupted(Exception):  # noqa: N818  (a request, not an error)
    """The stop signal came; a checkpoint may have been written."""


def main(job: Job, asks: int, answers: int, reports: int, events: int) -> int:
    """Do `job`, by file descriptors to the guard, from its trainers and appliers, and to the parent."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    hands = _Guarded(asks, answers, reports)
    with os.fdopen(events, "w", encoding="utf-8", buffering=1) as out:

        def say(event: Event) -> None:
            with contextlib.suppress(OSError, ValueError):  # the parent is gone: the guard ends us
                out.write(event.model_dump_json() + "\n")

        return work(job, hands, say, stop.is_set)


def work(job: Job, hands: Hands, say: Callable[[Event], None], stop: Callable[[], bool] = lambda: False) -> int:
    """Do `job` and write its records; return the exit code."""
    instances = _Instances(job)
    for planned in job.runs:
        if stop():
            return EXIT_INTERRUPTED
        try:
            _Run(job, planned, instances, hands, say, stop).execute()
        except _Interrupted:
            return EXIT_INTERRUPTED
        except StoreError as error:
            say(Event(id=planned.id, phase=CANNOT_WRITE, message=str(error)))
            return 1
    return 0


class _Guarded:
    """Asks the guard."""

    def __init__(self, asks: int, answers: int, reports: int) -> None:
        self._asks, self._answers, self._reports = asks, answers, reports

    def run(self, ask: Ask, hear: Callable[[Report], None]) -> Ended:
        os.write(self._asks, ask.model_dump_json().encode() + b"\n")
        torn, answer = b"", b""
        while not answer.endswith(b"\n"):
            ready, _, _ = select.select([self._reports, self._answers], [], [])
            if self._answers in ready:
                # all that wrote reports has ended: what the pipe holds is the rest
                part = os.read(self._answers, 4096)
                if not part:
                    os._exit(1)  # the guard is gone
                answer += part
            if self._reports in ready or self._answers in ready:
                torn = self._heard(torn, hear)
        return Ended.model_validate_json(answer)

    def _heard(self, torn: bytes, hear: Callable[[Report], None]) -> bytes:
        while select.select([self._reports], [], [], 0)[0]:
            *lines, torn = (torn + os.read(self._reports, 2**16)).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValidationError):  # no line of ours: plugins can write to the pipe, too
                    hear(Report.model_validate_json(line))
        return torn


@dataclass(frozen=True)
class _Built:
    """An instance, and what the record says of it."""

    instance: Instance
    problem: Path
    record: Mapping[str, object]


class _Instances:
    """The instance of a job, made once: all its runs have the same."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._built: _Built | None = None
        self._written = False

    def built(self, planned: Planned) -> _Built:
        """Return the instance, and the problem written for trainers, where this run has one."""
        built = self._built = self._built or self._make(planned)
        if not (planned.scored_by_task or self._written):
            write_problem(built.problem, built.instance.problem, task=planned.spec.task)
            self._written = True
        return built

    def _make(self, planned: Planned) -> _Built:
        spec = planned.spec
        device = torch.device(spec.device)
        torch.set_num_threads(spec.threads)
        entry = load_entry(planned.task)
        facts = environment(device, spec.threads)
        train.seed_everything(spec.seed)
        if device.type == "cuda":
            torch.zeros(1, device=device)
            synchronize(device)
        task = entry.cls(entry.config(**spec.task_config), data_dir=self._job.data_dir)
        instance = task.build(
            seed=spec.seed, device=device, dtype=torch.float64 if spec.dtype == "float64" else torch.float32
        )
        return _Built(
            instance,
            self._job.spool / "problem",
            {
                "environment": facts,
                "instance": task.describe(),
                "facts": dict(instance.facts),
                "metric_info": list(task.metrics),
                "published": task.published(),
            },
        )


@dataclass
class _Heard:
    """What a trainer has said."""

    kept: list[Kept] = field(default_factory=list)
    last: Report = field(default_factory=lambda: Report(kind="train"))
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def end(self) -> Kept | None:
        """The maps of the end of training; None where it was cut short, or failed."""
        return self.last.kept if self.last.kind == "done" else None

    @property
    def maps(self) -> list[Kept]:
        """All kept maps, in the order of training."""
        return [*self.kept, *([self.end] if self.end else [])]


class _Run:
    """One run, from spec to record."""

    def __init__(
        self,
        job: Job,
        planned: Planned,
        instances: _Instances,
        hands: Hands,
        say: Callable[[Event], None],
        stop: Callable[[], bool],
    ) -> None:
        self._job = job
        self._planned = planned
        self._spec = planned.spec
        self._instances = instances
        self._hands = hands
        self._send = say
        self._stop = stop
        self._times = Times()  # of this process and of appliers
        self._size: tuple[int | None, int | None] = None, None
        self._entry = planned.solver
        self._record = planned.blank()
        self._record.shared_device = job.shared_device
        self._store = Store(job.folder)
        self._folder = job.spool / planned.id
        self._resumable = self._spec.kind == "solver" and job.until_step is None
        self._maps = self._store.snapshots(planned.id) if self._resumable else self._folder / "maps"

    def execute(self) -> None:
        """Do the run and write its record, whatever becomes of it.

        Raises:
            _Interrupted: the stop signal came; no record is written, a checkpoint may stand.
            StoreError: the record or the checkpoint cannot be written.
        """
        self._say("setup")
        try:
            self._judge()
        except (_Interrupted, StoreError):
            raise
        except BaseException as error:  # whatever a plugin raises becomes its row
            self._fail(failure(error))
        shutil.rmtree(self._folder, ignore_errors=True)
        self._store.write(self._record)
        if self._resumable:
            self._store.forget(self._record.id)
        self._say("end")

    def _fail(self, found: Failure) -> None:
        self._record.end(found.status, found.reason, traceback=found.traceback)

    def _say(self, phase: str, report: Report | None = None) -> None:
        event = Event(id=self._planned.id, phase=phase, record=self._record if phase == "train" else None)
        if report is not None:
            event.progress, event.step = report.progress, report.step
        self._send(event)

    def _judge(self) -> None:
        """Build, train, apply, score; or say in the record why there is nothing to train."""
        record = self._record
        with timed(self._times, "build_s"):
            built = self._instances.built(self._planned)
        for name, value in built.record.items():
            setattr(record, name, value)
        record.times = self._times
        if self._planned.scored_by_task:
            with timed(self._times, "eval_s"):
                record.metrics = dict(built.instance.task_rows().get(self._spec.solver) or {})
            declined = "" if record.metrics else f"this task has no row of {self._spec.solver}"
            record.end(Status.SKIPPED if declined else Status.OK, declined)
            return
        heard, found = self._train(built)
        if heard.maps:
            self._say("evaluate", heard.last)
            try:
                wrong = self._score(built.instance, heard)
            except StoreError:
                raise
            except BaseException as error:  # of the task
                wrong = failure(error)
            found = wrong if wrong is not None and found.status is Status.OK else found
        if found.status not in (Status.OK, Status.DIVERGED):
            record.metrics = {}
        self._note(heard.last)
        stderr = record.stderr
        self._fail(found)
        record.stderr = stderr

    def _train(self, built: _Built) -> tuple[_Heard, Failure]:
        """Have the solver trained; return what the trainer said, and how it ended."""
        record, spec = self._record, self._spec
        heard = _Heard()

        def hear(report: Report) -> None:
            heard.last = report
            if report.kind == "point" and report.kept is not None:
                report.kept.point.metrics = {}  # these are not the trainer's to say
                heard.kept.append(report.kept)
                record.curve.append(report.kept.point)
            record.settings = report.settings or record.settings
            self._note(report)
            self._say("train", report)

        with writing(self._maps):
            self._maps.mkdir(parents=True, exist_ok=True)
        training = Training(
            spec=spec,
            entry=self._entry,
            task=self._planned.task,
            problem=built.problem,
            maps=self._maps,
            checkpoint=self._store.checkpoint(record.id) if self._resumable else None,
            until_step=self._job.until_step if spec.kind == "solver" else None,
        )
        ended = self._ask(training, hear)
        last = heard.last
        if last.kind == "interrupted" or (self._stop() and last.kind in ("train", "point")):
            raise _Interrupted
        if last.memory is not None:
            record.memory = last.memory
        limit = f"{spec.hard_limit:g} s"
        if ended.timed_out:
            return heard, Failure(status=Status.TIMEOUT, reason=f"ended after the hard limit of {limit}")
        if last.kind == "skipped":
            return heard, Failure(status=Status.SKIPPED, reason=last.message)
        if last.kind == "failed" and last.failure is not None:
            return heard, last.failure
        if last.kind != "done":
            return heard, _unexpected(ended, "training")
        fault = clock_fault(ended, last.times or Times())
        return heard, Failure(status=Status.ERROR if fault else Status.OK, reason=fault)

    def _note(self, report: Report) -> None:
        """Take over times and counts of a trainer, beside this process's own times."""
        own, theirs = self._times, report.times or Times()
        self._record.times = theirs.model_copy(
            update={
                name: _sum(getattr(own, name), getattr(theirs, name))
                for name in ("build_s", "eval_s", "other_s", "infer_fwd_s", "infer_bwd_s")
            }
        )
        self._record.scale = report.scale
        counts = report.counts or self._record.counts
        counts.parameters, counts.stored_bytes = self._size
        self._record.counts = counts

    def _score(self, instance: Instance, heard: _Heard) -> Failure | None:
        """Have all kept maps applied, and score them into the record; return what went wrong."""
        record, maps = self._record, heard.maps
        for kept in maps:
            if file_digest(self._maps / kept.file) != kept.digest:
                reason = f"the maps of step {kept.point.step} were changed after they had been made"
                return Failure(status=Status.ERROR, reason=reason)
        files = [self._maps / kept.file for kept in maps]
        self._size = mapfile.stored_size(files[-1])
        images = Images(instance, self._spec, self._entry, files, self._folder, heard.end is not None, self._applied)
        with timed(self._times, "eval_s"):
            report = images.take()
            record.reads_label, record.keeps_rows = report.reads_label, report.keeps_rows
            for index, kept in enumerate(maps[: images.complete]):
                mapped = images.outputs(index)
                kept.point.metrics = evaluate.score(instance, mapped)
            synchronize(torch.device(self._spec.device))
        record.curve = [kept.point for kept in maps]
        record.start = record.curve[0].metrics
        if report.kind != "done":
            return report.failure
        record.metrics = record.curve[-1].metrics
        if heard.end is None:
            return None
        self._times.infer_fwd_s, self._times.infer_bwd_s = images.inference
        if broken := [name for name, value in record.metrics.items() if not math.isfinite(value)]:
            return failure(DivergedError(f"not finite at the end: {', '.join(broken)}"))
        with timed(self._times, "other_s"):
            self._draw(instance, mapped)
            if self._job.keep_maps:
                self._keep(files[-1], instance)
        return None

    def _ask(self, work: Training | Applying, hear: Callable[[Report], None]) -> Ended:
        if self._stop() and isinstance(work, Training):
            raise _Interrupted

        def heard(report: Report) -> None:
            if report.kind == CANNOT_WRITE:
                raise StoreError(report.message)
            hear(report)

        return self._hands.run(Ask(run=self._record.id, limit=self._spec.hard_limit, work=work), heard)

    def _applied(self, applying: Applying) -> Report:
        """Have maps applied; return the last report, a failure where the process did not end by itself."""
        heard = [Report(kind="failed")]
        ended = self._ask(applying, heard.append)
        last = heard[-1]
        if ended.timed_out:
            reason = f"its maps took more than the hard limit of {self._spec.hard_limit:g} s ({applying.direction})"
            return Report(kind="failed", failure=Failure(status=Status.TIMEOUT, reason=reason))
        if last.kind != "done" and last.failure is None:
            return Report(kind="failed", failure=_unexpected(ended, applying.direction))
        return last

    def _draw(self, instance: Instance, mapped: Outputs) -> None:
        """Keep what a report draws; a failure costs the pictures, not the numbers, and stands in the record.

        Raises:
            StoreError: the file cannot be written, and so the record cannot either.
        """
        record = self._record
        try:
            record.pictures = self._store.write_pictures(record.id, instance.pictures(mapped))
        except StoreError:
            raise
        except Exception as error:  # any error of a plugin
            record.end(record.status, stderr=f"no pictures: {type(error).__name__}: {first_line(error)}")
            sys.stderr.write(f"{record.id}: {record.stderr}\n")

    def _keep(self, path: Path, instance: Instance) -> None:
        """Keep the final maps beside the record, with where they come from."""
        found, record, problem = mapfile.read_map(path), self._record, instance.problem
        origin = origin_of(self._entry, problem, run=record.id)
        record.map_digest = mapfile.write_map(
            self._store.map_path(record.id),
            origin=asdict(origin),
            modules=found.modules,
            parameters=list(found.parameters),
            tensors=found.tensors,
        )


def clock_fault(ended: Ended, times: Times) -> str:
    """Return what is wrong if the times that a trainer reports do not add up to what it took; empty if they do."""
    measured, reported = ended.wall_s, times.total_s
    if reported >= (1 - SHORT) * measured - SHORT_SECONDS - ended.held_up:
        return ""
    return f"its clock cannot be believed: it reports {reported:.1f} s in all, and took {measured:.1f} s"


def _unexpected(ended: Ended, work: str) -> Failure:
    """Return the failure of a process that said nothing: its exit code is a plugin's, and only quoted."""
    if ended.code >= 0:
        reason = f"the process of {work} ended with code {ended.code} and no result"
    else:
        name = signal.Signals(-ended.code).name
        hint = " (often the system, out of memory)" if name == "SIGKILL" else ""
        reason = f"the process of {work} was ended by {name}{hint}"
    return Failure(status=Status.ERROR, reason=reason)


def _sum(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else one + other
