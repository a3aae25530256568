"""Tuning: what is searched, how trials are chosen and scored, what they propose, and that all solvers get the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest

from otbench.config import Config, Value
from otbench.errors import PluginError, UsageError
from otbench.harness import tuning
from otbench.plugins.registry import Registry
from otbench.records.record import Counts, Record, RunSpec, Status, Times
from otbench.records.study import PairRun, Study, Trial
from otbench.registration import Registration, register_solver, registrations
from otbench.solver import Field, Search

pytest.importorskip("optuna")

PAIRS, IMAGES = tuning.pairs_of(Registry())
SPACE: dict[str, list[Value]] = {"lr": [0.01, 0.1, 1.0], "kind": ["a", "b"], "width": [1, 2, 4, 8]}


class MineConfig(Config):
    lr: float = Field(0.1, "rate", gt=0)
    kind: str = Field("a", "which")
    width: int | None = Field(None, "width; none = by dimension", ge=1)


def registered(search: Search | None, full: Mapping[str, Value] | None = None) -> Registration:
    presets = {"full": {"steps": 700} | dict(full or {})}
    cls = register_solver("mine", config=MineConfig, reference="none", presets=presets, search=search)(
        type("Mine", (), {})
    )
    return registrations(cls)[0]


def mine(full: Mapping[str, Value] | None = None) -> Registration:
    return registered({"lr": (1.0, 0.01), "kind": ("b", "a"), "width": (1, 2)}, full)


def run(score: float, steps: int = 60, cpu_s: float | None = 60.0, status: Status = Status.OK) -> PairRun:
    return PairRun(pair="p", status=status, score=score, steps=steps, cpu_s=cpu_s)


def trial(number: int, values: Mapping[str, Value], *runs: PairRun) -> Trial:
    return Trial(
        number=number, values=dict(values), score=math.prod(r.score for r in runs) ** (1 / len(runs)), runs=list(runs)
    )


def record(status: Status = Status.OK, **metrics: float) -> Record:
    spec = RunSpec(
        kind="solver",
        solver="mine",
        solver_config={},
        task="convex",
        task_config={},
        preset="full",
        seed=100,
        steps=None,
        time_limit=None,
        device="cpu",
        threads=1,
        hard_limit=9.0,
    )
    times = Times(train_s=50.0, warmup_s=1.0, train_cpu_s=60.004)
    return Record(id="r", spec=spec, status=status, metrics=metrics, counts=Counts(steps=7), times=times)


# -------------------------------------------------------------------------------------------------------- registration


@pytest.mark.parametrize(
    ("search", "names"),
    [
        ({"rate": (1, 2)}, "'rate'"),
        ({"lr": (0.1,)}, "two or more"),
        ({"lr": (0.1, 0.1)}, "each once"),
        ({"lr": 0.1}, "two or more"),
        ({"kind": "ab"}, "two or more"),
        ({"lr": (0.1, -1.0)}, "greater than 0"),
        ({"steps": (10, 20)}, "'steps'"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_at_registration(search: Search, names: str) -> None:
    with pytest.raises(PluginError, match="solver mine") as error:
        registered(search)
    assert names in str(error.value)


def test_more_parameters_than_trials_tell_apart_are_refused() -> None:
    class Wide(Config):
        a: int = Field(1, "a")
        b: int = Field(1, "b")
        c: int = Field(1, "c")
        d: int = Field(1, "d")
        e: int = Field(1, "e")

    with pytest.raises(PluginError, match="at most 4"):
        register_solver("wide", config=Wide, reference="none", presets={}, search=dict.fromkeys("abcde", (1, 2)))


def test_every_solver_declares_what_to_search() -> None:
    registry = Registry()
    notes = [registry.load(entry) for entry in registry.entries("solver")]
    assert [note.name for note in notes if len(note.search) < 2] == []


def test_solvers_that_can_choose_their_optimiser_are_tuned_with_both() -> None:
    registry = Registry()
    notes = [registry.load(entry) for entry in registry.entries("solver")]
    chosen = [note for note in notes if "optimiser" in note.config.model_fields]
    assert chosen
    assert [note.name for note in chosen if set(note.search.get("optimiser", ())) != {"adam", "soap"}] == []


# ------------------------------------------------------------------------------------------------------------ protocol


def test_no_pair_and_no_seed_is_one_that_reports_use() -> None:
    assert {pair.task for pair in PAIRS} == {"convex"}
    assert {pair.seed for pair in PAIRS} == {pair.config["pair"] for pair in PAIRS} == {100, 101}
    assert {(pair.config["family"], pair.config["dim"]) for pair in PAIRS} == {("lse-mid", 8), ("ridge-mid", 32)}
    assert {pair.task for pair in IMAGES} == {"mnist"}
    assert {pair.seed for pair in IMAGES} == {100, 101}
    assert all(pair.config["held_out"] == 2000 for pair in IMAGES)  # training images, no test images
    assert [pair.name for pair in IMAGES] == ["mnist fmnist-mnist", "mnist transfer"]


def test_runs_are_limited_by_the_processor_and_by_nothing_else() -> None:
    chosen = tuning.candidate("ls", Registry(), tuning.protocol(60, PAIRS))
    assert [(run.spec.cpu_limit, run.spec.steps, run.spec.time_limit) for run in chosen.runs] == [(60, None, None)] * 2
    assert {(run.spec.threads, run.spec.device, run.spec.preset) for run in chosen.runs} == {(1, "cpu", "full")}


def test_maps_of_images_are_scored_by_the_share_of_wrong_classes() -> None:
    found = tuning.pair_run(IMAGES[0], record(accuracy=93.5))
    assert (found.score, found.metrics) == (6.5, {"error": 6.5})
    assert tuning.pair_run(IMAGES[0], record(accuracy=100.0)).score == tuning.LEAST
    assert tuning.pair_run(IMAGES[0], record(Status.DIVERGED, accuracy=93.5)).score == tuning.WORST
    assert "wanted class" in tuning.protocol(60, IMAGES).score


# -------------------------------------------------------------------------------------------------------------- values


def test_the_space_holds_the_presets_value_and_numbers_ascend() -> None:
    assert tuning.search_space(mine()) == {"lr": [0.01, 0.1, 1.0], "kind": ["b", "a"], "width": [1, 2]}
    assert tuning.search_space(mine({"width": 7}))["width"] == [1, 2, 7]


def test_a_solver_without_a_space_is_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match="search="):
        tuning.search_space(registered(None))


def test_proposals_are_repeatable_inside_the_space_and_never_come_twice() -> None:
    trials = [trial(0, {"lr": 0.1, "kind": "a", "width": None}, run(5.0))]
    for number in range(1, 12):
        values = tuning.propose(SPACE, trials, solver="mine")
        assert values == tuning.propose(SPACE, trials, solver="mine")
        assert all(values[name] in SPACE[name] for name in SPACE)
        assert values not in [one.values for one in trials]
        trials.append(trial(number, values, run(1.0 + number % 3)))


def test_solvers_do_not_share_their_random_trials() -> None:
    trials = [trial(0, {"lr": 0.1, "kind": "a", "width": 1}, run(5.0))]
    assert len({str(tuning.propose(SPACE, trials, solver=name)) for name in "abcdefgh"}) > 2


def test_the_sampler_turns_to_what_was_good() -> None:
    space: dict[str, list[Value]] = {"lr": [float(k) for k in range(40)]}
    trials = [trial(k, {"lr": lr}, run(0.1 + abs(float(lr or 0) - 30))) for k, lr in enumerate(space["lr"][::3])]
    proposed = [tuning.propose(space, trials, solver=name)["lr"] for name in "abcdefghijklmnop"]
    assert sum(abs(float(value or 0) - 30) <= 8 for value in proposed) > 10


# -------------------------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize(
    ("status", "metrics", "score"),
    [
        (Status.OK, {"uvp_fwd": 4.0, "uvp_bwd": 9.0}, 6.0),
        (Status.OK, {"uvp_fwd": 4.0, "cosine_fwd": 0.5}, 4.0),
        (Status.DIVERGED, {"uvp_fwd": 4.0}, tuning.WORST),
        (Status.ERROR, {}, tuning.WORST),
        (Status.OK, {}, tuning.WORST),
        (Status.OK, {"uvp_fwd": 1e9}, tuning.WORST),
        (Status.OK, {"uvp_fwd": float("nan")}, tuning.WORST),
        (Status.OK, {"uvp_fwd": 0.0}, tuning.LEAST),
    ],
)
def test_scores(status: Status, metrics: dict[str, float], score: float) -> None:
    found = tuning.pair_run(PAIRS[0], record(status, **metrics))
    assert found.score == pytest.approx(score)
    assert (found.pair, found.steps, found.cpu_s, found.train_s) == ("lse-mid d=8", 7, 60.0, 51.0)


# ------------------------------------------------------------------------------------------------------------ proposal


def test_steps_fit_ten_minutes_on_the_slowest_pair() -> None:
    before = {"lr": 0.1, "kind": "a", "width": None}
    found = tuning.proposal(mine(), [trial(0, before, run(1.0, steps=9000), run(1.0, steps=1299))])
    assert (found.trial, found.steps) == (0, 12_000)
    assert found.preset == {"steps": 12_000}


def test_only_what_is_better_and_other_changes_the_preset() -> None:
    before = {"lr": 0.1, "kind": "a", "width": None}
    trials = [trial(0, before, run(1.0)), trial(1, {"lr": 1.0, "kind": "a", "width": 2}, run(0.9, steps=3))]
    assert tuning.proposal(mine(), trials).preset == {"steps": 30, "lr": 1.0, "width": 2}
    assert tuning.proposal(mine(), [*trials[:1], trial(1, {"lr": 1.0}, run(1.0))]).trial == 0


def test_without_a_run_that_ended_well_there_are_no_steps() -> None:
    before = {"lr": 0.1, "kind": "a", "width": None}
    bad = run(tuning.WORST, cpu_s=None, status=Status.ERROR)
    found = tuning.proposal(mine(), [trial(0, before, bad)])
    assert found.steps is None
    assert found.preset == {"steps": 700}


# --------------------------------------------------------------------------------------------------------------- study


@pytest.fixture(scope="module")
def candidate() -> tuning.Candidate:
    return tuning.candidate("ls", Registry(), tuning.protocol(1.0, PAIRS))


def fake(values: Mapping[str, Value]) -> tuple[list[PairRun], Mapping[str, Value]]:
    score = 10 * float(values["lr"] or 0) + (1 if values["optimiser"] == "adam" else 2)
    return [run(score), run(2 * score)], {"commit": "abc"}


def test_a_study_begins_with_the_preset_and_goes_on_as_if_never_interrupted(candidate: tuning.Candidate) -> None:
    kept: list[Study] = []

    def broken(values: Mapping[str, Value]) -> tuple[list[PairRun], Mapping[str, Value]]:
        if len(kept) == 3:
            raise KeyboardInterrupt
        return fake(values)

    def tune(study: Study, evaluate: tuning.Evaluate, keep: Callable[[Study, Trial], None]) -> Study:
        return tuning.tune(candidate, study, trials=6, evaluate=evaluate, keep=keep)

    whole = tune(candidate.blank, fake, lambda study, trial: None)
    assert whole.trials[0].values == tuning.preset_values(candidate.note)
    assert len(whole.trials) == 6
    assert whole.environment == {"commit": "abc"}
    assert whole.proposal is not None
    assert whole.best is not None
    assert whole.proposal.trial == whole.best.number
    with pytest.raises(KeyboardInterrupt):
        tune(candidate.blank, broken, lambda study, trial: kept.append(study))
    assert len(kept[-1].trials) == 3
    again = Study.model_validate_json(kept[-1].model_dump_json())
    assert tune(again, fake, lambda study, trial: None) == whole


def test_other_code_or_another_protocol_is_another_study(candidate: tuning.Candidate) -> None:
    blank = candidate.blank
    assert blank.continues(Study.model_validate_json(blank.model_dump_json()))
    assert not blank.model_copy(update={"code": "other"}).continues(blank)
    assert not blank.model_copy(update={"protocol": tuning.protocol(2.0, PAIRS)}).continues(blank)


def test_a_trial_is_a_run_like_any_other() -> None:
    pair = tuning.Pair(task="convex", config={"family": "lse-mid", "dim": 2, "pair": 100, "pool": "2000"}, seed=100)
    registry = Registry()
    chosen = tuning.candidate("ls", registry, tuning.protocol(0.5, [pair]))
    (found,), environment = tuning.evaluator(chosen, registry)({"batch_size": 512})
    assert (found.status, found.reason) == (Status.OK, "")
    assert set(found.metrics) == {"uvp_fwd", "uvp_bwd"}
    assert found.steps > 1
    assert found.cpu_s is not None
    assert 0.5 <= found.cpu_s < 2  # one step more than the budget, at most
    assert environment["threads"] == 1
