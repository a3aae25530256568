"""Where the sets are looked for, how their files are read, and what of it is kept in the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from otbench.datasets.uci import REAL, UCISource, files, tables
from otbench.datasets.uci import pickled as uci_pickle
from otbench.errors import DataError
from otbench.problem import PoolMeasure
from otbench.task import Published

from ...helpers.uci_sets import (
    SMALL,
    build,
    gas_rows,
    hepmass_rows,
    left,
    make_archive,
    power_rows,
    random,
    serve,
    task,
    write_csv,
    write_npy,
    write_old_table,
    write_whole,
)

Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("name", REAL)
def test_small_whole_sets_are_read_and_said_to_be_partial(name: str, tmp_path: Path) -> None:
    write_whole(name, tmp_path)
    given = task(name, tmp_path)
    instance = build(given)
    dim, train, validation, test = SMALL[name]
    target = instance.problem.target
    assert isinstance(target, PoolMeasure)
    assert target.pool.shape == (train, dim)
    assert target.validation is not None
    assert target.validation.shape == (validation, dim)
    assert instance.test.target.x.shape == (test, dim)
    assert instance.facts["partial"] == f"partial: {train} of {files.spaced(tables.PUBLISHED[name][1])} training rows"
    assert str(instance.facts["partial"]) in given.describe()
    assert given.published() is None


@pytest.mark.parametrize("name", REAL)
def test_a_set_of_the_published_size_stands_beside_published_numbers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tables.PUBLISHED, name, SMALL[name])
    write_whole(name, tmp_path)
    given = task(name, tmp_path)
    assert given.published() == Published("uci", {"set": name})
    assert "partial" not in given.describe()


def test_power_minutes_drop_rows_with_gaps_and_keep_the_time_of_day(tmp_path: Path) -> None:
    rows = power_rows()
    values = rows[:, :7].copy()
    values[7, 2] = np.nan
    path = tmp_path / "POWER_subset" / "minutes.npz"
    path.parent.mkdir()
    np.savez(path, values=values, columns=np.array(["x"] * 7), minutes_since_2006_12_16=np.arange(400) + 5 * 1440)
    np.testing.assert_array_equal(files._power_minutes(path), np.delete(rows, 7, axis=0))
    assert "partial" in task("power", tmp_path).describe()


def test_gas_text_is_thinned_and_partial(tmp_path: Path) -> None:
    rows = np.column_stack((np.zeros((1600, 3)), gas_rows(1600)))
    path = tmp_path / "gas" / "ethylene_CO.txt"
    path.parent.mkdir()
    body = "\n".join("  ".join(f"{x:.17g}" for x in row) + "  " for row in rows)
    path.write_text("Time (seconds), CO conc (ppm), Ethylene conc (ppm), sensor readings (16 channels)\n" + body)
    np.testing.assert_array_equal(files._gas_text(path), rows[3::4, 3:])
    assert "every 4th row of the UCI text" in task("gas", tmp_path).describe()


def test_compressed_tables_are_read_alike(tmp_path: Path) -> None:
    for ending, folder in (("", tmp_path / "a"), (".gz", tmp_path / "b")):
        write_csv(folder / "hepmass" / f"1000_train.csv{ending}", hepmass_rows())
        write_csv(folder / "hepmass" / f"1000_test.csv{ending}", hepmass_rows(seed=4))
    pools = [build(task("hepmass", tmp_path / folder)).problem.target.pool for folder in "ab"]
    assert pools[0] is not None
    assert pools[1] is not None
    assert torch.equal(pools[0], pools[1])


def test_old_table_is_read_without_unpickling(tmp_path: Path) -> None:
    path = tmp_path / "table.pickle"
    write_old_table(path, gas_rows())
    names, rows = uci_pickle.read_table(path)
    assert names[:4] == ("Time", "Meth", "Eth", "R1")
    np.testing.assert_array_equal(rows[:, 3:], gas_rows())


def test_archive_is_downloaded_once_and_serves_all_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    asked = serve(monkeypatch, make_archive(tmp_path))
    for name in REAL:
        raw = files.find(name, tmp_path / "data")
        assert raw is not None
        pool = build(task(name)).problem.target.pool
        assert pool is not None
        np.testing.assert_array_equal(pool.numpy(), raw.read("zscore").train.astype(np.float32))
        assert UCISource(name).find(None) == "prepared in the cache"
    assert len(asked) == 1
    for path in cache.glob("*.gz"):
        path.unlink()
    build(task("power"))  # what is prepared needs no archive
    assert len(asked) == 1
    assert not any(".making-" in path for path in left(cache))


def test_whole_set_is_preferred_to_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    for part in ("val", "test"):
        write_npy(folder / "MINIBOONE" / f"{part}.npy", random(50, 43))
    serve(monkeypatch, make_archive(tmp_path))
    assert "(a part of the set)" in str(UCISource("miniboone").find(folder))
    assert "training rows; partial: 45 of" in task("miniboone", folder).describe()
    UCISource("miniboone").fetch(folder)
    assert "training rows; partial: 324 of" in task("miniboone", folder).describe()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "could not download .*hash"),
        (lambda content: b"an error page", "could not download .*hash"),
    ],
)
def test_wrong_or_truncated_download_leaves_nothing(
    damage: Callable[[bytes], bytes], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    content = make_archive(tmp_path)
    serve(monkeypatch, damage(content), known=content)
    with pytest.raises(DataError, match=message):
        task("power").check()
    assert left(cache) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda folder: make_archive(folder)[:-5000], "cannot be unpacked"),
        (lambda folder: b"no archive", "cannot be unpacked"),
        (lambda folder: make_archive(folder, leave_out="BSDS300.hdf5"), "lacks data/BSDS300/BSDS300.hdf5"),
    ],
)
def test_archives_that_lack_something(
    content: Callable[[Path], bytes], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    made = content(tmp_path)
    serve(monkeypatch, made)
    monkeypatch.setattr(files, "_MEMBERS", {"bsds300": ("power/data.npy", "BSDS300/BSDS300.hdf5")})
    with pytest.raises(DataError, match=message):
        task("bsds300").check()
    assert not any("prepared" in path or ".making-" in path for path in left(cache))


def test_offline_message_names_file_and_option() -> None:
    with pytest.raises(DataError, match=r"could not download .*Put maf/data.tar.gz into a folder and pass --data-dir"):
        task("power").check()


def test_what_a_real_set_was_made_from_is_part_of_its_identity(tmp_path: Path) -> None:
    write_whole("miniboone", tmp_path)
    (before,) = task("miniboone", tmp_path).inputs()
    write_npy(tmp_path / "miniboone" / "data.npy", random(400, 43, seed=9))
    (after,) = task("miniboone", tmp_path).inputs()
    assert before.read_bytes() != after.read_bytes()
    assert task("wine").inputs() == ()


def test_data_list_says_what_is_here(cli: Cli, tmp_path: Path) -> None:
    write_whole("power", tmp_path)
    code, out, err = cli("data", "list", "--data-dir", tmp_path)
    assert code == 0, err
    assert f"here: {tmp_path / 'power' / 'data.npy'}" in out
    assert "gas: GAS, 852 174 training rows of 8" in out
    assert "not on this machine; `data fetch gas` gets it" in out
    assert "checked by MD5 (its host publishes no other)" in out
    assert "gaussian-pairs" in out


def test_data_fetch_and_verify(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.delenv("OTBENCH_DATA_DIR", raising=False)
    serve(monkeypatch, make_archive(tmp_path))
    code, out, err = cli("data", "fetch", "miniboone")
    assert code == 0, err
    assert "miniboone: ready: " in out
    code, out, _ = cli("data", "verify", "power")
    assert code == 0
    assert "good" in out
    (archive,) = cache.glob("*.gz")
    archive.write_bytes(b"changed")
    code, out, err = cli("data", "verify")
    assert code == 2
    assert "wrong checksum" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lst"], "did you mean 'list'?"),
        (["fetch"], "NAME is missing"),
        (["fetch", "powr"], "did you mean 'power'?"),
        (["verify", "power"], "nothing of it on this machine"),
        (["list", "--data-dir", "nowhere-at-all"], "no such folder"),
        (["fetch", "power"], "could not download"),
    ],
)
def test_data_mistakes(words: list[str], message: str, cli: Cli, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.delenv("OTBENCH_DATA_DIR", raising=False)
    code, _, err = cli("data", *words)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert left(cache) == []
