"""What the tests of several solvers share: coupled samples of a Gaussian pair, and the clock that a harness gives."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from otbench.config import Config, Value, build_config
from otbench.problem import PoolMeasure, Problem, QuadraticCost
from otbench.registration import registrations
from otbench.solver import Context, Preset, Solver


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values**exponent) @ vectors.T


@dataclass
class Coupled:
    """Samples x of a centred Gaussian and y = T*(x) = gamma x, in float64.

    Attributes:
        x: shape (n, d).
        y: shape (n, d).
        gamma: matrix of the optimal map, shape (d, d), symmetric, positive definite.
    """

    x: Tensor
    y: Tensor
    gamma: Tensor

    def problem(self, dtype: torch.dtype = torch.float64) -> Problem:
        """Both samples as pools; their order tells nothing, since the solvers shuffle."""
        x, y = self.x.to(dtype), self.y.to(dtype)
        return Problem(PoolMeasure(x), PoolMeasure(y), QuadraticCost(), torch.device("cpu"), dtype)

    def uvp(self, solver: Solver[Any]) -> tuple[float, float]:
        """Forward and backward UVP on these points, %."""
        assert solver.transport().two_way
        x, y = self.x.to(solver.context.dtype), self.y.to(solver.context.dtype)
        pairs = ((solver.transport().forward(x), y), (solver.transport().backward(y), x))
        forward, backward = (100 * float((a - b).square().sum(1).mean() / b.square().sum(1).mean()) for a, b in pairs)
        return forward, backward

    def identity(self) -> float:
        """Forward UVP of the identity, %."""
        return 100 * float((self.x - self.y).square().sum(1).mean() / self.y.square().sum(1).mean())


@pytest.fixture(scope="session")
def coupled() -> Callable[..., Coupled]:
    """`coupled(d, n=..., seed=...)`."""

    def make(d: int, *, n: int = 512, seed: int = 100) -> Coupled:
        generator = torch.Generator().manual_seed(seed)

        def covariance() -> Tensor:
            q, _ = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))
            spectrum = torch.exp((2 * torch.rand(d, generator=generator, dtype=torch.float64) - 1) * math.log(2))
            return q @ torch.diag(spectrum) @ q.T

        s0, s1 = covariance(), covariance()
        half, back = _power(s0, 0.5), _power(s0, -0.5)
        gamma = back @ _power(half @ s1 @ half, 0.5) @ back
        x = torch.randn(n, d, generator=generator, dtype=torch.float64) @ half
        return Coupled(x, x @ gamma, gamma)

    return make


class Run:
    """A solver and its clock.

    Attributes:
        solver: the solver.
    """

    def __init__(
        self, kind: type[Solver[Any]], problem: Problem, *, steps: int, seed: int, values: Mapping[str, Value]
    ) -> None:
        self.done, self.steps = 0, steps
        registered = next(cls for cls in kind.__mro__ if registrations(cls))  # a test may override one of its methods
        config: Config = build_config(registrations(registered)[0].config, values, owner="test")
        context = Context(
            problem.device, problem.dtype, torch.Generator().manual_seed(seed), lambda: self.done / self.steps
        )
        self.solver = kind(problem, config, context)

    def train(self, steps: int | None = None) -> Solver[Any]:
        """Take `steps` steps, all of the budget by default."""
        for _ in range(self.steps if steps is None else steps):
            self.solver.step()
            self.done += 1
        return self.solver

    def in_order(self) -> Run:
        """Let every batch be the whole pool, in its own order."""
        solver: Any = self.solver
        for side, measure in (("source", solver.problem.source), ("target", solver.problem.target)):
            order = torch.arange(len(measure.pool))
            getattr(solver, side).next = functools.partial(measure.take, order)
        return self


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """`make_run(kind, problem, steps=..., **config)`."""

    def make(kind: type[Solver[Any]], problem: Problem, *, steps: int = 1, seed: int = 100, **values: Value) -> Run:
        return Run(kind, problem, steps=steps, seed=seed, values=values)

    return make


@pytest.fixture(scope="session")
def valid_presets() -> Callable[[type[Solver[Any]]], Mapping[str, Preset]]:
    """`valid_presets(kind)`: the presets of a solver; all four are there, each with steps and valid parameters."""

    def check(kind: type[Solver[Any]]) -> Mapping[str, Preset]:
        (note,) = registrations(kind)
        assert set(note.presets) == {"smoke", "quick", "full", "paper"}
        for preset in note.presets.values():
            assert preset["steps"]
            build_config(note.config, {k: v for k, v in preset.items() if k != "steps"}, owner=note.name)  # type: ignore[misc]
        return note.presets

    return check
