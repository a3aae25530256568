"""`otbench tune`: a few trials of each solver, the same for all, and the preset that they propose."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from otbench.cli.common import (
    EXIT_FAILED_ROWS,
    EXIT_INTERRUPTED,
    AddCommand,
    data_folder,
    out_folder,
    registry_of,
    warn,
)
from otbench.cli.console import console, plain_table, say
from otbench.errors import DataError, PluginError, UsageError
from otbench.files import results_folder, shown
from otbench.names import listed, plain

if TYPE_CHECKING:
    from otbench.config import Value
    from otbench.harness.tuning import Candidate, Evaluate
    from otbench.plugins.registry import Registry
    from otbench.records.study import Protocol, Study, Trial

MAX_TRIALS = 1000
LEAST_SECONDS, MOST_SECONDS = 0.1, 86_400.0


def add_commands(add: AddCommand) -> None:
    """Announce this command and its options."""
    parser = add("tune", tune, "try a few settings of each solver, as many for all, and propose its preset `full`")
    parser.add_argument("--solvers", metavar="LIST", required=True, help="solvers by name, or 'all'")
    parser.add_argument("--trials", metavar="N", type=int, help="trials of a solver (default: 8)")
    parser.add_argument("--seconds", metavar="S", type=float, help="CPU seconds of a run (default: 60)")
    parser.add_argument("--data-dir", metavar="DIR", help="your own copies of data files (also: OTBENCH_DATA_DIR)")
    parser.add_argument("--out", metavar="DIR", help="where studies are and go (default: results/tuning)")


def tune(options: argparse.Namespace) -> int:
    """Tune one solver after the other; a study that is there already goes on from its trials."""
    from otbench.harness import tuning
    from otbench.harness.selection import check_number
    from otbench.records.store import Store

    trials = tuning.TRIALS if options.trials is None else options.trials
    seconds = tuning.CPU_SECONDS if options.seconds is None else options.seconds
    check_number("--trials", trials, 1, MAX_TRIALS)
    check_number("--seconds", seconds, LEAST_SECONDS, MOST_SECONDS)
    folder = out_folder(str(results_folder().parent / "tuning") if options.out is None else options.out, "--out")
    data_dir, registry = data_folder(options.data_dir), registry_of(options)
    registry.load_plugins()
    tuning.require_optuna()
    agreed = [tuning.protocol(seconds, pairs) for pairs in tuning.pairs_of(registry)]
    chosen = _chosen(options.solvers, registry, agreed, data_dir)
    Store(folder).prepare()
    studies = {one.note.name: _opened(one, folder) for one in chosen}
    interrupted = False
    try:
        for one in chosen:
            _tune(one, studies, folder, trials, tuning.evaluator(one, registry, data_dir=data_dir))
    except KeyboardInterrupt:
        interrupted = True
    _print_table(studies.values(), folder)
    if interrupted:
        warn(["interrupted: finished trials are kept; the same command goes on from here"])
        return EXIT_INTERRUPTED
    good = all(study.proposal is not None and study.proposal.steps for study in studies.values())
    return 0 if good else EXIT_FAILED_ROWS


def _chosen(typed: str, registry: Registry, agreed: Sequence[Protocol], data_dir: Path | None) -> list[Candidate]:
    """Return the solvers to tune; of 'all', those that cannot be tuned are named and left out.

    Raises:
        UsageError: a solver that was named cannot be tuned.
        PluginError: its file cannot be imported.
        DataError: images that it is tuned on are not here, or a network that judges them.
    """
    if "[" in typed:
        raise UsageError(f"--solvers {plain(typed)!r}: tune takes names without parameters; it tries values itself")
    names = list(dict.fromkeys(listed(typed)))
    if not names:
        raise UsageError(f"--solvers {typed!r}: nothing is named")
    every = names == ["all"]
    found = []
    for name in [entry.name for entry in registry.entries("solver")] if every else names:
        try:
            found.append(_candidate(name, registry, agreed, data_dir))
        except (DataError, PluginError, UsageError) as error:
            if not every:
                raise
            warn([f"left out: {error}"])
    return found


def _candidate(name: str, registry: Registry, agreed: Sequence[Protocol], data_dir: Path | None) -> Candidate:
    """Return the solver `name` under the first protocol whose pairs it takes."""
    from otbench.cli.estimate import refusals
    from otbench.harness.tuning import candidate

    reasons = []
    for protocol in agreed:
        one = candidate(name, registry, protocol, data_dir=data_dir)
        reason = refusals(one.runs[:1], registry, data_dir).get(one.runs[0].id)
        if reason is None:
            return one
        reasons.append(f"{protocol.pairs[0].task}: {reason}")
    raise UsageError(f"'{name}' takes none of the pairs that solvers are tuned on ({'; '.join(reasons)})")


def _opened(one: Candidate, folder: Path) -> Study:
    """Return the study of a solver as far as it has come; one of other code or another protocol is set aside."""
    from otbench.records.study import read_study, set_aside, study_path

    path = study_path(folder, one.note.name)
    study = read_study(path)
    if study is None:
        return one.blank
    if study.continues(one.blank):
        return study
    other = "other code" if study.code != one.blank.code else "another protocol"
    kept = set_aside(path, study)
    warn([f"{one.note.name}: the study in {shown(path)} is of {other}; it is now {kept.name}, and a new one begins"])
    return one.blank


def _tune(one: Candidate, studies: dict[str, Study], folder: Path, trials: int, evaluate: Evaluate) -> None:
    """Bring the study of a solver, in `studies` and in its file, to `trials` trials."""
    from otbench.harness.tuning import tune
    from otbench.records.study import study_path, write_study

    begun = studies[one.note.name]
    path = study_path(folder, begun.solver)
    if begun.trials:
        say(f"{begun.solver}: {len(begun.trials)} trials are in {path}")

    def keep(study: Study, trial: Trial) -> None:
        write_study(path, study)
        studies[study.solver] = study
        best = "  best so far" if study.best is trial and trial.number else ""
        say(f"{study.solver} {trial.number + 1}/{trials}  {_in_words(trial)}{best}")

    tune(one, begun, trials=trials, evaluate=evaluate, keep=keep)


def _in_words(trial: Trial) -> str:
    """Return values, scores and lengths of a trial on one line."""
    values = " ".join(f"{name}={value}" for name, value in trial.values.items())
    runs = "; ".join(
        f"{run.pair}: {run.score:.3g} %, {run.steps} steps"
        if run.status == "ok"
        else f"{run.pair}: {run.status}: {run.reason}"
        for run in trial.runs
    )
    return f"{values}{'' if trial.number else ' (as it stands)'}  {trial.score:.3g} %  ({runs})"


def _print_table(studies: Collection[Study], folder: Path) -> None:
    from rich.text import Text

    table = plain_table("solver", "trials", "preset (%)", "best (%)", "processor min", "steps in 10 min", "proposed")
    for study in studies:
        best, proposal = study.best, study.proposal
        if best is None or proposal is None:
            continue
        minutes = sum(run.cpu_s or 0 for trial in study.trials for run in trial.runs) / 60
        before = study.trials[0].values
        changed = {name: value for name, value in best.values.items() if value != before.get(name)}
        cells = [study.solver, str(len(study.trials)), f"{study.trials[0].score:.3g}", f"{best.score:.3g}"]
        cells += [f"{minutes:.1f}", str(proposal.steps or "-"), _typed(changed) or "no change"]
        table.add_row(*map(Text, cells))
    if table.row_count:
        console().print(table)
    for study in studies:
        if study.proposal is not None:
            say(f'{study.solver}: "{study.protocol.preset}": {study.proposal.preset!r}')
    say(f"studies in {folder}")


def _typed(values: Mapping[str, Value]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
