"""DenseICNN in ordinary PyTorch, with all its derivatives left to autograd: what tests compare the real one with."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from otbench.nets.dense_icnn import DenseICNN


def by_definition(net: DenseICNN, x: Tensor) -> Tensor:
    """The formula of the network's docstring, one layer at a time, on its own parameters; shape (n,)."""
    total = sum(net.widths)
    squares = (x @ net.quadratic).view(len(x), net.rank, total).square().sum(1)
    first, *others = (squares + x @ net.linear + net.bias).split(net.widths, 1)
    z = first
    for q, mix in zip(others, net.mixing, strict=True):
        z = (functional.softplus if net.activation == "softplus" else functional.celu)(z @ mix + q)
    return z @ net.readout + net.strong_convexity / 2 * x.square().sum(1)


class PlainICNN(nn.Module):
    """A copy of the network (of rank one), layer by layer, as one would write it first; for races."""

    def __init__(self, net: DenseICNN) -> None:
        super().__init__()
        parts = [slice(a, a + w) for a, w in zip(itertools.accumulate(net.widths, initial=0), net.widths, strict=False)]
        self.a = nn.ParameterList(net.quadratic.detach()[:, part].unsqueeze(1).contiguous() for part in parts)
        self.skip = nn.ModuleList(nn.Linear(net.dim, width) for width in net.widths)
        self.mix = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(net.widths))
        self.out = nn.Linear(net.widths[-1], 1, bias=False)
        self.strong = net.strong_convexity
        self.sigma = functional.celu if net.activation == "celu" else functional.softplus
        with torch.no_grad():
            for layer, part in zip(self.skip, parts, strict=True):
                layer.weight.copy_(net.linear[:, part].t())
                layer.bias.copy_(net.bias[part])
            for layer, weight in zip(self.mix, net.mixing, strict=True):
                layer.weight.copy_(weight.t())
            self.out.weight.copy_(net.readout.unsqueeze(0))

    def forward(self, x: Tensor) -> Tensor:
        squares = (torch.einsum("nd,drh->nrh", x, a).square().sum(1) for a in self.a)
        quadratic = [square + skip(x) for square, skip in zip(squares, self.skip, strict=True)]
        z = quadratic[0]
        for mix, q in zip(self.mix, quadratic[1:], strict=True):
            z = self.sigma(mix(z) + q)
        return self.out(z).squeeze(1) + self.strong / 2 * x.square().sum(1)

    def gradient(self, x: Tensor, *, create_graph: bool = False) -> Tensor:
        x = x if x.requires_grad else x.detach().requires_grad_()
        return torch.autograd.grad(self(x).sum(), x, create_graph=create_graph)[0]
