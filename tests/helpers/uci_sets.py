"""Small tables of the forms of the UCI sets, the archive that holds them, and the task that reads them."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pooch
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from otbench.data.remote import RemoteFile
from otbench.datasets.uci import REAL, UCI, UCIConfig, UCIInstance, files, tables

Array = NDArray[np.float64]


CPU = torch.device("cpu")


DATA_DIR = os.environ.get("OTBENCH_DATA_DIR")


def needs(*parts: str) -> pytest.MarkDecorator:
    place = Path(DATA_DIR or "nowhere", *parts)
    return pytest.mark.skipif(not place.exists(), reason=f"set OTBENCH_DATA_DIR to a folder with {'/'.join(parts)}")


def task(name: str, data_dir: Path | None = None, scaling: tables.Scaling = "zscore") -> UCI:
    return UCI(UCIConfig(set=name, scaling=scaling), data_dir=data_dir)  # type: ignore[arg-type]


def build(given: UCI, seed: int = 0, dtype: torch.dtype = torch.float32) -> UCIInstance:
    given.check()
    return given.build(seed=seed, device=CPU, dtype=dtype)


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def power_rows(n: int = 400) -> Array:
    rng = np.random.default_rng(1)
    meters = rng.integers(0, 30, (n, 3))
    rows = [rng.random(n).round(3), rng.random(n), 240 + rng.random(n).round(2), rng.random(n), *meters.T]
    return np.column_stack([*rows, np.arange(n) % 1440]).astype(float)


def gas_rows(n: int = 400) -> Array:
    """Sixteen sensors: each odd one nearly repeats the one before it."""
    base = random(n, 8)
    rows = np.repeat(base, 2, axis=1)
    rows[:, 1::2] += 1e-3 * random(n, 8, seed=2)
    return 5 + 3 * rows


def hepmass_rows(n: int = 400, extra: int = 0, seed: int = 3) -> Array:
    """Label, 27 features of which six take few values, and more columns."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, 27 + extra))
    features[:, 20:26] = rng.integers(0, 3, (n, 6))
    return np.column_stack(((np.arange(n) % 2), features)).astype(float)


def write_csv(path: Path, rows: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = "# label," + ",".join(f"f{k}" for k in range(rows.shape[1] - 1))
    text = header + "\n" + "\n".join(",".join(repr(float(x)) for x in row) for row in rows) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def write_npy(path: Path, rows: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, rows)


def write_h5(path: Path, rows: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, part in zip(("train", "validation", "test"), np.split(rows, [300, 350]), strict=True):
            file[key] = part


def write_whole(name: str, folder: Path) -> None:
    """Write the whole set in the archive's form, with 400 rows."""
    if name == "power":
        write_npy(folder / "power" / "data.npy", power_rows())
    elif name == "gas":
        write_old_table(folder / "gas" / "ethylene_CO.pickle", gas_rows())
    elif name == "hepmass":
        write_csv(folder / "hepmass" / "1000_train.csv", hepmass_rows())
        write_csv(folder / "hepmass" / "1000_test.csv", hepmass_rows(extra=1, seed=4))
    elif name == "miniboone":
        write_npy(folder / "miniboone" / "data.npy", random(400, 43))
    else:
        write_h5(folder / "BSDS300" / "BSDS300.hdf5", 0.1 * random(400, 63))


SMALL = {
    "power": (6, 324, 36, 40),
    "gas": (8, 324, 36, 40),
    "hepmass": (21, 180, 20, 200),
    "miniboone": (43, 324, 36, 40),
    "bsds300": (63, 300, 50, 50),
}
"""Dimension and sizes of the splits of what `write_whole` writes."""


class _OldPickler(pickle._Pickler):  # type: ignore[misc,name-defined]
    """Writes names of modules that are long gone."""

    def save_global(self, obj: type, name: str | None = None) -> None:
        self.write(f"c{obj.__module__}\n{obj.__qualname__}\n".encode())
        self.memoize(obj)


def old(module: str, name: str) -> type:
    def __reduce__(self: object) -> object:  # noqa: N807
        return self.made_by, self.made_of, *self.state  # type: ignore[attr-defined]

    return type(name, (), {"__module__": module, "__reduce__": __reduce__})


def old_object(module: str, name: str, args: tuple[object, ...], *state: object) -> object:
    cls = old(module, name)
    made = cls()
    vars(made).update(made_by=cls, made_of=args, state=state)
    return made


def old_array(values: Array) -> object:
    kind = old_object("numpy", "dtype", ("f8", 0, 1), (3, "<", None, None, None, -1, -1, 0))
    raw = old_object("_codecs", "encode", (values.tobytes().decode("latin1"), "latin1"))
    args = (old("numpy", "ndarray"), (0,), b"b")
    return old_object("numpy.core.multiarray", "_reconstruct", args, (1, values.shape, kind, False, raw))


def write_old_table(path: Path, sensors: Array) -> None:
    """Write a DataFrame as the pandas of 2017 pickled it: two blocks, text for the names of columns."""
    names = ["Time", "Meth", "Eth", *(f"R{k}" for k in range(1, 17))]
    columns = np.vstack((np.zeros((3, len(sensors))), sensors.T))
    kind = old_object("numpy", "dtype", ("O8", 0, 1), (3, "|", None, None, None, -1, -1, 63))
    array = old_object(
        "numpy.core.multiarray", "_reconstruct", (old("numpy", "ndarray"), (0,), b"b"), (1, (19,), kind, False, names)
    )
    index = old_object("pandas.indexes.base", "_new_Index", (old("pandas.indexes.base", "Index"), {"data": array}))
    blocks = [
        {"values": old_array(columns[:2]), "mgr_locs": old_object("__builtin__", "slice", (0, 2, 1))},
        {"values": old_array(columns[2:]), "mgr_locs": old_object("__builtin__", "slice", (2, 19, 1))},
    ]
    state = ([index, index], [], [], {"0.14.1": {"axes": [index, index], "blocks": blocks}})
    manager = old_object("pandas.core.internals", "BlockManager", (), state)
    frame = old_object("pandas.core.frame", "DataFrame", (), {"_data": manager, "_typ": "dataframe"})
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        _OldPickler(stream, protocol=2).dump(frame)


def write_images(folder: Path, train: int = 10, test: int = 1) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        (folder / "BSDS300" / part).mkdir(parents=True)
        for k in range(count):
            image = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
            image.save(folder / "BSDS300" / part / f"{k:03}.jpg")


def make_archive(folder: Path, *, leave_out: str = "") -> bytes:
    for name in REAL:
        write_whole(name, folder / "data")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for path in sorted((folder / "data").rglob("*")):
            if path.is_file() and path.name != leave_out:
                archive.add(path, path.relative_to(folder))
    return stream.getvalue()


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes, known: bytes | None = None) -> list[str]:
    asked: list[str] = []

    def download(self: object, url: str, output_file: str, pooch: object) -> None:
        asked.append(url)
        Path(output_file).write_bytes(content)

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", download)
    md5 = hashlib.md5(content if known is None else known).hexdigest()
    monkeypatch.setattr(
        files, "ARCHIVE", RemoteFile("http://127.0.0.1:9/data.tar.gz", None, ("maf/data.tar.gz",), md5=md5)
    )
    return asked


def left(cache: Path) -> list[str]:
    """What lies in the cache, but for remembered digests."""
    return [str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()] if cache.exists() else []
