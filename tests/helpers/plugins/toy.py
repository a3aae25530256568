"""A task and solvers that learn a shift: the smallest things that the harness can run, and some that misbehave."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from otbench.problem import Batch, PoolMeasure, QuadraticCost
from otbench.solver import (
    Config,
    Context,
    Field,
    No,
    Problem,
    Solver,
    StepInfo,
    Support,
    Transport,
    Yes,
    register_solver,
)
from otbench.task import Instance, Metric, Outputs, Task, TestData, register_task


class ToyTaskConfig(Config):
    dim: int = Field(2, "coordinates", ge=1, le=100)
    shift: float = Field(1.0, "how far the target lies from the source", unit="data units")
    pool_seed: int | None = Field(None, "seed of the points; left out: the run's seed", ge=0)


class ToyInstance(Instance):
    def __init__(self, problem: Problem, test: TestData, shift: float) -> None:
        self.problem, self.test, self.facts = problem, test, {"exact_cost": shift**2 / 2}
        self._shift = shift

    def score(self, outputs: Outputs) -> dict[str, float]:
        wanted = self.test.source.x + self._shift
        found = {"error_fwd": float((outputs.forward - wanted).square().mean())}
        if outputs.backward is not None:
            found["error_bwd"] = float((outputs.backward - self.test.target.x + self._shift).square().mean())
        return found


@register_task("toy", config=ToyTaskConfig, reference="none", presets={"smoke": {}, "quick": {"dim": [2]}})
class ToyTask(Task[ToyTaskConfig]):
    """Shift a cloud of points."""

    metrics = (
        Metric("error_fwd", "error fwd", primary=True, flag_worse=True),
        Metric("error_bwd", "error bwd", primary=True, flag_worse=True),
    )

    def build(self, *, seed: int, device: torch.device, dtype: torch.dtype) -> ToyInstance:
        generator = torch.Generator().manual_seed(self.pool_seed(seed))
        x = torch.randn(500, self.config.dim, generator=generator).to(device, dtype)
        test = torch.randn(100, self.config.dim, generator=generator).to(device, dtype)
        # both flagged, so that they are not centred: nothing would be left to learn
        source, target = (PoolMeasure(side, is_standard_normal=True) for side in (x, x + self.config.shift))
        problem = Problem(source, target, QuadraticCost(), device, dtype)
        return ToyInstance(problem, TestData(Batch(test), Batch(test + self.config.shift)), self.config.shift)

    def describe(self) -> str:
        return f"d = {self.config.dim}"


class ToyConfig(Config):
    renamed: ClassVar = {"rate": "lr"}

    lr: float = Field(0.1, "step size", gt=0, lt=10)
    nap: float = Field(0.0, "time to sleep in every step", unit="s", ge=0)


@dataclass(frozen=True)
class Chosen:
    batch_size: int


class Shift(Transport):
    def __init__(self, by: Tensor) -> None:
        super().__init__()
        self.by = nn.Parameter(by)

    def forward(self, x: Tensor, label: Tensor | None = None, generator=None) -> Tensor:
        return x + self.by

    def backward(self, y: Tensor, label: Tensor | None = None, generator=None) -> Tensor:
        return y - self.by


PRESETS = {"smoke": {"steps": 20}, "quick": {"steps": 100}}


@register_solver("toyshift", config=ToyConfig, reference="none", presets=PRESETS)
class ToyShift(Solver[ToyConfig]):
    """Learns the shift by gradient descent on the distance of means."""

    def __init__(self, problem: Problem, config: ToyConfig, context: Context) -> None:
        super().__init__(problem, config, context)
        self.settings = Chosen(25 * problem.dim)
        self.net = Shift(torch.zeros(problem.dim, device=context.device, dtype=context.dtype))
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=config.lr)
        self.count = 0

    def step(self) -> StepInfo:
        x, y = (
            side.sample(self.settings.batch_size, generator=self.context.generator).x
            for side in (self.problem.source, self.problem.target)
        )
        loss = (x.mean(0) + self.net.by - y.mean(0)).square().sum()
        self.optimiser.zero_grad()
        loss.backward()
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.lr * (1 - 0.9 * self.context.progress())
        self.optimiser.step()
        self.count += 1
        marker = os.environ.get("TOY_STARTED", "")
        if marker and self.config.nap > 0 and self.count == 2:
            open(marker, "w").close()
        # the environment can wake it up: the same run, same bits, without the waiting
        time.sleep(self.config.nap * float(os.environ.get("TOY_NAP_SCALE", "1")))
        return StepInfo(loss.detach())

    def transport(self) -> Shift:
        return self.net


@register_solver("toynan", config=ToyConfig, reference="none", presets=PRESETS)
class ToyNan(ToyShift):
    """Diverges at step 15."""

    def step(self) -> StepInfo:
        info = super().step()
        return StepInfo(info.loss * float("nan")) if self.count >= 15 else info


@register_solver("toyraise", config=ToyConfig, reference="none", presets=PRESETS)
class ToyRaise(ToyShift):
    """Raises at step 15."""

    def step(self) -> StepInfo:
        if self.count >= 15:
            raise ValueError("planted failure")
        return super().step()


@register_solver("toyoom", config=ToyConfig, reference="none", presets=PRESETS)
class ToyOom(ToyShift):
    """Asks for far too much memory at step 15."""

    def step(self) -> StepInfo:
        if self.count >= 15:
            torch.empty(10**15)
        return super().step()


@register_solver("toyhang", config=ToyConfig, reference="none", presets=PRESETS)
class ToyHang(ToyShift):
    """Hangs at step 15 and does not react to signals."""

    def step(self) -> StepInfo:
        if self.count >= 15:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(3600)
        return super().step()


@register_solver("toykill", config=ToyConfig, reference="none", presets=PRESETS)
class ToyKill(ToyShift):
    """Is killed at step 15, once: the file named by TOY_KILLED remembers that it was."""

    def step(self) -> StepInfo:
        marker = os.environ.get("TOY_KILLED", "")
        if self.count >= 15 and marker and not os.path.exists(marker):
            with open(marker, "w"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step()


@register_solver("toyskip", config=ToyConfig, reference="none", presets=PRESETS)
class ToySkip(ToyShift):
    """Supports nothing."""

    @classmethod
    def supports(cls, problem: Problem) -> Support:
        return No("takes no problem at all") if problem else Yes


@register_solver("toyfrozen", config=ToyConfig, reference="none", presets=PRESETS)
class ToyFrozen(ToyShift):
    """Never moves."""

    def step(self) -> StepInfo:
        self.count += 1
        return StepInfo(1.0)


@register_solver("toywrong", config=ToyConfig, reference="none", presets=PRESETS)
class ToyWrong(ToyShift):
    """Walks away from the answer."""

    def step(self) -> StepInfo:
        with torch.no_grad():
            self.net.by -= 0.1
        return StepInfo(1.0)


@register_solver("toyprint", config=ToyConfig, reference="none", presets=PRESETS)
class ToyPrint(ToyShift):
    """Prints to standard output, which must not disturb the harness."""

    def step(self) -> StepInfo:
        print('{"id": "nonsense"}', flush=True)
        return super().step()
