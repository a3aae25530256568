"""`merge` and `submit`: records of other machines and of other people, without a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from otbench.harness.plan import Request, make_plan
from otbench.picture import Picture
from otbench.plugins.registry import Registry
from otbench.records.record import CurvePoint, Record, Status
from otbench.records.store import Store
from otbench.records.verified import Outcome, Verification, keep_verified, read_verified

Cli = Callable[..., tuple[int, str, str]]


def records(toy: str, **options: object) -> list[Record]:
    """Return what runs of the toys could have left."""
    request = Request(**{"solvers": "toyshift", "task": "toy", "preset": "smoke", "device": "cpu"} | options)  # type: ignore[arg-type]
    found = []
    for run in make_plan(request, Registry([Path(toy)])).runs:
        record = run.blank()
        record.status, record.metrics = Status.OK, {"error_fwd": 0.5 + run.spec.seed}
        record.curve = [CurvePoint(step=1, train_s=1.0, metrics=record.metrics, digest="a")]
        found.append(record)
    return found


def write(folder: Path, found: list[Record]) -> Store:
    store = Store(folder)
    store.prepare()
    for record in found:
        store.write(record)
    return store


def verification(record: Record, outcome: Outcome) -> Verification:
    from otbench.harness.identity import code_hash

    code = code_hash(record.source)
    spec = record.spec
    return Verification(
        id=record.id, solver=spec.solver, task=spec.task, outcome=outcome, recorded=code, code=code, created="2026"
    )


def test_merge_copies_what_is_missing_names_conflicts_and_overwrites_nothing(
    cli: Cli, toy: str, tmp_path: Path
) -> None:
    one, two = records(toy, seeds="0"), records(toy, seeds="0,1")
    first = write(tmp_path / "one", one)
    same, other = (next(r for r in two if r.id == record.id) for record in one[:2])
    same.created, same.times.train_s, same.spec = "later", 7.0, same.spec.model_copy(update={"hard_limit": 9.0})
    other.metrics = {"error_fwd": 0.25}
    last = two[-1]
    second = Store(tmp_path / "two")
    second.prepare()
    cloud = np.zeros((3, 2), np.float32)
    last.pictures = second.write_pictures(
        last.id, [Picture("cloud", "points", "a cloud", {"data": cloud, "mapped": cloud})]
    )
    write(second.folder, two)
    (second.folder / "foreign.json").write_text("{}")
    keep_verified(first.folder, verification(one[0], Outcome.EQUAL))
    keep_verified(second.folder, verification(one[0], Outcome.DIFFERENT))
    keep_verified(second.folder, verification(last, Outcome.WITHIN))

    into = tmp_path / "into"
    assert cli("merge", first.folder, "--into", into)[0] == 0
    before = {path.name: path.read_bytes() for path in into.glob("toy*")}
    assert before == {path.name: path.read_bytes() for path in first.folder.glob("toy*")}
    code, out, err = cli("merge", first.folder, second.folder, "--into", into)
    assert code == 1
    assert "foreign.json: passed over" in err
    assert f"{len(two) - len(one)} records added" in out
    assert f"{2 * len(one) - 1} there already, 2 conflicts" in out
    lines = [line for line in out.splitlines() if line.startswith("conflict: ")]
    assert f"{other.id}.json is there and has error_fwd 0.5, not 0.25" in lines[0]
    assert f"verified {one[0].id} as different" in lines[1]
    assert {path.name: path.read_bytes() for path in into.glob("toy*") if path.name in before} == before
    assert (into / f"{last.id}.npz").read_bytes() == second.pictures(last.id).read_bytes()
    assert {(v.id, v.outcome) for v in read_verified([into])} == {
        (one[0].id, Outcome.EQUAL),
        (last.id, Outcome.WITHIN),
    }
    code, out, _ = cli("merge", second.folder, "--into", into)
    assert "0 records added" in out


def test_merge_of_a_folder_into_itself(cli: Cli, toy: str, tmp_path: Path) -> None:
    write(tmp_path / "one", records(toy))
    code, out, err = cli("merge", tmp_path / "one", "--into", tmp_path / "one")
    assert (code, out) == (2, "")
    assert "is the folder that the records go into" in err
    code, _, err = cli("merge", tmp_path / "none", "--into", tmp_path / "one")
    assert code == 2
    assert "no such folder" in err


def test_merge_of_a_folder_without_records(cli: Cli, toy: str, tmp_path: Path) -> None:
    write(tmp_path / "one", records(toy))
    empty = tmp_path / "empty"
    empty.mkdir()
    code, out, err = cli("merge", tmp_path / "one", empty, "--into", tmp_path / "into")
    assert (code, out, err) == (2, "", f"otbench: no records in {empty}\n")
    (empty / "torn.json").write_text("{")
    code, out, err = cli("merge", empty, "--into", tmp_path / "into")
    assert (code, out) == (2, "")
    assert err == f"otbench: no records in {empty}: {empty / 'torn.json'}: passed over (not a record of otbench)\n"
    assert not (tmp_path / "into").exists()


def verified(store: Store, found: list[Record], outcome: Outcome = Outcome.EQUAL) -> Store:
    for record in found:
        keep_verified(store.folder, verification(record, outcome))
    return store


def submit(cli: Cli, toy: str, store: Store, into: Path, *words: str) -> tuple[int, str]:
    code, out, err = cli("submit", store.folder, "--plugin", toy, "--into", into, *words)
    return code, out + err


def test_sound_records_are_prepared(cli: Cli, toy: str, tmp_path: Path) -> None:
    found = records(toy, seeds="0-2")
    store = verified(write(tmp_path / "mine", found), found[:3])
    into = tmp_path / "reference"
    into.mkdir()
    (into / "CHANGES.md").write_text("# Changes\n\nWhat changed.\n\n## 3\n\n* All.\n")
    code, said = submit(cli, toy, store, into, "--name", "toys")
    assert code == 0, said
    assert "version 3" in said
    assert sorted(r.id for r in Store(into / "toys").all()) == sorted(r.id for r in found)
    assert len(read_verified([into / "toys"])) == 3
    readme = (into / "toys" / "README.md").read_text()
    assert "12 records of constant, identity, linear, toyshift on toy; seeds 0, 1, 2" in readme
    line = "* `toys`: 12 records of constant, identity, linear, toyshift on toy, 3 of them verified"
    changes = f"# Changes\n\nWhat changed.\n\n## Next\n\n{line}\n\n## 3\n\n* All.\n"
    assert (into / "CHANGES.md").read_text() == changes
    assert submit(cli, toy, store, into, "--name", "toys")[0] == 0  # again: nothing changes
    assert (into / "CHANGES.md").read_text() == changes


def without(found: list[Record], solver: str, *seeds: int) -> list[Record]:
    return [r for r in found if r.spec.solver != solver or r.spec.seed not in seeds]


def test_each_objection_is_named_and_nothing_is_written(cli: Cli, toy: str, tmp_path: Path) -> None:
    def objection(found: list[Record], name: str, *, good: int = 3, outcome: Outcome = Outcome.EQUAL) -> str:
        store = verified(write(tmp_path / name, found), found[:good], outcome)
        code, said = submit(cli, toy, store, tmp_path / "reference")
        assert code == 1
        assert "; nothing was written" in said
        return said

    found = records(toy, seeds="0-2")
    assert "toyshift lacks seed 1, which other rows have" in objection(without(found, "toyshift", 1), "seed")
    assert "must begin at 0 and have no gap, not 5, 6" in objection(records(toy, seeds="5,6"), "gap")
    assert "are missing: linear" in objection(without(found, "linear", 0, 1, 2), "controls")
    said = objection(found, "few", good=2)
    assert "2 of 12 records came out the same when run again, 3 must: " in said
    assert f" verify {tmp_path / 'few'} --plugin {toy} --sample 3" in said
    said = objection(found, "different", outcome=Outcome.DIFFERENT)
    assert "came out different" in said

    other = records(toy, seeds="0-2")
    for record in other:
        if record.spec.solver == "toyshift":
            record.source = {**record.source, "toy.py": "0"}
    assert "toyshift on toy: made by other code" in objection(other, "unnamed")
    for record in other:
        record.environment = {"commit": "0" * 40, "dirty": True}
    assert "by no commit as it was committed" in objection(other, "dirty")
    for record in other:
        record.environment = {"commit": "0" * 40, "dirty": False}
    store = verified(write(tmp_path / "named", other), other[:3])
    assert submit(cli, toy, store, tmp_path / "reference")[0] == 0

    store = verified(write(tmp_path / "torn", found), found[:3])
    (store.folder / "torn.json").write_text("{")
    code, said = submit(cli, toy, store, tmp_path / "reference")
    assert code == 1
    assert "torn.json: passed over" in said
    code, out, err = cli("submit", store.folder, "--into", tmp_path / "reference")
    assert "toyshift on toy: not known here; name its file by --plugin" in out + err
    assert sorted(path.name for path in (tmp_path / "reference").iterdir()) == ["CHANGES.md", "named"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("none",), "no such folder"),
        (("empty",), "no records in empty"),
        (("empty", "--name", "../up"), "--name ../up: use small letters"),
        (("empty", "--name", "ci"), "not 'ci'"),
        ((), "FOLDER"),
    ],
)
def test_mistakes(
    words: tuple[str, ...], names: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code, out, err = cli("submit", *words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert names in err
