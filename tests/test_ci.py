"""`.ci/compare`: what it runs and how it ends, with a stand-in for Python."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(checkout: Path, *, runs: int = 0, compares: int = 0) -> tuple[int, str, list[str]]:
    """Run the script in a bare checkout; `runs` and `compares` are the exit codes of the two commands."""
    (checkout / ".ci").mkdir()
    (checkout / "results" / "reference" / "ci").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / ".ci" / "compare", checkout / ".ci" / "compare")
    program = checkout / "python"
    program.write_text(
        f'#!/bin/bash\necho "$*" >> "{checkout}/calls"\n[[ "$2" == compare ]] && exit {compares}\nexit {runs}\n'
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
    ("runs", "compares", "code", "calls"), [(0, 0, 0, 2), (1, 1, 1, 2), (1, 0, 0, 2), (0, 3, 3, 2), (2, 0, 2, 1)]
)
def test_the_comparison_decides(tmp_path: Path, runs: int, compares: int, code: int, calls: int) -> None:
    (tmp_path / "results" / "reference" / "ci").mkdir(parents=True)
    (tmp_path / "results" / "reference" / "ci" / "a.json").write_text("{}")
    ended, _, called = run(tmp_path, runs=runs, compares=compares)
    assert ended == code
    assert len(called) == calls
    assert "--solvers all --task gaussian --dim 2 --preset smoke" in called[0]
    if calls == 2:
        assert called[1].startswith("bench.py compare results/reference/ci .tox/regressions/records --require-all")
