r"""An entropic plan whose potential is a mixture of K Gaussians: everything about it is in closed form.

$$v(y) = \sum_k \alpha_k \, N(y | r_k, \epsilon S_k), \qquad
c(x) = \sum_k \alpha_k \exp \frac{\langle x, S_k x \rangle + 2 \langle r_k, x \rangle}{2 \epsilon} ,$$

and $\pi(y | x) = e^{\langle x, y \rangle / \epsilon} v(y) / c(x) = \sum_k w_k(x) N(y | r_k + S_k x, \epsilon S_k)$,
where w_k(x) is the share of term k in c(x). Its mean is $\epsilon \nabla \log c(x)$, the gradient of a convex function.

With diagonal S_k no array of size n x K x d is made: squares are expanded, and both logarithms are linear in
(x^2, x), two matrix products. That costs digits where points are far out against epsilon; centred points are not.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, Unpack

import torch
from torch import Tensor

from otbench.nets.start import Start, constant
from otbench.recorded import Recorded

Shape: TypeAlias = Literal["diagonal", "full"]
_ELEMENTS = 2**22
"""Coordinates that are made at a time where each point meets all full matrices."""


class GaussianPlan(Recorded):
    """The plan, with its parameters: without gradients the way from x to y, with gradients what is trained.

    Attributes:
        epsilon: strength of the entropic regularisation, > 0.
        shape: whether the S_k are diagonal or full.
        level: epsilon log alpha_k, shape (K,): in units of the cost, as potentials are.
        centre: r_k, shape (K, d).
        log_scale: logarithm of the diagonal of S_k or, if full, of the squared diagonal of its Cholesky factor, (K, d).
        lower: full only: Cholesky factors of the S_k below their diagonals, shape (K, d, d); the rest is not looked at.
    """

    def __init__(
        self, dim: int, *, components: int, epsilon: float, shape: Shape = "diagonal", **start: Unpack[Start]
    ) -> None:
        """Make a plan with S_k = I and r_k = 0."""
        super().__init__()
        self.epsilon, self.shape = epsilon, shape
        self.level = constant(0.0, components, **start)
        self.centre, self.log_scale = (constant(0.0, components, dim, **start) for _ in range(2))
        self.lower = constant(0.0, components, dim, dim, **start) if shape == "full" else None

    @torch.no_grad()
    def place_(self, points: Tensor, scale: float) -> None:
        """Set S_k = scale * I and put one component on each of `points`, shape (K, d).

        With r_k = (1 - scale) y_k and these alpha_k, points x of the cell of y_k (those closer to it than to the other
        y) go to scale * x + (1 - scale) * y_k, up to epsilon.
        """
        self.log_scale.fill_(math.log(scale))
        self.centre.copy_((1 - scale) * points)
        self.level.copy_(-(1 - scale) * points.square().sum(1) / 2)

    def log_c(self, x: Tensor) -> Tensor:
        """Return log c(x), shape (n,)."""
        return self._terms_c(x).logsumexp(1)

    def log_v(self, y: Tensor) -> Tensor:
        """Return log v(y), shape (n,)."""
        epsilon, d = self.epsilon, y.shape[1]
        if self.lower is None:
            inverse = (-self.log_scale).exp() / epsilon
            squares = y.square() @ inverse.T - 2 * (y @ (inverse * self.centre).T)
            squares = squares + (inverse * self.centre.square()).sum(1)
        else:
            whiten = torch.linalg.solve_triangular(self._factors(), self._identity(), upper=False)
            residual = y @ whiten.mT - (self.centre[:, None] @ whiten.mT)
            squares = residual.square().sum(2).T / epsilon
        log_det = self.log_scale.sum(1) + d * math.log(2 * math.pi * epsilon)
        return (self.level / epsilon - (squares + log_det) / 2).logsumexp(1)

    def shares(self, x: Tensor) -> Tensor:
        """Return w_k(x), shape (n, K)."""
        return self._terms_c(x).softmax(1)

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean of y given each point of `x`, shape (n, d)."""
        w = self.shares(x)
        if self.lower is None:
            return w @ self.centre + (w @ self.log_scale.exp()) * x
        factors = self._factors()
        found = w @ self.centre
        for k in range(len(factors)):
            found = found + w[:, k, None] * ((x @ factors[k]) @ factors[k].T)
        return found

    @torch.no_grad()
    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return one draw of y given each point of `x`, shape (n, d)."""
        component = torch.multinomial(self.shares(x), 1, generator=generator).squeeze(1)
        noise = math.sqrt(self.epsilon) * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        if self.lower is None:
            root = (self.log_scale / 2).exp()[component]
            return self.centre[component] + root * (root * x + noise)
        found, factors = self.centre[component], self._factors()
        for k in range(len(factors)):  # S x + sqrt(epsilon) L z = L (L^T x + sqrt(epsilon) z)
            here = component == k
            found[here] += (x[here] @ factors[k] + noise[here]) @ factors[k].T
        return found

    def _terms_c(self, x: Tensor) -> Tensor:
        """Return the logarithms of the terms of c(x), shape (n, K)."""
        if self.lower is None:
            squares = x.square() @ self.log_scale.exp().T
        else:
            factors = self._factors()
            parts = torch.split(x, max(1, _ELEMENTS // self.centre.numel()))
            squares = torch.cat([(part @ factors).square().sum(2).T for part in parts])
        return (squares / 2 + x @ self.centre.T + self.level) / self.epsilon

    def _factors(self) -> Tensor:
        assert self.lower is not None
        return self.lower.tril(-1) + torch.diag_embed((self.log_scale / 2).exp())

    def _identity(self) -> Tensor:
        return torch.eye(self.centre.shape[1], device=self.centre.device, dtype=self.centre.dtype)
