"""Verification: a record is run again, and what that shows is said, kept and believed no further than it reaches."""

from __future__ import annotations

import itertools
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from otbench.harness.execute import execute
from otbench.harness.identity import standing
from otbench.harness.plan import Request, make_plan
from otbench.harness.verify import Verifier, against_spread, first_difference
from otbench.plugins.registry import Registry
from otbench.records.record import CurvePoint, Record, RunSpec, Status
from otbench.records.store import Store
from otbench.records.verified import VERIFIED, Outcome, Verification, read_verified
from otbench.reporting import Metric

Records = dict[str, Record]


@pytest.fixture(scope="module")
def made(toy: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records]:
    """Runs of `toyshift`, two at a time: their folder, and records by seed; "timed" has a time limit."""
    folder = tmp_path_factory.mktemp("records")
    registry = Registry([Path(toy)])
    request = Request(solvers="toyshift", task="toy", device="cpu", threads=1, steps=20, seeds="0-1")
    plans = [make_plan(request, registry), make_plan(replace(request, seeds="0", time_limit=60.0), registry)]
    runs = tuple(run for plan in plans for run in plan.runs if run.spec.kind == "solver")
    done = execute(replace(plans[0], runs=runs), Store(folder), jobs=2).records
    assert [record.status for record in done] == [Status.OK] * 3
    return folder, {"timed" if record.spec.time_limit else str(record.spec.seed): record for record in done}


@pytest.fixture
def records(made: tuple[Path, Records], tmp_path: Path) -> Records:
    """These records, in the folder `records` of this test."""
    shutil.copytree(made[0], tmp_path / "records")
    return made[1]


@pytest.fixture
def plugin(toy: str, tmp_path: Path) -> Path:
    """A copy of the toy plugin, whose code a test may change."""
    (tmp_path / "plugin").mkdir()
    copy = tmp_path / "plugin" / "toy.py"
    copy.write_text(Path(toy).read_text())
    return copy


@pytest.fixture
def verify(plugin: Path, tmp_path: Path) -> Callable[..., Verification]:
    """Verify a record under the code that the plugin has now, read from its file as a new process would."""

    def run(record: Record, *, until_step: int | None = None) -> Verification:
        sys.modules.pop("otbench_ext.toy", None)
        return Verifier(tmp_path / "records", Registry([plugin]), until_step=until_step).verify(record)

    return run


def change(plugin: Path, old: str, new: str) -> None:
    text = plugin.read_text()
    assert old in text
    plugin.write_text(text.replace(old, new))


def test_a_rename_is_bit_equal_and_lifts_its_group(
    records: Records, verify: Callable[..., Verification], plugin: Path, tmp_path: Path
) -> None:
    group = [records["0"], records["1"]]
    registry = Registry([plugin])
    assert not standing(group, registry).stale
    change(plugin, "loss", "distance")
    assert set(standing(group, Registry([plugin])).stale) == {record.id for record in group}
    found = verify(group[0])
    assert (found.outcome, found.difference) == (Outcome.EQUAL, "")
    assert found.environment["torch"] == group[0].environment["torch"]
    assert found.recorded != found.code
    kept = read_verified([tmp_path / "records"])
    assert kept == [found]
    lifted = standing(group, Registry([plugin]), kept)
    assert not lifted.stale
    assert dict(lifted.lifted) == {record.id: "1 of 2 verified" for record in group}
    # a second call runs nothing; the file is no record and no litter
    assert verify(group[0]) == found
    store = Store(tmp_path / "records")
    assert [record.id for record in store.all()] == sorted(record.id for record in records.values())
    assert store.passed_over == []


def test_a_planted_change_is_found_where_it_begins(
    records: Records, verify: Callable[..., Verification], plugin: Path, tmp_path: Path
) -> None:
    record = records["0"]
    change(plugin, "self.count += 1\n        marker", "self.count += 1 + 100 * (self.count == 5)\n        marker")
    change(plugin, "loss.backward()", "(loss * (1 if self.count < 6 else -1)).backward()")
    # up to the step before, nothing has changed
    early = verify(record, until_step=5)
    assert (early.outcome, early.reason) == (Outcome.EQUAL, "to step 4")
    found = verify(record)
    assert found.outcome is Outcome.DIFFERENT
    assert found.difference.startswith("step 8: error_fwd")
    assert "reruns" in found.reason
    assert verify(record, until_step=5) == found  # what differs is not lifted by a look at its beginning
    # one record that differs outweighs those that do not
    assert set(standing([record], Registry([plugin]), read_verified([tmp_path / "records"])).stale) == {record.id}


def test_a_run_with_a_time_limit_is_held_against_the_spread(
    records: Records, verify: Callable[..., Verification], plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otbench.harness.verify.OTHERS", 1)  # the interval of two reruns is wide, and enough here
    record = records["timed"]
    # steps end it before its seconds do, or the load of the machine would decide; its last digits are put out instead
    *curve, last = record.curve
    last = last.model_copy(update={"metrics": {name: value * (1 + 1e-9) for name, value in last.metrics.items()}})
    record = record.model_copy(update={"curve": [*curve, last]})
    assert verify(record, until_step=4).outcome is Outcome.UNKNOWN
    found = verify(record)
    assert found.outcome is Outcome.WITHIN
    assert found.reason.startswith("error_fwd")
    change(plugin, "    pool_seed: int | None", "    other: int | None")
    change(plugin, "self.pool_seed(seed)", "seed")
    found = verify(record.model_copy(update={"spec": record.spec.model_copy(update={"task_config": {}})}))
    assert found.outcome is Outcome.UNKNOWN
    assert "one seed and a time limit" in found.reason


def spec(**values: object) -> RunSpec:
    given: dict[str, object] = {
        "kind": "solver",
        "solver": "toyshift",
        "solver_config": {},
        "task": "toy",
        "task_config": {},
        "preset": "smoke",
        "seed": 0,
        "steps": 8,
        "time_limit": None,
        "device": "cpu",
        "threads": 1,
        "hard_limit": 60.0,
    }
    return RunSpec.model_validate(given | values)


def recorded(*errors: float, digests: str = "", status: Status = Status.OK, **values: object) -> Record:
    """A record whose error at steps 0, 1, 2, 4, ... is as given."""
    steps = [0, *(2**n for n in range(len(errors) - 1))]
    curve = [
        CurvePoint(step=step, train_s=0, metrics={"error": error}, digest=digest)
        for step, error, digest in itertools.zip_longest(steps, errors, digests, fillvalue="")
        if step != ""
    ]
    record = Record(
        id="r", spec=spec(**values), status=status, curve=curve, metric_info=[Metric(name="error", label="e")]
    )
    record.counts.steps = steps[-1]
    return record


@pytest.mark.parametrize(
    ("then", "now", "until", "difference"),
    [
        (recorded(3, 2, 1), recorded(3, 2, 1), None, ""),
        (recorded(3, 2, math.nan), recorded(3, 2, math.nan), None, ""),
        (recorded(3, 2, 1), recorded(3, 2.5, 1), None, "step 1: error 2.0, now 2.5"),
        (recorded(3, 2, 1), recorded(3, 2), None, "step 2: no such point"),
        (recorded(3, 2, 1, 0), recorded(3, 2, 5), 1, ""),
        (recorded(3, 2, 1, 0), recorded(3, 2, 5), 2, "step 2: error 1.0, now 5.0"),
        (recorded(3, 2, 1, digests="abc"), recorded(3, 2, 1, digests="abd"), None, "step 2: the weights"),
        (recorded(3, 2, 1), recorded(3, 2, 1, digests="abc"), None, ""),
        (recorded(3, 2, status=Status.DIVERGED), recorded(3, 2), None, "ends as ok: "),
        (recorded(3, 2, 1, 0, 0), recorded(3, 2, status=Status.DIVERGED), 1, "ends as diverged: "),
        (recorded(3, 2, status=Status.DIVERGED), recorded(3, 2, status=Status.DIVERGED), None, ""),
    ],
)
def test_the_first_differing_point_is_named(then: Record, now: Record, until: int | None, difference: str) -> None:
    assert first_difference(then, now, until) == difference


@pytest.mark.parametrize(
    ("value", "reruns", "outcome"),
    [
        (1.0, (1.0, 1.1, 0.9), Outcome.WITHIN),
        (1.4, (1.0, 1.1, 0.9), Outcome.WITHIN),  # 4.30 * 0.1 * sqrt(4 / 3) = 0.497
        (1.6, (1.0, 1.1, 0.9), Outcome.DIFFERENT),
        (1.0000001, (1.0, 1.0, 1.0), Outcome.WITHIN),
        (1.0001, (1.0, 1.0, 1.0), Outcome.DIFFERENT),
        (math.nan, (1.0, 1.1, 0.9), Outcome.DIFFERENT),
    ],
)
def test_the_spread_is_the_prediction_interval_of_the_reruns(
    value: float, reruns: tuple[float, ...], outcome: Outcome
) -> None:
    assert against_spread(recorded(5, value), [recorded(5, error) for error in reruns])[0] is outcome


accepted = recorded(3, 2, 1)
accepted = accepted.model_copy(update={"curve": [], "start": {"error": 3.0}, "metrics": {"error": 1.0}})


def test_a_record_without_a_curve_is_compared_at_start_and_end() -> None:
    assert first_difference(accepted, recorded(3, 9, 1)) == ""
    assert first_difference(accepted, recorded(4, 2, 1)) == "step 0: error 3.0, now 4.0"
    assert first_difference(accepted, recorded(3, 2, 2)) == "step 2: error 1.0, now 2.0"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (recorded(1, solver="no_such"), "unknown solver or baseline 'no_such'"),
        (recorded(1, solver_config={"gone": 1}), "solver toyshift has no parameter 'gone'"),
        (recorded(1, device="cuda:99"), "--device cuda:99"),
        (recorded(1, status=Status.TIMEOUT), "it ended as timeout"),
        (accepted, "it has no curve"),
        (recorded(1, task="gaussian", solver="ls", task_config={"file": "/no/such.npz"}), "/no/such.npz"),
    ],
)
def test_what_cannot_be_run_says_why(
    record: Record, reason: str, tmp_path: Path, toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otbench.harness.plan.gpus", lambda: ("Card",))  # what this machine has takes long to ask
    until_step = 1 if record is accepted else None
    found = Verifier(tmp_path, Registry([Path(toy)]), until_step=until_step).verify(record)
    assert found.outcome is Outcome.UNKNOWN
    assert reason in found.reason
    assert read_verified([tmp_path]) == [found]


def test_a_torn_file_of_outcomes_is_refused_and_not_written_over(tmp_path: Path, toy: str) -> None:
    from otbench.errors import StoreError

    (tmp_path / VERIFIED).write_text('{"verifications": [')
    with pytest.raises(StoreError, match=r"cannot read .*verified\.json"):
        Verifier(tmp_path, Registry([Path(toy)]))
