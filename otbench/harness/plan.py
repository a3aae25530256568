"""From what a user asks to the list of runs: names, presets, grids, devices and limits, all checked before any run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from otbench.config import Config, Value, build_config, present_names
from otbench.errors import PluginError, UsageError
from otbench.files import file_digest
from otbench.harness.identity import INPUT, code_of, packages_of
from otbench.harness.messages import Planned
from otbench.harness.selection import Selection, as_grid, check_number, integers, parse
from otbench.names import hint
from otbench.plugins.registry import Entry, Registry
from otbench.plugins.syntax import digest
from otbench.records.record import RunSpec
from otbench.registration import MAX_STEPS, PRESETS, Registration
from otbench.task import Task

HARD_LIMITS = {"smoke": 600.0, "quick": 3600.0, "full": 86_400.0, "paper": 604_800.0}
"""Wall-clock seconds after which a run's process is ended, unless `hard_limit` says otherwise."""
MAX_RUNS = 100_000


@dataclass(frozen=True)
class Request:
    """What a user asks for, as typed. See `otbench run --help` for the meaning of each field.

    `cards` names the GPUs of the machine where the runs will be done; None = of this one.
    """

    solvers: str
    task: str
    dim: str | None = None
    seeds: str = "0"
    steps: int | None = None
    time_limit: float | None = None
    cpu_limit: float | None = None
    hard_limit: float | None = None
    device: str = "auto"
    threads: int | None = None
    preset: str = "quick"
    jobs: int = 1
    standardise: str | None = None
    data_dir: Path | None = None
    cards: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Plan:
    """All runs of a request.

    Attributes:
        runs: in the order of solvers, instances and seeds; the executor shuffles them.
        closed_form: names whose runs of one instance may share a process.
        has_full: whether every solver declares the preset whose numbers may stand beside published ones.
        notes: what the user should know (plugins left out, presets missing).
    """

    runs: tuple[Planned, ...]
    closed_form: frozenset[str]
    has_full: bool
    notes: tuple[str, ...] = ()


@dataclass
class _Solver:
    entry: Entry
    registration: Registration
    grids: list[Mapping[str, str]] = field(default_factory=list)


def make_plan(request: Request, registry: Registry) -> Plan:
    """Check `request` and return its runs, sanity baselines included.

    Raises:
        UsageError: a name, parameter, preset, device or number is wrong.
        PluginError: a file asked for by name cannot be imported.
        DataError: a task's input is missing or wrong.
    """
    check_numbers(request)
    notes = [f"{problem.where}: left out: {problem.reason}" for problem in registry.problems]
    seeds = integers(request.seeds, option="--seeds")
    tasks = parse(request.task, option="--task")
    chosen = _chosen_solvers(request, registry, notes)
    device, device_class = resolve_device(request.device, request.cards)
    cores = os.cpu_count() or 1
    threads = request.threads or max(1, min(4, cores) // request.jobs)
    usual_limit = _usual_limit(request)

    runs: dict[str, Planned] = {}
    closed_form: set[str] = set()
    for selection in tasks:
        task_entry = registry.find(selection.name, "task")
        task_note = registry.load(task_entry)
        configs = _task_configs(selection, task_note, request, notes)
        _check_size(len(configs) * len(seeds) * sum(len(solver.grids) for solver in chosen))
        read: dict[Entry, tuple[dict[str, str], list[str]]] = {}  # code and packages, the same for all configs
        for config in configs:
            task = _task_class(task_note)(config, data_dir=request.data_dir)
            task.check()
            inputs = input_digests(task)
            rows = [*chosen, *_controls(task, chosen, registry, notes)]
            closed_form |= {row.registration.name for row in rows if row.registration.closed_form}
            for solver in rows:
                if solver.entry not in read:
                    read[solver.entry] = code_of(solver.entry, task_entry), packages_of(solver.entry, task_entry)
                code, packages = read[solver.entry]
                source = code | inputs
                for typed in solver.grids:
                    solver_config, steps = settings_of(solver.registration, typed, request)
                    for seed in seeds:
                        spec = RunSpec(
                            kind="baseline" if solver.registration.kind == "baseline" else "solver",
                            solver=solver.registration.name,
                            solver_config=solver_config.model_dump(),
                            task=task_note.name,
                            task_config=config.model_dump(),
                            preset=request.preset,
                            seed=seed,
                            steps=steps,
                            time_limit=None if solver.registration.kind == "baseline" else request.time_limit,
                            cpu_limit=None if solver.registration.kind == "baseline" else request.cpu_limit,
                            device=device,
                            threads=threads,
                            standardise=standardises(solver.registration, request),
                            hard_limit=request.hard_limit or usual_limit,
                        )
                        run_id = spec.run_id(source_hash(source), device_class)
                        command = _command(spec, typed, task_note, request)
                        label = _typed(spec.solver, typed)
                        if spec.kind == "solver" and request.standardise is not None:
                            label += f", standardise {request.standardise}"
                        runs[run_id] = Planned(
                            id=run_id,
                            spec=spec,
                            label=label,
                            source=source,
                            command=command,
                            solver=solver.entry,
                            task=task_entry,
                            scored_by_task=solver.registration.scored_by_task,
                            packages=packages,
                        )
    has_full = all("full" in solver.registration.presets for solver in chosen if solver.registration.kind == "solver")
    return Plan(tuple(runs.values()), frozenset(closed_form), has_full, tuple(notes))


def plan_again(spec: RunSpec, registry: Registry, *, data_dir: Path | None) -> Planned:
    """Return the run of a recorded `spec` under the code of today; parameters that came since have their defaults.

    Raises:
        UsageError: solver, task, device or a parameter is gone, or a value is refused.
        PluginError: solver or task cannot be imported.
        DataError: the task's input is missing or wrong.
    """
    solver, task_entry = registry.find(spec.solver, "solver", "baseline"), registry.find(spec.task, "task")
    note, row = registry.load(task_entry), registry.load(solver)
    solver_config = build_config(row.config, spec.solver_config, owner=f"{spec.kind} {spec.solver}")
    config = build_config(note.config, spec.task_config, owner=f"task {spec.task}")
    device, device_class = resolve_device(spec.device)
    task = _task_class(note)(config, data_dir=data_dir)
    task.check()
    source = code_of(solver, task_entry) | input_digests(task)
    values = {"solver_config": solver_config.model_dump(), "task_config": config.model_dump(), "device": device}
    again = spec.model_copy(update=values)
    run_id = again.run_id(source_hash(source), device_class)
    return Planned(
        id=run_id,
        spec=again,
        label=spec.solver,
        source=source,
        command="",
        solver=solver,
        task=task_entry,
        scored_by_task=row.scored_by_task,
        packages=packages_of(solver, task_entry),
    )


def _usual_limit(request: Request) -> float:
    """Return the wall-clock seconds after which a run is ended where the user names none."""
    limits = [2 * request.time_limit] if request.time_limit is not None else []
    limits += [20 * request.cpu_limit] if request.cpu_limit is not None else []  # on a busy machine
    return 600 + min(limits) if limits else HARD_LIMITS[request.preset]


def _controls(task: Task[Config], chosen: Sequence[_Solver], registry: Registry, notes: list[str]) -> Iterator[_Solver]:
    """Yield the baselines that this task always shows and that nobody asked for."""
    for name in task.controls():
        if all(solver.registration.name != name for solver in chosen):
            try:
                entry = registry.find(name, "baseline")
                yield _Solver(entry, registry.load(entry), [{}])
            except (PluginError, UsageError) as error:
                note = f"left out: {error}"
                notes += [note] if note not in notes else []


def _check_size(runs: int) -> None:
    if runs > MAX_RUNS:
        raise UsageError(f"the grid has more than {MAX_RUNS} runs; make it smaller")


def check_numbers(request: Request) -> None:
    """Look at the numbers and the preset of `request`.

    Raises:
        UsageError: one is out of range, or there is no such preset.
    """
    if request.preset not in PRESETS:
        raise UsageError(f"unknown preset '{request.preset}'{hint(request.preset, PRESETS, 'presets')}")
    for option, value, most in (
        ("--steps", request.steps, MAX_STEPS),
        ("--threads", request.threads, 1024),
        ("--jobs", request.jobs, 1024),
    ):
        check_number(option, value, 1, most)
    if request.standardise not in (None, "on", "off"):
        raise UsageError(f"--standardise {request.standardise}: use on or off")
    for option, limit in (
        ("--time-limit", request.time_limit),
        ("--cpu-limit", request.cpu_limit),
        ("--hard-limit", request.hard_limit),
    ):
        if limit is not None and not 0 < limit < float("inf"):
            raise UsageError(f"{option} {limit:g}: must be a positive number of seconds")


def _check_preset(note: Registration, preset: str) -> None:
    if note.kind == "solver" and preset not in note.presets:
        raise UsageError(f"{note.name} declares no preset '{preset}'; it has: {', '.join(note.presets)}")


def _chosen_solvers(request: Request, registry: Registry, notes: list[str]) -> list[_Solver]:
    """Return the solvers asked for, then the baselines that always stand beside them."""
    chosen: dict[str, _Solver] = {}

    def add(entry: Entry, typed: Sequence[Mapping[str, str]], *, required: bool) -> None:
        try:
            note = registry.load(entry)
            _check_preset(note, request.preset)
            typed = [present_names(note.config, point, owner=f"{entry.kind} {entry.name}") for point in typed]
        except (PluginError, UsageError) as error:
            if required:
                raise
            notes.append(f"left out: {error}")
            return
        chosen.setdefault(entry.name, _Solver(entry, note)).grids += typed

    for selection in parse(request.solvers, option="--solvers"):
        if selection.name == "all":
            if selection.grid:
                raise UsageError("--solvers all takes no parameters; name the solver whose parameters you set")
            for entry in registry.entries("solver", "baseline"):
                add(entry, [{}], required=False)
        else:
            _check_size(selection.size)
            add(registry.find(selection.name, "solver", "baseline"), selection.points(), required=True)
    for entry in registry.entries("baseline"):
        if entry.name not in chosen:
            add(entry, [{}], required=False)
            if entry.name in chosen and not chosen[entry.name].registration.always:
                del chosen[entry.name]
    return list(chosen.values())


def _task_configs(selection: Selection, note: Registration, request: Request, notes: list[str]) -> list[Config]:
    lists = _task_class(note).lists
    grid = {key: ("|".join(values),) if key in lists else values for key, values in selection.grid.items()}
    if request.dim is not None:
        if "dim" not in note.config.model_fields:
            raise UsageError(f"--dim: task {note.name} has no parameter 'dim'")
        if "dim" in grid:
            raise UsageError("--dim and dim=... in --task say the same thing twice; give one of them")
        grid["dim"] = tuple(str(value) for value in integers(request.dim, option="--dim"))
    replaced = {other for key in grid for other in _task_class(note).replaces.get(key, ())}
    preset = note.presets.get(request.preset, {})
    preset, said = _task_class(note).choose(preset, typed=frozenset(grid), data_dir=request.data_dir)
    notes += said
    preset = {key: value for key, value in preset.items() if key not in grid and key not in replaced}
    full = as_grid(preset) | grid
    wanted = Selection(note.name, full)
    _check_size(wanted.size)
    return [build_config(note.config, point, owner=f"task {note.name}") for point in wanted.points()]


def _task_class(note: Registration) -> type[Task[Config]]:
    assert issubclass(note.cls, Task)
    return note.cls


def settings_of(note: Registration, given: Mapping[str, Value], request: Request) -> tuple[Config, int | None]:
    """Return the parameters of a solver or baseline, and its training length in steps; None = no such limit.

    Args:
        note: the solver or baseline.
        given: parameters that the user sets, typed text or values.
        request: for preset, steps and limits of time.

    Raises:
        UsageError: it has no such preset or parameter, or a value is refused.
        PluginError: its preset holds a grid.
    """
    owner = f"{note.kind} {note.name}"
    _check_preset(note, request.preset)
    preset: dict[str, Value] = {}
    for key, value in note.presets.get(request.preset, {}).items():
        if isinstance(value, Sequence) and not isinstance(value, str):
            raise PluginError(f"{note.name}: preset '{request.preset}' holds a list for '{key}'")
        preset[key] = value
    steps = preset.pop("steps", None)
    config = build_config(note.config, preset | present_names(note.config, given, owner=owner), owner=owner)
    if note.kind == "baseline":
        return config, None
    if request.steps is not None:
        return config, request.steps
    timed = (request.time_limit, request.cpu_limit) != (None, None)
    return config, None if timed or steps is None else int(steps)


def standardises(note: Registration, request: Request) -> bool:
    """Say whether a row trains on standardised points: solvers do, but for the authors' settings, unless told."""
    if note.kind == "baseline":
        return False
    return request.preset != "paper" if request.standardise is None else request.standardise == "on"


def _command(spec: RunSpec, typed: Mapping[str, str], task: Registration, request: Request) -> str:
    """Return the command that repeats one run."""
    defaults = {name: field.default for name, field in task.config.model_fields.items()}
    preset = task.presets.get(request.preset, {})
    config = spec.task_config
    task_values = {k: v for k, v in config.items() if v is not None and (v != defaults[k] or k in preset)}
    words = ["python", "bench.py", "--solvers", _typed(spec.solver, typed), "--task", _typed(spec.task, task_values)]
    words += ["--preset", spec.preset, "--seeds", str(spec.seed), "--threads", str(spec.threads)]
    words += ["--device", spec.device]
    if request.steps is not None:
        words += ["--steps", str(request.steps)]
    if request.time_limit is not None:
        words += ["--time-limit", f"{request.time_limit:g}"]
    if request.cpu_limit is not None:
        words += ["--cpu-limit", f"{request.cpu_limit:g}"]
    if request.standardise is not None:
        words += ["--standardise", request.standardise]
    return shlex.join(words)


def _typed(name: str, values: Mapping[str, object]) -> str:
    inside = ",".join(f"{key}={value}" for key, value in values.items())
    return f"{name}[{inside}]" if inside else name


def input_digests(task: Task[Config]) -> dict[str, str]:
    """Return the digest of each file that the task's instance is made of, by a name for the record.

    Files of one name in several folders are numbered.
    """
    found: dict[str, str] = {}
    for path, said in {path.resolve(): path.name for path in task.inputs()}.items():
        number = sum(name.partition(" (")[0] == f"{INPUT}{said}" for name in found) + 1
        found[f"{INPUT}{said}" + (f" ({number})" if number > 1 else "")] = file_digest(path)[:16]
    return found


def source_hash(source: Mapping[str, str]) -> str:
    """Return one digest for all code and inputs in `source`."""
    return digest(json.dumps(source, sort_keys=True).encode())


def resolve_device(text: str, cards: tuple[str, ...] | None = None) -> tuple[str, str]:
    """Return (device, class of device): `cpu`, or `cuda:N` and the card's name.

    `auto` takes the first GPU if there is one. A GPU is looked at from a process of its own, because this one must
    never touch CUDA.

    Args:
        text: as typed.
        cards: names of the GPUs of another machine; None = look at this one.

    Raises:
        UsageError: the device is not of a known kind, or not there.
    """
    if text == "cpu":
        return "cpu", "cpu"
    if not re.fullmatch("auto|cuda(:[0-9]{1,3})?", text):
        raise UsageError(f"--device {text}: use cpu, cuda, cuda:N or auto")
    names = cards if cards is not None else gpus() if text != "auto" or _driver_present() else ()
    if text == "auto":
        return ("cuda:0", names[0]) if names else ("cpu", "cpu")
    number = int(text[5:]) if ":" in text else 0
    if number < len(names):
        return f"cuda:{number}", names[number]
    have = f"this machine has {len(names)} GPU(s)" if names else "no CUDA GPU can be used here"
    raise UsageError(f"--device {text}: {have}; use --device cpu, or install a driver and a CUDA build of torch")


def _driver_present() -> bool:
    return any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"))


@cache
def gpus() -> tuple[str, ...]:
    """Return the names of the GPUs of this machine, as a process of its own sees them."""
    code = (
        "import json, torch; "
        "n = torch.cuda.device_count() if torch.cuda.is_available() else 0; "
        "print(json.dumps([torch.cuda.get_device_name(i) for i in range(n)]))"
    )
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
        names = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return ()
    return tuple(str(name) for name in names)
