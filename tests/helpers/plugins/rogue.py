"""Solvers that take their process, the clock or the terminal along when they fail; for the task `toy` of `toy.py`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import torch
from torch import Tensor, nn

from otbench.harness import measure
from otbench.problem import Problem
from otbench.solver import Config, Context, Field, Solver, StepInfo, Transport, register_solver


class RogueConfig(Config):
    how: str = Field("", "what goes wrong")
    nap: float = Field(0.0, "time to sleep in every step", unit="s", ge=0)


class BrokenError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def linger(folder: str, *, leave_group: bool, fork: bool) -> None:
    """Start a process that does not end, and note its id in `folder`."""
    if not fork:
        code = f"import os, time; {'os.setsid(); ' if leave_group else ''}time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", code]).pid
    else:
        child = os.fork()  # holds all pipes of the worker open
        if child == 0:
            if leave_group:
                os.setsid()
                if os.fork():
                    os._exit(0)  # the other one has lost its parent
                with open(os.path.join(folder, str(os.getpid())), "w"):
                    pass
            time.sleep(600)
    if not leave_group or not fork:
        with open(os.path.join(folder, str(child)), "w"):
            pass


PRESETS = {"smoke": {"steps": 5}, "quick": {"steps": 5}}


@register_solver("rogue", config=RogueConfig, reference="none", presets=PRESETS)
class Rogue(Solver[RogueConfig]):
    """Does the second step in the way that it is told."""

    def __init__(self, problem: Problem, config: RogueConfig, context: Context) -> None:
        super().__init__(problem, config, context)
        self.net = nn.Linear(1, problem.dim)
        self.count = 0

    def step(self) -> StepInfo:
        self.count += 1
        if self.count == 2:
            self.misbehave(self.config.how)
        time.sleep(self.config.nap)
        return StepInfo(1.0)

    def misbehave(self, how: str) -> None:
        folder = os.environ.get("ROGUE_FOLDER", "")
        if how.startswith("exit"):
            os._exit(int(how[4:]))
        elif how == "interrupt":
            raise KeyboardInterrupt
        elif how == "sysexit":
            sys.exit("enough")
        elif how == "generator":
            raise GeneratorExit
        elif how == "broken":
            raise BrokenError
        elif how == "long":
            raise ValueError("x" * 20_000 + "\n" + "y" * 20_000)
        elif how == "escape":
            raise ValueError("\x1b[31mred\x1b]0;title\x07 \u202egnol\ud800")
        elif how == "hang":
            time.sleep(600)
        elif how == "forkhang":
            linger(folder, leave_group=True, fork=True)
            time.sleep(600)
        elif how == "guard":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        elif how == "fork":
            linger(folder, leave_group=False, fork=True)
        elif how == "forkaway":
            linger(folder, leave_group=True, fork=True)
        elif how == "spawn":
            linger(folder, leave_group=True, fork=False)
        elif how == "thread":
            threading.Thread(target=time.sleep, args=(600,)).start()
        elif how == "bytes":
            for number in range(3, 12):  # one of them is the pipe of events
                try:
                    os.write(number, b"\xff\xfe\x00 no JSON\n")
                except OSError:
                    continue
        elif how == "clock":
            time.perf_counter = time.monotonic = lambda: 7.0
        elif how == "slowclock":  # the harness's own, by name
            real, now = time.perf_counter, time.perf_counter()
            measure.perf_counter = lambda: now + (real() - now) / 10

    def transport(self) -> Rogues:
        return Rogues(self.net.weight.detach(), self.config.how)


class Rogues(Transport):
    """Returns what it is told to."""

    def __init__(self, weight: Tensor, how: str) -> None:
        super().__init__()
        self.weight, self.how = nn.Parameter(weight), how

    def forward(self, x: Tensor, label: Tensor | None = None, generator: object = None) -> Tensor:
        return {
            "column": lambda: x[:, :1],
            "row": lambda: x[:1],
            "int8": lambda: x.to(torch.int8),
            "complex": lambda: x.to(torch.complex64),
            "meta": lambda: x.to("meta"),
            "list": lambda: x.tolist(),
        }.get(self.how, lambda: x)()
