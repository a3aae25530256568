"""The one training loop that every solver goes through: budget, clocks, curve, divergence, checkpoint.

The harness owns the loop, so that these are the same for everyone. Maps for the curve, validation and checkpoints
are made with the training clock stopped.
"""

from __future__ import annotations

import contextlib
import math
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from otbench.config import Config
from otbench.errors import DivergedError, StoreError
from otbench.harness.measure import PeakMemory, StepClock, synchronize, timed, weights_digest
from otbench.records.record import CurvePoint, Times
from otbench.solver import HasValidate, Solver, StepInfo

WARMUP_STEPS = 3
"""First steps of a run (allocation, autotuning): trained with, timed apart."""
CHECK_EVERY = {"cpu": 10, "cuda": 50}
"""Steps between two looks at the loss, which are the harness's only reads from the device."""
CHECKPOINT_SECONDS = 60.0
PROGRESS_SECONDS = 0.5
SOLVER_STREAM, UNITS_STREAM = 1, 3
"""Numbers of `stream`: what a solver draws from, and what moments of a measure without a pool are drawn with."""


@dataclass(frozen=True)
class Budget:
    """Training length: steps, seconds on the training clock, CPU seconds, or whichever ends first.

    With none of them, a solver runs until it says done. CPU seconds are those of the process between
    pauses, as in `Times.train_cpu_s`: what else the machine does takes hardly any of them.
    """

    steps: int | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None


class InterruptedTraining(Exception):  # noqa: N818  (a request, not an error)
    """Raised when the stop signal came; a checkpoint was written."""


@dataclass
class Progress:
    """Where training is: shared by the loop, the solver's schedules and the display."""

    budget: Budget
    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __call__(self) -> float:
        """Return the used share of the budget, in [0, 1]; by steps alone (repeatable) unless seconds are limited."""
        budget = self.budget
        used = ((self.step, budget.steps), (self.seconds, budget.seconds), (self.cpu_seconds, budget.cpu_seconds))
        return min(1.0, max(spent / limit if limit else 0.0 for spent, limit in used))


@dataclass
class Training:
    """What the loop measured. `cut` says that it stopped at `until_step`, before the end of its budget."""

    curve: list[CurvePoint] = field(default_factory=list)
    times: Times = field(default_factory=Times)
    steps: int = 0
    check_every: int = 1
    resumed: int = 0
    cut: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """The state of an unfinished run, as its file holds it."""

    solver: dict[str, object]
    step: int
    seconds: float
    durations: Tensor
    cpu_s: float
    validate_s: float
    next_point: int
    curve: list[dict[str, object]]
    resumed: int
    drawn: list[int]
    random: dict[str, object]


def read_checkpoint(path: Path, device: torch.device) -> Checkpoint | None:
    """Return what an interrupted run left at `path`; None if nothing.

    A file that cannot be read is removed, and said so: no result is lost, and the run begins again.
    """
    if not path.exists():
        return None
    try:
        return Checkpoint(**torch.load(path, map_location=device, weights_only=True))
    except Exception:  # torch raises what the bytes happen to look like
        path.unlink(missing_ok=True)
        sys.stderr.write(f"checkpoint {path} could not be read; the run begins again\n")
        return None


class Trainer:
    """Runs one solver to the end of its budget."""

    def __init__(
        self,
        solver: Solver[Config],
        progress: Progress,
        *,
        memory: PeakMemory,
        keep: Callable[[CurvePoint], None] = lambda point: None,
        checkpoint: Path | None = None,
        resume: Checkpoint | None = None,
        until_step: int | None = None,
        stop: Callable[[], bool] = lambda: False,
        report: Callable[[Training, Progress], None] = lambda training, progress: None,
    ) -> None:
        """Prepare a run.

        Args:
            solver: what to train.
            progress: the counter that the solver's schedules read; its budget ends the run.
            memory: peak meter, started and stopped around training segments.
            keep: called with each point of the curve, to keep the maps as they are then: at step 0, at log-spaced
                steps and not at the end.
            checkpoint: where to keep the state of an unfinished run; None = nowhere.
            resume: the state to go on from; None = from the beginning.
            until_step: where to stop with a last point of the curve, however long the budget is; None = at its end.
            stop: asked at every step; True ends the run with a checkpoint.
            report: called with the curve so far at each of its points, and now and then with the clock running: it
                must be quick.
        """
        self.training = Training(check_every=CHECK_EVERY[solver.context.device.type])
        self._solver = solver
        self._progress = progress
        self._memory = memory
        self._keep = keep
        self._checkpoint = checkpoint
        self._from = resume
        self._until_step = until_step
        self._stop = stop
        self._report = report
        self._clock = StepClock(solver.context.device)
        self._cpu_s = 0.0
        self._segment_cpu = 0.0
        self._validate_every = solver.validate_every if isinstance(solver, HasValidate) else 0
        self._next_point = 1

    def run(self) -> Training:
        """Train until the budget is used or the solver says done; return the measurements.

        Raises:
            DivergedError: the loss is not finite; `self.training` keeps the curve so far.
            InterruptedTraining: `stop()` said so.
            StoreError: the checkpoint cannot be written.
        """
        self._resume()
        if self._progress.step == 0:
            self._point({})
        budget, training, progress, clock = self._progress.budget, self.training, self._progress, self._clock
        last_report = last_checkpoint = perf_counter()
        self._start()
        done = budget.steps == 0
        training.cut = self._until_step == 0 and not done
        while not (done or training.cut):
            clock.begin()
            info = self._solver.step()
            clock.end()
            progress.step += 1
            progress.seconds = clock.seconds
            if budget.cpu_seconds is not None:
                progress.cpu_seconds = self._cpu_s + process_time() - self._segment_cpu
            done = (
                info.done
                or progress.step == budget.steps
                or (budget.seconds is not None and progress.seconds >= budget.seconds)
                or (budget.cpu_seconds is not None and progress.cpu_seconds >= budget.cpu_seconds)
            )
            training.cut = progress.step == self._until_step and not done
            point_due = (progress.step >= self._next_point or training.cut) and not done
            if done or point_due or progress.step % training.check_every == 0 or progress.step <= WARMUP_STEPS:
                self._look(info)
            now = perf_counter()
            if now - last_report > PROGRESS_SECONDS:
                self._summarise()
                self._report(training, progress)
                last_report = now
            ending = done or training.cut
            validation_due = self._validate_every and progress.step % self._validate_every == 0 and not ending
            stopping = self._stop() and not ending
            checkpoint_due = self._checkpoint is not None and now - last_checkpoint > CHECKPOINT_SECONDS and not ending
            if point_due or validation_due or stopping or checkpoint_due:
                self._pause()
                if point_due:
                    self._point(info.scalars)
                if validation_due:
                    done = self._validate()
                if stopping or checkpoint_due:
                    with timed(training.times, "other_s"):
                        self._save()
                    last_checkpoint = perf_counter()
                if stopping:
                    raise InterruptedTraining
                self._start()
        self._pause()
        return training

    def _start(self) -> None:
        with timed(self.training.times, "other_s"):
            self._memory.start()
        self._segment_cpu = process_time()

    def _pause(self) -> None:
        times = self.training.times
        times.other_s = (times.other_s or 0.0) + self._clock.pause()
        self._cpu_s += process_time() - self._segment_cpu
        with timed(times, "other_s"):
            self._memory.stop()
            self._progress.seconds = self._clock.seconds
            self._summarise()

    def _look(self, info: StepInfo) -> None:
        loss = _number(info.loss)
        self._clock.flush()
        if not math.isfinite(loss):
            self._pause()
            raise DivergedError(f"the loss is {loss} at step {self._progress.step}")

    def _point(self, scalars: Mapping[str, Tensor | float]) -> None:
        """Keep the maps and report, the clock stopped."""
        with timed(self.training.times, "other_s"):
            self.training.curve.append(self.point(scalars))
            self._keep(self.training.curve[-1])
            self._next_point = max(self._progress.step + 1, 2 * self._progress.step)
            self._report(self.training, self._progress)

    def point(self, scalars: Mapping[str, Tensor | float] = MappingProxyType({})) -> CurvePoint:
        """Return where training is, without metrics; between two segments of training."""
        problem = self._solver.problem
        return CurvePoint(
            step=self._progress.step,
            train_s=self._progress.seconds,
            train_cpu_s=self._cpu_s,
            samples=problem.source.drawn + problem.target.drawn,
            scalars={name: _number(value) for name, value in scalars.items()},
            digest=weights_digest(self._solver),
        )

    def _validate(self) -> bool:
        """Let the solver look at its validation pool, the clock stopped; return True if it says that it is done."""
        assert isinstance(self._solver, HasValidate)
        with timed(self.training.times, "validate_s"):
            verdict = self._solver.validate()
            synchronize(self._solver.context.device)
        return verdict.done

    def _summarise(self) -> None:
        durations = np.frombuffer(self._clock.durations, dtype=np.float64)
        warm, rest = durations[:WARMUP_STEPS], durations[WARMUP_STEPS:]
        times = self.training.times
        times.warmup_s, times.train_s, times.train_cpu_s = float(warm.sum()), float(rest.sum()), self._cpu_s
        times.validate_s = times.validate_s or 0.0
        if len(durations):
            p10, median, p90 = np.quantile(rest if len(rest) else warm, [0.1, 0.5, 0.9]) * 1000
            times.step_ms, times.step_ms_p10, times.step_ms_p90 = float(median), float(p10), float(p90)
        self.training.steps = self._progress.step

    def _save(self) -> None:
        if self._checkpoint is None:
            return
        state = Checkpoint(
            solver=self._solver.state_dict(),
            step=self._progress.step,
            seconds=self._progress.seconds,
            durations=torch.tensor(self._clock.durations, dtype=torch.float64),
            cpu_s=self._cpu_s,
            validate_s=self.training.times.validate_s or 0.0,
            next_point=self._next_point,
            curve=[point.model_dump() for point in self.training.curve],
            resumed=self.training.resumed,
            drawn=[self._solver.problem.source.drawn, self._solver.problem.target.drawn],
            random=_random_state(),
        )
        temporary = self._checkpoint.with_suffix(".tmp")
        try:
            self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
            torch.save(vars(state), temporary)
            temporary.replace(self._checkpoint)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise StoreError(f"cannot write the checkpoint '{self._checkpoint}': {error}") from error

    def _resume(self) -> None:
        state, self._from = self._from, None  # not kept in memory while training
        if state is None:
            return
        self._solver.load_state_dict(state.solver)
        self._progress.step = state.step
        self._progress.seconds = state.seconds
        self._clock.extend(state.durations.tolist())
        self._cpu_s, self.training.times.validate_s = state.cpu_s, state.validate_s
        self._progress.cpu_seconds = state.cpu_s
        self._next_point = state.next_point
        self.training.curve = [CurvePoint.model_validate(point) for point in state.curve]
        self.training.resumed = state.resumed + 1
        self._solver.problem.source.drawn, self._solver.problem.target.drawn = state.drawn
        _set_random_state(state.random)


def _number(value: Tensor | float) -> float:
    return float(value.detach()) if isinstance(value, Tensor) else float(value)


def stream(seed: int, number: int, device: torch.device) -> torch.Generator:
    """Return a generator on `device`, apart from those with another `number`, and from pools and test data."""
    state = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> 1
    return torch.Generator(device).manual_seed(int(state))


def seed_everything(seed: int) -> None:
    """Seed the global random states of Python, NumPy and torch, for third-party code that draws from them."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (the global state is the point)
    torch.manual_seed(seed)


def _random_state() -> dict[str, object]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return {
        "python": random.getstate(),
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def _set_random_state(state: dict[str, object]) -> None:
    python, numpy, cpu, cuda = state["python"], state["numpy"], state["torch"], state["cuda"]
    assert isinstance(python, tuple)
    assert isinstance(numpy, list)
    assert isinstance(cpu, Tensor)
    assert isinstance(cuda, list)
    random.setstate(python)
    np.random.set_state((numpy[0], numpy[1].cpu().numpy().astype(np.uint32), *numpy[2:]))  # noqa: NPY002
    torch.set_rng_state(cpu.cpu())
    if cuda:
        torch.cuda.set_rng_state_all([one.cpu() for one in cuda])
