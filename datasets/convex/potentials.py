r"""Closed-form convex potentials psi on R^d, and what follows from them: T = grad psi, its inverse, its Jacobian.

Every class is a frozen set of tensors, so that a map can be pickled, and moved to another device and type by `to`.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from otbench.datasets.convex.newton import invert

_ELEMENTS = 2**22
"""Numbers in a stack of matrices that is held at a time."""
_ROWS = 2**13
"""Points that are inverted at a time."""


@dataclass(frozen=True)
class ConvexMap(abc.ABC):
    """T = grad psi with psi convex: by Brenier's theorem the optimal map of the quadratic cost from any density."""

    @abc.abstractmethod
    def potential(self, x: Tensor) -> Tensor:
        """Return psi(x_i), shape (n,), for `x` of shape (n, d)."""

    @abc.abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Return T(x_i) = grad psi(x_i), shape (n, d)."""

    @abc.abstractmethod
    def hessian(self, x: Tensor) -> Tensor:
        """Return the Hessians of psi, which are the Jacobians of T, shape (n, d, d)."""

    def inverse(self, y: Tensor, start: Tensor | None = None) -> Tensor:
        """Return S(y_i), the x with T(x) = y, shape (n, d).

        Args:
            y: points, shape (n, d), float64.
            start: first iterates where the inverse is found by Newton's method, shape (n, d); y if None.

        Returns:
            The inverse; NaN in rows where none was found.
        """
        return _by_parts(lambda *rows: invert(self, *rows), _ROWS, y, y if start is None else start)

    def log_det(self, x: Tensor) -> Tensor:
        """Return log det Hess psi(x_i), shape (n,)."""
        rows = max(1, _ELEMENTS // x.shape[1] ** 2)
        return _by_parts(lambda part: torch.linalg.slogdet(self.hessian(part)).logabsdet, rows, x)

    def solve(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return Hess psi(x_i)^-1 r_i, shape (n, d): the step of Newton's method for residuals r of shape (n, d)."""
        rows = max(1, _ELEMENTS // x.shape[1] ** 2)
        return _by_parts(lambda part, right: torch.linalg.solve(self.hessian(part), right), rows, x, residual)

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Return the same map with its tensors on `device`, of type `dtype`."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        moved = {name: v.to(device, dtype) for name, v in values.items() if isinstance(v, (Tensor, ConvexMap))}
        return dataclasses.replace(self, **moved)


@dataclass(frozen=True)
class SoftLaguerre(ConvexMap):
    r"""$\psi = c|x|^2/2 + s \log \sum_k \exp(\langle a_k, x\rangle / s)$: soft cells, each shifted by its atom.

    With weights w = softmax(Ax/s) the Hessian is c I + A^T (diag w - w w^T) A / s. Where there are fewer atoms than
    coordinates, it is solved for, and its determinant taken, by way of K x K matrices.

    Attributes:
        atoms: a_k, shape (K, d).
        curvature: c, the smallest eigenvalue that the Hessian can have.
        width: s, of the cells' soft borders, > 0.
    """

    atoms: Tensor
    curvature: float
    width: float

    def potential(self, x: Tensor) -> Tensor:
        """Return psi(x_i), shape (n,)."""
        soft = self.width * torch.logsumexp(x @ self.atoms.T / self.width, 1)
        return self.curvature / 2 * x.square().sum(1) + soft

    def __call__(self, x: Tensor) -> Tensor:
        """Return c x + sum_k w_k a_k, shape (n, d)."""
        return self.curvature * x + self._weights(x) @ self.atoms

    def hessian(self, x: Tensor) -> Tensor:
        """Return the Hessians, shape (n, d, d)."""
        w = self._weights(x)
        mean = w @ self.atoms
        spread: Tensor = (self.atoms.T * w[:, None, :]) @ self.atoms - mean[:, :, None] * mean[:, None, :]
        return self.curvature * _eye(x.shape[1], x) + spread / self.width

    def log_det(self, x: Tensor) -> Tensor:
        """Return log det Hess psi(x_i), shape (n,); with few atoms by the determinant lemma."""
        count, dim = self.atoms.shape
        if dim <= count:
            return super().log_det(x)
        rows = max(1, _ELEMENTS // count**2)
        small = _by_parts(lambda part: torch.linalg.slogdet(self._small(self._core(part))).logabsdet, rows, x)
        return dim * math.log(self.curvature) + small

    def solve(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return Hess psi(x_i)^-1 r_i, shape (n, d); with few atoms by Woodbury's identity."""
        count, dim = self.atoms.shape
        if dim <= count:
            return super().solve(x, residual)

        def inner(part: Tensor, right: Tensor) -> Tensor:
            core = self._core(part)
            weights: Tensor = torch.linalg.solve(self._small(core), core @ (right @ self.atoms.T)[:, :, None])
            return weights.squeeze(2)

        found = _by_parts(inner, max(1, _ELEMENTS // count**2), x, residual)
        return (residual - found @ self.atoms / self.curvature) / self.curvature

    def _weights(self, x: Tensor) -> Tensor:
        return torch.softmax(x @ self.atoms.T / self.width, 1)

    def _core(self, x: Tensor) -> Tensor:
        """Return (diag w - w w^T) / s, shape (n, K, K)."""
        w = self._weights(x)
        return (torch.diag_embed(w) - w[:, :, None] * w[:, None, :]) / self.width

    def _small(self, core: Tensor) -> Tensor:
        """Return I + core A A^T / c, shape (n, K, K)."""
        return _eye(len(self.atoms), core) + core @ (self.atoms @ self.atoms.T) / self.curvature


@dataclass(frozen=True)
class Laguerre(ConvexMap):
    r"""$\psi = c|x|^2/2 + \max_k \langle a_k, x\rangle$: the limit of `SoftLaguerre` for s -> 0. T jumps between cells.

    Attributes:
        atoms: a_k, shape (K, d).
        curvature: c > 0.
    """

    atoms: Tensor
    curvature: float

    def potential(self, x: Tensor) -> Tensor:
        """Return psi(x_i), shape (n,)."""
        return self.curvature / 2 * x.square().sum(1) + (x @ self.atoms.T).amax(1)

    def __call__(self, x: Tensor) -> Tensor:
        """Return c x + a_k for the cell k of each point, shape (n, d)."""
        return self.curvature * x + self.atoms[(x @ self.atoms.T).argmax(1)]

    def hessian(self, x: Tensor) -> Tensor:
        """Return c I, shape (n, d, d): what the Hessian is inside a cell, so almost everywhere."""
        return (self.curvature * _eye(x.shape[1], x)).expand(len(x), -1, -1)

    def log_det(self, x: Tensor) -> Tensor:
        """Return d log c, shape (n,)."""
        return x.new_full((len(x),), x.shape[1] * math.log(self.curvature))

    def inverse(self, y: Tensor, start: Tensor | None = None) -> Tensor:
        """Return (y - a_k) / c for the one k whose cell it lies in, shape (n, d); NaN for y in the gaps of the image.

        Every cell is tried. On the border of a cell, a set without mass, rounding decides.
        """
        x = torch.full_like(y, math.nan)
        for k, atom in enumerate(self.atoms):
            candidate = (y - atom) / self.curvature
            here = (candidate @ self.atoms.T).argmax(1) == k
            x[here] = candidate[here]
        return x


@dataclass(frozen=True)
class Ridge(ConvexMap):
    r"""$\psi = c|x|^2/2 + \sum_j \alpha_j \tau\, \mathrm{softplus}((\langle u_j, x\rangle - t_j)/\tau)$.

    This is an input-convex network with one hidden layer of softplus units.

    Attributes:
        directions: u_j, shape (m, d), of norm one.
        offsets: t_j, shape (m,).
        slopes: alpha_j > 0, shape (m,).
        curvature: c > 0.
        width: tau > 0, of the bends.
    """

    directions: Tensor
    offsets: Tensor
    slopes: Tensor
    curvature: float
    width: float

    def potential(self, x: Tensor) -> Tensor:
        """Return psi(x_i), shape (n,)."""
        bent = self.width * functional.softplus(self._places(x)) @ self.slopes
        return self.curvature / 2 * x.square().sum(1) + bent

    def __call__(self, x: Tensor) -> Tensor:
        """Return c x + sum_j alpha_j sigmoid(.) u_j, shape (n, d)."""
        return self.curvature * x + (torch.sigmoid(self._places(x)) * self.slopes) @ self.directions

    def hessian(self, x: Tensor) -> Tensor:
        """Return the Hessians, shape (n, d, d)."""
        on = torch.sigmoid(self._places(x))
        bends = on * (1 - on) * self.slopes / self.width
        return self.curvature * _eye(x.shape[1], x) + (self.directions.T * bends[:, None, :]) @ self.directions

    def _places(self, x: Tensor) -> Tensor:
        return (x @ self.directions.T - self.offsets) / self.width


@dataclass(frozen=True)
class Tail(ConvexMap):
    r"""In the columns q_i of Q: t -> sinh(beta t)/beta on the first k, t itself on the others. Heavy tails.

    Attributes:
        basis: Q, orthogonal, shape (d, d).
        beta: rate of growth, > 0.
        stretched: k, from 1 to d.
    """

    basis: Tensor
    beta: float
    stretched: int

    def potential(self, x: Tensor) -> Tensor:
        """Return psi(x_i), shape (n,)."""
        t, rest = self._parts(x)
        return ((self.beta * t).cosh() / self.beta**2).sum(1) + rest.square().sum(1) / 2

    def __call__(self, x: Tensor) -> Tensor:
        """Return T(x_i), shape (n, d)."""
        t, rest = self._parts(x)
        return self._joined((self.beta * t).sinh() / self.beta, rest)

    def hessian(self, x: Tensor) -> Tensor:
        """Return the Hessians, shape (n, d, d)."""
        t, rest = self._parts(x)
        return (self.basis * torch.cat([(self.beta * t).cosh(), torch.ones_like(rest)], 1)[:, None, :]) @ self.basis.T

    def log_det(self, x: Tensor) -> Tensor:
        """Return log det Hess psi(x_i), shape (n,)."""
        return (self.beta * self._parts(x)[0]).cosh().log().sum(1)

    def inverse(self, y: Tensor, start: Tensor | None = None) -> Tensor:
        """Return S(y_i), shape (n, d), in closed form."""
        t, rest = self._parts(y)
        return self._joined((self.beta * t).asinh() / self.beta, rest)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        t = x @ self.basis
        return t[:, : self.stretched], t[:, self.stretched :]

    def _joined(self, t: Tensor, rest: Tensor) -> Tensor:
        return torch.cat([t, rest], 1) @ self.basis.T


@dataclass(frozen=True)
class Product(ConvexMap):
    r"""Each coordinate by itself: t -> sinh(delta_i asinh(t) + eps_i), increasing, lighter tails, skewed by eps.

    Between product measures such a map is optimal for every cost that is a sum over coordinates of a convex function
    of y_i - x_i.

    Attributes:
        powers: delta_i, shape (d,), in (0, 1): T grows as |t|^delta.
        skews: eps_i, shape (d,).
    """

    powers: Tensor
    skews: Tensor

    def potential(self, x: Tensor) -> Tensor:
        """Return psi(x_i), shape (n,)."""
        # with t = sinh u the integral of T is that of sinh(delta u + eps) cosh u
        u = x.asinh()
        up, down = (((self.powers + sign) * u + self.skews).cosh() / (self.powers + sign) for sign in (1.0, -1.0))
        return ((up + down) / 2).sum(1)

    def __call__(self, x: Tensor) -> Tensor:
        """Return T(x_i), shape (n, d)."""
        return (self.powers * x.asinh() + self.skews).sinh()

    def hessian(self, x: Tensor) -> Tensor:
        """Return the Hessians, which are diagonal, shape (n, d, d)."""
        return torch.diag_embed(self._slopes(x))

    def log_det(self, x: Tensor) -> Tensor:
        """Return log det Hess psi(x_i), shape (n,)."""
        return self._slopes(x).log().sum(1)

    def inverse(self, y: Tensor, start: Tensor | None = None) -> Tensor:
        """Return S(y_i), shape (n, d), in closed form."""
        return ((y.asinh() - self.skews) / self.powers).sinh()

    def _slopes(self, x: Tensor) -> Tensor:
        return (self.powers * x.asinh() + self.skews).cosh() * self.powers / (1 + x.square()).sqrt()


@dataclass(frozen=True)
class Standardised(ConvexMap):
    r"""$a (\psi - \langle m, x\rangle)$: the map a (T - m), whose image has mean 0 and variance d in total.

    Attributes:
        base: T.
        mean: m, shape (d,).
        scale: a > 0.
    """

    base: ConvexMap
    mean: Tensor
    scale: float

    def potential(self, x: Tensor) -> Tensor:
        """Return psi(x_i), shape (n,)."""
        return self.scale * (self.base.potential(x) - x @ self.mean)

    def __call__(self, x: Tensor) -> Tensor:
        """Return T(x_i), shape (n, d)."""
        return self.scale * (self.base(x) - self.mean)

    def hessian(self, x: Tensor) -> Tensor:
        """Return the Hessians, shape (n, d, d)."""
        return self.scale * self.base.hessian(x)

    def log_det(self, x: Tensor) -> Tensor:
        """Return log det Hess psi(x_i), shape (n,)."""
        return self.base.log_det(x) + x.shape[1] * math.log(self.scale)

    def inverse(self, y: Tensor, start: Tensor | None = None) -> Tensor:
        """Return S(y_i), shape (n, d); NaN in rows where none was found."""
        return self.base.inverse(y / self.scale + self.mean, y if start is None else start)

    def solve(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return Hess psi(x_i)^-1 r_i, shape (n, d)."""
        return self.base.solve(x, residual) / self.scale


def _eye(size: int, like: Tensor) -> Tensor:
    return torch.eye(size, device=like.device, dtype=like.dtype)


def _by_parts(function: Callable[..., Tensor], rows: int, *tensors: Tensor) -> Tensor:
    """Return what `function` makes of `tensors`, at most `rows` of their rows at a time."""
    parts = zip(*(torch.split(tensor, rows) for tensor in tensors), strict=True)
    return torch.cat([function(*part) for part in parts])
