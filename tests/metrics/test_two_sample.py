"""Distances between samples: against definitions, closed forms and geomloss; cover of intervals, level of the test."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from collections.abc import Callable

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from otbench.metrics.two_sample import (
    CURVE_POINTS,
    FACTORS,
    FINAL_POINTS,
    HeldOut,
    median_bandwidths,
    mmd_unbiased,
    mmd_v,
    permutation_test,
    sliced_w2,
    v_floor,
)
from otbench.ops.pairwise import squared_distance_blocks
from otbench.ops.points import fixed_rows

KEYS = {"mmd", "mmd_low", "mmd_high", "vstat", "vstat_floor", "energy", "sliced_w2"}


def sample(n: int, d: int, seed: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def kernel(x: Tensor, y: Tensor, bandwidths: tuple[float, ...]) -> Tensor:
    square = (x[:, None] - y[None]).square().sum(2)
    return torch.stack([(-square / b).exp() for b in bandwidths]).mean(0)


def by_definition(x: Tensor, y: Tensor, bandwidths: tuple[float, ...]) -> float:
    n, m = len(x), len(y)
    within_x = kernel(x, x, bandwidths).fill_diagonal_(0).sum() / (n * (n - 1))
    within_y = kernel(y, y, bandwidths).fill_diagonal_(0).sum() / (m * (m - 1))
    return float(within_x + within_y - 2 * kernel(x, y, bandwidths).mean())


def exact_mmd(d: int, shift: float, scale: float, bandwidths: tuple[float, ...]) -> float:
    """Squared MMD of N(0, I) and N((shift, 0, ...), scale^2 I): E exp(-|Z|^2 / b) of a Gaussian Z is known."""

    def mean(variance: float, square: float) -> float:
        parts = [(1 + 2 * variance / b) ** (-d / 2) * math.exp(-square / (b + 2 * variance)) for b in bandwidths]
        return sum(parts) / len(parts)

    return mean(2, 0) + mean(2 * scale**2, 0) - 2 * mean(1 + scale**2, shift**2)


def test_bandwidths_are_multiples_of_the_median_of_the_reference() -> None:
    y = sample(300, 4, 0)
    square = torch.cdist(y, y).square()
    median = float(square[torch.triu(torch.ones(300, 300), 1) > 0].median())
    assert median_bandwidths(y) == pytest.approx([factor * median for factor in FACTORS])
    large = sample(20_000, 3, 1)
    assert median_bandwidths(large) == median_bandwidths(large)
    # The median of |Y - Y'|^2 is twice that of chi squared with 3 degrees of freedom.
    assert median_bandwidths(large)[2] == pytest.approx(2 * stats.chi2(3).median(), rel=0.05)


def test_bandwidths_of_points_that_coincide_are_positive() -> None:
    half = torch.zeros(20, 2)
    half[:3] = 1.0
    assert min(median_bandwidths(half)) > 0
    assert median_bandwidths(torch.ones(5, 2)) == FACTORS


@settings(deadline=None, max_examples=20, derandomize=True)
@given(
    st.integers(2, 40),
    st.integers(2, 40),
    st.integers(1, 6),
    st.sampled_from([(1.0,), (0.5, 2.0, 1.0), (3.0, 0.7)]),
    st.sampled_from([None, 1, 7]),
    st.integers(0, 10**6),
)
def test_estimates_are_their_definitions(
    n: int, m: int, d: int, bandwidths: tuple[float, ...], chunk: int | None, seed: int
) -> None:
    x, y = sample(n, d, seed) + 50, 1.3 * sample(m, d, seed + 1) + 50.2
    found = mmd_unbiased(x, y, bandwidths=bandwidths, chunk=chunk)
    assert float(found.value) == pytest.approx(by_definition(x, y, bandwidths), abs=1e-12)
    assert found.low <= found.value <= found.high
    biased = kernel(x, x, (1.0,)).mean() + kernel(y, y, (1.0,)).mean() - 2 * kernel(x, y, (1.0,)).mean()
    assert float(mmd_v(x, y, chunk=chunk)) == pytest.approx(float(biased), abs=1e-12)


def test_float32_is_good_to_its_last_digits_far_from_the_origin() -> None:
    x, y = sample(700, 20, 0) + 30, sample(900, 20, 1) + 30
    bandwidths = median_bandwidths(y)
    exact = mmd_unbiased(x, y, bandwidths=bandwidths)
    single = mmd_unbiased(x.float(), y.float(), bandwidths=bandwidths)
    for ours, theirs in zip(single, exact, strict=True):
        assert float(ours) == pytest.approx(float(theirs), abs=1e-6)


def test_both_equal_geomloss() -> None:
    with warnings.catch_warnings():
        # geomloss looks for an optional package when it is imported, and says so with a deprecated function
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        from geomloss import SamplesLoss

    def half_mmd(x: Tensor, y: Tensor, blur: float) -> float:
        """V-statistic of the kernel exp(-|x - y|^2 / (2 blur^2)), halved."""
        return float(SamplesLoss("gaussian", blur=blur, backend="tensorized")(x, y))

    x, y = sample(120, 3, 0), 1.2 * sample(150, 3, 1) + 0.3
    n, m = len(x), len(y)
    assert float(mmd_v(x, y)) == pytest.approx(2 * half_mmd(x, y, math.sqrt(0.5)), abs=1e-6)
    bandwidths = median_bandwidths(y)
    expected = 0.0
    for b in bandwidths:
        blur = math.sqrt(b / 2)
        far = torch.full((1, 3), 1e3, dtype=x.dtype)  # against one point out of reach, the loss is (mean k + 1) / 2
        within_x, within_y = (2 * half_mmd(part, far, blur) - 1 for part in (x, y))
        across = (within_x + within_y) / 2 - half_mmd(x, y, blur)
        unbiased = (n * within_x - 1) / (n - 1) + (m * within_y - 1) / (m - 1) - 2 * across
        expected += unbiased / len(bandwidths)
    assert float(mmd_unbiased(x, y, bandwidths=bandwidths).value) == pytest.approx(expected, abs=1e-6)


def test_v_statistic_meets_its_floor_on_points_far_apart() -> None:
    x, y = 100 * sample(300, 40, 0), 100 * sample(200, 40, 1)
    assert float(mmd_v(x, y)) == pytest.approx(v_floor(300, 200), rel=1e-9)
    assert v_floor(300, 200) == pytest.approx(1 / 300 + 1 / 200)
    numbers = HeldOut(y.float()).compare(x.float(), seed=0, final=False)
    assert numbers["vstat"] == pytest.approx(numbers["vstat_floor"], rel=1e-6)


def test_floor_is_the_bias_of_the_v_statistic() -> None:
    n, m, d = 60, 40, 2
    found = np.array([float(mmd_v(sample(n, d, 2 * k), sample(m, d, 2 * k + 1))) for k in range(100)])
    expected = v_floor(n, m) * (1 - 5 ** (-d / 2))  # E exp(-|X - X'|^2) of two standard normals is 5^(-d/2)
    assert abs(found.mean() - expected) < 3 * found.std() / 10


def test_unbiased_mmd_is_centred_at_zero_for_equal_distributions() -> None:
    bandwidths = median_bandwidths(sample(500, 3, 0))
    found = np.array(
        [
            float(mmd_unbiased(sample(80, 3, 2 * k), sample(120, 3, 2 * k + 1), bandwidths=bandwidths).value)
            for k in range(100)
        ]
    )
    assert abs(found.mean()) < 3 * found.std() / 10
    assert found.min() < 0 < found.max()


@pytest.mark.parametrize(
    ("n", "m", "d", "shift", "scale"),
    [
        (150, 150, 1, 0.0, 1.0),
        (100, 250, 2, 0.0, 1.0),
        (150, 150, 8, 0.0, 1.0),
        (150, 150, 2, 0.1, 1.0),
        (150, 150, 2, 1.0, 1.0),
        (100, 250, 2, 0.0, 1.5),
        (250, 100, 8, 0.5, 0.8),
    ],
)
@pytest.mark.parametrize("bandwidths", [(1.0, 2.0, 4.0, 8.0, 16.0), (100.0,)], ids=["five", "wide"])
def test_interval_covers_the_true_value(
    n: int, m: int, d: int, shift: float, scale: float, bandwidths: tuple[float, ...]
) -> None:
    true = exact_mmd(d, shift, scale, bandwidths)
    covered = 0
    for k in range(200):
        y = scale * sample(m, d, 2 * k + 1)
        y[:, 0] += shift
        found = mmd_unbiased(sample(n, d, 2 * k), y, bandwidths=bandwidths)
        covered += bool(found.low <= true <= found.high)
    assert covered >= 180


def test_interval_is_not_much_wider_than_it_must_be() -> None:
    """Against the spread of the estimate: nearly right for different distributions, sqrt(3) for equal ones."""
    for shift, most in ((0.0, 2.0), (1.0, 1.25)):
        values, widths = [], []
        for k in range(100):
            found = mmd_unbiased(sample(200, 2, 2 * k), sample(200, 2, 2 * k + 1) + shift, bandwidths=(2.0, 4.0))
            values.append(float(found.value))
            widths.append(float(found.high - found.low))
        assert 0.8 < np.mean(widths) / (2 * 1.96 * np.std(values)) < most


@pytest.mark.parametrize(("n", "m"), [(60, 60), (40, 70), (7, 1), (24, 36)])
def test_sliced_distance_equals_that_of_pot(n: int, m: int) -> None:
    x, y = sample(n, 3, 0), 2 * sample(m, 3, 1) + 0.5
    generator = torch.Generator().manual_seed(20_201)
    directions = torch.randn(128, 3, generator=generator, dtype=torch.float64)
    directions /= directions.norm(dim=1, keepdim=True)
    expected = ot.wasserstein_1d((x @ directions.T).numpy(), (y @ directions.T).numpy(), p=2).mean() ** 0.5
    assert float(sliced_w2(x, y)) == pytest.approx(float(expected), rel=1e-9)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 5), st.floats(0.01, 100), st.integers(0, 10**6))
def test_sliced_distance_scales_and_does_not_see_shifts(n: int, m: int, d: int, size: float, seed: int) -> None:
    x, y = sample(n, d, seed), sample(m, d, seed + 1) + 0.3
    value = float(sliced_w2(x, y))
    assert value == pytest.approx(float(sliced_w2(y, x)), rel=1e-9)
    assert float(sliced_w2(size * x + 5, size * y + 5)) == pytest.approx(size * value, rel=1e-7)
    assert float(sliced_w2(x, x.flip(0))) == pytest.approx(0, abs=1e-7)


def test_sliced_distance_of_a_shift() -> None:
    x = sample(50, 1000, 0)
    shift = sample(1, 1000, 1)
    # E <u, s>^2 = |s|^2 / d for u uniform on the sphere
    assert float(sliced_w2(x, x + shift)) == pytest.approx(float(shift.norm()) / 1000**0.5, rel=0.2)


def test_permutation_test_counts_splits_as_the_definition_does() -> None:
    x, y = sample(12, 2, 0), sample(15, 2, 1) + 0.7
    p, n = permutation_test(x, y, permutations=2000, seed=0)
    assert n == 12
    p_other, _ = permutation_test(x, y, permutations=2000, seed=1)
    assert abs(p - p_other) < 4 * math.sqrt(2 * p * (1 - p) / 2000) + 1e-3

    part = y[torch.randperm(15, generator=torch.Generator().manual_seed(20_200))[:12].sort().values]
    distance = torch.cdist(torch.cat((x, part)), torch.cat((x, part))).numpy()

    def energy(a: np.ndarray, b: np.ndarray) -> float:
        return float(2 * distance[np.ix_(a, b)].mean() - sum(distance[np.ix_(c, c)].mean() for c in (a, b)))

    reference = stats.permutation_test(
        (np.arange(12), np.arange(12, 24)),
        energy,
        n_resamples=2000,
        alternative="greater",
        rng=np.random.default_rng(0),
    )
    assert abs(p - reference.pvalue) < 4 * math.sqrt(2 * p * (1 - p) / 2000) + 1e-3


def test_permutation_test_has_its_level_and_sees_differences() -> None:
    found = np.array(
        [
            permutation_test(sample(40, 2, 2 * k), sample(40, 2, 2 * k + 1), permutations=99, seed=k)[0]
            for k in range(200)
        ]
    )
    assert stats.binomtest(int((found <= 0.05).sum()), 200, 0.05).pvalue > 1e-3
    assert stats.kstest(found, "uniform").pvalue > 1e-3
    p, n = permutation_test(sample(400, 2, 0), sample(500, 2, 1) + 0.5, permutations=199, seed=0)
    assert (p, n) == (1 / 200, 400)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_permutation_test_of_equal_points_says_one(dtype: torch.dtype) -> None:
    x = sample(1, 3, 0, dtype=dtype).expand(30, 3)
    assert permutation_test(x, x.clone(), permutations=50, seed=0) == (1.0, 30)


@pytest.mark.parametrize("final", [False, True])
def test_all_numbers_at_once(final: bool) -> None:
    x, y = sample(500, 3, 0, dtype=torch.float32) + 0.1, sample(400, 3, 1, dtype=torch.float32)
    found = HeldOut(y).compare(x, seed=3, final=final)
    assert set(found) == KEYS | ({"p_value", "p_points"} if final else set())
    assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())
    interval = mmd_unbiased(x, y, bandwidths=median_bandwidths(y))
    assert [found[name] for name in ("mmd", "mmd_low", "mmd_high")] == pytest.approx([float(v) for v in interval])
    assert found["vstat"] == pytest.approx(float(mmd_v(x, y)), abs=1e-9)
    assert found["vstat_floor"] == v_floor(500, 400)
    assert found["sliced_w2"] == pytest.approx(float(sliced_w2(x, y)))
    assert found == HeldOut(y).compare(x, seed=3, final=final)
    if final:
        assert found["p_value"] == permutation_test(x, y, seed=3)[0]
        assert found["p_points"] == 400


def test_held_out_data_are_looked_at_once_and_give_every_sample_its_own_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[int] = []

    def median(y: Tensor) -> tuple[float, ...]:
        looks.append(len(y))
        return median_bandwidths(y)

    monkeypatch.setattr("otbench.metrics.two_sample.median_bandwidths", median)
    y, spoilt = sample(CURVE_POINTS + 100, 2, 1, dtype=torch.float32), torch.full((20, 2), math.nan)
    samples = [sample(60 + k, 2, 2 + k, dtype=torch.float32) + k for k in range(3)]
    kept = HeldOut(y)
    kept.compare(spoilt, seed=0, final=False)
    assert not looks
    found = [kept.compare(x, seed=0, final=final) for x, final in zip(samples, (False, True, False), strict=True)]
    assert looks == [CURVE_POINTS, CURVE_POINTS + 100]
    assert kept.bandwidths(final=False) == median_bandwidths(y[fixed_rows(len(y), CURVE_POINTS)])
    assert kept.bandwidths(final=True) == median_bandwidths(y)
    afresh = [
        HeldOut(y).compare(x, seed=0, final=final) for x, final in zip(samples, (False, True, False), strict=True)
    ]
    assert found == afresh


def test_a_curve_looks_at_a_fixed_part_only() -> None:
    x, y = sample(CURVE_POINTS + 500, 2, 0, dtype=torch.float32), sample(CURVE_POINTS + 100, 2, 1, dtype=torch.float32)
    found = HeldOut(y).compare(x, seed=0, final=False)
    assert found["vstat_floor"] == v_floor(CURVE_POINTS, CURVE_POINTS)
    assert found == HeldOut(y).compare(x, seed=1, final=False)
    assert FINAL_POINTS >= CURVE_POINTS


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_a_map_that_diverged_gives_nan(bad: float) -> None:
    x, y = sample(20, 2, 0, dtype=torch.float32), sample(20, 2, 1, dtype=torch.float32)
    x[3, 1] = bad
    found = HeldOut(y).compare(x, seed=0, final=True)
    assert set(found) == KEYS | {"p_value", "p_points"}
    assert math.isnan(found["mmd"])


def test_two_points_are_enough_and_other_kinds_are_converted() -> None:
    x, y = sample(2, 4, 0).view(2, 2, 2), sample(3, 4, 1).to(torch.bfloat16).view(3, 2, 2)
    found = HeldOut(y).compare(x, seed=0, final=True)
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda x: mmd_unbiased(x, x[:1], bandwidths=(1.0,)), "2 points"),
        (lambda x: mmd_unbiased(x, x, bandwidths=()), "bandwidths"),
        (lambda x: mmd_unbiased(x, x, bandwidths=(1.0, 0.0)), "bandwidths"),
        (lambda x: mmd_v(x, x[:, :1]), "shapes"),
        (lambda x: sliced_w2(x, x.float()), "kind"),
        (lambda x: permutation_test(x[:0], x, seed=0), "1 point"),
    ],
)
def test_refuses_what_it_cannot_compare(call: Callable[[Tensor], object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        call(sample(4, 2, 0))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("chunk", [1, 4, None])
def test_blocks_cover_every_pair(chunk: int | None, symmetric: bool) -> None:
    x, y = sample(11, 3, 0), None if symmetric else sample(6, 3, 1)
    other = x if y is None else y
    square = torch.full((11, len(other)), math.nan, dtype=x.dtype)
    for rows, columns, block in squared_distance_blocks(x, y, chunk=chunk):
        square[rows, columns] = block
        if symmetric:
            square[columns, rows] = block.T
    torch.testing.assert_close(square, torch.cdist(x, other).square(), atol=1e-12, rtol=1e-9)


ALL_PAIRS = """
import resource, sys, torch
from otbench.metrics.two_sample import median_bandwidths, mmd_unbiased, mmd_v, sliced_w2
from otbench.ops.energy import energy_distance

def resident():
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * resource.getpagesize()

n = int(sys.argv[1])
x, y = (torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
mmd_unbiased(x[:50], y[:50], bandwidths=(1.0,))  # what is loaded once
before = resident()
_, low, high = mmd_unbiased(x, y, bandwidths=median_bandwidths(y))
others = mmd_v(x, y), sliced_w2(x, y), energy_distance(x, y, unbiased=True)
extra = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
print(extra, *map(float, (low, high, *others)))
"""
"""In a process of its own: the peak of one that has run other tests says nothing."""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the resident memory is read from /proc")
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_points_a_side_take_less_than_a_gibibyte() -> None:
    done = subprocess.run([sys.executable, "-c", ALL_PAIRS, "100000"], capture_output=True, text=True, check=True)
    extra, low, high, biased, sliced, energy = map(float, done.stdout.split())
    assert 0 < extra < 2**30
    assert low <= 0 <= high
    assert biased == pytest.approx(v_floor(100_000, 100_000) * (1 - 5**-4), rel=0.2)
    assert sliced < 0.02
    assert abs(energy) < 1e-3
