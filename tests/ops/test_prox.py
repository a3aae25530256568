from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from otbench.nets.dense_icnn import DenseICNN
from otbench.ops.prox import solve_prox, solve_prox_paper


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def symmetric(spectrum: Tensor, *, seed: int = 0) -> Tensor:
    """A symmetric matrix with this spectrum."""
    q, _ = torch.linalg.qr(torch.randn(len(spectrum), len(spectrum), generator=seeded(seed), dtype=spectrum.dtype))
    return q @ torch.diag(spectrum) @ q.t()


class Counted:
    """A gradient that counts the points it was asked for."""

    def __init__(self, gradient: Callable[[Tensor], Tensor]) -> None:
        self.gradient, self.points, self.calls = gradient, 0, 0

    def __call__(self, y: Tensor) -> Tensor:
        self.points += len(y)
        self.calls += 1
        return self.gradient(y)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), dim=st.integers(1, 12), low=st.floats(0.3, 1.0), high=st.floats(1.0, 3.0))
def test_exact_gaussian_potential_gives_the_inverse_map(seed: int, dim: int, low: float, high: float) -> None:
    gamma = symmetric(torch.linspace(low, high, dim, dtype=torch.float64), seed=seed)
    z = torch.randn(50, dim, generator=seeded(seed + 1), dtype=torch.float64)
    found = solve_prox(lambda y: y @ gamma - y, z, tol=1e-8, max_iter=200)
    assert found.unconverged.item() == 0
    assert (found.residual <= 1e-8).all()
    torch.testing.assert_close(found.y, torch.linalg.solve(gamma, z.t()).t(), atol=1e-7, rtol=0)


def test_published_spectra_need_few_iterations() -> None:
    # the fixed step 2 / (m + M) needs 6, 8 and 11 (solver sheet 4.5)
    for dim, low, high, most in ((2, 0.849, 1.331, 5), (8, 0.627, 1.354, 8), (32, 0.575, 1.533, 10)):
        gamma = symmetric(torch.linspace(low, high, dim, dtype=torch.float64))
        z = torch.randn(500, dim, generator=seeded(0), dtype=torch.float64)
        assert solve_prox(lambda y, gamma=gamma: y @ gamma - y, z, tol=1e-3).iterations <= most


def test_residual_is_that_of_the_returned_point() -> None:
    net = DenseICNN(4, init_std=0.2, generator=seeded(0))
    z = torch.randn(300, 4, generator=seeded(1)) * 3
    for max_iter in (1, 2, 4, 50):
        found = solve_prox(net.gradient, z, tol=1e-3, max_iter=max_iter)
        with torch.no_grad():
            residual = (found.y - z + net.gradient(found.y)).norm(dim=1)
        torch.testing.assert_close(found.residual, residual, atol=2e-5, rtol=1e-4)
        assert found.unconverged.item() == pytest.approx((residual > 1e-3).float().mean().item(), abs=0.02)


HOSTILE: dict[str, Callable[[Tensor], Tensor]] = {
    "nan": lambda y: y * math.nan,
    "infinite": lambda y: y * math.inf,
    "nan far out": lambda y: torch.where(y.abs() > 1, math.nan, 3 * y),
    "explosive": lambda y: y**5 * 1e6,
    "concave": lambda y: -5 * y,
    "jumping": lambda y: 100 * torch.sign(y),
    "rough": lambda y: 50 * torch.sin(40 * y),
    "huge": lambda y: 1e30 * y,
    "stiff": lambda y: 1e4 * y,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_gradients_give_finite_output_in_bounded_time(name: str) -> None:
    z = torch.randn(64, 3, generator=seeded(0)) * 2
    gradient = Counted(HOSTILE[name])
    found = solve_prox(gradient, z, max_iter=30)
    assert found.y.isfinite().all()
    assert found.iterations <= 30
    assert gradient.calls == found.iterations
    assert found.evaluations == pytest.approx(gradient.points / 64)
    started = (HOSTILE[name](z)).norm(dim=1)
    assert ((found.residual <= started) | ~started.isfinite()).all()
    assert found.unconverged.item() == pytest.approx((~(found.residual <= 1e-3)).float().mean().item())


def test_stiff_and_rough_but_solvable_equations_are_solved() -> None:
    z = torch.randn(64, 3, generator=seeded(0), dtype=torch.float64)
    for gradient in (lambda y: 30 * y, lambda y: y**3, lambda y: 0.99 * torch.sin(y), lambda y: -0.9 * torch.tanh(y)):
        found = solve_prox(gradient, z, tol=1e-6, max_iter=200)
        assert found.unconverged.item() == 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), dim=st.integers(1, 6), std=st.floats(0.01, 0.5), size=st.floats(0.0, 100.0))
def test_result_is_never_worse_than_the_start(seed: int, dim: int, std: float, size: float) -> None:
    net = DenseICNN(dim, init_std=std, generator=seeded(seed))
    z = torch.randn(20, dim, generator=seeded(seed)) * size
    start = torch.randn(20, dim, generator=seeded(seed + 1)) * size
    found = solve_prox(net.gradient, z, start=start)
    with torch.no_grad():
        before = (start - z + net.gradient(start)).norm(dim=1)
    assert (found.residual <= before * (1 + 1e-4) + 1e-6).all()
    assert found.y.isfinite().all()


def test_finished_samples_leave_the_batch_and_keep_their_places() -> None:
    # the last tenth has a steep gradient, the rest none at all
    steep = torch.zeros(1000, 1, dtype=torch.float64)
    steep[900:] = torch.linspace(1, 3, 100, dtype=torch.float64).unsqueeze(1)
    z = torch.cat((torch.randn(1000, 4, generator=seeded(0), dtype=torch.float64), steep), 1)
    gradient = Counted(lambda y: torch.cat((y[:, :4] ** 3 * y[:, 4:], torch.zeros_like(y[:, 4:])), 1))
    found = solve_prox(gradient, z, max_iter=100)
    assert found.unconverged.item() == 0
    assert found.iterations > 5
    assert found.evaluations < 1 + 0.15 * found.iterations
    assert torch.equal(found.y[:900], z[:900])
    alone = solve_prox(gradient, z[950:], max_iter=100)
    torch.testing.assert_close(found.y[950:], alone.y, atol=1e-3, rtol=0)


def test_samples_do_not_influence_each_other() -> None:
    net = DenseICNN(3, init_std=0.3, generator=seeded(0), dtype=torch.float64)
    z = torch.randn(10, 3, generator=seeded(1), dtype=torch.float64)
    together = solve_prox(net.gradient, z, tol=1e-9, max_iter=100).y
    single = torch.cat([solve_prox(net.gradient, row, tol=1e-9, max_iter=100).y for row in z.split(1)])
    torch.testing.assert_close(together, single, atol=1e-7, rtol=0)


def test_warm_start_saves_gradients_and_a_solved_start_costs_one() -> None:
    net = DenseICNN(8, generator=seeded(0))
    z = torch.randn(200, 8, generator=seeded(1))
    cold = solve_prox(net.gradient, z, tol=1e-4)
    again = solve_prox(net.gradient, z, start=cold.y, tol=1e-4)
    assert again.iterations == 1
    assert torch.equal(again.y, cold.y)
    near = solve_prox(net.gradient, z, start=cold.y + 1e-3, tol=1e-4)
    assert near.evaluations < cold.evaluations


def test_edges() -> None:
    empty = solve_prox(lambda y: y, torch.empty(0, 3))
    assert empty.y.shape == (0, 3)
    assert empty.unconverged.item() == 0
    one = solve_prox(lambda y: y, torch.ones(2, 3), max_iter=1)
    assert one.iterations == 1
    assert one.unconverged.item() == 1
    with pytest.raises(ValueError, match="max_iter"):
        solve_prox(lambda y: y, torch.ones(2, 3), max_iter=0)


def test_inputs_are_left_alone_and_no_graph_is_kept() -> None:
    net = DenseICNN(2, generator=seeded(0))
    z, start = torch.randn(10, 2, generator=seeded(1)).requires_grad_(), torch.zeros(10, 2)
    copies = z.detach().clone(), start.clone()
    found = solve_prox(net.gradient, z, start=start)
    assert torch.equal(z.detach(), copies[0])
    assert torch.equal(start, copies[1])
    assert not found.y.requires_grad
    assert found.y.data_ptr() != start.data_ptr()


def test_paper_solver_agrees_where_it_converges() -> None:
    gamma = symmetric(torch.linspace(0.6, 1.5, 8, dtype=torch.float64))
    z = torch.randn(100, 8, generator=seeded(0), dtype=torch.float64)
    found = solve_prox_paper(lambda y: y @ gamma - y, z, generator=seeded(1))
    assert found.unconverged.item() == 0
    assert found.iterations > 10
    torch.testing.assert_close(found.y, torch.linalg.solve(gamma, z.t()).t(), atol=2e-3, rtol=0)


def test_paper_solver_stops_when_it_diverges() -> None:
    # L = 0.02 < 0.0526: the step is 5, the iteration multiplies the error by 4 each time
    z = torch.randn(100, 2, generator=seeded(0))
    found = solve_prox_paper(lambda y: 0.02 * y, z, generator=seeded(1), max_iter=1000)
    assert found.iterations < 100
    assert not found.residual.isfinite().all()
    assert found.unconverged.item() > 0
