"""SOAP against its definition: the step, what is left alone, what survives a break."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import pytorch_optimizer
import torch
from torch import Tensor, nn

from otbench.ops import soap
from otbench.ops.soap import SOAP

SHAPES = ((4, 16), (16,), (16, 3), (3, 2, 2, 2), ())


def parameters_at_start() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in SHAPES]


def train(optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor], steps: range) -> None:
    for k in steps:
        x = torch.randn(32, 4, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
        moved = torch.tanh(x @ parameters[0] + parameters[1]) @ parameters[2]
        optimiser.zero_grad()
        loss = (moved - x.square()[:, :3]).square().mean() + (parameters[3] - parameters[4] - 1).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_are_those_of_the_reference(weight_decay: float) -> None:
    own, theirs = parameters_at_start(), parameters_at_start()
    settings = {"lr": 1e-2, "betas": (0.9, 0.999), "weight_decay": weight_decay}
    train(SOAP(own, **settings), own, range(35))
    train(pytorch_optimizer.SOAP(theirs, **settings), theirs, range(35))
    for a, b in zip(own, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)  # the reference factors in float32


def test_parameters_without_a_gradient_stay_and_may_join_later() -> None:
    first, second = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3, 2))
    optimiser = SOAP([first, second], lr=0.1)
    for _ in range(3):
        first.grad = torch.ones_like(first)
        optimiser.step()
    assert bool((first < 1).all())
    assert bool((second == 1).all())
    second.grad = torch.ones_like(second)
    optimiser.step()
    assert bool((second == 1).all())  # its first gradient sets the bases
    optimiser.step()
    assert bool((second < 1).all())


def test_a_long_dimension_has_no_basis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its moments of second order are not kept; the reference leaves such dimensions alone in the same way."""
    monkeypatch.setattr(soap, "LARGEST", 8)
    own, theirs = parameters_at_start(), parameters_at_start()
    settings = {"lr": 1e-2, "betas": (0.9, 0.999), "weight_decay": 0.0}
    train(SOAP(own, **settings), own, range(25))
    train(pytorch_optimizer.SOAP(theirs, **settings, max_precondition_dim=8), theirs, range(25))
    for a, b in zip(own, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_a_loaded_state_goes_on_as_if_there_had_been_no_break() -> None:
    whole, parted = parameters_at_start(), parameters_at_start()
    train(SOAP(whole, lr=1e-2), whole, range(25))
    before = SOAP(parted, lr=1e-2)
    train(before, parted, range(13))
    after = SOAP(parted, lr=1e-2)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    train(after, parted, range(13, 25))
    assert all(torch.equal(a, b) for a, b in zip(whole, parted, strict=True))
