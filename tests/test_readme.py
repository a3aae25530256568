"""Every command that the README shows can be typed as it stands."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(
    found.strip()
    for found in set(re.findall(r"^ {4}(?:.*&& \.venv/bin/)?python (bench\.py [^#\n]*)", TEXT, re.MULTILINE))
)


def test_the_main_command_is_there() -> None:
    assert "bench.py --solvers ncf,fixedpoint --task gaussian" in COMMANDS
    assert len(COMMANDS) >= 7


@pytest.mark.parametrize("command", COMMANDS)
def test_shown_commands_are_right(
    command: str, cli: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(command)[1:]
    if "mine" in command:
        pytest.skip("needs the reader's own solver")
    if "--preset" in words and not os.environ.get("OTBENCH_DATA_DIR"):
        pytest.skip("needs the released pairs: set OTBENCH_DATA_DIR")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("otbench.cli.estimate.PATIENCE", 0.0)  # whether a solver takes the problem is not asked here
    np.savez("pair.npz", Sigma0=np.eye(3), Sigma1=2 * np.eye(3))
    if words[0].startswith("--"):
        words += ["--dry-run"]
    if words[0] in ("table", "report", "compare", "export"):
        pytest.skip("needs recorded results")
    code, _, err = cli(*words)
    assert code == 0, err
