"""What solvers ask of a scalar potential, how autograd gives it, and the one whose transport maps are known exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from otbench.recorded import Recorded


@runtime_checkable
class Potential(Protocol):
    """A function g: R^d -> R that knows its gradient."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return g(x_i), shape (n,), for `x` of shape (n, d)."""

    def gradient(self, x: Tensor) -> Tensor:
        """Return the gradient of g at each x_i, shape (n, d), for `x` of shape (n, d); differentiable."""

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return both at once, shapes (n,) and (n, d)."""


def gradient_beside(potential: Potential, k: int) -> Callable[[Tensor], Tensor]:
    """Return the gradient of `potential` in all coordinates but the last `k`, from (n, d) to (n, d).

    The last ones, such as a class, are held fixed: the gradient there is zero, and none flows back to them.
    """

    def gradient(points: Tensor) -> Tensor:
        fixed = torch.cat((points[:, :-k], points[:, -k:].detach()), 1)
        return functional.pad(potential.gradient(fixed)[:, :-k], (0, k))

    return gradient if k else potential.gradient


class AutogradPotential(Recorded):
    """A network that is a `Potential` by automatic differentiation; subclasses define `forward`.

    One that has both in closed form redefines `value_and_gradient`.
    """

    def gradient(self, x: Tensor) -> Tensor:
        """Return the gradient of f at each x_i, the shape of `x`; differentiable."""
        return self.value_and_gradient(x)[1]

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f, shape (n,), and its gradient, the shape of `x`, both without a graph where autograd is off."""
        wanted = torch.is_grad_enabled()
        with torch.enable_grad():
            x = x if wanted and x.requires_grad else x.detach().requires_grad_()
            value = self(x)
            gradient = torch.autograd.grad(value.sum(), x, create_graph=wanted)[0]
        return (value if wanted else value.detach()), gradient


class QuadraticPotential(Recorded):
    r"""$g(x) = x^T A x / 2 + \langle b, x \rangle$, whose map $x + \nabla g(x) = (I + A) x + b$ is affine.

    With $A = \Gamma - I$ it is the exact potential of a Gaussian pair whose optimal map is $\Gamma x$; put into a
    solver in place of its network, it must give that solver's best possible score.

    Attributes:
        matrix: A, shape (d, d), symmetric.
        shift: b, shape (d,).
    """

    def __init__(self, matrix: Tensor, shift: Tensor | None = None) -> None:
        """Take A, of which only the symmetric part counts, and b (zero if None); both become parameters."""
        super().__init__()
        self.matrix = nn.Parameter((matrix + matrix.t()) / 2)
        self.shift = nn.Parameter(matrix.new_zeros(len(matrix)) if shift is None else shift.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return g(x_i), shape (n,), for `x` of shape (n, d)."""
        return self.value_and_gradient(x)[0]

    def gradient(self, x: Tensor) -> Tensor:
        """Return A x_i + b, shape (n, d), for `x` of shape (n, d)."""
        return torch.addmm(self.shift, x, (self.matrix + self.matrix.t()) / 2)

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return g, shape (n,), and its gradient, shape (n, d)."""
        gradient = self.gradient(x)
        return (x * (gradient + self.shift)).sum(1) / 2, gradient


class QuadraticCharacteristics(AutogradPotential):
    r"""$u(x, t)$ with $u(x, 0) = x^T A x / 2 + \langle b, x \rangle$ and $u_t + |\nabla u|^2 / 2 = 0$.

    Characteristics are straight: the point $x_0 = (I + tA)^{-1}(x - tb)$ moves with velocity $p = A x_0 + b$, so that
    $u = u(x_0, 0) + t |p|^2 / 2$, $\nabla u = p$ and $u_t = -|p|^2/2$. Needs $I + A$ positive definite.

    Attributes:
        matrix: A, shape (d, d), symmetric.
        shift: b, shape (d,).
    """

    def __init__(self, matrix: Tensor, shift: Tensor) -> None:
        """Take A and b as parameters."""
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())
        self.shift = nn.Parameter(shift.clone())

    def forward(self, z: Tensor) -> Tensor:
        """Return u, shape (n,), for inputs (x, t) of shape (n, d + 1)."""
        return self.value_and_gradient(z)[0]

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return u, shape (n,), and its gradient in (x, t), shape (n, d + 1), for inputs (x, t) of that shape."""
        x, t = x[:, :-1], x[:, -1:]
        system = torch.eye(len(self.shift), dtype=x.dtype, device=x.device) + t[:, :, None] * self.matrix
        x0 = torch.linalg.solve(system, x - t * self.shift)
        p = x0 @ self.matrix + self.shift
        half = p.square().sum(1, keepdim=True) / 2
        value = (x0 * (p + self.shift)).sum(1) / 2 + (t * half).squeeze(1)
        return value, torch.cat([p, -half], 1)
