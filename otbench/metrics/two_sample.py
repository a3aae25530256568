r"""Do two samples come from one distribution? Distances between clouds of points, each with what is needed to read it.

* `mmd_unbiased`: squared maximum mean discrepancy (Gretton et al., "A kernel two-sample test", JMLR 2012, eq. 3), with
  an interval; kernel and bandwidths are a function of the reference data alone, so that all solvers share them.
* `mmd_v`: the V-statistic that OT-Flow's tables hold (Onken et al., AAAI 2021), with its floor `v_floor`.
* `energy_distance` (`otbench.ops.energy`) and the sliced Wasserstein-2 distance.
* `permutation_test`: the probability of so large an energy distance if there were no difference.

`HeldOut.compare` makes all of them at once. Sums run in float64, distances in the dtype of the data; nothing of the
size of the distance matrix is stored, but for the permutation test, which takes 3000 points a side at most.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from otbench.ops.energy import energy_distance
from otbench.ops.pairwise import squared_distance_blocks
from otbench.ops.points import fixed_rows
from otbench.ops.sliced import projected_w2_squared, unit_directions

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Bandwidths as multiples of the median squared distance. Each is half the next: one exponential serves them all."""
MEDIAN_POINTS = 2048
"""Points of the reference data from which the median is taken."""
FINAL_POINTS = 2**15
"""Most points of a side when training is over; more are replaced by a fixed random part of them: half a minute on one
core in 64 dimensions, where 100 000 points a side take five."""
CURVE_POINTS = 4096
"""The same at points of the training curve."""
TEST_POINTS = 3000
"""Most points of a side in the permutation test."""
PERMUTATIONS = 500
PROJECTIONS = 128
"""Directions of the sliced distance."""
CONFIDENCE_NORMAL = 1.96
"""Half-width of a 95 % interval in standard errors."""

_PROJECTION_SEED = 20_201
_SLICE_NUMBERS = 2**22
_PERMUTATION_BATCH = 128
_SMALLEST_EXPONENT = -87.0


class Interval(NamedTuple):
    """An estimate and its 95 % interval: tensors of shape (), float64, with low <= value <= high."""

    value: Tensor
    low: Tensor
    high: Tensor


def median_bandwidths(y: Tensor) -> tuple[float, ...]:
    """Return `FACTORS` times the median of |y_i - y_j|^2 over pairs of different points, in squared data units.

    Of more than `MEDIAN_POINTS` points, a fixed random part is looked at. Where more than half of all pairs coincide,
    the mean takes the place of the median, and 1 that of the mean if all points coincide. Reads one number from the
    device.

    Args:
        y: reference data, shape (m, d) with m >= 2, float32 or float64, finite.
    """
    square = torch.nn.functional.pdist(_part(y, MEDIAN_POINTS)).double().square()
    median, mean = torch.stack((square.median(), square.mean())).tolist()
    scale = median or mean or 1.0
    return tuple(factor * scale for factor in FACTORS)


def mmd_unbiased(x: Tensor, y: Tensor, *, bandwidths: Sequence[float], chunk: int | None = None) -> Interval:
    r"""Return the unbiased squared MMD of two samples, and a 95 % interval for its expectation.

    The kernel is the mean of $\exp(-|x - y|^2 / b)$ over the bandwidths b. The estimate is the U-statistic: means over
    pairs of different points within the samples, over all pairs across. It can be negative.

    The interval is the estimate plus and minus 1.96 standard errors. A U-statistic's variance has a linear part, from
    how the row means of the kernel matrices vary (the jackknife), which vanishes when both distributions are equal, and
    a degenerate part, from the doubly centred kernel, which is all that is left then. The jackknife alone sees twice
    the degenerate part on average, but may by chance see next to nothing; so the second part is estimated by itself and
    added. The result is right for different distributions, and for equal ones too wide by a factor of about sqrt(3):
    narrower than an interval from k disjoint blocks, which is too wide by sqrt(k) and a quantile of Student's t.

    Args:
        x: first sample, shape (n, d) with n >= 2, float32 or float64.
        y: second sample, shape (m, d) with m >= 2, dtype and device of `x`.
        bandwidths: b, squared data units, each > 0.
        chunk: rows of a block of distances; None = sized for the cache.

    Returns:
        Estimate and interval, pure numbers.

    Raises:
        ValueError: the samples cannot be compared, or a bandwidth is not positive.
    """
    _check_samples(x, y, least=2)
    return _mmd(*_kernel_sums(x, y, bandwidths, chunk=chunk))


def mmd_v(x: Tensor, y: Tensor, *, chunk: int | None = None) -> Tensor:
    """Return the V-statistic of the squared MMD with kernel exp(-|x - y|^2), shape (), float64, a pure number.

    All pairs count, those of a point with itself too, which alone add `v_floor`. In many dimensions, where other pairs
    add nothing, the value is that floor whatever the samples are.

    Args:
        x: first sample, shape (n, d), float32 or float64.
        y: second sample, shape (m, d), dtype and device of `x`.
        chunk: rows of a block of distances; None = sized for the cache.

    Raises:
        ValueError: the samples cannot be compared.
    """
    _check_samples(x, y, least=1)
    totals = []
    for pair in ((x, None), (y, None), (x, y)):
        total = torch.zeros((), dtype=torch.float64, device=x.device)
        for _, _, block in squared_distance_blocks(*pair, chunk=chunk):
            total += _total(_exponential(block, block), symmetric=pair[1] is None)
        totals.append(total)
    return _v_statistic(totals, len(x), len(y))


def v_floor(n: int, m: int) -> float:
    """Return 1/n + 1/m, what points of two samples contribute to `mmd_v` with themselves.

    Their n + m pairs have kernel 1 and weights 1/n^2 and 1/m^2. Points that are all far apart have this very value;
    samples of one distribution have 1 - E k(X, X') times it on average, although their true value is 0.
    """
    return 1 / n + 1 / m


def sliced_w2(x: Tensor, y: Tensor, *, projections: int = PROJECTIONS) -> Tensor:
    """Return the root of the mean of W2^2 of the samples' projections, shape (), float64, in data units.

    The directions are uniform on the sphere, from a fixed seed: the same for all samples of one dimension. Extra memory
    is O(n + m), and does not grow with the number of projections.

    Args:
        x: first sample, shape (n, d).
        y: second sample, shape (m, d), dtype and device of `x`.
        projections: number of directions.

    Raises:
        ValueError: the samples cannot be compared.
    """
    _check_samples(x, y, least=1)
    directions = unit_directions(projections, x.shape[1], torch.Generator().manual_seed(_PROJECTION_SEED)).to(x)
    centre = y.mean(0)
    x, y = x.detach() - centre, y.detach() - centre
    step = max(1, _SLICE_NUMBERS // (len(x) + len(y)))
    found = [projected_w2_squared(x, y, directions[k : k + step]) for k in range(0, projections, step)]
    return torch.cat(found).mean().sqrt()


def permutation_test(
    x: Tensor, y: Tensor, *, permutations: int = PERMUTATIONS, points: int = TEST_POINTS, seed: int
) -> tuple[float, int]:
    """Return the p-value of "both samples come from one distribution" and the number of points per side it is from.

    The statistic is the energy distance (V-statistic) of n points per side, n = min(points, len(x), len(y)); of larger
    samples, a fixed random part is taken. Under the null hypothesis the 2n pooled points are exchangeable, so
    p = (1 + number of random splits with a statistic at least as large) / (1 + permutations) is exact: P(p <= a) <= a.

    With weights w = 1/n on one side and -1/n on the other, and D the pooled distances, the statistic is -w^T D w: all
    splits of a batch are one matrix product. Memory: 16 n^2 bytes in float32.

    Args:
        x: first sample, shape (n, d).
        y: second sample, shape (m, d), dtype and device of `x`.
        permutations: random splits, >= 1.
        points: most points per side.
        seed: of the random splits.

    Returns:
        p, NaN where distances overflow, and n.

    Raises:
        ValueError: the samples cannot be compared.
    """
    _check_samples(x, y, least=1)
    n = min(points, len(x), len(y))
    pooled = torch.cat((_part(x, n), _part(y, n)))
    distance = pooled.new_empty(2 * n, 2 * n)
    for rows, columns, block in squared_distance_blocks(pooled):
        block.sqrt_()
        distance[rows, columns] = block
        distance[columns, rows] = block.T
    # Weights sum to zero, so a constant may be taken off: sums of smaller numbers lose fewer digits.
    distance -= distance.mean()

    generator = torch.Generator().manual_seed(seed)
    found = []
    for start in range(0, permutations + 1, _PERMUTATION_BATCH):
        size = min(_PERMUTATION_BATCH, permutations + 1 - start)
        order = torch.rand(size, 2 * n, generator=generator).argsort(1)
        if not start:
            order[0] = torch.arange(2 * n)  # the split as it is goes through the same rounding as the others
        weights = pooled.new_full((size, 2 * n), -1 / n)
        weights.scatter_(1, order[:, :n].to(pooled.device), 1 / n)
        found.append(-(torch.mm(weights, distance) * weights).sum(1, dtype=torch.float64))
    values = torch.cat(found)
    # Splits that only exchange equal points differ by rounding: they count as equal.
    slack = 64 * torch.finfo(pooled.dtype).eps * values.abs().max()
    at_least = (values[1:] >= values[0] - slack).sum()
    p = torch.where(values[0].isfinite(), (1 + at_least).double() / (1 + permutations), math.nan)
    return float(p), n


class HeldOut:
    """Held-out data that many pushforwards are compared with: what depends on the data alone is computed once.

    At points of the curve (`final=False`) at most `CURVE_POINTS` points of each side are used and the permutation test
    is left out; at the end, at most `FINAL_POINTS`. Which points is fixed, so that all solvers and all seeds face the
    same ones.
    """

    def __init__(self, y: Tensor, *, vstat: bool = True) -> None:
        """Hold `y`, shape (m, *shape) with m >= 2, any floating dtype; the kernel's bandwidths are theirs.

        Args:
            y: the data.
            vstat: whether OT-Flow's statistic is made too; its kernel has width 1 in the units of the data.
        """
        self._vstat = vstat
        self._y = y.detach().flatten(1).to(torch.float64 if y.dtype == torch.float64 else torch.float32)
        self._known: dict[bool, tuple[tuple[float, ...], _Sums | None]] = {}  # bandwidths, sums within y; by `final`

    def bandwidths(self, *, final: bool) -> tuple[float, ...]:
        """Return the bandwidths of the kernel, squared data units, of the points that are used at the end or before."""
        return median_bandwidths(_part(self._y, FINAL_POINTS if final else CURVE_POINTS))

    def compare(self, x: Tensor, *, seed: int, final: bool) -> dict[str, float]:
        """Return all numbers of this module for a pushforward and these data.

        Args:
            x: points that a map made, shape (n, *shape) with n >= 2, any device and floating dtype.
            seed: of the permutation test.
            final: whether training is over.

        Returns:
            `mmd`, `mmd_low`, `mmd_high`: unbiased squared MMD and its 95 % interval. `vstat`, `vstat_floor`: OT-Flow's
            statistic and its floor, unless they are left out. `energy`: unbiased energy distance, data units.
            `sliced_w2`: data units. If `final`, `p_value` and `p_points`. All but the floor and `p_points` are NaN
            where `x` is not finite.

        Raises:
            ValueError: the samples cannot be compared.
        """
        x = x.detach().flatten(1).to(self._y)
        _check_samples(x, self._y, least=2)
        most = FINAL_POINTS if final else CURVE_POINTS
        x, y = _part(x, most), _part(self._y, most)
        result = dict.fromkeys(("mmd", "mmd_low", "mmd_high", "energy", "sliced_w2"), math.nan)
        if self._vstat:
            result |= {"vstat": math.nan, "vstat_floor": v_floor(len(x), len(y))}
        if final:
            result |= {"p_value": math.nan, "p_points": float(min(TEST_POINTS, len(x), len(y)))}
        if not bool(x.isfinite().all() & y.isfinite().all()):
            return result
        bandwidths, within_y = self._known.get(final) or (self.bandwidths(final=final), None)
        sums = _kernel_sums(x, y, bandwidths, plain=self._vstat, within_y=within_y)
        self._known[final] = bandwidths, sums[1]
        value, low, high = _mmd(*sums)
        energy = energy_distance(x, y, unbiased=True).double()
        numbers = torch.stack((value, low, high, energy, sliced_w2(x, y))).tolist()
        result |= zip(("mmd", "mmd_low", "mmd_high", "energy", "sliced_w2"), numbers, strict=True)
        if self._vstat:
            result["vstat"] = float(_v_statistic([part.plain for part in sums], len(x), len(y)))
        if final:
            result["p_value"], _ = permutation_test(x, y, seed=seed)
        return result


class _Sums(NamedTuple):
    """Sums over a matrix of kernel values k, float64: of its rows (n,), its columns (m,), k^2 (), and exp(-|x-y|^2) ().

    Within one sample rows and columns are the same, and a point's kernel with itself is left out of all but the last.
    """

    rows: Tensor
    columns: Tensor
    square: Tensor
    plain: Tensor


def _kernel_sums(
    x: Tensor,
    y: Tensor,
    bandwidths: Sequence[float],
    *,
    plain: bool = False,
    chunk: int | None = None,
    within_y: _Sums | None = None,
) -> tuple[_Sums, _Sums, _Sums]:
    """Return sums within `x`, within `y` (made unless given), and across; those of exp(-|x-y|^2) only if `plain`."""
    if not bandwidths or not min(bandwidths) > 0:
        raise ValueError(f"bandwidths must be positive, got {tuple(bandwidths)}")
    ladder = sorted(bandwidths, reverse=True)
    if within_y is None:
        within_y = _sums_of_pairs(y, None, ladder, plain, chunk)
    return _sums_of_pairs(x, None, ladder, plain, chunk), within_y, _sums_of_pairs(x, y, ladder, plain, chunk)


def _sums_of_pairs(x: Tensor, y: Tensor | None, ladder: Sequence[float], plain: bool, chunk: int | None) -> _Sums:
    symmetric = y is None
    m = len(x) if y is None else len(y)
    rows, columns = (torch.zeros(size, dtype=torch.float64, device=x.device) for size in (len(x), m))
    square, plain_total = (torch.zeros((), dtype=torch.float64, device=x.device) for _ in range(2))
    ones, work = x.new_ones(max(len(x), m)), x.new_empty(0)
    for here, there, block in squared_distance_blocks(x, y, chunk=chunk):
        if not len(work):
            work = x.new_empty(block.numel())
        spare = work[: block.numel()].view_as(block)
        if plain:
            plain_total += _total(_exponential(block, spare), symmetric=symmetric)
        kernel = _mean_kernel(block, spare, ladder)
        r = len(kernel)
        if symmetric:
            kernel.diagonal().zero_()
        rows[here] += torch.mv(kernel, ones[: kernel.shape[1]])
        if symmetric:
            # What is right of the diagonal's square stands for its transpose too.
            beyond = kernel[:, r:]
            columns[there][r:] += torch.mv(beyond.T, ones[:r])
            square += 2 * torch.linalg.vector_norm(kernel).double().square()
            square -= torch.linalg.vector_norm(kernel[:, :r]).double().square()
        else:
            columns[there] += torch.mv(kernel.T, ones[:r])
            square += torch.linalg.vector_norm(kernel).double().square()
    if symmetric:
        rows = columns = rows + columns
    return _Sums(rows, columns, square, plain_total)


def _mean_kernel(block: Tensor, out: Tensor, ladder: Sequence[float]) -> Tensor:
    """Return the mean over b of exp(-block / b) in `out`, b falling; spoils `block`.

    exp(-D / b') = exp(-D / b)^(b / b'): a square, where a bandwidth is half the one before.
    """
    torch.exp(block.mul_(-1 / ladder[0]), out=block)
    out.copy_(block)
    for before, bandwidth in itertools.pairwise(ladder):
        ratio = before / bandwidth
        if ratio == 2:
            block.square_()
        else:
            block.pow_(ratio)
        out.add_(block)
    return out.div_(len(ladder))


def _exponential(block: Tensor, out: Tensor) -> Tensor:
    """Return exp(-block) in `out`, kept above the numbers with which processors are slow."""
    return torch.neg(block, out=out).clamp_(min=_SMALLEST_EXPONENT).exp_()


def _total(kernel: Tensor, *, symmetric: bool) -> Tensor:
    """Return the sum of a block, float64; of a symmetric matrix, with the transpose of what is beyond its square."""
    rows = kernel.sum(1).sum(dtype=torch.float64)
    return 2 * rows - kernel[:, : len(kernel)].sum(dtype=torch.float64) if symmetric else rows


def _v_statistic(totals: Sequence[Tensor], n: int, m: int) -> Tensor:
    within_x, within_y, across = totals
    return within_x / n**2 + within_y / m**2 - 2 * across / (n * m)


def _mmd(within_x: _Sums, within_y: _Sums, across: _Sums) -> Interval:
    n, m = len(within_x.rows), len(within_y.rows)
    mean_x, mean_y = within_x.rows / (n - 1), within_y.rows / (m - 1)
    mean_xy, mean_yx = across.rows / m, across.columns / n
    value = mean_x.mean() + mean_y.mean() - 2 * mean_xy.mean()
    linear = 4 * (mean_x - mean_xy).var() / n + 4 * (mean_y - mean_yx).var() / m
    # Mean squares of the kernels after their row and column means were taken off.
    second_x = within_x.square / (n * (n - 1)) - 2 * mean_x.square().mean() + mean_x.mean().square()
    second_y = within_y.square / (m * (m - 1)) - 2 * mean_y.square().mean() + mean_y.mean().square()
    second_xy = across.square / (n * m) - mean_xy.square().mean() - mean_yx.square().mean() + mean_xy.mean().square()
    degenerate = (
        2 / (n * (n - 1)) * second_x.clamp_min(0)
        + 2 / (m * (m - 1)) * second_y.clamp_min(0)
        + 4 / (n * m) * second_xy.clamp_min(0)
    )
    half = CONFIDENCE_NORMAL * (linear + degenerate).sqrt()
    return Interval(value, value - half, value + half)


def _part(x: Tensor, most: int) -> Tensor:
    return x if len(x) <= most else x[fixed_rows(len(x), most).to(x.device)]


def _check_samples(x: Tensor, y: Tensor, *, least: int) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"need samples of shapes (n, d) and (m, d), got {tuple(x.shape)} and {tuple(y.shape)}")
    if min(len(x), len(y)) < least:
        raise ValueError(f"need at least {least} points per sample, got {len(x)} and {len(y)}")
    if x.dtype != y.dtype or x.device != y.device:
        raise ValueError(f"samples differ in kind: {x.dtype} on {x.device}, {y.dtype} on {y.device}")
