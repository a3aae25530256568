"""`verify`, and the table of what the code of this checkout made, as a user meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from otbench.records.verified import VERIFIED

Cli = Callable[..., tuple[int, str, str]]


def test_records_are_verified_kept_and_shown(
    cli: Cli, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("otbench.harness.verify.OTHERS", 1)  # a worker less; what is shown is the same
    plugin = tmp_path / "toy.py"
    plugin.write_text(Path(toy).read_text())
    folder = tmp_path / "records"
    words = ("--solvers", "toyshift", "--task", "toy", "--preset", "smoke", "--device", "cpu", "--threads", 1)
    assert cli("--plugin", plugin, *words, "--jobs", 2, "--out", folder)[0] == 0
    (path,) = folder.glob("toy-toyshift-*.json")

    code, out, err = cli("verify", folder, "--plugin", plugin, "--sample", 2, "--seed", 1)
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if line.startswith("[")][1].startswith("[2/2] toy-")
    assert out.splitlines()[-1] == f"2 records: 2 bit-equal; kept in {folder / VERIFIED}"
    code, again, _ = cli("verify", folder, "--plugin", plugin, "--sample", 2, "--seed", 1)
    assert again == out

    # other code: the table of what this code made is empty, until one of the old records is verified
    plugin.write_text(plugin.read_text() + "\n_x = 1\n")
    code, _, err = cli("table", folder, "--plugin", plugin, "--current")
    assert code == 2
    assert "leave out --current" in err
    for other in folder.glob("*.json"):
        if other != path:
            other.unlink()
    assert cli("verify", folder, "--plugin", plugin, "--until-step", 5)[0] == 0
    code, out, _ = cli("table", folder, "--plugin", plugin, "--current")
    assert code == 0
    assert "toyshift" in out

    # a record that says something else than the code does
    record = json.loads(path.read_text())
    record["curve"][2]["metrics"]["error_fwd"] += 1
    record["metrics"]["error_fwd"] += 1
    record["curve"][-1]["metrics"]["error_fwd"] += 1
    path.write_text(json.dumps(record))
    (folder / VERIFIED).unlink()
    code, out, _ = cli("verify", folder, "--plugin", plugin)
    assert code == 1
    assert "different" in out
    assert "step 2: error_fwd" in out
    assert cli("table", folder, "--plugin", plugin, "--current")[0] == 2


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["no-such-folder"], "cannot read results in 'no-such-folder'"),
        (["empty"], "no records in empty"),
        (["empty", "--sample", "0"], "--sample 0: must be a whole number from 1"),
        (["empty", "--seed", "-1"], "--seed -1"),
        (["empty", "--until-step", "-1"], "--until-step -1"),
        (["empty", "--until-step", "many"], "--until-step"),
        (["empty", "--data-dir", "no-such-folder"], "--data-dir no-such-folder: no such folder"),
        ([], "FOLDER"),
    ],
)
def test_mistakes(words: list[str], names: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code, out, err = cli("verify", *words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert names in err
