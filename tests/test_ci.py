"""`.ci/compare`: what it runs and how it ends, with a stand-in for Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from otbench.records.record import Status
from otbench.records.series import newest, series_of
from otbench.records.store import read_all

ROOT = Path(__file__).resolve().parent.parent


def run(checkout: Path, *, runs: int = 0, compares: int = 0, suspects: str = "") -> tuple[int, str, list[str]]:
    """Run the script in a bare checkout; `runs` and `compares` are the exit codes of the two commands."""
    (checkout / ".ci").mkdir()
    (checkout / "results" / "reference" / "ci").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / ".ci" / "compare", checkout / ".ci" / "compare")
    program = checkout / "python"
    program.write_text(
        f"""#!/bin/bash
echo "$*" >> "{checkout}/calls"
mkdir -p .tox/regressions
[[ "$*" == *--suspects* ]] && printf "{suspects}" > .tox/regressions/suspects
[[ "$2" == compare ]] && exit {compares}
exit {runs}
"""
    )
    os.chmod(program, 0o755)
    done = subprocess.run(
        [checkout / ".ci" / "compare", program], capture_output=True, text=True, timeout=60, check=False
    )
    calls = checkout / "calls"
    return done.returncode, done.stdout + done.stderr, calls.read_text().splitlines() if calls.exists() else []


def test_an_empty_baseline_is_said_and_passes(tmp_path: Path) -> None:
    code, text, calls = run(tmp_path)
    assert (code, calls) == (0, [])
    assert "results/reference/ci holds no records, so nothing is compared" in text


@pytest.mark.parametrize(
    ("runs", "compares", "code", "calls"), [(0, 0, 0, 3), (1, 1, 1, 3), (1, 0, 0, 3), (0, 3, 3, 3), (2, 0, 2, 1)]
)
def test_the_comparison_decides(tmp_path: Path, runs: int, compares: int, code: int, calls: int) -> None:
    (tmp_path / "results" / "reference" / "ci").mkdir(parents=True)
    (tmp_path / "results" / "reference" / "ci" / "a.json").write_text("{}")
    ended, _, called = run(tmp_path, runs=runs, compares=compares)
    assert ended == code
    assert len(called) == calls
    assert "--solvers all --task gaussian[pool_seed=0] --dim 2 --preset smoke --seeds 0-2" in called[0]
    if calls == 3:
        assert called[1].startswith("bench.py compare results/reference/ci .tox/regressions/records --suspects")
        assert called[2].startswith("bench.py compare results/reference/ci .tox/regressions/records --require-all")


def test_suspects_get_the_other_seeds_before_the_verdict(tmp_path: Path) -> None:
    (tmp_path / "results" / "reference" / "ci").mkdir(parents=True)
    (tmp_path / "results" / "reference" / "ci" / "a.json").write_text("{}")
    code, text, called = run(tmp_path, compares=1, suspects=r"ncf,mm\\t3,4,5\\nenot\\t3\\n")
    assert code == 1
    assert "more seeds of ncf,mm: 3,4,5" in text
    assert len(called) == 5
    assert "--solvers ncf,mm --task gaussian[pool_seed=0] --dim 2 --preset smoke --seeds 3,4,5 " in called[2]
    assert "--solvers enot --task gaussian[pool_seed=0] --dim 2 --preset smoke --seeds 3 " in called[3]
    assert "--require-all" in called[4]


def test_the_baseline_is_of_the_configuration_that_is_run() -> None:
    """Ten seeds or more on one pool, all from clean commits."""
    records, notes = read_all([ROOT / "results" / "reference" / "ci"])
    assert not notes
    runs = newest(records, series_of)
    for series, by_seed in runs.items():
        assert dict(series.config) == {"dim": 2.0, "pair": "0", "pool": "20000", "pool_seed": 0.0}
        assert series.preset == "smoke"
        assert len(by_seed) >= 10
        assert sorted(by_seed) == list(range(len(by_seed))), series.label
        for record in by_seed.values():
            assert record.status is Status.OK
            assert record.environment["commit"]
            assert record.environment["dirty"] is False


def test_the_document_says_how_the_baseline_was_made() -> None:
    text = (ROOT / "docs" / "track-regressions.md").read_text(encoding="utf-8")
    commands = re.findall(r'--solvers (\S+) --task "gaussian\[pool_seed=0\]" .* --seeds (\d+)-(\d+) ', text)
    assert commands[0][:2] == ("all", "0")
    last = {name: int(end) for names, _, end in commands for name in names.split(",")}
    records, _ = read_all([ROOT / "results" / "reference" / "ci"])
    for series, by_seed in newest(records, series_of).items():
        if series.kind == "solver":
            assert max(by_seed) == last.get(series.solver, last["all"]), series.label
