r"""Dual potentials of a discrete transport problem: the linear program that WGAN-QC solves for every batch.

For a cost matrix c of n rows and m columns,

$$\max_{r, f} \; \frac1n \sum_i r_i - \frac1m \sum_j f_j \quad \text{subject to} \quad r_i - f_j \le c_{ij}
  \;\; \text{for all } i, j .$$

It is the dual of optimal transport between two uniform samples, and the multipliers of its constraints are the optimal
plan. So the network simplex, made for transport problems, solves it exactly: `solve_dual_simplex`, by POT.
`solve_dual_general` gives the same program to a general solver, as the WGAN-QC code does; scipy's HiGHS stands in for
GLPK there.

The program has many solutions. Both potentials may be moved by one constant: the solution with sum(r) + sum(f) = 0 is
returned. The rest is fixed only if the plan has n + m - 1 entries, which is so for almost every cost if n and m have no
common factor. Where n = m the plan is a permutation with n entries, and the potentials fill a polytope: a solver
returns a corner of it, each solver its own, and those of the network simplex favour one side. Returned is the centre:
let $D_{jk}$ be the largest value that $f_j - f_k$ takes on the polytope; then

$$f_j = \frac1{2m} \sum_k (D_{jk} - D_{kj}) + \text{const},$$

a mean of solutions, so a solution, the same for every exact solver, and with n = m the same from both sides of the
problem. D holds the shortest paths between columns, with the length $\min_i (c_{ik} - c_{ij})$, i in the plan's
support of column j, from j to k.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import ot
import scipy.optimize
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[np.float64]


class DualSolution(NamedTuple):
    """An optimal pair of potentials and who meets whom in the optimal plan; dtype and device of the cost.

    Attributes:
        rows: r, shape (n,).
        columns: f, shape (m,).
        row_of_column: for each column the row that gives it most, shape (m,), int64.
        column_of_row: for each row the column that takes most of it, shape (n,), int64.
    """

    rows: Tensor
    columns: Tensor
    row_of_column: Tensor
    column_of_row: Tensor


def solve_dual_simplex(cost: Tensor) -> DualSolution:
    """Solve the program by POT's network simplex, on the host in float64: one transfer each way.

    Args:
        cost: c, finite, shape (n, m), any floating type and device.
    """
    return _solve(_simplex, cost)


def solve_dual_general(cost: Tensor) -> DualSolution:
    """Solve the program by HiGHS, with sparse constraints, on the host in float64: one transfer each way.

    Args:
        cost: c, finite, shape (n, m), any floating type and device.

    Raises:
        RuntimeError: HiGHS gave up.
    """
    return _solve(_highs, cost)


def _solve(method: Callable[[Matrix], tuple[Matrix, Matrix]], cost: Tensor) -> DualSolution:
    n, m = cost.shape
    host = cost.detach().cpu().double().numpy()
    f, plan = method(host)
    f = _centre(host, f, plan)
    r = (host + f).min(1)
    shift = (r.sum() + f.sum()) / (n + m)
    found = np.concatenate((r - shift, f - shift, plan.argmax(0), plan.argmax(1)))
    rows, columns, row_of_column, column_of_row = torch.from_numpy(found).to(cost.device).split_with_sizes((n, m, m, n))
    return DualSolution(rows.to(cost.dtype), columns.to(cost.dtype), row_of_column.long(), column_of_row.long())


def _centre(cost: Matrix, f: Matrix, plan: Matrix) -> Matrix:
    """Return the centre of all optimal f, shape (m,), given one of them and an optimal plan, shape (n, m)."""
    n, m = cost.shape
    rows, columns = np.nonzero(plan > 0.5 / (n * m))  # entries of a corner are multiples of 1 / (n m)
    slack = cost + f
    slack -= slack.min(1, keepdims=True)  # of the constraints; not negative, so that no path is endless
    length = np.full((m, m), np.inf)
    np.minimum.at(length, columns, slack[rows])
    np.fill_diagonal(length, 0.0)
    through = np.empty_like(length)
    for k in range(m):  # Floyd-Warshall
        np.add(length[:, k, None], length[k], out=through)
        np.minimum(length, through, out=length)
    centre: Matrix = f + (length.mean(1) - length.mean(0)) / 2
    return centre


def _simplex(cost: Matrix) -> tuple[Matrix, Matrix]:
    """Return a corner f, shape (m,), and a plan; POT's second potential has the other sign."""
    n, m = cost.shape
    plan, log = ot.emd(ot.unif(n), ot.unif(m), cost, numItermax=10_000_000, log=True, center_dual=False)
    return -log["v"], plan


def _highs(cost: Matrix) -> tuple[Matrix, Matrix]:
    """Return a corner f, shape (m,), and a plan."""
    n, m = cost.shape
    each_row = scipy.sparse.kron(scipy.sparse.eye_array(n), np.ones((m, 1)))
    each_column = scipy.sparse.kron(np.ones((n, 1)), scipy.sparse.eye_array(m))
    found = scipy.optimize.linprog(  # type: ignore[call-overload]  # the stubs know no sparse matrices
        np.concatenate((np.full(n, -1 / n), np.full(m, 1 / m))),
        A_ub=scipy.sparse.hstack((each_row, -each_column), format="csr"),
        b_ub=cost.ravel(),
        bounds=(None, None),
        method="highs",
    )
    if found.status != 0:
        raise RuntimeError(f"HiGHS found no potentials for a cost matrix of shape {cost.shape}: {found.message}")
    return found.x[n:], -found.ineqlin.marginals.reshape(n, m)
