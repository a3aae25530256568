"""One solver against another in one folder."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from otbench.cli import main
from otbench.compare.between import between
from otbench.compare.verdict import Aspect, Comparison, Comparisons, Verdict
from otbench.errors import UsageError
from otbench.records.record import Record

from ..helpers.report_records import record, write


def made(**values: tuple[float, ...]) -> list[dict[str, object]]:
    return [record(name, 8, seed, value) for name, of in values.items() for seed, value in enumerate(of)]


def told(outcome: Comparisons, metric: str = "uvp_fwd") -> Comparison:
    (row,) = [row for row in outcome.rows if row.metric == metric]
    return row


def outcome(first: str, second: str, **values: tuple[float, ...]) -> Comparisons:
    return between([Record.model_validate(one) for one in made(**values)], first, second)


def test_a_solver_is_worse_than_another_one_by_the_ratio_of_their_errors() -> None:
    found = outcome("ncf", "mm", ncf=(1.0, 1.1, 0.9), mm=(3.1, 3.3, 2.8))
    row = told(found)
    assert row.verdict is Verdict.WORSE
    assert (row.base, row.new) == (pytest.approx(0.9967, abs=1e-4), pytest.approx(3.06, abs=0.01))
    assert row.change == pytest.approx((3.1 * 3.3 * 2.8 / (1.0 * 1.1 * 0.9)) ** (1 / 3))
    assert found.regressed
    back = outcome("mm", "ncf", ncf=(1.0, 1.1, 0.9), mm=(3.1, 3.3, 2.8))
    assert told(back).verdict is Verdict.BETTER
    assert told(back).change == pytest.approx(1 / row.change)
    assert not back.regressed


def test_the_error_of_the_pool_is_taken_out_first() -> None:
    pool, extras = (0.001, 0.004, 0.016), ((2e-4, 3e-4, 2e-4), (6e-4, 8e-4, 7e-4))
    near, far = (tuple(p + e for p, e in zip(pool, extra, strict=True)) for extra in extras)
    assert told(outcome("ncf", "mm", ncf=near, mm=far)).verdict is not Verdict.WORSE
    found = outcome("ncf", "mm", ncf=near, mm=far, linear=pool)
    assert told(found).verdict is Verdict.WORSE
    centre = sum(pool) / 3
    ratios = [(b - p + centre) / (a - p + centre) for a, b, p in zip(near, far, pool, strict=True)]
    assert told(found).change == pytest.approx(math.prod(ratios) ** (1 / 3))
    assert any("without the error of each pool" in note for note in found.notes)


def test_memory_and_time_make_no_solver_worse() -> None:
    machine = {"environment": {"system": "Linux", "cpu": "A", "cores": 2, "device": "cpu"}}
    records = [one | machine for one in made(ncf=(1.0, 1.1, 0.9), mm=(1.0, 1.1, 0.9))]
    for one in records[3:]:
        one["memory"] = {"rss_above_imports": 10**9}
    found = between([Record.model_validate(one) for one in records], "ncf", "mm")
    (row,) = [row for row in found.rows if row.aspect is Aspect.MEMORY]
    assert row.verdict is Verdict.WORSE
    assert not found.regressed


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [("ncf", "nfc", "did you mean 'ncf'"), ("zzz", "ncf", "there is: "), ("ncf", "ncf", "named twice")],
)
def test_names_that_are_not_there_are_refused(first: str, second: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        outcome(first, second, ncf=(1.0,), mm=(2.0,))


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = made(fixedpoint=(1.0, 1.1, 0.9), mm=(3.1, 3.3, 2.8))
    for one in made(fixedpoint=(9.0, 9.1, 8.9)):  # the same solver with another rate
        spec = {**one["spec"], "solver_config": {"lr": 1e-5}}  # type: ignore[dict-item]
        records.append(one | {"label": "fixedpoint[lr=1e-5]", "id": f"{one['id']}-slow", "spec": spec})
    folder = str(write(tmp_path / "records", records))
    assert main(["compare", folder, "--solver", "fixedpoint", "--solver", "fixedpoint[lr=1e-5]"]) == 1
    text = capsys.readouterr().out
    assert "fixedpoint[lr=1e-5] IS WORSE than fixedpoint: 2 worse" in text
    file = tmp_path / "b.json"
    assert main(["compare", folder, "--solver", "mm", "--solver", "fixedpoint", "--json", str(file)]) == 0
    assert "fixedpoint is not shown to be worse than mm" in capsys.readouterr().out
    assert json.loads(file.read_text())
    for words, said in (
        ([folder], "two folders, BASE and NEW, or one folder and --solver twice"),
        ([folder, "--solver", "mm"], "--solver twice"),
        ([folder, str(tmp_path), "--solver", "mm", "--solver", "ncf"], "leave NEW out"),
        ([folder, folder], "use --solver twice"),
        ([folder, "--solver", "mm", "--solver", "ncff"], "--solver ncff: no record of it here"),
    ):
        assert main(["compare", *words]) == 2
        assert said in capsys.readouterr().err


def test_suspects_are_written_as_solvers_takes_them(tmp_path: Path) -> None:
    values = {"ncf": (1.0, 1.1, 0.9), "mm": (3.1, 3.3, 2.8), "enot": (1.0, 1.0, 1.0)}
    base, again = (str(write(tmp_path / name, made(**values))) for name in ("base", "again"))
    new = str(write(tmp_path / "new", made(**(values | {"ncf": (9.0, 9.1, 8.9), "enot": (0.1, 0.1, 0.1)}))))
    file = tmp_path / "suspects"
    assert main(["compare", base, new, "--suspects", str(file)]) == 1
    assert file.read_text() == ""  # nothing is left to run
    two = made(ncf=(9.0, 9.1), mm=(30.1, 30.3), enot=(1.0, 1.0, 1.0))
    new = str(write(tmp_path / "two", two))
    main(["compare", base, new, "--suspects", str(file)])
    assert file.read_text() == "mm,ncf\t2\n"
    assert main(["compare", base, again, "--suspects", str(file)]) == 0
    assert file.read_text() == ""
