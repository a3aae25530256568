"""A task that looks at who judges: how many modules of solvers its process has loaded, and at roundtrips."""

from __future__ import annotations

import ctypes
import functools
import sys

import torch
from torch import Tensor

from otbench.problem import Batch, FreshMeasure, PoolMeasure, Problem, QuadraticCost
from otbench.task import Config, Field, Instance, Metric, Outputs, Task, TestData, register_task

SHIFT = 1.0
TEST_ROWS = 97
PR_GET_DUMPABLE = 3


class WatchedConfig(Config):
    source: str = Field("pool", "'pool', 'fresh', or 'closure': fresh points by a function that cannot be handed on")


class WatchedInstance(Instance):
    def __init__(self, problem: Problem, test: TestData) -> None:
        self.problem, self.test, self.facts = problem, test, {}

    def score(self, outputs: Outputs) -> dict[str, float]:
        found = {
            "error": float((outputs.forward - self.test.source.x - SHIFT).square().mean()),
            "solvers": float(sum(name.startswith("otbench.solvers.") for name in sys.modules)),
            "cheats": float("otbench_ext.cheats" in sys.modules),
            "open": float(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)) if sys.platform == "linux" else 0.0,
        }
        if outputs.roundtrip is not None:
            found["gap"] = float((outputs.roundtrip - self.test.source.x).square().mean())
        return found


def normal(dim: int, n: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, dim, generator=generator)


@register_task("watched", config=WatchedConfig, reference="none", presets={"smoke": {}, "quick": {}})
class Watched(Task[WatchedConfig]):
    """Shift a cloud of points."""

    metrics = (Metric("error", "error", primary=True),)

    def build(self, *, seed: int, device: torch.device, dtype: torch.dtype) -> WatchedInstance:
        # pool and test rows are parts of one tensor: what is handed to a solver must not take along the rest of it
        points = torch.randn(500 + TEST_ROWS, 2, generator=torch.Generator().manual_seed(seed)).to(device, dtype)
        x, test = points[:500], points[500:]
        samplers = {"fresh": functools.partial(normal, 2), "closure": lambda n, generator: normal(2, n, generator)}
        chosen = samplers.get(self.config.source)
        source = PoolMeasure(x) if chosen is None else FreshMeasure((2,), chosen)
        problem = Problem(source, PoolMeasure(x + SHIFT), QuadraticCost(), device, dtype)
        return WatchedInstance(problem, TestData(Batch(test), Batch(test + SHIFT)))

    def describe(self) -> str:
        return "a cloud"
