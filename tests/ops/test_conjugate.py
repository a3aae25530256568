"""The conjugate's maximiser: both solvers against closed forms, and against each other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from otbench.nets.dense_icnn import DenseICNN
from otbench.nets.pretrain import pretrain_identity
from otbench.ops.conjugate import solve_conjugate, solve_conjugate_paper

F64 = torch.float64


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def positive(dim: int, low: float, high: float, seed: int) -> Tensor:
    q, _ = torch.linalg.qr(torch.randn(dim, dim, generator=seeded(seed), dtype=F64))
    return q @ torch.diag(torch.linspace(low, high, dim, dtype=F64)) @ q.t()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), dim=st.integers(1, 12), low=st.floats(0.3, 1.0), high=st.floats(1.0, 3.0))
def test_a_quadratics_maximiser_is_its_inverse(seed: int, dim: int, low: float, high: float) -> None:
    matrix = positive(dim, low, high, seed)
    y = torch.randn(50, dim, generator=seeded(seed + 1), dtype=F64)
    found = solve_conjugate(lambda w: w @ matrix, y, tol=1e-8, max_iter=200)
    assert found.unconverged.item() == 0
    torch.testing.assert_close(found.y, torch.linalg.solve(matrix, y.t()).t(), atol=1e-7, rtol=0)


def test_both_solvers_reach_the_same_point() -> None:
    generator = seeded(1)
    psi = DenseICNN(4, activation="celu", generator=generator, dtype=F64)
    psi.clamp_convex_()
    pretrain_identity(psi, generator=generator, convex=True)
    y = torch.randn(128, 4, generator=generator, dtype=F64)
    ours = solve_conjugate(psi.gradient, y, tol=1e-7, max_iter=200)
    theirs = solve_conjugate_paper(psi.gradient, y, generator=generator, tol=1e-7, max_iter=5000)
    assert ours.unconverged.item() == 0
    assert ours.iterations < theirs.iterations / 8
    torch.testing.assert_close(ours.y, theirs.y, atol=1e-5, rtol=0)
    # convex, so the maximum is global: no other point has a larger <w, y> - psi(w)
    others = ours.y + 0.1 * torch.randn(128, 4, generator=generator, dtype=F64)
    assert ((others * y).sum(1) - psi(others) <= (ours.y * y).sum(1) - psi(ours.y)).all()


def test_the_papers_solver_is_adam() -> None:
    matrix, y = positive(3, 0.5, 2.0, 5), torch.randn(20, 3, generator=seeded(6), dtype=F64)
    found = solve_conjugate_paper(lambda w: w @ matrix, y, generator=seeded(7), tol=1e-12, max_iter=25)
    w = torch.rand(20, 3, generator=seeded(7), dtype=F64).requires_grad_()
    adam = torch.optim.Adam([w], lr=0.1)
    for _ in range(25):
        adam.zero_grad()
        ((w @ matrix * w).sum() / 2 - (w * y).sum()).backward()
        adam.step()
    torch.testing.assert_close(found.y, w.detach(), atol=1e-12, rtol=0)
    assert found.iterations == 25


def test_bad_count_is_refused() -> None:
    with pytest.raises(ValueError, match="max_iter"):
        solve_conjugate(lambda w: w, torch.zeros(2, 2), max_iter=0)
