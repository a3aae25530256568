"""Batched L-BFGS: closed forms, SciPy's solver sample by sample, and what one sample owes to the others: nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from otbench.ops.lbfgs import solve_conjugate_lbfgs

F64 = torch.float64
Psi = Callable[[Tensor], tuple[Tensor, Tensor]]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def matrix(spectrum: Tensor, seed: int = 0) -> Tensor:
    q, _ = torch.linalg.qr(normal(len(spectrum), len(spectrum), seed=seed))
    return q @ torch.diag(spectrum) @ q.T


def quadratic(a: Tensor) -> Psi:
    return lambda w: ((w @ a * w).sum(1) / 2, w @ a)


def soft_max(d: int, *, c: float = 0.3, scale: float = 0.2, seed: int = 3, dtype: torch.dtype = F64) -> Psi:
    """psi = c |w|^2 / 2 + scale * log sum_k exp(<a_k, w> / scale): eigenvalues from c to about 1 / scale."""
    atoms = normal(8, d, seed=seed, dtype=dtype)

    def look(w: Tensor) -> tuple[Tensor, Tensor]:
        logits = w @ atoms.T / scale
        value = c / 2 * w.square().sum(1) + scale * logits.logsumexp(1)
        return value, c * w + logits.softmax(1) @ atoms

    return look


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), dim=st.integers(1, 12), condition=st.floats(0, 3))
def test_a_quadratics_minimiser_is_its_inverse(seed: int, dim: int, condition: float) -> None:
    a = matrix(torch.logspace(-condition / 2, condition / 2, dim, dtype=F64), seed)
    y = normal(40, dim, seed=seed + 1)
    found = solve_conjugate_lbfgs(quadratic(a), y, tol=1e-8, max_iter=500)
    assert found.unconverged.item() == 0
    torch.testing.assert_close(found.y @ a, y, atol=2e-8, rtol=0)
    exact = torch.linalg.solve(a, y.T).T
    assert float((found.y - exact).abs().max()) <= 2e-8 * 10 ** (condition / 2) * math.sqrt(dim)


@pytest.mark.parametrize("d", [2, 8, 32])
@pytest.mark.parametrize("scale", [0.5, 0.05])
def test_soft_max_potentials_are_inverted(d: int, scale: float) -> None:
    psi = soft_max(d, scale=scale)
    exact = normal(200, d, seed=5)
    y = psi(exact)[1]
    found = solve_conjugate_lbfgs(psi, y, tol=1e-8, max_iter=300)
    assert found.unconverged.item() == 0
    torch.testing.assert_close(found.y, exact, atol=1e-6, rtol=0)  # strongly convex: the inverse is unique


@pytest.mark.parametrize("psi", [quadratic(matrix(torch.logspace(-1.5, 1.5, 6, dtype=F64))), soft_max(6, scale=0.1)])
def test_it_ends_where_scipy_does(psi: Psi) -> None:
    y = normal(12, 6, seed=7)
    found = solve_conjugate_lbfgs(psi, y, tol=1e-7, max_iter=500)
    assert found.unconverged.item() == 0

    for ours, right in zip(found.y, y, strict=True):

        def function(w: np.ndarray, right: Tensor = right) -> tuple[float, np.ndarray]:
            value, gradient = psi(torch.from_numpy(w)[None])
            return float(value[0] - right @ torch.from_numpy(w)), (gradient[0] - right).numpy()

        theirs = scipy.optimize.minimize(
            function, right.numpy(), jac=True, method="L-BFGS-B", options={"gtol": 1e-7, "ftol": 0, "maxiter": 2000}
        )
        assert function(ours.numpy())[0] <= theirs.fun + 1e-9
        np.testing.assert_allclose(ours, theirs.x, atol=2e-5)


def test_it_needs_about_as_many_iterations_as_scipy() -> None:
    psi, y = soft_max(16, scale=0.1), normal(20, 16, seed=9)
    counts = []
    for right in y:

        def function(w: np.ndarray, right: Tensor = right) -> tuple[float, np.ndarray]:
            value, gradient = psi(torch.from_numpy(w)[None])
            return float(value[0] - right @ torch.from_numpy(w)), (gradient[0] - right).numpy()

        options = {"gtol": 1e-4, "ftol": 0, "maxcor": 10}
        counts.append(
            scipy.optimize.minimize(function, right.numpy(), jac=True, method="L-BFGS-B", options=options).nfev
        )
    found = solve_conjugate_lbfgs(psi, y, tol=1e-4, max_iter=500)
    assert found.evaluations < 2 * np.mean(counts)


@pytest.mark.parametrize("compact", [0.0, 0.1, 0.5, 2.0])
def test_a_sample_does_not_depend_on_the_others_or_on_when_they_leave(compact: float) -> None:
    psi, y = soft_max(5), normal(30, 5, seed=11)
    y[::3] = psi(torch.zeros(1, 5, dtype=F64))[1]
    start = torch.zeros_like(y)  # a third is done at once
    together = solve_conjugate_lbfgs(psi, y, start=start, tol=1e-6, compact=compact)
    torch.testing.assert_close(together.y[::3], start[::3], rtol=0, atol=0)
    for k in (1, 2, 4):
        alone = solve_conjugate_lbfgs(psi, y[k : k + 1], start=start[k : k + 1], tol=1e-6)
        torch.testing.assert_close(together.y[k], alone.y[0], rtol=0, atol=1e-12)


def test_only_samples_that_are_not_done_are_looked_at() -> None:
    seen = 0
    psi = soft_max(4)

    def counted(w: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal seen
        seen += len(w)
        return psi(w)

    y = psi(normal(1000, 4, seed=13))[1]
    start = normal(1000, 4, seed=13)
    start[:10] += 3
    found = solve_conjugate_lbfgs(counted, y, start=start, tol=1e-6)
    assert found.unconverged.item() == 0
    assert seen == pytest.approx(1000 * found.evaluations)
    assert seen < 1000 + 10 * 100


def test_float32_reaches_small_tolerances_at_large_values() -> None:
    psi = soft_max(32, dtype=torch.float32)
    y = psi(3 * normal(300, 32, seed=15, dtype=torch.float32))[1]
    found = solve_conjugate_lbfgs(lambda w: (psi(w)[0] + 100, psi(w)[1]), y, tol=1e-4)
    assert float(found.unconverged) < 0.01


def test_the_double_well_is_descended_and_nothing_is_worse_than_its_start() -> None:
    def well(w: Tensor) -> tuple[Tensor, Tensor]:  # negative curvature about 0
        return ((w.square() - 1).square() / 4).sum(1), w * (w.square() - 1)

    y, start = 0.1 * normal(200, 3, seed=17), 2 * normal(200, 3, seed=19)
    found = solve_conjugate_lbfgs(well, y, start=start, tol=1e-8)
    assert found.unconverged.item() == 0
    before, after = ((well(w)[0] - (w * y).sum(1)) for w in (start, found.y))
    assert (after <= before).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_not_taken(bad: float) -> None:
    def fenced(w: Tensor) -> tuple[Tensor, Tensor]:  # quadratic inside a ball
        inside = w.norm(dim=1) < 2
        value = torch.where(inside, w.square().sum(1) / 2, bad)
        return value, torch.where(inside[:, None], w, bad)

    y = torch.cat((normal(50, 2, seed=21), 10 * torch.ones(3, 2, dtype=F64)))  # the last have their minimiser outside
    found = solve_conjugate_lbfgs(fenced, y, start=torch.zeros_like(y), max_iter=50)
    assert found.y.isfinite().all()
    inside = y.norm(dim=1) < 2
    torch.testing.assert_close(found.y[inside], y[inside], atol=1e-3, rtol=0)
    assert float(found.unconverged) >= 3 / 53


def test_no_samples_and_bad_counts() -> None:
    assert solve_conjugate_lbfgs(soft_max(2), torch.empty(0, 2, dtype=F64)).y.shape == (0, 2)
    with pytest.raises(ValueError, match="max_iter"):
        solve_conjugate_lbfgs(soft_max(2), torch.zeros(1, 2, dtype=F64), max_iter=0)
