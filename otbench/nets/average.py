"""Polynomial averaging of the iterates of a network (Shamir & Zhang, ICML 2013)."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Averaged(nn.Module, Generic[ModuleT]):
    """The mean of all iterates k of a network with weights ~ k^power, kept up to date step by step.

    Floating buffers, such as the running means of a batch norm, are averaged alike. The recursion needs no memory of
    the past: the newest of t iterates has the share (power + 1) / (t + power).

    Attributes:
        module: the averaged network; the network itself where averaging is off.
        power: about the last 1 / power of all steps count; 0 = averaging is off.
        steps_done: iterates so far.
    """

    module: ModuleT

    def __init__(self, network: ModuleT, power: float) -> None:
        """Start from `network` as it is."""
        super().__init__()
        self.module = copy.deepcopy(network).requires_grad_(False) if power else network
        self.power, self.steps_done = power, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the newest iterate: `network` after a step."""
        self.steps_done += 1
        if self.power:
            share = (self.power + 1) / (self.steps_done + self.power)
            torch._foreach_lerp_(_averaged(self.module), _averaged(network), share)

    def get_extra_state(self) -> int:
        """Return the number of steps, which `state_dict` keeps beside the weights."""
        return self.steps_done

    def set_extra_state(self, state: int) -> None:
        """Take over the number of steps."""
        self.steps_done = state


def _averaged(network: nn.Module) -> list[torch.Tensor]:
    return [*network.parameters(), *(held for held in network.buffers() if held.is_floating_point())]
