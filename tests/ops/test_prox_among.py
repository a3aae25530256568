"""The minimiser from the best of some points on: closed forms, many wells, no minimum at all, and warm starts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from otbench.nets.dense_icnn import DenseICNN
from otbench.ops.prox import solve_prox
from otbench.ops.prox_among import solve_prox_among


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def symmetric(spectrum: Tensor, *, seed: int = 0) -> Tensor:
    """A symmetric matrix with this spectrum."""
    q, _ = torch.linalg.qr(torch.randn(len(spectrum), len(spectrum), generator=seeded(seed), dtype=spectrum.dtype))
    return q @ torch.diag(spectrum) @ q.t()


def wells(y: Tensor) -> Tensor:
    """Two wells on each axis, at -1 and 1, the left one lower; its Hessian is below -1 between them."""
    return (2 * (y.square() - 1).square() + 0.3 * y).sum(1)


def wells_gradient(y: Tensor) -> Tensor:
    return 8 * y * (y.square() - 1) + 0.3


def test_finds_the_lowest_minimum_where_there_are_several() -> None:
    z = 0.8 * torch.randn(200, 1, generator=seeded(0), dtype=torch.float64)
    grid = torch.linspace(-3, 3, 6001, dtype=torch.float64)[:, None]
    exact = (wells(grid) + (z - grid.T).square() / 2).min(1).values
    points = torch.randn(1000, 1, generator=seeded(1), dtype=torch.float64)
    found = solve_prox_among(lambda y: (wells(y), wells_gradient(y)), z, points, tol=1e-8, max_iter=200)
    reached = wells(found.y) + (z - found.y).square().sum(1) / 2
    torch.testing.assert_close(reached, exact, atol=2e-3, rtol=0)  # the points choose the well, to their spacing
    alone = solve_prox(wells_gradient, z, tol=1e-8, max_iter=200).y
    assert bool((wells(alone) + (z - alone).square().sum(1) / 2 > exact + 0.1).any())


def test_equals_the_prox_of_a_convex_function() -> None:
    matrix = symmetric(torch.linspace(0.0, 3.0, 5, dtype=torch.float64))
    z, points = (torch.randn(n, 5, generator=seeded(n), dtype=torch.float64) for n in (40, 100))
    found = solve_prox_among(lambda y: ((y @ matrix * y).sum(1) / 2, y @ matrix), z, points, tol=1e-9, max_iter=200)
    exact = torch.linalg.solve(matrix + torch.eye(5, dtype=torch.float64), z.T).T
    torch.testing.assert_close(found.y, exact, atol=1e-8, rtol=0)
    assert float(found.unconverged) == 0


@pytest.mark.parametrize("curvature", [-1.5, -20.0])
def test_never_ends_above_the_best_nor_far_away(curvature: float) -> None:
    z, points = torch.randn(64, 3, generator=seeded(0)), torch.randn(128, 3, generator=seeded(1))
    found = solve_prox_among(lambda y: (curvature * y.square().sum(1) / 2, curvature * y), z, points)

    def objective(y: Tensor) -> Tensor:
        return curvature * y.square().sum(-1) / 2 + (z - y).square().sum(-1) / 2

    best = objective(points[:, None]).min(0).values
    assert bool((objective(found.y) <= best + 1e-2).all())
    centre = points.mean(0)
    assert float((found.y - centre).norm(dim=1).max()) <= 1.5 * float((points - centre).norm(dim=1).max())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), dim=st.integers(1, 12), low=st.floats(0.02, 1.0), high=st.floats(1.0, 50.0))
def test_exact_gaussian_potential_gives_the_inverse_map(seed: int, dim: int, low: float, high: float) -> None:
    gamma = symmetric(torch.linspace(low, high, dim, dtype=torch.float64), seed=seed)
    z, points = (torch.randn(n, dim, generator=seeded(seed + n), dtype=torch.float64) for n in (30, 60))
    exact = torch.linalg.solve(gamma, z.T).T
    # the points reach as far as the solutions, as those of the measure do; else these count as run away
    points = torch.cat((points, 2 * exact))

    def shifted(y: Tensor) -> tuple[Tensor, Tensor]:
        gradient = y @ gamma - y
        return (y * gradient).sum(1) / 2, gradient

    found = solve_prox_among(shifted, z, points, tol=1e-8, max_iter=500)
    assert found.unconverged.item() == 0
    torch.testing.assert_close(found.y @ gamma, z, atol=1e-7, rtol=0)


def network() -> tuple[DenseICNN, Tensor, Tensor]:
    """A convex potential, right-hand sides, and points of the other side."""
    net = DenseICNN(6, init_std=0.25, generator=seeded(0))
    net.clamp_convex_()
    y, points = torch.randn(200, 6, generator=seeded(1)), torch.randn(300, 6, generator=seeded(2))
    return net, (y + net.gradient(y)).detach(), points


def test_it_agrees_with_anderson_acceleration_where_both_apply() -> None:
    net, z, points = network()
    found = solve_prox_among(net.value_and_gradient, z, points, tol=1e-5, max_iter=200)
    other = solve_prox(net.gradient, z, tol=2e-5, max_iter=200)  # float32 rounds to half of that on some processors
    assert float(found.unconverged) == float(other.unconverged) == 0
    torch.testing.assert_close(found.y, other.y, atol=1e-4, rtol=0)


def test_a_start_near_the_solution_saves_evaluations_and_leads_to_it() -> None:
    net, z, points = network()
    cold = solve_prox_among(net.value_and_gradient, z, points, tol=1e-4)
    near = solve_prox_among(net.value_and_gradient, z, points, start=cold.y + 1e-3, tol=1e-4)
    assert near.evaluations < cold.evaluations
    torch.testing.assert_close(near.y, cold.y, atol=1e-3, rtol=0)
    again = solve_prox_among(net.value_and_gradient, z, points, start=cold.y, tol=1e-4)
    assert again.evaluations == 1
    assert torch.equal(again.y, cold.y)


def test_the_best_point_takes_the_place_of_a_start_that_is_higher_and_of_no_other() -> None:
    z = torch.full((2, 1), 0.1, dtype=torch.float64)
    start = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)  # the higher well, and the lower one
    points = torch.tensor([[-0.9], [0.0], [2.0]], dtype=torch.float64)
    found = {
        best: solve_prox_among(
            lambda y: (wells(y), wells_gradient(y)), z, points, start=start, best=best, tol=1e-9, max_iter=200
        )
        for best in (False, True)
    }
    assert float(found[False].y[0]) > 0.5
    assert bool((found[True].y < -0.5).all())
    torch.testing.assert_close(found[True].y[0], found[True].y[1], atol=1e-6, rtol=0)
    settled = solve_prox_among(
        lambda y: (wells(y), wells_gradient(y)), z, points, start=found[True].y, best=True, tol=1e-6
    )
    assert torch.equal(settled.y, found[True].y)


def test_edges() -> None:
    net, _, points = network()
    empty = solve_prox_among(net.value_and_gradient, torch.empty(0, 6), points)
    assert empty.y.shape == (0, 6)
    assert float(empty.unconverged) == 0
    with pytest.raises(ValueError, match="max_iter"):
        solve_prox_among(net.value_and_gradient, points, points, max_iter=0)
