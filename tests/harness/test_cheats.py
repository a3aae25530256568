"""What rules.md says of who sees what: each claim here, with a solver that tries the contrary."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from otbench.harness.execute import execute
from otbench.harness.judge import clock_fault
from otbench.harness.messages import Ended
from otbench.harness.plan import Request, make_plan
from otbench.harness.spool import read_problem, write_problem
from otbench.plugins.registry import Registry
from otbench.problem import PoolMeasure, Problem, QuadraticCost
from otbench.records.record import Record, Status, Times
from otbench.records.store import Store

PLUGINS = [Path(__file__).parents[1] / "helpers" / "plugins" / name for name in ("watched.py", "cheats.py")]
HONEST = (3.1 - 1) ** 2
"""Mean squared error of what the cheats really learn: a shift by 3.1 in place of 1."""


@pytest.fixture(scope="module")
def cheats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """One plan of all cheats, by how they cheat; "honest" is a built-in solver."""
    folder = tmp_path_factory.mktemp("cheats")
    solvers = "cheat[how=remember|search|patch|rewrite],ls"
    plans = [
        make_plan(
            Request(solvers=names, task=task, device="cpu", threads=1, steps=10, standardise="off"), Registry(PLUGINS)
        )
        for names, task in ((solvers, "watched"), ("cheat", "watched[source=fresh|closure]"))
    ]
    runs = tuple(run for plan in plans for run in plan.runs if run.spec.kind == "solver")
    outcome = execute(replace(plans[0], runs=runs), Store(folder), jobs=2)
    return {
        record.spec.solver
        if record.spec.solver != "cheat"
        else str(record.spec.solver_config["how"] or record.spec.task_config["source"]): record
        for record in outcome.records
    }


def test_the_judge_imports_no_solver(cheats: dict[str, Record]) -> None:
    record = cheats["ls"]
    assert record.status is Status.OK, record.reason
    assert [(point.metrics["solvers"], point.metrics["cheats"]) for point in record.curve] == [(0, 0)] * 6
    assert cheats["remember"].metrics["cheats"] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's protection of a process is Linux's")
def test_the_memory_of_the_judge_is_closed_to_other_processes(cheats: dict[str, Record]) -> None:
    """0: not dumpable, so that the kernel lets nobody but root look into it (man 2 prctl, PR_SET_DUMPABLE)."""
    assert all(point.metrics["open"] == 0 for record in cheats.values() for point in record.curve if point.metrics)
    assert cheats["ls"].metrics["open"] == 0


def test_a_solver_is_never_shown_held_out_rows(cheats: dict[str, Record]) -> None:
    """Rows that its maps were shown at step 0 are not there at step 1, nor is anything else of the task."""
    for how in ("remember", "search"):
        points = cheats[how].curve[1:-1]
        assert [point.step for point in points] == [1, 2, 4, 8]
        for name in ("seen", "hidden", "beside", "tasks"):
            assert [point.scalars[name] for point in points] == [0.0] * 4, (how, name)


def test_nothing_in_the_process_of_a_map_knows_the_truth(cheats: dict[str, Record]) -> None:
    assert cheats["search"].status is Status.OK
    assert cheats["search"].metrics["error"] == pytest.approx(HONEST)


def test_the_way_back_does_not_remember_the_way_there(cheats: dict[str, Record]) -> None:
    assert cheats["remember"].metrics["gap"] == pytest.approx(3.1**2)


def test_a_patched_metric_or_record_changes_no_number(cheats: dict[str, Record]) -> None:
    record = cheats["patch"]
    assert record.status is Status.OK
    assert record.metrics["error"] == pytest.approx(HONEST)
    assert record.start["error"] == pytest.approx((3.0 - 1) ** 2)


def test_maps_of_an_earlier_step_cannot_be_replaced_by_later_ones(cheats: dict[str, Record]) -> None:
    record = cheats["rewrite"]
    assert (record.status, record.metrics) == (Status.ERROR, {})
    assert record.reason == "the maps of step 0 were changed after they had been made"


def test_a_problem_that_cannot_be_handed_on_names_its_task(cheats: dict[str, Record]) -> None:
    assert cheats["fresh"].status is Status.OK
    record = cheats["closure"]
    assert record.status is Status.ERROR
    assert record.reason.startswith("task watched: its problem cannot be handed to the process that trains")
    assert record.traceback == ""


def test_a_trainer_gets_the_pool_and_no_number_beside_it(tmp_path: Path) -> None:
    """A slice of a tensor would take along the rows that it was cut from."""
    x = torch.arange(40.0).reshape(20, 2)
    problem = Problem(PoolMeasure(x[:5]), PoolMeasure(x[5:10]), QuadraticCost(), x.device, x.dtype)
    write_problem(tmp_path / "problem", problem, task="watched")
    entry = Registry(PLUGINS).find("watched")
    found = read_problem(tmp_path / "problem", entry)
    assert found.source.pool is not None
    assert torch.equal(found.source.pool, x[:5])
    assert found.source.pool.untyped_storage().nbytes() == 5 * 2 * 4
    assert (tmp_path / "problem").stat().st_size < 2000


def test_times_that_fall_short_of_the_clock_outside_are_not_believed() -> None:
    ended = Ended(run="r", role="trainer", code=0, wall_s=30.0, cpu_s=30.0)
    assert clock_fault(ended, Times(train_s=26.0)) == ""
    assert clock_fault(ended, Times(train_s=24.0)).startswith("its clock cannot be believed: it reports 24.0 s")
    assert clock_fault(ended.model_copy(update={"held_up": 2.0}), Times(train_s=24.0)) == ""
