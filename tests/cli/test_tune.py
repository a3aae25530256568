"""`otbench tune` as a user meets it; the runs themselves are replaced by a formula, as they take minutes."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from otbench.config import Value
from otbench.errors import DataError
from otbench.harness import tuning
from otbench.plugins.registry import Registry
from otbench.records.record import Status
from otbench.records.study import PairRun, Protocol, read_study, study_path

pytest.importorskip("optuna")

Cli = Callable[..., tuple[int, str, str]]
Tune = Callable[..., tuple[int, str, str]]


class Runs:
    """Stands in for the runs of a trial: counts them, and can be told to stop or to fail."""

    def __init__(self) -> None:
        self.count = 0
        self.stop_at: int | None = None
        self.status = Status.OK

    def __call__(self, chosen: tuning.Candidate, registry: Registry, **_: object) -> tuning.Evaluate:
        def evaluate(values: Mapping[str, Value]) -> tuple[list[PairRun], Mapping[str, Value]]:
            if self.count == self.stop_at:
                raise KeyboardInterrupt
            self.count += 1
            score = float(values["lr"] or 0) * 100 if self.status is Status.OK else tuning.WORST
            made = [
                PairRun(pair=pair.name, status=self.status, reason="planted", score=score, steps=60, cpu_s=60.0)
                for pair in chosen.blank.protocol.pairs
            ]
            return made, {"commit": "abc"}

        return evaluate


def without_inputs(name: str, registry: Registry, agreed: Protocol, **_: object) -> tuning.Candidate:
    """Stand in for `candidate` where the images may not be at hand: nothing is planned beyond the specification."""
    found = _CANDIDATE(name, registry, agreed.model_copy(update={"pairs": VECTORS}))
    first = found.runs[0]
    runs = [first.model_copy(update={"spec": first.spec.model_copy(update={"task": agreed.pairs[0].task})})]
    blank = found.blank.model_copy(update={"protocol": agreed})
    return dataclasses.replace(found, runs=runs, blank=blank)


_CANDIDATE = tuning.candidate
VECTORS = tuning.pairs_of(Registry())[0]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr("otbench.harness.tuning.evaluator", made)
    monkeypatch.setattr("otbench.cli.estimate.refusals", lambda runs, registry, data_dir: {})
    return made


@pytest.fixture
def tune(cli: Cli, runs: Runs, tmp_path: Path) -> Tune:
    return lambda *words: cli("tune", "--out", tmp_path / "tuning", *words)


def test_a_line_for_each_trial_then_a_table_and_the_preset(tune: Tune, tmp_path: Path) -> None:
    code, out, err = tune("--solvers", "ls,mmr", "--trials", 5)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    numbered = [f"{name} {k}/5" for name in ("ls", "mmr") for k in range(1, 6)]
    assert [line.split("  ")[0] for line in lines[:10]] == numbered
    assert "(as it stands)" in lines[0]
    assert re.search(r"lr=0\.01 .* \(as it stands\) .*lse-mid d=8: 1 %, 60 steps", lines[0])  # the score is 100 * lr
    assert "best so far" in out
    study = read_study(study_path(tmp_path / "tuning", "ls"))
    assert study is not None
    assert study.proposal is not None
    assert len(study.trials) == 5
    assert study.proposal.steps == 600
    assert f'ls: "full": {study.proposal.preset!r}' in out


def test_a_study_goes_on_from_its_file(tune: Tune, runs: Runs) -> None:
    runs.stop_at = 2
    code, out, err = tune("--solvers", "ls", "--trials", 4)
    assert code == 130
    assert "the same command goes on" in err
    assert re.search(r"^ls +2 ", out, re.MULTILINE)
    runs.stop_at = None
    code, out, _ = tune("--solvers", "ls", "--trials", 4)
    assert code == 0
    assert "2 trials are in" in out
    assert runs.count == 4
    assert tune("--solvers", "ls", "--trials", 4)[0] == 0
    assert runs.count == 4  # nothing is left to do


def test_a_study_under_another_protocol_is_kept_aside(tune: Tune, tmp_path: Path) -> None:
    tune("--solvers", "ls", "--trials", 2)
    code, out, err = tune("--solvers", "ls", "--trials", 1, "--seconds", 5)
    assert code == 0
    assert "another protocol" in err
    assert "ls 1/1" in out
    assert len(list((tmp_path / "tuning").glob("ls*.json"))) == 2


def test_a_solver_none_of_whose_trials_ends_well_is_a_failure(tune: Tune, runs: Runs) -> None:
    runs.status = Status.DIVERGED
    code, out, _ = tune("--solvers", "ls", "--trials", 1)
    assert code == 1
    assert "diverged: planted" in out


def test_of_all_those_that_cannot_be_tuned_are_left_out(
    tune: Tune, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy: str
) -> None:
    monkeypatch.setattr("otbench.harness.tuning.candidate", without_inputs)
    takes = {"ls": "convex", "gnot": "mnist"}
    monkeypatch.setattr(
        "otbench.cli.estimate.refusals",
        lambda runs, registry, data_dir: (
            {} if runs[0].spec.task == takes.get(runs[0].spec.solver) else {runs[0].id: "needs something else"}
        ),
    )
    code, _, err = tune("--solvers", "all", "--trials", 1, "--plugin", toy)
    assert code == 0
    assert "'ncf' takes none of the pairs that solvers are tuned on (convex: needs something else; mnist: needs" in err
    assert "left out: solver 'toyshift'" in err
    assert {path.name for path in (tmp_path / "tuning").glob("*.json")} == {"gnot.json", "ls.json"}
    study = read_study(study_path(tmp_path / "tuning", "gnot"))
    assert study is not None
    assert {pair.task for pair in study.protocol.pairs} == {"mnist"}


def test_images_that_are_not_here_are_one_message(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, registry: Registry, agreed: Protocol, **_: object) -> tuning.Candidate:
        if agreed.pairs[0].task == "mnist":
            raise DataError("task mnist needs the classifier of MNIST, which is not trained yet")
        return candidate(name, registry, agreed)

    candidate = tuning.candidate
    monkeypatch.setattr("otbench.harness.tuning.candidate", missing)
    code, _, err = cli("tune", "--out", tmp_path / "tuning", "--solvers", "gnot")
    assert code == 2
    assert "needs the classifier of MNIST" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--solvers", "lss"], "did you mean 'ls'?"),
        (["--solvers", "linear"], "'linear' is a baseline"),
        (["--solvers", "ls,linear"], "'linear' is a baseline"),
        (["--solvers", "ls[lr=1]"], "'ls[lr=1]'"),
        (["--solvers", ","], "nothing is named"),
        (["--solvers", "ls[lr=1,width=8]"], "--solvers 'ls[lr=1,width=8]': tune takes names without parameters"),
        (["--solvers", "toyshift"], "'toyshift' declares nothing to tune"),
        ([], "--solvers"),
        (["--solvers", "ls", "--trials", "0"], "--trials 0"),
        (["--solvers", "ls", "--trials", "two"], "--trials"),
        (["--solvers", "ls", "--seconds", "0"], "--seconds 0"),
        (["--solvers", "ls", "--seconds", "nan"], "--seconds nan"),
        (["--solvers", "ls", "--out", ""], "--out"),
        (["--solvers", "ls", "--out", "/dev/null/x"], "--out /dev/null/x: /dev/null is a file, not a folder"),
    ],
)
def test_bad_input_is_one_message(words: list[str], says: str, cli: Cli, runs: Runs, toy: str) -> None:
    code, out, err = cli("tune", "--plugin", toy, *words)
    assert code == 2
    assert says in err
    assert len(err.splitlines()) == 1
    assert out == ""
    assert runs.count == 0


def test_without_optuna_the_extra_is_named(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = tune("--solvers", "ls")
    assert code == 2
    assert "pip install 'otbench[tune]'" in err


def test_a_torn_study_is_named_before_anything_runs(tune: Tune, runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "tuning").mkdir()
    (tmp_path / "tuning" / "ls.json").write_text("{")
    code, _, err = tune("--solvers", "mmr,ls")
    assert code == 2
    assert "ls.json" in err
    assert runs.count == 0


def test_show_prints_what_is_tried(cli: Cli) -> None:
    code, out, _ = cli("show", "ls")
    assert code == 0
    assert re.search(r"^tried by tune *\nlr +0\.001\|0\.003\|0\.01 *$", out, re.MULTILINE)
