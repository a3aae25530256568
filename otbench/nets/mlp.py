r"""MLP: a plain fully connected network, for maps and critics that are not gradients of a convex potential.

With hidden widths $h_1..h_m$, $z_0 = x$ and $z_k = \sigma(z_{k-1} W_k + b_k)$, the value is
$z_m W_{m+1} + b_{m+1}$, plus the leading inputs where the network is residual.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from otbench.nets.activation import elu
from otbench.nets.potential import AutogradPotential
from otbench.nets.start import Start, normal, uniform
from otbench.recorded import Recorded

Activation = Literal["silu", "gelu", "relu", "elu"]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "relu": functional.relu,
    "elu": elu,
}


def mlp_width(dim: int) -> int:
    """Return the hidden width for data of dimension `dim` where none is given: max(2d, 64), as in the DenseICNN."""
    return max(2 * dim, 64)


class MLP(Recorded):
    """Fully connected network R^inputs -> R^outputs with one activation throughout.

    Attributes:
        inputs: number of input coordinates.
        outputs: number of output coordinates.
        widths: hidden widths (h_1, ..., h_m), m >= 0.
        residual: whether the first `outputs` inputs are added to the output.
        weights: W_1, ..., W_{m+1}, shapes (h_{k-1}, h_k) with h_0 = inputs and h_{m+1} = outputs.
        biases: b_1, ..., b_{m+1}, shapes (h_k,).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int = 1,
        *,
        widths: Sequence[int],
        activation: Activation = "silu",
        residual: bool = False,
        zero_last: bool = False,
        **start: Unpack[Start],
    ) -> None:
        """Draw weights from N(0, 2 / fan-in) (He et al., ICCV 2015) and biases from U(-1, 1) / sqrt(fan-in).

        Args:
            inputs: number of input coordinates.
            outputs: number of output coordinates.
            widths: hidden widths.
            activation: silu and gelu, which are smooth, relu, or elu between them.
            residual: add the first `outputs` inputs to the output.
            zero_last: start with the last layer at zero: the network is 0, or the identity if residual.
            start: see `Start`.

        Raises:
            ValueError: a size that is not positive, or a residual network with fewer inputs than outputs.
        """
        super().__init__()
        self.inputs, self.outputs, self.widths = inputs, outputs, tuple(widths)
        self.activation, self.residual = activation, residual
        if min(inputs, outputs, *self.widths) < 1:
            raise ValueError(f"MLP needs positive sizes, got {inputs} -> {self.widths} -> {outputs}")
        if residual and inputs < outputs:
            raise ValueError(f"a residual MLP needs at least as many inputs as outputs, got {inputs} and {outputs}")
        sizes = (inputs, *self.widths, outputs)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, size in itertools.pairwise(sizes):
            self.weights.append(normal(math.sqrt(2 / fan_in), fan_in, size, **start))
            self.biases.append(uniform(1.0, size, **start))
            self.biases[-1].data.div_(math.sqrt(fan_in))
        if zero_last:
            nn.init.zeros_(self.weights[-1])
            nn.init.zeros_(self.biases[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the value at each x_i, shape (n, outputs), for `x` of shape (n, inputs)."""
        activate, z = _ACTIVATIONS[self.activation], x
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            z = activate(torch.addmm(bias, z, weight))
        value = torch.addmm(self.biases[-1], z, self.weights[-1])
        return value + x[:, : self.outputs] if self.residual else value


class MLPPotential(MLP, AutogradPotential):
    """An MLP with one output as a `Potential`: it knows its gradient, which can be differentiated."""

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x_i), shape (n,), for `x` of shape (n, inputs)."""
        return super().forward(x).squeeze(1)
