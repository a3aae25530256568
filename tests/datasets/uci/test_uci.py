from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pooch
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from otbench.data.prepared import Content, lookup, prepare
from otbench.data.remote import RemoteFile
from otbench.datasets.uci import REAL, UCI, UCIConfig, UCIInstance, UCISource, files, patches, tables
from otbench.datasets.uci import pickled as uci_pickle
from otbench.datasets.uci.demo import DEMO, demo
from otbench.errors import DataError, StoreError
from otbench.problem import FreshMeasure, PoolMeasure
from otbench.task import Outputs, Published

Array = NDArray[np.float64]
Cli = Callable[..., tuple[int, str, str]]
CPU = torch.device("cpu")
DATA_DIR = os.environ.get("OTBENCH_DATA_DIR")
SCALINGS: tuple[tables.Scaling, ...] = ("zscore", "minmax")


def needs(*parts: str) -> pytest.MarkDecorator:
    place = Path(DATA_DIR or "nowhere", *parts)
    return pytest.mark.skipif(not place.exists(), reason=f"set OTBENCH_DATA_DIR to a folder with {'/'.join(parts)}")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own for each test, and no way to the network."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("pooch.os_cache", lambda project: folder / project)
    monkeypatch.setattr("otbench.data.remote.RETRIES", 0)
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    local = RemoteFile("http://127.0.0.1:9/data.tar.gz", None, ("maf/data.tar.gz",), md5="0" * 32, size=10**6)
    monkeypatch.setattr(files, "ARCHIVE", local)
    return folder / "otbench"


def left(cache: Path) -> list[str]:
    """What lies in the cache, but for remembered digests."""
    return [str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()] if cache.exists() else []


def task(name: str, data_dir: Path | None = None, scaling: tables.Scaling = "zscore") -> UCI:
    return UCI(UCIConfig(set=name, scaling=scaling), data_dir=data_dir)  # type: ignore[arg-type]


def build(given: UCI, seed: int = 0, dtype: torch.dtype = torch.float32) -> UCIInstance:
    given.check()
    return given.build(seed=seed, device=CPU, dtype=dtype)


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


# ------------------------------------------------------------------------------------- small tables of the same forms


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


# --------------------------------------------------------------------------------------------------- published sizes


@pytest.mark.parametrize(("name", "rows"), [("power", 2_049_280), ("gas", 1_052_065), ("miniboone", 36_488)])
def test_raw_row_counts_give_the_published_splits(name: str, rows: int) -> None:
    assert tables.split_sizes(rows) == tables.PUBLISHED[name][1:]


def test_signal_rows_of_hepmass_give_the_published_splits() -> None:
    _, train, validation, _ = tables.PUBLISHED["hepmass"]
    assert (train + validation) // 10 == validation


def test_every_fourth_row_of_the_gas_text_is_as_many_as_the_archive_has() -> None:
    assert len(range(files._GAS_EVERY - 1, 4_208_261, files._GAS_EVERY)) == 1_052_065


# ----------------------------------------------------------------------------------------------------- preprocessing


@pytest.mark.parametrize("scaling", SCALINGS)
def test_power_follows_the_published_steps(scaling: tables.Scaling) -> None:
    raw = power_rows()
    splits = tables.power(raw, scaling, what="table")
    rng = np.random.RandomState(42)
    expected = raw.copy()
    rng.shuffle(expected)  # whole rows: the stream that the papers' code drew from
    expected = np.delete(expected, [1, 3], axis=1)
    blur = [rng.rand(400, 1) for _ in range(2)]
    expected += np.hstack((0.001 * blur[1], 0.01 * blur[0], rng.rand(400, 3), np.zeros((400, 1))))
    known = expected[:360]
    if scaling == "zscore":
        expected = (expected - known.mean(0)) / known.std(0)
    else:
        expected = 2 * (expected - known.min(0)) / (known.max(0) - known.min(0)) - 1
    np.testing.assert_allclose(np.vstack((splits.train, splits.validation, splits.test)), expected, atol=1e-12)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [324, 36, 40]


def test_gas_drops_the_first_of_two_alike_and_scales_by_the_whole_table() -> None:
    splits = tables.gas(gas_rows(), "zscore", what="table")
    assert splits.names == tuple(f"sensor {k}" for k in range(2, 17, 2))
    everything = np.vstack((splits.train, splits.validation, splits.test))
    np.testing.assert_allclose(everything.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(everything.std(0, ddof=1), 1, atol=1e-12)


@pytest.mark.parametrize("extra", [0, 1])
def test_hepmass_keeps_signal_and_continuous_features(extra: int) -> None:
    train, test = hepmass_rows(), hepmass_rows(extra=extra, seed=4)
    splits = tables.hepmass(train, test, "zscore", what="table")
    assert splits.names == tuple(f"f{k}" for k in (*range(20), 26))
    signal = train[train[:, 0] == 1, 1:]
    kept = [*range(20), 26]
    np.testing.assert_allclose(
        splits.test,
        (test[test[:, 0] == 1, 1:28] - signal.mean(0))[:, kept] / signal.std(0, ddof=1)[kept],
        atol=1e-12,
    )
    assert (len(splits.train), len(splits.validation)) == (180, 20)


@pytest.mark.parametrize(
    ("name", "fit"),
    [("power", 2), ("gas", 2), ("hepmass", 2), ("miniboone", 1)],
)
def test_minmax_maps_the_fitted_rows_to_the_cube(name: str, fit: int, tmp_path: Path) -> None:
    write_whole(name, tmp_path)
    raw = files.find(name, tmp_path)
    assert raw is not None
    splits = raw.read("minmax")
    fitted = np.vstack((splits.train, splits.validation)[:fit])
    np.testing.assert_allclose(fitted.min(0), -1, atol=1e-12)
    np.testing.assert_allclose(fitted.max(0), 1, atol=1e-12)


def test_miniboone_zscore_is_fitted_to_training_and_validation_rows() -> None:
    splits = tables.miniboone(5 + 2 * random(400, 43), "zscore", what="table")
    known = np.vstack((splits.train, splits.validation))
    np.testing.assert_allclose(known.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(known.std(0), 1, atol=1e-12)


def test_normalised_splits_are_taken_as_they_are() -> None:
    train, test = random(50, 43), random(40, 43, seed=1)
    splits = tables.miniboone_splits(train, None, test, "zscore", what="table")
    np.testing.assert_array_equal(np.vstack((splits.train, splits.validation)), train)
    assert len(splits.validation) == 5
    np.testing.assert_array_equal(splits.test, test)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", DEMO)
def test_bundled_tables(name: str, scaling: tables.Scaling) -> None:
    first, again = demo(name, scaling), demo(name, scaling)
    np.testing.assert_array_equal(first.train, again.train)
    known = np.vstack((first.train, first.validation))
    assert known.shape[1] == {"breast-cancer": 30, "wine": 13, "digits": 61}[name] == len(first.names)
    assert len(known) + len(first.test) == {"breast-cancer": 569, "wine": 178, "digits": 1797}[name]
    if scaling == "zscore":
        np.testing.assert_allclose(known.std(0), 1, atol=1e-9)
    else:
        np.testing.assert_allclose((known.min(0), known.max(0)), ([-1] * len(known.T), [1] * len(known.T)), atol=1e-9)
    if name == "digits":  # blurred: no value twice
        assert len(np.unique(known[:, 20])) == len(known)


# ------------------------------------------------------------------------------------------------- from files to tasks


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


def write_images(folder: Path, train: int = 10, test: int = 1) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        (folder / "BSDS300" / part).mkdir(parents=True)
        for k in range(count):
            image = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
            image.save(folder / "BSDS300" / part / f"{k:03}.jpg")


def test_patches_follow_the_recipe(tmp_path: Path) -> None:
    write_images(tmp_path)
    raw = files.find("bsds300", tmp_path)
    assert raw is not None
    splits, again = raw.read("zscore"), raw.read("minmax")
    np.testing.assert_array_equal(splits.train, again.train)
    assert splits.train.shape == (9 * patches.PER_IMAGE, 63)
    assert splits.validation.shape == splits.test.shape == (patches.PER_IMAGE, 63)
    # the dropped pixel follows from the others, and all 64 stay within one range of 256 levels
    whole = np.column_stack((splits.train, -splits.train.sum(1)))
    assert (np.ptp(whole, axis=1) < 1).all()
    assert task("bsds300", tmp_path).describe().endswith("patches cut anew from the images; p from 1000 points")


@needs("MINIBOONE")
@pytest.mark.parametrize("scaling", SCALINGS)
def test_real_miniboone(scaling: tables.Scaling) -> None:
    instance = build(task("miniboone", Path(DATA_DIR or ""), scaling))
    assert instance.facts["partial"] == (
        "partial: 2 956 of 29 556 training rows, MAF's validation rows stand in for its training rows"
    )
    assert len(instance.test.target.x) == tables.PUBLISHED["miniboone"][3]
    if scaling == "zscore":  # by statistics of rows that are not here
        assert (instance.test.target.x.std(0) - 1).abs().max() < 0.5


@needs("POWER_subset")
def test_real_power() -> None:
    instance = build(task("power", Path(DATA_DIR or "")))
    assert instance.facts["partial"] == "partial: 225 878 of 1 659 917 training rows"
    target = instance.problem.target
    assert isinstance(target, PoolMeasure)
    assert target.validation is not None
    known = torch.cat((target.pool, target.validation))
    assert torch.allclose(known.mean(0), torch.zeros(6), atol=1e-4)
    assert torch.allclose(known.std(0), torch.ones(6), atol=1e-4)


@needs("BSDS300", "train")
def test_real_patches_of_one_image() -> None:
    path = sorted(Path(DATA_DIR or "", "BSDS300", "train").glob("*.jpg"))[0]
    cut = patches._patches(path, 0, 0)
    assert cut.shape == (1000, 63)
    assert np.abs(cut).max() < 1
    neighbours = np.corrcoef(cut[:, 26], cut[:, 27])[0, 1]
    assert neighbours > 0.5  # natural images are smooth


# ------------------------------------------------------------------------------------------------------- the instance


class Means:
    """What the task asks of the metrics: here only the distance of means, so that the test can do it again."""

    def __init__(self, y: torch.Tensor) -> None:
        self.y = y

    def bandwidths(self, *, final: bool) -> tuple[float, ...]:
        return (float(len(self.y)), 0.5)

    def compare(self, x: torch.Tensor, *, seed: int, final: bool) -> dict[str, float]:
        values = {"mmd": float((x.mean(0) - self.y.mean(0)).norm())}
        return values | ({"p_value": 0.5} if final else {})


@pytest.fixture
def wine(monkeypatch: pytest.MonkeyPatch) -> UCIInstance:
    monkeypatch.setattr("otbench.datasets.uci.HeldOut", Means)
    return build(task("wine"))


def test_source_is_normal_and_seeds_leave_data_alone(wine: UCIInstance) -> None:
    other = build(task("wine"), seed=7)
    source = wine.problem.source
    assert isinstance(source, FreshMeasure)
    assert source.is_standard_normal
    assert torch.equal(wine.test.source.x, other.test.source.x)
    assert torch.equal(wine.test.target.x, other.test.target.x)
    assert wine.test.source.x.shape == (1000, 13)
    assert wine.facts["mmd_bandwidths_fwd"] == f"{len(wine.test.target.x)}, 0.5"
    assert wine.facts["mmd_bandwidths_bwd"] == "1000, 0.5"
    drawn = source.sample(20_000, generator=torch.Generator().manual_seed(0)).x
    assert torch.allclose(drawn.T @ drawn / 20_000, torch.eye(13), atol=0.05)


def test_scores(wine: UCIInstance) -> None:
    x, y = wine.test.source.x, wine.test.target.x
    log_prob = torch.linspace(-2, 0, len(y))
    scores = wine.score(Outputs(x + 1, y - 1, x + 0.1, log_prob))
    assert scores["mmd_fwd"] == pytest.approx(float((x.mean(0) + 1 - y.mean(0)).norm()))
    assert scores["mmd_bwd"] == pytest.approx(float((y.mean(0) - 1 - x.mean(0)).norm()))
    assert scores["cost"] == pytest.approx(13 / 2, rel=1e-5)
    assert scores["inverse_gap"] == pytest.approx(100 * 0.01, rel=1e-4)
    assert scores["nll"] == pytest.approx(1.0)
    assert set(scores) <= {metric.name for metric in UCI.metrics}


def test_scores_of_one_way_maps_on_the_way(wine: UCIInstance) -> None:
    scores = wine.score(Outputs(wine.test.source.x, final=False))
    assert set(scores) == {"mmd_fwd", "cost"}
    assert scores["cost"] == 0


def test_rows_of_the_same_table_score_better_than_the_normal() -> None:
    instance = build(task("breast-cancer", scaling="minmax"))
    x, y, pool = instance.test.source.x, instance.test.target.x, instance.problem.target.pool
    assert pool is not None
    rows = pool[torch.arange(len(x)) % len(pool)]
    alike, normal = instance.score(Outputs(rows, final=False)), instance.score(Outputs(x, y))
    assert set(normal) <= {metric.name for metric in UCI.metrics}
    for name in ("mmd_fwd", "energy_fwd", "sliced_w2_fwd"):
        assert alike[name] < 0.1 * normal[name]
    assert normal["p_value_fwd"] < 0.01
    assert normal["p_points_fwd"] == instance.facts["permutation_points"] == len(y)


def test_picture(wine: UCIInstance) -> None:
    x = wine.test.source.x
    (picture,) = wine.pictures(Outputs(x + 1))
    assert picture.kind == "points"
    np.testing.assert_allclose(picture.arrays["mapped"], x.numpy() + 1)
    assert picture.arrays["data"].shape == (53, 13)
    assert picture.names[0] == "alcohol"


def test_large_test_splits_are_thinned_to_fixed_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otbench.datasets.uci.MAX_TEST_ROWS", 30)
    write_whole("miniboone", tmp_path)
    one, two = (build(task("miniboone", tmp_path), seed) for seed in (0, 1))
    assert len(one.test.target.x) == one.facts["test_rows_used"] == 30
    assert one.facts["test_rows"] == 40
    assert torch.equal(one.test.target.x, two.test.target.x)


def test_what_a_real_set_was_made_from_is_part_of_its_identity(tmp_path: Path) -> None:
    write_whole("miniboone", tmp_path)
    (before,) = task("miniboone", tmp_path).inputs()
    write_npy(tmp_path / "miniboone" / "data.npy", random(400, 43, seed=9))
    (after,) = task("miniboone", tmp_path).inputs()
    assert before.read_bytes() != after.read_bytes()
    assert task("wine").inputs() == ()


# ----------------------------------------------------------------------------------------- which sets a preset takes


PRESET = {"set": list(REAL)}


def test_without_real_sets_the_demo_is_taken_and_each_missing_set_named() -> None:
    chosen, notes = UCI.choose(PRESET, typed=frozenset(), data_dir=None)
    assert chosen == {"set": list(DEMO)}
    assert len(notes) == len(REAL) + 1
    for name, note in zip(REAL, notes, strict=False):
        assert f"{name} left out: not on this machine; `python bench.py data fetch {name}` downloads" in note


def test_sets_in_the_folder_are_taken(tmp_path: Path) -> None:
    write_whole("gas", tmp_path)
    write_whole("power", tmp_path)
    chosen, notes = UCI.choose(PRESET, typed=frozenset(), data_dir=tmp_path)
    assert chosen == {"set": ["power", "gas"]}
    assert [note.split()[1] for note in notes] == ["hepmass", "miniboone", "bsds300"]


@pytest.mark.parametrize(("preset", "typed"), [(PRESET, {"set"}), ({"set": ["wine"]}, set()), ({}, set())])
def test_what_is_typed_or_bundled_stays(preset: dict[str, list[str]], typed: set[str]) -> None:
    chosen, notes = UCI.choose(preset, typed=frozenset(typed), data_dir=None)
    assert (chosen, list(notes)) == (preset, [])


def test_dry_run_of_the_task_works_offline(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OTBENCH_DATA_DIR", raising=False)
    code, out, err = cli("--solvers", "ncf", "--task", "uci", "--device", "cpu", "--dry-run", "--out", tmp_path)
    assert code == 0, err
    assert all(f"set={name}" in "".join(out.split()) for name in DEMO)
    assert "power left out" in err


# -------------------------------------------------------------------------------------------------- archive and cache


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


def entry(version: int = 1) -> Content:
    return Content("things", version, {"scaling": "zscore"}, {"files": "digest"})


def test_entries_are_made_once_and_damaged_ones_again() -> None:
    calls = []

    def make() -> tuple[dict[str, Array], dict[str, str], list[str]]:
        calls.append(1)
        return {"train": np.arange(6.0).reshape(3, 2)}, {"partial": ""}, ["a", "b"]

    first = prepare(entry(), make)
    again = prepare(entry(), make)
    assert len(calls) == 1
    assert isinstance(again.arrays["train"], np.memmap)
    assert again.names == ("a", "b")
    again.arrays["train"][:] = 0  # in memory only
    np.testing.assert_array_equal(first.arrays["train"], [[0, 1], [2, 3], [4, 5]])
    path = entry().folder / "train.npy"
    path.write_bytes(path.read_bytes()[:-4])
    assert lookup(entry()) is None
    np.testing.assert_array_equal(prepare(entry(), make).arrays["train"], [[0, 1], [2, 3], [4, 5]])
    prepare(entry(version=2), make)
    assert len(calls) == 3


def test_failure_while_making_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(StoreError, match=r"cannot write .*prepared.*No space left"):
        prepare(entry(), lambda: ({"train": np.zeros((2, 2))}, {}, []))
    assert left(cache) == []


# ------------------------------------------------------------------------------------------------------------ bad files


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
    cli: Cli,
) -> None:
    monkeypatch.chdir(tmp_path)
    make(kind, tmp_path)
    with pytest.raises(DataError, match=message) as error:
        task(name, tmp_path).check()
    assert str(tmp_path) in str(error.value)
    words = ("--solvers", "ncf", "--task", f"uci[set={name}]", "--device", "cpu", "--dry-run")
    code, out, err = cli(*words, "--data-dir", tmp_path, "--out", tmp_path / "out")
    assert code == 2, out + err
    assert len(err.splitlines()) == 1, err
    assert len(err) < 1000
    assert left(cache) == []
    assert not (tmp_path / "unpickled").exists()


def test_old_table_is_read_without_unpickling(tmp_path: Path) -> None:
    path = tmp_path / "table.pickle"
    write_old_table(path, gas_rows())
    names, rows = uci_pickle.read_table(path)
    assert names[:4] == ("Time", "Meth", "Eth", "R1")
    np.testing.assert_array_equal(rows[:, 3:], gas_rows())


# --------------------------------------------------------------------------------------------------------- otbench data


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
