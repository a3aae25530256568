"""How often the gate of continuous integration raises a false alarm, and how often it sees a regression.

    python tests/simulations/gate_power.py --write      # results/reference/ci/power.md again, about five minutes
    python tests/simulations/gate_power.py --collect results/reference/ci FOLDER NAME >> tests/simulations/plants.csv

The baseline is the real one, and so is every line of `otbench.compare` that judges it. NEW is made from it:

* A *regression by f* multiplies the errors of one solver by f, in all of its primary metrics, and by what a real
  regression does from seed to seed beyond its mean. That is taken from `plants.csv`: what half of the steps did to the
  same seeds, seed by seed, as the logarithm of the ratio. Its residuals are drawn with replacement, all metrics of one
  seed together, and stretched by the root of n / (n - 1) for the mean that was taken from them. Where half the steps
  did more than a factor of f, its scatter counts in proportion: a smaller regression has the same ratio of both.
* *The same machine*: everything else is equal to the last bit. *Another machine*: everything, the regressed solver too,
  is multiplied by what other instructions did to unchanged code (`ATEN_CPU_CAPABILITY=default`, rows `other
  instructions` of `plants.csv`), drawn with replacement and with a random sign.
* *New draws*: unchanged code whose random numbers are all others, so that nothing is paired. BASE and NEW are both
  drawn from normal distributions of logarithms, with the covariance over the baseline's seeds.

All is done as `.ci/compare` does it: three seeds of everything, then all of the baseline's seeds of what is worse by
more than the tolerance.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
HALF = "half the steps"
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
        return judged([item for series in self.base for item in pending.get(series, self._equal(series))], Rules())

    def _pending(self, series: Series, change: Change, seeds: Iterable[int]) -> list[Pending]:
        base = self.base[series]
        new = {seed: _times(base[seed], change(series, seed)) for seed in seeds if seed in base}
        said, waiting = compare_quality(series, base, new, sorted(new), Rules())
        assert not said
        return waiting

    def _equal(self, series: Series) -> list[Pending]:
        if series not in _EQUAL:
            _EQUAL[series] = self._pending(series, lambda *_: {}, FIRST)
        return _EQUAL[series]


_EQUAL: dict[Series, list[Pending]] = {}


def _times(record: Record, logs: Mapping[str, float]) -> Record:
    metrics = {name: value * math.exp(logs.get(name, 0.0)) for name, value in record.metrics.items()}
    return record.model_copy(update={"metrics": metrics})


def baseline(folder: Path = BASELINE) -> Gate:
    """Return the gate of the records in `folder`."""
    records, _ = read_all([folder])
    return Gate(newest((r for r in records if r.status is Status.OK), series_of))


Ratios = dict[str, list[dict[str, float]]]
"""By label, for each seed the logarithm of the ratio of each metric."""


def ratios(plant: str, path: Path = PLANTS) -> Ratios:
    """Return what `plant` did, from the table of measured ratios."""
    by_seed: dict[tuple[str, int], dict[str, float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if line["plant"] == plant:
                by_seed.setdefault((line["method"], int(line["seed"])), {})[line["metric"]] = float(line["log_ratio"])
    made: Ratios = {}
    for (label, _), logs in sorted(by_seed.items()):
        made.setdefault(label, []).append(logs)
    return made


def residuals(found: Sequence[Mapping[str, float]], size: float = math.inf) -> list[dict[str, float]]:
    """Return the ratios of each seed without their mean over seeds, shrunk as for a regression of mean `size`."""
    n = len(found)
    centre = {name: sum(logs[name] for logs in found) / n for name in found[0]}
    stretch = {name: math.sqrt(n / (n - 1)) * min(1.0, size / abs(mean)) for name, mean in centre.items()}
    return [{name: stretch[name] * (logs[name] - centre[name]) for name in centre} for logs in found]


class Simulation:
    """Draws of NEW."""

    def __init__(self, gate: Gate, plants: Ratios, other: Ratios, seed: int) -> None:
        self.gate = gate
        self.plants = plants
        self.other = other
        self.generator = np.random.default_rng(seed)

    def regression(self, series: Series, factor: float) -> Change:
        """Return a regression of `series` on the same machine."""
        scatter = residuals(self.plants[series.label], math.log(factor))
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


def table(repeats: int = REPEATS, unchanged: int = UNCHANGED) -> str:
    """Return the whole result as Markdown."""
    gate = baseline()
    made = Simulation(gate, ratios(HALF), ratios(OTHER), 0)
    everything = list(gate.base)
    solvers = sorted((s for s in everything if s.label in made.plants), key=lambda s: s.label)
    machines = sum(gate.alarm(made.machine(), everything) for _ in range(unchanged))
    draws = sum(made.new_draws() for _ in range(unchanged))
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
        f"| on another machine | {machines} | {unchanged} |",
        f"| with other random numbers throughout | {draws} | {unchanged} |",
        "",
        f"Comparisons that fail where one solver is worse by a factor, in % of {repeats}; before these, the standard"
        " deviation of the logarithm of the error, of the noisier metric: over the baseline's seeds, and of a change by"
        " a factor of two from seed to seed.",
        "",
        "| solver | seeds | over seeds | of x2 | "
        + " | ".join(f"x{f:g}, same machine" for f in FACTORS)
        + " | "
        + " | ".join(f"x{f:g}, another" for f in FACTORS)
        + " |",
        "| --- |" + " ---: |" * (3 + 2 * len(FACTORS)),
    ]
    for series in solvers:
        runs = gate.base[series]
        names = made.plants[series.label][0]
        over = max(float(np.std(np.log([runs[s].metrics[n] for s in runs]), ddof=1)) for n in names)
        half = residuals(made.plants[series.label], math.log(2.0))
        own = max(math.sqrt(np.mean([logs[n] ** 2 for logs in half])) for n in names)
        cells = [str(len(runs)), f"{over:.2f}", f"{own:.2f}"]
        for elsewhere in (False, True):
            for factor in FACTORS:
                found = 0
                for _ in range(repeats):
                    change = made.regression(series, factor)
                    found += gate.alarm(made.machine(change), everything) if elsewhere else gate.alarm(change, [series])
                cells.append(f"{100 * found / repeats:.0f}")
        lines.append(f"| `{series.label}` | " + " | ".join(cells) + " |")
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
                if info.primary and info.name in record.metrics:
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
