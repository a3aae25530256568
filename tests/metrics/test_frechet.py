from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otbench.data.remote import cache_folder
from otbench.errors import DataError
from otbench.metrics import inception
from otbench.metrics.frechet import Moments, frechet_distance, moments
from otbench.metrics.inception import find_weights, kernel_distance
from otbench.metrics.share import wilson


def features(n: int, d: int, seed: int, *, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(n, d, generator=generator) @ torch.randn(d, d, generator=generator) / d**0.5
    return scale * mixed.relu() + shift  # one-sided and correlated, as features of a network are


def test_commuting_covariances_have_their_closed_form() -> None:
    a, b = torch.tensor([4.0, 1.0, 0.25]).double(), torch.tensor([1.0, 9.0, 0.0]).double()
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double())[0]
    first = Moments(torch.zeros(3).double(), rotation @ a.diag() @ rotation.T, 10)
    second = Moments(torch.tensor([3.0, 0.0, 4.0]).double(), rotation @ b.diag() @ rotation.T, 10)
    exact = 25 + float((a.sqrt() - b.sqrt()).square().sum())
    assert frechet_distance(first, second) == pytest.approx(exact, rel=1e-7)  # roots of rounding errors


@pytest.mark.parametrize(("n", "d"), [(500, 8), (300, 64), (40, 64)])  # the last: covariances of low rank
def test_equals_torch_fidelity_on_the_same_features(n: int, d: int) -> None:
    metric_fid = pytest.importorskip("torch_fidelity.metric_fid")
    x, y = features(n, d, 0), features(n + 7, d, 1, scale=1.3, shift=0.2)
    theirs = metric_fid.fid_statistics_to_metric(
        metric_fid.fid_features_to_statistics(x.double()), metric_fid.fid_features_to_statistics(y.double()), False
    )["frechet_inception_distance"]
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(theirs, rel=1e-4)


def test_features_that_are_not_finite_have_no_distance() -> None:
    x, spoilt = features(50, 4, 0), features(50, 4, 1)
    spoilt[3, 2] = math.nan
    assert math.isnan(frechet_distance(moments(x), moments(spoilt)))
    assert math.isnan(frechet_distance(moments(spoilt), moments(x)))


@pytest.mark.parametrize(("n", "d"), [(500, 8), (40, 64)])
def test_identical_sets_are_at_distance_zero(n: int, d: int) -> None:
    x = moments(features(n, d, 0))
    assert frechet_distance(x, x) <= 1e-6 * float(x.cov.trace())


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 6), st.floats(-50, 50))
def test_symmetric_shift_invariant_and_not_negative(seed: int, d: int, shift: float) -> None:
    x, y = features(30, d, seed).double(), features(40, d, seed + 1).double()
    there, back = frechet_distance(moments(x), moments(y)), frechet_distance(moments(y), moments(x))
    scale = float(moments(x).cov.trace() + moments(y).cov.trace()) + 1
    assert there >= 0
    assert there == pytest.approx(back, abs=1e-6 * scale)
    assert frechet_distance(moments(x + shift), moments(y + shift)) == pytest.approx(there, abs=1e-6 * scale)


def test_moments_are_those_of_numpy_and_need_two_points() -> None:
    x = torch.rand(20, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    found = moments(x)
    np.testing.assert_allclose(found.cov, np.cov(x.flatten(1).double().numpy().T), rtol=1e-12)
    assert found.count == 20
    with pytest.raises(ValueError, match="two features"):
        moments(x[:1])


def test_wilson_interval() -> None:
    low, high = wilson(5, 10)  # by hand: centre 1/2, half width sqrt(1/40 + z^2/400) z / (1 + z^2/10)
    assert (low, high) == pytest.approx((0.236593, 0.763407), abs=1e-6)
    assert wilson(0, 100)[0] == 0
    assert wilson(100, 100)[1] == pytest.approx(1)
    assert wilson(0, 0) == (0, 1)
    with pytest.raises(ValueError, match="3 successes in 2"):
        wilson(3, 2)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_wilson_holds_the_share_and_narrows(n: int, share: float) -> None:
    hits = round(n * share)
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n + 1e-12
    assert hits / n - 1e-12 <= high <= 1
    more = wilson(4 * hits, 4 * n)
    assert more[1] - more[0] < high - low


def test_kernel_distance_equals_torch_fidelity() -> None:
    metric_kid = pytest.importorskip("torch_fidelity.metric_kid")
    x, y = features(60, 8, 0), features(60, 8, 1, shift=0.1)
    theirs = metric_kid.kid_features_to_metric(
        x.double(), y.double(), kid_subsets=1, kid_subset_size=60, verbose=False, kid_kernel="poly"
    )["kernel_inception_distance_mean"]
    assert kernel_distance(x, y) == pytest.approx(theirs, rel=1e-6)


def test_kernel_distance_is_unbiased() -> None:
    """Over many splits of one sample, its mean is zero within four standard errors."""
    x = features(4000, 4, 3)
    found = [kernel_distance(a, b) for a, b in zip(x.split(50)[::2], x.split(50)[1::2], strict=True)]
    assert abs(np.mean(found)) < 4 * np.std(found) / math.sqrt(len(found))


def test_wrong_inception_weights_are_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch_fidelity")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    own = tmp_path / "data"
    own.mkdir()
    assert find_weights(own)[0] is None
    assert "no weights on this machine" in find_weights(own)[1]
    (own / inception.WEIGHTS.names[0]).write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(DataError, match="wrong checksum"):
        find_weights(own)
    assert not cache_folder().exists()
