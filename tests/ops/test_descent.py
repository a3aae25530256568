from __future__ import annotations

import torch

from otbench.ops.descent import descend, set_rates


def test_a_step_forgets_earlier_gradients_and_goes_down_the_clipped_one() -> None:
    point, other = torch.tensor([3.0, 4.0], requires_grad=True), torch.ones(1, requires_grad=True)
    optimiser = torch.optim.SGD([point, other], lr=1.0)
    descend(optimiser, point.square().sum() / 2, grad_clip=1.0)  # the gradient (3, 4) has norm 5
    torch.testing.assert_close(point.detach(), torch.tensor([3.0 - 0.6, 4.0 - 0.8]))
    descend(optimiser, point.sum())
    torch.testing.assert_close(point.detach(), torch.tensor([3.0 - 1.6, 4.0 - 1.8]))
    assert float(other.detach()) == 1.0  # outside both graphs


def test_rates_are_set_in_all_groups() -> None:
    first, second = (torch.ones(1, requires_grad=True) for _ in range(2))
    optimiser = torch.optim.AdamW([{"params": [first]}, {"params": [second], "lr": 5.0}], weight_decay=0.3)
    set_rates(optimiser, 0.1)
    assert [(group["lr"], group["weight_decay"]) for group in optimiser.param_groups] == [(0.1, 0.3)] * 2
    set_rates(optimiser, 0.2, weight_decay=0.0)
    assert [(group["lr"], group["weight_decay"]) for group in optimiser.param_groups] == [(0.2, 0.0)] * 2
