"""The test kit for tasks: it passes what is right, and names what is wrong in the author's words."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from otbench.plugins.check_task import check_task
from otbench.plugins.registry import Registry
from otbench.problem import Batch, PoolMeasure, Problem
from otbench.registration import Registration
from otbench.task import Metric, Outputs
from otbench.task import TestData as HeldOut

Cli = Callable[..., tuple[int, str, str]]
Change = Callable[[Any, int], Any]

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "datasets" / "_template.py"


def run(registration: Registration) -> tuple[bool, str]:
    out = io.StringIO()
    held = check_task(registration, device="cpu", data_dir=None, out=Console(file=out, width=250))
    return held, out.getvalue()


def template(**changes: object) -> Registration:
    registry = Registry([TEMPLATE])
    found = registry.load(registry.find("template"))
    return replace(found, cls=type("Changed", (found.cls,), {"__doc__": "A changed task.", **changes}))


def built(change: Change) -> dict[str, object]:
    """A task whose instances are changed after they were built; `change` is given the instance and its seed."""
    registry = Registry([TEMPLATE])
    cls = registry.load(registry.find("template")).cls

    def build(self: Any, *, seed: int, device: torch.device, dtype: torch.dtype) -> Any:
        made = cls.build(self, seed=seed, device=device, dtype=dtype)  # type: ignore[attr-defined]
        changed = change(made, seed)
        return made if changed is None else changed

    return {"build": build}


def _test(made: Any, x: torch.Tensor) -> None:
    made.test = HeldOut(Batch(x), made.test.target)


def _source(made: Any, measure: PoolMeasure) -> None:
    problem = made.problem
    made.problem = Problem(measure, problem.target, problem.cost, problem.device, problem.dtype)


def _leak(made: Any, seed: int) -> None:
    made.problem.source.hidden = made.test


def _scored(scores: Callable[[Any, Outputs], object]) -> dict[str, object]:
    def change(made: Any, seed: int) -> Any:
        kind = type(made)
        made.__class__ = type(
            "Scored", (kind,), {"score": lambda self, outputs: scores(kind.score(self, outputs), outputs)}
        )

    return built(change)


def _in_place(scores: dict[str, float], outputs: Outputs) -> dict[str, float]:
    outputs.forward.zero_()
    return scores


def test_the_template_passes_its_own_kit() -> None:
    held, out = run(template())
    assert held, out
    assert "UVP fwd" in out


@pytest.mark.parametrize("name", ["gaussian", "toy2d", "eot"])
def test_built_in_tasks_pass(name: str) -> None:
    registry = Registry()
    held, out = run(registry.load(registry.find(name)))
    assert held, out


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"metrics": ()}, "declare `metrics`"),
        ({"metrics": (Metric("a", "a"),)}, "make one primary"),
        ({"metrics": (Metric("a", "a", primary=True),) * 2}, "a is declared twice"),
        ({"__doc__": ""}, "give the class a docstring"),
        ({"describe": lambda self: "two\nlines"}, "few words on one line"),
        (built(lambda made, seed: {}), "must return an Instance, not dict"),
        (built(lambda made, seed: setattr(made, "facts", {"truth": object()})), "'truth' is not"),
        (built(lambda made, seed: _test(made, made.test.source.x[:, :1])), "points (1,), but the measure says (2,)"),
        (built(lambda made, seed: _test(made, made.test.source.x.float())), "build() was asked for torch.float64"),
        (built(lambda made, seed: _test(made, made.test.source.x * torch.nan)), "a NaN or an infinity"),
        (
            built(lambda made, seed: _source(made, PoolMeasure(torch.rand(99, 2).to(made.problem.dtype)))),
            "draw from generators of the seed",
        ),
        (built(lambda made, seed: _test(made, made.test.source.x + seed)), "test data must not depend on the seed"),
        (
            built(lambda made, seed: _test(made, made.problem.source.pool[:100])),
            "test data must not depend on the seed",
        ),
        (built(lambda made, seed: _source(made, PoolMeasure(made.test.source.x.clone()))), "hold the test data out"),
        (built(_leak), "the problem leads to test data"),
        (_scored(lambda scores, outputs: scores | {"other": 1.0}), "'other' is not among the declared metrics"),  # type: ignore[operator]
        (_scored(lambda scores, outputs: scores | {"uvp_fwd": float("nan")}), "'uvp_fwd' must be a float"),  # type: ignore[operator]
        (_scored(lambda scores, outputs: {}), "gives no primary metric"),
        (
            _scored(lambda scores, outputs: {"uvp_fwd": float(torch.rand(()))}),
            "gives other numbers when it is called again",
        ),
        (_scored(_in_place), "changed the points in place"),
        (_scored(lambda scores, outputs: {"uvp_fwd": float(outputs.backward.sum())}), "raised "),  # type: ignore[union-attr]
        ({"controls": lambda self: (1,)}, "controls() must return names"),
        ({"inputs": lambda self: (Path("/nowhere"),)}, "which is no file"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], finding: str) -> None:
    held, out = run(template(**changes))
    assert not held
    assert finding in out, out
    assert "docs/add-a-task.md" in out


def test_pictures_and_paths_are_looked_at() -> None:
    def change(made: Any, seed: int) -> None:
        made.pictures = lambda outputs: ["a word"]

    assert "sequence of otbench.task.Picture" in run(template(**built(change)))[1]
    change_way = built(lambda made, seed: setattr(made, "waypoints", lambda: torch.zeros(2, 5, 2)))
    assert "waypoints() must have shape (3, m, *shape)" in run(template(**change_way))[1]


def test_the_command_takes_a_name_and_a_file(cli: Cli, tmp_path: Path) -> None:
    code, out, _ = cli("check", TEMPLATE)
    assert code == 0
    assert "all checks hold" in out
    code, out, _ = cli("check", "samples")
    assert code == 1
    assert "cannot be checked here: task samples: source and target not given" in out
    code, _, err = cli("check", "gausian")
    assert code == 2
    assert "did you mean 'gaussian'?" in err


def test_a_task_made_from_the_template_is_solved_by_what_is_exact_there(cli: Cli, tmp_path: Path) -> None:
    """In one dimension `linear` is not exact for a square, and the discrete plan nearly is."""
    words = ("--plugin", TEMPLATE, "--task", "template[dim=1,pool=500]", "--preset", "smoke", "--out", tmp_path)
    code, out, err = cli("--solvers", "emd", *words)
    assert code == 0, err
    rows = {
        line.split()[0]: float(line.split()[1])
        for line in out.splitlines()
        if line.strip().startswith(("emd", "linear", "identity"))
    }
    assert rows["emd"] < 0.5 * rows["linear"] < 0.5 * rows["identity"]
