"""The process that does one run (or the closed-form baselines of one instance) and writes its record.

Talks to the parent in JSON lines: one job on standard input, events on standard output. When standard input closes,
the parent is gone: the worker keeps its checkpoint and ends. Started by `otbench.harness.execute`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import hashlib
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from otbench.errors import DivergedError, OtbenchError, StoreError
from otbench.harness.messages import EXIT_INTERRUPTED, EXIT_STORE, Event, Job, Planned
from otbench.records.record import (
    CurvePoint,
    RunSpec,
    Status,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

    from otbench.config import Config
    from otbench.harness.train import Progress, Training
    from otbench.problem import Problem
    from otbench.records.store import Store
    from otbench.solver import Solver
    from otbench.task import Instance, Outputs

ORPHAN_GRACE_SECONDS = 20.0
_SOLVER_STREAM = 1


@dataclass
class _Signals:
    stop: bool = False


def main() -> int:
    """Read one job from standard input and do it; return the exit code."""
    signals = _Signals()
    # What plugins print must not mix with events: keep the real standard output for us, point theirs at stderr.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    job = Job.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_watch_parent, args=(signals,), daemon=True).start()

    def stop(*_: object) -> None:
        signals.stop = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it sends SIGTERM

    from otbench.harness.train import InterruptedTraining

    try:
        for planned in job.runs:
            if signals.stop:
                return EXIT_INTERRUPTED
            _Run(job, planned, events, signals).execute()
    except InterruptedTraining:
        return EXIT_INTERRUPTED
    except StoreError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_STORE
    return 0


def _watch_parent(signals: _Signals) -> None:
    """Wait until the parent closes our standard input or dies; then stop, by force if the run does not react."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdin.buffer.read()
    signals.stop = True
    time.sleep(ORPHAN_GRACE_SECONDS)
    os._exit(EXIT_INTERRUPTED)


class _Run:
    """One run, from spec to record."""

    def __init__(self, job: Job, planned: Planned, events: IO[str], signals: _Signals) -> None:
        self._job = job
        self._events = events
        self._signals = signals
        self._spec = planned.spec
        self._record = planned.blank()
        self._record.shared_device = job.shared_device
        self._training: Training | None = None

    def execute(self) -> None:
        """Do the run and write its record, whatever becomes of it.

        Raises:
            InterruptedTraining: the stop signal came; no record is written, a checkpoint stands.
            StoreError: the record or the checkpoint cannot be written.
        """
        import torch

        from otbench.harness.train import InterruptedTraining
        from otbench.records.store import Store

        store = Store(self._job.folder)
        try:
            self._say("setup")
            self._solve(store)
            self._record.status = Status.OK if not self._record.reason else Status.SKIPPED
        except (InterruptedTraining, StoreError):
            raise
        except DivergedError as error:
            self._fail(Status.DIVERGED, str(error), with_traceback=False)
        except (MemoryError, torch.OutOfMemoryError) as error:
            self._fail(Status.OOM, _first_line(error))
        except OtbenchError as error:
            self._fail(Status.ERROR, str(error), with_traceback=False)
        except Exception as error:  # any error of a plugin becomes its row
            # torch reports the host's lack of memory as a RuntimeError
            out_of_memory = isinstance(error, RuntimeError) and "t allocate memory" in str(error)
            reason = _first_line(error).partition("DefaultCPUAllocator: ")[2] or _first_line(error)
            self._fail(*(Status.OOM, reason) if out_of_memory else (Status.ERROR, f"{type(error).__name__}: {reason}"))
        store.write(self._record)
        store.checkpoint(self._record.id).unlink(missing_ok=True)
        self._say("end")

    def _fail(self, status: Status, reason: str, *, with_traceback: bool = True) -> None:
        self._record.status = status
        self._record.reason = reason
        self._record.traceback = traceback.format_exc() if with_traceback else ""
        if self._training is not None:
            self._take(self._training)

    def _say(self, phase: str, progress: Progress | None = None) -> None:
        event = Event(id=self._record.id, phase=phase, record=self._record if phase == "train" else None)
        if progress is not None:
            event.progress, event.step, event.train_s = progress(), progress.step, progress.seconds
        with contextlib.suppress(OSError, ValueError):  # the parent is gone: the watcher thread ends us
            self._events.write(event.model_dump_json() + "\n")

    def _take(self, training: Training) -> None:
        setup, evaluation = self._record.times.setup_s, self._record.times.eval_s
        self._record.curve = training.curve
        self._record.start = training.curve[0].metrics if training.curve else {}
        self._record.times = training.times.model_copy(update={"setup_s": setup, "eval_s": evaluation})
        self._record.counts.steps = training.steps
        self._record.counts.check_every = training.check_every
        self._record.counts.resumed = training.resumed

    def _solve(self, store: Store) -> None:
        import torch

        from otbench.harness import evaluate
        from otbench.harness.measure import PeakMemory, environment, synchronize
        from otbench.harness.train import Budget, CheckpointError, Progress, Trainer, seed_everything
        from otbench.plugins.registry import Registry
        from otbench.solver import Solver, networks

        spec, record = self._spec, self._record
        torch.set_num_threads(spec.threads)
        device = torch.device(spec.device)
        dtype = torch.float64 if spec.dtype == "float64" else torch.float32
        registry = Registry(self._job.plugins)
        solver_entry = registry.load(registry.find(spec.solver, "solver", "baseline"))
        task_entry = registry.load(registry.find(spec.task, "task"))
        record.environment = environment(device, spec.threads)
        seed_everything(spec.seed)
        if device.type == "cuda":  # the first call creates the context, which is nobody's training time or memory
            torch.zeros(1, device=device)
            synchronize(device)

        task = task_entry.cls(task_entry.config(**spec.task_config), data_dir=self._job.data_dir)
        instance = task.build(seed=spec.seed, device=device, dtype=dtype)
        problem = instance.problem
        record.instance = task.describe()
        record.facts = dict(instance.facts)
        record.metric_info = list(task.metrics)
        record.published = task.published()
        if solver_entry.scored_by_task:
            row = instance.task_rows().get(spec.solver)
            record.metrics = dict(row or {})
            record.reason = "" if row else f"this task has no row of {spec.solver}"
            return
        solver_class = solver_entry.cls
        assert issubclass(solver_class, Solver)
        support = solver_class.supports(problem)
        if not support.ok:
            record.reason = support.reason
            return

        evaluation_seconds = 0.0

        def outputs(*, final: bool) -> Outputs:
            return evaluate.apply_maps(solver, instance.test, seed=spec.seed, final=final, mean=instance.scores_mean)

        def score(mapped: Outputs | None = None) -> dict[str, float]:
            nonlocal evaluation_seconds
            begin = time.perf_counter()
            values = evaluate.score(instance, mapped or outputs(final=False))
            synchronize(device)
            evaluation_seconds += time.perf_counter() - begin
            record.times.eval_s = evaluation_seconds
            return values

        def report(training: Training, progress: Progress) -> None:
            self._take(training)
            self._say("train", progress)

        def weights() -> str:
            return hashlib.sha256("".join(map(_fingerprint, networks(solver).values())).encode()).hexdigest()[:16]

        config = solver_entry.config(**spec.solver_config)
        if spec.kind == "solver":
            _load_lazy_parts(device)
        gc.collect()
        memory = PeakMemory(device)
        checkpoint = store.checkpoint(record.id) if spec.kind == "solver" else None
        while True:
            progress = Progress(Budget(spec.steps, spec.time_limit))
            begin = time.perf_counter()
            memory.start()
            solver = _make(solver_class, problem, config, spec, progress)
            synchronize(device)
            memory.stop()
            record.times.setup_s = time.perf_counter() - begin
            record.counts.directions = solver.directions_trained
            record.settings = {} if solver.settings is None else dataclasses.asdict(solver.settings)
            before = {name: _fingerprint(net) for name, net in networks(solver).items()}
            trainer = Trainer(
                solver,
                progress,
                evaluate=score,
                memory=memory,
                checkpoint=checkpoint,
                stop=lambda: self._signals.stop,
                report=report,
                digest=weights,
                until_step=self._job.until_step,
            )
            self._training = trainer.training
            try:
                training = trainer.run()
                break
            except CheckpointError as error:
                sys.stderr.write(f"checkpoint {error} could not be read; the run begins again\n")
                seed_everything(spec.seed)
                instance = task.build(seed=spec.seed, device=device, dtype=dtype)
                problem = instance.problem

        self._take(training)
        if training.steps == self._job.until_step != spec.steps:
            return
        self._say("evaluate", progress)
        if len(self._job.runs) == 1:
            record.memory = memory.read()
        counts = record.counts
        counts.samples = problem.source.drawn + problem.target.drawn
        counts.parameters, counts.stored_bytes = evaluate.stored_size(solver.stored_modules())
        counts.networks_moved = {
            n: _fingerprint(net) != before[n] for n, net in networks(solver).items() if n in before
        }
        counts.function_evaluations = solver.function_evaluations
        record.reads_label = solver.reads_label
        mapped = outputs(final=True)
        record.metrics = score(mapped)
        forward, backward = evaluate.time_inference(solver, instance.test, seed=spec.seed)
        record.times.infer_fwd_s, record.times.infer_bwd_s = forward, backward
        record.curve.append(
            CurvePoint(step=training.steps, train_s=progress.seconds, metrics=record.metrics, digest=weights())
        )
        broken = [name for name, value in record.metrics.items() if value != value or abs(value) == float("inf")]
        if broken:
            raise DivergedError(f"not finite at the end: {', '.join(broken)}")
        self._draw(store, instance, mapped)

    def _draw(self, store: Store, instance: Instance, mapped: Outputs) -> None:
        """Keep what a report draws; a failure costs the pictures, not the numbers, and stands in the record.

        Raises:
            StoreError: the file cannot be written, and so the record cannot either.
        """
        record = self._record
        try:
            record.pictures = store.write_pictures(record.id, instance.pictures(mapped))
        except StoreError:
            raise
        except Exception as error:  # any error of a plugin
            record.stderr = f"no pictures: {type(error).__name__}: {_first_line(error)}"
            sys.stderr.write(f"{record.id}: {record.stderr}\n")


def _make(
    cls: type[Solver[Config]],
    problem: Problem,
    config: Config,
    spec: RunSpec,
    progress: Progress,
) -> Solver[Config]:
    import numpy as np
    import torch

    from otbench.solver import Context

    # A stream of its own, apart from those that draw pools and test data from the same run seed.
    seed = int(np.random.SeedSequence([spec.seed, _SOLVER_STREAM]).generate_state(1, np.uint64)[0] >> 1)
    generator = torch.Generator(problem.device).manual_seed(seed)
    return cls(problem, config, Context(problem.device, problem.dtype, generator, progress))


def _load_lazy_parts(device: torch.device) -> None:
    """Make torch import what it loads at first use (optimisers, autograd), so that no solver pays for it."""
    import torch

    weight = torch.zeros(1, device=device, requires_grad=True)
    optimiser = torch.optim.Adam([weight])
    weight.sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def _fingerprint(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for tensor in (*module.parameters(), *module.buffers()):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
