"""What a solver reaches for beyond its problem is named by `otbench check`."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import socket
from pathlib import Path

import pytest
from rich.console import Console

import otbench
from otbench.plugins.audit import task_imports, watched
from otbench.plugins.check import check
from otbench.plugins.registry import Registry
from otbench.registration import Registration
from otbench.solver import StepInfo

TOY = Path(__file__).parents[1] / "helpers" / "plugins" / "toy.py"
PACKAGE = Path(otbench.__file__).parent


def test_what_a_solver_is_made_of_is_no_finding() -> None:
    import torch

    with watched(TOY) as found:
        for path in (TOY, PACKAGE / "solver.py", Path(torch.__file__), Path(os.__file__), Path("/proc/self/status")):
            path.read_bytes()
        importlib.import_module("otbench.solvers.ls")
    assert found == set()


def test_files_tasks_connections_and_processes_are_named(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    with watched(TOY) as found:
        note.write_text("for later")
        (PACKAGE / "datasets" / "gaussian.py").read_bytes()
        with contextlib.suppress(ImportError):
            import otbench.datasets.no_such_task  # noqa: F401
        with contextlib.suppress(OSError), socket.socket() as one:
            one.settimeout(0.1)
            one.connect(("127.0.0.1", 9))
        os.system("true")
    note.read_text()  # nobody listens any more
    assert found - {"imports otbench.datasets"} == {
        f"opens {note.resolve()}",
        f"opens {(PACKAGE / 'datasets' / 'gaussian.py').resolve()}",
        "imports otbench.datasets.no_such_task",
        "connects to something (socket.connect)",
        "starts a process (os.system)",
    }


def test_the_text_of_a_plugin_shows_what_it_imports_of_tasks(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text("def late():\n    from otbench.datasets import gaussian\n")
    assert "otbench.datasets.gaussian" in task_imports(plugin)
    assert task_imports(TOY) == []


def test_check_fails_a_solver_that_writes_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otbench.plugins.check.RUN_SECONDS", 0.5)
    registry = Registry([TOY])
    found = registry.load(registry.find("toyshift"))

    def step(self: object) -> StepInfo:
        (tmp_path / "note.txt").write_text("for later")
        return found.cls.step(self)

    made = type("Changed", (found.cls,), {"__doc__": "A changed solver.", "step": step})
    out = io.StringIO()
    held = check(Registration(**(vars(found) | {"cls": made})), device="cpu", out=Console(file=out, width=300))
    assert not held
    assert f"nothing but the problem  {__file__}" in out.getvalue()
    assert "note.txt" in out.getvalue()
