"""Preprocessing of the five UCI density-estimation sets, from raw rows to splits, as the published numbers had it.

Steps and split sizes follow MAF (Papamakarios, Pavlakou, Murray, NeurIPS 2017, arXiv 1705.07057), whose preprocessed
archive is https://doi.org/10.5281/zenodo.1161203. Two scalings are published: `zscore` (OT-Flow, Onken et al., AAAI
2021, arXiv 2006.00104) and `minmax` to [-1, 1] (Park et al., ICLR 2026, arXiv 2510.01153). They
differ in more than the formula: each set says below what its scaling is fitted to.

All arrays are float64, rows are points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from otbench.errors import DataError

Array = NDArray[np.float64]
Scaling = Literal["zscore", "minmax"]

PUBLISHED = {
    "power": (6, 1_659_917, 184_435, 204_928),
    "gas": (8, 852_174, 94_685, 105_206),
    "hepmass": (21, 315_123, 35_013, 174_987),
    "miniboone": (43, 29_556, 3_284, 3_648),
    "bsds300": (63, 1_000_000, 50_000, 250_000),
}
"""Dimension, and rows for training, validation and test."""
POWER_COLUMNS = 8
"""Active power, reactive power, voltage, intensity, three meters, minute of the day."""
GAS_SENSORS = 16
HEPMASS_FEATURES = 27
_CORRELATED = 0.98
_REPEATED = 5


@dataclass(frozen=True)
class Splits:
    """Points for training, early stopping and scoring, each of shape (rows, d), and the names of the d columns."""

    train: Array
    validation: Array
    test: Array
    names: tuple[str, ...]

    @property
    def arrays(self) -> dict[str, Array]:
        """The three arrays by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def known(self) -> Array:
        """All rows but those for scoring."""
        return np.vstack((self.train, self.validation))

    def mapped(self, function: Callable[[Array], Array], names: tuple[str, ...]) -> Splits:
        """Return what `function` makes of each array, with new names of columns."""
        return Splits(function(self.train), function(self.validation), function(self.test), names)


def split_sizes(rows: int, *, tenths: int = 1) -> tuple[int, int, int]:
    """Return training, validation and test rows: the last `tenths` are for test, a tenth of the rest validates."""
    test = tenths * rows // 10
    validation = (rows - test) // 10
    return rows - test - validation, validation, test


def split(rows: Array, names: tuple[str, ...], *, tenths: int = 1) -> Splits:
    """Split a table of columns `names`, in order, into parts of `split_sizes`."""
    train, validation, _ = split_sizes(len(rows), tenths=tenths)
    return Splits(rows[:train], rows[train : train + validation], rows[train + validation :], names)


def power(rows: Array, scaling: Scaling, *, what: str) -> Splits:
    """Shuffle, drop reactive power and intensity, blur the rounding, split, scale by training and validation rows.

    Args:
        rows: raw table, shape (n, 8): `POWER_COLUMNS`.
        scaling: which of the published ones.
        what: the table's name, for messages.

    Raises:
        DataError: another number of columns, too few rows, values that are not finite, or a constant column.
    """
    _require(rows, POWER_COLUMNS, what)
    generator = np.random.RandomState(42)  # the published splits come from this stream
    order = np.arange(len(rows))
    generator.shuffle(order)
    kept = rows[order][:, [0, 2, 4, 5, 6, 7]]
    count = len(kept)
    # the order of these draws is part of the published data
    kept[:, 1] += 0.01 * generator.rand(count)
    kept[:, 0] += 0.001 * generator.rand(count)
    kept[:, 2:5] += generator.rand(count, 3)
    splits = split(kept, ("active power", "voltage", "meter 1", "meter 2", "meter 3", "time of day"))
    return scaled(splits, splits.known, scaling, what=what)


def gas(rows: Array, scaling: Scaling, *, what: str) -> Splits:
    """Drop sensors that nearly repeat another, scale, split.

    The published z-score is fitted to the whole table. No min-max fit is written down for this set: as for POWER, it is
    that of training and validation rows.

    Args:
        rows: sensor readings, shape (n, 16): without time and concentrations.
        scaling: which of the published ones.
        what: the table's name, for messages.

    Raises:
        DataError: another number of columns, too few rows, values that are not finite, or a constant column.
    """
    _require(rows, GAS_SENSORS, what)
    _spread(rows, what)
    kept = list(range(GAS_SENSORS))
    related = np.asarray(np.corrcoef(rows, rowvar=False) > _CORRELATED)
    while True:
        double = related[np.ix_(kept, kept)].sum(1) > 1
        if not double.any():
            break
        del kept[int(np.argmax(double))]
    rows = rows[:, kept]
    splits = split(rows, tuple(f"sensor {k + 1}" for k in kept))
    return scaled(splits, rows if scaling == "zscore" else splits.known, scaling, what=what, ddof=1)


def hepmass(train: Array, test: Array, scaling: Scaling, *, what: str) -> Splits:
    """Keep signal rows, scale by those of the training file, drop features with a repeated smallest value, split.

    Args:
        train: 1000_train, shape (n, 28): label and 27 features.
        test: 1000_test, the same columns; the archive's file has one more at the end, which is dropped.
        scaling: which of the published ones.
        what: the table's name, for messages.

    Raises:
        DataError: another number of columns, too few rows, values that are not finite, or a constant column.
    """
    if test.ndim == 2 and test.shape[1] == HEPMASS_FEATURES + 2:
        test = test[:, :-1]
    for rows in (train, test):
        _require(rows, 1 + HEPMASS_FEATURES, what)
    signal, held_out = (rows[rows[:, 0] == 1, 1:] for rows in (train, test))
    if min(len(signal), len(held_out)) < 20:
        raise DataError(f"{what}: only {len(signal)} and {len(held_out)} signal rows (label 1); at least 20 are needed")
    count = len(signal) // 10
    names = tuple(f"f{k}" for k in range(HEPMASS_FEATURES))
    splits = Splits(signal[:-count], signal[-count:], held_out, names)
    splits = scaled(splits, signal, scaling, what=what, ddof=1)
    features = splits.known
    kept = [k for k in range(HEPMASS_FEATURES) if (features[:, k] == features[:, k].min()).sum() <= _REPEATED]
    if not kept:
        raise DataError(f"{what}: every feature repeats its smallest value more than {_REPEATED} times")
    return splits.mapped(lambda x: x[:, kept], tuple(names[k] for k in kept))


def miniboone(rows: Array, scaling: Scaling, *, what: str) -> Splits:
    """Split MAF's cleaned table; z-score by training and validation rows, min-max by training rows.

    Args:
        rows: the cleaned table, shape (n, 43).
        scaling: which of the published ones.
        what: the table's name, for messages.

    Raises:
        DataError: another number of columns, too few rows, values that are not finite, or a constant column.
    """
    _require(rows, PUBLISHED["miniboone"][0], what)
    splits = split(rows, _numbered("x", rows.shape[1]))
    return scaled(splits, splits.known if scaling == "zscore" else splits.train, scaling, what=what)


def miniboone_splits(train: Array, validation: Array | None, test: Array, scaling: Scaling, *, what: str) -> Splits:
    """Take splits that MAF normalised already (z-score by its training and validation rows).

    Args:
        train: shape (n, 43).
        validation: shape (m, 43); None = the last tenth of `train`.
        test: shape (k, 43).
        scaling: `zscore` takes the values as they are; `minmax` is fitted to `train`.
        what: the table's name, for messages.

    Raises:
        DataError: another number of columns, too few rows, values that are not finite, or a constant column.
    """
    for rows in (train, test) if validation is None else (train, validation, test):
        _require(rows, PUBLISHED["miniboone"][0], what)
    if validation is None:
        count = len(train) // 10
        train, validation = train[:-count], train[-count:]
    splits = Splits(train, validation, test, _numbered("x", train.shape[1]))
    return splits if scaling == "zscore" else scaled(splits, train, scaling, what=what)


def bsds300(train: Array, validation: Array, test: Array, *, what: str) -> Splits:
    """Take patches of 8x8 pixels, mean removed and last pixel dropped, as they are: no paper scales them.

    Raises:
        DataError: another number of columns, too few rows, or values that are not finite.
    """
    for rows in (train, validation, test):
        _require(rows, PUBLISHED["bsds300"][0], what)
    return Splits(train, validation, test, _numbered("pixel ", train.shape[1]))


def scaled(splits: Splits, fit: Array, scaling: Scaling, *, what: str, ddof: int = 0) -> Splits:
    """Return (x - centre) / scale, fitted to the rows of `fit`; `ddof` as the authors' library had it.

    Raises:
        DataError: a column of `fit` is constant.
    """
    _spread(fit, what)
    low, high = fit.min(0), fit.max(0)
    centre, scale = (
        (fit.mean(0), fit.std(0, ddof=ddof)) if scaling == "zscore" else ((high + low) / 2, (high - low) / 2)
    )
    return splits.mapped(lambda x: (x - centre) / scale, splits.names)


def _require(rows: Array, columns: int, what: str) -> None:
    if rows.ndim != 2 or rows.shape[1] != columns:
        raise DataError(f"{what}: wrong number of columns: expected {columns}, found an array of shape {rows.shape}")
    if len(rows) < 20:
        raise DataError(f"{what}: only {len(rows)} rows; at least 20 are needed")
    bad = ~np.isfinite(rows).all(1)
    if bad.any():
        first = int(np.argmax(bad)) + 1
        raise DataError(
            f"{what}: {bad.sum()} of {len(rows)} rows hold NaN or infinity, the first is row {first}; the original has "
            "none: get it again"
        )


def _spread(rows: Array, what: str) -> None:
    constant = np.flatnonzero(rows.max(0) == rows.min(0))
    if len(constant):
        raise DataError(
            f"{what}: column {int(constant[0]) + 1} is constant, so it cannot be scaled; get the file again"
        )


def _numbered(word: str, count: int) -> tuple[str, ...]:
    return tuple(f"{word}{k + 1}" for k in range(count))
