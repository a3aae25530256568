"""A task that leaves pictures, and one whose pictures fail: the instance and the solvers are those of `toy`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from otbench.problem import Batch, PoolMeasure, Problem, QuadraticCost
from otbench.solver import Config, Context, Field, Solver, StepInfo, Transport, register_solver
from otbench.task import Instance, Metric, Outputs, Picture, Task, TestData, register_task


class DrawnTaskConfig(Config):
    mistake: bool = Field(False, "whether the pictures fail")


class DrawnInstance(Instance):
    def __init__(self, problem: Problem, test: TestData, mistake: bool) -> None:
        self.problem, self.test, self.facts, self._mistake = problem, test, {}, mistake

    def score(self, outputs: Outputs) -> dict[str, float]:
        return {"error": float((outputs.forward - self.test.source.x).square().mean())}

    def pictures(self, outputs: Outputs) -> Sequence[Picture]:
        if self._mistake:
            raise ValueError("planted failure of a picture")
        return [
            Picture("cloud", "points", "both", {"data": self.test.target.x.numpy(), "mapped": outputs.forward.numpy()})
        ]


@register_task("drawn", config=DrawnTaskConfig, reference="none", presets={"smoke": {}, "quick": {}})
class DrawnTask(Task[DrawnTaskConfig]):
    """Keep a cloud of points where it is."""

    metrics = (Metric("error", "error", primary=True),)

    def build(self, *, seed: int, device: torch.device, dtype: torch.dtype) -> DrawnInstance:
        x = torch.from_numpy(np.random.default_rng(seed).normal(size=(60, 2))).to(device, dtype)
        problem = Problem(PoolMeasure(x), PoolMeasure(x), QuadraticCost(), device, dtype)
        return DrawnInstance(problem, TestData(Batch(x), Batch(x)), self.config.mistake)

    def describe(self) -> str:
        return "a cloud"


class StayConfig(Config):
    pass


class Unmoved(Transport):
    reads_label = True

    def forward(self, x, label=None, generator=None):
        return x


@register_solver("stay", config=StayConfig, reference="none", presets={"smoke": {"steps": 1}, "quick": {"steps": 1}})
class Stay(Solver[StayConfig]):
    """Moves nothing."""

    def __init__(self, problem: Problem, config: StayConfig, context: Context) -> None:
        super().__init__(problem, config, context)

    def step(self) -> StepInfo:
        return StepInfo(0.0, done=True)

    def transport(self) -> Unmoved:
        return Unmoved()
