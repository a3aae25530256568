"""Small tables that come with scikit-learn: the task works offline with them, as a demonstration."""

from __future__ import annotations

import numpy as np

from otbench.datasets.uci.tables import Scaling, Splits, scaled, split

DEMO = ("breast-cancer", "wine", "digits")
_SEED = 20170521


def demo(name: str, scaling: Scaling) -> Splits:
    """Return a bundled table, shuffled, split and scaled; the same at every call.

    Constant columns are dropped. Columns of whole numbers are blurred with uniform noise on [0, 1), without which no
    density exists. The last 30 % of the shuffled rows are for test (so small a table needs them), a tenth of the rest
    validates; the scaling is fitted to training and validation rows.
    """
    from sklearn import datasets  # here: slow to import

    load = {"breast-cancer": datasets.load_breast_cancer, "wine": datasets.load_wine, "digits": datasets.load_digits}
    table = load[name]()
    rows = np.asarray(table.data, dtype=np.float64)
    names = tuple(str(word) for word in table.feature_names)
    kept = np.flatnonzero(rows.max(0) > rows.min(0))
    rows = rows[:, kept]
    generator = np.random.Generator(np.random.PCG64([_SEED, DEMO.index(name)]))
    whole = (rows == np.round(rows)).all(0)
    rows[:, whole] += generator.random((len(rows), int(whole.sum())))
    rows = rows[generator.permutation(len(rows))]
    splits = split(rows, tuple(names[k] for k in kept), tenths=3)
    return scaled(splits, splits.known, scaling, what=name)
