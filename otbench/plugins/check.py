"""The test kit for a solver's author: `otbench check NAME|FILE`.

Runs a solver through the contract on a tiny problem, in the plane or, where it takes nothing else, of images, and says
in words what does not hold: construction, shapes, device, dtype, kept files, gradients, determinism, bit-equal resume,
evaluation without side effects, no access to truth, tasks or files, and one short run. A solver that defines
`build_potential` and `exact_potential(matrix, shift)` (the potential whose map is x -> x + matrix x + shift) also gets
that one put in.
"""

from __future__ import annotations

import copy
import inspect
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor

from otbench.config import Config, build_config
from otbench.data.mapfile import ENDING, read_map
from otbench.errors import PluginError
from otbench.plugins.audit import task_imports, watched
from otbench.plugins.findings import Check, require, run_checks
from otbench.plugins.reach import reachable
from otbench.plugins.registry import located
from otbench.problem import Batch, PoolMeasure, Problem, QuadraticCost
from otbench.registration import Registration
from otbench.solver import Context, Solver, StepInfo, Transport
from otbench.task import Instance, Outputs, TestData

POOL = 4000
STEPS = 3
RUN_SECONDS = 4.0
"""Training time of the short run, at least."""
RUN_STEPS = 25
"""Its steps, at least, where the map is judged: a busy machine has few in these seconds."""
ROUNDING = 1e-2
"""What integrators with an adaptive step and inner solvers may leave between two ways to one image."""
SCALE, SHIFT = (0.7, 1.4), (0.3, -0.2)
"""The exact map of the tiny problem: x -> SCALE * x + SHIFT, from N(0, I)."""
IMAGE = (1, 32, 32)
"""Shape of a tiny image."""


@dataclass
class _Kit:
    registration: Registration
    device: torch.device
    dtype: torch.dtype = torch.float32
    classes: int = 0  # of the tiny problem, for methods that need some
    images: bool = False  # for methods that take nothing else

    def config(self) -> Config:
        presets = self.registration.presets
        values = {**presets.get("smoke", presets.get("quick", {}))}
        values.pop("steps", None)
        return build_config(self.registration.config, values, owner=f"solver {self.registration.name}")  # type: ignore[arg-type]

    def problem(self) -> Problem:
        """Return the tiny problem: N(0, I) to N(SHIFT, diag(SCALE^2)) in two dimensions, or images to mirrored ones."""
        if self.images:
            x, label = self.points(), self.label(len(self.points()))
            here, there = (PoolMeasure(side, label=label, classes=self.classes) for side in (x, x.flip(3)))
            return Problem(here, there, QuadraticCost(), self.device, self.dtype)
        generator = torch.Generator().manual_seed(7)
        x = torch.randn(POOL, 2, generator=generator)
        y = torch.randn(POOL, 2, generator=generator) * torch.tensor(SCALE) + torch.tensor(SHIFT)
        x, y = x.to(self.device, self.dtype), y.to(self.device, self.dtype)
        source = PoolMeasure(x, label=self.label(POOL), classes=self.classes, is_standard_normal=True)
        target = PoolMeasure(y, label=self.label(POOL), classes=self.classes)
        return Problem(source, target, QuadraticCost(), self.device, self.dtype)

    def label(self, n: int) -> Tensor | None:
        """Return the classes of `n` points, which take turns and are all alike; None without classes."""
        return torch.arange(n, device=self.device) % self.classes if self.classes else None

    def mapped(self, transport: Transport, x: Tensor, *, by: str = "forward") -> Tensor:
        """Return what a map makes of the few points `x`; a stochastic one draws the same whenever it is called."""
        generator = torch.Generator(self.device).manual_seed(1)
        _, found = next(transport.mapped(by, x, self.label(len(x)), generator))
        require(isinstance(found, Tensor), f"{by}: must return a tensor, not a {type(found).__name__}")
        return found  # type: ignore[return-value]

    def trained(self, *, noise: int = 0, evaluate: bool = False) -> Tensor:
        """Return the mapped points of a solver after some steps.

        Args:
            noise: seed of torch's global state, which must not matter.
            evaluate: apply the maps after each step.
        """
        torch.manual_seed(noise)
        solver = self.solver(self.problem())
        for _ in range(STEPS):
            done = solver.step().done
            if evaluate:
                transport = solver.transport()
                for name in _maps(transport):
                    self.mapped(transport, self.points(), by=name)
            if done:
                break
        return self.mapped(solver.transport(), self.points())

    def target(self, x: Tensor) -> Tensor:
        """Return where the exact map takes `x`."""
        exact = torch.tensor([SCALE, SHIFT], dtype=torch.float64).to(x)
        return x * exact[0] + exact[1]

    def solver(self, problem: Problem, *, seed: int = 3, progress: Callable[[], float] = lambda: 0.0) -> Solver[Config]:
        generator = torch.Generator(self.device).manual_seed(seed)
        made = self.registration.cls(problem, self.config(), Context(self.device, self.dtype, generator, progress))
        assert isinstance(made, Solver)
        return made

    def points(self, n: int = 257) -> Tensor:
        generator = torch.Generator().manual_seed(11)
        if not self.images:
            return torch.randn(n, 2, generator=generator).to(device=self.device, dtype=self.dtype)
        edge = torch.rand(n, 1, 1, 1, generator=generator)  # each bright to the left of a place of its own
        images = 2.0 * (torch.linspace(0, 1, IMAGE[2]) < edge) - 1
        return images.expand(n, *IMAGE).contiguous().to(device=self.device, dtype=self.dtype)


def check(registration: Registration, *, device: str, out: Console) -> bool:
    """Test a solver and print a line for each check.

    Args:
        registration: of the solver.
        device: where to test, `cpu` or `cuda:N`.
        out: where to print.

    Returns:
        True if every check held.
    """
    torch.set_num_threads(1)
    kit = _Kit(registration, torch.device(device))
    out.print(Text(f"{registration.name}", style="bold").append(f" on {device}", style="not bold"))
    if registration.scored_by_task:
        out.print("  a row that tasks score from their own test data: no method, nothing to check", markup=False)
        return True
    cls = registration.cls
    assert issubclass(cls, Solver)
    source = Path(inspect.getsourcefile(cls) or "")
    try:
        support = cls.supports(kit.problem())
        for kit.images, kit.classes in ((False, 0), (False, 2), (True, 0), (True, 2)):
            if taken := cls.supports(kit.problem()).ok:
                break
    except Exception as error:
        raise PluginError(f"solver {registration.name}: supports() raised {located(error, source)}") from error
    if not taken:
        out.print(f"  cannot be checked on the tiny problem: {support.reason}", markup=False)
        return False
    held = run_checks(kit, _CHECKS, cls, out)
    out.print("  all checks hold" if held else "  see docs/add-a-solver.md for what each check asks", markup=False)
    return held


def _maps(transport: Transport) -> tuple[str, ...]:
    return ("forward", "backward") if transport.two_way else ("forward",)


def _contract(kit: _Kit) -> str:
    solver = kit.solver(kit.problem())
    info = solver.step()
    require(isinstance(info, StepInfo), f"step() must return a StepInfo, not {type(info).__name__}")
    for name, value in {"loss": info.loss, **info.scalars}.items():
        require(not (isinstance(value, Tensor) and value.requires_grad), f"StepInfo: '{name}' must be detached")
        require(math.isfinite(float(value)), f"StepInfo: '{name}' is {float(value)} after one step")
    transport = solver.transport()
    require(isinstance(transport, Transport), f"transport() must return a Transport, not {type(transport).__name__}")
    return "two-way" if transport.two_way else "forward only"


def _declarations(kit: _Kit) -> str:
    for preset, why in (("smoke", "seconds, for CI"), ("quick", "the default")):
        declared = preset in kit.registration.presets or kit.registration.kind == "baseline"
        require(declared, f"declare a preset '{preset}' ({why})")
    require(bool(kit.registration.cls.__doc__), "give the class a docstring: what it minimises, and deviations")
    return ""


def _shapes(kit: _Kit) -> str:
    solver = kit.solver(kit.problem())
    solver.step()
    transport = solver.transport()
    for name in _maps(transport):
        for n in (1, 257):
            x = kit.points(n)
            kept = x.clone()
            y = kit.mapped(transport, x, by=name)
            require(y.shape == x.shape, f"{name}: {tuple(x.shape)} became {tuple(y.shape)}; the shape must be kept")
            require(y.dtype == x.dtype, f"{name}: {x.dtype} became {y.dtype}")
            require(y.device == x.device, f"{name}: {x.device} became {y.device}")
            require(bool(torch.equal(x, kept)), f"{name}: changed its input in place")
            require(bool(y.isfinite().all()), f"{name}: not finite after one step")
    return ""


def _float64(kit: _Kit) -> str:
    double = replace(kit, dtype=torch.float64)
    solver = double.solver(double.problem())
    solver.step()
    y = double.mapped(solver.transport(), double.points())
    require(y.dtype == torch.float64, f"context.dtype is float64, but forward gives {y.dtype}")
    return ""


def _kept_file(kit: _Kit) -> str:
    solver = kit.solver(kit.problem())
    solver.step()
    live = solver.transport()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"map{ENDING}"
        live.save(path)
        kept = Transport.restored(read_map(path), kit.device)
        size = path.stat().st_size
    for name in _maps(live):
        same = bool(torch.equal(*(kit.mapped(maps, kit.points(), by=name) for maps in (live, kept))))
        require(same, f"{name}: a map kept in a file gives other images: give all that it needs to the constructor")
    return f"{size:,} bytes"


def _own_points(kit: _Kit) -> str:
    solver = kit.solver(kit.problem())
    solver.step()
    transport, x = solver.transport(), kit.points(64)
    for name in _maps(transport) if not transport.stochastic else ():
        whole, half = (kit.mapped(transport, points, by=name) for points in (x, x[:32]))
        require(_close(whole[:32], half), f"{name}: the image of a point depends on the points beside it")
    if not transport.differentiable:
        return "not differentiable"
    x.requires_grad_()
    generator = torch.Generator(kit.device).manual_seed(1)
    image = transport.forward(x, kit.label(len(x)), generator)
    require(image.requires_grad, "declared differentiable, but forward(x) has no graph where x requires a gradient")
    require(
        _close(image.detach(), kit.mapped(transport, x.detach())), "forward(x) is another map where x has a gradient"
    )
    by_first = torch.autograd.grad(image[0].sum(), x)[0]
    require(bool(by_first.isfinite().all()), "forward: the gradient is not finite")
    return ""


def _way(kit: _Kit) -> str:
    solver = kit.solver(kit.problem())
    solver.step()
    transport, x = solver.transport(), kit.points()
    abilities = [name for name in ("interpolate", "velocity") if hasattr(transport, name)]
    for name in abilities:
        for t in (0.0, 0.3, 1.0):
            _, found = next(transport.mapped(name, x, time=t))
            same = isinstance(found, Tensor) and (found.shape, found.dtype, found.device) == (
                x.shape,
                x.dtype,
                x.device,
            )
            require(same, f"{name}(x, {t:g}): shape, dtype and device of x must be kept")
            wanted = x if t == 0 else kit.mapped(transport, x)
            if name == "interpolate" and t in (0, 1):
                require(_close(found, wanted), f"interpolate(x, {t:g}) must be {'x' if t == 0 else 'forward(x)'}")  # type: ignore[arg-type]
    return ", ".join(abilities) or "maps alone"


def _close(found: Tensor, wanted: Tensor) -> bool:
    return bool(torch.allclose(found, wanted, rtol=ROUNDING, atol=ROUNDING))


def _deterministic(kit: _Kit) -> str:
    require(
        bool(torch.equal(kit.trained(noise=1), kit.trained(noise=2))),
        "two runs of one seed differ: draw from context.generator, not from torch's global state",
    )
    return ""


def _evaluation_leaves_no_trace(kit: _Kit) -> str:
    same = bool(torch.equal(kit.trained(), kit.trained(evaluate=True)))
    require(same, "applying the maps changes how training goes on")
    return ""


def _resume(kit: _Kit) -> str:
    unbroken = kit.solver(kit.problem())
    if unbroken.step().done:
        return "done in one step: nothing to resume"
    state = copy.deepcopy(unbroken.state_dict())
    resumed = kit.solver(kit.problem(), seed=99)
    resumed.load_state_dict(state)
    for _ in range(STEPS):
        unbroken.step()
        resumed.step()
    ends = [kit.mapped(solver.transport(), kit.points()) for solver in (unbroken, resumed)]
    require(
        kit.device.type != "cpu" or bool(torch.equal(*ends)),
        "a resumed run differs from an unbroken one: state_dict() misses something that changes between steps",
    )
    return ""


def _no_truth(kit: _Kit) -> str:
    problem = kit.problem()
    instance = _TinyInstance(problem, kit.points(1), kit.points(1))  # in reach of a solver that looks around
    solver = kit.solver(problem)
    solver.step()
    hidden = {id(instance), id(instance.test), id(instance.truth)}
    found = [item for item in reachable(solver) if id(item) in hidden or isinstance(item, Instance | TestData)]
    require(not found, "the solver holds on to the task's truth or test data; it may use `problem` only")
    return ""


class _TinyInstance(Instance):
    def __init__(self, problem: Problem, test: Tensor, truth: Tensor) -> None:
        self.problem, self.test, self.facts = problem, TestData(Batch(test), Batch(test)), {}
        self.truth = truth

    def score(self, outputs: Outputs) -> dict[str, float]:
        return {"error": float((outputs.forward - self.truth).square().mean())}


def _pool_untouched(kit: _Kit) -> str:
    problem = kit.problem()

    def pools() -> Tensor:
        return torch.cat([side.pool for side in (problem.source, problem.target) if side.pool is not None])

    before = pools()
    kit.solver(problem).step()
    require(bool(torch.equal(before, pools())), "the solver changed the training pool in place")
    return ""


def _exact_potential(kit: _Kit) -> str:
    build = getattr(kit.registration.cls, "build_potential", None)
    exact = getattr(kit.registration.cls, "exact_potential", None)
    if build is None or exact is None:
        return "offers no exact-potential check"
    scale = torch.tensor(SCALE, dtype=torch.float64, device=kit.device)
    potential = exact(torch.diag(scale - 1), torch.tensor(SHIFT, dtype=torch.float64, device=kit.device))
    cls = type("Exact", (kit.registration.cls,), {"build_potential": lambda self: potential})
    double = replace(kit, registration=replace(kit.registration, cls=cls), dtype=torch.float64)
    transport = double.solver(double.problem()).transport()
    x = double.points()
    y = double.target(x)
    gap = _uvp(double.mapped(transport, x), y, variance=float(scale.square().sum()))
    require(gap < 1e-6, f"with the exact potential the forward map is off by {gap:.2e} % UVP")
    if transport.two_way:
        gap = _uvp(double.mapped(transport, y, by="backward"), x, variance=2.0)
        require(gap < 1e-4, f"with the exact potential the backward map is off by {gap:.2e} % UVP")
    return ""


def _uvp(found: Tensor, wanted: Tensor, *, variance: float) -> float:
    """Return the unexplained variance in percent; `variance` is the total one of `wanted`."""
    return float((found - wanted).square().sum(1).mean()) / variance * 100


def _short_run(kit: _Kit) -> str:
    problem = kit.problem()
    seconds, steps, least = 0.0, 0, 1 if kit.images else RUN_STEPS

    def used() -> float:
        return min(1.0, seconds / RUN_SECONDS, steps / least)

    solver = kit.solver(problem, progress=used)
    while used() < 1:
        begin = time.perf_counter()
        info = solver.step()
        seconds += time.perf_counter() - begin
        steps += 1
        require(math.isfinite(float(info.loss)), f"the loss is {float(info.loss)} at step {steps}")
        if info.done:
            break
    if kit.images:
        require(bool(kit.mapped(solver.transport(), kit.points()).isfinite().all()), "forward: not finite at the end")
        return f"{steps} steps on images, whose map is not judged here"
    x = kit.points(4096)
    variance = sum(factor**2 for factor in SCALE)
    identity = _uvp(x, kit.target(x), variance=variance)
    reached = _uvp(kit.mapped(solver.transport(), x), kit.target(x), variance=variance)
    verdict = f"{reached:.3g} % UVP after {steps} steps (identity: {identity:.3g} %)"
    sanity = kit.registration.kind == "baseline" and reached >= identity * 0.999
    require(math.isfinite(reached), verdict)
    require(sanity or reached < identity, f"{verdict}: no better than doing nothing")
    return verdict


def _nothing_else(kit: _Kit) -> str:
    plugin = Path(inspect.getsourcefile(kit.registration.cls) or "")
    named = task_imports(plugin) if plugin.is_file() else []
    require(not named, f"imports {', '.join(named)}: a solver has no business with tasks")
    with watched(plugin) as found:
        solver = kit.solver(kit.problem())
        for _ in range(STEPS):
            if solver.step().done:
                break
        for name in _maps(maps := solver.transport()):
            kit.mapped(maps, kit.points(), by=name)
    shown = sorted(found)[:3] + ([f"and {len(found) - 3} more"] if len(found) > 3 else [])
    require(not found, f"{'; '.join(shown)}: what a solver needs is in its problem (docs/rules.md)")
    return ""


_STEPS, _MAPS = ("contract",), ("contract", "shapes, dtype, device")
_CHECKS: dict[str, Check[_Kit]] = {
    "contract": (_contract, (), "step"),
    "declarations": (_declarations, _STEPS, "step"),
    "shapes, dtype, device": (_shapes, _STEPS, "transport"),
    "float64": (_float64, _MAPS, "transport"),
    "the way between": (_way, _MAPS, "transport"),
    "each point by itself": (_own_points, _MAPS, "transport"),
    "a kept file gives the same images": (_kept_file, (*_MAPS, "each point by itself"), "transport"),
    "deterministic": (_deterministic, _MAPS, "step"),
    "evaluation leaves no trace": (_evaluation_leaves_no_trace, (*_MAPS, "deterministic"), "transport"),
    "resume is bit-equal": (_resume, (*_MAPS, "deterministic"), "state_dict"),
    "no access to truth": (_no_truth, _STEPS, "__init__"),
    "nothing but the problem": (_nothing_else, _MAPS, "step"),
    "training pool untouched": (_pool_untouched, _STEPS, "step"),
    "exact potential": (_exact_potential, _MAPS, "exact_potential"),
    "short run": (_short_run, _MAPS, "step"),
}
"""Every check of the kit, in order."""
