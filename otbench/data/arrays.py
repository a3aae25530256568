"""Numeric arrays from .npz and .npy files that may be hostile: no pickle, no unbounded allocation."""

from __future__ import annotations

import contextlib
import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from otbench.errors import DataError
from otbench.files import require_file, unreadable

MAX_BYTES = 2**30
"""Arrays of one file may take this many bytes once unpacked, unless a task says otherwise."""


def load_npz(
    path: Path, names: Sequence[str], *, optional: Sequence[str] = (), max_bytes: int = MAX_BYTES
) -> dict[str, NDArray[np.float64]]:
    """Read numeric arrays from an .npz file that may be hostile: no pickle, no unbounded allocation.

    Args:
        path: the file.
        names: arrays that must be there.
        optional: arrays that may be there.
        max_bytes: what the arrays may take once unpacked, in bytes; checked in the zip directory before reading.

    Returns:
        The arrays by name, converted to float64; optional ones only if present.

    Raises:
        DataError: the file is missing, unreadable, not an npz, damaged, too large, lacks an array, or holds one that
            is not numeric.
    """
    arrays = load_arrays(path, names, optional=optional, max_bytes=max_bytes)
    return {name: array.astype(np.float64, order="C") for name, array in arrays.items()}


def load_arrays(
    path: Path, names: Sequence[str], *, optional: Sequence[str] = (), max_bytes: int = MAX_BYTES
) -> dict[str, NDArray[np.generic]]:
    """Read numeric arrays as `load_npz` does, but in the types that they have in the file; read-only.

    Raises:
        DataError: as `load_npz`.
    """
    with _readable(path, "npz", "savez"), zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        missing = [name for name in names if name not in members]
        if missing:
            held = ", ".join(sorted(members)[:20]) or "nothing"
            raise DataError(
                f"{path}: lacks {', '.join(missing)}; it holds {held}. Save with np.savez(path, name=array)"
            )
        wanted = [name for name in (*names, *optional) if name in members]
        size = sum(members[name].file_size for name in wanted)
        if size > max_bytes:
            raise DataError(f"{path}: unpacks to {size:,} bytes, more than the {max_bytes:,} that are read from it")
        arrays = {}
        for name in wanted:
            with archive.open(members[name]) as stream:
                content = stream.read(members[name].file_size)
                stream.read(1)  # at the end of the stream the checksum of the member is compared
            arrays[name] = _parse(content, f"{path}: {name}")
        return arrays


def load_npy(path: Path, *, max_bytes: int = MAX_BYTES) -> NDArray[np.float64]:
    """Read a numeric array from an .npy file that may be hostile: no pickle, no unbounded allocation.

    Args:
        path: the file.
        max_bytes: the largest file that is read.

    Returns:
        The array, converted to float64.

    Raises:
        DataError: the file is missing, unreadable, not an npy, damaged, too large, or not numeric.
    """
    with _readable(path, "npy", "save"):
        size = path.stat().st_size
        if size > max_bytes:
            raise DataError(f"{path}: has {size:,} bytes, more than the {max_bytes:,} that are read from it")
        return _parse(path.read_bytes(), str(path)).astype(np.float64, order="C")


def map_npy(path: Path) -> NDArray[np.generic]:
    """Return a numeric array from an .npy file that may be hostile, mapped into memory: rows are read as they are used.

    Raises:
        DataError: the file is missing, unreadable, not an npy, damaged, or not numeric.
    """
    with _readable(path, "npy", "save"), path.open("rb") as stream:
        shape, fortran_order, dtype = _header(stream, str(path))
        start, size = stream.tell(), path.stat().st_size
        _check_size(shape, dtype, size - start, str(path))
        if not math.prod(shape):
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", offset=start, shape=shape, order="F" if fortran_order else "C")


def npz_names(path: Path) -> tuple[str, ...]:
    """Return the names of the arrays in an .npz file.

    Raises:
        DataError: the file is missing, unreadable, not an npz, or damaged.
    """
    with _readable(path, "npz", "savez"), zipfile.ZipFile(path) as archive:
        return tuple(name.removesuffix(".npy") for name in archive.namelist())


@contextlib.contextmanager
def _readable(path: Path, kind: str, save: str) -> Iterator[None]:
    """Say what is wrong with a file that cannot be read inside."""
    require_file(path)
    try:
        yield
    except DataError:
        raise
    except PermissionError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # a damaged or hostile file can raise anything from the zip and header parsers
        why = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataError(
            f"{path}: not a readable .{kind} file ({why}); it may be truncated or of another kind. Save it again with "
            f"np.{save}"
        ) from error


def _parse(content: bytes, what: str) -> NDArray[np.generic]:
    """Return the array of one .npy member; its header is checked before anything is allocated."""
    stream = io.BytesIO(content)
    shape, fortran_order, dtype = _header(stream, what)
    start = stream.tell()
    _check_size(shape, dtype, len(content) - start, what)
    flat: NDArray[np.generic] = np.frombuffer(content, dtype=dtype, offset=start)
    return flat.reshape(shape, order="F" if fortran_order else "C")


def _header(stream: IO[bytes], what: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Read shape, order and type from the head of an .npy stream, which is left where the numbers begin."""
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(stream)
    if dtype.hasobject:
        raise DataError(f"{what} holds Python objects; only numeric arrays are read (pickle could run any code)")
    if dtype.kind not in "fiu":
        raise DataError(f"{what} has dtype {dtype}, which is not numeric; save it as float64")
    return shape, fortran_order, dtype


def _check_size(shape: Sequence[int], dtype: np.dtype[np.generic], size: int, what: str) -> None:
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size:
        raise DataError(f"{what} is damaged: shape {tuple(shape)} of {dtype} does not fit its {size} bytes")
