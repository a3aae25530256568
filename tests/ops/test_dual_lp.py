"""Dual potentials: the network simplex against HiGHS, optimality, the shift, the matching.

With n = m and uniform weights the program has many solutions, so two exact solvers need not agree; with coprime sizes
the solution is unique up to a constant. Ours takes the centre of all solutions, so that both cases can be compared.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from otbench.ops.dual_lp import DualSolution, solve_dual_general, solve_dual_simplex

F64 = torch.float64


def points(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


def cost_between(n: int, m: int, d: int, seed: int = 1) -> Tensor:
    return (1.3 * points(n, d, seed)[:, None] - points(m, d, seed + 1)).square().sum(2) / 2


def value(found: DualSolution) -> float:
    return float(found.rows.mean() - found.columns.mean())


def check_optimal(cost: Tensor, found: DualSolution, best: float) -> None:
    """Feasible, of the best value, and shifted as promised."""
    slack = cost - (found.rows[:, None] - found.columns)
    assert float(slack.min()) >= -1e-12 * float(cost.max())
    assert value(found) == pytest.approx(best, rel=1e-9)
    assert abs(float(found.rows.sum() + found.columns.sum())) < 1e-9


def plain_highs(cost: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """r and f as HiGHS leaves them, and the plan, constraint by constraint; dense, for small programs."""
    n, m = cost.shape
    matrix = np.zeros((n * m, n + m))
    for i in range(n):
        for j in range(m):
            matrix[i * m + j, [i, n + j]] = 1, -1
    goal = np.array([-1 / n] * n + [1 / m] * m)
    found = scipy.optimize.linprog(goal, matrix, cost.flatten().numpy(), bounds=(None, None), method="highs")
    r, f = torch.from_numpy(found.x).split_with_sizes([n, m])
    return r, f, torch.from_numpy(-found.ineqlin.marginals).view(n, m)


@pytest.mark.parametrize("d", [2, 32])
@pytest.mark.parametrize(("n", "m"), [(64, 63), (31, 64)])
def test_potentials_are_those_of_highs_where_they_are_unique(n: int, m: int, d: int) -> None:
    cost = cost_between(n, m, d)
    found = solve_dual_simplex(cost)
    r, f, plan = plain_highs(cost)
    assert int((plan > 1e-9).sum()) == n + m - 1  # what makes them unique
    shift = (r.sum() + f.sum()) / (n + m)
    torch.testing.assert_close(found.rows, r - shift, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.columns, f - shift, atol=1e-6, rtol=0)
    assert torch.equal(found.row_of_column, plan.argmax(0))
    assert torch.equal(found.column_of_row, plan.argmax(1))


@pytest.mark.parametrize("d", [2, 32])
def test_square_programs_have_the_optimum_of_highs_and_complementary_slackness(d: int) -> None:
    cost = cost_between(64, 64, d)
    found = solve_dual_simplex(cost)
    r, f, plan = plain_highs(cost)
    check_optimal(cost, found, float(r.mean() - f.mean()))
    each = torch.arange(64)
    assert torch.equal(found.row_of_column[found.column_of_row], each)  # a permutation, in both directions
    assert torch.equal(found.row_of_column, plan.argmax(0))
    slack = cost - (found.rows[:, None] - found.columns)
    assert float(slack[found.row_of_column, each].abs().max()) < 1e-6
    assert float((slack * plan).abs().max()) < 1e-6
    # a corner is another solution: HiGHS' own potentials differ from the centre
    assert float((f - f.mean() - (found.columns - found.columns.mean())).abs().max()) > 1e-3


@pytest.mark.parametrize(("n", "m", "d"), [(64, 64, 2), (64, 64, 32), (20, 30, 3)])
def test_both_solvers_return_the_same_centre(n: int, m: int, d: int) -> None:
    cost = cost_between(n, m, d)
    ours, general = solve_dual_simplex(cost), solve_dual_general(cost)
    torch.testing.assert_close(ours.rows, general.rows, atol=1e-6, rtol=0)
    torch.testing.assert_close(ours.columns, general.columns, atol=1e-6, rtol=0)
    if n == m:  # elsewhere a column may get equal shares from two rows
        assert torch.equal(ours.row_of_column, general.row_of_column)


def test_the_centre_is_the_middle_of_what_each_difference_can_be() -> None:
    """Each range by a linear program of its own: f_j - f_k at its largest among all optimal potentials."""
    n = 6
    cost = cost_between(n, n, 2)
    found = solve_dual_simplex(cost)
    matrix = np.zeros((n * n, 2 * n))
    for i in range(n):
        for j in range(n):
            matrix[i * n + j, [i, n + j]] = 1, -1
    goal = np.array([[1 / n] * n + [-1 / n] * n])
    largest = torch.zeros(n, n, dtype=F64)
    for j in range(n):
        for k in range(n):
            direction = np.zeros(2 * n)
            direction[n + j] -= 1
            direction[n + k] += 1
            best = scipy.optimize.linprog(
                direction, matrix, cost.flatten().numpy(), goal, [value(found)], bounds=(None, None)
            )
            largest[j, k] = -best.fun
    centre = (largest.mean(1) - largest.mean(0)) / 2
    torch.testing.assert_close(found.columns - found.columns.mean(), centre, atol=1e-6, rtol=0)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 12), m=st.integers(1, 12), seed=st.integers(0, 10_000), repeated=st.booleans())
def test_any_cost_is_solved_and_a_transposed_one_alike(n: int, m: int, seed: int, repeated: bool) -> None:
    cost = cost_between(n, m, 2, seed)
    if repeated:  # equal points: ties in the plan
        cost = torch.cat((cost, cost)).round(decimals=1)
    found, turned = solve_dual_simplex(cost), solve_dual_simplex(cost.t())
    check_optimal(cost, found, value(turned))
    if len(cost) == m or (not repeated and math.gcd(n, m) == 1):
        torch.testing.assert_close(turned.rows, -found.columns, atol=1e-8, rtol=0)
        torch.testing.assert_close(turned.columns, -found.rows, atol=1e-8, rtol=0)


def test_on_a_line_the_matching_is_the_order() -> None:
    y, x = points(50, 1, 3).squeeze(1), points(50, 1, 4).squeeze(1)
    found = solve_dual_simplex((y[:, None] - x).square() / 2)
    assert torch.equal(y[found.row_of_column].argsort(), x.argsort())


def test_the_result_has_the_dtype_of_the_cost() -> None:
    found = solve_dual_simplex(cost_between(5, 7, 2).float().requires_grad_())
    assert {t.dtype for t in found} == {torch.float32, torch.int64}
    assert [t.shape for t in found] == [(5,), (7,), (7,), (5,)]
    assert not found.rows.requires_grad
