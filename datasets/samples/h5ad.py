"""Single-cell files (.h5ad of AnnData), read with h5py: X, dense or sparse, a part of obsm, and columns of obs."""

from __future__ import annotations

from typing import Any

import numpy as np

from otbench.data.hdf5 import own, reading
from otbench.datasets.samples.places import (
    SHOWN,
    Array,
    Place,
    Table,
    Wanted,
    check_room,
    columns_of,
    numbered,
)
from otbench.errors import DataError
from otbench.names import hint

_SPARSE = {"csr_matrix": 0, "csc_matrix": 1}
"""Encodings of a sparse X, and the axis that `indptr` runs over."""
_MOST_STORED = 2**33
"""Numbers that a sparse X may store."""


def read(place: Place, wanted: Wanted) -> Table:
    """Return X, or what the place names in `obsm`, and the wanted columns of `obs`.

    Raises:
        DataError: the file is damaged, lacks it, or holds it in a form that is not read.
    """
    with reading(place.path) as file:
        if place.part in ("", "X"):
            points, names = _expression(file, place, wanted)
        else:
            points, names = _embedding(file, place, wanted)
        known = _obs_names(file, place)
        beside = {name: _obs(file, place, name) for name in wanted.beside if name in known}
    for name, column in beside.items():
        if len(column) != len(points):
            raise DataError(f"{place}: '{name}' in obs has {len(column):,} entries for {len(points):,} rows")
    return Table(points, names, beside, known)


def _expression(file: Any, place: Place, wanted: Wanted) -> tuple[Array, tuple[str, ...]]:
    if "X" not in file:
        stored = sorted(file["obsm"]) if "obsm" in file else []
        where = f"name a part of obsm, such as {place.path.name}:{stored[0]}" if stored else "save the data in it"
        raise DataError(f"{place.path}: holds no X; {where}")
    held = own(file, "X", place.path, dataset=False)
    names = _gene_names(file, place)
    if hasattr(held, "dtype"):
        shape = held.shape
    else:
        encoding = str(held.attrs.get("encoding-type", "nothing that is known"))
        if encoding not in _SPARSE:
            raise DataError(f"{place.path}: X is stored as {encoding[:40]}; dense, CSR and CSC matrices are read")
        shape = tuple(int(n) for n in held.attrs.get("shape", ()))
    if len(shape) != 2 or min(shape) < 0:
        raise DataError(f"{place.path}: X has shape {shape}; it must hold rows of numbers")
    names = names if len(names) == shape[1] else numbered(shape[1])
    chosen = columns_of(place, wanted.points, names)
    check_room(place, (shape[0], len(chosen)), 4)
    if hasattr(held, "dtype"):
        points = _numeric(held, place, "X")[:, chosen] if wanted.points is not None else _numeric(held, place, "X")
    else:
        points = _dense(held, place, shape, encoding, chosen)
    return points, tuple(names[k] for k in chosen)


def _dense(group: Any, place: Place, shape: tuple[int, int], encoding: str, chosen: list[int]) -> Array:
    """Return columns of a sparse matrix, float32; its indices are checked, as the file may be damaged or hostile."""
    from scipy import sparse

    parts = [own(group, key, place.path) for key in ("data", "indices", "indptr")]
    if len(parts[0]) > _MOST_STORED or len(parts[2]) != shape[_SPARSE[encoding]] + 1:
        raise DataError(f"{place.path}: X is damaged: its parts do not fit shape {shape}")
    data, indices, indptr = (_numeric(part, place, f"X/{part.name.rpartition('/')[2]}") for part in parts)
    kind: Any = getattr(sparse, encoding)
    try:
        matrix = kind((data.astype(np.float32), indices, indptr), shape=shape)
        matrix.check_format(full_check=True)
    except ValueError as error:
        raise DataError(f"{place.path}: X is damaged: {str(error)[:100]}") from error
    array: Array = (matrix if len(chosen) == shape[1] else matrix[:, chosen]).toarray()
    return array


def _embedding(file: Any, place: Place, wanted: Wanted) -> tuple[Array, tuple[str, ...]]:
    stored = sorted(own(file, "obsm", place.path, dataset=False)) if "obsm" in file else []
    if place.part not in stored:
        said = hint(place.part, stored, "obsm holds", most=SHOWN)
        raise DataError(f"{place.path}: obsm holds no '{place.part}'{said}")
    held = own(file["obsm"], place.part, place.path, dataset=False)
    if not hasattr(held, "dtype"):
        raise DataError(f"{place}: is stored as a table or a sparse matrix; only plain arrays in obsm are read")
    if held.ndim != 2:
        raise DataError(f"{place}: has shape {held.shape}; it must hold rows of numbers")
    chosen = columns_of(place, wanted.points, numbered(held.shape[1]))
    check_room(place, held.shape, held.dtype.itemsize)
    return _numeric(held, place, place.part)[:, chosen], tuple(str(k) for k in chosen)


def _numeric(dataset: Any, place: Place, name: str) -> Array:
    if dataset.dtype.kind not in "fiu":
        raise DataError(f"{place.path}: '{name}' has dtype {dataset.dtype}, which is not numeric")
    array: Array = dataset[()]
    return array


def _gene_names(file: Any, place: Place) -> tuple[str, ...]:
    if "var" not in file:
        return ()
    group = own(file, "var", place.path, dataset=False)
    index = str(group.attrs.get("_index", "_index")) if hasattr(group, "attrs") else "_index"
    if hasattr(group, "dtype") or index not in group:
        return ()
    held = own(group, index, place.path, dataset=False)
    return tuple(_text(held)) if hasattr(held, "dtype") and held.ndim == 1 else ()


def _obs_names(file: Any, place: Place) -> tuple[str, ...]:
    if "obs" not in file:
        return ()
    group = own(file, "obs", place.path, dataset=False)
    if hasattr(group, "dtype"):
        return ()
    return tuple(name for name in group if name != "__categories")


def _obs(file: Any, place: Place, name: str) -> Array:
    """Return a column of obs: numbers, or text as objects; None where a category is missing."""
    group = own(file, "obs", place.path, dataset=False)
    held = own(group, name, place.path, dataset=False)
    if hasattr(held, "dtype"):
        legacy = group.get("__categories")
        if legacy is not None and name in legacy:  # AnnData before 0.8
            return _decoded(held, own(legacy, name, place.path), place, name)
        return _values(held, place, name)
    if "codes" in held and "categories" in held:
        return _decoded(own(held, "codes", place.path), own(held, "categories", place.path), place, name)
    if "values" in held and "mask" in held:  # nullable numbers
        values = _values(own(held, "values", place.path), place, name).astype(object)
        values[own(held, "mask", place.path)[()].astype(bool)] = None
        return values
    raise DataError(f"{place.path}: column '{name}' of obs is stored in a form that is not read")


def _decoded(codes: Any, categories: Any, place: Place, name: str) -> Array:
    found, words = codes[()], _values(categories, place, name).astype(object)
    if found.ndim != 1 or found.dtype.kind not in "iu" or (len(found) and int(found.max()) >= len(words)):
        raise DataError(f"{place.path}: column '{name}' of obs is damaged: its codes do not fit its categories")
    return np.append(words, [None])[np.where(found < 0, len(words), found)]


def _values(dataset: Any, place: Place, name: str) -> Array:
    if dataset.ndim != 1 or dataset.dtype.kind not in "fiubOS":
        raise DataError(f"{place.path}: column '{name}' of obs has shape {dataset.shape} and dtype {dataset.dtype}")
    return _text(dataset) if dataset.dtype.kind in "OS" else np.asarray(dataset[()])


def _text(dataset: Any) -> Array:
    words = [word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word) for word in dataset[()]]
    return np.array(words, dtype=object)
