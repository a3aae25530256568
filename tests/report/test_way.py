"""The table of the way from source to target: its rows and columns, where it stands, and when there is none."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from otbench.metrics.known_map import KNOWN_WAY_METRICS
from otbench.records.record import Record
from otbench.report.build import build
from otbench.report.files import Slugs
from otbench.report.rows import Section, sections
from otbench.report.tables import families, tables, way
from otbench.report.terminal import print_sections
from otbench.report.way import SAYS, WAY

from ..helpers.report_records import METRICS, record, write

Cli = Callable[..., tuple[int, str, str]]
TITLE = "The way from source to target"
INFO = [*METRICS, *({"name": m.name, "label": m.label, "unit": m.unit} for m in KNOWN_WAY_METRICS)]


def straight(solver: str, end: float, *, dim: int = 8, seed: int = 0, **changes: object) -> dict[str, object]:
    """Return a run whose points go straight to their images: errors grow with the square of the time."""
    names = {"uvp_quarter": 1 / 16, "uvp_half": 1 / 4, "uvp_three_quarters": 9 / 16}
    metrics = {"uvp_fwd": end, "uvp_bwd": end, **{name: end * part for name, part in names.items()}}
    return record(solver, dim, seed, end, metrics=metrics, metric_info=INFO, **changes)


def moving(
    solver: str, end: float, action: float, *, dim: int = 8, seed: int = 0, **changes: object
) -> dict[str, object]:
    """Return such a run that has a velocity, too."""
    made = straight(solver, end, dim=dim, seed=seed)
    more = {"velocity_error": 10 * end, "action_ratio": action, "continuity": 2.0}
    return made | {"metrics": {**dict(made["metrics"]), **more}} | changes  # type: ignore[call-overload]


def some() -> list[dict[str, object]]:
    """Return a sanity row, a solver with a velocity over three seeds, one without, one without a way, a failed one."""
    return [
        straight("identity", 16.0, curve=[]),
        *(moving("geodesic", 2.0 + seed / 5, 0.97 + 0.01 * seed, seed=seed) for seed in range(3)),
        *(straight("ncf", 8.0 + seed / 5, seed=seed) for seed in range(3)),
        record("a_plugin", 8, 0, 1.0, metric_info=INFO),
        straight("mm", 1.0, status="diverged", reason="the loss is nan") | {"metrics": {}},
    ]


def made(records: list[dict[str, object]]) -> Section:
    (section,) = sections([Record.model_validate(one) for one in records])
    return section


def printed(records: list[dict[str, object]]) -> str:
    out = io.StringIO()
    print_sections(Console(file=out, width=160), sections([Record.model_validate(one) for one in records]))
    return out.getvalue()


def test_its_metrics_are_those_that_tasks_report() -> None:
    assert tuple(metric.name for metric in KNOWN_WAY_METRICS) == WAY


def test_it_has_the_rows_that_have_any_and_means_over_seeds() -> None:
    table = way(made(some()), "", Slugs())
    assert table is not None
    assert table.heading == TITLE
    assert [column.head for column in table.columns] == [
        "UVP X_1/4 (%)",
        "UVP X_1/2 (%)",
        "UVP X_3/4 (%)",
        "velocity error (%)",
        "action",
        "continuity (%)",
    ]
    assert {line.row.label: [cell.value for cell in line.cells] for line in table.lines} == {
        "identity": [1, 4, 9, None, None, None],
        "geodesic": pytest.approx([2.2 / 16, 2.2 / 4, 2.2 * 9 / 16, 22, 0.98, 2]),
        "ncf": [pytest.approx(8.2 * part / 16) for part in (1, 4, 9)] + [None] * 3,
    }
    by_name = {line.row.label: [cell.text for cell in line.cells] for line in table.lines}
    half_width = 4.302653 * 0.2 / 3**0.5  # of Student's t with two degrees of freedom
    assert by_name["geodesic"][1] == f"0.55 ±{half_width / 4:.2f}"
    assert by_name["geodesic"][4] == "0.980 ±0.025"
    assert by_name["ncf"][3:] == ["-"] * 3
    assert table.seeds == "n = 1 to 3 seeds; numbers without ± are of one seed"
    assert SAYS in table.remarks
    assert not table.pairs


def test_the_best_are_emphasised_but_for_the_action_which_is_best_at_one() -> None:
    records = [
        made
        for seed in range(3)
        for made in (
            moving("short", 1.0 + seed / 10, 0.5 + seed / 100, seed=seed),
            moving("long", 9.0 + seed / 10, 1.0 + seed / 100, seed=seed),
        )
    ]
    table = way(made(records), "", Slugs())
    assert table is not None
    ranks = {line.row.label: [cell.rank for cell in line.cells] for line in table.lines}
    assert ranks == {"short": [1, 1, 1, 1, 0, 1], "long": [0, 0, 0, 0, 0, 1]}


def test_columns_that_no_row_has_are_left_out_and_so_is_a_table_without_any() -> None:
    table = way(made([straight("ncf", 8.0), straight("identity", 16.0)]), "", Slugs())
    assert table is not None
    assert [column.key for column in table.columns] == ["uvp_quarter", "uvp_half", "uvp_three_quarters"]
    assert way(made([record("ncf", 8, 0, 1.0, metric_info=INFO)]), "", Slugs()) is None
    assert way(made([record("ncf", 8, 0, 1.0)]), "", Slugs()) is None
    assert way(made([straight("ncf", 1.0, status="diverged") | {"metrics": {}}]), "", Slugs()) is None


def test_each_size_has_one_between_scores_and_targets() -> None:
    found = families(
        sections([Record.model_validate(moving("ncf", 1.0, 1.0, dim=dim)) for dim in (2, 8)]), slugs := Slugs()
    )
    titles = [table.heading for table in tables(found[0], slugs)]
    assert titles.count(TITLE) == 2
    first = titles.index(TITLE)
    assert max(k for k, title in enumerate(titles) if "by dimension" in title) < first
    assert first < min(k for k, title in enumerate(titles) if title.startswith("Training to bring"))


def test_it_stands_on_the_screen_and_is_explained_once() -> None:
    text = printed([*some(), moving("ncf", 1.0, 1.0, dim=2)])
    assert text.count(f"\n{TITLE}\n") == 2
    assert re.sub(r"\s+", " ", text).count(SAYS) == 1
    assert text.index("UVP fwd") < text.index(TITLE) < text.index("Training to bring")
    without = printed([record("ncf", 8, 0, 1.0)])
    assert TITLE not in without
    assert "continuity" not in without


def test_it_is_in_every_format(tmp_path: Path) -> None:
    records = [Record.model_validate(one) for one in some()]
    build(records, tmp_path, ["latex", "markdown", "csv", "html"], command="otbench report")
    markdown, page = (tmp_path / "tables.md").read_text(), (tmp_path / "index.html").read_text()
    assert f"### {TITLE}\n" in markdown
    assert "| method | UVP X\\_1/4 (%) |" in markdown
    assert f"<h4>{TITLE}</h4>" in page
    assert 'data-k="velocity_error"' in page
    (path,) = (tmp_path / "latex").glob("*-the-way-from-source-to-target.tex")
    assert r"\caption{The way from source to target. " in path.read_text()
    assert r"$A / A^*$" in path.read_text()
    lines = list(csv.DictReader(io.StringIO((tmp_path / "numbers.csv").read_text())))
    units = {line["quantity"]: line["unit"] for line in lines if line["method"] == "geodesic"}
    assert [units[name] for name in WAY] == ["%", "%", "%", "%", "", "%"]


def test_whoever_names_metrics_sees_those_alone(tmp_path: Path, cli: Cli) -> None:
    store = write(tmp_path / "store", some())
    assert f"\n{TITLE}\n" in cli("table", store)[1]
    for typed in ("uvp_fwd", "uvp_fwd,uvp_half"):
        code, out, _ = cli("table", store, "--metrics", typed)
        assert code == 0
        assert TITLE not in out
        assert ("UVP X_1/2" in out) == ("uvp_half" in typed)
        assert "continuity" not in out
    assert cli("report", store, "--metrics", "uvp_fwd", "--format", "markdown,latex", "--out", tmp_path / "out")[0] == 0
    assert TITLE not in (tmp_path / "out" / "tables.md").read_text()
    assert not [*(tmp_path / "out" / "latex").glob("*-the-way-*")]
