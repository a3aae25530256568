"""Every command that the README shows can be typed as it stands."""

from __future__ import annotations

import os
import re
import shlex
import textwrap
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


def save_samples() -> tuple[np.ndarray, np.ndarray]:
    """Write before.csv, after.csv and new.npy; return the first two."""
    x, y = np.random.default_rng(0).normal(size=(2, 400, 2)) * [[[1.0]], [[0.5]]]
    for name, rows in (("before", x), ("after", y)):
        np.savetxt(f"{name}.csv", rows, delimiter=",", header="a,b", comments="")
    np.save("new.npy", x[:50])
    return x, y


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
    if ("--preset" in words or "w2bench" in words) and not os.environ.get("OTBENCH_DATA_DIR"):
        pytest.skip("needs the released pairs: set OTBENCH_DATA_DIR")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("otbench.cli.estimate.PATIENCE", 0.0)  # whether a solver takes the problem is not asked here
    np.savez("pair.npz", Sigma0=np.eye(3), Sigma1=2 * np.eye(3))
    save_samples()
    if words[0].startswith("--"):
        words += ["--dry-run"]
    if words[0] in ("table", "report", "compare", "export"):
        pytest.skip("needs recorded results")
    if words[0] == "apply":
        pytest.skip("needs the map of the lines below it: see the next test")
    code, _, err = cli(*words)
    assert code == 0, err


def test_own_samples_from_python_and_the_map_from_the_command_line(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    x, y = save_samples()
    block = re.search(r"^ {4}import otbench\n(?: {4}.*\n)+", TEXT, re.MULTILINE)
    assert block is not None
    code = textwrap.dedent(block[0]).replace("seed=0", 'seed=0, preset="smoke"')  # the same lines, on a small budget
    names: dict[str, object] = {"x": x[:300], "y": y[:300], "x_test": x[300:], "y_test": y[300:]}
    exec(compile(code, "README.md", "exec"), names)
    apply = next(command for command in COMMANDS if command.startswith("bench.py apply"))
    code_, _, err = cli(*shlex.split(apply)[1:])
    assert code_ == 0, err
    moved = np.load("moved.npy")
    np.testing.assert_array_equal(moved, names["transport"].forward(x[:50]))  # type: ignore[attr-defined]
