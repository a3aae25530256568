"""NEW's numbers as asv and pytest-benchmark hold them, read by the latter's own program."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from otbench.compare.compare import compare
from otbench.compare.trackers import asv, pytest_benchmark
from otbench.errors import UsageError
from otbench.records.record import Record
from otbench.reporting import Metric

from ..helpers.report_records import record, write

Cli = Callable[..., tuple[int, str, str]]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ENVIRONMENT = {"commit": COMMIT, "cpu": "A CPU @ 2 GHz", "system": "Linux x86_64", "python": "3.11.7", "torch": "2.6.0"}


def made(**changes: object) -> list[dict[str, object]]:
    environment = {**ENVIRONMENT, "device": "cpu"}
    return [record("ncf", 8, seed, 0.1 * 2**seed, environment=environment, **changes) for seed in range(3)]


def parsed(records: list[dict[str, object]]) -> list[Record]:
    return [Record.model_validate(one) for one in records]


def test_pytest_benchmark_reads_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_benchmark.cli import main

    records = parsed(made())
    path = tmp_path / "0001_new.json"
    path.write_text(pytest_benchmark(compare(records, records), records))
    entries = {one["name"]: one for one in json.loads(path.read_text())["benchmarks"]}
    uvp = entries["ncf: UVP fwd"]
    assert uvp["group"] == "gaussian: d = 8, released pair (full)"
    assert uvp["extra_info"] == {"unit": "%", "seeds": [0, 1, 2]}
    assert uvp["stats"]["data"] == [0.1, 0.2, 0.4]
    assert uvp["stats"]["mean"] == pytest.approx(statistics.fmean([0.1, 0.2, 0.4]))
    assert uvp["stats"]["median"] == 0.2
    assert uvp["stats"]["stddev"] == pytest.approx(statistics.stdev([0.1, 0.2, 0.4]))
    assert entries["ncf: time of a step"]["stats"]["mean"] == pytest.approx(0.1)  # seconds
    monkeypatch.setattr(sys, "argv", ["pytest-benchmark", "compare", str(path), "--columns=mean,rounds"])
    main()
    shown = capsys.readouterr().out
    assert "ncf: UVP fwd" in shown


def test_asv_gets_its_three_files_and_keeps_what_it_knew(tmp_path: Path) -> None:
    records = parsed(made())
    (tmp_path / "benchmarks.json").write_text(json.dumps({"version": 2, "other.track_x": {"name": "other.track_x"}}))
    files = {name: json.loads(text) for name, text in asv(compare(records, records), records, tmp_path).items()}
    assert set(files) == {
        "benchmarks.json",
        "a_cpu_2_ghz_cpu/machine.json",
        "a_cpu_2_ghz_cpu/01234567-otbench-py3.11-torch2.6.0.json",
    }
    run = files["a_cpu_2_ghz_cpu/01234567-otbench-py3.11-torch2.6.0.json"]
    assert (run["commit_hash"], run["version"]) == (COMMIT, 2)
    assert run["date"] == 1767225600000
    key = "gaussian_d_8_released_pair_full.track_ncf_uvp_fwd"
    assert run["results"][key][0] == [pytest.approx(0.7 / 3)]
    benchmarks = files["benchmarks.json"]
    assert benchmarks[key]["type"] == "track"
    assert benchmarks[key]["unit"] == "%"
    assert benchmarks["gaussian_d_8_released_pair_full.time_ncf_time_of_a_step"]["unit"] == "seconds"
    assert "other.track_x" in benchmarks
    assert set(run["results"]) == set(benchmarks) - {"version", "other.track_x"}


def test_what_should_grow_is_turned_and_what_lies_on_both_sides_is_left_out() -> None:
    info = [Metric("acc", "accuracy", "%", higher_is_better=True, primary=True)]
    for values, name in (((90.0, 92.0, 97.0), "100 - accuracy"), ((90.0, 92.0, 101.0), None)):
        records = parsed(
            [
                record("ncf", 8, seed, 0.1, metrics={"acc": value}, metric_info=[vars(one) for one in info], start={})
                for seed, value in enumerate(values)
            ]
        )
        entries = json.loads(pytest_benchmark(compare(records, records), records))["benchmarks"]
        found = [one for one in entries if "accuracy" in one["name"]]
        assert [one["name"] for one in found] == ([f"ncf: {name}"] if name else [])
        if found:
            assert found[0]["stats"]["data"] == pytest.approx([10.0, 8.0, 3.0])


def test_asv_needs_one_commit_and_a_folder_of_its_own(tmp_path: Path) -> None:
    records = parsed(made())
    outcome = compare(records, records)
    other = parsed(made(id="other"))
    other[0].environment["commit"] = "f" * 40
    for some in (parsed([record("ncf", 8, 0, 0.1)]), other, []):
        with pytest.raises(UsageError, match="must be of one commit"):
            asv(outcome, some, tmp_path)
    for text in ("[]", "no JSON", json.dumps({"version": 1})):
        (tmp_path / "benchmarks.json").write_text(text)
        with pytest.raises(UsageError, match=r"benchmarks\.json"):
            asv(outcome, records, tmp_path)


def test_the_command_writes_both(cli: Cli, tmp_path: Path) -> None:
    base, new = write(tmp_path / "base", made()), write(tmp_path / "new", made())
    words = ("--pytest-benchmark", tmp_path / "rounds.json", "--asv", tmp_path / "asv" / "results")
    code, _, err = cli("compare", base, new, *words)
    assert (code, err) == (0, "")
    assert json.loads((tmp_path / "rounds.json").read_text())["benchmarks"]
    assert sorted(path.name for path in (tmp_path / "asv" / "results").rglob("*.json")) == [
        "01234567-otbench-py3.11-torch2.6.0.json",
        "benchmarks.json",
        "machine.json",
    ]
