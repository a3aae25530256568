"""`otbench.compare.compare`: verdicts on records made by hand, and how often unchanged code raises an alarm."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from otbench.compare.compare import compare
from otbench.compare.verdict import Aspect, Comparison, Comparisons, Rules, Verdict
from otbench.records.record import Memory, Record, RunSpec, Status, Times
from otbench.records.store import Store, read_all
from otbench.reporting import Metric

ERROR = Metric(name="error", label="error", unit="%", primary=True)
ENVIRONMENT = {"system": "Linux x86_64", "cpu": "A", "cores": 2, "device": "cpu", "torch": "2.6"}


def record(value: float | None, *, seed: int = 0, solver: str = "one", **changes: object) -> Record:
    spec = {
        "kind": "solver",
        "solver": solver,
        "solver_config": {"lr": 0.1},
        "task": "toy",
        "task_config": {"dim": 2, "file": None},
        "preset": "smoke",
        "seed": seed,
        "steps": 20,
        "time_limit": None,
        "device": "cpu",
        "threads": 1,
        "hard_limit": 60.0,
    }
    for name in list(changes):
        if name in spec or name in ("dtype", "cpu_limit"):
            spec[name] = changes.pop(name)
    values: dict[str, object] = {
        "id": f"{solver}-{seed}-{spec['device']}",
        "spec": RunSpec(**spec),  # type: ignore[arg-type]
        "status": Status.OK,
        "label": solver,
        "instance": "d = 2",
        "metrics": {} if value is None else {"error": value},
        "metric_info": [ERROR],
        "times": Times(step_ms=10.0, step_ms_p10=9.0, step_ms_p90=11.0),
        "memory": Memory(rss_above_imports=100_000_000),
        "environment": ENVIRONMENT,
    }
    return Record(**(values | changes))


def seeds(*values: float, **changes: object) -> list[Record]:
    return [record(value, seed=k, **changes) for k, value in enumerate(values)]


def the(outcome: Comparisons, aspect: Aspect = Aspect.QUALITY) -> Comparison:
    (row,) = [row for row in outcome.rows if row.aspect is aspect]
    return row


def quality(base: list[Record], new: list[Record], rules: Rules | None = None) -> Comparison:
    return the(compare(base, new, rules))


# ------------------------------------------------------------------------------------------------------------- quality


def test_equal_bits_are_the_same_without_a_test() -> None:
    row = quality(seeds(1.0, 2.0, 0.3), seeds(1.0, 2.0, 0.3))
    assert (row.verdict, row.change, row.low, row.high, row.p) == (Verdict.SAME, 1.0, 1.0, 1.0, None)
    assert row.base == row.new == pytest.approx((1.0 * 2.0 * 0.3) ** (1 / 3))


def test_a_clear_change_is_found_with_three_seeds_and_a_small_one_is_not() -> None:
    worse = quality(seeds(1.0, 1.2, 0.9), seeds(6.0, 7.0, 5.0))
    assert worse.verdict is Verdict.WORSE
    assert worse.change == pytest.approx((210 / 1.08) ** (1 / 3))
    assert worse.low is not None
    assert worse.low > 1
    assert quality(seeds(6.0, 7.0, 5.0), seeds(1.0, 1.2, 0.9)).verdict is Verdict.BETTER
    assert quality(seeds(1.0, 1.2, 0.9), seeds(1.3, 1.1, 1.0)).verdict is Verdict.SAME


def test_one_seed_shows_only_a_factor() -> None:
    assert quality([record(1.0)], [record(1.5)]).verdict is Verdict.SAME
    assert quality([record(1.0)], [record(2.0)]).verdict is Verdict.SUSPICIOUS
    assert quality([record(1.0)], [record(50.0)]).verdict is Verdict.WORSE


def test_more_seeds_in_the_baseline_sharpen_a_check_with_few() -> None:
    many = seeds(*np.exp(np.random.default_rng(0).normal(0, 0.1, 10)))
    row = quality(many, seeds(2.0))
    assert row.seeds == (0,)
    assert row.verdict is Verdict.WORSE
    assert quality(many[:2], seeds(2.0)).verdict is Verdict.SUSPICIOUS


def test_a_change_that_is_shown_by_itself_but_not_among_many_is_suspicious() -> None:
    base = [r for k in range(30) for r in seeds(1.0, 1.4, 0.8, solver=f"s{k}")]
    new = [r for k in range(1, 30) for r in seeds(1.4, 0.9, 0.9, solver=f"s{k}")]
    outcome = compare(base, new + seeds(2.0, 3.5, 1.7, solver="s0"))
    (row,) = [row for row in outcome.rows if row.verdict is Verdict.SUSPICIOUS]
    assert row.series.solver == "s0"
    assert row.reason == "perhaps worse, perhaps chance: more seeds would tell"
    assert not outcome.regressed
    assert outcome.compared
    assert compare(base, base).suspects == {}


def test_suspects_are_worse_beyond_the_tolerance_on_some_seed() -> None:
    base = seeds(1.0, 1.4, 0.8, 1.0, solver="a") + seeds(1.0, 1.4, 0.8, solver="b") + seeds(1.0, 1.4, 0.8, solver="c")
    new = seeds(0.9, 1.6, 0.7, solver="a") + seeds(0.9, 1.41, 0.7, solver="b") + seeds(1.1, 1.5, 0.9, solver="c")
    assert compare(base, new).suspects == {"a": (3,), "c": ()}


def test_the_better_of_two_tests_counts_at_twice_its_p() -> None:
    wide = (0.1, 1.0, 10.0, 0.5, 3.0)  # seeds differ a hundredfold, the pairs by almost the same factor
    factors = (1.5, 1.6, 1.55, 1.45, 1.5)
    row = quality(seeds(*wide), seeds(*(a * b for a, b in zip(wide, factors, strict=True))))
    logs = np.log(factors)
    assert row.verdict is Verdict.WORSE
    assert row.p == pytest.approx(2 * stats.ttest_1samp(logs, 0, alternative="greater").pvalue)
    assert row.low == pytest.approx(math.exp(stats.ttest_1samp(logs, 0).confidence_interval(0.975).low))


def test_numbers_within_the_tolerance_on_every_seed_are_no_tests() -> None:
    base = [r for k in range(30) for r in seeds(1.0, 1.4, 0.8, solver=f"s{k}")]
    new = [r for k in range(1, 30) for r in seeds(1.01, 1.38, 0.82, solver=f"s{k}")]
    rows = compare(base, new + seeds(4.0, 6.0, 3.0, solver="s0")).rows
    told = {row.series.solver: row for row in rows if row.aspect is Aspect.QUALITY}
    assert told["s0"].verdict is Verdict.WORSE
    assert {told[f"s{k}"].reason for k in range(1, 30)} == {"within the tolerance on every seed"}
    assert {told[f"s{k}"].p for k in range(1, 30)} == {None}


def test_pairs_are_made_by_seed() -> None:
    base = [record(value, seed=k) for k, value in enumerate([1.0, 10.0, 100.0])]
    new = [record(value, seed=k) for k, value in ((2, 100.0), (0, 1.0), (7, 5.0))]
    row = quality(base, new)
    assert row.seeds == (0, 2)
    assert row.verdict is Verdict.SAME
    assert row.change == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_worse(bad: float) -> None:
    assert quality(seeds(1.0, 1.0), seeds(1.0, bad)).verdict is Verdict.WORSE
    assert quality(seeds(1.0, bad), seeds(1.0, 1.0)).verdict is Verdict.SAME
    assert quality(seeds(bad, bad), seeds(1.0, 1.0)).verdict is Verdict.BETTER
    assert quality(seeds(bad, bad), seeds(bad, bad)).verdict is Verdict.NOT_COMPARABLE


@pytest.mark.parametrize("unit", ["%", ""])
def test_where_higher_is_better_the_gap_to_the_best_is_judged(unit: str) -> None:
    info = Metric(name="error", label="accuracy", unit=unit, higher_is_better=True, primary=True)
    full = 100.0 if unit else 1.0
    good = [full * x for x in (0.98, 0.981, 0.979)]
    bad = [full * x for x in (0.90, 0.91, 0.89)]
    row = quality(seeds(*good, metric_info=[info]), seeds(*bad, metric_info=[info]))
    assert row.verdict is Verdict.WORSE
    assert row.of_gap
    assert row.change == pytest.approx(5.0, rel=0.02)
    assert row.new == pytest.approx(full * 0.9, rel=0.01)
    assert quality(seeds(*bad, metric_info=[info]), seeds(*good, metric_info=[info])).verdict is Verdict.BETTER


@pytest.mark.parametrize(("before", "now"), [(300.0, 20.0), (-1.0, -40.0)])
def test_where_higher_is_better_without_a_bound_less_is_worse(before: float, now: float) -> None:
    info = Metric(name="error", label="score", higher_is_better=True, primary=True)
    base = seeds(before, before * 1.01, before * 0.99, metric_info=[info])
    new = seeds(now, now * 1.01, now * 0.99, metric_info=[info])
    assert quality(base, new).verdict is Verdict.WORSE
    assert quality(new, base).verdict is Verdict.BETTER


def test_metrics_with_both_signs_are_compared_by_difference() -> None:
    row = quality(seeds(0.1, -0.1, 0.05), seeds(9.0, 9.1, 9.2))
    assert not row.relative
    assert row.verdict is Verdict.WORSE
    assert row.change == pytest.approx(9.1 - 0.05 / 3)


def test_what_does_not_vary_over_seeds_is_judged_by_the_tolerance_alone() -> None:
    assert quality(seeds(5.0, 5.0, 5.0), seeds(5.1, 5.1, 5.1)).verdict is Verdict.SAME
    assert quality(seeds(5.0, 5.0, 5.0), seeds(5.5, 5.5, 5.5)).verdict is Verdict.WORSE
    assert quality(seeds(5.0, 5.0), seeds(5.5, 5.5), Rules(tolerance=0.2)).verdict is Verdict.SAME
    start = {"start": {"error": 5.0}}
    assert quality(seeds(0.0, 0.0, **start), seeds(1e-9, 1e-9, **start)).verdict is Verdict.SAME


def test_only_primary_metrics_are_judged_unless_others_are_named() -> None:
    both = [ERROR, Metric(name="extra", label="extra")]
    base = [record(1.0, metric_info=both, metrics={"error": 1.0, "extra": 1.0})]
    new = [record(1.0, metric_info=both, metrics={"error": 1.0, "extra": 99.0})]
    assert quality(base, new).metric == "error"
    assert quality(base, new, Rules(metrics=("extra",))).metric == "extra"


def test_a_metric_that_is_gone_was_not_measured() -> None:
    outcome = compare(seeds(1.0), [record(None)])
    assert the(outcome).verdict is Verdict.NOTHING
    assert not outcome.compared
    assert the(compare([record(None)], seeds(1.0))).verdict is Verdict.NOT_COMPARABLE


def test_an_older_record_that_does_not_say_which_way_is_better() -> None:
    bare = {"metric_info": []}
    assert quality(seeds(1.0, **bare), seeds(50.0)).verdict is Verdict.WORSE  # the other side knows
    assert quality(seeds(1.0, **bare), seeds(50.0, **bare)).verdict is Verdict.NOT_COMPARABLE
    assert quality(seeds(1.0, **bare), seeds(1.0, **bare)).verdict is Verdict.SAME


def test_a_solver_that_no_longer_learns_is_found_among_many_changes() -> None:
    began = {"start": {"error": 10.0}}
    noisy = [seeds(*values, solver=f"s{k}", **began) for k, values in enumerate([(1, 2, 3), (3, 1, 2), (2, 3, 1)] * 4)]
    other = [seeds(*values, solver=f"s{k}", **began) for k, values in enumerate([(3, 1, 2), (1, 2, 3), (2, 1, 3)] * 4)]
    base, new = sum(noisy, seeds(1.0, 2.0, 0.5, **began)), sum(other, seeds(9.5, 11.0, 10.0, **began))
    found = [row for row in compare(base, new).rows if row.regressed]
    assert [(row.series.solver, row.reason) for row in found] == [("one", "it learnt in BASE and does not in NEW")]
    half = sum(other, seeds(9.5, 11.0, 5.0, **began))  # one seed still learns: then it is a matter of statistics
    assert not compare(base, half).regressed


def simulated(generator: np.random.Generator, spreads: np.ndarray, levels: np.ndarray, n: int) -> list[Record]:
    """Records of one program on `n` seeds: each solver has its own level and its own noise."""
    return [
        record(float(level * math.exp(generator.normal(0, spread))), seed=seed, solver=f"s{k}", start={"error": 3.0})
        for k, (spread, level) in enumerate(zip(spreads, levels, strict=True))
        for seed in range(n)
    ]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_unchanged_code_on_another_machine_seldom_raises_an_alarm(n: int) -> None:
    # nothing is paired here, which is the worst case: other bits, other trajectories; noise as seen at smoke size
    generator = np.random.default_rng(n)
    alarms = 0
    for _ in range(150):
        spreads, levels = np.exp(generator.uniform(math.log(0.03), 0, 12)), np.exp(generator.normal(0, 2, 12))
        if n == 1:
            spreads = np.full(12, 0.25)  # with one seed nothing can be learnt: the assumption must hold
        base, new = (simulated(generator, spreads, levels, n) for _ in range(2))
        alarms += compare(base, new).regressed
    assert alarms <= 150 * 0.05  # asked for 1 %; the scatter of noise between solvers is only roughly as assumed


def test_a_regression_of_one_solver_among_unchanged_ones_is_found() -> None:
    generator = np.random.default_rng(5)
    found = 0
    for _ in range(40):
        spreads, levels = np.exp(generator.uniform(math.log(0.03), math.log(0.5), 12)), np.ones(12)
        base = simulated(generator, spreads, levels, 3)
        changed = [float(8 * math.exp(generator.normal(0, spreads[0]))) for _ in range(3)]
        new = seeds(*changed, solver="s0") + [r for r in base if r.spec.solver != "s0"]
        outcome = compare(base, new)
        assert {row.series.solver for row in outcome.rows if row.regressed} <= {"s0"}
        found += outcome.regressed
    assert found >= 38


# --------------------------------------------------------------------------------------------------------------- status


@pytest.mark.parametrize("status", [Status.DIVERGED, Status.ERROR, Status.OOM, Status.TIMEOUT])
def test_a_run_that_no_longer_ends_well_is_a_regression(status: Status) -> None:
    new = [*seeds(1.0, 1.0), record(None, seed=2, status=status, reason="why")]
    outcome = compare(seeds(1.0, 1.0, 1.0), new)
    row = the(outcome, Aspect.STATUS)
    assert row.verdict is Verdict.WORSE
    assert row.reason == f"seed 2: ok → {status}: why"
    assert outcome.regressed
    assert the(outcome).seeds == (0, 1)
    assert the(compare(new, seeds(1.0, 1.0, 1.0)), Aspect.STATUS).verdict is Verdict.BETTER


def test_runs_that_are_missing_or_declined_measured_nothing() -> None:
    outcome = compare(seeds(1.0) + seeds(1.0, solver="two"), seeds(1.0))
    row = next(row for row in outcome.rows if row.series.solver == "two")
    assert (row.verdict, row.reason) == (Verdict.NOTHING, "in BASE, not in NEW")
    assert outcome.compared
    assert not outcome.regressed
    assert not compare(seeds(1.0) + seeds(1.0, solver="two"), seeds(1.0), Rules(require_all=True)).compared
    assert the(compare(seeds(1.0), [record(None, status=Status.SKIPPED)]), Aspect.STATUS).verdict is Verdict.NOTHING
    assert the(compare([record(1.0, seed=1)], [record(1.0, seed=2)]), Aspect.STATUS).verdict is Verdict.NOTHING
    new = compare(seeds(1.0), seeds(1.0) + seeds(1.0, solver="two"), Rules(require_all=True))
    assert new.compared
    assert {row.verdict for row in new.rows if row.series.solver == "two"} == {Verdict.NOT_COMPARABLE}


def test_nothing_at_all_is_no_success() -> None:
    failed = [record(None, status=Status.ERROR)]
    for base, new in (([], []), ([], seeds(1.0)), (seeds(1.0), []), (failed, failed)):
        outcome = compare(base, new)
        assert not outcome.compared
        assert not outcome.regressed


# --------------------------------------------------------------------------------------------------------- memory, time


def with_memory(megabytes: float, **changes: object) -> list[Record]:
    return seeds(1.0, 1.0, 1.0, memory=Memory(rss_above_imports=int(megabytes * 1e6)), **changes)


def test_memory_has_a_threshold_and_is_compared_on_equal_hardware_only() -> None:
    assert the(compare(with_memory(60), with_memory(150)), Aspect.MEMORY).verdict is Verdict.SAME
    outcome = compare(with_memory(60), with_memory(360))
    row = the(outcome, Aspect.MEMORY)
    assert (row.verdict, row.change, row.base) == (Verdict.WORSE, pytest.approx(300), pytest.approx(60))
    assert outcome.regressed
    for other in ({"environment": ENVIRONMENT | {"cpu": "B"}}, {"threads": 2}, {"environment": {}}):
        outcome = compare(with_memory(60), with_memory(360, **other))
        assert the(outcome, Aspect.MEMORY).verdict is Verdict.NOT_COMPARABLE
        assert the(outcome).verdict is Verdict.SAME, "quality is compared across machines"
        assert not outcome.regressed


def test_memory_of_a_gpu_is_what_was_allocated() -> None:
    gpu = {"device": "cuda:0", "environment": ENVIRONMENT | {"device": "Card"}}
    base, new = (
        seeds(1.0, memory=Memory(rss_above_imports=900_000_000, cuda_peak_allocated=size), **gpu)
        for size in (10_000_000, 40_000_000)
    )
    assert the(compare(base, new), Aspect.MEMORY).verdict is Verdict.WORSE


def test_a_gpu_and_a_cpu_are_compared_by_quality_alone() -> None:
    gpu = {"device": "cuda:1", "environment": ENVIRONMENT | {"device": "Card"}}
    outcome = compare(seeds(1.0, 1.1, 0.9), seeds(9.0, 9.1, 8.9, **gpu))
    assert the(outcome).verdict is Verdict.WORSE
    assert the(outcome, Aspect.MEMORY).verdict is Verdict.NOT_COMPARABLE
    assert "cpu in BASE, cuda in NEW" in the(outcome, Aspect.STATUS).reason
    ambiguous = compare(seeds(1.0), seeds(1.0, **gpu) + seeds(1.0))
    assert {row.verdict for row in ambiguous.rows if row.series.device == "cuda"} == {Verdict.NOT_COMPARABLE}


def timed(ms: float, **changes: object) -> list[Record]:
    return seeds(1.0, 1.0, times=Times(step_ms=ms, step_ms_p10=ms * 0.95, step_ms_p90=ms * 1.05), **changes)


def test_time_is_a_regression_only_when_asked_and_beyond_its_noise() -> None:
    outcome = compare(timed(10), timed(30))
    assert the(outcome, Aspect.TIME).verdict is Verdict.WORSE
    assert not outcome.regressed
    gate = Rules(gate_time=3.0)
    assert compare(timed(10), timed(30), gate).regressed
    assert not compare(timed(10), timed(10.8), gate).regressed
    assert not compare(timed(10), timed(30), Rules(gate_time=1000.0)).regressed
    assert not compare(timed(10), timed(30, environment=ENVIRONMENT | {"cores": 64}), gate).regressed
    assert not compare(timed(10), timed(30, shared_device=True), gate).regressed


def test_runs_on_a_machine_under_load_are_left_out_of_time_and_the_row_says_so() -> None:
    gate = Rules(gate_time=3.0)

    def busy(ms: float, share: float) -> Times:
        return Times(step_ms=ms, step_ms_p10=ms, step_ms_p90=ms, train_s=9.0, warmup_s=1.0, train_cpu_s=10 * share)

    base = seeds(1.0, 1.0, times=busy(10, 1.0))
    slow, quick = seeds(1.0, 1.0, times=busy(30, 0.8)), seeds(1.0, 1.0, times=busy(10, 0.95))
    row = the(compare(base, slow, gate), Aspect.TIME)
    assert (row.verdict, row.seeds) == (Verdict.NOT_COMPARABLE, (0, 1))
    assert "under load in 2 of 2" in row.reason
    row = the(compare(base, [slow[0], quick[1]], gate), Aspect.TIME)
    assert (row.verdict, row.seeds, row.new) == (Verdict.SAME, (1,), pytest.approx(10))
    assert "under load in 1 of 2" in row.reason
    assert compare(base, seeds(1.0, 1.0, times=busy(30, 1.0)), gate).regressed


@pytest.mark.parametrize(
    ("times", "device", "loaded"),
    [
        (Times(train_s=9.0, warmup_s=1.0, train_cpu_s=8.9), "cpu", True),
        (Times(train_s=9.0, warmup_s=1.0, train_cpu_s=9.1), "cpu", False),
        (Times(train_s=9.0, train_cpu_s=36.0), "cpu", False),
        (Times(train_s=0.5, warmup_s=0.4, train_cpu_s=0.1), "cpu", False),
        (Times(train_s=9.0, warmup_s=1.0, train_cpu_s=1.0), "cuda:0", False),
        (Times(train_s=9.0), "cpu", False),
        (Times(), "cpu", False),
    ],
)
def test_a_machine_is_under_load_where_training_got_less_than_a_core(times: Times, device: str, loaded: bool) -> None:
    (record,) = seeds(1.0, times=times, device=device)
    assert record.loaded is loaded


# -------------------------------------------------------------------------------------------------------------- pairing


def test_a_changed_default_is_a_change_of_the_solver_but_a_typed_parameter_is_another_solver() -> None:
    assert quality(seeds(1.0), seeds(1.0, solver_config={"lr": 0.01, "more": True})).verdict is Verdict.SAME
    outcome = compare(seeds(1.0), seeds(1.0, label="one[lr=0.01]"))
    assert {row.verdict for row in outcome.rows} == {Verdict.NOTHING, Verdict.NOT_COMPARABLE}


@pytest.mark.parametrize(
    "other", [{"preset": "quick"}, {"task_config": {"dim": 3}}, {"time_limit": 3.0}, {"cpu_limit": 3.0}, {"task": "t"}]
)
def test_other_instances_presets_and_budgets_of_time_are_not_paired(other: dict[str, object]) -> None:
    assert not compare(seeds(1.0), seeds(1.0, **other)).compared


def test_a_parameter_of_the_task_that_is_not_set_does_not_part() -> None:
    assert compare(seeds(1.0), seeds(1.0, task_config={"dim": 2.0, "newer": None})).compared


def test_other_input_data_are_not_comparable() -> None:
    outcome = compare(seeds(1.0, source={"input a": "1"}), seeds(9.0, source={"input a": "2"}))
    assert {row.verdict for row in outcome.rows} == {Verdict.NOT_COMPARABLE}


def test_of_several_records_of_a_run_the_newest_counts() -> None:
    old = record(9.0, id="a", created="2026-01-01T00:00:00")
    new = record(1.0, id="b", created="2026-02-01T00:00:00")
    outcome = compare(seeds(1.0), [new, old])
    assert the(outcome).change == 1.0
    assert outcome.notes == ("NEW: 1 older records of the same runs passed over; the newest of each counts",)


def test_other_versions_are_noted() -> None:
    outcome = compare(seeds(1.0), seeds(1.0, environment=ENVIRONMENT | {"torch": "2.7"}))
    assert outcome.notes == ("torch: 2.6 in BASE, 2.7 in NEW",)


def test_a_changed_budget_is_said() -> None:
    assert the(compare(seeds(1.0), seeds(1.0, steps=10)), Aspect.STATUS).reason == "budget: 20 → 10 steps"


# ---------------------------------------------------------------------------------------------------------------- size


@pytest.mark.slow
def test_ten_thousand_records_take_seconds(tmp_path: Path) -> None:
    from otbench.records.record import CurvePoint

    generator = np.random.default_rng(0)
    curve = [CurvePoint(step=k, train_s=0.1 * k, metrics={"error": 1.0 / (k + 1)}) for k in range(20)]
    for side in ("base", "new"):
        (tmp_path / side).mkdir()
        for k in range(5000):
            value = float(np.exp(generator.normal()))
            made = record(value, seed=k % 5, solver=f"s{k // 5}", curve=curve)
            (tmp_path / side / f"{k}.json").write_text(made.model_dump_json())
    begin = time.perf_counter()
    base, _ = read_all([tmp_path / "base"])
    new, _ = read_all([tmp_path / "new"])
    outcome = compare(base, new)
    took = time.perf_counter() - begin
    assert len([row for row in outcome.rows if row.aspect is Aspect.QUALITY]) == 1000
    assert took < 20, f"{took:.1f} s"  # about 3 s on an idle core


def test_a_folder_inside_is_not_mixed_in(tmp_path: Path) -> None:
    Store(tmp_path).write(record(1.0))
    Store(tmp_path / "ci").write(record(2.0))
    assert [r.metrics["error"] for r in Store(tmp_path).all()] == [1.0]
