"""Pictures: kept beside records, read back without trust, drawn in every report, never in the way of a number."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otbench.compare.accept import accept
from otbench.errors import DataError, StoreError
from otbench.harness.judge import work
from otbench.harness.messages import Job, Planned
from otbench.picture import MAX_BYTES, POINTS, Picture
from otbench.plugins.registry import Registry
from otbench.records.record import PictureInfo, Record, RunSpec, Status
from otbench.records.store import Store, read_pictures
from otbench.report.build import build
from otbench.report.figures.gallery import Gallery, _groups, pictures_of
from otbench.report.figures.projection import non_gaussianity, spaced, telling_coordinates, telling_pairs
from otbench.report.files import Slugs
from otbench.report.rows import Section, sections
from otbench.report.tables import families, tables

from ..helpers.in_this_process import InThisProcess
from ..helpers.picture_records import KINDS, ROWS, confusion, fill, moons
from ..helpers.report_records import HOSTILE, record, spec

Cli = Callable[..., tuple[int, str, str]]
DRAWN = Path(__file__).parents[1] / "helpers" / "plugins" / "drawn.py"
FIGURES = {
    "picture-cloud-pairs": "points",
    "picture-cloud-marginals": "points",
    "picture-lines": "arrows",
    "picture-digits": "images",
    "picture-pair": "photographs",
    "picture-confusion": "matrix",
    "picture-way": "way",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return fill(tmp_path_factory.mktemp("store"))


def points(n: int = 50, d: int = 3, **changes: np.ndarray) -> Picture:
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(n, d)).astype(np.float32) for name in ("data", "mapped")}
    return Picture("cloud", "points", "a cloud", arrays | changes)


# ------------------------------------------------------------------------------------------------------------- storage


def test_pictures_come_back_as_they_were(tmp_path: Path) -> None:
    store = Store(tmp_path / "new")
    before = [make("ncf") for make in KINDS.values()]
    infos = store.write_pictures("one", before)
    infos = [PictureInfo.model_validate_json(info.model_dump_json()) for info in infos]
    for old, new in zip(before, read_pictures(store.pictures("one"), infos), strict=True):
        assert (old.name, old.kind, old.title, old.names) == (new.name, new.kind, new.title, new.names)
        assert list(old.arrays) == list(new.arrays)
        for name, array in old.arrays.items():
            assert new.arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(new.arrays[name], array)


def test_the_same_arrays_give_the_same_bytes_and_clouds_are_cut(tmp_path: Path) -> None:
    store = Store(tmp_path)
    long = points(POINTS + 7)
    infos = store.write_pictures("one", [long])
    store.write_pictures("two", [points(POINTS + 7)])
    assert store.pictures("one").read_bytes() == store.pictures("two").read_bytes()
    (back,) = read_pictures(store.pictures("one"), infos)
    np.testing.assert_array_equal(back.arrays["mapped"], long.arrays["mapped"][:POINTS])


def test_no_picture_no_file_and_a_record_without_pictures_takes_old_ones_away(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.write_pictures("one", []) == []
    assert list(tmp_path.iterdir()) == []
    made = Record.model_validate(record("ncf", 6, 0, 0.5))
    made.pictures = store.write_pictures(made.id, [points()])
    store.write(made)
    assert store.pictures(made.id).exists()
    store.write(made.model_copy(update={"pictures": []}))
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.write_pictures("one", [points()])
    before = store.pictures("one").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("otbench.files.os.fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        store.write_pictures("one", [points(20)])
    assert store.pictures("one").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_too_much_and_two_of_a_name_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    big = np.zeros((MAX_BYTES // 100 + 1, 10, 10), dtype=np.uint8)
    for pictures, message in (
        ([Picture("a", "images", "", {"x": big})], "are kept: leave some out"),
        ([points(), points()], "two pictures have the same name"),
        ([points(data=np.full((50, 3), 1e300))], "finite"),
    ):
        with pytest.raises(DataError, match=message):
            Store(tmp_path).write_pictures("one", pictures)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "arrays", "message"),
    [
        ("film", {"data": np.zeros((2, 2))}, "unknown kind"),
        ("points", {"data": np.zeros((2, 2))}, "lacks the array mapped"),
        ("points", {"data": np.zeros((2, 2)), "mapped": np.zeros((2, 3))}, "the same coordinates"),
        ("points", {"data": np.zeros(2), "mapped": np.zeros(2)}, r"shape \(2,\)"),
        ("points", {"data": np.zeros((0, 2)), "mapped": np.zeros((2, 2))}, "none of them empty"),
        ("points", {"data": np.zeros((2, 2)), "mapped": np.full((2, 2), np.nan)}, "finite numbers"),
        ("arrows", {name: np.zeros((2, 3)) for name in ("source", "mapped", "target")}, "2 coordinates"),
        ("arrows", {n: np.zeros((k, 2)) for n, k in (("source", 2), ("mapped", 3), ("target", 4))}, "as many mapped"),
        ("way", {"place-0": np.zeros((2, 3)), "exact-0": np.zeros((2, 3))}, "2 coordinates"),
        ("way", {name: np.zeros((2, 2)) for name in ("place-0", "place-1", "exact-0")}, "the same times"),
        ("images", {}, "lacks the array"),
        ("images", {"source": np.zeros((2, 3, 3))}, "wanted is uint8"),
        ("photographs", {"source": np.zeros((2, 2, 3), dtype=np.uint8)}, "lacks the array target"),
        (
            "photographs",
            {n: np.zeros((2, 2, 4), dtype=np.uint8) for n in ("source", "target", "forward")},
            "4 channels",
        ),
        ("matrix", {"counts": np.zeros((2, 3), dtype=int)}, "square"),
        ("matrix", {"counts": -np.eye(3, dtype=int)}, "not negative"),
        ("matrix", {"../counts": np.eye(3, dtype=int)}, "lower-case letters"),
    ],
)
def test_arrays_that_are_not_those_of_the_kind_are_refused(
    kind: str, arrays: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Picture("one", kind, "", arrays)  # type: ignore[arg-type]


class Trap:
    """Leaves a mark when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


def spoil(path: Path, how: str) -> None:
    """Replace the file of a run, which holds `cloud` with `data` and `mapped`."""
    good = path.read_bytes()
    arrays = {name: np.zeros((4, 3), dtype=np.float32) for name in ("cloud/data", "cloud/mapped")}
    head = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3)}".ljust(117) + "\n"
    if how == "pickle":
        np.savez(path, **(arrays | {"cloud/data": np.array([Trap(), 1], dtype=object)}))  # type: ignore[arg-type]
    elif how == "huge_shape":
        with zipfile.ZipFile(path, "w") as archive:
            for name in arrays:
                archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00\x76\x00" + head.encode())
    elif how == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in arrays:
                archive.writestr(f"{name}.npy", bytes(MAX_BYTES))
    elif how == "truncated":
        path.write_bytes(good[: len(good) // 2])
    elif how == "foreign":
        path.write_bytes(b"not a zip file at all")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "other_arrays":
        np.savez(path, something=np.zeros(3))
    elif how == "other_shape":
        np.savez(path, **(arrays | {"cloud/data": np.zeros(5)}))  # type: ignore[arg-type]
    elif how == "not_finite":
        np.savez(path, **(arrays | {"cloud/data": np.full((4, 3), 1e300)}))  # type: ignore[arg-type]
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "missing":
        path.unlink()


BAD = ("pickle", "huge_shape", "bomb", "truncated", "foreign", "empty", "other_arrays", "other_shape", "not_finite")


@pytest.mark.parametrize("how", [*BAD, "folder", "missing"])
def test_a_bad_file_is_passed_over_and_named_and_the_report_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "store")
    made = Record.model_validate(record("ncf", 6, 0, 0.5, curve=[]))
    made.pictures = store.write_pictures(made.id, [points()])
    store.write(made)
    spoil(store.pictures(made.id), how)
    report = build(store.all(), tmp_path / "out", ["svg", "markdown"], command="x", folders=[store.folder])
    assert report.written == ["tables.md", "summary.md"]
    assert len(report.notes) == (how != "missing")
    assert all(str(store.pictures(made.id)) in note and "\n" not in note for note in report.notes)
    assert not (tmp_path / "unpickled").exists()


def test_a_record_that_names_a_file_elsewhere_gets_nothing(tmp_path: Path) -> None:
    outside = Store(tmp_path)
    infos = outside.write_pictures("secret", [points()])
    (tmp_path / "store").mkdir()
    made = Record.model_validate(record("ncf", 6, 0, 0.5, id="../secret"))
    gallery = Gallery([tmp_path / "store"])
    assert gallery.of(made.model_copy(update={"pictures": infos})) == []


def test_a_record_that_names_thousands_of_arrays_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_pictures("one", [points()])
    many = PictureInfo(name="cloud", kind="points", title="", arrays=["data"] * 5000)
    with pytest.raises(DataError, match="5000 arrays"):
        read_pictures(store.pictures("one"), [many])


# ------------------------------------------------------------------------------------------------------------ the runs


def run(folder: Path, *mistakes: bool) -> None:
    """Do the task `drawn`, all roles in this process, without baselines."""
    registry = Registry([DRAWN])
    solver, task = registry.find("stay"), registry.find("drawn")
    for mistake in mistakes:
        values = spec("stay", 0, 0, task="drawn", task_config={"mistake": mistake}, steps=1, preset="smoke")
        planned = Planned(
            id=f"run-{mistake}",
            spec=RunSpec.model_validate(values),
            label="stay",
            source={},
            command="",
            solver=solver,
            task=task,
        )
        spool = folder / "spool"
        spool.mkdir()
        job = Job(runs=[planned], folder=folder, data_dir=None, shared_device=False, spool=spool)
        work(job, InThisProcess(), lambda event: None)
        shutil.rmtree(spool)


def test_a_run_keeps_its_pictures_and_a_failure_of_them_costs_no_number(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tmp_path.joinpath("run-True.npz").write_bytes(b"of an older run")
    tmp_path.joinpath("run-False.npz").write_bytes(b"torn")
    run(tmp_path, False, True)
    good, bad = store.all()
    assert (good.status, bad.status) == (Status.OK, Status.OK)
    assert (good.reads_label, good.stderr, [info.arrays for info in good.pictures]) == (True, "", [["data", "mapped"]])
    (picture,) = read_pictures(store.pictures(good.id), good.pictures)
    np.testing.assert_array_equal(picture.arrays["data"], picture.arrays["mapped"])
    assert bad.metrics == {"error": 0.0}
    assert bad.pictures == []
    assert bad.stderr == "no pictures: ValueError: planted failure of a picture"
    assert [path.name for path in tmp_path.glob("*.npz")] == ["run-False.npz"]


def test_accept_keeps_no_pictures_and_export_and_compare_see_records_only(tmp_path: Path, cli: Cli) -> None:
    new = fill(tmp_path / "new", kinds=("matrix",))
    into = fill(tmp_path / "base", kinds=("matrix",))
    accept(new, into)
    assert list(into.folder.glob("*.npz")) == []
    assert [record.pictures for record in into.all()] == [[]] * len(ROWS)
    assert into.passed_over == []
    assert cli("export", new.folder, "--out", tmp_path / "table")[0] == 0
    assert cli("compare", into.folder, new.folder)[0] in (0, 3)
    assert len(list(new.folder.glob("*.npz"))) == len(ROWS)


# --------------------------------------------------------------------------------------------------- what is worth it


def test_the_distance_to_a_normal_is_the_energy_distance() -> None:
    rng = np.random.default_rng(0)
    for d in (1, 2, 5):
        x = rng.exponential(size=(40, d)) - 1
        normal, other = rng.normal(size=(2, 100_000, d))
        cross = np.mean([np.linalg.norm(normal - point, axis=1).mean() for point in x])
        inside = np.linalg.norm(x[:, None] - x, axis=2).sum() / (40 * 39)
        expected = 2 * cross - np.linalg.norm(normal - other, axis=1).mean() - inside
        assert non_gaussianity(x) == pytest.approx(expected, abs=0.02)
    far = np.linspace(-40, 40, 11)[:, None]  # where a power series would not end
    assert non_gaussianity(far) == pytest.approx(2 * np.abs(far).mean() - 2 / math.sqrt(math.pi) - 32, abs=0.2)


def test_the_telling_pair_is_the_one_with_structure_that_a_correlation_does_not_say() -> None:
    x = moons(2000, 6, 0)
    x[:, 3] = 0.99 * x[:, 4] + 0.1 * x[:, 3]  # strong, but what a linear map gets right
    assert telling_pairs(x)[0] == (2, 5)
    assert telling_coordinates(x) == list(range(6))
    ten = np.concatenate([np.random.default_rng(1).normal(size=(2000, 4)), x], axis=1)
    assert {5, 6, 9} <= set(telling_coordinates(ten))
    assert len(telling_coordinates(ten)) == 8


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 100), st.booleans())
def test_any_cloud_has_pairs_of_different_coordinates(n: int, d: int, seed: int, constant: bool) -> None:
    x = np.random.default_rng(seed).normal(size=(n, d)) ** 3
    x[:, 0] = 7.5 if constant else x[:, 0]
    pairs, alone = telling_pairs(x), telling_coordinates(x)
    moving = d - constant if n > 2 else 0
    assert len(pairs) == min(3, moving * (moving - 1) // 2)
    assert all(0 <= i < j < d for i, j in pairs)
    assert len(set(pairs)) == len(pairs)
    assert len(alone) == moving
    assert (pairs, alone) == (telling_pairs(x), telling_coordinates(x))


def test_spaced_indices_are_even_and_all_where_there_are_few() -> None:
    assert spaced(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert spaced(101, 5).tolist() == [0, 25, 50, 75, 100]


# ------------------------------------------------------------------------------------------------------------- drawing


def family_figures(store: Store, *formats: str) -> dict[str, bytes]:
    (family,) = families(sections(store.all()), Slugs())
    gallery = Gallery([store.folder])
    made = {f"{d.name}.{fmt}": data for d in pictures_of(family, gallery, formats) for fmt, data in d.data.items()}
    assert gallery.notes == []
    return made


@pytest.fixture(scope="module")
def figures(store: Store) -> dict[str, bytes]:
    """All figures of the store, by file name."""
    return family_figures(store, "svg", "png")


def test_every_kind_is_drawn(figures: dict[str, bytes]) -> None:
    assert {name.partition("--")[2] for name in figures} == {
        f"{name}.{fmt}" for name in FIGURES for fmt in ("svg", "png")
    }
    for name, data in figures.items():
        assert len(data) < (120_000 if name.endswith("svg") else 400_000), name
        assert data.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")


def test_the_page_and_the_markdown_hold_the_figures_whose_bytes_are_the_same_again(
    store: Store, figures: dict[str, bytes], tmp_path: Path
) -> None:
    build(store.all(), tmp_path, ["svg", "markdown", "html"], command="x", folders=[store.folder])
    again = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert {name.partition("--")[2] for name in again} == {f"{name}.svg" for name in FIGURES}
    assert again == {name: data for name, data in figures.items() if name.endswith(".svg")}
    page, text = (tmp_path / "index.html").read_text(), (tmp_path / "tables.md").read_text()
    assert page.count('<img src="data:image/svg+xml,') == len(FIGURES)
    assert "classes of mapped images" in page
    for name in FIGURES:
        assert re.search(rf"\(figures/[a-z0-9-]+--{name}\.svg\)", text)


def test_nothing_is_drawn_without_pictures(tmp_path: Path) -> None:
    made = [Record.model_validate(record("ncf", 6, 0, 0.5, curve=[]))]
    report = build(made, tmp_path / "out", ["svg"], command="x", folders=[tmp_path])
    assert (report.written, report.notes) == ([], [])


def test_the_lowest_seed_with_pictures_is_drawn_and_rows_beyond_the_limit_are_counted(tmp_path: Path) -> None:
    store = fill(tmp_path, seeds=2, kinds=("matrix",))
    made = store.all()
    for index in range(8):
        other = Record.model_validate(record(f"solver{index}", 6, 0, 0.5, curve=[], spec=made[0].spec.model_dump()))
        other.label, other.pictures = f"solver{index}", store.write_pictures(other.id, [confusion("ncf")])
        made.append(other)
    store.pictures("gaussian-ncf-6-1").unlink()  # of the second seed: nobody asks for it
    (family,) = families(sections(made), Slugs())
    gallery = Gallery([tmp_path])
    (drawing,) = pictures_of(family, gallery, ["svg"])
    assert drawing.left_out == len(ROWS) + 8 - 6
    (group,) = _groups(family.sections[0], gallery)
    shown = [shown.row.label for shown in group.rows]
    assert shown == ["identity", "fixedpoint", "ncf", "solver0", "solver1", "solver2"]
    assert gallery.notes == []


def test_texts_out_of_records_are_drawn_as_they_stand(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    made = []
    names = {"points": HOSTILE[:6], "arrows": HOSTILE[6:10], "images": HOSTILE[10:13], "matrix": HOSTILE[10:20]}
    for index, text in enumerate((*HOSTILE[:3], HOSTILE[18])):
        one = Record.model_validate(record(f"bad{index}", 6, 0, 0.5, curve=[], label=text, id=f"bad{index}"))
        pictures = [make(ROWS[index]) for make in KINDS.values()]
        named = [Picture(p.name, p.kind, text, p.arrays, tuple(names.get(p.kind, ()))) for p in pictures]
        one.pictures = store.write_pictures(one.id, named)
        made.append(one)
    build(made, tmp_path / "out", ["svg", "html"], command="x", folders=[store.folder])
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<script>document" not in page
    assert len(list((tmp_path / "out" / "figures").iterdir())) == len(FIGURES)


@pytest.mark.parametrize(
    "picture",
    [
        points(1, 1),
        points(2, 1),
        points(30, 2, mapped=np.full((5, 2), 1e30, dtype=np.float32)),
        points(30, 3, data=np.ones((30, 3), dtype=np.float32)),
        points(40, 100),
        Picture("a", "arrows", "", {n: np.zeros((1, 2), dtype=np.float32) for n in ("source", "mapped", "target")}),
        Picture("a", "images", "", {"x": np.zeros((1, 1, 1), np.uint8), "y": np.zeros((30, 300, 2), np.uint8)}),
        Picture("a", "matrix", "", {"counts": np.zeros((1, 1), dtype=np.int64)}),
        Picture("a", "matrix", "", {"counts": np.full((3, 3), 10**12)}),
        Picture("a", "matrix", "", {"counts": np.eye(200, dtype=np.int64)}),
    ],
    ids=lambda picture: f"{picture.kind}-{'-'.join(str(a.shape) for a in picture.arrays.values())}",
)
def test_odd_pictures_are_drawn_or_left_out(tmp_path: Path, picture: Picture) -> None:
    store = Store(tmp_path)
    one = Record.model_validate(record("ncf", 6, 0, 0.5, curve=[]))
    one.pictures = store.write_pictures(one.id, [picture])
    store.write(one)
    for name, data in family_figures(store, "svg").items():
        assert data.rstrip().endswith(b"</svg>"), name


# --------------------------------------------------------------------------------------------------------- reads label


def labelled(tmp_path: Path, reads: bool) -> Section:
    (section,) = sections(fill(tmp_path, reads_label=reads, kinds=()).all())
    return section


def test_a_column_says_who_reads_the_label_only_where_somebody_does(tmp_path: Path, cli: Cli) -> None:
    (family,) = families([labelled(tmp_path / "yes", True)], Slugs())
    table = tables(family, Slugs())[0]
    assert table.columns[-1].label == "reads label"
    assert {line.row.label: line.cells[-1].mean for line in table.lines} == dict.fromkeys(ROWS, "no") | {"ncf": "yes"}
    assert not any(line.cells[-1].rank for line in table.lines)
    assert "reads label" in cli("table", tmp_path / "yes")[1]
    (family,) = families([labelled(tmp_path / "no", False)], Slugs())
    assert all(column.label != "reads label" for made in tables(family, Slugs()) for column in made.columns)
    assert "reads label" not in cli("table", tmp_path / "no")[1]


def test_a_column_says_who_keeps_training_rows_only_where_somebody_does(tmp_path: Path, cli: Cli) -> None:
    (section,) = sections(fill(tmp_path / "yes", keeps_rows=4096, kinds=()).all())
    (family,) = families([section], Slugs())
    table = tables(family, Slugs())[0]
    assert table.columns[-1].label == "training rows kept"
    assert {line.row.label: line.cells[-1].mean for line in table.lines} == dict.fromkeys(ROWS, "0") | {"ncf": "4096"}
    assert not any(line.cells[-1].rank for line in table.lines)
    fill(tmp_path / "no", kinds=())
    for folder, shown in (("yes", True), ("no", False)):
        assert ("rows kept" in " ".join(cli("table", tmp_path / folder)[1].split())) == shown


def test_old_records_without_the_fields_still_load(tmp_path: Path) -> None:
    old = record("ncf", 6, 0, 0.5)
    (tmp_path / "old.json").write_text(json.dumps(old))
    (back,) = Store(tmp_path).all()
    assert (back.reads_label, back.keeps_rows, back.pictures) == (False, 0, [])
