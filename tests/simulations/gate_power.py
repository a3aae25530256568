"""How often the gate of continuous integration raises a false alarm, and how often it sees a regression.

    tests/simulations/plants.sh PYTHON                  # plants.csv again, a quarter of an hour on two cores
    python tests/simulations/gate_power.py --write      # results/reference/ci/power.md again, about five minutes

The baseline is the real one, and so is every line of `otbench.compare` that judges it. NEW is made from it:

* A *regression by f* multiplies the errors of one solver by f, in all of its primary metrics, and by what a real
  regression does from seed to seed beyond its mean. That is taken from `plants.csv`: what half, or three quarters, of
  the steps did to the same seeds, seed by seed, as the logarithm of the ratio. Its residuals are drawn with
  replacement, all metrics of one seed together, and stretched by the root of n / (n - 1) for the mean that was taken
  from them. Where it did more than a factor of f, they count in proportion. Solvers that converge steadily keep the
  ratio of effect and scatter; those that oscillate scatter as much from a small change, and three quarters of the steps
  tell. Of the two plants, the one that scatters more counts.
* *The same machine*: everything else is equal to the last bit. *Another machine*: everything, the regressed solver too,
  is multiplied by what other instructions did to unchanged code (rows `other instructions` of `plants.csv`), drawn with
  replacement and with a random sign. Where training amplifies rounding until nothing is paired, a regression's own
  scatter holds that already; then it counts twice, and the power is larger than what is said here.
* *New draws*: unchanged code whose random numbers are all others, so that nothing is paired. BASE and NEW are both
  drawn from normal distributions of logarithms, with the covariance over the baseline's seeds.

All is done as `.ci/compare` does it: three seeds of everything, then all of the baseline's seeds of what is worse by
more than the tolerance on any of these.
"""

from __future__ import annotations

import argparse
import csv
import math
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from otbench.compare.quality import Pending, compare_quality, judged
from otbench.compare.verdict import Comparison, Rules
from otbench.records.record import Record, Status
from otbench.records.series import Series, newest, series_of
from otbench.records.store import read_all

ROOT = Path(__file__).resolve().parents[2]
BASELINE = ROOT / "results" / "reference" / "ci"
PLANTS = Path(__file__).with_name("plants.csv")
TABLE = BASELINE / "power.md"
OTHER = "other instructions"
FEWER_STEPS = ("half the steps", "three quarters of the steps")
FIRST = range(3)
"""Seeds of the first look, as in `.ci/compare`; then come all of the baseline's."""
FACTORS = (1.5, 2.0, 3.0)
REPEATS = 200
UNCHANGED = 1000
Runs = dict[int, Record]
Change = Callable[[Series, int], Mapping[str, float]]
"""Gives, for a series and a seed, the logarithm of the factor of each metric."""


@dataclass(frozen=True)
class Gate:
    """The baseline, and how NEW is judged against it."""

    base: Mapping[Series, Runs]
    _equal: dict[Series, list[Pending]] = field(default_factory=dict)

    def alarm(self, change: Change, changed: Iterable[Series]) -> bool:
        """Say whether the gate fails where NEW is `change` of BASE; all series but `changed` are equal to the bit."""
        changed = list(changed)
        first = self._judged({series: self._pending(series, change, FIRST) for series in changed})
        doubtful = {row.series for row in first if row.leaning}
        if not doubtful:
            return False
        seeds = {series: sorted(self.base[series]) if series in doubtful else FIRST for series in changed}
        last = self._judged({series: self._pending(series, change, seeds[series]) for series in changed})
        return any(row.regressed for row in last)

    def _judged(self, pending: Mapping[Series, Sequence[Pending]]) -> list[Comparison]:
        for series in self.base.keys() - pending.keys() - self._equal.keys():
            self._equal[series] = self._pending(series, lambda *_: {}, FIRST)
        return judged(
            [item for series in self.base for item in pending.get(series, self._equal.get(series, ()))], Rules()
        )

    def _pending(self, series: Series, change: Change, seeds: Iterable[int]) -> list[Pending]:
        base = self.base[series]
        new = {seed: _times(base[seed], change(series, seed)) for seed in seeds if seed in base}
        said, waiting = compare_quality(series, base, new, sorted(new), Rules())
        assert not said
        return waiting


def _times(record: Record, logs: Mapping[str, float]) -> Record:
    metrics = {name: value * math.exp(logs.get(name, 0.0)) for name, value in record.metrics.items()}
    return record.model_copy(update={"metrics": metrics})


def baseline(folder: Path = BASELINE) -> Gate:
    """Return the gate of the records in `folder`."""
    records, _ = read_all([folder])
    return Gate(newest((r for r in records if r.status is Status.OK), series_of))


Ratios = Mapping[str, Sequence[Mapping[str, float]]]
"""By label, for each seed the logarithm of the ratio of each metric."""


def ratios(plant: str, path: Path = PLANTS) -> Ratios:
    """Return what `plant` did, from the table of measured ratios."""
    by_seed: dict[tuple[str, int], dict[str, float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if line["plant"] == plant:
                by_seed.setdefault((line["method"], int(line["seed"])), {})[line["metric"]] = float(line["log_ratio"])
    made: dict[str, list[dict[str, float]]] = {}
    for (label, _), logs in sorted(by_seed.items()):
        made.setdefault(label, []).append(logs)
    return made


def effect(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over seeds of each metric."""
    return {name: sum(logs[name] for logs in found) / len(found) for name in found[0]}


def residuals(found: Sequence[Mapping[str, float]], size: float = math.inf) -> list[dict[str, float]]:
    """Return the ratios of each seed without their mean over seeds, shrunk as for a regression of mean `size`."""
    n, centre = len(found), effect(found)
    stretch = {name: math.sqrt(n / (n - 1)) * min(1.0, size / max(abs(mean), 1e-9)) for name, mean in centre.items()}
    return [{name: stretch[name] * (logs[name] - centre[name]) for name in centre} for logs in found]


class Simulation:
    """Draws of NEW."""

    def __init__(self, gate: Gate, seed: int, path: Path = PLANTS) -> None:
        self.gate = gate
        self.plants = [ratios(name, path) for name in FEWER_STEPS]
        self.other = ratios(OTHER, path)
        self.generator = np.random.default_rng(seed)

    def scatter(self, label: str, factor: float) -> list[dict[str, float]]:
        """Return what a regression of `label` by `factor` does from seed to seed beyond its mean."""
        made = [residuals(plant[label], abs(math.log(factor))) for plant in self.plants if label in plant]
        return max(made, key=lambda found: np.mean([log**2 for logs in found for log in logs.values()]))

    def regression(self, series: Series, factor: float) -> Change:
        """Return a regression of `series` on the same machine."""
        scatter = self.scatter(series.label, factor)
        drawn = {seed: self._pick(scatter) for seed in self.gate.base[series]}

        def change(one: Series, seed: int) -> Mapping[str, float]:
            return {name: math.log(factor) + log for name, log in drawn[seed].items()} if one == series else {}

        return change

    def machine(self, then: Change = lambda *_: {}) -> Change:
        """Return `then` on another machine."""
        kept: dict[tuple[Series, int], Mapping[str, float]] = {}

        def change(series: Series, seed: int) -> Mapping[str, float]:
            if (series, seed) not in kept:
                rounding = self._pick(self.other[series.label]) if series.label in self.other else {}
                sign = float(self.generator.choice([-1.0, 1.0]))
                more = then(series, seed)
                names = {*rounding, *more}
                kept[series, seed] = {n: sign * rounding.get(n, 0.0) + more.get(n, 0.0) for n in names}
            return kept[series, seed]

        return change

    def new_draws(self) -> bool:
        """Say whether the gate fails where all random numbers of unchanged code are others."""
        base: dict[Series, Runs] = {}
        factors: dict[tuple[Series, int], Mapping[str, float]] = {}
        for series, runs in self.gate.base.items():
            seeds, names = sorted(runs), sorted(n for n in runs[min(runs)].metrics if self._judged(runs, n))
            logs = np.log([[runs[seed].metrics[name] for name in names] for seed in seeds])
            spread = logs - logs.mean(0)
            weights = self.generator.normal(size=(2, len(seeds), len(seeds))) / math.sqrt(len(seeds) - 1)
            before, now = logs.mean(0) + weights @ spread  # normal, with the covariance over seeds
            exact = not spread.any()
            base[series] = {}
            for k, seed in enumerate(seeds):
                to = {name: float(before[k, j] - logs[k, j]) for j, name in enumerate(names)}
                base[series][seed] = runs[seed] if exact else _times(runs[seed], to)
                factors[series, seed] = (
                    {} if exact else {name: float(now[k, j] - before[k, j]) for j, name in enumerate(names)}
                )
        return Gate(base).alarm(lambda series, seed: factors[series, seed], base)

    @staticmethod
    def _judged(runs: Runs, name: str) -> bool:
        return any(info.name == name and info.primary for info in runs[min(runs)].metric_info)

    def _pick(self, found: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
        return found[int(self.generator.integers(len(found)))]


_the_baseline = cache(baseline)


def _unchanged(job: tuple[int, int]) -> tuple[int, int]:
    """Count false alarms of some repetitions: on another machine, and with other random numbers."""
    seed, repeats = job
    made = Simulation(_the_baseline(), seed)
    everything = list(made.gate.base)
    machines = sum(made.gate.alarm(made.machine(), everything) for _ in range(repeats))
    return machines, sum(made.new_draws() for _ in range(repeats))


def _row(job: tuple[int, str]) -> str:
    """Return the line of one solver."""
    seed, label = job
    made = Simulation(_the_baseline(), seed)
    gate, everything = made.gate, list(made.gate.base)
    (series,) = [series for series in everything if series.label == label]
    runs, half = gate.base[series], made.scatter(label, 2.0)
    over = max(float(np.std(np.log([runs[s].metrics[n] for s in runs]), ddof=1)) for n in half[0])
    own = max(math.sqrt(np.mean([logs[n] ** 2 for logs in half])) for n in half[0])
    cells = [str(len(runs)), f"{over:.2f}", f"{own:.2f}"]
    for elsewhere in (False, True):
        for factor in FACTORS:
            found = 0
            for _ in range(REPEATS):
                change = made.regression(series, factor)
                found += gate.alarm(made.machine(change), everything) if elsewhere else gate.alarm(change, [series])
            cells.append(f"{100 * found / REPEATS:.0f}")
    return f"| `{label}` | " + " | ".join(cells) + " |"


def table() -> str:
    """Return the whole result as Markdown."""
    labels = sorted(series.label for series in _the_baseline().base if series.kind == "solver")
    parts = 10
    with multiprocessing.Pool() as pool:
        alarms = pool.map(_unchanged, [(1000 + k, UNCHANGED // parts) for k in range(parts)], chunksize=1)
        rows = pool.map(_row, list(enumerate(labels)), chunksize=1)
    machines, draws = (sum(column) for column in zip(*alarms, strict=True))
    lines = [
        "# What the gate sees",
        "",
        "Made by `python tests/simulations/gate_power.py --write`, whose text says how; never edited by hand.",
        "",
        "Whole comparisons of unchanged code that fail:",
        "",
        "| unchanged code | fails | of |",
        "| --- | ---: | ---: |",
        "| on the same machine: equal to the last bit | 0 | by construction |",
        f"| on another machine | {machines} | {UNCHANGED} |",
        f"| with other random numbers throughout | {draws} | {UNCHANGED} |",
        "",
        f"Comparisons that fail where one solver is worse by a factor, in % of {REPEATS}; before these, the standard"
        " deviation of the logarithm of the error, of the noisier metric: over the baseline's seeds, and of a change by"
        " a factor of two from seed to seed.",
        "",
        "| solver | seeds | over seeds | of x2 | "
        + " | ".join(f"x{f:g}, same machine" for f in FACTORS)
        + " | "
        + " | ".join(f"x{f:g}, another" for f in FACTORS)
        + " |",
        "| --- |" + " ---: |" * (3 + 2 * len(FACTORS)),
        *rows,
    ]
    return "\n".join(lines) + "\n"


def collect(base: Path, other: Path, name: str) -> Iterable[str]:
    """Yield lines of `plants.csv`: what is in `other` against the same runs in `base`."""
    before = baseline(base).base
    now = baseline(other).base
    runs = {(series.solver, seed): record for series, by_seed in now.items() for seed, record in by_seed.items()}
    for series, by_seed in sorted(before.items(), key=lambda item: item[0].label):
        for seed, record in sorted(by_seed.items()):
            new = runs.get((series.solver, seed))
            for info in record.metric_info if new is not None else ():
                if series.kind == "solver" and info.primary and info.name in record.metrics:
                    ratio = math.log(new.metrics[info.name] / record.metrics[info.name])
                    yield f"{name},{series.label},{info.name},{seed},{ratio:.5f}"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write results/reference/ci/power.md")
    parser.add_argument("--collect", nargs=3, metavar=("BASE", "FOLDER", "NAME"), help="print lines of plants.csv")
    options = parser.parse_args()
    if options.collect:
        base, other, name = options.collect
        sys.stdout.writelines(line + "\n" for line in collect(Path(base), Path(other), name))
        return
    text = table()
    if options.write:
        TABLE.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
