"""Reads the user's files: .npy, .npz, .csv, .parquet, .pt and .h5ad, none of which may run code or take all memory."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from otbench.data.arrays import load_arrays, map_npy, npz_names
from otbench.data.tensorfile import load_tensors
from otbench.datasets.samples import h5ad
from otbench.datasets.samples.places import (
    ENDINGS,
    SHOWN,
    Array,
    Place,
    Reader,
    Table,
    Wanted,
    check_room,
    chosen_part,
    columns_of,
    numbered,
    placed,
)
from otbench.errors import DataError, UsageError
from otbench.files import unreadable
from otbench.names import few, plain

_CSV_ROWS = 200_000
"""Rows of a text table that are read at a time."""
_MAX_UNPACKED = 2**40
"""Bytes of arrays in a file; how many are taken is checked by rows, columns and free memory."""


def read_table(text: str, option: str, wanted: Wanted) -> tuple[Place, Table]:
    """Return the file that `text` names, and its numbers.

    Raises:
        UsageError: it is of no known kind.
        DataError: it is missing, damaged, too large, or holds no numbers.
    """
    place = placed(text, option)
    return place, READERS[place.path.suffix](place, wanted)


def read_labels(text: str, option: str, rows: int) -> Array:
    """Return the classes in a file of their own, shape (rows,), of any type.

    Raises:
        UsageError: it is of no known kind.
        DataError: it is missing or damaged, or does not hold one class a row.
    """
    place = placed(text, option, endings=[ending for ending in ENDINGS if ending != ".h5ad"])
    if place.path.suffix == ".csv":
        lines = _lines(place)
        labels = lines[1:] if len(lines) == rows + 1 else lines
    elif place.path.suffix == ".parquet":
        names = _parquet_names(place)
        labels = _parquet_columns(place, [chosen_part(place, names)])[0]
    else:
        labels = _ARRAYS[place.path.suffix](place)
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.shape != (rows,):
        raise DataError(f"{place}: must hold one class for each of {rows:,} rows, and has shape {labels.shape}")
    return labels


# ---------------------------------------------------------------------------------------------- arrays without names


def _npz(place: Place) -> Array:
    name = chosen_part(place, npz_names(place.path))
    return load_arrays(place.path, (name,), max_bytes=_MAX_UNPACKED)[name]


def _pt(place: Place) -> Array:
    tensors = load_tensors(place.path)
    array: Array = tensors[chosen_part(place, tuple(tensors))].numpy()
    return array


_ARRAYS = {".npy": lambda place: map_npy(place.path), ".npz": _npz, ".pt": _pt}
"""Readers of arrays that have no names for their columns."""


def _array(place: Place, wanted: Wanted) -> Table:
    array = _ARRAYS[place.path.suffix](place)
    check_room(place, array.shape, 0)
    if wanted.points is None:
        return Table(array, numbered(int(np.prod(array.shape[1:]))))
    if array.ndim != 2:
        raise DataError(f"{place}: columns= is for rows of numbers, and it has shape {array.shape}")
    chosen = columns_of(place, wanted.points, numbered(array.shape[1]))
    return Table(array[:, chosen], wanted.points)


# -------------------------------------------------------------------------------------------------------- text tables


def _csv(place: Place, wanted: Wanted) -> Table:
    """Read a table with commas; the first line holds names unless all of it is numbers."""
    import pandas as pd  # here: slow to import

    try:
        first = pd.read_csv(place.path, header=None, nrows=1, dtype=str, keep_default_na=False)
        names = [str(name).strip() for name in first.iloc[0]]
        headless = all(_is_number(name) for name in names)
        if len(names) == 1:
            _check_commas(place, names[0], numbers=False)
        names = list(numbered(len(names))) if headless else names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"{place}: several columns have the name '{twice[0]}'; give each its own")
        beside = [name for name in wanted.beside if name in names]
        columns = columns_of(place, wanted.points, names)
        columns = [k for k in columns if wanted.points is not None or names[k] not in beside]
        points: list[Array] = []
        others: dict[str, list[Array]] = {name: [] for name in beside}
        rows = 0
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # fields that would be dropped without a word
            warnings.simplefilter("ignore", pd.errors.DtypeWarning)
            with pd.read_csv(
                place.path,
                header=None,
                names=names,
                skiprows=0 if headless else 1,
                chunksize=_CSV_ROWS,
                index_col=False,
                skip_blank_lines=True,
            ) as reader:
                for chunk in reader:
                    points.append(_numbers(place, chunk, [names[k] for k in columns], rows))
                    rows += len(chunk)
                    check_room(place, (rows, len(columns)), 16)
                    for name, parts in others.items():
                        parts.append(chunk[name].to_numpy(dtype=object))
        return Table(
            np.concatenate(points),
            tuple(names[k] for k in columns),
            {name: np.concatenate(parts) for name, parts in others.items()},
            tuple(names),
        )
    except (DataError, UsageError):
        raise
    except OSError as error:
        raise unreadable(place.path, error) from error
    except (ValueError, EOFError, pd.errors.ParserWarning) as error:  # pandas' parser errors are ValueErrors
        raise _no_table(place) from error


def _numbers(place: Place, chunk: Any, names: list[str], rows: int) -> Array:
    """Return columns of a chunk as numbers, float64; `rows` were read before it."""
    import pandas as pd

    for name in names:
        column = chunk[name]
        if pd.api.types.is_numeric_dtype(column):
            continue
        found = pd.to_numeric(column, errors="coerce")
        text = (found.isna() & column.notna()).to_numpy()
        if text.any():
            at = int(np.argmax(text))
            _check_commas(place, str(column.iloc[at]), numbers=True)
            raise DataError(
                f"{place}: column '{plain(name, 40)}' holds text, first '{plain(str(column.iloc[at]), 40)}' in row "
                f"{rows + at}; name the columns of numbers, as in columns=a|b|c"
            )
        chunk[name] = found
    array: Array = chunk[names].to_numpy(dtype=np.float64)
    return array


def _lines(place: Place) -> Array:
    """Return the only column of a text table, its first line included."""
    import pandas as pd

    try:
        table = pd.read_csv(place.path, header=None, dtype=str, keep_default_na=False)
    except OSError as error:
        raise unreadable(place.path, error) from error
    except ValueError as error:
        raise _no_table(place) from error
    if table.shape[1] != 1:
        raise DataError(f"{place}: must hold one column of classes, and has {table.shape[1]}")
    lines: Array = table[0].to_numpy(dtype=object)
    return lines


def _check_commas(place: Place, field: str, *, numbers: bool) -> None:
    """Look whether a field between commas holds several of a table that is separated otherwise; if asked, of `numbers`.

    Raises:
        DataError: it does.
    """
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if mark in field and (not numbers or all(map(_is_number, field.split(mark)))):
            raise DataError(f"{place}: its columns are separated by {name}; save it with commas, decimals with a point")


def _no_table(place: Place) -> DataError:
    """Return what is wrong with a text file that pandas does not take, found by the standard library's reader."""
    try:
        with place.path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            rows = (row for row in reader if row)
            first = next(rows, None)
            if first is None:
                return DataError(f"{place}: is empty; it must hold rows of numbers")
            for row in rows:
                if len(row) > len(first):
                    return DataError(
                        f"{place}: its first line has {len(first)} fields, and line {reader.line_num} has {len(row)}; "
                        "give each line as many (decimals are written with a point)"
                    )
    except UnicodeDecodeError:
        return DataError(f"{place}: is not UTF-8 text; save it as CSV in UTF-8")
    except (csv.Error, OSError):
        pass
    return DataError(
        f"{place}: cannot be read as a table with commas; a quotation mark may be open, or the file cut off"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------------ parquet


def _parquet(place: Place, wanted: Wanted) -> Table:
    import pyarrow as pa  # here: slow to import
    from pyarrow import parquet

    names = _parquet_names(place)
    beside = [name for name in wanted.beside if name in names]
    try:
        with parquet.ParquetFile(place.path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _no_parquet(place) from error

    def numeric(name: str) -> bool:
        kind = schema.field(name).type
        return any(is_(kind) for is_ in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal))

    columns = [names[k] for k in columns_of(place, wanted.points, names)]
    if wanted.points is None:
        columns = [name for name in columns if name not in beside and numeric(name)]
    elif text := [name for name in columns if not numeric(name)]:
        raise DataError(f"{place}: column '{text[0]}' holds {schema.field(text[0]).type}, not numbers")
    if not columns:
        raise DataError(f"{place}: none of its columns holds numbers: {few(names, SHOWN)}")
    check_room(place, (rows, len(columns)), 16)
    arrays = _parquet_columns(place, [*columns, *beside])
    points = np.column_stack([array.astype(np.float64) for array in arrays[: len(columns)]])
    return Table(points, tuple(columns), dict(zip(beside, arrays[len(columns) :], strict=True)), names)


def _parquet_names(place: Place) -> tuple[str, ...]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        names = tuple(parquet.read_schema(place.path).names)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _no_parquet(place) from error
    if len(set(names)) < len(names):
        raise DataError(f"{place}: several columns have the same name; give each its own")
    return names


def _parquet_columns(place: Place, names: list[str]) -> list[Array]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(place.path, columns=names)
        return [table.column(name).to_pandas().to_numpy() for name in names]
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise _no_parquet(place) from error


def _no_parquet(place: Place) -> DataError:
    return DataError(f"{place}: not a readable Parquet file; it may be truncated or of another kind")


READERS: Mapping[str, Reader] = {
    ".npy": _array,
    ".npz": _array,
    ".csv": _csv,
    ".parquet": _parquet,
    ".pt": _array,
    ".h5ad": h5ad.read,
}
"""By the ending of a file."""
