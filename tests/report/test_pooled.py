"""Generated pairs as one section: means over pairs, each over its seeds; what has a name is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from otbench.records.record import Record
from otbench.report.build import build
from otbench.report.figures import curves
from otbench.report.files import Slugs
from otbench.report.page import ordered
from otbench.report.pooled import MANY, Pool, pooled
from otbench.report.rows import Section, number, sections
from otbench.report.tables import families

from ..helpers.report_records import record, spec


def made(runs: Sequence[tuple[str, object, int, float]], **changes: object) -> list[Section]:
    """Return the sections of runs given by solver, pair, seed and error."""
    found = []
    for index, (solver, pair, seed, value) in enumerate(runs):
        told = spec(solver, 2, seed, task_config={"dim": 2, "pair": pair})
        one = record(solver, 2, seed, value, id=f"r{index}", spec=told, instance=f"d = 2, generated pair {pair}")
        found.append(Record.model_validate(one | {"published": None} | changes))
    return sections(found)


def test_numbers_of_a_pool_are_means_over_pairs_each_over_its_seeds() -> None:
    runs = [("ncf", pair, seed, 10.0 * pair + seed) for pair in (0, 1, 2) for seed in range(2 + pair)]
    (pool,) = pooled(made([*runs, *(("identity", pair, 0, 50.0) for pair in (0, 1, 2))]))
    assert isinstance(pool, Pool)
    assert (pool.instance, pool.pairs) == ("d = 2, generated pairs 0 to 2", "0 to 2")
    assert [member.config["pair"] for member in pool.members] == [0, 1, 2]
    row = next(row for row in pool.rows if row.label == "ncf")
    assert row.numbers["uvp_fwd"] == number([0.5, 11.0, 21.5])  # a pair counts once, however many seeds it has
    assert len(row.records) == 9
    assert sorted(row.blocks["uvp_fwd"].values()) == [0.0, 1.0, 10.0, 11.0, 12.0, 20.0, 21.0, 22.0, 23.0]
    assert row.failures == []


@pytest.mark.parametrize("pair", ["released", None, True, "-1", "1.0", "٣"])
def test_a_pair_without_a_number_is_never_pooled(pair: object) -> None:
    found = made([("ncf", 0, 0, 1.0), ("ncf", pair, 0, 2.0)])
    assert len(found) == 2
    assert pooled(found) == found


def test_other_sizes_presets_and_devices_stay_apart() -> None:
    apart = made([("ncf", 0, 0, 1.0)]) + made([("ncf", 1, 0, 2.0)], environment={"device": "other"})
    assert pooled(apart) == apart
    (pool,) = pooled(made([("ncf", 0, 0, 1.0), ("ncf", "7", 0, 2.0)]))  # a number, written either way
    assert pool.instance == "d = 2, generated pairs 0 and 7"


def test_a_row_that_lacks_a_pair_says_so_and_is_not_ranked() -> None:
    runs = [("ncf", 0, 0, 1.0), ("ncf", 1, 0, 5.0), ("fixedpoint", 0, 0, 0.5), ("mm", 0, 0, 2.0), ("mm", 1, 0, 2.0)]
    (pool,) = pooled(made(runs))
    (family,) = families([pool], Slugs())
    rows = {row.label: row for row in family.sections[0].rows}
    assert rows["fixedpoint"].failures == ["pair 1: not run, so that this is a mean over other pairs than other rows'"]
    assert rows["ncf"].failures == rows["mm"].failures == []


def test_failures_name_their_pair_and_a_row_without_numbers_in_one_pair_has_none() -> None:
    found = made([("ncf", 0, 0, 1.0), ("mm", 0, 0, 1.0), ("mm", 1, 0, 1.0)])
    found += made([("ncf", 1, 0, 1.0)], status="diverged", reason="nan at step 3", metrics={})
    (pool,) = [one for one in pooled(found) if isinstance(one, Pool)]
    assert len(pool.members) == 3  # the two of pair 1 were made apart: both are members
    row = next(row for row in pool.rows if row.label == "ncf")
    assert row.failures == ["pair 1, seed 0: diverged: nan at step 3"]
    assert row.numbers == {}
    assert row.status == "diverged"


def test_the_page_has_comparisons_first_and_of_these_the_comparable_ones() -> None:
    alone = made([("ncf", 0, 0, 1.0)])
    quick = [spec(name, 2, 0, preset="quick", task="b") for name in ("ncf", "mm")]
    two = sections([Record.model_validate(record(str(s["solver"]), 2, 0, 1.0, spec=s, published=None)) for s in quick])
    both = made([("ncf", "released", 0, 1.0), ("mm", "released", 0, 1.0)])
    found = ordered(families([*alone, *two, *both], Slugs()))
    assert [(family.sections[0].preset, len(family.sections[0].rows)) for family in found] == [
        ("full", 2),
        ("quick", 2),
        ("full", 1),
    ]


def test_files_keep_pairs_apart_and_the_page_draws_them_together(tmp_path: Path) -> None:
    records = [r for one in made([("ncf", pair, 0, 1.0) for pair in (0, 1)]) for row in one.rows for r in row.records]
    folder = build(records, tmp_path, ["svg", "html"], command="x")
    assert sum(name.endswith(".svg") for name in folder.written) == 2
    page = (tmp_path / "index.html").read_text()
    assert page.count("<img ") == 1
    assert "generated pairs 0 and 1" in page
    assert "Means over pairs 0 and 1, each over its seeds; ±: over pairs." in page


@pytest.mark.parametrize(("pairs", "over"), [((0, 1), "pairs and seeds"), ((0,), "seeds")])
def test_a_figure_says_over_what_its_medians_are(
    pairs: tuple[int, ...], over: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    monkeypatch.setattr(curves, "save", lambda figure, *_: said.append(figure.get_suptitle()))
    runs = [("ncf", pair, seed, 1.0 + seed) for pair in pairs for seed in (0, 1)]
    list(curves.drawings(*families(pooled(made(runs)), Slugs()), ["svg"]))
    assert f"medians over {over}; bands" in said[0]


def test_files_have_one_table_and_one_figure_of_many_pairs_but_all_their_numbers(tmp_path: Path) -> None:
    runs = [(solver, pair, 0, value + pair) for solver, value in (("ncf", 1.0), ("mm", 2.0)) for pair in range(MANY)]
    records = [r for one in made(runs) for row in one.rows for r in row.records]
    folder = build(records, tmp_path, ["svg", "latex", "markdown", "csv"], command="x")
    assert sum("curves" in name for name in folder.written) == 1
    text = (tmp_path / "tables.md").read_text()
    assert "n = 4 pairs (0 to 3), each over its seeds." in text
    assert "generated pairs 0 to 3" in text
    assert "2.5" in text  # the mean of 1 to 4
    (table,) = (tmp_path / "latex").glob("*-pairs-*accuracy.tex")
    assert "n = 4 pairs (0 to 3), each over its seeds" in table.read_text().replace("~", " ").replace("$", "")
    assert sum("generated pair 3" in line for line in (tmp_path / "numbers.csv").read_text().splitlines()) > 1


def test_a_pool_whose_instances_name_no_pair_says_which_pairs_they_are() -> None:
    found = made([("ncf", 0, 0, 1.0), ("ncf", 1, 0, 2.0)], instance="a photograph")
    assert len(found) == 2
    (pool,) = pooled(found)
    assert pool.instance == "pairs 0 and 1; the first is a photograph"
