"""`import otbench` is light, complete and typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import otbench

EXAMPLE = """
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import otbench

x: NDArray[np.float64] = np.zeros((10, 2))
y = np.ones((10, 2))
transport: otbench.Transport = otbench.fit(
    x, y, solver="fixedpoint", preset="quick", seed=0, lr=1e-3, device="cpu", time_limit=60.0, progress=False
)
t = transport.forward(x)
s = transport.backward(y)
mean: float = float(t.mean() - s.mean())
image: torch.Tensor = transport.forward(torch.zeros(3, 2))
back: torch.Tensor = transport.backward(image)
if transport.two_way and not transport.stochastic:
    transport.save("map.otmap")
again = otbench.load("map.otmap")
scores: dict[str, float] = otbench.score(again, x, y)
frame: pd.DataFrame = otbench.run(solvers="ncf,fixedpoint", task="gaussian", dims=[2, 8])
frame = otbench.read("results/reference")
names: list[str] = list(otbench.solvers().index) + list(otbench.tasks().index)
try:
    otbench.fit(x, y, solver="none")
except otbench.UsageError as error:
    text = str(error)
"""
MISTAKES = """
import otbench

otbench.fit([[0.0], [1.0]], [[0.0], [1.0]], solver=3)
otbench.load(1)
otbench.frobnicate()
otbench.score("map.otmap", [[0.0]], [[0.0]])
"""


def test_nothing_heavy_is_imported_before_it_is_used(root: Path) -> None:
    code = (
        "import json, sys; before = set(sys.modules); import otbench; "
        "light = sorted(set(sys.modules) - before); names = dir(otbench); otbench.fit; "
        "print(json.dumps([light, names, 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    light, names, torch_after = json.loads(done.stdout)
    ours = [name for name in light if name.partition(".")[0] == "otbench"]
    assert ours == ["otbench", "otbench._links", "otbench.errors", "otbench.solvers"]
    assert len(light) < 20, light
    assert torch_after
    assert set(otbench.__all__) <= set(names)


def test_every_public_name_is_there_with_its_docstring() -> None:
    for name in otbench.__all__:
        assert getattr(otbench, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        otbench.frobnicate  # noqa: B018  # type: ignore[attr-defined]


def test_the_function_that_lists_solvers_is_also_their_folder() -> None:
    import otbench.solvers.ls

    assert otbench.solvers.ls.LS.__name__ == "LS"
    assert "ls" in otbench.solvers().index


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_users_example_passes_mypy_strict_and_mistakes_are_seen(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api", reason="mypy is not installed: it comes with the extra 'types'")
    (tmp_path / "example.py").write_text(EXAMPLE)
    (tmp_path / "mistakes.py").write_text(MISTAKES)
    paths = [str(tmp_path / name) for name in ("example.py", "mistakes.py")]
    said, err, _ = api.run(["--strict", "--config-file", "", "--cache-dir", str(tmp_path / "cache"), *paths])
    errors = [line for line in said.splitlines() if ": error: " in line]
    assert [line for line in errors if "mistakes.py" not in line] == [], said + err
    assert [line.split(":")[1] for line in errors] == list("4567"), said
