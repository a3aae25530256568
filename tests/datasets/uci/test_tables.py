"""The published steps from raw rows to splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from otbench.datasets.uci import files, tables
from otbench.datasets.uci.demo import DEMO, demo

from ...helpers.uci_sets import gas_rows, hepmass_rows, power_rows, random, write_whole

SCALINGS: tuple[tables.Scaling, ...] = ("zscore", "minmax")


@pytest.mark.parametrize(("name", "rows"), [("power", 2_049_280), ("gas", 1_052_065), ("miniboone", 36_488)])
def test_raw_row_counts_give_the_published_splits(name: str, rows: int) -> None:
    assert tables.split_sizes(rows) == tables.PUBLISHED[name][1:]


def test_signal_rows_of_hepmass_give_the_published_splits() -> None:
    _, train, validation, _ = tables.PUBLISHED["hepmass"]
    assert (train + validation) // 10 == validation


def test_every_fourth_row_of_the_gas_text_is_as_many_as_the_archive_has() -> None:
    assert len(range(files._GAS_EVERY - 1, 4_208_261, files._GAS_EVERY)) == 1_052_065


@pytest.mark.parametrize("scaling", SCALINGS)
def test_power_follows_the_published_steps(scaling: tables.Scaling) -> None:
    raw = power_rows()
    splits = tables.power(raw, scaling, what="table")
    rng = np.random.RandomState(42)
    expected = raw.copy()
    rng.shuffle(expected)  # whole rows: the stream that the papers' code drew from
    expected = np.delete(expected, [1, 3], axis=1)
    blur = [rng.rand(400, 1) for _ in range(2)]
    expected += np.hstack((0.001 * blur[1], 0.01 * blur[0], rng.rand(400, 3), np.zeros((400, 1))))
    known = expected[:360]
    if scaling == "zscore":
        expected = (expected - known.mean(0)) / known.std(0)
    else:
        expected = 2 * (expected - known.min(0)) / (known.max(0) - known.min(0)) - 1
    np.testing.assert_allclose(np.vstack((splits.train, splits.validation, splits.test)), expected, atol=1e-12)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [324, 36, 40]


def test_gas_drops_the_first_of_two_alike_and_scales_by_the_whole_table() -> None:
    splits = tables.gas(gas_rows(), "zscore", what="table")
    assert splits.names == tuple(f"sensor {k}" for k in range(2, 17, 2))
    everything = np.vstack((splits.train, splits.validation, splits.test))
    np.testing.assert_allclose(everything.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(everything.std(0, ddof=1), 1, atol=1e-12)


@pytest.mark.parametrize("extra", [0, 1])
def test_hepmass_keeps_signal_and_continuous_features(extra: int) -> None:
    train, test = hepmass_rows(), hepmass_rows(extra=extra, seed=4)
    splits = tables.hepmass(train, test, "zscore", what="table")
    assert splits.names == tuple(f"f{k}" for k in (*range(20), 26))
    signal = train[train[:, 0] == 1, 1:]
    kept = [*range(20), 26]
    np.testing.assert_allclose(
        splits.test,
        (test[test[:, 0] == 1, 1:28] - signal.mean(0))[:, kept] / signal.std(0, ddof=1)[kept],
        atol=1e-12,
    )
    assert (len(splits.train), len(splits.validation)) == (180, 20)


@pytest.mark.parametrize(
    ("name", "fit"),
    [("power", 2), ("gas", 2), ("hepmass", 2), ("miniboone", 1)],
)
def test_minmax_maps_the_fitted_rows_to_the_cube(name: str, fit: int, tmp_path: Path) -> None:
    write_whole(name, tmp_path)
    raw = files.find(name, tmp_path)
    assert raw is not None
    splits = raw.read("minmax")
    fitted = np.vstack((splits.train, splits.validation)[:fit])
    np.testing.assert_allclose(fitted.min(0), -1, atol=1e-12)
    np.testing.assert_allclose(fitted.max(0), 1, atol=1e-12)


def test_miniboone_zscore_is_fitted_to_training_and_validation_rows() -> None:
    splits = tables.miniboone(5 + 2 * random(400, 43), "zscore", what="table")
    known = np.vstack((splits.train, splits.validation))
    np.testing.assert_allclose(known.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(known.std(0), 1, atol=1e-12)


def test_normalised_splits_are_taken_as_they_are() -> None:
    train, test = random(50, 43), random(40, 43, seed=1)
    splits = tables.miniboone_splits(train, None, test, "zscore", what="table")
    np.testing.assert_array_equal(np.vstack((splits.train, splits.validation)), train)
    assert len(splits.validation) == 5
    np.testing.assert_array_equal(splits.test, test)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", DEMO)
def test_bundled_tables(name: str, scaling: tables.Scaling) -> None:
    first, again = demo(name, scaling), demo(name, scaling)
    np.testing.assert_array_equal(first.train, again.train)
    known = np.vstack((first.train, first.validation))
    assert known.shape[1] == {"breast-cancer": 30, "wine": 13, "digits": 61}[name] == len(first.names)
    assert len(known) + len(first.test) == {"breast-cancer": 569, "wine": 178, "digits": 1797}[name]
    if scaling == "zscore":
        np.testing.assert_allclose(known.std(0), 1, atol=1e-9)
    else:
        np.testing.assert_allclose((known.min(0), known.max(0)), ([-1] * len(known.T), [1] * len(known.T)), atol=1e-9)
    if name == "digits":  # blurred: no value twice
        assert len(np.unique(known[:, 20])) == len(known)
