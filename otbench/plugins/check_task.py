"""The test kit for a task's author: `otbench check NAME|FILE`.

Builds the smallest preset of a task and says in words what does not hold: declarations, shapes, dtype and device of
pools and test data, determinism, test data that no seed moves and that no pool holds, nothing of truth in the problem,
scores of maps that do nothing, or go one way only, or give constants, and pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor

from otbench.config import Config, build_config
from otbench.errors import DataError, UsageError
from otbench.picture import Picture
from otbench.plugins.findings import Check, require, run_checks
from otbench.plugins.reach import reachable
from otbench.problem import Batch, Measure, Problem
from otbench.registration import Registration
from otbench.reporting import Metric
from otbench.task import TIMES, Instance, Outputs, Task, TestData

_DRAWN = 512


@dataclass
class _Kit:
    registration: Registration
    device: torch.device
    data_dir: Path | None = None
    made: dict[int, Instance] = field(default_factory=dict)

    @cached_property
    def task(self) -> Task[Config]:
        presets = self.registration.presets
        values = presets.get("smoke", presets.get("quick", {}))
        chosen, _ = self.registration.cls.choose(values, typed=frozenset(), data_dir=self.data_dir)  # type: ignore[attr-defined]
        lists = self.registration.cls.lists  # type: ignore[attr-defined]
        first = {
            name: value[0] if isinstance(value, (list, tuple)) and name not in lists else value
            for name, value in chosen.items()
        }
        config = build_config(self.registration.config, first, owner=f"task {self.registration.name}")
        made = self.registration.cls(config, data_dir=self.data_dir)
        assert isinstance(made, Task)
        return made

    def instance(self, seed: int = 0) -> Instance:
        """Return the instance of a seed, in float32; it is built once."""
        if seed not in self.made:
            self.made[seed] = self.build(seed)
        return self.made[seed]

    def build(self, seed: int, dtype: torch.dtype = torch.float32) -> Instance:
        made = self.task.build(seed=seed, device=self.device, dtype=dtype)
        require(isinstance(made, Instance), f"build() must return an Instance, not {type(made).__name__}")
        return made


def check_task(registration: Registration, *, device: str, data_dir: Path | None, out: Console) -> bool:
    """Test a task and print a line for each check.

    Args:
        registration: of the task.
        device: where to test, `cpu` or `cuda:N`.
        data_dir: the folder with the user's own copies of data, if any.
        out: where to print.

    Returns:
        True if every check held. False also where its data are not here.
    """
    torch.set_num_threads(1)
    kit = _Kit(registration, torch.device(device), data_dir)
    out.print(Text(f"{registration.name}", style="bold").append(f" on {device}", style="not bold"))
    try:
        kit.task.check()
    except (DataError, UsageError) as error:
        out.print(f"  cannot be checked here: {error}", markup=False)
        return False
    except Exception:  # the first check finds it again, with its place
        kit.__dict__.pop("task", None)
    held = run_checks(kit, _CHECKS, registration.cls, out)
    out.print("  all checks hold" if held else "  see docs/add-a-task.md for what each check asks", markup=False)
    return held


def _declarations(kit: _Kit) -> str:
    cls = kit.registration.cls
    metrics = getattr(cls, "metrics", None)
    good = isinstance(metrics, tuple) and bool(metrics) and all(isinstance(metric, Metric) for metric in metrics)
    require(good, "declare `metrics`, a tuple of otbench.task.Metric")
    assert isinstance(metrics, tuple)
    names = [metric.name for metric in metrics]
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, f"metrics: {', '.join(twice)} is declared twice")
    require(any(metric.primary for metric in metrics), "metrics: make one primary, which tables show and rank by")
    for preset, why in (("smoke", "seconds, for CI"), ("quick", "the default")):
        require(preset in kit.registration.presets, f"declare a preset '{preset}' ({why})")
    require(bool(cls.__doc__), "give the class a docstring: what it is, in one line")
    kit.task.check()
    words = kit.task.describe()
    one_line = isinstance(words, str) and bool(words.strip()) and "\n" not in words
    require(one_line, f"describe() must return a few words on one line, not {words!r}")
    return words


def _contract(kit: _Kit) -> str:
    made = kit.instance()
    for name, cls in (("problem", Problem), ("test", TestData), ("facts", Mapping)):
        value = getattr(made, name, None)
        require(isinstance(value, cls), f"the instance's `{name}` must be a {cls.__name__}, not {type(value).__name__}")
    odd = [name for name, value in made.facts.items() if not isinstance(value, (str, int, float, bool, type(None)))]
    require(not odd, f"facts must be plain numbers and words; '{odd[0] if odd else ''}' is not: records hold them")
    return f"{len(made.facts)} facts"


def _shapes(kit: _Kit) -> str:
    made, said = kit.instance(), []
    for name, measure in (("source", made.problem.source), ("target", made.problem.target)):
        held_out: Batch = getattr(made.test, name)
        for where, batch in (("drawn", _draw(measure, kit.device)), ("test", held_out)):
            _points(f"{name}, {where}", batch, measure, kit.device, torch.float32)
        require(len(held_out.x) >= 2, f"{name}, test: {len(held_out.x)} points; two are the least that can be scored")
        size = "fresh" if measure.pool is None else f"{len(measure.pool)} points"
        said.append(f"{name} {tuple(measure.shape)}, {size}, {len(held_out.x)} for the test")
    return "; ".join(said)


def _points(where: str, batch: Batch, measure: Measure, device: torch.device, dtype: torch.dtype) -> None:
    x = batch.x
    require(
        tuple(x.shape[1:]) == tuple(measure.shape),
        f"{where}: points {tuple(x.shape[1:])}, but the measure says {measure.shape}",
    )
    require(x.dtype == dtype, f"{where}: points are {x.dtype}; build() was asked for {dtype}")
    require(x.device.type == device.type, f"{where}: points are on {x.device}; build() was asked for {device}")
    require(bool(x.isfinite().all()), f"{where}: there is a NaN or an infinity among the points")
    require(
        (batch.label is None) == (measure.classes == 0),
        f"{where}: labels and `classes` of the measure must go together",
    )
    if batch.label is not None:
        inside = bool(((batch.label >= -1) & (batch.label < measure.classes)).all())
        require(
            batch.label.dtype == torch.int64 and len(batch.label) == len(x) and inside,
            f"{where}: labels must be int64, one a point, from -1 to {measure.classes - 1}",
        )


def _float64(kit: _Kit) -> str:
    made = kit.build(0, torch.float64)
    for name, measure in (("source", made.problem.source), ("target", made.problem.target)):
        for where, batch in (("drawn", _draw(measure, kit.device)), ("test", getattr(made.test, name))):
            _points(f"{name}, {where}", batch, measure, kit.device, torch.float64)
    return ""


def _deterministic(kit: _Kit) -> str:
    made = []
    for noise in (1, 2):  # torch's global state, which must not matter
        torch.manual_seed(noise)
        made.append(kit.build(0))
    one, two = made
    for name, first, second in zip(("source", "target"), _sides(one), _sides(two), strict=True):
        require(
            torch.equal(*(_draw(side, kit.device).x for side in (first, second))),
            f"{name}: two instances of one seed give other points: draw from generators of the seed, not from torch's"
            " global state",
        )
    _same_test(one, two, "two instances of one seed have other test data")
    return ""


def _fixed_test(kit: _Kit) -> str:
    one, two = kit.instance(0), kit.instance(1)
    _same_test(one, two, "test data must not depend on the seed: all rows are scored on the same ones")
    moved = [
        name
        for name, a, b in zip(("source", "target"), _sides(one), _sides(two), strict=True)
        if a.pool is not None and b.pool is not None and not _equal(a.pool, b.pool)
    ]
    return f"the seed draws the pool of {' and '.join(moved)}" if moved else "no pool depends on the seed"


def _same_test(one: Instance, two: Instance, why: str) -> None:
    for name in ("source", "target"):
        require(_equal(getattr(one.test, name).x, getattr(two.test, name).x), f"{name}: {why}")


def _held_out(kit: _Kit) -> str:
    made, said = kit.instance(), []
    for name, measure in (("source", made.problem.source), ("target", made.problem.target)):
        pool = measure.pool
        if pool is None:
            continue
        test = getattr(made.test, name).x.flatten(1)
        rows = {row.tobytes() for row in pool.flatten(1).cpu().numpy()}
        shared = sum(row.tobytes() in rows for row in test.cpu().numpy()) / len(test)
        # points of few values, as colours, meet by chance; where all of them do, nothing was held out
        require(shared < 1, f"{name}: every test point is a point of the pool: hold the test data out")
        said.append(f"{name} {100 * shared:.3g} %")
    return f"also in the pool: {', '.join(said)}" if said else "no pools"


def _no_truth(kit: _Kit) -> str:
    made = kit.instance()
    found = reachable(made.problem)
    hidden = {id(made), id(made.test)} | {id(side.x) for side in (made.test.source, made.test.target)}
    held = any(id(item) in hidden or isinstance(item, (Instance, TestData, Task)) for item in found)
    require(not held, "the problem leads to test data, the instance or the task: solvers are handed all of it")
    return ""


def _scores(kit: _Kit) -> str:
    made = kit.instance()
    said = {metric.name: metric for metric in kit.registration.cls.metrics}  # type: ignore[attr-defined]
    same = made.problem.source.shape == made.problem.target.shape
    found: dict[str, Any] = {}
    for words, outputs in _outputs(made, same):
        kept = [tensor.clone() for tensor in (outputs.forward, made.test.source.x, made.test.target.x)]
        scores = made.score(outputs)
        require(isinstance(scores, dict), f"score() must return a dict, not {type(scores).__name__}")
        odd = sorted(scores.keys() - said.keys())
        require(not odd, f"score() of {words}: '{odd[0] if odd else ''}' is not among the declared metrics")
        wrong = [name for name, value in scores.items() if not isinstance(value, float) or math.isnan(value)]
        require(
            not wrong,
            f"score() of {words}: '{wrong[0] if wrong else ''}' must be a float; leave out what does not apply",
        )
        require(any(said[name].primary for name in scores), f"score() of {words}: gives no primary metric")
        now = (outputs.forward, made.test.source.x, made.test.target.x)
        require(all(map(torch.equal, kept, now)), f"score() of {words}: changed the points in place")
        again = made.score(outputs)
        require(scores == again, f"score() of {words}: gives other numbers when it is called again")
        found[words] = scores
    first = next(
        metric.name for metric in said.values() if metric.primary and any(metric.name in f for f in found.values())
    )
    return (
        ", ".join(f"{words} {scores[first]:.3g}" for words, scores in found.items() if first in scores)
        + f" ({said[first].label})"
    )


def _outputs(made: Instance, same: bool) -> list[tuple[str, Outputs]]:
    """Return what simple maps make of the test data: nothing done, one way only, a point of the curve, a constant."""
    x, y = made.test.source.x, made.test.target.x
    constant = y.mean(0, keepdim=True).expand(len(x), *y.shape[1:]).clone()
    most = made.curve_points
    if not same:
        return [("a constant map", Outputs(constant))]
    rows = slice(None) if most is None or made.problem.classes else slice(most)
    return [
        ("doing nothing", Outputs(x.clone(), y.clone(), x.clone())),
        ("doing nothing, one way", Outputs(x.clone())),
        ("a point of the curve", Outputs(x[rows].clone(), y[rows].clone(), x[rows].clone(), final=False)),
        ("a constant map", Outputs(constant)),
    ]


def _pictures(kit: _Kit) -> str:
    made = kit.instance()
    (_, outputs), *_ = _outputs(made, made.problem.source.shape == made.problem.target.shape)
    pictures = made.pictures(outputs)
    good = isinstance(pictures, Sequence) and all(isinstance(picture, Picture) for picture in pictures)
    require(good, "pictures() must return a sequence of otbench.task.Picture")
    points = made.waypoints()
    if points is not None:
        wanted = (len(TIMES) - 2, *made.problem.source.shape)
        found = (points.shape[0], *points.shape[2:]) if isinstance(points, Tensor) and points.ndim > 1 else None
        require(found == wanted, f"waypoints() must have shape ({wanted[0]}, m, *shape)")
    return f"{len(pictures)} pictures" + ("" if points is None else ", exact paths are known")


def _names(kit: _Kit) -> str:
    controls = kit.task.controls()
    require(all(isinstance(name, str) for name in controls), "controls() must return names of baselines")
    wrong = [path for path in kit.task.inputs() if not path.is_file()]
    require(not wrong, f"inputs() names '{wrong[0] if wrong else ''}', which is no file")
    published = kit.task.published()
    return ", ".join([*controls, *([f"published: {published.table}"] if published else [])])


def _sides(made: Instance) -> tuple[Measure, Measure]:
    return made.problem.source, made.problem.target


def _draw(measure: Measure, device: torch.device) -> Batch:
    return measure.sample(_DRAWN, generator=torch.Generator(device).manual_seed(5))


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(torch.equal(a, b))


_BUILT = ("declarations", "contract")
_SHAPED = (*_BUILT, "shapes, dtype, device")
_CHECKS: dict[str, Check[_Kit]] = {
    "declarations": (_declarations, (), "metrics"),
    "contract": (_contract, ("declarations",), "build"),
    "shapes, dtype, device": (_shapes, _BUILT, "build"),
    "float64": (_float64, _SHAPED, "build"),
    "deterministic": (_deterministic, _SHAPED, "build"),
    "test data stay": (_fixed_test, (*_SHAPED, "deterministic"), "build"),
    "test data are held out": (_held_out, _SHAPED, "build"),
    "no truth in the problem": (_no_truth, _BUILT, "build"),
    "scores": (_scores, _SHAPED, "build"),
    "pictures and paths": (_pictures, _SHAPED, "build"),
    "names": (_names, _BUILT, "controls"),
}
"""Every check of the kit, in order."""
