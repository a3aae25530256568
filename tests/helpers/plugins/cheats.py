"""Solvers that look for what they are not given, and change what is not theirs; for the task `watched`."""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Iterator
from types import FrameType

import torch
from torch import Tensor, nn

from otbench.harness import evaluate
from otbench.harness.messages import Training
from otbench.problem import Problem
from otbench.records.record import Record
from otbench.solver import Config, Context, Field, Solver, StepInfo, Transport, register_solver
from otbench.task import Instance, Outputs, TestData

SEEN: list[Tensor] = []


def objects() -> Iterator[object]:
    """Yield all that this process can reach: what the collector knows, and what functions that are running hold."""
    yield from gc.get_objects()
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        yield from list(frame.f_locals.values())
        frame = frame.f_back


def hidden() -> list[object]:
    """Return what no solver may see."""
    return [thing for thing in objects() if isinstance(thing, (Instance, TestData, Outputs))]


def rows_beside(problem: Problem) -> int:
    """Return how many numbers lie beside the pool in the memory that it is cut from."""
    pool = problem.source.pool
    return 0 if pool is None else pool.untyped_storage().nbytes() // pool.element_size() - pool.numel()


def patch() -> None:
    """Make every score perfect, in this process."""
    evaluate.score = lambda instance, outputs: {"error": 0.0}
    Instance.score = lambda self, outputs: {"error": 0.0}
    Record.end = lambda self, *args, **options: setattr(self, "metrics", {"error": 0.0})


class CheatConfig(Config):
    how: str = Field("", "what is tried")


class Cheating(Transport):
    def __init__(self, by: Tensor, how: str) -> None:
        super().__init__()
        self.by, self.how = nn.Parameter(by), how

    def forward(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        SEEN.append(x)
        if self.how == "patch":
            patch()
        if self.how == "search" and hidden():
            return x + 1.0  # the truth of the task
        return x + self.by

    def backward(self, y: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        if self.how == "remember" and SEEN:
            return SEEN[-1]
        return y


@register_solver(
    "cheat", config=CheatConfig, reference="none", presets={"smoke": {"steps": 10}, "quick": {"steps": 10}}
)
class Cheat(Solver[CheatConfig]):
    """Moves all points by 3, and tries to look better."""

    def __init__(self, problem: Problem, config: CheatConfig, context: Context) -> None:
        super().__init__(problem, config, context)
        self.by = torch.full((problem.dim,), 3.0)
        self.count = 0

    def step(self) -> StepInfo:
        self.count += 1
        how = self.config.how
        if how == "patch":
            patch()
        if how == "rewrite" and self.count == 6:
            (given,) = {thing.maps for thing in objects() if isinstance(thing, Training)}
            shutil.copy(given / f"{4:012}.otmap", given / f"{0:012}.otmap")
        self.by = self.by + 0.01
        found = {
            "seen": len(SEEN),
            "hidden": len(hidden()) if how == "search" else 0,
            "beside": rows_beside(self.problem),
            "tasks": sum(name in sys.modules for name in ("otbench_ext.watched", "otbench.datasets")),
        }
        return StepInfo(1.0, {name: float(value) for name, value in found.items()})

    def transport(self) -> Cheating:
        return Cheating(self.by, self.config.how)
