"""Records: written atomically, read back as they were, never lost to a neighbour's damage."""

from __future__ import annotations

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from otbench.errors import StoreError
from otbench.files import write_atomically
from otbench.records.record import CurvePoint, Record, RunSpec, Status
from otbench.records.store import Store, frame


def spec(**changes: object) -> RunSpec:
    values: dict[str, object] = {
        "kind": "solver",
        "solver": "toyshift",
        "solver_config": {"lr": 0.1, "convex": False, "note": None},
        "task": "toy",
        "task_config": {"dim": 2},
        "preset": "quick",
        "seed": 0,
        "steps": 10,
        "time_limit": None,
        "device": "cpu",
        "threads": 1,
        "hard_limit": 60.0,
    }
    return RunSpec(**(values | changes))


def record(**changes: object) -> Record:
    values: dict[str, object] = {
        "id": "toy-one",
        "spec": spec(),
        "status": Status.OK,
        "metrics": {"error_fwd": 0.1 + 0.2},
        "curve": [CurvePoint(step=0, train_s=0.0, metrics={"error_fwd": float("inf")})],
    }
    return Record(**(values | changes))


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record())
    assert store.read("toy-one") == record()
    assert store.all() == [record()]


def test_non_finite_numbers_survive_as_strict_json(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record(metrics={"a": float("nan"), "b": float("-inf")}))

    def refuse(token: str) -> float:
        raise AssertionError(f"{token} is not JSON")

    json.loads(store.path("toy-one").read_text(), parse_constant=refuse)
    back = store.read("toy-one")
    assert back is not None
    assert back.metrics["a"] != back.metrics["a"]
    assert back.metrics["b"] == float("-inf")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id": "x"}', b"\xff\xfe\x00", b"null"])
def test_a_torn_or_foreign_file_is_passed_over_and_kept(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    store.write(record())
    (tmp_path / "torn.json").write_bytes(content)
    assert [r.id for r in store.all()] == ["toy-one"]
    assert len(store.passed_over) == 1
    assert "torn.json" in store.passed_over[0]
    assert (tmp_path / "torn.json").read_bytes() == content


@pytest.mark.parametrize("kind", ["pipe", "endless", "huge", "nested"])
def test_what_is_no_file_of_bounded_size_is_passed_over(kind: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record())
    path = tmp_path / "odd.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(2**40)  # takes no room on the disk
    else:
        path.write_text("[" * 100_000)
    assert [r.id for r in store.all()] == ["toy-one"]
    assert len(store.passed_over) == 1
    assert store.read("odd") is None


def test_a_record_of_a_newer_schema_is_passed_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record(schema_version=999))
    assert store.all() == []
    assert "newer otbench" in store.passed_over[0]


def test_unknown_and_missing_fields_still_load(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record())
    data = json.loads(store.path("toy-one").read_text())
    data["from_the_future"] = 1
    del data["environment"], data["curve"], data["label"]
    store.path("toy-one").write_text(json.dumps(data))
    back = store.read("toy-one")
    assert back is not None
    assert back.metrics == record().metrics


def test_a_failed_write_leaves_the_old_record_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.write(record())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"No space left.*--out"):
        store.write(record(metrics={"error_fwd": 9.0}))
    assert [path.name for path in tmp_path.iterdir()] == ["toy-one.json"]
    assert store.read("toy-one") == record()


def test_write_atomically_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"a" * 100)
    write_atomically(path, b"b")
    assert path.read_bytes() == b"b"


def test_the_id_depends_on_what_makes_the_numbers_and_on_nothing_else() -> None:
    base = spec().run_id("source", "cpu")
    assert spec().run_id("source", "cpu") == base
    assert spec(hard_limit=1.0).run_id("source", "cpu") == base
    for other in (
        spec(seed=1).run_id("source", "cpu"),
        spec(steps=11).run_id("source", "cpu"),
        spec(solver_config={"lr": 0.2}).run_id("source", "cpu"),
        spec(threads=2).run_id("source", "cpu"),
        spec().run_id("other source", "cpu"),
        spec().run_id("source", "a GPU"),
    ):
        assert other != base
    cuda = spec(device="cuda:0").run_id("source", "a GPU")
    assert spec(device="cuda:1").run_id("source", "a GPU") == cuda


def test_the_id_is_a_safe_file_name() -> None:
    hostile = spec(solver="../../etc/passwd\n$(x)").run_id("s", "cpu")
    assert "/" not in hostile
    assert "\n" not in hostile
    assert len(hostile) < 100


@pytest.mark.parametrize(
    ("status", "final"),
    [
        (Status.OK, True),
        (Status.DIVERGED, True),
        (Status.SKIPPED, True),
        (Status.OOM, True),
        (Status.ERROR, False),
        (Status.TIMEOUT, True),
    ],
)
def test_which_records_settle_a_run(status: Status, final: bool) -> None:
    assert record(status=status).final(spec()) is final


def test_a_timeout_is_tried_again_under_another_limit() -> None:
    assert not record(status=Status.TIMEOUT).final(spec(hard_limit=120.0))


def test_programs_that_start_together_do_not_disturb_each_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(Store(tmp_path / "out").prepare) for _ in range(200)]:
            done.result()
    assert list((tmp_path / "out").iterdir()) == []


def test_the_frame_has_a_row_per_record_and_a_column_per_fact() -> None:
    table = frame([record(), record(id="toy-two", status=Status.ERROR, metrics={})])
    assert list(table["status"]) == ["ok", "error"]
    assert table.loc[0, "metric.error_fwd"] == 0.1 + 0.2
    assert table.loc[0, "task.dim"] == 2
    assert table.loc[0, "solver.lr"] == 0.1
