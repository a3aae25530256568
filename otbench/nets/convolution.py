"""Convolutions that start from a generator of their own; torch's constructors draw from the global random state."""

from __future__ import annotations

import math
from typing import TypeVar, Unpack

import torch
from torch import nn

from otbench.nets.start import Start

LayerT = TypeVar("LayerT", nn.Conv2d, nn.Linear)


def convolution(
    inputs: int,
    outputs: int,
    size: int,
    *,
    stride: int = 1,
    he: bool = False,
    bias: bool = True,
    **start: Unpack[Start],
) -> nn.Conv2d:
    """Return a convolution that keeps height and width, or divides them by `stride`.

    Args:
        inputs: channels before.
        outputs: channels after.
        size: height and width of the kernel, pixels; odd, or 4 with stride 2.
        stride: pixels from one place of the kernel to the next.
        he: weights from N(0, 2 / fan-out) (He et al., ICCV 2015), as of a critic; else as `started` draws them.
        bias: whether there is one.
        start: see `Start`.
    """
    with torch.device("meta"):  # where drawing costs nothing, and takes nothing from the global random state
        layer = nn.Conv2d(inputs, outputs, size, stride, padding=(size - 1) // 2, bias=bias, dtype=start.get("dtype"))
    started(layer, **start)
    if he:
        with torch.no_grad():
            layer.weight.normal_(0.0, math.sqrt(2 / (outputs * size**2)), generator=start.get("generator"))
    return layer


@torch.no_grad()
def started(layer: LayerT, **start: Unpack[Start]) -> LayerT:
    """Bring `layer` to its device, draw its parameters from U(-1, 1) / sqrt(fan-in), torch's own start, return it."""
    layer.to_empty(device=torch.empty(0, device=start.get("device")).device)
    bound = 1 / math.sqrt(layer.weight[0].numel())
    layer.weight.uniform_(-bound, bound, generator=start.get("generator"))
    if layer.bias is not None:
        layer.bias.uniform_(-bound, bound, generator=start.get("generator"))
    return layer
