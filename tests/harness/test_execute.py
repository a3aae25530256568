"""Faults: whatever happens to a run, it ends as a row or is completed by the next call, and no record is ever lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from otbench.harness.execute import Outcome, execute
from otbench.harness.plan import Plan, Request, make_plan
from otbench.plugins.registry import Registry
from otbench.records.record import Record, Status
from otbench.records.store import Store

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "tests" / "helpers" / "plugins" / "toy.py"


def plan(solvers: str, **options: object) -> Plan:
    request = Request(**{"solvers": solvers, "task": "toy", "device": "cpu", "threads": 1} | options)  # type: ignore[arg-type]
    made = make_plan(request, Registry([TOY]))
    # the baselines that always stand beside solvers cost a process; faults do not need them
    return replace(made, runs=tuple(run for run in made.runs if run.spec.kind == "solver"))


def run(folder: Path, solvers: str, *, force: bool = False, jobs: int = 1, **options: object) -> Outcome:
    return execute(plan(solvers, **options), Store(folder), force=force, jobs=jobs)


def by_solver(outcome: Outcome) -> dict[str, Record]:
    return {record.spec.solver: record for record in outcome.records}


FAULTS = "toynan,toyraise,toyoom,toyskip,toyprint,toyshift,toyhang[nap=0.1]"
HARD_LIMIT = 12.0


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Record]]:
    """Runs that fail in all ways, two at a time: their folder and their records."""
    folder = tmp_path_factory.mktemp("faults")
    return folder, by_solver(run(folder, FAULTS, jobs=2, hard_limit=HARD_LIMIT))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    """One good run, the only one at its time: its folder and its record."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, by_solver(run(folder, "toyshift", steps=50))["toyshift"]


def test_every_kind_of_failure_is_a_row_with_its_reason_and_the_rest_is_complete(
    faults: tuple[Path, dict[str, Record]],
) -> None:
    rows = faults[1]
    assert {name: str(record.status) for name, record in rows.items()} == {
        "toyhang": "timeout",
        "toynan": "diverged",
        "toyraise": "error",
        "toyoom": "oom",
        "toyskip": "skipped",
        "toyprint": "ok",
        "toyshift": "ok",
    }
    assert "loss is nan" in rows["toynan"].reason
    assert rows["toyraise"].reason == "ValueError: planted failure"
    assert "planted failure" in rows["toyraise"].traceback
    assert rows["toyskip"].reason == "takes no problem at all"
    for name in ("toynan", "toyraise", "toyoom"):
        assert [point.step for point in rows[name].curve][:3] == [0, 1, 2], name
        assert rows[name].start["error_fwd"] == pytest.approx(1.0)
    assert rows["toyshift"].metrics == rows["toyprint"].metrics  # same seed, same bits, whatever is printed
    assert all(record.shared_device for record in rows.values())


def test_a_record_says_what_it_took(alone: tuple[Path, Record]) -> None:
    record = alone[1]
    assert record.counts.steps == 50
    assert record.counts.samples == 50 * 100
    assert record.counts.parameters == 2
    assert record.counts.stored_bytes == 8
    assert record.settings == {"batch_size": 50}
    assert record.counts.networks_moved == {"net": True}
    for name, value in record.times.model_dump().items():
        assert value is not None, name
        assert value >= 0, name
    assert record.memory.rss_peak is not None
    assert record.memory.rss_above_imports is not None
    assert record.memory.rss_imports is not None
    assert record.memory.rss_peak > record.memory.rss_imports > 50e6
    assert record.environment["device"] == "cpu"
    assert record.environment["torch"]
    assert {"toy.py", "harness", "otbench"} <= set(record.source)
    text = record.model_dump_json()
    import getpass
    import socket

    assert socket.gethostname() not in text or len(socket.gethostname()) < 4
    assert f"/{getpass.getuser()}/" not in text
    assert record.curve[-1].metrics == record.metrics
    assert not record.shared_device


def test_the_same_command_again_does_nothing_and_force_repeats_to_the_same_bits(
    faults: tuple[Path, dict[str, Record]], alone: tuple[Path, Record], tmp_path: Path
) -> None:
    folder, rows = faults
    assert by_solver(run(folder, "toyshift,toynan")) == {name: rows[name] for name in ("toyshift", "toynan")}
    folder, first = alone
    shutil.copytree(folder, tmp_path / "out")
    forced = by_solver(run(tmp_path / "out", "toyshift", steps=50, force=True))["toyshift"]
    assert forced.metrics == first.metrics
    assert forced.times != first.times


def test_an_error_is_tried_again_and_a_killed_trainer_leaves_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_KILLED", str(tmp_path / "killed"))
    first = by_solver(run(tmp_path / "out", "toykill,toyshift", jobs=2))
    assert first["toykill"].status is Status.ERROR
    assert "SIGKILL" in first["toykill"].reason
    assert [point.step for point in first["toykill"].curve] == [0, 1, 2, 4, 8]
    assert all("error_fwd" in point.metrics for point in first["toykill"].curve)
    assert first["toyshift"].status is Status.OK
    second = by_solver(run(tmp_path / "out", "toykill,toyshift"))
    assert second["toykill"].status is Status.OK
    assert second["toyshift"] == first["toyshift"]


def test_a_step_that_hangs_is_ended_at_the_hard_limit_with_its_curve(faults: tuple[Path, dict[str, Record]]) -> None:
    folder, rows = faults
    record = rows["toyhang"]
    assert record.account.wall_s is not None
    assert record.account.wall_s < 60
    assert record.status is Status.TIMEOUT
    assert "hard limit of 12 s" in record.reason
    assert [point.step for point in record.curve][:3] == [0, 1, 2]
    assert all("error_fwd" in point.metrics for point in record.curve)  # judged on the maps that it left
    assert record.metrics == {}
    # settled under this limit, tried again under another
    assert by_solver(run(folder, "toyhang[nap=0.1]", hard_limit=HARD_LIMIT))["toyhang"] == record


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start the real program; wait until a quick one is recorded and a slow one under way."""
    command = [sys.executable, str(ROOT / "bench.py"), "--plugin", str(TOY), "--task", "toy", "--device", "cpu"]
    command += ["--solvers", "toyshift,toyshift[nap=0.5]", "--steps", "100", "--threads", "1", "--jobs", "2"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"TOY_STARTED": str(tmp_path / "started")},
        # where the tests themselves run in the background, Ctrl-C is ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (
        (tmp_path / "started").exists() and list((tmp_path / "out").glob("toy-toyshift-*.json"))
    ):
        time.sleep(0.1)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def guards_of(parent: int) -> list[int]:
    """Return the process ids of the guards that `parent` started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            started_by = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if started_by == parent and b"otbench.harness.guard" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except (OSError, ValueError):
            continue
    return found


def alive(process: int) -> bool:
    try:
        return b"otbench.harness.guard" in Path(f"/proc/{process}/cmdline").read_bytes()  # empty for one that has ended
    except OSError:
        return False


def finish(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Record]:
    monkeypatch.setenv("TOY_NAP_SCALE", "0")
    made = plan("toyshift,toyshift[nap=0.5]", steps=100)
    outcome = execute(made, Store(folder))
    assert all(record.status is Status.OK for record in outcome.records)
    return {record.label: record for record in outcome.records}


def test_ctrl_c_keeps_what_is_finished_prints_it_and_goes_on_from_there(
    program: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 130, err
    assert "Traceback" not in err
    assert "the same command goes on from here" in err
    assert "error fwd" in out  # the table of what there is
    assert list((tmp_path / "out" / "checkpoints").glob("*.pt"))
    rows = finish(tmp_path / "out", monkeypatch)
    assert rows["toyshift[nap=0.5]"].counts.resumed == 1
    curves = [
        [(p.step, p.metrics, p.digest) for p in row.curve] for row in (rows["toyshift[nap=0.5]"], rows["toyshift"])
    ]
    assert curves[0] == curves[1]  # bit-equal, with the points before the break: the nap changes nothing else
    assert not list((tmp_path / "out" / "checkpoints").iterdir())


def test_kill_9_of_the_parent_ends_the_runs_and_loses_no_record(
    program: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "out").glob("*.json")}
    assert before
    started = guards_of(program.pid)
    assert started
    program.kill()
    program.communicate()
    deadline = time.monotonic() + 40
    while any(map(alive, started)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(map(alive, started))
    assert {path: path.read_bytes() for path in before} == before
    rows = finish(tmp_path / "out", monkeypatch)
    assert rows["toyshift[nap=0.5]"].metrics == rows["toyshift"].metrics


def test_a_truncated_record_is_passed_over_and_its_run_done_again(alone: tuple[Path, Record], tmp_path: Path) -> None:
    folder, first = alone
    store = Store(tmp_path)
    store.path(first.id).write_text(Store(folder).path(first.id).read_text()[:200])
    outcome = execute(plan("toyshift", steps=50), store)
    assert by_solver(outcome)["toyshift"].metrics == first.metrics
    assert any(first.id in note for note in store.passed_over)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_message_and_loses_no_record(
    small_disk: Path, alone: tuple[Path, Record], cli: Callable[..., tuple[int, str, str]]
) -> None:
    out = small_disk / "out"
    shutil.copytree(alone[0], out)
    path = Store(out).path(alone[1].id)
    kept = path.read_bytes()
    (small_disk / "filler").write_bytes(b"x" * 100)
    with open(small_disk / "filler", "ab", buffering=0) as filler:
        try:
            while filler.write(b"x" * 1024):
                pass
        except OSError:
            pass
    command = ("--plugin", TOY, "--task", "toy", "--device", "cpu", "--jobs", 2)
    command += ("--solvers", "toyshift", "--steps", 25, "--threads", 1, "--out", out)
    code, _, err = cli(*command)
    assert code == 2, err
    assert "No space left" in err
    assert "Traceback" not in err
    assert path.read_bytes() == kept
    (small_disk / "filler").unlink()
    code, _, err = cli(*command)
    assert code == 0, err


def test_a_folder_that_goes_away_during_a_run_is_one_message(
    tmp_path: Path, cli: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge cannot write its record: the folder is replaced by a file while it trains."""
    out, started = tmp_path / "out", tmp_path / "started"
    monkeypatch.setenv("TOY_STARTED", str(started))

    def replace_folder() -> None:
        deadline = time.monotonic() + 60
        while not started.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        out.rename(tmp_path / "elsewhere")  # at once, whatever is being written in it
        out.write_text("in the way")

    thread = threading.Thread(target=replace_folder)
    thread.start()
    words = ("--plugin", TOY, "--task", "toy", "--device", "cpu", "--solvers", "toyshift[nap=0.01]", "--steps", 100)
    code, _, err = cli(*words, "--threads", 1, "--jobs", 2, "--out", out)
    thread.join()
    assert code == 2, err
    assert "Traceback" not in err
    assert "cannot write" in err


def test_records_are_plain_json(alone: tuple[Path, Record]) -> None:
    folder, record = alone
    data = json.loads(Store(folder).path(record.id).read_text())
    assert data["spec"]["solver"] == "toyshift"
    assert data["command"].startswith("python bench.py --solvers toyshift --task")
