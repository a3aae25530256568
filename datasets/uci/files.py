"""Where the real UCI sets are looked for, and how their raw files are read.

In a user's folder: the files of the MAF archive under their names there, or parts of a set (MAF's split files, a table
of minutes for POWER, the images of BSDS300). Else: the MAF archive, downloaded once for all five sets.
"""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from otbench.config import Value
from otbench.data.arrays import load_npy, load_npz
from otbench.data.hdf5 import own, reading
from otbench.data.prepared import Content, Made, Prepared, digest_of, lookup, prepare, scratch
from otbench.data.remote import RemoteFile, cached_copy, locate, users_copy
from otbench.datasets.uci import patches, tables
from otbench.datasets.uci.pickled import read_table
from otbench.datasets.uci.tables import PUBLISHED, Array, Scaling, Splits
from otbench.errors import DataError
from otbench.files import require_file

VERSION = 1
"""Of the preprocessing: a new one prepares all sets anew."""
ARCHIVE = RemoteFile(
    "https://zenodo.org/records/1161203/files/data.tar.gz?download=1",
    None,
    ("maf/data.tar.gz",),
    mirrors=("https://zenodo.org/api/records/1161203/files/data.tar.gz/content",),
    md5="9b9c9b0375315ad270eba4ce80c093ab",
    size=800_000_000,  # rounded
)
"""All five sets as MAF preprocessed them. Zenodo publishes an MD5 and nothing stronger."""
_MEMBERS = {
    "power": ("power/data.npy",),
    "gas": ("gas/ethylene_CO.pickle",),
    "hepmass": ("hepmass/1000_train.csv", "hepmass/1000_test.csv"),
    "miniboone": ("miniboone/data.npy",),
    "bsds300": ("BSDS300/BSDS300.hdf5",),
}
_MAX_MEMBER = 2**32
_MAX_ROWS = 10_000_000
_CHUNK = 200_000
_GAS_EVERY = 4
"""The archive's table has 1 052 065 rows: a quarter of the 4 208 261 of the UCI text file."""
_MINUTES_A_DAY = 1440


@dataclass(frozen=True)
class Raw:
    """A set that was found.

    Attributes:
        files: all that it is read from.
        read: returns the splits in a scaling.
        whole: whether the files are of the kind that holds the whole set.
        why_partial: why it is not the published set, whatever its size; empty where it may be.
    """

    files: tuple[Path, ...]
    read: Callable[[Scaling], Splits]
    whole: bool = True
    why_partial: str = ""


def find(name: str, data_dir: Path) -> Raw | None:
    """Return what `data_dir` holds of a set: the whole before a part; None where it holds nothing of it."""
    return _FINDERS[name](data_dir)


def where(name: str, data_dir: Path | None) -> str | None:
    """Say where a set can be had from without a download, as `load` chooses; None where it cannot."""
    raw = find(name, data_dir) if data_dir is not None else None
    if raw is None or not raw.whole:
        if any(lookup(_from_archive(name, scaling)) is not None for scaling in get_args(Scaling)):
            return "prepared in the cache"
        archive = users_copy(ARCHIVE, data_dir) or cached_copy(ARCHIVE)
        if archive is not None:
            return str(archive)
    if raw is None:
        return None
    more = f" and {len(raw.files) - 1} more" if len(raw.files) > 1 else ""
    return f"{raw.files[0]}{more}{'' if raw.whole else ' (a part of the set)'}"


def load(name: str, scaling: Scaling, data_dir: Path | None, *, part: bool = True) -> Prepared:
    """Return a real set, prepared.

    Taken is the first that there is of: the whole set in `data_dir`; the archive, prepared or downloaded before; a part
    in `data_dir`; the archive, downloaded now.

    Args:
        name: of the set.
        scaling: one of the published ones.
        data_dir: the user's folder, if any.
        part: whether a part of the set will do.

    Raises:
        DataError: a file is damaged or of another form, or the download failed.
    """
    raw = find(name, data_dir) if data_dir is not None else None
    content = _from_archive(name, scaling)
    if raw is None or not raw.whole:
        found = lookup(content)
        if found is not None:
            return found
        archive = users_copy(ARCHIVE, data_dir) or cached_copy(ARCHIVE)
        if raw is None or archive is not None or not part:
            return prepare(content, lambda: _unpacked(name, scaling, locate(ARCHIVE, data_dir)))
    return prepare(_content(name, scaling, {"files": digest_of(raw.files)}), lambda: _made(name, scaling, raw))


def _from_archive(name: str, scaling: Scaling) -> Content:
    assert ARCHIVE.md5 is not None
    return _content(name, scaling, {"archive": ARCHIVE.md5})


def _content(name: str, scaling: Scaling, sources: Mapping[str, str]) -> Content:
    return Content(f"uci-{name}", VERSION, {} if name == "bsds300" else {"scaling": scaling}, sources)


def _unpacked(name: str, scaling: Scaling, archive: Path) -> Made:
    """Prepare a set from the archive, of which only the set's own files are unpacked, into a folder that is removed."""
    with scratch() as folder:
        wanted = {f"data/{member}": folder / member for member in _MEMBERS[name]}
        try:
            with tarfile.open(archive, "r:gz") as packed:
                for info in packed:
                    place = wanted.get(info.name.removeprefix("./"))
                    if place is None or place.exists():
                        continue
                    stream = packed.extractfile(info) if info.isfile() and info.size <= _MAX_MEMBER else None
                    if stream is None:
                        raise DataError(f"{archive}: {info.name} is not a plain file of a sensible size")
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with stream, place.open("wb") as copy:
                        shutil.copyfileobj(stream, copy, 2**20)
                    if all(path.exists() for path in wanted.values()):
                        break
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise DataError(
                f"{archive}: cannot be unpacked ({error}); remove it to have it downloaded again"
            ) from error
        missing = [member for member, path in wanted.items() if not path.exists()]
        if missing:
            raise DataError(f"{archive}: lacks {', '.join(missing)}; it is not the archive of {ARCHIVE.url}")
        raw = find(name, folder)
        assert raw is not None
        return _made(name, scaling, raw)


def _made(name: str, scaling: Scaling, raw: Raw) -> Made:
    splits = raw.read(scaling)
    facts: dict[str, Value] = {"partial": partial(name, splits, raw.why_partial)}
    return splits.arrays, facts, splits.names


def partial(name: str, splits: Splits, why: str = "") -> str:
    """Return how a set differs from the published one ("partial: ..."); empty where it does not."""
    dim, *sizes = PUBLISHED[name]
    reasons = []
    for what, rows, published in zip(("training", "validation", "test"), splits.arrays.values(), sizes, strict=True):
        if len(rows) != published:
            reasons.append(f"{spaced(len(rows))} of {spaced(published)} {what} rows")
    if splits.train.shape[1] != dim:
        reasons.append(f"{splits.train.shape[1]} columns instead of {dim}")
    reasons = reasons[:1] + ([why] if why else [])
    return f"partial: {', '.join(reasons)}" if reasons else ""


def spaced(number: int) -> str:
    """Return 1659917 as "1 659 917"."""
    return f"{number:,}".replace(",", " ")


# ------------------------------------------------------------------------------------------------------- the five sets


def _power(folder: Path) -> Raw | None:
    whole = folder / "power" / "data.npy"
    if whole.exists():
        return Raw((whole,), lambda scaling: tables.power(load_npy(whole), scaling, what=str(whole)))
    parts = _listed(folder / "POWER_subset", ".npz")
    if not parts:
        return None

    def read(scaling: Scaling) -> Splits:
        return tables.power(np.vstack([_power_minutes(path) for path in parts]), scaling, what=str(parts[0]))

    return Raw(parts, read, whole=False)


def _power_minutes(path: Path) -> Array:
    """Return MAF's columns from a table of minutes: rows without a gap, and the minute of the day behind them."""
    minutes = "minutes_since_2006_12_16"
    arrays = load_npz(path, ("values", minutes))
    values, minute = arrays["values"], arrays[minutes]
    columns = tables.POWER_COLUMNS - 1
    if values.ndim != 2 or values.shape[1] != columns:
        raise DataError(
            f"{path}: wrong number of columns: 'values' must have shape (rows, {columns}), not {values.shape}"
        )
    if minute.shape != values.shape[:1]:
        raise DataError(f"{path}: '{minutes}' has shape {minute.shape}, which does not fit {len(values)} rows")
    whole = ~np.isnan(values).any(1)
    return np.column_stack((values[whole], np.mod(minute[whole], _MINUTES_A_DAY)))


def _gas(folder: Path) -> Raw | None:
    table, text = folder / "gas" / "ethylene_CO.pickle", folder / "gas" / "ethylene_CO.txt"
    if table.exists():
        return Raw((table,), lambda scaling: tables.gas(_gas_table(table), scaling, what=str(table)))
    if text.exists():
        why = f"every {_GAS_EVERY}th row of the UCI text, not the archive's rows"
        return Raw((text,), lambda scaling: tables.gas(_gas_text(text), scaling, what=str(text)), why_partial=why)
    return None


def _gas_table(path: Path) -> Array:
    names, rows = read_table(path)
    return rows[:, [k for k, name in enumerate(names) if name not in ("Meth", "Eth", "Time")]]


def _gas_text(path: Path) -> Array:
    """Return every fourth row of the 16 sensors; the first three columns are time and two concentrations."""
    rows = _numbers(path, separator=r"\s+", every=_GAS_EVERY)
    columns = 3 + tables.GAS_SENSORS
    if rows.shape[1] != columns:
        raise DataError(f"{path}: wrong number of columns: expected {columns}, found {rows.shape[1]}")
    return rows[:, 3:]


def _hepmass(folder: Path) -> Raw | None:
    found = [
        [path for ending in ("", ".gz") if (path := folder / "hepmass" / f"1000_{part}.csv{ending}").exists()]
        for part in ("train", "test")
    ]
    if not all(found):
        return None
    train, test = found[0][0], found[1][0]

    def read(scaling: Scaling) -> Splits:
        return tables.hepmass(_numbers(train), _numbers(test), scaling, what=f"{train} and {test.name}")

    return Raw((train, test), read)


def _miniboone(folder: Path) -> Raw | None:
    whole = folder / "miniboone" / "data.npy"
    if whole.exists():
        return Raw((whole,), lambda scaling: tables.miniboone(load_npy(whole), scaling, what=str(whole)))
    train, validation, test = (folder / "MINIBOONE" / f"{part}.npy" for part in ("train", "val", "test"))
    if not (validation.exists() and test.exists()):
        return None
    files = (train, validation, test) if train.exists() else (validation, test)

    def read(scaling: Scaling) -> Splits:
        arrays = [load_npy(path) for path in files]
        known = arrays[1] if len(arrays) == 3 else None
        return tables.miniboone_splits(arrays[0], known, arrays[-1], scaling, what=str(files[0]))

    why = "" if train.exists() else "MAF's validation rows stand in for its training rows"
    return Raw(files, read, whole=train.exists(), why_partial=why)


def _bsds300(folder: Path) -> Raw | None:
    whole = folder / "BSDS300" / "BSDS300.hdf5"
    if whole.exists():
        return Raw((whole,), lambda scaling: tables.bsds300(*_hdf5(whole), what=str(whole)))
    train, test = (_listed(folder / "BSDS300" / part, ".jpg") for part in ("train", "test"))
    if len(train) < patches.VALIDATION_EVERY or not test:
        return None
    what = str(train[0].parent.parent)

    def read(scaling: Scaling) -> Splits:
        return tables.bsds300(*patches.cut(train, test), what=what)

    return Raw((*train, *test), read, whole=False, why_partial="patches cut anew from the images")


_FINDERS: Mapping[str, Callable[[Path], Raw | None]] = {
    "power": _power,
    "gas": _gas,
    "hepmass": _hepmass,
    "miniboone": _miniboone,
    "bsds300": _bsds300,
}


def _listed(folder: Path, ending: str) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.glob(f"*{ending}"))) if folder.is_dir() else ()


def _numbers(path: Path, *, separator: str = ",", every: int = 1) -> Array:
    """Return the rows of a text table below its line of names, float64; of `every` rows the last one."""
    import pandas as pd  # here: slow to import

    require_file(path)
    parts: list[Array] = []
    read = 0
    try:
        with pd.read_csv(
            path, sep=separator, header=None, skiprows=1, chunksize=_CHUNK, dtype=np.float64, index_col=False
        ) as reader:
            for chunk in reader:
                read += len(chunk)
                if read > _MAX_ROWS:
                    raise DataError(f"{path}: more than {_MAX_ROWS:,} rows; this is not the published file")
                parts.append(chunk.to_numpy()[every - 1 :: every])
        return np.vstack(parts)
    except DataError:
        raise
    except (ValueError, EOFError, OSError, zlib.error) as error:  # pandas' parser errors are ValueErrors
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataError(
            f"{path}: not a readable table of numbers ({reason}); it may be truncated or hold text. Get it again"
        ) from error


def _hdf5(path: Path) -> Sequence[Array]:
    """Return train, validation and test of a file that may be hostile: no links out of it, no unbounded allocation."""
    dim, *sizes = PUBLISHED["bsds300"]
    arrays = []
    with reading(path) as file:
        for key, most in zip(("train", "validation", "test"), sizes, strict=True):
            held = own(file, key, path)
            if held.dtype.kind != "f" or held.dtype.itemsize > 8:
                raise DataError(f"{path}: '{key}' has dtype {held.dtype}, not float32 or float64")
            if held.ndim != 2 or held.shape[1] != dim or held.shape[0] > most:
                raise DataError(
                    f"{path}: '{key}' has shape {held.shape}; wrong number of columns or rows: expected at most "
                    f"{most} rows of {dim}"
                )
            arrays.append(np.asarray(held[()], dtype=np.float64))
    return arrays
