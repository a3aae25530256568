"""Tuning by equal effort: every solver gets the same trials, of the same length, on the same instances.

A trial trains one choice of values on each pair, through the processes, the loop and the evaluation of any run. Its
length is in CPU seconds, so that a busy machine costs nobody steps. The first trial is the preset as it
stands. Instances and seeds are none that a report uses.
"""

from __future__ import annotations

import math
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otbench.config import Value, build_config
from otbench.errors import UsageError
from otbench.harness.execute import execute
from otbench.harness.identity import code_hash
from otbench.harness.messages import Planned
from otbench.harness.plan import Plan, Request, plan_again, settings_of, standardises
from otbench.plugins.registry import Registry
from otbench.records.record import Record, RunSpec, Status
from otbench.records.store import Store
from otbench.records.study import Pair, PairRun, Proposal, Protocol, Study, Trial
from otbench.registration import Registration

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

TRIALS = 8
CPU_SECONDS = 60.0
PRESET = "full"
FORWARD, BACKWARD = "uvp_fwd", "uvp_bwd"
WORST = 1e4
"""Score in % of a run that did not end well, and the largest of any run: a hundred times what identity maps have."""
LEAST = 1e-6
"""The smallest score in %: below it, a map is exact but for rounding."""
RANDOM_TRIALS = 3
"""Trials drawn at random after that of the preset; those after them are chosen by the sampler."""
TRIES = 5
"""How often the sampler is asked when it comes up with values that were tried; then values are drawn at random."""
DRAWS = 100
"""How often they are drawn when these were tried, too; then a trial is repeated, as in a space that is used up."""
FITTED_SECONDS = 600.0
"""Training of a reported run on one core, which the proposed steps fit."""

Evaluate = Callable[[Mapping[str, Value]], tuple[list[PairRun], Mapping[str, Value]]]
"""Runs one choice of values on all pairs; returns the runs, and the environment that they ran in."""


def pairs_of(registry: Registry) -> list[list[Pair]]:
    """Return the instances that tasks set aside for tuning, task by task: vectors first, then images.

    Raises:
        PluginError: a task cannot be imported.
    """
    notes = [registry.load(entry) for entry in registry.entries("task")]
    found = [[Pair(task=note.name, config=dict(config), seed=seed) for config, seed in note.tuning] for note in notes]
    return sorted((pairs for pairs in found if pairs), key=_of_images)


def protocol(cpu_seconds: float, pairs: Sequence[Pair]) -> Protocol:
    """Return the protocol that all solvers on these pairs share."""
    score = (
        "geometric mean over the pairs of the share of images that are not of the wanted class"
        if _of_images(pairs)
        else "geometric mean over the pairs of sqrt(forward UVP * backward UVP), of the forward UVP where there is no"
        " backward map"
    )
    return Protocol(
        preset=PRESET,
        cpu_seconds=cpu_seconds,
        threads=1,
        pairs=list(pairs),
        score=f"{score}; {WORST:g} % for a run that did not end well, and at most that",
        sampler=(
            f"trial 0: the preset as it stands; {RANDOM_TRIALS} trials at random; then optuna's tree-structured Parzen"
            " estimator, seeded by solver and trial; no values twice"
        ),
    )


def _of_images(pairs: Sequence[Pair]) -> bool:
    return any(pair.config.get("space") == "pixel" for pair in pairs)


def require_optuna() -> None:
    """Look whether optuna can be imported.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UsageError("tune needs optuna: pip install 'otbench[tune]'") from None


# -------------------------------------------------------------------------------------------------------------- values


def preset_values(note: Registration) -> dict[str, Value]:
    """Return what the preset has for the searched parameters of a solver; None = left to the solver.

    Raises:
        UsageError: there is no such preset.
    """
    config, _ = settings_of(note, {}, _request())
    return {name: getattr(config, name) for name in note.search}


def search_space(note: Registration) -> dict[str, list[Value]]:
    """Return the values that are tried, by parameter: those that the solver declares, and its preset's.

    Numbers ascend; other values stand as declared. That a value is left to the solver is tried by the first trial
    alone, unless it is declared.

    Raises:
        UsageError: the solver declares nothing to search, or has no such preset.
    """
    if not note.search:
        raise UsageError(
            f"solver '{note.name}' declares nothing to tune; give register_solver a search=, like"
            " search={'lr': (1e-3, 3e-3, 1e-2)}"
        )
    preset, space = preset_values(note), {}
    for name, declared in note.search.items():
        values = list(declared)
        if preset[name] is not None and preset[name] not in values:
            values.append(preset[name])
        space[name] = sorted(values, key=_number) if all(map(_is_number, values)) else values
    return space


def propose(
    space: Mapping[str, Sequence[Value]], trials: Sequence[Trial], *, solver: str, random: int = RANDOM_TRIALS
) -> dict[str, Value]:
    """Return the values of the next trial: the same ones from the same trials, whenever they were run.

    Args:
        space: values by parameter.
        trials: those that have been run.
        solver: name, for the seed.
        random: trials at random after the first one.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samplers = optuna.samplers
    distributions = {name: _distribution(values) for name, values in space.items()}
    tried = [trial.values for trial in trials]
    told = [
        optuna.trial.create_trial(
            params={name: values.index(trial.values[name]) for name, values in known.items()},
            distributions={name: distributions[name] for name in known},
            value=math.log(trial.score),
        )
        for trial in trials
        # a value that was left to the solver has no place in the space
        for known in [{name: list(values) for name, values in space.items() if trial.values.get(name) in values}]
    ]
    values: dict[str, Value] = {}
    for attempt in range(TRIES + DRAWS):
        seed = zlib.crc32(f"{solver} {len(trials)} {attempt}".encode())
        chosen = samplers.TPESampler(seed=seed, n_startup_trials=1 + random)
        study = optuna.create_study(sampler=chosen if attempt < TRIES else samplers.RandomSampler(seed))
        study.add_trials(told)
        params = study.ask(distributions).params
        values = {name: space[name][index] for name, index in params.items()}
        if values not in tried:
            break
    return values


def _distribution(values: Sequence[Value]) -> BaseDistribution:
    """Return the places in `values`, which have an order where they are numbers."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    places = range(len(values))
    return IntDistribution(0, len(values) - 1) if all(map(_is_number, values)) else CategoricalDistribution(places)


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: Value) -> float:
    return float(value or 0)


# -------------------------------------------------------------------------------------------------------------- scores


def pair_run(pair: Pair, record: Record) -> PairRun:
    """Return what a study keeps of one run: its UVP, or where it is judged by classes, the share of wrong ones."""
    metrics = {name: record.metrics[name] for name in (FORWARD, BACKWARD) if name in record.metrics}
    if not metrics and "accuracy" in record.metrics:
        metrics = {"error": 100 - record.metrics["accuracy"]}
    good = record.status is Status.OK and (FORWARD in metrics or "error" in metrics)
    return PairRun(
        pair=pair.name,
        status=record.status,
        reason=record.reason if good or record.reason else f"it has no {FORWARD}",
        score=_digits(_score(metrics) if good else WORST),
        metrics={name: _digits(value) for name, value in metrics.items() if math.isfinite(value)},
        steps=record.counts.steps,
        cpu_s=_rounded(record.times.train_cpu_s),
        train_s=_rounded(None if record.times.train_s is None else record.times.train_s + (record.times.warmup_s or 0)),
    )


def _score(metrics: Mapping[str, float]) -> float:
    score = _mean(list(metrics.values()))
    return min(max(score, LEAST), WORST) if math.isfinite(score) else WORST


def _mean(values: Sequence[float]) -> float:
    """Return the geometric mean."""
    return math.exp(math.fsum(math.log(max(value, LEAST)) for value in values) / len(values))


def _digits(value: float) -> float:
    return float(f"{value:.5g}")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def proposal(note: Registration, trials: Sequence[Trial]) -> Proposal:
    """Return what `trials` propose for the preset.

    The preset changes where a trial has beaten it, in the searched parameters that differ. Steps are those that fit
    `FITTED_SECONDS` at the pace of the best trial on the slowest pair, in two digits.
    """
    best = min(trials, key=lambda trial: trial.score)
    preset: dict[str, Value] = {
        name: value
        for name, value in note.presets[PRESET].items()
        if not isinstance(value, Sequence) or isinstance(value, str)
    }
    before = preset_values(note)
    preset |= {name: value for name, value in best.values.items() if value != before[name]}
    paces = [run.steps / run.cpu_s for run in best.runs if run.cpu_s and run.steps and run.status is Status.OK]
    steps = _two_digits(min(paces) * FITTED_SECONDS) if len(paces) == len(best.runs) else None
    if steps is not None:
        preset = {"steps": steps} | {name: value for name, value in preset.items() if name != "steps"}
    return Proposal(trial=best.number, steps=steps, seconds=FITTED_SECONDS, preset=preset)


def _two_digits(value: float) -> int:
    unit = int(10 ** max(0, math.floor(math.log10(max(value, 1))) - 1))
    return max(1, int(value) // unit * unit)


# --------------------------------------------------------------------------------------------------------------- study


@dataclass(frozen=True)
class Candidate:
    """A solver that is to be tuned, all that can be wrong with it looked at before anything runs.

    Attributes:
        note: the solver.
        runs: its preset on all pairs, planned.
        blank: a study of it without trials.
    """

    note: Registration
    runs: list[Planned]
    blank: Study


def candidate(name: str, registry: Registry, agreed: Protocol, *, data_dir: Path | None = None) -> Candidate:
    """Return the solver `name`, ready to be tuned.

    Raises:
        UsageError: there is no such solver, it is a baseline, or it declares nothing to search.
        PluginError: its file cannot be imported.
        DataError: what the pairs need is not here.
    """
    entry = registry.find(name, "solver", "baseline")
    if entry.kind == "baseline":
        raise UsageError(f"'{name}' is a baseline: it has nothing to tune")
    note = registry.load(entry)
    space = search_space(note)
    runs = [_planned(note, {}, pair, registry, agreed, data_dir) for pair in agreed.pairs]
    code = code_hash({f"{n} {key}": value for n, run in enumerate(runs) for key, value in run.source.items()})
    return Candidate(note, runs, Study(solver=name, protocol=agreed, code=code, space=space))


def tune(
    chosen: Candidate,
    study: Study,
    *,
    trials: int,
    evaluate: Evaluate,
    keep: Callable[[Study, Trial], None],
) -> Study:
    """Add trials to `study` until it has `trials`; return it.

    Args:
        chosen: the solver.
        study: what has been run before.
        trials: number of trials in all.
        evaluate: runs one choice of values.
        keep: called with the study after each trial, and the trial.

    Raises:
        KeyboardInterrupt: Ctrl-C; finished trials have been kept, the one under way has not.
    """
    while len(study.trials) < trials:
        number = len(study.trials)
        values = propose(study.space, study.trials, solver=study.solver) if number else preset_values(chosen.note)
        runs, environment = evaluate(values)
        trial = Trial(number=number, values=values, score=_digits(_mean([run.score for run in runs])), runs=runs)
        done = [*study.trials, trial]
        study = study.model_copy(
            update={
                "trials": done,
                "environment": study.environment or dict(environment),
                "proposal": proposal(chosen.note, done),
            }
        )
        keep(study, trial)
    return study


def evaluator(chosen: Candidate, registry: Registry, *, data_dir: Path | None = None) -> Evaluate:
    """Return what runs a choice of values of a solver as any run is run, one pair after the other."""
    agreed = chosen.blank.protocol

    def evaluate(values: Mapping[str, Value]) -> tuple[list[PairRun], Mapping[str, Value]]:
        planned = [_planned(chosen.note, values, pair, registry, agreed, data_dir) for pair in agreed.pairs]
        with tempfile.TemporaryDirectory(prefix="otbench-tune-", ignore_cleanup_errors=True) as folder:
            plan = Plan(tuple(planned), frozenset(), has_full=False)
            done = execute(plan, Store(Path(folder)), data_dir=data_dir)
        if done.interrupted:
            raise KeyboardInterrupt
        runs = [pair_run(pair, record) for pair, record in zip(agreed.pairs, done.records, strict=True)]
        return runs, done.records[0].environment

    return evaluate


def _planned(
    note: Registration,
    values: Mapping[str, Value],
    pair: Pair,
    registry: Registry,
    agreed: Protocol,
    data_dir: Path | None = None,
) -> Planned:
    config, _ = settings_of(note, values, _request())
    task = registry.load(registry.find(pair.task, "task"))
    spec = RunSpec(
        kind="solver",
        solver=note.name,
        solver_config=config.model_dump(),
        task=pair.task,
        task_config=build_config(task.config, pair.config, owner=f"task {pair.task}").model_dump(),
        preset=agreed.preset,
        seed=pair.seed,
        steps=None,
        time_limit=None,
        cpu_limit=agreed.cpu_seconds,
        device="cpu",
        threads=agreed.threads,
        standardise=standardises(note, _request()),
        hard_limit=600 + 20 * agreed.cpu_seconds,
    )
    return plan_again(spec, registry, data_dir=data_dir)


def _request() -> Request:
    return Request(solvers="", task="", preset=PRESET)
