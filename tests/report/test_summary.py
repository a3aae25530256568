"""Which solver when: who may be ranked with whom, statistics in closed form, and sentences that follow from records."""

from __future__ import annotations

import html.parser
import io
import json
import math
import re
from collections.abc import Callable, Iterable
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.console import Console
from scipy.stats import friedmanchisquare, studentized_range

from otbench.records.record import Record
from otbench.records.store import Store, read_all
from otbench.report.build import build
from otbench.report.summary.contests import Contest, contests, pareto_front, short_names
from otbench.report.summary.data import as_json
from otbench.report.summary.guide import Advice, guide
from otbench.report.summary.html import fragment
from otbench.report.summary.markdown import BEGIN, END, document, put_between
from otbench.report.summary.scopes import Scope, complete_part, friedman, nemenyi, profile, scopes
from otbench.report.summary.summary import summarise
from otbench.report.summary.terminal import print_lines, print_summary
from otbench.report.summary.text import sources

from ..helpers.report_records import hostile, record, small, spec, write

PATIENT = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
"""A machine under load takes its time."""
UVP = [
    {"name": "uvp_fwd", "label": "UVP fwd", "unit": "%", "primary": True},
    {"name": "uvp_bwd", "label": "UVP bwd", "unit": "%", "primary": True},
]


def run(
    solver: str, error: float | None, *, dim: int = 8, seed: int = 0, back: bool = True, **changes: object
) -> Record:
    """Return a run; `changes` are fields of the specification, or of the record where it has them."""
    names = set(Record.model_fields) - {"spec"}
    of_record = {name: value for name, value in changes.items() if name in names}
    of_spec = {name: value for name, value in changes.items() if name not in names}
    config = of_spec.pop("task_config", {"dim": dim, "pair": "released", "pool": "100000"})
    metrics = {} if error is None else {"uvp_fwd": error} | ({"uvp_bwd": 2 * error} if back else {})
    times = {"warmup_s": 0.5, "train_s": 9.5, "train_cpu_s": 10.0, "infer_fwd_s": 0.01}
    made = record(solver, dim, seed, 1.0, metrics=metrics, metric_info=UVP, curve=[])
    made["times"] = times | ({"infer_bwd_s": 0.02} if back else {})
    kind = "baseline" if solver in ("identity", "linear", "copies", "constant") else "solver"
    made["spec"] = spec(solver, dim, seed, task_config=config, steps=None, kind=kind) | of_spec
    made["id"] = f"{solver}-{dim}-{seed}-{sorted(map(str, changes.items()))}"
    return Record.model_validate(made | of_record)


def field_of(
    errors: dict[str, float], dims: Iterable[int] = (2, 4, 8), seeds: int = 3, **changes: object
) -> list[Record]:
    """Return runs of solvers with these errors, larger in higher dimensions, the pool's noise shared by all."""
    noise = [1.0, 1.3, 0.8, 1.1, 0.9]
    return [
        run(solver, error * dim * noise[seed] * (1 + 0.001 * seed), dim=dim, seed=seed, **changes)
        for solver, error in errors.items()
        for dim in dims
        for seed in range(1 if solver in ("identity", "linear", "copies") else seeds)
    ]


def ranks(contest: Contest) -> dict[str, int | None]:
    return {entry.label: entry.rank for entry in contest.entries}


def told(records: list[Record], need: str, task: str = "gaussian") -> Advice:
    found = [a for a in summarise(records).guide if need in a.need.split("; ") and a.detail.startswith(task)]
    assert len(found) == 1, found
    return found[0]


# Who is ranked with whom


@pytest.mark.parametrize(
    "other",
    [
        {"preset": "quick"},
        {"time_limit": 300.0},
        {"cpu_limit": 300.0},
        {"dtype": "float64"},
        {"standardise": True},
        {"environment": {"device": "NVIDIA H100"}},
        {"task_config": {"dim": 8, "pair": "0", "pool": "100000"}},
        {"task_config": {"dim": 8, "pair": "released", "pool": "1000"}},
        {"task": "convex"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_rows_on_other_terms_or_instances_are_never_ranked_together(other: dict[str, object]) -> None:
    found = contests([run("ncf", 0.1), run("mmr", 0.2), run("mmv1", 0.01, **other)])
    assert sorted([entry.label for entry in contest.entries] for contest in found) == [["mmv1"], ["ncf", "mmr"]]


def test_other_commits_and_machines_may_be_but_are_named() -> None:
    (contest,) = contests(
        [
            run("ncf", 0.1, environment={"device": "cpu", "commit": "a" * 40, "cpu": "one"}),
            run("mmr", 0.2, environment={"device": "cpu", "commit": "b" * 40, "cpu": "two"}),
        ]
    )
    said = " ".join(contest.remarks)
    assert "2 states of the code: commits aaaaaaaa, bbbbbbbb" in said
    assert "Several processors, on which an equal time is not equal work" in said


def test_terms_are_those_of_the_instances_that_count() -> None:
    both = [run(solver, 0.1, dim=dim, cpu_limit=30.0) for solver in ("ncf", "mmr", "mm") for dim in (2, 4, 8)]
    longer = [run(solver, 0.1, dim=16, cpu_limit=120.0) for solver in ("ncf", "mmr")]
    (scope,) = summarise([*both, *longer]).scopes
    assert len(scope.counted) == 3
    assert scope.terms.endswith("30 CPU s each")
    assert "120" not in scope.terms


@pytest.mark.parametrize("source", ["normal source", "abnormal source"])
def test_the_guide_says_where_the_source_was_normal(source: str) -> None:
    made = [
        run(solver, error * dim, dim=dim, instance=f"d = {dim}, {source}, a pool")
        for solver, error in (("ncf", 0.1), ("mmr", 0.2))
        for dim in (2, 4, 8)
    ]
    (advice,) = (one for one in summarise(made).guide if one.solvers and one.need == "two samples, both maps")
    assert ("d = 2, 4, 8, normal source, preset full" in advice.detail) == (source == "normal source")


def test_rows_before_and_after_centring_say_so() -> None:
    found = contests([run("ncf", 0.1), run("ncf", 0.2, standardise=True)])
    assert [contest.terms.standardise for contest in found] == [True, False]
    assert "centred points" in found[0].remarks[0]
    assert "as they are" in found[1].remarks[0]


def test_a_row_never_mixes_seeds_of_old_and_new_code_on_other_terms() -> None:
    found = contests([run("ncf", 1.0, seed=0), run("ncf", 3.0, seed=1), run("ncf", 0.1, seed=0, standardise=True)])
    assert [contest.entries[0].runs for contest in found] == [1, 2]
    assert found[1].entries[0].error is not None
    assert found[1].entries[0].error.mean == 2.0


# Ranks on one instance


def test_what_is_shown_to_be_worse_has_a_lower_rank_and_what_is_not_shares_one() -> None:
    records = field_of({"ncf": 0.2, "mmr": 0.1}, dims=[8], seeds=5)
    records += [
        run("twin", r.metrics["uvp_fwd"] * (1.1 if r.spec.seed % 2 else 0.9), seed=r.spec.seed) for r in records[5:]
    ]
    (contest,) = contests(records)
    assert ranks(contest) == {"mmr": 1, "twin": 1, "ncf": 3}


def test_one_seed_shows_nothing_and_rows_stand_in_the_order_of_errors() -> None:
    (contest,) = contests([run("ncf", 0.2), run("mmr", 0.1), run("mm", 0.3)])
    assert ranks(contest) == {"mmr": None, "ncf": None, "mm": None}
    assert list(ranks(contest)) == ["mmr", "ncf", "mm"]


def test_failed_runs_have_no_rank_and_stand_last_and_skipped_rows_are_named() -> None:
    records = field_of({"ncf": 0.2, "mmr": 0.1, "mm": 0.01}, dims=[8])
    records[-1] = run("mm", None, seed=2, status="diverged", reason="the loss is nan")
    records.append(run("lightsb", None, status="skipped", reason="takes no such cost"))
    (contest,) = contests(records)
    last = contest.entries[-1]
    assert (last.label, last.rank, last.failed, last.runs) == ("mm", None, 1, 3)
    assert "Cannot take this task: lightsb." in contest.remarks


def test_yardsticks_stand_beside_and_are_not_ranked() -> None:
    (contest,) = contests(field_of({"ncf": 0.2, "mmr": 0.1, "linear": 0.001, "identity": 5.0}, dims=[8]))
    assert set(ranks(contest)) == {"ncf", "mmr"}
    assert contest.yardstick("linear", "uvp_fwd") == pytest.approx(0.008)


def test_times_are_the_processors_where_all_rows_have_them() -> None:
    (contest,) = contests([run("ncf", 0.1), run("mmr", 0.2)])
    assert contest.clock == "CPU s"
    assert contest.entries[0].train is not None
    assert contest.entries[0].train.mean == 10.0
    (contest,) = contests([run("ncf", 0.1), run("mmr", 0.2, times={"warmup_s": 1.0, "train_s": 4.0})])
    assert contest.clock == "s"
    assert contest.entries[1].train is not None
    assert contest.entries[1].train.mean == 5.0


def test_where_all_had_the_same_time_no_row_is_on_a_front_of_error_and_time() -> None:
    records = [run("ncf", 0.1), run("mmr", 0.2, times={"train_s": 2.0, "train_cpu_s": 2.0})]
    assert [entry.on_front for entry in contests(records)[0].entries] == [True, True]
    limited = [r.model_copy(update={"spec": r.spec.model_copy(update={"time_limit": 9.0})}) for r in records]
    assert [entry.on_front for entry in contests(limited)[0].entries] == [False, False]


points = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.tuples(st.integers(0, 5), st.integers(0, 5)))


@given(points)
@PATIENT
def test_the_front_is_what_nothing_beats(at: dict[str, tuple[int, int]]) -> None:
    front = pareto_front(at)

    def beats(a: str, b: str) -> bool:
        return at[a] != at[b] and at[a][0] <= at[b][0] and at[a][1] <= at[b][1]

    assert front == {name for name in at if not any(beats(other, name) for other in at)}


def test_settings_are_left_out_of_a_name_where_it_is_clear_without() -> None:
    labels = ["ncf", "ncf[lr=1]", "mmr[lr=1]", "mm"]
    assert short_names(labels) == {"ncf": "ncf", "ncf[lr=1]": "ncf[lr=1]", "mmr[lr=1]": "mmr[…]", "mm": "mm"}


# Statistics over instances


@given(st.lists(st.sets(st.sampled_from("abcde")), max_size=7))
@PATIENT
def test_the_complete_part_is_complete(members: list[set[str]]) -> None:
    names, places = complete_part(members)
    assert all(set(names) <= members[place] for place in places)
    assert (len(names) >= 2) == bool(places)
    worth = (min(len(places), 3), len(names) * len(places))
    assert all(worth >= (1, len(one)) for one in members if len(one) > 1)  # one instance alone has no more


def test_the_largest_complete_part_counts() -> None:
    members = [set("abcdef"), set("abcd"), set("abcdef"), set("abcdef"), set("a")]
    assert complete_part(members) == (list("abcdef"), [0, 2, 3])  # 18 pairs, against 16
    assert complete_part([set("ab"), set("abc")]) == (["a", "b"], [0, 1])
    assert complete_part([set("abcde"), set("abcde"), set("ab")]) == (["a", "b"], [0, 1, 2])  # three are enough
    assert complete_part([set("a"), set("b")]) == ([], [])
    assert complete_part([set("ab"), set("c"), set("c")]) == (["a", "b"], [0])


def test_friedmans_test_is_the_exact_one_for_few_instances() -> None:
    assert friedman(np.array([[1.0, 2.0]] * 4)) == pytest.approx(2 / 2**4)  # all agree, either way
    table = np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0]])
    sums = [sum(np.sum(rows, axis=0) ** 2) for rows in product(*(permutations(row) for row in table))]
    assert friedman(table) == pytest.approx(np.mean(np.array(sums) >= sum(table.sum(axis=0) ** 2)))


def test_friedmans_test_agrees_with_its_limit_for_many_instances() -> None:
    draws = np.random.default_rng(0).normal(size=(40, 4)) + np.array([0.0, 0.1, 0.2, 0.6])
    table = draws.argsort(axis=1).argsort(axis=1) + 1.0
    assert friedman(table) == pytest.approx(friedmanchisquare(*table.T).pvalue, abs=0.01)


def test_nemenyis_test_is_the_studentised_range_of_mean_ranks() -> None:
    table = np.array([[1.0, 2.0, 3.0, 4.0]] * 5 + [[2.0, 1.0, 3.0, 4.0]] * 3)
    n, k = table.shape
    gaps = np.abs(table.mean(axis=0)[:, None] - table.mean(axis=0)) / math.sqrt(k * (k + 1) / (6 * n)) * math.sqrt(2)
    wanted = studentized_range.sf(gaps, k, np.inf)
    off = ~np.eye(k, dtype=bool)
    np.testing.assert_allclose(nemenyi(table)[off], wanted[off], atol=1e-3)


def test_the_critical_difference_is_demsars() -> None:
    # Demsar 2006, table 5: q = 2.343 for three classifiers, 2.850 for six
    for k, q in ((3, 2.343), (6, 2.850)):
        (scope,) = scopes(contests(field_of({f"s{index}": 1.0 + index for index in range(k)}, dims=[2, 4, 8, 16])))
        assert scope.critical_difference == pytest.approx(q * math.sqrt(k * (k + 1) / (6 * 4)), rel=1e-3)


costs = arrays(float, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(0.01, 100))


@given(costs, st.floats(0.1, 10))
@PATIENT
def test_a_profile_is_a_distribution_and_knows_no_units(table: np.ndarray, factor: float) -> None:
    names = [str(index) for index in range(table.shape[1])]
    found = profile(names, table)
    scaled = profile(names, table * factor)
    at_best = 0.0
    for name in names:
        ratios, shares = zip(*found[name], strict=True)
        assert list(ratios) == sorted(ratios)
        assert shares[-1] == 1.0
        assert min(ratios) >= 1.0
        np.testing.assert_allclose(ratios, [ratio for ratio, _ in scaled[name]], rtol=1e-9)
        at_best += sum(ratio == 1.0 for ratio in ratios)
    assert at_best >= len(table)  # each instance has a best solver


def test_a_failed_run_is_never_within_a_ratio() -> None:
    found = profile(["a", "b"], np.array([[1.0, 2.0], [3.0, math.inf]]))
    assert found == {"a": [(1.0, 0.5), (1.0, 1.0)], "b": [(2.0, 0.5)]}
    assert profile(["a", "b"], np.array([[1.0, -2.0]])) == {}  # no ratios
    assert profile(["a", "b"], np.array([[math.inf, math.inf]])) == {}


def curve(times: list[float], values: list[float], clock: str = "train_s") -> list[dict[str, object]]:
    seconds = [{"train_s": time} | ({clock: time} if clock != "train_s" else {}) for time in times]
    return [
        {"step": 2**k, "metrics": {"uvp_fwd": value}} | at
        for k, (at, value) in enumerate(zip(seconds, values, strict=True))
    ]


def test_times_to_accuracy_are_of_the_least_level_that_some_solver_reaches_everywhere() -> None:
    records = [run("identity", 10.0, dim=dim) for dim in (2, 4)]
    for dim, slow in ((2, 8.0), (4, 16.0)):
        records.append(run("quick", 0.05, dim=dim, curve=curve([1.0, 4.0], [10.0, 0.05])))
        records.append(run("slow", 0.9, dim=dim, curve=curve([1.0, slow], [10.0, 0.9])))
    (scope,) = scopes(contests(records))
    assert scope.target == 0.01
    assert scope.time_unit == "s"
    assert set(scope.time_profile["quick"]) == {(1.0, 0.5), (1.0, 1.0)}
    assert scope.time_profile["slow"] == []  # 0.9 is not 1 % of 10
    for one in records:
        one.curve = [p.model_copy(update={"train_cpu_s": p.train_s / 2}) for p in one.curve]
    (scope,) = scopes(contests(records))
    assert scope.time_unit == "CPU s"


def test_smoke_and_single_instances_make_no_statistics() -> None:
    assert scopes(contests(field_of({"ncf": 0.2, "mmr": 0.1}, preset="smoke"))) == []
    assert scopes(contests(field_of({"ncf": 0.2, "mmr": 0.1}, dims=[8]))) == []


def test_all_tasks_are_one_scope_where_terms_agree() -> None:
    records = field_of({"ncf": 0.2, "mmr": 0.1}) + field_of({"ncf": 0.2, "mmr": 0.1}, task="convex")
    assert [(scope.title, len(scope.counted)) for scope in scopes(contests(records))] == [
        ("convex", 3),
        ("gaussian", 3),
        ("all tasks", 6),
    ]


def test_instances_with_limits_of_their_own_are_pooled_and_the_longest_limit_of_one_counts() -> None:
    records = field_of({"ncf": 0.2, "mmr": 0.1}, dims=[2, 4], cpu_limit=300.0)
    records += field_of({"ncf": 0.1, "mmr": 0.2}, dims=[4, 8], cpu_limit=570.0)
    records += field_of({"ncf": 0.2, "mmr": 0.1}, dims=[2], time_limit=300.0)
    (scope,) = scopes(contests(records))
    assert [contest.terms.cpu_limit for contest in scope.counted] == [300.0, 570.0, 570.0]
    assert "300 or 570 CPU s each" in scope.terms


# The guide


def test_three_instances_are_enough_and_two_are_not() -> None:
    need = "known truth, many samples"
    errors = {"ncf": 0.3, "mmr": 0.2, "mmv1": 0.1}
    enough = told(field_of(errors, dims=[2, 4, 8]), need)
    assert enough.instances == 3
    assert enough.solvers[0] == "mmv1"
    assert "`mmv1`" in enough.answer
    assert "on 3 instances" in enough.text
    few = told(field_of(errors, dims=[2, 4]), need)
    assert few.answer.startswith("least errors at d = 2: `mmv1` 0.207 %, `mmr` 0.414 %, `ncf` 0.621 %; at d = 4: ")
    assert few.answer.endswith("; too few records to advise")
    assert (few.solvers, few.instances) == ((), 2)
    assert few.text.startswith("2 instances with two solvers or more; 3 are asked for.")


def test_one_solver_alone_is_not_recommended() -> None:
    advice = told(field_of({"enot": 0.1}), "two samples, both maps")
    assert (advice.answer, advice.solvers) == ("too few records", ())
    assert "Alone there: `enot`." in advice.text


def test_a_difference_that_is_not_shown_is_not_claimed() -> None:
    records = field_of({"ncf": 0.1, "mmr": 0.11}, dims=[2, 4, 8])
    advice = told(records, "known truth, many samples")  # two solvers on three instances: p = 1/4 at best
    assert advice.answer == "none is shown to be best; by mean rank: `ncf` 1.0, `mmr` 2.0"
    assert "p = 0.25" in advice.text


def test_a_long_list_of_solvers_that_are_as_good_is_cut_and_what_it_rests_on_says_where_it_ends() -> None:
    names = ["ncf", "enot", "mmr", "mm", "not", "w2gn", "w2ot", "ls", "mmb", "hjpinn"]
    records = field_of({name: 1.0 + place for place, name in enumerate(names)}, seeds=1)
    advice = told(records, "known truth, many samples")
    shared = list(advice.solvers)
    assert shared == names[: len(shared)]
    assert 6 < len(shared) < len(names)
    assert advice.answer == (
        f"`ncf`; not shown to be worse: `enot`, `mmr`, `mm`, `not`, `w2gn` and {len(shared) - 6} more"
    )
    assert f"Those up to `{shared[-1]}` are not shown to be worse than `ncf`." in advice.text


def test_nobody_is_recommended_where_no_two_are_told_apart() -> None:
    """Friedman's test may find a difference that Nemenyi's does not find between any two."""
    errors = {name: 0.1 * (k + 1) for k, name in enumerate(("ncf", "mmr", "mmv1", "mm", "hjpinn", "w2gn"))}
    records = field_of(errors, dims=[2, 4, 8])
    for one in records:  # the first two of d = 8 are the last two elsewhere
        if one.spec.task_config["dim"] == 8 and one.spec.solver in ("ncf", "mmr"):
            one.metrics["uvp_fwd"] *= 20
    (scope,) = scopes(contests(records))
    assert not scope.alike or scope.groups == [scope.solvers]
    advice = told(records, "known truth, many samples")
    assert advice.answer.startswith("none is shown to be best; by mean rank: ")
    assert advice.answer.count("`") == 6


def test_a_yardstick_is_read_on_the_seeds_of_the_solvers() -> None:
    """Another seed is another pool."""
    records = field_of({"ncf": 0.3, "mmr": 0.2}, dims=[8], seeds=1)
    records += [run("linear", value, seed=seed) for seed, value in enumerate((4.0, 0.1, 0.1))]
    records += [run("identity", 5.0, seed=3)]
    (contest,) = contests(records)
    assert contest.yardstick("linear", "uvp_fwd") == 4.0
    assert contest.yardstick("identity", "uvp_fwd") == 5.0  # better than none
    # a row from before the task had one more parameter
    later = {"dim": 8, "pair": "released", "pool": "100000", "pool_seed": None}
    solvers = [run(name, 0.3, task_config=later) for name in ("ncf", "mmr")]
    (contest,) = contests([*solvers, *(run("linear", value, seed=seed) for seed, value in enumerate((4.0, 0.1)))])
    assert contest.yardstick("linear", "uvp_fwd") == 4.0


def test_both_maps_are_judged_by_the_worse_one_and_forward_solvers_are_left_out() -> None:
    dims = [2, 4, 8, 16]
    records = field_of({"ncf": 0.3, "mmr": 0.2}, dims=dims)
    records += field_of({"not": 0.001}, dims=dims, back=False)
    for one in records:  # the best forward is the worst backward
        if one.spec.solver == "mmr":
            one.metrics["uvp_bwd"] = 100.0
    assert told(records, "known truth, many samples").solvers[0] == "not"
    advice = told(records, "two samples, both maps")
    assert "`not`" not in advice.text
    assert "UVP of the worse map on 4 instances: `ncf` 1.0, `mmr` 2.0" in advice.text


def test_needs_by_dimension_take_their_own_instances() -> None:
    records = field_of({"ncf": 0.3, "mmr": 0.2, "mmv1": 0.1}, dims=[5, 8, 10, 16, 32])
    assert told(records, "two samples, both maps, 5 to 16 dimensions").instances == 4
    assert told(records, "two samples, both maps, more than 16 dimensions").instances == 1
    assert "no records" in {a.answer for a in summarise(records).guide if "up to 4 dimensions" in a.need}


def test_a_row_that_is_not_trained_is_named_where_it_is_as_good() -> None:
    records = field_of({"ncf": 0.3, "mmr": 0.2, "mmv1": 0.1, "linear": 0.01, "identity": 5.0})
    advice = told(records, "known truth, many samples")
    assert advice.answer.startswith("try `linear` first, which is not trained; then `mmv1`")
    assert "`linear`, which is not trained, is at least as good as all of them on 3 of 3 instances." in advice.text
    assert "identity" not in advice.text


def test_a_row_that_is_not_trained_is_named_where_it_is_sometimes_as_good() -> None:
    records = field_of({"ncf": 0.3, "mmr": 0.2, "mmv1": 0.1, "linear": 0.01})
    for one in records:
        if one.spec.solver == "linear" and one.spec.task_config["dim"] == 2:
            one.metrics["uvp_fwd"] = 50.0
    answer = told(records, "known truth, many samples").answer
    assert answer.endswith("; `linear`, not trained, is as good on 2 of 3")


def test_what_copies_reach_says_nothing() -> None:
    info = [{"name": "mmd_fwd", "label": "MMD^2 fwd", "primary": True}]
    records = []
    for solver, value in (("ncf", 1e-5), ("mmr", 2e-5), ("copies", 1e-4)):
        for dim in (2, 4, 8):
            records.append(run(solver, 1.0, dim=dim, task="uci", metrics={"mmd_fwd": value * dim}, metric_info=info))
    (scope,) = scopes(contests(records))
    assert scope.mean_ranks == {"mmr": 1.5, "ncf": 1.5}
    found = [a for a in guide(contests(records)) if a.instances]
    assert found == []  # of no need without a known truth, a way back or classes


def test_densities_and_few_samples_have_needs_of_their_own() -> None:
    info = [*UVP, {"name": "nll", "label": "NLL", "unit": "nats"}]
    records = field_of({"ncf": 0.2, "flow": 0.1, "mm": 0.3})
    for one in records:
        one.spec.task_config["pool"] = "1000"
        if one.spec.solver != "mm":
            one.metrics["nll"] = 3.0 if one.spec.solver == "flow" else 4.0
            one.metric_info[:] = [type(one.metric_info[0])(**metric) for metric in info]
    density = told(records, "density")
    assert "NLL on 3 instances: `flow` 1.0, `ncf` 2.0" in density.text
    assert told(records, "1000 points").instances == 3
    assert told(field_of({"ncf": 0.2, "mmr": 0.1}), "known truth, many samples").instances == 3


def test_every_need_has_an_answer_without_any_record() -> None:
    advice = guide([])
    assert {one.answer for one in advice} == {"no records"}
    needs = advice[0].need
    for need in ("known truth, many samples", "1000 points", "both maps", "density", "classes", "images"):
        assert need in needs


def test_the_newest_terms_count_of_those_with_enough_instances() -> None:
    old = field_of({"ncf": 0.1, "mmr": 0.2, "mmv1": 0.3}, created="2026-01-01T00:00:00+00:00")
    new = field_of({"ncf": 0.3, "mmr": 0.1}, standardise=True, created="2026-02-01T00:00:00+00:00")
    assert "centred points" in told([*old, *new], "known truth, many samples").detail
    few = [one for one in new if one.spec.task_config["dim"] != 8]
    assert "centred points" not in told([*old, *few], "known truth, many samples").detail


# How it is shown


def printed(records: list[Record], width: int = 100, show: Callable[..., None] = print_summary) -> str:
    out = io.StringIO()
    show(Console(file=out, width=width), summarise(records))
    return out.getvalue()


def test_the_terminal_shows_the_guide_first() -> None:
    text = printed(field_of({"ncf": 0.3, "mmr": 0.2, "mmv1": 0.1, "linear": 0.01, "identity": 5.0}))
    assert text.index("two samples, both maps") < text.index("By task and size") < text.index("Over 3 instances")
    assert re.search(r"1 +mmv1 +0\.\d+ +0\.\d+ +10", text)
    assert "beside, not ranked: linear" in text
    assert "`" not in text


def test_a_line_a_contest_is_what_table_shows_on_top() -> None:
    text = printed(field_of({"ncf": 0.3, "mmr": 0.1}, dims=[8], seeds=5), show=print_lines)
    assert "1. mmr 0.8" in text
    assert "2. ncf 2.4" in text


def test_smoke_records_are_left_out_unless_there_is_nothing_else() -> None:
    smoke = field_of({"ncf": 0.2, "mmr": 0.1}, preset="smoke")
    both = summarise([*smoke, *field_of({"ncf": 0.2, "mmr": 0.1})])
    assert {contest.terms.preset for contest in both.contests} == {"full"}
    assert f"{len(smoke)} records under the preset smoke are left out" in both.remarks[0]
    assert len(summarise(smoke).compared) == 3


def test_needs_with_smoke_records_alone_say_so() -> None:
    answers = {one.answer for one in summarise(field_of({"ncf": 0.2, "mmr": 0.1}, preset="smoke")).guide}
    assert answers == {"no records", "no records beyond smoke"}
    one = summarise(field_of({"ncf": 0.2, "mmr": 0.1}, preset="smoke")[:1])
    assert sources(one)[0] == "From 1 record."


def test_marks_are_kept_and_all_else_of_a_file_too() -> None:
    summary = summarise(field_of({"ncf": 0.3, "mmr": 0.1}))
    text = put_between(f"before\n{BEGIN}old -->\nold\n{END}\nafter\n", summary, "otbench summary")
    assert text.startswith(f"before\n{BEGIN}made by `otbench summary` -->\n\n| you have")
    assert text.endswith(f"{END}\nafter\n")
    assert put_between(text, summary, "otbench summary") == text
    assert put_between("no marks", summary, "otbench summary") == ""


def test_data_are_json_without_special_numbers() -> None:
    records = field_of({"ncf": 0.3, "mmr": 0.1})
    records.append(run("mm", math.nan))
    data = json.loads(as_json(summarise(records)), parse_constant=pytest.fail)
    assert {entry["solver"] for entry in data["contests"][-1]["entries"]} == {"ncf", "mmr", "mm"}
    assert data["scopes"][0]["mean_ranks"] == {"mmr": 1.0, "ncf": 2.0}


TAGS = {"section", "h2", "h3", "p", "div", "table", "thead", "tbody", "tr", "th", "td", "code", "small", "ul", "li"}
TAGS |= {"details", "summary"}


class _Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.fixture(scope="module")
def hell(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """Records from hell, twice over: with a second solver on each instance."""
    folder = write(tmp_path_factory.mktemp("hell"), [*hostile(), *small()])
    return Store(folder).all()


def test_hostile_records_break_out_of_nothing(hell: list[Record]) -> None:
    summary = summarise(hell)
    tags = _Tags()
    tags.feed(fragment(summary))
    assert tags.seen <= TAGS
    assert tags.attributes <= {"id", "class", "scope", "open", "tabindex", "role", "aria-label"}
    text = document(summary, "otbench summary")
    assert "<script" not in text
    assert "<img" not in text
    assert "\x1b" not in printed(hell) + text
    json.loads(as_json(summary), parse_constant=pytest.fail)


def test_reports_hold_the_summary_and_its_figures(tmp_path: Path) -> None:
    records = field_of({"ncf": 0.3, "mmr": 0.2, "mmv1": 0.1, "linear": 0.01, "identity": 5.0})
    for one in records:
        if one.spec.kind == "solver":
            level = one.metrics["uvp_fwd"]
            points = curve([1.0, 4.0 if one.spec.solver == "ncf" else 6.0], [5.0, min(level, 4.9)])
            one.curve = Record.model_validate(record("x", 8, 0, 1.0, curve=points)).curve
    made = build(records, tmp_path, ["svg", "markdown", "html"], command="otbench report")
    figures = [f"figures/summary--1-{name}.svg" for name in ("ranks", "profiles", "front")]
    assert set(figures) <= set(made.written)
    assert all(name in (tmp_path / "summary.md").read_text(encoding="utf-8") for name in figures)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.index('id="summary"') < page.index("<h2 id=")
    before = {name: (tmp_path / name).read_bytes() for name in made.written}
    again = build(records, tmp_path / "again", ["svg", "markdown", "html"], command="otbench report")
    assert {name: (tmp_path / "again" / name).read_bytes() for name in again.written} == before


def test_the_readme_says_what_the_records_say(root: Path) -> None:
    folders = sorted({path.parent for path in (root / "results" / "reference").rglob("*.json")})
    records, _ = read_all(folders)
    text = (root / "README.md").read_text(encoding="utf-8")
    fresh = put_between(text, summarise(records), "python bench.py summary results/reference")
    assert fresh == text, "make it again: python bench.py summary results/reference --markdown README.md"


def test_scopes_are_made_of_contests_with_scores() -> None:
    found = contests(field_of({"ncf": 0.3, "mmr": 0.1}))
    scope = Scope("x", found)
    assert [contest.dimension for contest in scope.counted] == [2, 4, 8]
    assert scope.points == {
        "mmr": (pytest.approx(10.0), pytest.approx(0.1 * 4 * np.mean([1.0, 1.3 * 1.001, 0.8 * 1.002]))),
        "ncf": (pytest.approx(10.0), pytest.approx(0.3 * 4 * np.mean([1.0, 1.3 * 1.001, 0.8 * 1.002]))),
    }
