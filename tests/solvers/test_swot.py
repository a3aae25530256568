"""SWOT, the control: zero at any map with the right image measure, starts at the identity, goes downhill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from otbench.config import build_config
from otbench.registration import registrations
from otbench.solvers.swot import SWOT, SWOTConfig

Make = Callable[..., Any]


def test_the_loss_is_zero_at_every_map_to_the_target(coupled: Make, make_run: Make) -> None:
    pair = coupled(3)
    solver = make_run(SWOT, pair.problem()).solver
    for images in (pair.y, pair.y.flip(0)):  # the optimal map, and one that knows nothing of x
        solver.map.forward = lambda x, images=images: images
        assert float(solver.loss(pair.x, pair.y)[0].detach()) == pytest.approx(0, abs=1e-20)


def test_it_starts_at_the_identity_and_comes_nearer_the_target(coupled: Make, make_run: Make) -> None:
    pair = coupled(2, n=4000)
    run = make_run(SWOT, pair.problem(torch.float32), steps=300, batch_size=512, directions=32)
    x = pair.x.float()
    assert torch.equal(run.solver.transport().forward(x), x)
    assert not run.solver.transport().two_way
    before = float(run.solver.loss(x, pair.y.float())[0].detach())
    image = run.train().transport().forward(x)
    assert float(run.solver.loss(x, pair.y.float())[0].detach()) < before / 20
    gap = (image - pair.y).square().sum(1).mean() / pair.y.square().sum(1).mean()
    assert 100 * float(gap) < pair.identity()


def test_presets() -> None:
    (note,) = registrations(SWOT)
    assert set(note.presets) == {"smoke", "quick", "full"}  # nobody has published this method
    for preset in note.presets.values():
        build_config(SWOTConfig, {name: value for name, value in preset.items() if name != "steps"}, owner="swot")
