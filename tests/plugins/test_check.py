"""The test kit: it passes what is right, and names what is wrong in the author's words."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from otbench.errors import PluginError
from otbench.plugins.check import check
from otbench.plugins.registry import Registry
from otbench.registration import Registration
from otbench.solver import StepInfo, Transport

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "solvers" / "_template.py"
TOY = ROOT / "tests" / "helpers" / "plugins" / "toy.py"


Changes = dict[str, object]


def run(note: Registration) -> tuple[bool, str]:
    out = io.StringIO()
    held = check(note, device="cpu", out=Console(file=out, width=200))
    return held, out.getvalue()


def note(name: str, path: Path = TOY, **changes: object) -> Registration:
    registry = Registry([path])
    found = registry.load(registry.find(name))
    made = type("Changed", (found.cls,), {"__doc__": "A changed solver.", **changes})
    return Registration(**(vars(found) | {"cls": made}))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otbench.plugins.check.RUN_SECONDS", 0.5)


def test_the_template_passes_its_own_kit() -> None:
    held, out = run(note("template", TEMPLATE))
    assert held, out
    assert "all checks hold" in out


COLOURS = {"reinhard", "histogram_matching"}
"""Those that take colours alone, which the tiny problem has not."""


@pytest.mark.parametrize(
    "name", [entry.name for entry in Registry().entries("solver", "baseline") if entry.name not in COLOURS]
)
def test_built_in_methods_pass(name: str) -> None:
    registry = Registry()
    held, out = run(registry.load(registry.find(name)))
    assert held, out


@pytest.mark.parametrize("name", ["ncf", "hjpinn", "fixedpoint"])
def test_exact_potentials_give_exact_maps(name: str) -> None:
    registry = Registry()
    _, out = run(registry.load(registry.find(name)))
    assert "ok      exact potential" in out
    assert "offers no" not in out


def mapping(forward: Callable[[Any, Tensor], object], *, own: float = 0.0, differentiable: bool = False) -> Changes:
    """Let the maps of the solver be `forward`; `own` is an attribute that the constructor is not given."""

    class Mapping(Transport):
        def __init__(self, by: Tensor) -> None:
            super().__init__()
            self.by = torch.nn.Parameter(by)

        def forward(self, x: Tensor, label: object = None, generator: object = None) -> Any:
            return forward(self, x)

    Mapping.differentiable = differentiable

    def transport(self: Any) -> Transport:
        made = Mapping(self.net.by.detach() + 0.01)
        if own:
            made.own = own  # type: ignore[assignment]
        return made

    return {"transport": transport}


class Keeps(Transport):
    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, label: object = None, generator: object = None) -> Tensor:
        return x


def _global_noise(self: object) -> StepInfo:
    self.net.by.data += torch.randn(2)  # type: ignore[attr-defined]
    return StepInfo(1.0)


def _writes_into_the_pool(self: object) -> StepInfo:
    self.problem.source.pool.add_(1)  # type: ignore[attr-defined]
    return StepInfo(1.0)


def _looks_around(self: object) -> StepInfo:
    import gc

    from otbench.task import Instance

    if not hasattr(self, "stolen"):  # a tenth of a second each time
        self.stolen = [item for item in gc.get_objects() if issubclass(type(item), Instance)]  # type: ignore[attr-defined]
    return StepInfo(1.0)


def _hidden_counter(self: object) -> StepInfo:
    self.count += 1  # type: ignore[attr-defined]  # a plain number, which the default state does not hold
    self.net.by.data += 0.1 / self.count  # type: ignore[attr-defined]
    return StepInfo(1.0)


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"step": lambda self: None}, "must return a StepInfo"),
        ({"step": lambda self: StepInfo(float("nan"))}, "'loss' is nan"),
        ({"step": lambda self: StepInfo(self.net.by.sum())}, "'loss' must be detached"),
        (mapping(lambda self, x: x[:, :1]), "the shape must be kept"),
        (mapping(lambda self, x: x.tolist()), "must return a tensor, not a list"),
        (mapping(lambda self, x: x.add_(1)), "changed its input in place"),
        (mapping(lambda self, x: x.double()), "became torch.float64"),
        (mapping(lambda self, x: x.float() + self.by.float()), "context.dtype is float64"),
        (mapping(lambda self, x: x + self.by + x.mean(0)), "depends on the points beside it"),
        (mapping(lambda self, x: x.detach() + self.by.detach(), differentiable=True), "has no graph where x requires"),
        (mapping(lambda self, x: x + self.by * (1 + x.requires_grad), differentiable=True), "is another map where x"),
        (mapping(lambda self, x: x + self.by + getattr(self, "own", 0), own=1.0), "gives other images"),
        ({"step": _global_noise}, "draw from context.generator"),
        ({"step": _hidden_counter}, "state_dict() misses something"),
        ({"step": _writes_into_the_pool}, "changed the training pool"),
        ({"step": _looks_around}, "truth or test data"),
        ({"step": lambda self: StepInfo(1.0)}, "no better than doing nothing"),
        ({"transport": lambda self: {"net": 1}}, "must return a Transport, not dict"),
        ({"transport": lambda self: Keeps(torch.nn.Linear(2, 2))}, "Linear does not remember how it was built"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], finding: str) -> None:
    held, out = run(note("toyshift", **changes))
    assert not held
    assert finding in out
    line, *others = [line for line in out.splitlines() if "FAILED" in line]
    assert all("no better than doing nothing" in other for other in others), "one cause, one failure"
    assert re.search(r"\w+\.py(:\d+)?: |raised \S+\.py:\d+", line), "file and line"


def test_evaluation_that_disturbs_training_is_named() -> None:
    def transport(self: Any) -> Transport:
        torch.rand(1, generator=self.context.generator)
        return self.net  # type: ignore[no-any-return]

    held, out = run(note("toyshift", transport=transport))
    assert not held
    assert "applying the maps changes how training goes on" in out


def _raises(self: object, *_: object, **__: object) -> StepInfo:
    raise RuntimeError("planted")


def _raises_later(self: object) -> StepInfo:
    self.count += 1  # type: ignore[attr-defined]
    if self.count > 1:  # type: ignore[attr-defined]
        raise RuntimeError("planted")
    return StepInfo(1.0)


@pytest.mark.parametrize(
    ("changes", "function"),
    [
        ({"__init__": _raises}, _raises),
        ({"step": _raises}, _raises),
        ({"transport": _raises}, _raises),
        ({"step": _raises_later}, _raises_later),
    ],
)
def test_one_cause_is_told_once_with_its_file_and_line(changes: dict[str, object], function: object) -> None:
    held, out = run(note("toyshift", **changes))
    assert not held
    assert out.count("FAILED") == 1
    assert "not tried: '" in out
    first = function.__code__.co_firstlineno  # type: ignore[attr-defined]
    line = re.search(r"raised (\S+):(\d+): RuntimeError: planted", out)
    assert line is not None
    assert line[1] == __file__
    assert first < int(line[2]) <= first + 4


def test_a_supports_that_raises_is_one_message() -> None:
    with pytest.raises(PluginError, match=r"supports\(\) raised .*RuntimeError: planted"):
        run(note("toyshift", supports=classmethod(_raises)))
