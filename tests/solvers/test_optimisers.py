"""The optimiser is a parameter of every solver: each one trains with SOAP as well as with Adam."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otbench.plugins.registry import Registry
from otbench.problem import PoolMeasure, Problem, QuadraticCost
from otbench.solver import networks

REGISTRY = Registry()
SIZES = {
    "batch_size": 16,
    "mmd_batch": 16,
    "hj_points": 16,
    "validation_points": 16,
    "layers": 1,
    "pretraining": 0,
    "regression": 0.6,
}
"""What makes a step cheap, where the solver has it."""


WITHOUT_NETWORK = {"otddflow"}
"""They move points."""


def images() -> Problem:
    """Images whose left half is bright, to such whose right half is."""
    x = torch.full((16, 1, 32, 32), -0.5)
    x[:, :, :, :16] = 0.5
    return Problem(PoolMeasure(x), PoolMeasure(x.flip(3)), QuadraticCost(), torch.device("cpu"), torch.float32)


def problem() -> Problem:
    """Two classes in the plane, from a standard normal to a wider one beside it."""
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    label = torch.arange(64) % 2
    source, target = (
        PoolMeasure(points, label=label, classes=2, is_standard_normal=normal)
        for points, normal in ((x, True), (1.5 * x.flip(0) + 1, False))
    )
    return Problem(source, target, QuadraticCost(), torch.device("cpu"), torch.float32)


def weights(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize(
    "name",
    [
        entry.name
        for entry in REGISTRY.entries("solver")
        if entry.origin == "built in" and entry.name not in WITHOUT_NETWORK
    ],
)
def test_soap_trains_every_solver(name: str, make_run: Callable[..., Any]) -> None:
    note = REGISTRY.load(REGISTRY.find(name, "solver"))
    known = note.config.model_fields
    if "paper" in note.presets:
        assert note.presets["paper"].get("optimiser", known["optimiser"].default) in ("adam", None)  # None: its row's
    values = {key: value for key, value in (note.presets["smoke"] | SIZES).items() if key in known}
    given = problem() if note.cls.supports(problem()).ok else images()
    run = make_run(note.cls, given, steps=3, **values | {"optimiser": "soap"})
    solver = run.solver
    start = {key: weights(network) for key, network in networks(solver).items()}
    loss = run.train(2).step().loss  # SOAP's first step only measures the gradient
    assert math.isfinite(float(loss))
    for key, network in networks(solver).items():
        assert bool(weights(network).isfinite().all()), key
        assert not torch.equal(weights(network), start[key]), key
    optimisers = [value for value in vars(solver).values() if isinstance(value, torch.optim.Optimizer)]
    assert {type(optimiser).__name__ for optimiser in optimisers} == {"SOAP"}  # one parameter sets all of them
