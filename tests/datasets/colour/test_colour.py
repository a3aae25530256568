"""The task of colour transfer: pairs, parts of pixels, scores of known maps, pictures, and bad input."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from otbench.config import build_config
from otbench.datasets.colour import Colour, ColourConfig, ColourInstance
from otbench.datasets.colour.checksums import SHA256
from otbench.datasets.colour.sets import PAIRS, REPORTED
from otbench.errors import DataError, UsageError
from otbench.harness.judge import work
from otbench.harness.messages import Job
from otbench.harness.plan import Request, make_plan
from otbench.metrics.two_sample import CURVE_POINTS
from otbench.ops.colours import from_rgb, to_rgb
from otbench.plugins.registry import Registry
from otbench.records.store import Store, read_pictures
from otbench.registration import registrations
from otbench.task import Outputs

from ...helpers.in_this_process import InThisProcess
from ...helpers.kept_maps import small_map

CPU = torch.device("cpu")
CLI = Callable[..., tuple[int, str, str]]


def blocks(seed: int, low: int = 0, high: int = 256, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    """Return random colours, each a block of four pixels."""
    small = np.random.default_rng(seed).integers(low, high, (size[0] // 2, size[1] // 2, 3), dtype=np.uint8)
    return small.repeat(2, 0).repeat(2, 1)


def written(folder: Path, name: str, picture: np.ndarray) -> str:
    Image.fromarray(picture).save(folder / name)
    return str(folder / name)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("pictures")
    return written(folder, "a.png", blocks(0, 0, 128)), written(folder, "b.png", blocks(1, 64, 256, (16, 40)))


def made(
    own: tuple[str, str], *, seed: int = 0, dtype: torch.dtype = torch.float64, **values: object
) -> ColourInstance:
    config = ColourConfig(source=own[0], target=own[1], **values)  # type: ignore[arg-type]
    return Colour(config).build(seed=seed, device=CPU, dtype=dtype)


def outputs(instance: ColourInstance, forward: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Outputs:
    x, y = instance.test.source.x, instance.test.target.x
    return Outputs(forward(x), back(y), back(forward(x)))


def same(x: Tensor) -> Tensor:
    return x


def rows(x: Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in x.tolist()}


def test_pixels_are_in_one_part_each_and_the_seed_moves_no_test_pixel(own: tuple[str, str]) -> None:
    one, two = made(own), made(own, seed=1)
    assert torch.equal(one.test.source.x, two.test.source.x)
    for measure, other, n in (
        (one.problem.source, two.problem.source, 600),
        (one.problem.target, two.problem.target, 640),
    ):
        assert len(measure.pool) + len(measure.validation) == n - round(0.2 * n)
        assert not torch.equal(measure.pool, other.pool)
        assert 0 <= float(measure.pool.min()) <= float(measure.pool.max()) <= 1
    assert one.facts["source_held_out_pixels"] == 120
    assert one.facts["source_training_pixels"] == 456
    assert len(one.facts["source_sha256"]) == 64  # type: ignore[arg-type]


def test_the_pool_is_cut_and_its_seed_can_be_fixed(own: tuple[str, str]) -> None:
    one, two = (made(own, seed=seed, pool=50, pool_seed=7) for seed in (0, 1))
    assert one.problem.source.pool is not None
    assert two.problem.source.pool is not None
    assert len(one.problem.source.pool) == 50
    assert torch.equal(one.problem.source.pool, two.problem.source.pool)


def test_test_points_are_held_out_pixels_and_then_every_colour_once(own: tuple[str, str]) -> None:
    instance = made(own)
    x = instance.test.source.x
    colours = np.unique(blocks(0, 0, 128).reshape(-1, 3), axis=0) / 255
    assert torch.equal(x[120:], torch.from_numpy(colours))
    assert rows(x[:120]) <= rows(x[120:])
    assert instance.facts["source_colours"] == len(colours)
    assert instance.curve_points == CURVE_POINTS


@pytest.mark.parametrize("space", ["rgb", "lab"])
def test_doing_nothing_gives_the_pictures_back(space: str, own: tuple[str, str]) -> None:
    instance = made(own, space=space)
    assert instance.problem.colours == space
    result = outputs(instance, same, same)
    scores = instance.score(result)
    assert scores["cost_fwd"] == scores["cost_bwd"] == scores["inverse_gap"] == scores["outside_fwd"] == 0
    assert scores["tv_fwd"] == pytest.approx(1, abs=1e-6)
    assert scores["energy_fwd"] == pytest.approx(scores["energy_bwd"])
    (picture,) = instance.pictures(result)
    assert np.array_equal(picture.arrays["forward"], picture.arrays["source"])
    assert np.array_equal(picture.arrays["backward"], blocks(1, 64, 256, (16, 40)))


def test_a_known_map_has_known_scores(tmp_path: Path) -> None:
    """The target is the source, brighter by 51 levels: a translation by 1/5."""
    dark = blocks(3, 0, 200, (60, 80))
    pair = written(tmp_path, "a.png", dark), written(tmp_path, "b.png", dark + 51)
    instance = made(pair)
    scores = instance.score(outputs(instance, lambda x: x + 0.2, lambda y: y - 0.2))
    assert scores["cost_fwd"] == pytest.approx(3 * 0.04 / 2)
    assert scores["inverse_gap"] == pytest.approx(0, abs=1e-20)
    for way in ("fwd", "bwd"):
        assert scores[f"w1_{way}"] == pytest.approx(0, abs=1e-12)
        assert scores[f"hi_{way}"] == pytest.approx(1)
        assert scores[f"heights_{way}"] == 0
        assert scores[f"tv_{way}"] == pytest.approx(1)
        assert scores[f"outside_{way}"] == 0
        assert abs(scores[f"energy_{way}"]) < 0.01
    nothing = instance.score(outputs(instance, same, same))
    assert nothing["w1_fwd"] == pytest.approx(0.2)
    assert nothing["energy_fwd"] > 0.05
    far = instance.score(outputs(instance, lambda x: x + 2, same))
    assert far["outside_fwd"] == 100
    assert far["tv_fwd"] == 0


def test_the_curve_scores_a_part_and_no_pictures(own: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    instance = made(own)
    monkeypatch.setattr("otbench.datasets.colour.CURVE_POINTS", 50)
    x, y = instance.test.source.x[:50], instance.test.target.x[:50]
    scores = instance.score(Outputs(x, y, x, final=False))
    assert scores.keys() == {"energy_fwd", "cost_fwd", "energy_bwd", "cost_bwd", "inverse_gap"}
    assert instance.score(Outputs(x, final=False)).keys() == {"energy_fwd", "cost_fwd"}


def test_maps_that_left_the_numbers_are_not_drawn_into_pictures(own: tuple[str, str]) -> None:
    instance = made(own)
    scores = instance.score(Outputs(torch.full_like(instance.test.source.x, torch.nan)))
    assert np.isnan(scores["energy_fwd"])
    assert "hi_fwd" not in scores


def test_one_colour_and_grey_are_pictures(tmp_path: Path) -> None:
    grey = blocks(2)[..., 0]
    pair = written(tmp_path, "a.png", np.full((10, 12, 3), 90, np.uint8)), written(tmp_path, "b.png", grey)
    instance = made(pair)
    scores = instance.score(outputs(instance, lambda x: x + 0.1, same))
    assert instance.facts["source_colours"] == 1
    assert "tv_fwd" not in scores
    assert "inverse_gap" not in scores
    assert scores["tv_bwd"] == pytest.approx(1)


def test_colours_go_to_lab_and_back() -> None:
    levels = torch.tensor([[0, 0, 0], [255, 255, 255], [255, 0, 0], [12, 200, 77]]) / 255
    lab = from_rgb(levels, "lab")
    assert torch.allclose(lab[:2], torch.tensor([[0.0, 0, 0], [1, 0, 0]]), atol=1e-4)
    assert lab[2].tolist() == pytest.approx([0.5324, 0.8009, 0.6720], abs=1e-3)
    assert torch.allclose(to_rgb(lab, "lab"), levels, atol=1e-5)
    assert to_rgb(torch.tensor([[0.9, 1.2, -1.2]]), "lab").min() >= 0
    assert len(to_rgb(torch.empty(0, 3), "lab")) == 0


# --------------------------------------------------------------------------------------------------------------- pairs


@functools.cache
def _set_folder(root: Path) -> Path:
    for side in ("vangogh", "photo"):
        (root / "vangogh2photo" / side).mkdir(parents=True)
        for k, name in enumerate(("a.jpg", "b.PNG", "notes.txt")):
            Image.fromarray(blocks(k)).save(root / "vangogh2photo" / side / name, format="PNG")
    return root


def test_the_bundled_pair_is_there_offline() -> None:
    task = Colour(ColourConfig(pixels=4096))
    task.check()
    assert [path.name for path in task.inputs()] == ["china.jpg", "flower.jpg"]
    assert task.describe() == "china.jpg to flower.jpg, sRGB, 78 x 52 and 78 x 52, at most 100 000 training pixels"
    assert task.published() is None
    assert {"reinhard", "histogram_matching", "emd", "sinkhorn"} <= set(task.controls())


def test_pairs_of_a_set_are_its_pictures_in_order(tmp_path: Path) -> None:
    folder = _set_folder(tmp_path)
    task = Colour(ColourConfig(set="vangogh2photo", pair=2), data_dir=folder)
    assert [path.name for path in task.inputs()] == ["b.PNG", "b.PNG"]
    assert task.describe().startswith("vangogh b to photo b, sRGB")
    with pytest.raises(DataError, match="has 2 pictures, too few for pair 3"):
        Colour(ColourConfig(set="vangogh2photo", pair=3), data_dir=folder).check()


def test_pictures_of_known_sets_are_checked(tmp_path: Path, cli: CLI) -> None:
    assert all(len(sums) == len(set(sums)) == PAIRS for sums in SHA256.values())
    config = ColourConfig(set="summer2winter")
    with pytest.raises(DataError, match="own copies"):
        Colour(config).check()
    with pytest.raises(DataError, match="no such folder"):
        Colour(config, data_dir=tmp_path / "none").check()
    with pytest.raises(DataError, match=r"has no picture 01\.jpg"):
        Colour(config, data_dir=tmp_path).check()
    for side in ("summer", "winter"):
        (tmp_path / "summer2winter" / side).mkdir(parents=True)
        written(tmp_path / "summer2winter" / side, "01.jpg", blocks(0))
    with pytest.raises(DataError, match=r"01\.jpg: wrong checksum: expected SHA-256 [0-9a-f]{64}, found"):
        Colour(config, data_dir=tmp_path).check()
    code, _, err = cli("data", "verify", "summer2winter", "--data-dir", tmp_path)
    assert code == 2
    assert "wrong checksum" in err


def test_data_are_listed_and_said_where_to_put(tmp_path: Path, cli: CLI) -> None:
    folder = _set_folder(tmp_path)
    code, out, _ = cli("data", "list", "vangogh2photo", "--data-dir", folder)
    assert code == 0
    assert f"here: {folder / 'vangogh2photo'}" in out
    code, out, _ = cli("data", "list", "monet2photo", "--data-dir", folder)
    assert "not on this machine; put them into a folder as monet2photo/monet/01.jpg" in out
    code, _, err = cli("data", "fetch", "monet2photo", "--data-dir", folder)
    assert code == 2
    assert "put them into a folder" in err


def test_presets_take_what_is_on_this_machine(tmp_path: Path) -> None:
    (note,) = registrations(Colour)
    assert set(note.presets) == {"smoke", "quick", "full", "paper"}
    preset, notes = Colour.choose(note.presets["quick"], typed=frozenset(), data_dir=None)
    assert preset["set"] == ["scikit-learn"]
    assert len(notes) == 2
    preset, notes = Colour.choose(note.presets["full"], typed=frozenset(), data_dir=None)
    assert preset["set"] == ["scikit-learn"]
    assert "demonstration" in notes[-1]
    preset, notes = Colour.choose(note.presets["paper"], typed=frozenset(), data_dir=_set_folder(tmp_path))
    assert preset["set"] == ["vangogh2photo"]
    assert preset["pair"] == list(range(1, REPORTED + 1))
    preset, notes = Colour.choose(note.presets["full"], typed=frozenset({"set"}), data_dir=None)
    assert preset is note.presets["full"]
    assert not notes


def test_where_there_is_one_pair_it_is_the_first(own: tuple[str, str]) -> None:
    assert build_config(ColourConfig, {"set": "scikit-learn", "pair": "3"}, owner="task colour").pair == 1
    config = build_config(ColourConfig, {"source": own[0], "target": own[1], "pair": "3"}, owner="task colour")
    assert (config.set, config.pair) == ("own", 1)
    assert ColourConfig(**config.model_dump()) == config


# ----------------------------------------------------------------------------------------------------------- bad input


def test_wrong_words_are_one_sentence(own: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="not both"):
        build_config(ColourConfig, {"source": own[0], "set": "scikit-learn"}, owner="task colour")
    with pytest.raises(UsageError, match="give both files"):
        Colour(ColourConfig(source=own[0])).check()
    with pytest.raises(UsageError, match="pair"):
        build_config(ColourConfig, {"set": "monet2photo", "pair": "21"}, owner="task colour")


@pytest.mark.parametrize(("size", "words"), [((1, 1), "has 1 x 1 pixels"), ((3, 33), "has 33 x 3 pixels")])
def test_a_picture_of_few_pixels_is_refused(
    size: tuple[int, int], words: str, own: tuple[str, str], tmp_path: Path
) -> None:
    path = written(tmp_path, "small.png", np.zeros((*size, 3), np.uint8))
    with pytest.raises(DataError, match=words):
        made((path, own[1]))


def test_a_bad_picture_is_told_of_before_any_run(own: tuple[str, str], tmp_path: Path, cli: CLI) -> None:
    path = tmp_path / "cut.jpg"
    Image.fromarray(blocks(0, size=(200, 200))).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    code, _, err = cli("--solvers", "identity", "--task", f"colour[source={path},target={own[1]}]", "--out", tmp_path)
    assert code == 2
    assert "cut.jpg: the picture cannot be decoded" in err
    assert "Traceback" not in err


def test_a_run_keeps_numbers_photographs_and_maps_for_pictures(own: tuple[str, str], tmp_path: Path, cli: CLI) -> None:
    task = f"colour[source={own[0]},target={own[1]},space=lab]"
    plan = make_plan(Request("identity", task, preset="smoke", device="cpu", threads=1), Registry())
    names = {run.spec.solver for run in plan.runs}
    assert names == {"reinhard", "histogram_matching", "emd", "sinkhorn", "linear", "constant", "identity"}
    runs = [run for run in plan.runs if run.spec.solver in ("reinhard", "histogram_matching", "identity")]
    job = Job(runs=runs, folder=tmp_path / "out", spool=tmp_path, data_dir=None, shared_device=False, keep_maps=True)
    assert work(job, InThisProcess(), lambda event: None) == 0
    store = Store(tmp_path / "out")
    records = {record.spec.solver: record for record in store.all()}
    assert all(record.status == "ok" for record in records.values()), [r.reason for r in records.values()]
    best = records["histogram_matching"].metrics
    assert best["hi_fwd"] > records["identity"].metrics["hi_fwd"]
    assert best["energy_fwd"] < records["identity"].metrics["energy_fwd"]
    record = records["reinhard"]
    assert record.instance.startswith("a.png to b.png, CIELAB")
    (picture,) = read_pictures(store.pictures(record.id), record.pictures)
    assert list(picture.arrays) == ["source", "target", "forward", "backward"]

    beach, moved = blocks(5, size=(400, 300)), tmp_path / "moved.png"
    words = ("--input", written(tmp_path, "beach.png", beach), "--output", moved)
    for way in ((), ("--backward",)):
        code, out, err = cli("apply", store.map_path(records["identity"].id), *words, *way)
        assert (code, err) == (0, "")
        assert f"{len(np.unique(beach.reshape(-1, 3), axis=0))} colours moved" in out
        assert np.array_equal(np.asarray(Image.open(moved)), beach)
    map_file = store.map_path(record.id)
    assert cli("apply", map_file, "--input", own[0], "--output", moved)[0] == 0
    shown = np.asarray(Image.open(moved))
    assert np.array_equal(shown, picture.arrays["forward"])
    for more, message in (
        (("--input", own[0], "--output", tmp_path / "a.npy"), "name a picture"),
        (("--input", own[0], "--output", own[0]), "is a file that is read"),
        (("--input", own[0], "--output", moved, "--labels", own[1]), "have no classes"),
        (("--input", map_file.with_suffix(".png"), "--output", moved), "no such file"),
    ):
        code, _, err = cli("apply", map_file, *more)
        assert code == 2
        assert message in err
        assert err.count("\n") == 1


def test_only_maps_between_colours_take_pictures(own: tuple[str, str], tmp_path: Path, cli: CLI) -> None:
    code, _, err = cli("apply", small_map(tmp_path / "a.otmap"), "--input", own[0], "--output", tmp_path / "b.png")
    assert code == 2
    assert "is none between colours" in err
