"""Reads the one pickled table of the MAF archive (GAS) without running what a pickle can ask for.

A pickle is a program: it names functions and has them called. Here no name is ever looked up. Whatever a pickle names
becomes a `_Named`, which only remembers what it was called with; the table is then read out of these memories, in the
form that pandas wrote before version 1.1 (a DataFrame around a BlockManager around numpy arrays).
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from otbench.data.arrays import MAX_BYTES
from otbench.errors import DataError
from otbench.files import require_file

_HOMES = ("pandas.", "numpy.", "numpy", "_codecs", "copy_reg", "copyreg", "__builtin__", "builtins")
"""Modules that a pickled table may name; anything else is no table."""
_NUMBERS = ("f8", "f4", "i8", "i4")


class _Named:
    """Stands for whatever a pickle names: remembers its arguments and its state, does nothing."""

    args: tuple[object, ...]
    state: object = None

    def __new__(cls, *args: object) -> _Named:
        made = super().__new__(cls)
        made.args = args
        return made

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, encoding="latin1")

    def find_class(self, module: str, name: str) -> type[_Named]:
        if module not in _HOMES and not module.startswith(("pandas.", "numpy.")):
            raise DataError(f"it names {module}.{name}, which no table needs")
        return type(name, (_Named,), {})

    def persistent_load(self, pid: object) -> object:
        raise DataError("it refers to data outside of the file")


def read_table(path: Path) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Return column names and the values, shape (rows, columns), float64, of a DataFrame pickled by an old pandas.

    Raises:
        DataError: the file is missing, unreadable, too large, or holds anything but such a table.
    """
    require_file(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"more than {MAX_BYTES:,} bytes")
        with path.open("rb") as stream:
            return _table(_Reader(stream).load())
    except Exception as error:  # a hostile pickle can raise anything, MemoryError and RecursionError too
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataError(
            f"{path}: not read: {reason}. Of pickles, only the plain table of the MAF archive is read, and nothing "
            "in it is run; ethylene_CO.txt of the UCI repository in the same folder is read as well"
        ) from error


def _table(frame: object) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    state = _known(frame, "DataFrame").state
    if not isinstance(state, dict):
        raise DataError("no state of a DataFrame")
    manager = _known(state.get("_data"), "BlockManager").state
    if not (isinstance(manager, tuple) and manager and isinstance(manager[-1], dict)):
        raise DataError("no blocks in the form of pandas 0.14 to 1.0")
    inner = manager[-1]["0.14.1"]
    names = _column_names(inner["axes"][0])
    blocks = [(_array(block["values"]), _places(block["mgr_locs"])) for block in inner["blocks"]]
    rows = blocks[0][0].shape[1]
    table = np.full((rows, len(names)), np.nan)
    for values, places in blocks:
        table[:, places] = values.T
    return names, table


def _known(value: object, name: str) -> _Named:
    if not isinstance(value, _Named) or type(value).__name__ != name:
        raise DataError(f"expected a {name}, found {type(value).__name__}")
    return value


def _column_names(index: object) -> tuple[str, ...]:
    fields = _known(index, "_new_Index").args[1]
    if not isinstance(fields, dict):
        raise DataError("no names of columns")
    state = _known(fields["data"], "_reconstruct").state
    if not (isinstance(state, tuple) and isinstance(state[4], list)):
        raise DataError("no names of columns")
    return tuple(str(name) for name in state[4])


def _places(value: object) -> NDArray[np.int64] | slice:
    """Return the columns of a block: pandas wrote a slice or an array of positions."""
    if isinstance(value, _Named) and type(value).__name__ == "slice":
        bounds = [None if bound is None else int(str(bound)) for bound in value.args]
        return slice(*bounds)
    return _array(value).astype(np.int64)


def _array(value: object) -> NDArray[np.float64]:
    """Return the array that numpy's `_reconstruct` and its state describe, as float64."""
    state = _known(value, "_reconstruct").state
    if not isinstance(state, tuple) or len(state) != 5:
        raise DataError("an array without content")
    _, shape, kind, fortran, content = state
    dtype = _known(kind, "dtype")
    code = str(dtype.args[0]).lstrip("<=")
    if code not in _NUMBERS or (isinstance(dtype.state, tuple) and dtype.state[1] not in ("<", "=")):
        raise DataError(f"an array of type {dtype.args[0]}, not of numbers")
    if isinstance(content, _Named) and type(content).__name__ == "encode":
        content = content.args[0]
    raw = content.encode("latin1") if isinstance(content, str) else content
    if not isinstance(raw, bytes) or math.prod(shape) * int(code[1]) != len(raw):
        raise DataError("an array whose shape does not fit its content")
    flat = np.frombuffer(raw, dtype=f"<{code}")
    return flat.reshape(shape, order="F" if fortran else "C").astype(np.float64)
