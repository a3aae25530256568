"""`otbench.fit`: maps between two samples, trained in this process by the harness's own loop."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from otbench.api import given
from otbench.api.given import PathLike, Points
from otbench.api.maps import Transport
from otbench.api.progress import Line
from otbench.config import Config, Value
from otbench.errors import UsageError
from otbench.harness import train
from otbench.harness.measure import PeakMemory
from otbench.harness.plan import Request, check_numbers, settings_of, standardises
from otbench.harness.units import moved, standardised
from otbench.plugins.kept import origin_of
from otbench.plugins.registry import Registry
from otbench.problem import Cost, PoolMeasure, PowerCost, Problem, QuadraticCost
from otbench.registration import Registration
from otbench.solver import Context, Solver
from otbench.transport import in_user_units

_SPLIT_STREAM = 2


@given.public
def fit(
    x: Points,
    y: Points,
    *,
    solver: str,
    preset: str = "quick",
    seed: int = 0,
    x_label: Points | None = None,
    y_label: Points | None = None,
    cost: str | Cost = "quadratic",
    exponent: float | None = None,
    standardise: bool | None = None,
    validation: float = 0.1,
    steps: int | None = None,
    time_limit: float | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype | type = "float32",
    plugins: PathLike | Sequence[PathLike] = (),
    progress: bool | None = None,
    **parameters: Value,
) -> Transport:
    """Train maps from the measure that `x` was drawn from to that of `y`, and return them.

    Ctrl-C ends training early, with a warning, and gives the maps so far. Global random states, threads and modes of
    torch are afterwards as they were.

    Args:
        x: source points, shape (n, *shape): an array, a tensor, or what NumPy makes an array of.
        y: target points, shape (m, *shape).
        solver: name of a solver or baseline, as `otbench.solvers()` lists them.
        preset: its parameters and training length: "smoke" (seconds), "quick" (about a minute), "full", "paper".
        seed: of all randomness of training.
        x_label: classes of `x`, shape (n,), whole numbers from 0, -1 = unlabelled. With them, class k goes to class k.
        y_label: classes of `y`, shape (m,).
        cost: "quadratic", |x - y|^2 / 2, or "power", sum_i |x_i - y_i|^p / p with p = `exponent`.
        exponent: of the cost "power", > 1.
        standardise: train solvers on centred points, both sides in units of one common scale, where the cost is
            quadratic and points are no images; None = yes, but for the preset "paper". The maps take and give points as
            they are.
        validation: share of the points of both sides that is set aside, on which some solvers choose the best network;
            for solvers that train, where there are no classes.
        steps: training length in steps, instead of the preset's.
        time_limit: training length in seconds, instead of the preset's steps.
        device: "cpu", "cuda", "cuda:N" or "auto": that of `x` if it is a GPU, else the first GPU if there is one.
        dtype: floating type of training: "float32" or "float64".
        plugins: files that register more solvers.
        progress: whether to show how far training is; None = on a terminal and in a notebook.
        **parameters: of the solver, by name: `otbench.solvers(name)` lists them.

    Raises:
        UsageError: an argument is wrong, or the solver cannot take such a problem.
        PluginError: the solver's file cannot be loaded.
        DivergedError: training left the finite numbers.
    """
    registry = Registry(given.plugin_files(plugins))
    entry = registry.find(given.text("solver", solver), "solver", "baseline")
    note = registry.load(entry)
    if note.scored_by_task:
        raise UsageError(f"{entry.name} is a row that tasks score from their own data; it has no map to fit")
    request = Request(
        solvers=entry.name,
        task="",
        preset=given.text("preset", preset),
        steps=given.whole("steps", steps),
        time_limit=given.number("time-limit", time_limit),
        standardise={None: None, True: "on", False: "off"}[given.flag("standardise", standardise)],
    )
    check_numbers(request)
    seed = given.seed(seed)
    line = given.flag("progress", progress)
    share = _share(validation)
    values = {name: given.plain_value(value) for name, value in parameters.items()}
    config, length = settings_of(note, values, request)
    with _undisturbed():
        problem = _problem(
            (given.points("x", x), given.points("y", y)),
            (x_label, y_label),
            cost=_cost(cost, exponent),
            standardise=standardises(note, request),
            validation=share if note.kind == "solver" else 0.0,
            device=device,
            dtype=given.dtype_of(dtype),
            seed=seed,
        )
        assert issubclass(note.cls, Solver)
        support = note.cls.supports(problem)
        if not support.ok:
            raise UsageError(f"{entry.name} cannot take this problem: {support.reason or 'it does not say why'}")
        _seed(seed, problem.device)
        budget = train.Budget(length, None if note.kind == "baseline" else request.time_limit)
        made = _trained(note, config, problem, budget, seed=seed, line=line)
        made.origin = origin_of(entry, problem)
    if problem.classes and not made.reads_label and note.cls.supports(_without_classes(problem)).ok:
        given.warn([f"{entry.name} goes by no classes: x_label and y_label made no difference"])
    return made


def _trained(
    note: Registration, config: Config, problem: Problem, budget: train.Budget, *, seed: int, line: bool | None
) -> Transport:
    """Train to the end of the budget or until Ctrl-C; return the maps."""
    # the harness's own stream: the same points and seed give the same maps there and here
    generator = train.stream(seed, train.SOLVER_STREAM, problem.device)
    progress = train.Progress(budget)
    with Line(line) as shown, _ctrl_c() as asked:
        shown.show(f"{note.name}: set-up")
        solver = note.cls(problem, config, Context(problem.device, problem.dtype, generator, progress))

        def report(training: train.Training, progress: train.Progress) -> None:
            shown.show(f"{note.name}: {progress():.0%}, step {progress.step}, {progress.seconds:.0f} s of training")

        trainer = train.Trainer(
            solver,
            progress,
            memory=_NotMeasured(problem.device),
            stop=asked.is_set,
            report=report,
        )
        try:
            trainer.run()
        except train.InterruptedTraining:
            reached = f"step {progress.step}, {progress():.0%} of training"
            given.warn([f"interrupted at {reached}: these are the maps so far"], deeper=1)
    made = in_user_units(solver.transport(), problem)
    return cast("Transport", made.eval().requires_grad_(False))


class _NotMeasured(PeakMemory):
    """Leaves the marks of this process's memory, which are its owner's, alone."""

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


def _problem(
    sides: tuple[Tensor, Tensor],
    classes: tuple[Points | None, Points | None],
    *,
    cost: Cost,
    standardise: bool,
    validation: float,
    device: str | torch.device,
    dtype: torch.dtype,
    seed: int,
) -> Problem:
    """Return the problem between two samples; without classes, with a share of both set aside.

    Raises:
        UsageError: shapes, labels or the device are wrong.
    """
    names = ("x_label", "y_label")
    where = given.device_of(device, *sides)
    found = [given.labels(*args) for args in zip(names, classes, map(len, sides), strict=True)]
    if (found[0] is None) != (found[1] is None):
        raise UsageError("give classes of both sides, x_label and y_label, or of neither")
    number = max((int(label.max()) + 1 for label in found if label is not None), default=0)
    if found[0] is not None and not number:
        raise UsageError("x_label and y_label are -1 for all points: give classes, or leave both out")
    draw = np.random.Generator(np.random.PCG64([seed, _SPLIT_STREAM]))
    measures = []
    for points, label in zip(sides, found, strict=True):
        x = points.to(where)
        if label is not None:
            measures.append(PoolMeasure(x, label=label.to(where), classes=number))
            continue
        order = torch.from_numpy(draw.permutation(len(x))).to(where)
        aside = min(int(validation * len(x)), len(x) - 2)
        kept, held = order[aside:].sort().values, order[:aside].sort().values
        measures.append(PoolMeasure(x[kept], validation=x[held] if aside else None))
    problem = Problem(measures[0], measures[1], cost, where, dtype)
    if standardise:
        problem = standardised(problem, torch.Generator(where))
    if problem.units is None:
        source, target = (moved(side, torch.zeros((), device=where), 1.0, dtype) for side in measures)
        problem = dataclasses.replace(problem, source=source, target=target)
    if problem.units is not None and problem.units.scale < torch.finfo(dtype).tiny:  # maps divide by it
        raise UsageError(f"the points lie too close together for {str(dtype).removeprefix('torch.')}: scale them")
    return problem


def _without_classes(problem: Problem) -> Problem:
    source, target = (PoolMeasure(side.pool) for side in (problem.source, problem.target) if side.pool is not None)
    return dataclasses.replace(problem, source=source, target=target)


def _cost(cost: object, exponent: object) -> Cost:
    power = given.number("exponent", exponent)
    if isinstance(cost, Cost) or cost == "quadratic":
        if power is not None:
            raise UsageError('exponent: belongs to cost="power"; give both, or neither')
        return cost if isinstance(cost, Cost) else QuadraticCost()
    if cost != "power":
        raise UsageError(f'cost {str(cost)[:40]!r}: use "quadratic" or "power"')
    if power is None or not 1 < power < float("inf"):
        raise UsageError(f'exponent {exponent}: cost="power" needs a number greater than 1')
    return PowerCost(power)


def _share(value: object) -> float:
    share = given.number("validation", value)
    if share is None or not 0 <= share <= 0.9:
        raise UsageError(f"validation {value}: must be a share from 0 to 0.9")
    return share


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Give the caller's random states, threads and modes back as they were."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (the global state is the point)
    threads, usual = torch.get_num_threads(), torch.get_default_dtype()
    cards = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(cards), torch.inference_mode(False), torch.enable_grad():
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
            torch.set_default_dtype(usual)
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)


def _seed(seed: int, device: torch.device) -> None:
    """Seed the global states for third-party code that draws from them; of GPUs only the one in use."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@contextlib.contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """Note Ctrl-C instead of raising it, so that no step is cut in two; a second one raises."""
    asked = threading.Event()
    before: Any = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (None, signal.SIG_IGN):
        yield asked
        return

    def note(*_: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
