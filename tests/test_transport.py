"""What every solver and baseline leaves: maps that a file keeps bit for bit, for arrays and tensors of any kind."""

from __future__ import annotations

import functools
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from otbench.config import build_config
from otbench.data.mapfile import read_map
from otbench.errors import PluginError, UsageError
from otbench.plugins.registry import Registry
from otbench.problem import FreshMeasure, PoolMeasure, Problem, QuadraticCost
from otbench.registration import Registration
from otbench.solver import Context
from otbench.transport import Origin, Transport

CPU, D, ROWS = torch.device("cpu"), 3, 240
TINY: dict[str, dict[str, Any]] = {
    # what keeps a step short; all else is as in the preset `smoke`
    "ls": {"pretraining": 3},
    "mmv1": {"pretraining": 3},
    "notweak": {"batch_size": 32},
}


@functools.cache
def loaded() -> dict[str, Registration]:
    registry = Registry()
    notes = {entry.name: registry.load(entry) for entry in registry.entries("solver", "baseline")}
    return {name: note for name, note in notes.items() if not note.scored_by_task}


def points(n: int = 50, *, seed: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed)).to(dtype)


def problem(classes: int, *, fresh: bool = False) -> Problem:
    label = torch.arange(ROWS) % classes if classes else None
    target = PoolMeasure(1.3 * points(ROWS, seed=1) + 0.2, label=label, classes=classes)
    if fresh:
        draw = FreshMeasure((D,), lambda n, g: torch.randn(n, D, generator=g), is_standard_normal=True)
        return Problem(draw, target, QuadraticCost(), CPU, torch.float32)
    source = PoolMeasure(points(ROWS, seed=2), label=label, classes=classes, is_standard_normal=True)
    return Problem(source, target, QuadraticCost(), CPU, torch.float32)


def trained(note: Registration, given: Problem, **more: Any) -> Transport:
    """The maps of a solver after one step, with an origin as the harness sets it."""
    values = {k: v for k, v in note.presets.get("smoke", {}).items() if k != "steps"} | TINY.get(note.name, {}) | more
    fitting = {k: v for k, v in values.items() if k in note.config.model_fields}
    config: Any = build_config(note.config, fitting, owner=note.name)
    solver = note.cls(given, config, Context(CPU, given.dtype, torch.Generator().manual_seed(0), lambda: 0.5))  # type: ignore[call-arg]
    solver.step()  # type: ignore[attr-defined]
    made: Transport = solver.transport()  # type: ignore[attr-defined]
    made.origin = Origin(solver=note.name, kind=note.kind, source_shape=(D,), target_shape=(D,), classes=given.classes)
    return made


@functools.cache
def maps(name: str) -> Transport:
    note = loaded()[name]
    given = next(p for classes in (0, 2) if note.cls.supports(p := problem(classes)).ok)  # type: ignore[attr-defined]
    return trained(note, given)


def labels(transport: Transport, n: int) -> Tensor | None:
    return torch.arange(n) % 2 if transport.reads_label else None


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def directions(transport: Transport) -> list[str]:
    return ["forward", "backward"] if transport.two_way else ["forward"]


VECTORS = sorted(loaded().keys() - {"augcyclegan", "munit", "reinhard", "histogram_matching"})
"""Those that take any vectors; the others take images or colours alone."""
every = pytest.mark.parametrize("name", VECTORS)


@every
def test_a_kept_file_gives_the_same_images_bit_for_bit(name: str, tmp_path: Path) -> None:
    live, path = maps(name), tmp_path / "map.otmap"
    digest = live.save(path)
    state = torch.random.get_rng_state()
    file = read_map(path)
    kept = Transport.restored(file, CPU)
    assert torch.equal(state, torch.random.get_rng_state()), "nothing is drawn to build a map again"
    assert file.digest == digest
    assert type(kept) is type(live)
    assert kept.origin == live.origin
    for held in ("reads_label", "stochastic", "differentiable", "solves_forward", "keeps_rows", "two_way"):
        assert getattr(kept, held) == getattr(live, held), held
    x, label = points(), labels(live, 50)
    for way in directions(live):
        found, wanted = (getattr(m, way)(x, label, generator()) for m in (kept, live))
        assert torch.equal(found, wanted), way
    for extra in ("log_prob", "velocity"):
        if hasattr(live, extra):
            arguments = (x, 0.3) if extra == "velocity" else (x,)
            assert torch.equal(getattr(kept, extra)(*arguments), getattr(live, extra)(*arguments)), extra
    again = tmp_path / "again.otmap"
    assert kept.save(again) == digest, "a kept map can be kept again"


@every
def test_arrays_and_tensors_come_back_as_they_came(name: str) -> None:
    transport = maps(name)
    x, label = points(), labels(transport, 50)
    for way in directions(transport):
        method = getattr(transport, way)
        wanted = method(x, label, generator())
        assert wanted.dtype == torch.float32
        assert not wanted.requires_grad
        double = method(x.double(), label, generator())
        assert double.dtype == torch.float64
        torch.testing.assert_close(double.float(), wanted, rtol=0, atol=0)
        for kind in (np.float32, np.float64):
            given = x.numpy().astype(kind)
            found = method(given, None if label is None else label.numpy(), generator())
            assert isinstance(found, np.ndarray)
            assert found.dtype == kind
            assert np.array_equal(found.astype(np.float32), wanted.numpy())
        assert method(x.numpy().tolist(), label, generator()).shape == x.shape
        assert method(x[:0], None if label is None else label[:0], generator()).shape == (0, D)


@every
def test_interpolations_lead_from_points_to_their_images(name: str) -> None:
    transport, x = maps(name), points()
    for ability in ("interpolate", "velocity"):
        if hasattr(transport, ability):
            method = getattr(transport, ability)
            assert method(x.double(), 0.3).dtype == torch.float64
            for wrong in (-0.1, 1.5, math.nan, "later", None):
                with pytest.raises(UsageError, match="time must be a number from 0"):
                    method(x, wrong)
    if hasattr(transport, "interpolate"):
        torch.testing.assert_close(transport.interpolate(x, 0), x)
        torch.testing.assert_close(transport.interpolate(x, 1), transport.forward(x), rtol=1e-4, atol=1e-4)


@every
def test_many_points_are_mapped_in_chunks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = maps(name)
    x, label = points(), labels(transport, 50)
    for way in directions(transport):
        method = getattr(transport, way)
        whole = method(x, label, generator())
        monkeypatch.setattr("otbench.transport.CHUNK", 16)
        parts = method(x, label, generator())
        monkeypatch.undo()
        assert parts.shape == whole.shape
        if not transport.stochastic:  # else chunks draw one after the other
            torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-3)  # adaptive steps see the whole chunk


@every
def test_what_cannot_be_mapped_is_refused_in_a_sentence(name: str) -> None:
    transport = maps(name)
    x, label = points(4), labels(transport, 4)
    hole = x.clone()
    hole[1, 2] = float("nan")
    bad: list[tuple[Any, Any, str]] = [
        (x[:, :2], label, r"must have shape \(n, 3\), not \(4, 2\)"),
        (x[0], label, r"must have shape \(n, 3\), not \(3,\)"),
        (x[0, 0], label, r"must have shape \(n, 3\), not \(\)"),
        (hole, label, "NaN or an infinity"),
        (x / 0, label, "NaN or an infinity"),
        (x.to(torch.complex64), label, "real numbers"),
        ("points", label, "array of numbers"),
        ([[None]], label, "array of numbers"),
        (np.array([["a", "b", "c"]]), label, "array of numbers"),
        ([[1.0], [1.0, 2.0]], label, "array of numbers"),
    ]
    if transport.reads_label:
        bad += [
            (x, None, "give the class of each point"),
            (x, torch.arange(3), "one whole number for each of 4 points"),
            (x, torch.zeros(4), "one whole number"),
            (x, torch.tensor([0, 1, 2, 0]), r"0, \.\.\., 1"),
            (x, torch.tensor([0, 1, -2, 0]), r"0, \.\.\., 1"),
        ]
    for way in directions(transport):
        for given, classes, message in bad:
            with pytest.raises(UsageError, match=message) as caught:
                getattr(transport, way)(given, classes)
            assert len(str(caught.value).splitlines()) == 1


@every
def test_a_graph_goes_back_to_points_that_ask_for_it(name: str) -> None:
    transport = maps(name)
    x, label = points(), labels(transport, 50)
    if not transport.differentiable:
        return
    moved = transport.forward(x.clone().requires_grad_(), label, generator())
    assert moved.requires_grad
    torch.testing.assert_close(moved.detach(), transport.forward(x, label, generator()), rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        assert not transport.forward(x.clone().requires_grad_(), label, generator()).requires_grad


def test_only_those_keep_training_rows_that_say_so() -> None:
    keeping = {name: maps(name).keeps_rows for name in VECTORS if maps(name).keeps_rows}
    assert {"emd", "emd_class", "sinkhorn", "sinkhorn_lpl1", "otddflow"} <= keeping.keys()
    assert not keeping.keys() & {"ncf", "fixedpoint", "linear", "identity", "class_mean"}
    rows = problem(2).target.pool
    assert rows is not None
    known = {tuple(row) for row in torch.cat((rows, problem(2).source.pool)).tolist()}  # type: ignore[list-item]
    for name in VECTORS:
        state = maps(name).state_dict().values()
        kept = sum(tuple(row) in known for t in state if t.ndim == 2 and t.shape[1] == D for row in t.tolist())
        assert kept == maps(name).keeps_rows, name


def test_fixedpoint_from_fresh_points_keeps_no_rows(tmp_path: Path) -> None:
    given = problem(0, fresh=True)
    transport = trained(loaded()["fixedpoint"], given)
    assert transport.solves_forward
    assert transport.keeps_rows == 0
    stored = transport.get_buffer("anchors")
    pool = given.target.pool
    assert pool is not None
    assert float(torch.cdist(stored.double(), pool.double()).amin()) >= 1e-6
    transport.save(tmp_path / "map.otmap")
    again = Transport.restored(read_map(tmp_path / "map.otmap"), CPU)
    x = points()
    assert torch.equal(again.forward(x), transport.forward(x))
    torch.testing.assert_close(transport.backward(transport.forward(x)), x, atol=1e-2, rtol=0)


@pytest.mark.parametrize("name", ["not", "gnot", "augcyclegan", "munit"])
def test_maps_of_images_are_kept_bit_for_bit(name: str, tmp_path: Path) -> None:
    x = torch.rand(24, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    label = torch.arange(24) % 2
    side = PoolMeasure(x, label=label, classes=2)
    given = Problem(side, PoolMeasure(x.flip(3), label=label, classes=2), QuadraticCost(), CPU, torch.float32)
    live = trained(loaded()[name], given, batch_size=4, **({"noise": True} if name == "gnot" else {}))
    live.origin = None
    live.save(tmp_path / "map.otmap")
    kept = Transport.restored(read_map(tmp_path / "map.otmap"), CPU)
    assert torch.equal(kept.forward(x, label, generator()), live.forward(x, label, generator()))


OLD = '''"""A solver of the contract before transports."""

from otbench.solver import Config, Solver, StepInfo, register_solver


@register_solver("old", config=Config, reference="none", presets={"smoke": {"steps": 2}})
class Old(Solver[Config]):
    """Does nothing."""

    def step(self):
        return StepInfo(0.0, done=True)

    def forward_map(self, x, label=None, *, generator=None):
        return x

    def stored_modules(self):
        return {}
'''


def test_a_solver_of_the_old_contract_gets_one_message_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "old.py"
    path.write_text(OLD)
    registry = Registry([path])
    with pytest.raises(PluginError, match=r"forward_map, stored_modules.*transport\(\).*add-a-solver") as caught:
        registry.load(registry.find("old"))
    assert re.search(r"old\.py:\d+", str(caught.value))
    assert len(str(caught.value).splitlines()) == 1
    sys.modules.pop("otbench_ext.old", None)


def test_a_module_that_does_not_remember_how_it_was_built_is_named(tmp_path: Path) -> None:
    class Holds(Transport):
        def __init__(self) -> None:
            super().__init__()

        def forward(self, x: Tensor, label: Tensor | None = None, generator: object = None) -> Tensor:
            return x

    class Given(Transport):
        def __init__(self, net: torch.nn.Module) -> None:
            super().__init__()
            self.net = net

    Holds().save(tmp_path / "plain.otmap")
    with pytest.raises(PluginError, match="Given cannot be kept: Linear does not remember how it was built"):
        Given(torch.nn.Linear(2, 2)).save(tmp_path / "none.otmap")
    assert not (tmp_path / "none.otmap").exists()
