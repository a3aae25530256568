"""Writes .h5ad files as AnnData lays them out, without AnnData."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def write_h5ad(
    path: Path,
    x: Any = None,
    *,
    obsm: Mapping[str, NDArray[Any]] = {},
    obs: Mapping[str, list[str | None]] = {},
    genes: list[str] | None = None,
    legacy: bool = False,
) -> Path:
    """Write X (dense, or a SciPy CSR or CSC matrix), parts of obsm, and categorical columns of obs.

    Args:
        path: the file.
        x: X; None leaves it out.
        obsm: arrays by key.
        obs: columns of text; None = no category.
        genes: names of the columns of X.
        legacy: categories as AnnData wrote them before 0.8.
    """
    with h5py.File(path, "w") as file:
        if sparse.issparse(x):
            group = file.create_group("X")
            group.attrs["encoding-type"], group.attrs["shape"] = f"{x.format}_matrix", x.shape
            for key in ("data", "indices", "indptr"):
                group[key] = getattr(x, key)
        elif x is not None:
            file["X"] = x
        for key, array in obsm.items():
            file[f"obsm/{key}"] = array
        frame = file.create_group("obs")
        for name, column in obs.items():
            words = sorted({word for word in column if word is not None})
            codes = np.array([-1 if word is None else words.index(word) for word in column], dtype=np.int8)
            if legacy:
                frame[name], frame[f"__categories/{name}"] = codes, words
            else:
                frame[f"{name}/codes"], frame[f"{name}/categories"] = codes, words
        if genes is not None:
            file["var/_index"] = genes
            file["var"].attrs["_index"] = "_index"
    return path
