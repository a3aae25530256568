"""NEW's numbers for programs that follow them over time: asv and pytest-benchmark.

Both hold what was measured and nothing of a verdict. A benchmark is one number of one solver on one instance, its
values those of the seeds. Times are in seconds, all else in the unit that stands beside it.
"""

from __future__ import annotations

import datetime
import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from otbench import __version__
from otbench.compare.verdict import Aspect, Comparison, Comparisons
from otbench.compare.writers import shrinking
from otbench.errors import UsageError
from otbench.files import shown
from otbench.names import plain
from otbench.records.record import Record, Status
from otbench.records.series import newest, series_of
from otbench.records.words import why_unread

_ASV_RESULTS, _ASV_BENCHMARKS, _ASV_MACHINE = 2, 2, 1
"""Versions of asv's files."""


@dataclass(frozen=True)
class _Benchmark:
    """One number to follow: values by seed, smaller is better."""

    group: str
    name: str
    unit: str
    values: Mapping[int, float]
    timed: bool


def pytest_benchmark(compared: Comparisons, records: Iterable[Record]) -> str:
    """Return NEW's numbers as pytest-benchmark's JSON, which `pytest-benchmark compare` reads.

    Its `stats` are over the seeds. Units other than seconds stand in `extra_info`.

    Args:
        compared: what was compared; it says which numbers.
        records: those of NEW.
    """
    found = list(records)
    environment = _newest(found).environment if found else {}
    entries = []
    for one in _benchmarks(compared, found):
        entries.append(
            {
                "group": one.group,
                "name": one.name,
                "fullname": f"{one.group}::{one.name}",
                "params": None,
                "param": None,
                "extra_info": {"unit": one.unit, "seeds": sorted(one.values)},
                "options": {},
                "stats": _statistics([one.values[seed] for seed in sorted(one.values)]),
            }
        )
    commit = {"id": environment.get("commit") or "", "dirty": bool(environment.get("dirty")), "branch": ""}
    content = {
        "machine_info": {
            "node": "",
            "processor": environment.get("cpu", ""),
            "machine": environment.get("system", ""),
            "python_version": environment.get("python", ""),
            "cpu": {"brand_raw": environment.get("cpu", ""), "count": environment.get("cores", 0)},
        },
        "commit_info": commit,
        "benchmarks": entries,
        "datetime": _newest(found).created if found else "",
        "version": f"otbench {__version__}",
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def asv(compared: Comparisons, records: Iterable[Record], folder: Path) -> dict[str, str]:
    """Return NEW's numbers as files of asv's results folder, by path in it: what `asv publish` and `asv compare` read.

    Args:
        compared: what was compared; it says which numbers.
        records: those of NEW.
        folder: asv's results folder; the benchmarks that it knows are kept.

    Raises:
        UsageError: the records hold no commit, or several: a file of asv is of one. The folder holds something else.
    """
    found = list(records)
    commits = {str(record.environment.get("commit") or "") for record in found}
    if len(commits) != 1 or "" in commits:
        seen = ", ".join(sorted(commit[:8] or "none" for commit in commits)) or "none"
        raise UsageError(f"--asv: the records of NEW must be of one commit, which asv files them by; they hold: {seen}")
    (commit,) = commits
    last = _newest(found)
    environment = last.environment
    python = ".".join(str(environment.get("python", "")).split(".")[:2])
    torch = str(environment.get("torch", "")).partition("+")[0]
    machine = _slug(f"{environment.get('cpu', '')} {environment.get('device', '')}") or "machine"
    name = f"otbench-py{python}-torch{torch}"
    facts = {
        "arch": str(environment.get("system", "")),
        "cpu": str(environment.get("cpu", "")),
        "machine": machine,
        "num_cpu": str(environment.get("cores", "")),
        "os": str(environment.get("system", "")).partition(" ")[0],
        "ram": "",
    }
    benchmarks = _known_to_asv(folder)
    results: dict[str, list[object]] = {}
    for one in _benchmarks(compared, found):
        key = f"{_slug(one.group)}.{'time' if one.timed else 'track'}_{_slug(one.name)}"
        benchmarks[key] = {
            "code": "",
            "name": key,
            "pretty_name": f"{one.group}: {one.name}",
            "param_names": [],
            "params": [],
            "timeout": 60.0,
            "type": "time" if one.timed else "track",
            "unit": one.unit,
            "version": "1",
        }
        results[key] = [[statistics.fmean(one.values.values())], [], "1"]
    content = {
        "commit_hash": commit,
        "env_name": name,
        "date": _milliseconds(last.created),
        "params": {**facts, "python": python, "torch": torch},
        "python": python,
        "requirements": {"torch": torch},
        "env_vars": {},
        "result_columns": ["result", "params", "version"],
        "results": results,
        "durations": {},
        "version": _ASV_RESULTS,
    }
    files = {
        f"{machine}/machine.json": {**facts, "version": _ASV_MACHINE},
        f"{machine}/{commit[:8]}-{name}.json": content,
        "benchmarks.json": benchmarks,
    }
    return {path: json.dumps(text, indent=1, allow_nan=False) + "\n" for path, text in files.items()}


def _known_to_asv(folder: Path) -> dict[str, object]:
    """Return what stands in the folder's benchmarks.json; its version alone where there is none."""
    path = folder / "benchmarks.json"
    if not path.exists():
        return {"version": _ASV_BENCHMARKS}
    try:
        known = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"--asv: cannot read {shown(path)}: {why_unread(error)}") from None
    except ValueError:
        raise UsageError(f"--asv: {shown(path)}: not JSON; move it away") from None
    if not isinstance(known, dict) or known.get("version") != _ASV_BENCHMARKS:
        raise UsageError(f"--asv: {shown(path)} is no list of benchmarks of asv, version {_ASV_BENCHMARKS}")
    return known


def _benchmarks(compared: Comparisons, records: Sequence[Record]) -> list[_Benchmark]:
    runs = newest(records, series_of)
    made = []
    for row in sorted(compared.rows, key=lambda row: (row.series.order, row.aspect, row.metric)):
        series = row.series
        values = {
            seed: value
            for seed, record in runs.get(series, {}).items()
            if record.status is Status.OK and (value := _value(record, row)) is not None and math.isfinite(value)
        }
        if row.new is None or not values:
            continue
        turned = {seed: shrinking(row, value) for seed, value in values.items()}
        names = {name for name, _ in turned.values()}
        if len(names) != 1:  # on both sides of the best value: no one number is smaller where it is better
            continue
        group = plain(f"{series.task}: {series.instance} ({series.preset})")
        timed = row.aspect is Aspect.TIME
        unit = "seconds" if timed else plain(row.unit) or "1"
        name = plain(f"{series.label}: {names.pop()}")
        made.append(_Benchmark(group, name, unit, {seed: value for seed, (_, value) in turned.items()}, timed))
    return made


def _value(record: Record, row: Comparison) -> float | None:
    if row.aspect is Aspect.QUALITY:
        return record.metrics.get(row.metric)
    if row.aspect is Aspect.TIME:
        return None if record.times.step_ms is None else record.times.step_ms / 1000
    if row.aspect is Aspect.MEMORY:
        memory = record.memory
        taken = memory.rss_above_imports if memory.cuda_peak_allocated is None else memory.cuda_peak_allocated
        return None if taken is None else taken / 1e6
    return None


def _statistics(data: Sequence[float]) -> dict[str, object]:
    """Return what pytest-benchmark holds of the rounds of a benchmark."""
    mean, middle, n = statistics.fmean(data), statistics.median(data), len(data)
    low, high = (data[0], data[0]) if n == 1 else statistics.quantiles(data, n=4, method="inclusive")[::2]
    deviation = statistics.stdev(data) if n > 1 else 0.0
    inner = [x for x in data if low - 1.5 * (high - low) <= x <= high + 1.5 * (high - low)]
    far = sum(abs(x - mean) > deviation for x in data)
    return {
        "min": min(data),
        "max": max(data),
        "mean": mean,
        "stddev": deviation,
        "rounds": n,
        "median": middle,
        "iqr": high - low,
        "q1": low,
        "q3": high,
        "iqr_outliers": n - len(inner),
        "stddev_outliers": far,
        "outliers": f"{far};{n - len(inner)}",
        "ld15iqr": min(inner, default=min(data)),
        "hd15iqr": max(inner, default=max(data)),
        "ops": 1 / mean if mean else 0.0,
        "total": math.fsum(data),
        "data": list(data),
        "iterations": 1,
    }


def _newest(records: Sequence[Record]) -> Record:
    return max(records, key=lambda record: (record.created, record.id))


def _milliseconds(created: str) -> int:
    try:
        return int(datetime.datetime.fromisoformat(created).timestamp() * 1000)
    except ValueError:
        return 0


def _slug(text: str) -> str:
    return "_".join(re.findall(r"[a-z0-9]+", text.lower()))[:120]
