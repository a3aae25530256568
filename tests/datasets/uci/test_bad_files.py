"""Damaged, foreign and hostile files of the sets: one message each, and nothing is left behind."""

from __future__ import annotations

import gzip
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from otbench.errors import DataError

from ...helpers.uci_sets import (
    gas_rows,
    hepmass_rows,
    left,
    power_rows,
    random,
    task,
    write_csv,
    write_h5,
    write_images,
    write_npy,
    write_old_table,
)

Cli = Callable[..., tuple[int, str, str]]


class Trap:
    """Leaves a mark when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def break_power(kind: str, folder: Path) -> None:
    path = folder / "power" / "data.npy"
    rows = power_rows()
    write_npy(path, rows)
    if kind == "columns":
        write_npy(path, rows[:, :5])
    elif kind == "NaN":
        rows[3, 2] = np.nan
        write_npy(path, rows)
    elif kind == "constant":
        rows[:, 7] = 3
        write_npy(path, rows)
    elif kind == "text":
        write_npy(path, np.array([["one", "two"]]))
    elif kind == "pickle":
        np.save(path, np.array([Trap(), 1], dtype=object), allow_pickle=True)
    elif kind == "huge":
        path.write_bytes(npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776, 8)}"))
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "few":
        write_npy(path, rows[:9])


def break_minutes(kind: str, folder: Path) -> None:
    path = folder / "POWER_subset" / "minutes.npz"
    path.parent.mkdir()
    values, minutes = power_rows()[:, :7], np.arange(400)
    if kind == "columns":
        np.savez(path, values=values[:, :6], minutes_since_2006_12_16=minutes)
    elif kind == "rows":
        np.savez(path, values=values, minutes_since_2006_12_16=minutes[:-1])
    elif kind == "lacking":
        np.savez(path, values=values)
    elif kind == "gaps":
        np.savez(path, values=values * np.nan, minutes_since_2006_12_16=minutes)
    elif kind == "pickle":
        np.savez(path, values=np.array([Trap()], dtype=object), minutes_since_2006_12_16=minutes)
    elif kind == "truncated":
        np.savez(path, values=values, minutes_since_2006_12_16=minutes)
        path.write_bytes(path.read_bytes()[:1000])


def break_hepmass(kind: str, folder: Path) -> None:
    train, test = (folder / "hepmass" / f"1000_{part}.csv" for part in ("train", "test"))
    write_csv(train, hepmass_rows())
    write_csv(test, hepmass_rows())
    lines = train.read_text().splitlines()
    if kind == "text":
        lines[5] = lines[5].replace("1.0", "one", 1) if "1.0" in lines[5] else "one" + lines[5][3:]
        train.write_text("\n".join(lines))
    elif kind == "NaN":
        lines[5] = ",".join(["nan", *lines[5].split(",")[1:]])
        train.write_text("\n".join(lines))
    elif kind == "columns":
        write_csv(test, hepmass_rows(extra=3))
    elif kind == "ragged":
        lines[5] += ",1,2,3"
        train.write_text("\n".join(lines))
    elif kind == "truncated":
        content = gzip.compress(train.read_bytes())
        train.unlink()
        train.with_name("1000_train.csv.gz").write_bytes(content[: len(content) // 2])
    elif kind == "binary":
        train.write_bytes(b"\x00\xff" * 1000)
    elif kind == "background":
        rows = hepmass_rows()
        rows[:, 0] = 0
        write_csv(train, rows)
    elif kind == "empty":
        train.write_text("")


def break_h5(kind: str, folder: Path) -> None:
    path = folder / "BSDS300" / "BSDS300.hdf5"
    good = folder / "good.hdf5"
    write_h5(path, random(400, 63))
    write_h5(good, random(400, 63))
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
        return
    if kind == "no h5":
        path.write_bytes(b"these are other bytes" * 100)
        return
    with h5py.File(path, "a") as file:
        del file["train"]
        if kind == "external link":
            file["train"] = h5py.ExternalLink(str(good), "/train")
        elif kind == "soft link":
            file["train"] = h5py.SoftLink("/test")
        elif kind == "external storage":
            file.create_dataset("train", (10, 63), "f8", external=[(str(folder / "raw"), 0, 10 * 63 * 8)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((300, 63), "f8")
            layout[:] = h5py.VirtualSource(good, "train", (300, 63))
            file.create_virtual_dataset("train", layout)
        elif kind == "huge":
            file.create_dataset("train", (2**40, 63), "f8", chunks=(1000, 63))
        elif kind == "columns":
            file["train"] = random(300, 64)
        elif kind == "integers":
            file["train"] = np.zeros((300, 63), dtype=int)
        elif kind == "text":
            file["train"] = ["one", "two"]
        elif kind == "group":
            file.create_group("train")
        elif kind == "NaN":
            file["train"] = random(300, 63) * np.nan


def break_pickle(kind: str, folder: Path) -> None:
    path = folder / "gas" / "ethylene_CO.pickle"
    write_old_table(path, gas_rows())
    if kind == "trap":
        path.write_bytes(pickle.dumps(Trap()))
    elif kind == "eval":
        path.write_bytes(b'cbuiltins\neval\n(S\'open("unpickled", "w")\'\ntR.')
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-500])
    elif kind == "columns":
        write_old_table(path, np.column_stack((gas_rows(), gas_rows()))[:, :15])
    elif kind == "number":
        path.write_bytes(pickle.dumps(42))
    elif kind == "text":
        path.write_text("time, sensors")


def break_gas_text(kind: str, folder: Path) -> None:
    path = folder / "gas" / "ethylene_CO.txt"
    path.parent.mkdir()
    line = " ".join(["1.5"] * (18 if kind == "columns" else 19)) + "\n"
    text = "header\n" + line * 100
    path.write_text(text if kind != "text" else text.replace("1.5 1.5 1.5\n", "1.5 high 1.5\n", 1))


def break_image(kind: str, folder: Path) -> None:
    write_images(folder)
    path = folder / "BSDS300" / "train" / "003.jpg"
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:300])
    elif kind == "small":
        Image.new("RGB", (5, 5)).save(path)
    elif kind == "large":
        Image.new("1", (5000, 10)).save(path, format="PNG")
    elif kind == "no image":
        path.write_bytes(b"GIF89a, or so it says")


BAD: dict[Callable[[str, Path], None], tuple[str, dict[str, str]]] = {
    break_power: (
        "power",
        {
            "columns": "wrong number of columns: expected 8",
            "NaN": "hold NaN or infinity, the first is row 4",
            "constant": "is constant",
            "text": "not numeric",
            "pickle": "Python objects",
            "huge": "is damaged",
            "truncated": "is damaged",
            "empty": "not a readable .npy",
            "folder": "is a folder",
            "few": "only 9 rows",
        },
    ),
    break_minutes: (
        "power",
        {
            "columns": "wrong number of columns",
            "rows": "does not fit 400 rows",
            "lacking": "lacks minutes_since",
            "gaps": "only 0 rows",
            "pickle": "Python objects",
            "truncated": "not a readable .npz",
        },
    ),
    break_hepmass: (
        "hepmass",
        {
            "text": "not a readable table of numbers",
            "NaN": "hold NaN or infinity, the first is row 5",
            "columns": "wrong number of columns: expected 28",
            "ragged": "not a readable table of numbers",
            "truncated": "not a readable table of numbers",
            "binary": "not a readable table of numbers",
            "background": "only 0 and 200 signal rows",
            "empty": "not a readable table of numbers",
        },
    ),
    break_h5: (
        "bsds300",
        {
            "truncated": "not a readable HDF5 file",
            "no h5": "not a readable HDF5 file",
            "external link": "'train' is missing or a link",
            "soft link": "'train' is missing or a link",
            "missing": "'train' is missing or a link",
            "external storage": "with its own content",
            "virtual": "with its own content",
            "huge": "wrong number of columns or rows",
            "columns": "wrong number of columns or rows",
            "integers": "has dtype int64",
            "text": "has dtype object",
            "group": "with its own content",
            "NaN": "hold NaN or infinity",
        },
    ),
    break_pickle: (
        "gas",
        {
            "trap": "it names posix.mkdir",
            "eval": "expected a DataFrame, found eval",
            "truncated": "not read",
            "columns": "not read|wrong number of columns",
            "number": "expected a DataFrame, found int",
            "text": "not read",
        },
    ),
    break_gas_text: (
        "gas",
        {"columns": "wrong number of columns", "text": "not a readable table of numbers", "constant": "is constant"},
    ),
    break_image: (
        "bsds300",
        {
            "truncated": "not a readable image",
            "small": "an image of 5x5 pixels",
            "large": "an image of 5000x10 pixels",
            "no image": "not a readable image",
        },
    ),
}


CASES = [(make, name, kind, text) for make, (name, kinds) in BAD.items() for kind, text in kinds.items()]


@pytest.mark.parametrize(
    ("make", "name", "kind", "message"), CASES, ids=[f"{make.__name__[6:]}-{kind}" for make, _, kind, _ in CASES]
)
def test_bad_files_are_refused_with_one_message_and_leave_nothing(
    make: Callable[[str, Path], None],
    name: str,
    kind: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    make(kind, tmp_path)
    with pytest.raises(DataError, match=message) as error:
        task(name, tmp_path).check()
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    assert left(cache) == []
    assert not (tmp_path / "unpickled").exists()


def test_the_message_is_all_that_a_command_says(tmp_path: Path, cache: Path, cli: Cli) -> None:
    break_power("text", tmp_path)
    words = ("--solvers", "ncf", "--task", "uci[set=power]", "--device", "cpu", "--dry-run")
    code, out, err = cli(*words, "--data-dir", tmp_path, "--out", tmp_path / "out")
    assert code == 2, out + err
    assert "not numeric" in err
    assert len(err.splitlines()) == 1, err
    assert left(cache) == []
