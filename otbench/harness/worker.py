"""The process that does one run (or the closed-form baselines of one instance) and writes its record.

Talks to the parent in JSON lines: one job on standard input, events on standard output. When standard input closes,
the parent is gone: the worker keeps its checkpoint and ends. Started by `otbench.harness.guard`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import IO

import numpy as np
import torch

from otbench.config import Config
from otbench.errors import DivergedError, OtbenchError, StoreError
from otbench.harness import evaluate, train
from otbench.harness.measure import PeakMemory, environment, fingerprints, synchronize, timed, weights_digest
from otbench.harness.messages import CANNOT_WRITE, Event, Job, Planned
from otbench.plugins.registry import Registry
from otbench.problem import Problem
from otbench.records.record import CurvePoint, RunSpec, Status
from otbench.records.store import Store
from otbench.registration import Registration
from otbench.solver import Context, Solver
from otbench.task import Instance, Outputs

EXIT_INTERRUPTED = 3
ORPHAN_GRACE_SECONDS = 20.0
_SOLVER_STREAM = 1


def main() -> int:
    """Read one job from standard input and do it; return the exit code."""
    stop = threading.Event()
    # What plugins print must not mix with events: keep the real standard output for us, point theirs at stderr.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    job = Job.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_watch_parent, args=(stop,), daemon=True).start()

    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it sends SIGTERM

    for planned in job.runs:
        if stop.is_set():
            return EXIT_INTERRUPTED
        try:
            _Run(job, planned, events, stop).execute()
        except train.InterruptedTraining:
            return EXIT_INTERRUPTED
        except StoreError as error:
            _send(events, Event(id=planned.id, phase=CANNOT_WRITE, message=str(error)))
            return 1
    return 0


def _watch_parent(stop: threading.Event) -> None:
    """Wait until the parent closes our standard input or dies; then stop, by force if the run does not react."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    stop.set()
    time.sleep(ORPHAN_GRACE_SECONDS)
    os._exit(EXIT_INTERRUPTED)


def _send(events: IO[str], event: Event) -> None:
    with contextlib.suppress(OSError, ValueError):  # the parent is gone: the watcher thread ends us
        events.write(event.model_dump_json() + "\n")


@dataclass(frozen=True)
class _Built:
    """What a spec names, ready to be solved."""

    instance: Instance
    solver: Registration
    config: Config


class _Run:
    """One run, from spec to record."""

    def __init__(self, job: Job, planned: Planned, events: IO[str], stop: threading.Event) -> None:
        self._job = job
        self._events = events
        self._stop = stop
        self._spec = planned.spec
        self._device = torch.device(planned.spec.device)
        self._record = planned.blank()
        self._record.shared_device = job.shared_device
        self._store = Store(job.folder)
        self._training: train.Training | None = None

    def execute(self) -> None:
        """Do the run and write its record, whatever becomes of it.

        Raises:
            InterruptedTraining: the stop signal came; no record is written, a checkpoint stands.
            StoreError: the record or the checkpoint cannot be written.
        """
        record = self._record
        self._say("setup")
        try:
            self._solve()
        except (train.InterruptedTraining, StoreError):
            raise
        except DivergedError as error:
            self._fail(Status.DIVERGED, _message(error), with_traceback=False)
        except (MemoryError, torch.OutOfMemoryError) as error:
            self._fail(Status.OOM, _first_line(error))
        except OtbenchError as error:
            self._fail(Status.ERROR, _message(error), with_traceback=False)
        except BaseException as error:  # whatever a plugin raises becomes its row, sys.exit() and the like too
            # torch reports the host's lack of memory as a RuntimeError
            out_of_memory = isinstance(error, RuntimeError) and "t allocate memory" in _message(error)
            reason = _first_line(error).partition("DefaultCPUAllocator: ")[2] or _first_line(error)
            self._fail(*(Status.OOM, reason) if out_of_memory else (Status.ERROR, f"{type(error).__name__}: {reason}"))
        self._store.write(record)
        if self._job.until_step is None:  # a checkpoint would be that of the whole run
            self._store.checkpoint(record.id).unlink(missing_ok=True)
        self._say("end")

    def _fail(self, status: Status, reason: str, *, with_traceback: bool = True) -> None:
        self._record.end(status, reason, traceback=traceback.format_exc() if with_traceback else "")
        if self._training is not None:
            self._take(self._training)

    def _say(self, phase: str, progress: train.Progress | None = None) -> None:
        event = Event(id=self._record.id, phase=phase, record=self._record if phase == "train" else None)
        if progress is not None:
            event.progress, event.step = progress(), progress.step
        _send(self._events, event)

    def _take(self, training: train.Training) -> None:
        self._record.curve = training.curve
        self._record.start = training.curve[0].metrics if training.curve else {}
        self._record.counts.steps = training.steps
        self._record.counts.check_every = training.check_every
        self._record.counts.resumed = training.resumed

    def _solve(self) -> None:
        """Build, train, measure; or say in the record why there is nothing to train."""
        record = self._record
        with timed(record.times, "build_s"):
            built = self._build()
        if built.solver.scored_by_task:
            with timed(record.times, "eval_s"):
                record.metrics = dict(built.instance.task_rows().get(self._spec.solver) or {})
            declined = "" if record.metrics else f"this task has no row of {self._spec.solver}"
        else:
            assert issubclass(built.solver.cls, Solver)
            support = built.solver.cls.supports(built.instance.problem)
            declined = "" if support.ok else support.reason or "the solver declines this task and does not say why"
        if declined or built.solver.scored_by_task:
            record.end(Status.SKIPPED if declined else Status.OK, declined)
            return
        solver, progress, training = self._train(built)
        self._measure(built.instance, solver, progress, training)

    def _build(self) -> _Built:
        """Load the plugins and make the instance; note in the record what they are."""
        spec, record, device = self._spec, self._record, self._device
        torch.set_num_threads(spec.threads)
        registry = Registry(self._job.plugins)
        solver_entry = registry.load(registry.find(spec.solver, "solver", "baseline"))
        task_entry = registry.load(registry.find(spec.task, "task"))
        record.environment = environment(device, spec.threads)
        train.seed_everything(spec.seed)
        if device.type == "cuda":  # the first call creates the context, which is nobody's training time or memory
            torch.zeros(1, device=device)
            synchronize(device)
        task = task_entry.cls(task_entry.config(**spec.task_config), data_dir=self._job.data_dir)
        dtype = torch.float64 if spec.dtype == "float64" else torch.float32
        instance = task.build(seed=spec.seed, device=device, dtype=dtype)
        record.instance = task.describe()
        record.facts = dict(instance.facts)
        record.metric_info = list(task.metrics)
        record.published = task.published()
        return _Built(instance, solver_entry, solver_entry.config(**spec.solver_config))

    def _train(self, built: _Built) -> tuple[Solver[Config], train.Progress, train.Training]:
        """Make the solver, or take up an interrupted run, and train to the end of the budget."""
        spec, record, times = self._spec, self._record, self._record.times
        problem = built.instance.problem
        checkpoint = saved = None
        with timed(times, "build_s"):
            if spec.kind == "solver":
                _load_lazy_parts(self._device)
            gc.collect()
            memory = PeakMemory(self._device)
            if spec.kind == "solver" and self._job.until_step is None:
                checkpoint = self._store.checkpoint(record.id)
                saved = train.read_checkpoint(checkpoint, self._device)
        progress = train.Progress(train.Budget(spec.steps, spec.time_limit))
        with timed(times, "setup_s"):
            memory.start()
            solver = _make(built, spec, progress)
            synchronize(self._device)
            memory.stop()
        record.counts.directions = solver.directions_trained
        record.settings = {} if solver.settings is None else dataclasses.asdict(solver.settings)
        with timed(times, "other_s"):
            before = fingerprints(solver)

        def report(training: train.Training, progress: train.Progress) -> None:
            self._take(training)
            self._say("train", progress)

        trainer = train.Trainer(
            solver,
            progress,
            evaluate=lambda: self._evaluate(built.instance, solver, final=False)[1],
            memory=memory,
            checkpoint=checkpoint,
            resume=saved,
            until_step=self._job.until_step if spec.kind == "solver" else None,
            stop=self._stop.is_set,
            report=report,
        )
        del saved  # the trainer lets go of it once it has gone on from there
        self._training = trainer.training
        trainer.training.times = times
        training = trainer.run()
        self._take(training)
        if len(self._job.runs) == 1:
            record.memory = memory.read()
        record.counts.samples = problem.source.drawn + problem.target.drawn
        with timed(times, "other_s"):
            after = fingerprints(solver)
        record.counts.networks_moved = {name: after[name] != before[name] for name in after if name in before}
        record.counts.function_evaluations = solver.function_evaluations
        return solver, progress, training

    def _measure(
        self, instance: Instance, solver: Solver[Config], progress: train.Progress, training: train.Training
    ) -> None:
        """Evaluate the trained maps, time inference, keep pictures; of a run cut short, take its last point."""
        record = self._record
        self._say("evaluate", progress)
        record.counts.parameters, record.counts.stored_bytes = evaluate.stored_size(solver.stored_modules())
        record.reads_label = solver.reads_label
        record.end(Status.OK)
        if training.cut:
            record.metrics = training.curve[-1].metrics
            return
        mapped, record.metrics = self._evaluate(instance, solver, final=True)
        with timed(record.times, "other_s"):
            forward, backward = evaluate.time_inference(solver, instance.test, seed=self._spec.seed)
            record.times.infer_fwd_s, record.times.infer_bwd_s = forward, backward
            last = CurvePoint(step=training.steps, train_s=progress.seconds, metrics=record.metrics)
            last.digest = weights_digest(solver)
            record.curve.append(last)
        broken = [name for name, value in record.metrics.items() if value != value or abs(value) == float("inf")]
        if broken:
            raise DivergedError(f"not finite at the end: {', '.join(broken)}")
        with timed(record.times, "other_s"):
            self._draw(instance, mapped)

    def _evaluate(self, instance: Instance, solver: Solver[Config], *, final: bool) -> tuple[Outputs, dict[str, float]]:
        with timed(self._record.times, "eval_s"):
            mapped = evaluate.apply_maps(
                solver, instance.test, seed=self._spec.seed, final=final, mean=instance.scores_mean
            )
            values = evaluate.score(instance, mapped)
            synchronize(self._device)
        return mapped, values

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
            record.end(record.status, stderr=f"no pictures: {type(error).__name__}: {_first_line(error)}")
            sys.stderr.write(f"{record.id}: {record.stderr}\n")


def _make(built: _Built, spec: RunSpec, progress: train.Progress) -> Solver[Config]:
    problem: Problem = built.instance.problem
    # A stream of its own, apart from those that draw pools and test data from the same run seed.
    seed = int(np.random.SeedSequence([spec.seed, _SOLVER_STREAM]).generate_state(1, np.uint64)[0] >> 1)
    generator = torch.Generator(problem.device).manual_seed(seed)
    assert issubclass(built.solver.cls, Solver)
    return built.solver.cls(problem, built.config, Context(problem.device, problem.dtype, generator, progress))


def _load_lazy_parts(device: torch.device) -> None:
    """Make torch import what it loads at first use (optimisers, autograd), so that no solver pays for it."""
    weight = torch.zeros(1, device=device, requires_grad=True)
    optimiser = torch.optim.Adam([weight])
    weight.sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def _message(error: BaseException) -> str:
    try:
        return str(error).strip()
    except BaseException:  # a plugin's own __str__
        return ""


def _first_line(error: BaseException) -> str:
    return (_message(error) or type(error).__name__).splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
