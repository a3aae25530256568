"""Runs that take their process, the clock or the terminal along: each still ends as a row that says what happened."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from otbench.config import build_config
from otbench.errors import OtbenchError
from otbench.harness.evaluate import Applier
from otbench.harness.execute import execute
from otbench.harness.plan import Request, make_plan
from otbench.plugins.registry import Registry
from otbench.records.record import Record, Status
from otbench.records.store import Store
from otbench.solver import Context

from ..helpers.applied import apply_maps

PLUGINS = [Path(__file__).parents[1] / "helpers" / "plugins" / name for name in ("toy.py", "rogue.py")]


HOWS = (
    *("exit3", "exit4", "interrupt", "sysexit", "generator", "broken", "long", "escape"),
    *("fork", "forkaway", "spawn", "forkhang", "bytes", "thread", "column", "guard"),
)


@dataclass(frozen=True)
class Ran:
    """What one plan of all rogue runs left: records by how they go wrong, processes that they started."""

    folder: Path
    rows: dict[str, Record]
    started: list[int]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """All in one plan, which none of them may end."""
    folder = tmp_path_factory.mktemp("rogue")
    (folder / "started").mkdir()
    solvers = f"rogue[how={'|'.join(HOWS)},nap=0.1],rogue[how=clock|slowclock,nap=1.0]"
    request = Request(solvers=solvers, task="toy", device="cpu", threads=1, hard_limit=15.0)
    made = make_plan(request, Registry(PLUGINS))
    made = replace(made, runs=tuple(one for one in made.runs if one.spec.kind == "solver"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROGUE_FOLDER", str(folder / "started"))
        patch.setattr("otbench.harness.execute.STOP_SECONDS", 2.0)
        outcome = execute(made, Store(folder / "out"), jobs=3)
    assert len(outcome.records) == len(made.runs) == len(HOWS) + 2
    rows = {str(record.spec.solver_config["how"]): record for record in outcome.records}
    return Ran(folder / "out", rows, [int(path.name) for path in (folder / "started").iterdir()])


def ended(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"


def test_exit_codes_of_a_plugin_are_quoted_and_end_no_plan(ran: Ran) -> None:
    for how in ("exit3", "exit4"):
        record = ran.rows[how]
        assert record.status is Status.ERROR
        assert record.reason == f"the process of training ended with code {how[4:]} and no result"
        assert [point.step for point in record.curve] == [0, 1]
        assert record.start == {"error_fwd": pytest.approx(1.0)}
        assert Store(ran.folder).read(record.id) == record


def test_the_program_fails_where_a_run_ended_with_code_3(
    tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    words = [word for path in PLUGINS for word in ("--plugin", path)]
    code, out, err = cli(
        *words,
        *("--solvers", "rogue[how=exit3]", "--task", "toy", "--device", "cpu", "--threads", 1, "--jobs", 2),
        *("--out", tmp_path / "out"),
    )
    assert code == 1, err
    assert "code 3" in out


def test_what_ends_a_program_is_an_error_row_with_its_reason(ran: Ran) -> None:
    rows = {how: ran.rows[how] for how in ("interrupt", "sysexit", "generator", "broken")}
    assert {how: record.reason for how, record in rows.items()} == {
        "interrupt": "KeyboardInterrupt: KeyboardInterrupt",
        "sysexit": "SystemExit: enough",
        "generator": "GeneratorExit: GeneratorExit",
        "broken": "BrokenError: BrokenError",
    }
    assert all(record.status is Status.ERROR and "misbehave" in record.traceback for record in rows.values())


def test_messages_are_cut_and_cannot_command_a_terminal(ran: Ran) -> None:
    rows = ran.rows
    assert rows["long"].reason.startswith("ValueError: xxx")
    assert len(rows["long"].reason) <= 1000
    assert len(rows["long"].traceback) <= 8000
    assert "misbehave" in rows["long"].traceback
    assert rows["escape"].reason == "ValueError: [31mred ]0;title gnol"
    kept = Store(ran.folder).read(rows["escape"].id)
    assert kept is not None
    assert "[31mred" in kept.traceback
    assert all(c == "\n" or unicodedata.category(c)[0] != "C" for c in kept.reason + kept.traceback + kept.stderr)


def test_a_run_ends_with_its_worker_and_all_that_it_started_ends_too(ran: Ran) -> None:
    for how in ("fork", "forkaway", "spawn"):
        record = ran.rows[how]
        assert record.status is Status.OK
        assert record.account.wall_s is not None
        assert record.account.wall_s < 300  # what it started would last for 600 s
    assert len(ran.started) == 4  # one of each, and that of the run that hangs
    assert all(map(ended, ran.started))


def test_the_hard_limit_ends_what_left_the_process_group_and_keeps_the_first_point(ran: Ran) -> None:
    record = ran.rows["forkhang"]
    assert record.status is Status.TIMEOUT
    assert [point.step for point in record.curve] == [0, 1]
    assert record.start["error_fwd"] == pytest.approx(1.0)
    assert record.account.wall_s is not None
    assert record.account.wall_s >= 15


def test_bytes_on_the_pipe_of_events_and_threads_that_do_not_end_stop_nothing(ran: Ran) -> None:
    assert [ran.rows[how].status for how in ("bytes", "thread")] == [Status.OK, Status.OK]


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ("column", "shape (100, 1), float32, on cpu"),
        ("row", "shape (1, 2), float32, on cpu"),
        ("int8", "shape (100, 2), int8, on cpu"),
        ("complex", "shape (100, 2), complex64, on cpu"),
        ("meta", "shape (100, 2), float32, on meta"),
        ("list", "a list"),
    ],
)
def test_maps_of_another_form_are_refused(how: str, found: str) -> None:
    registry = Registry(PLUGINS)
    task = registry.load(registry.find("toy", "task"))
    instance = task.cls(build_config(task.config, {}, owner="task toy")).build(
        seed=0, device=torch.device("cpu"), dtype=torch.float32
    )
    rogue = registry.load(registry.find("rogue", "solver"))
    context = Context(torch.device("cpu"), torch.float32, torch.Generator(), lambda: 0.0)
    solver = rogue.cls(instance.problem, build_config(rogue.config, {"how": how}, owner="solver rogue"), context)
    maps = solver.transport()
    for use in (
        lambda: apply_maps(maps, instance.test, seed=0, owner="rogue"),
        lambda: Applier(maps, "rogue", 0).seconds("forward", instance.test.source),
    ):
        with pytest.raises(OtbenchError) as error:
            use()
        wanted = "shape (100, 2), float32, on cpu"
        assert str(error.value) == f"rogue: forward must return {wanted} here; it returned {found}"


def test_a_run_that_ends_the_process_above_it_is_an_error_row_and_others_go_on(ran: Ran) -> None:
    record = ran.rows["guard"]
    assert record.status is Status.ERROR
    assert "the process that starts the others was ended" in record.reason
    assert [point.step for point in record.curve] == [0, 1]


def test_a_map_of_another_form_is_an_error_row(ran: Ran) -> None:
    record = ran.rows["column"]
    assert record.status is Status.ERROR
    assert "rogue: forward must return shape" in record.reason
    assert record.metrics == {}


def test_a_patched_clock_changes_no_time_and_times_that_do_not_add_up_are_refused(ran: Ran) -> None:
    rows = ran.rows
    times, account = rows["clock"].times, rows["clock"].account
    assert rows["clock"].status is Status.OK
    assert times.train_s is not None
    assert times.warmup_s is not None
    assert times.train_s + times.warmup_s >= 5.0
    assert account.wall_s is not None
    assert account.cpu_s is not None
    assert account.trainer_s is not None
    assert account.wall_s - account.startup_s >= account.trainer_s >= 4.9
    assert account.wall_s - account.startup_s >= times.total_s - 0.1
    assert account.cpu_s > 0
    assert rows["slowclock"].status is Status.ERROR
    assert "its clock cannot be believed: it reports" in rows["slowclock"].reason
    assert Store(ran.folder).read(rows["slowclock"].id) == rows["slowclock"]


def test_a_run_until_a_step_has_that_point_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    store = Store(tmp_path / "cut")
    made = make_plan(Request(solvers="toyshift", task="toy", device="cpu", threads=1, steps=40), Registry(PLUGINS))
    made = replace(made, runs=tuple(one for one in made.runs if one.spec.kind == "solver"))
    (whole,) = execute(made, Store(tmp_path / "whole")).records
    store.checkpoint(whole.id).parent.mkdir(parents=True)
    store.checkpoint(whole.id).write_bytes(b"of the whole run")
    (part,) = execute(made, store, until_step=12).records
    assert part.status is Status.OK
    assert part.id == whole.id
    assert part.counts.steps == part.curve[-1].step == 12
    assert part.metrics == part.curve[-1].metrics
    points = [[(p.step, p.digest, p.metrics) for p in record.curve if p.step <= 8] for record in (whole, part)]
    assert points[0] == points[1]
    assert [step for step, *_ in points[0]] == [0, 1, 2, 4, 8]
    assert all(point.digest for point in whole.curve)
    assert whole.curve[-1].step == 40
    assert store.checkpoint(whole.id).read_bytes() == b"of the whole run"
