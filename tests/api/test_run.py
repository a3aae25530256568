"""The harness from Python: from any script, thread or notebook, the same records as from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import otbench


def test_records_are_those_of_the_command_line(tmp_path: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    options = {"preset": "smoke", "steps": 3, "device": "cpu", "threads": 1}
    found: list[pd.DataFrame] = []

    def run() -> None:
        found.append(otbench.run("ls", "gaussian", dims=[2], seeds=0, out=tmp_path, keep_maps=True, jobs=2, **options))

    thread = threading.Thread(target=run)  # in which no signal handler can be set
    thread.start()
    thread.join()
    (table,) = found
    assert list(table["solver"]) == ["ls", "constant", "identity", "linear"]
    assert set(table["status"]) == {"ok"}
    assert table["metric.uvp_fwd"].notna().all()
    words = ("--solvers", "ls", "--task", "gaussian", "--dim", "2", "--preset", "smoke", "--steps", "3")
    code, out, _ = cli(*words, "--device", "cpu", "--threads", "1", "--out", tmp_path)
    assert code == 0
    assert "0 runs to do, 4 already recorded" in out
    read = otbench.read(tmp_path)
    assert sorted(read["id"]) == sorted(table["id"])
    pd.testing.assert_frame_equal(read.set_index("id").loc[table["id"]].reset_index(), table, check_like=True)
    kept = otbench.load(table["map"][0])
    assert kept.forward(np.zeros((3, 2))).shape == (3, 2)
    assert kept.origin is not None
    assert kept.origin.run == table["id"][0]
    again = otbench.run("ls", "gaussian", dims=2, out=tmp_path, keep_maps=True, **options)
    pd.testing.assert_frame_equal(again, table)


def test_an_unguarded_script_runs_once(tmp_path: Path, root: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import otbench\n"
        "print('begun')\n"
        f"options = dict(dims=2, preset='smoke', out={str(tmp_path / 'out')!r}, device='cpu')\n"
        "table = otbench.run('identity', 'gaussian', **options)\n"
        "print(len(table), *table['status'])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=240, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "begun\n3 ok ok ok\n"


def test_what_cannot_be_read_is_said(tmp_path: Path, root: Path) -> None:
    reference = root / "results" / "reference"
    first = next(path for path in sorted(reference.rglob("*.json")) if '"spec"' in path.read_text()[:2000])
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / first.name).write_bytes(first.read_bytes())
    (tmp_path / "one" / "torn.json").write_text("{")
    (tmp_path / "empty").mkdir()
    with pytest.warns(otbench.OtbenchWarning, match=r"torn.json: passed over \(not a record of otbench\)"):
        table = otbench.read([tmp_path / "one", tmp_path / "empty"])
    assert list(table["id"]) == [json.loads(first.read_text())["id"]]
    assert list(table["map"]) == [""]


def test_names_and_parameters_are_listed(toy: str) -> None:
    solvers = otbench.solvers()
    assert {"ncf", "fixedpoint", "linear", "emd"} <= set(solvers.index)
    assert set(solvers["kind"]) == {"solver", "baseline"}
    assert solvers["summary"].str.len().min() > 10
    assert "gaussian" in otbench.tasks().index
    assert "toyshift" in otbench.solvers(plugins=toy).index
    parameters = otbench.solvers("fixedpoint")
    assert list(parameters.columns) == ["type", "default", "bounds", "unit", "meaning"]
    assert "batch_size" in parameters.index
    assert otbench.tasks("gaussian").loc["dim", "type"] == "int | None"
    assert len(otbench.solvers("identity")) == 0
