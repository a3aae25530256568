r"""Entropic optimal transport between two samples by Sinkhorn's iteration: in logarithms, block by block.

For the cost c(x, y) = |x - y|^2 / 2 and uniform weights, the plan that minimises
$\langle \pi, c \rangle + \varepsilon \sum \pi \log \pi$ under its marginals has the form

$$\pi_{ij} = \exp(k_i + h_j + \langle x_i, y_j \rangle / \varepsilon) .$$

An iteration makes the rows right, $k_i = -\log n - \log \sum_j \exp(h_j + \langle x_i, y_j \rangle/\varepsilon)$, then
the columns. Both take one pass over the pairs and one exponential each: with the row sums at hand, a row of the plan
follows by a division, and the column sums s_j of the whole plan say how to move h: $h_j \leftarrow h_j - \log (m s_j)$.
Only blocks of the plan are ever stored. After the first passes h is moved half as far again, but for the last time
(over-relaxation: Thibault, Chizat, Dossal, Papadakis, Algorithms 14, 2021).

The plan moves any point x by the entropic map $T(x) = \sum_j w_j(x) y_j$ with
$w = \mathrm{softmax}(h + \langle x, y \rangle/\varepsilon)$ (Pooladian, Niles-Weed, arXiv 2109.12004), the gradient of
the convex function $\varepsilon \log \sum_j \exp(h_j + \langle x, y_j \rangle / \varepsilon)$.

POT has the iteration in logarithms (`ot.bregman.sinkhorn_log`), with the whole matrix in memory, and in blocks
(`ot.bregman.empirical_sinkhorn`, lazy), on the host, with two passes and two distance matrices an iteration.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from otbench.ops.pairwise import block_rows

RELAXATION = 1.5
"""How far h moves, as a multiple of what would make the columns right: saves a third of the passes at small eps."""
PLAIN = 5
"""Passes before that: where a few are enough, it would cost some."""
NEAR = 0.5
"""Largest error at which h is moved so far."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where Sinkhorn's iteration ended: the plan is exp(k_i + h_j + <x_i, y_j> / eps).

    Attributes:
        rows: k, shape (n,).
        columns: h, shape (m,).
        eps: strength of the entropy, in units of |x - y|^2 / 2.
        error: sum over the columns of |mass - 1/m|, before they were last made right.
        iterations: passes over all pairs.
    """

    rows: Tensor
    columns: Tensor
    eps: float
    error: float
    iterations: int

    def start_at(self, eps: float) -> Tensor:
        """Return h to begin with at another strength: the same dual potential, shape (m,)."""
        return self.columns * (self.eps / eps)


def sinkhorn(
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    start: Tensor | None = None,
    tolerance: float = 1e-3,
    iterations: int = 1000,
    chunk: int | None = None,
) -> Plan:
    """Run Sinkhorn's iteration between two samples, uniform weights, until the plan's marginals are right.

    Rounding errors are those of <x, y> / eps: centre the points. Extra memory is O(chunk * m + (n + m) d); no graph.
    Reads one number from the device in each iteration.

    Args:
        x: first sample, shape (n, d), float32 or float64.
        y: second sample, shape (m, d), dtype and device of `x`.
        eps: strength of the entropy, in units of |x - y|^2 / 2, > 0.
        start: h to begin with, shape (m,); None = the potential 0 at the points `y`.
        tolerance: the sum of |column mass - 1/m| at which it stops.
        iterations: upper limit.
        chunk: rows of a block; None = sized for the cache.
    """
    x, y = x.detach(), y.detach()
    m = len(y)
    columns = -y.square().sum(1) / (2 * eps) if start is None else start.clone()
    scaled = (y / eps).T.contiguous()
    rows = x.new_empty(len(x))
    done, error = 0, math.inf
    while done < iterations and error > tolerance:
        mass = torch.zeros_like(columns)
        for here, block, top in _blocks(x, scaled, columns, chunk):
            sums = block.sum(1)
            rows[here] = top + sums.log()
            mass.addmv_(block.T, sums.reciprocal_())
        mass *= m / len(x)
        error = float((mass - 1).abs().mean())
        done += 1
        last = done == iterations or error <= tolerance
        columns -= mass.log_() * (1.0 if last or done <= PLAIN or error > NEAR else RELAXATION)
    return Plan(-math.log(len(x)) - rows, columns, eps, error, done)


def self_sinkhorn(
    x: Tensor,
    eps: float,
    *,
    start: Tensor | None = None,
    tolerance: float = 1e-3,
    iterations: int = 1000,
    chunk: int | None = None,
) -> Plan:
    """Return the plan from a sample to itself, for which k = h; arguments as in `sinkhorn`.

    By the averaged iteration, which takes the middle of h and of what the rows ask for: it needs a few passes where the
    alternating one needs hundreds.
    """
    x = x.detach()
    own = -x.square().sum(1) / (2 * eps) if start is None else start.clone()
    scaled = (x / eps).T.contiguous()
    rows = torch.empty_like(own)
    done, error = 0, math.inf
    while done < iterations and error > tolerance:
        for here, block, top in _blocks(x, scaled, own, chunk):
            rows[here] = top + block.sum(1).log_()
        asked = -math.log(len(x)) - rows
        error = float((own - asked).exp_().sub_(1).abs_().mean())
        own = (own + asked) / 2
        done += 1
    return Plan(own, own, eps, error, done)


def columns_at(y: Tensor, x: Tensor, rows: Tensor, eps: float, *, chunk: int | None = None) -> Tensor:
    """Return h at any points, shape (m,): what k at `x` makes it, so that each point has the mass 1 / m.

    Args:
        y: points, shape (m, d).
        x: the sample whose side k is given on, shape (n, d).
        rows: k, shape (n,).
        eps: strength of the entropy.
        chunk: rows of a block; None = sized for the cache.
    """
    found = y.new_empty(len(y))
    for here, block, top in _blocks(y, (x / eps).T.contiguous(), rows, chunk):
        found[here] = top + block.sum(1).log_()
    return -math.log(len(y)) - found


def entropic_map(x: Tensor, y: Tensor, columns: Tensor, eps: float, *, chunk: int | None = None) -> Tensor:
    """Return T(x_i) = sum_j w_j y_j with w = softmax(h + <x_i, y> / eps), shape (n, d), without a graph.

    Args:
        x: points to move, shape (n, d).
        y: the sample that the plan goes to, shape (m, d).
        columns: h, shape (m,).
        eps: strength of the entropy.
        chunk: rows of a block; None = sized for the cache.
    """
    image = torch.empty_like(x)
    scaled = (y / eps).T.contiguous()
    for here, block, _ in _blocks(x, scaled, columns, chunk):
        image[here] = (block @ y).div_(block.sum(1, keepdim=True))
    return image


def entropic_draw(
    x: Tensor, y: Tensor, columns: Tensor, eps: float, *, generator: torch.Generator, chunk: int | None = None
) -> Tensor:
    """Return one y_j for each x_i, drawn with the weights that `entropic_map` takes the mean with, shape (n, d)."""
    image = torch.empty_like(x)
    scaled = (y / eps).T.contiguous()
    for here, block, _ in _blocks(x, scaled, columns, chunk):
        image[here] = y[torch.multinomial(block, 1, generator=generator).squeeze(1)]
    return image


def _blocks(x: Tensor, scaled: Tensor, columns: Tensor, chunk: int | None) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield rows, exp(h + <x, y> / eps - top) of these rows, overwritten by the next block, and top, their maxima.

    Smaller values than a normal number stand for themselves by such a one: processors are slow on subnormal ones, and a
    column that no row reaches can rise all the same.
    """
    floor = math.log(torch.finfo(x.dtype).tiny) + 7
    size = min(len(x), chunk or block_rows(x, len(columns))) or 1
    buffer = x.new_empty(size, len(columns))
    for begin in range(0, len(x), size):
        points = x[begin : begin + size]
        block = torch.addmm(columns, points, scaled, out=buffer[: len(points)])
        top = block.amax(1, keepdim=True)
        yield slice(begin, begin + size), block.sub_(top).clamp_(min=floor).exp_(), top.squeeze(1)
