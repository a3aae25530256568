"""The process that trains: it has the problem and the solver, and neither truth nor test data.

It leaves the maps at each point of the curve as files, and says so to the judge; nothing comes back.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch

from otbench.config import Config
from otbench.data.mapfile import ENDING
from otbench.errors import PluginError, StoreError
from otbench.harness import train
from otbench.harness.failures import failure, message
from otbench.harness.measure import PeakMemory, fingerprints, synchronize, timed
from otbench.harness.messages import CANNOT_WRITE, Kept, Report, Training
from otbench.harness.spool import file_digest, read_problem
from otbench.harness.units import in_own_units, standardised
from otbench.plugins.registry import load_entry
from otbench.problem import Problem
from otbench.records.record import Counts, CurvePoint, Memory, RunSpec, Times
from otbench.registration import Registration
from otbench.solver import Context, Solver
from otbench.transport import Transport, in_user_units

_END = "end"
_LARGE_BLOCK = 2**25 - 2**16
"""Bytes: just below the largest block that the C library learns from."""

Say = Callable[[Report], None]


def main(training: Training, reports: int) -> int:
    """Train, and say to the file descriptor `reports` what comes of it; return the exit code."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with os.fdopen(reports, "w", encoding="utf-8", buffering=1) as out:
        work(training, lambda report: print(report.model_dump_json(exclude_defaults=True), file=out), stop.is_set)
    return 0


def work(training: Training, say: Say, stop: Callable[[], bool] = lambda: False) -> None:
    """Train as `training` says; the last report says how it ended."""
    run = _Run(training, say, stop)
    try:
        run.execute()
    except train.InterruptedTraining:
        run.say("interrupted")
    except StoreError as error:
        run.say(CANNOT_WRITE, message=message(error))
    except BaseException as error:  # whatever a plugin raises becomes its row
        run.say("failed", failure=failure(error))


@dataclass
class _Run:
    training: Training
    send: Say
    stop: Callable[[], bool]

    def __post_init__(self) -> None:
        self.times, self.counts, self.memory = Times(), Counts(), Memory()
        spec = self.training.spec
        self.progress = train.Progress(train.Budget(spec.steps, spec.time_limit, spec.cpu_limit))
        self.settings: dict[str, object] = {}
        self.scale: float | None = None

    def say(self, kind: str, **more: object) -> None:
        values = {"progress": self.progress(), "step": self.progress.step, "times": self.times, "counts": self.counts}
        self.send(Report.model_validate({"kind": kind} | values | {"memory": self.memory, "scale": self.scale, **more}))

    def execute(self) -> None:
        spec, times, counts = self.training.spec, self.times, self.counts
        device = torch.device(spec.device)
        with timed(times, "build_s"):
            torch.set_num_threads(spec.threads)
            if device.type == "cuda":  # the first call makes the context, which is nobody's training time or memory
                torch.zeros(1, device=device)
                synchronize(device)
            problem = read_problem(self.training.problem, self.training.task)
            row = load_entry(self.training.entry)
            assert issubclass(row.cls, Solver)
            train.seed_everything(spec.seed)
            support = row.cls.supports(problem)
        if not support.ok:
            self.say("skipped", message=support.reason or "the solver declines this task and does not say why")
            return
        if spec.kind == "solver":
            with timed(times, "setup_s"):
                problem = _in_units(problem, spec)
                self.scale = None if problem.units is None else float(problem.units.scale)
        with timed(times, "build_s"):
            if spec.kind == "solver":
                _load_lazy_parts(device)
            gc.collect()
            memory = PeakMemory(device)
            saved = self._saved(device)
        with timed(times, "setup_s"):
            memory.start()
            solver = _make(row, problem, spec, self.progress)
            synchronize(device)
            memory.stop()
        counts.directions = solver.directions_trained
        if solver.settings is not None:
            self.settings = dataclasses.asdict(solver.settings)
        with timed(times, "other_s"):
            before = fingerprints(solver)
        loop = train.Trainer(
            solver,
            self.progress,
            memory=memory,
            keep=lambda point: self._keep(solver, point),
            checkpoint=self.training.checkpoint,
            resume=saved,
            until_step=self.training.until_step,
            stop=self.stop,
            report=lambda training, progress: self._tell(training),
        )
        del saved  # the loop lets go of it once it has gone on from there
        loop.training.times = times
        try:
            training = loop.run()
        finally:
            self._note(loop.training)
        self.memory = memory.read()
        counts.samples = problem.source.drawn + problem.target.drawn
        with timed(times, "other_s"):
            after = fingerprints(solver)
            counts.networks_moved = {name: after[name] != before[name] for name in after if name in before}
            counts.function_evaluations = solver.function_evaluations
            end = None if training.cut else self._kept(solver, loop.point(), _END)
        self.say("done", kept=end, settings=self.settings)

    def _tell(self, training: train.Training) -> None:
        self._note(training)
        self.say("train")

    def _note(self, training: train.Training) -> None:
        self.counts.steps = training.steps
        self.counts.check_every = training.check_every
        self.counts.resumed = training.resumed

    def _saved(self, device: torch.device) -> train.Checkpoint | None:
        """Return the state of an interrupted run, its earlier points of the curve said again; None if there is none."""
        path = self.training.checkpoint
        saved = None if path is None else train.read_checkpoint(path, device)
        if saved is None:
            return None
        points = [CurvePoint.model_validate(point) for point in saved.curve]
        kept = [Kept(point=point, file=name, digest=self._digest(name)) for point in points for name in [_name(point)]]
        if not all(one.digest for one in kept):  # maps without which the curve has gaps
            return None
        for one in kept:
            self.say("point", kept=one)
        return saved

    def _keep(self, solver: Solver[Config], point: CurvePoint) -> None:
        self.say("point", kept=self._kept(solver, point, _name(point)), settings=self.settings)

    def _kept(self, solver: Solver[Config], point: CurvePoint, name: str) -> Kept:
        maps: object = solver.transport()
        if not isinstance(maps, Transport):
            owner = self.training.entry.name
            raise PluginError(f"{owner}: transport() must return a Transport; it returned a {type(maps).__name__}")
        maps = in_user_units(maps, solver.problem)
        name = name.removesuffix(ENDING) + ENDING
        maps.save(self.training.maps / name)
        return Kept(point=point, file=name, digest=self._digest(name))

    def _digest(self, name: str) -> str:
        return file_digest(self.training.maps / name)


def _name(point: CurvePoint) -> str:
    return f"{point.step:012}{ENDING}"


def _in_units(problem: Problem, spec: RunSpec) -> Problem:
    if not spec.standardise:
        return in_own_units(problem)
    return standardised(problem, train.stream(spec.seed, train.UNITS_STREAM, problem.device))


def _make(row: Registration, problem: Problem, spec: RunSpec, progress: train.Progress) -> Solver[Config]:
    generator = train.stream(spec.seed, train.SOLVER_STREAM, problem.device)
    assert issubclass(row.cls, Solver)
    config = row.config(**spec.solver_config)
    return row.cls(problem, config, Context(problem.device, problem.dtype, generator, progress))


def _load_lazy_parts(device: torch.device) -> None:
    """Make torch load what it loads at first use (optimisers, autograd), so that no solver pays for it.

    The C library, too: once a block of this size has been freed, it takes smaller ones from memory that it holds, and
    no longer asks the system for each. Training is a sixth faster then for some solvers, and so it was when maps were
    evaluated in the same process.
    """
    torch.empty(_LARGE_BLOCK, dtype=torch.uint8)
    weight = torch.zeros(1, device=device, requires_grad=True)
    optimiser = torch.optim.Adam([weight])
    weight.sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step()
