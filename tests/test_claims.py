"""Numbers that the README, the rules and the pages of the reference runs quote follow from the committed records.

A sentence is written here with formulas in the place of its numbers, and must stand in the page as it comes out. A cell
of a table must agree with its formula to half a unit of the last digit that is printed.
"""

from __future__ import annotations

import ast
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from statistics import mean, median, stdev

import pytest
import torch
from scipy.stats import t as student

from otbench.config import build_config
from otbench.datasets.eot import EOT, EOTConfig
from otbench.harness.tuning import preset_values
from otbench.plugins.registry import Registry
from otbench.records.record import CurvePoint, Record, Status
from otbench.records.store import Store
from otbench.records.study import read_study, study_path
from otbench.records.verified import Outcome, read_verified
from otbench.report.rows import published_table

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RULES = ROOT / "docs" / "rules.md"
REFERENCE = ROOT / "results" / "reference"
TUNING = ROOT / "results" / "tuning"
UCI, MNIST = REFERENCE / "uci" / "README.md", REFERENCE / "mnist" / "README.md"
IMAGES_PAGE = REFERENCE / "images" / "README.md"

SETS = ("miniboone", "power", "bsds300")
FLOWS = ("otflow", "ffjord", "rnode")
"""Solvers that take no source but a standard normal."""
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
Runs = dict[int, Record]
"""Runs of one solver with one setting on one instance, by seed."""


# Pages


def says(page: Path, sentence: str) -> bool:
    """Whether `page` holds `sentence`, wherever its lines break."""
    return " ".join(sentence.split()) in re.sub(r"\s+(\* )?", " ", page.read_text(encoding="utf-8"))


def tables(page: Path, heading: str) -> list[tuple[list[str], dict[str, list[str]]]]:
    """Return the tables below `heading`: titles of the columns, and the cells of each row by its label."""
    section = page.read_text(encoding="utf-8").split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", section, re.MULTILINE):
        lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
        found.append((lines[0][1:], {cells[0]: cells[1:] for cells in lines[2:]}))
    return found


def name(label: str) -> str:
    """Return the solver that a row's label names."""
    return label.split("`")[1]


def dimension(title: str) -> int:
    """Return the number in "d = 16"."""
    return int(title.removeprefix("d = "))


def shows(cell: str, *values: float) -> bool:
    """Whether the numbers in `cell` are `values`, each to half a unit of its last printed digit."""
    numbers = NUMBER.findall(re.sub(r"(?<=\d) (?=\d{3}\b)", "", cell))
    return len(numbers) == len(values) and all(map(agrees, numbers, values))


def agrees(text: str, value: float) -> bool:
    unit = 10.0 ** int(Decimal(text).as_tuple().exponent)
    return abs(float(text) - value) <= 0.5 * unit * (1 + 1e-9)


# Records


@cache
def records(folder: str = "") -> tuple[Record, ...]:
    found = sorted(Store(REFERENCE / folder).all(), key=lambda record: record.created)
    return tuple(record for record in found if record.status is Status.OK)


def runs(where: Callable[[Record], bool], folder: str = "") -> Runs:
    """Return the newest record of each seed."""
    return {record.spec.seed: record for record in records(folder) if where(record)}


@cache
def gaussian(solver: str, dim: int) -> Runs:
    """Return runs on a published pair."""
    config = {"dim": dim, "pair": "released"}
    return runs(lambda r: r.spec.solver == solver and config.items() <= r.spec.task_config.items())


@cache
def uci(solver: str, table: str) -> Runs:
    return runs(lambda r: r.spec.solver == solver and r.spec.task_config["set"] == table, "uci")


def mnist(solver: str, config: Mapping[str, str | int], steps: int | None = None, folder: str = "mnist") -> Record:
    """Return the one run of `solver` on this instance, with a limit of time, or of `steps` steps."""

    def asked(run: Record) -> bool:
        return run.spec.solver == solver and config.items() <= run.spec.task_config.items() and run.spec.steps == steps

    (run,) = (run for run in records(folder) if asked(run))
    return run


def quoted(method: str, metric: str, pair: str = "fmnist-mnist") -> list[float]:
    """Return the published numbers of a method on images."""
    table = published_table("mnist")
    rows = table[(table["method"] == method) & (table["metric"] == metric) & (table["pair"] == pair)]
    return [float(value) for value in rows["value"]]


def nearest(run: Record) -> CurvePoint:
    """Return the point of the curve with the least forward error."""
    return min(run.curve, key=lambda point: point.metrics["uvp_fwd"])


def values(of: Runs, metric: str) -> list[float]:
    return [of[seed].metrics[metric] for seed in sorted(of)]


def half(of: Iterable[float]) -> float:
    """Return half of the 95 % t-interval of the mean."""
    numbers = list(of)
    n = len(numbers)
    return float(student.ppf(0.975, n - 1)) * stdev(numbers) / math.sqrt(n)


# Gaussian pairs

DIMS = (2, 4, 8)
"""Dimensions in which every solver of the table has a run."""
GAUSSIAN_PAGE = REFERENCE / "README.md"
(GAUSSIAN_TITLES, GAUSSIAN), (_, AGAINST_LINEAR) = tables(GAUSSIAN_PAGE, "Gaussian pairs")[:2]
(_, GAUSSIAN_PUBLISHED) = tables(GAUSSIAN_PAGE, "Published numbers")[0]
SHOWN_DIMS = tuple(map(dimension, GAUSSIAN_TITLES))
"""Dimensions that the table has."""
TEN = tuple(map(name, AGAINST_LINEAR))
"""Solvers with three seeds."""


def pools_of(dim: int) -> tuple[int, ...]:
    """Return the seeds of a dimension."""
    return (0, 1, 2) if dim <= 16 else (0,)


def uvp(solver: str, dim: int) -> list[float]:
    """Return forward errors of the runs on a published pair, by seed."""
    return values(gaussian(solver, dim), "uvp_fwd")


def test_gaussian_table_has_every_run_of_the_records() -> None:
    assert {name(label) for label in GAUSSIAN} == {r.spec.solver for r in records()} - {"constant"}
    for solver in (*TEN, "identity", "constant", "linear"):
        assert all(tuple(sorted(gaussian(solver, dim))) == pools_of(dim) for dim in SHOWN_DIMS), solver


@pytest.mark.parametrize("label", GAUSSIAN)
def test_gaussian_table(label: str) -> None:
    for dim, cell in zip(SHOWN_DIMS, GAUSSIAN[label], strict=True):
        found = uvp(name(label), dim)
        assert len(found) == (1 if "seed 0" in label else len(pools_of(dim))) or cell == "-"
        assert shows(cell, mean(found)) if found else cell == "-", (dim, cell)


@pytest.mark.parametrize("label", AGAINST_LINEAR)
def test_gaussian_errors_against_linear(label: str) -> None:
    for dim, cell in zip(SHOWN_DIMS, AGAINST_LINEAR[label], strict=True):
        times = against_linear(name(label), dim)
        assert shows(cell, *sorted({min(times), max(times)})), (dim, cell)


def against_linear(solver: str, dim: int) -> list[float]:
    """Return the errors of a solver over those of `linear` on the same pool, by seed."""
    return [error / linear for error, linear in zip(uvp(solver, dim), uvp("linear", dim), strict=True)]


@pytest.mark.parametrize("label", GAUSSIAN_PUBLISHED)
def test_published_numbers_between_gaussians(label: str) -> None:
    """A second source is quoted where it disagrees."""
    table = published_table("gaussian")
    table = table[~table["note"].str.contains("second-hand") | table["note"].str.contains("disagree")]
    rows = table[table["solver"] == name(label)]
    for dim, cell in zip(SHOWN_DIMS, GAUSSIAN_PUBLISHED[label], strict=True):
        theirs = rows[rows["dim"] == dim]["value"]
        assert shows(cell, *theirs), (dim, cell)
        idle = name(label) in ("not", "ls") or (name(label) == "wganqc" and dim >= 4)
        assert (theirs.min() > uvp("identity", dim)[0]) == idle
        assert (len(theirs) > 1) == ((name(label), dim) == ("mmr", 8))
    assert says(
        GAUSSIAN_PAGE, "All of `not` and `ls`, and those of `wganqc` from d = 4 on, are worse than doing nothing."
    )
    assert says(GAUSSIAN_PAGE, "Two sources disagree on `mmr` at d = 8.")


def test_a_pool_moves_rows() -> None:
    said = "{:.4f}, {:.4f} and {:.4f}".format(*uvp("linear", 2))
    assert says(GAUSSIAN_PAGE, f"At d = 2 the pool moves all rows: on those of seeds 0, 1 and 2, `linear` has {said}.")
    for solver in TEN:
        first, *others = uvp(solver, 2)
        assert first > max(others), solver


def test_gaussian_rows_stand_in_the_order_of_their_distance_from_linear() -> None:
    far = {solver: mean(mean(map(math.log, against_linear(solver, dim))) for dim in SHOWN_DIMS) for solver in TEN}
    assert sorted(TEN, key=far.__getitem__) == list(TEN)
    assert [name(label) for label in GAUSSIAN] == ["identity", "linear", *TEN, "geodesic"]


def test_which_solver_is_ahead_between_gaussians() -> None:
    ahead = {dim: min(TEN, key=lambda solver: mean(uvp(solver, dim))) for dim in SHOWN_DIMS}
    assert ahead == {2: "fixedpoint", 4: "fixedpoint", 8: "not", 16: "not", 32: "w2gn", 64: "w2gn"}
    assert says(
        GAUSSIAN_PAGE,
        "By its mean, `fixedpoint` is at d = 2 and 4, `not` at d = 8 and 16;"
        " of the one seed of d = 32 and 64, `w2gn` is.",
    )
    times = {(solver, dim): against_linear(solver, dim) for solver in TEN for dim in SHOWN_DIMS}
    assert all(min(found) > 1 for (_, dim), found in times.items() if dim >= 4)
    assert says(GAUSSIAN_PAGE, "From d = 4 on, `linear` is ahead of all, on every pool.")
    below = {solver: min(found) for (solver, dim), found in times.items() if min(found) < 1}
    assert below.keys() == {"fixedpoint", "mmv1"}
    assert says(
        GAUSSIAN_PAGE,
        "at d = 2 some runs of `fixedpoint` and `mmv1` end below it, by up to"
        f" {100 * (1 - min(below.values())):.0f} %.",
    )


def test_the_way_of_geodesic_between_gaussians() -> None:
    found = [gaussian("geodesic", dim)[0].metrics for dim in DIMS]
    half, off = (
        [f"{one[metric]:.{digits}f}" for one in found] for metric, digits in (("uvp_half", 4), ("velocity_error", 1))
    )
    assert says(GAUSSIAN_PAGE, f"at t = 1/2 has a UVP of {half[0]}, {half[1]} and {half[2]} %")
    assert says(
        GAUSSIAN_PAGE,
        f"its velocity is off by {off[0]}, {off[1]} and {off[2]} % along the exact paths, at d = 2, 4, 8.",
    )


def test_more_steps_can_hurt_on_a_pool() -> None:
    said = []
    for solver in ("w2gn", "mmv1"):
        for dim, seed in product((8, 16), pools_of(8)):
            run = gaussian(solver, dim)[seed]
            best = nearest(run)
            assert run.metrics["uvp_fwd"] > 1.2 * best.metrics["uvp_fwd"], (solver, dim, seed)
            if (dim, seed) == (16, 0):
                said += [f"{best.metrics['uvp_fwd']:.4f} after {best.step}", f"{run.metrics['uvp_fwd']:.4f}"]
    assert says(
        GAUSSIAN_PAGE,
        f"at d = 16, seed 0, `w2gn` had {said[0]} steps and ends at {said[1]},"
        f" `mmv1` had {said[2]} and ends at {said[3]}."
        " At d = 8 and 16 both end above their best on all three pools.",
    )
    said = []
    for solver in ("fixedpoint", "not"):
        run = gaussian(solver, 64)[0]
        best = nearest(run)
        assert run.metrics["uvp_fwd"] > 1.2 * best.metrics["uvp_fwd"], solver
        said.append((f"{best.metrics['uvp_fwd']:.4f} after {best.step}", f"{run.metrics['uvp_fwd']:.4f}"))
    (first, end), (second, last) = said
    assert says(
        GAUSSIAN_PAGE,
        f"At d = 64 that is so of others: `fixedpoint` had {first} steps and ends at {end},"
        f" `not` had {second} and ends at {last}.",
    )


def test_identity_in_the_population_and_as_measured() -> None:
    r"""$E|x - T(x)|^2 / \mathrm{Var}(\nu) = W_2^2 / \mathrm{tr}\,\Sigma_1$."""
    facts = {dim: gaussian("ncf", dim)[0].facts for dim in SHOWN_DIMS}
    exact = {dim: 100 * float(f["w2_squared"] or 0) / float(f["trace1"] or 1) for dim, f in facts.items()}
    *first, last = (f"{value:.2f}" for value in exact.values())
    assert says(
        GAUSSIAN_PAGE, f"Its exact value, over the whole source, is {', '.join(first)} and {last} at d = 2 to 64;"
    )
    measured = gaussian("identity", 2)[0].metrics["uvp_fwd"]
    assert says(RULES, f"{exact[2]:.2f} % on the released pair at d = 2, and {measured:.2f} % on our test points.")


def test_budgets_of_the_gaussian_table() -> None:
    shown = [
        run
        for label in GAUSSIAN
        for dim in SHOWN_DIMS
        for run in gaussian(name(label), dim).values()
        if run.spec.kind == "solver"
    ]
    samples = [run.counts.samples / 1e6 for run in shown]
    wall = [(run.times.train_s or 0) + (run.times.warmup_s or 0) for run in shown]
    drew = f"drew {min(samples):.1f} to {max(samples):.0f} million samples"
    assert says(
        GAUSSIAN_PAGE,
        f"The runs {drew} in the same time, and took {min(wall):.0f} to {max(wall):.0f} seconds of wall-clock time.",
    )
    assert says(RULES, f"Runs of the Gaussian table {drew} in 120 CPU seconds.")


# Tables of data


def parameters(solver: str, table: str) -> int:
    (number,) = {run.counts.parameters for run in uci(solver, table).values()}
    assert number is not None
    return number


UCI_ROWS = tables(UCI, "Over seeds")[0][1]


@pytest.mark.parametrize("label", UCI_ROWS)
def test_uci_table(label: str) -> None:
    cells = UCI_ROWS[label]
    for k, (table, side) in enumerate((table, side) for table in SETS for side in ("fwd", "bwd")):
        if cells[k] == "-":  # of another algorithm: in words below the table
            assert (name(label), table) == ("fixedpoint", "power")
            continue
        found = [1e4 * value for value in values(uci(name(label), table), f"mmd_{side}")]
        assert len(found) == 3
        assert shows(cells[k], mean(found), *([half(found)] if "±" in cells[k] else [])), (table, side, cells[k])


def test_uci_rows_are_not_like_for_like() -> None:
    fixedpoint = {r.label for table in SETS for r in uci("fixedpoint", table).values()}
    assert fixedpoint == {"fixedpoint[batch_size=512,lr=1e-2,weight_decay=0.3]"}
    assert says(UCI, f"`fixedpoint` ran with `{fixedpoint.pop()[11:-1]}`, the others as shipped;")
    for table in SETS:
        assert all(r.label == solver for solver in ("ncf", "otflow") for r in uci(solver, table).values())
        validates = {"validate_every" in r.spec.solver_config for r in uci("fixedpoint", table).values()}
        assert validates == {table != "power"}
    size = {s: parameters(s, "bsds300") for s in ("otflow", "ncf", "fixedpoint")}
    assert 7 <= max(size.values()) / min(size.values()) < 8
    power = [[1e4 * v for v in values(uci("fixedpoint", "power"), f"mmd_{side}")] for side in ("fwd", "bwd")]
    forward, backward = (f"{mean(v):.1f} ± {half(v):.1f}" for v in power)
    assert says(UCI, f"Its runs on POWER ({forward} and {backward})")


def sampled(solver: str, table: str, side: str) -> float:
    """Return half of the interval that the sample of test points leaves, mean over seeds."""
    found = uci(solver, table)
    low, high = (mean(values(found, f"mmd_{end}_{side}")) for end in ("low", "high"))
    return (high - low) / 2


def test_what_held_out_rows_leave_open() -> None:
    miniboone, power, bsds300 = (
        sorted(1e4 * sampled(solver, table, "fwd") for solver in ("ncf", "fixedpoint")) for table in SETS
    )
    assert f"{miniboone[0]:.0f}" == f"{miniboone[1]:.0f}"
    assert says(
        UCI,
        f"They leave another ±{miniboone[0]:.0f} (MINIBOONE), ±{power[0]:.1f} to ±{power[1]:.1f} (POWER) and"
        f" ±{bsds300[0]:.0f} to ±{bsds300[1]:.0f} (BSDS300) on the forward numbers",
    )


def test_otflow_on_bsds300() -> None:
    otflow, constant, linear = (uci(solver, "bsds300") for solver in ("otflow", "constant", "linear"))
    assert min(values(otflow, "mmd_fwd")) > max(values(constant, "mmd_fwd"))
    assert says(UCI, "`otflow` ends above `constant` forward on BSDS300.")
    assert max(values(otflow, "nll")) < min(values(linear, "nll"))
    assert not any("nll" in r.metrics for s in ("ncf", "fixedpoint") for r in uci(s, "bsds300").values())


def test_uci_page_distances() -> None:
    forward, backward, sizes = (table for _, table in tables(UCI, "What the sample of test points leaves"))
    for side, table in (("fwd", forward), ("bwd", backward)):
        for label, cells in table.items():
            for key, cell in zip(SETS, cells, strict=True):
                value = mean(values(uci(name(label), key), f"mmd_{side}"))
                assert shows(cell.rstrip("† "), value, sampled(name(label), key, side)), (label, key, cell)
                assert cell.endswith("†") == (name(label) == "fixedpoint" and key == "power")
    for label, cells in sizes.items():
        for key, cell in zip(SETS, cells, strict=True):
            assert shows(cell, parameters(name(label), key))


def test_uci_page_other_numbers() -> None:
    for label, cells in tables(UCI, "What the distances do not say")[0][1].items():
        found = uci(name(label), label.partition(",")[0])
        steps = [float(run.counts.steps) for run in found.values()]
        columns = [[r.metrics[m] for r in found.values() if m in r.metrics] for m in ("nll", "nll_missing")]
        columns += [values(found, "inverse_gap"), values(found, "novelty"), steps]
        for cell, numbers in zip(cells, columns, strict=True):
            if cell == "-":
                assert not numbers
            else:
                span = (min(numbers), max(numbers)) if numbers else (0.0, 0.0)
                assert shows(cell, *span) or (shows(cell, span[0]) and shows(cell, span[1])), (label, cell, numbers)


def worse(solver: str, other: str, table: str, side: str) -> list[bool]:
    """Say for each seed whether the interval of `solver` lies above that of `other`."""
    low, high = uci(solver, table), uci(other, table)
    return [a > b for a, b in zip(values(low, f"mmd_low_{side}"), values(high, f"mmd_high_{side}"), strict=True)]


def test_uci_page_comparisons() -> None:
    for table in SETS:
        for solver in ("ncf", "fixedpoint"):
            for side in ("fwd", "bwd"):
                linear = min(values(uci("linear", table), f"mmd_{side}"))
                assert max(values(uci(solver, table), f"mmd_{side}")) < linear
            assert not any(worse(solver, "otflow", table, "fwd"))
        assert not any(worse("ncf", "otflow", table, "bwd"))
    assert [sum(worse("fixedpoint", "otflow", table, "bwd")) for table in SETS] == [2, 0, 1]
    cpu = [r.times.train_cpu_s or 0 for r in records("uci") if r.spec.kind == "solver"]
    assert says(UCI, f"of 300 seconds, training had {min(cpu):.0f} to {max(cpu):.0f} on the processor")


# Images

CODES = {"pair": "fmnist-mnist", "space": "latent"}
UNCONDITIONAL, CONDITIONAL = CODES | {"vae": "unconditional"}, CODES | {"vae": "conditional"}
PIXELS = {"pair": "fmnist-mnist", "space": "pixel"}
ONE_DIGIT: Mapping[str, str | int] = {**UNCONDITIONAL, "pair": "transfer", "digit": 3}
INTERVAL = ("accuracy", "accuracy_low", "accuracy_high")
COLUMNS = {
    "accuracy, % (95 %)": INTERVAL,
    "backward": ("accuracy_bwd", "accuracy_bwd_low", "accuracy_bwd_high"),
    "FD": ("fd_classifier_decoded",),
    "class energy": ("class_energy",),
    "cost": ("cost",),
    "FD pixel": ("fd_pixel",),
    "FD pixel to decoded": ("fd_pixel_decoded",),
    "FD classifier": ("fd_classifier",),
    "FD classifier to decoded": ("fd_classifier_decoded",),
}
BOTH_WAYS = "Within MNIST, the decoder reads no label"


@pytest.mark.parametrize(
    ("page", "heading", "number", "config"),
    [
        (MNIST, "Fashion-MNIST to MNIST, the decoder reads no label", 0, UNCONDITIONAL),
        (MNIST, "Fashion-MNIST to MNIST, encoder and decoder read the label", 0, CONDITIONAL),
        (MNIST, BOTH_WAYS, 0, UNCONDITIONAL | {"pair": "transfer"}),
        (MNIST, BOTH_WAYS, 1, UNCONDITIONAL | {"pair": "shift"}),
        (MNIST, "Fashion-MNIST to MNIST, pixels", 0, PIXELS),
        (IMAGES_PAGE, "Codes", 0, UNCONDITIONAL),
        (IMAGES_PAGE, "Pixels", 0, PIXELS),
        (IMAGES_PAGE, "Threes to eights", 0, ONE_DIGIT),
    ],
)
def test_mnist_tables(page: Path, heading: str, number: int, config: Mapping[str, str | int]) -> None:
    titles, table = tables(page, heading)[number]
    full = [f"{before} {title}" if title == "to decoded" else title for before, title in pairwise(["", *titles])]
    for label, cells in table.items():
        run = mnist(name(label), config, 6000 if "6000 steps" in label else None, page.parent.name)
        for title, cell in zip(full, cells, strict=True):
            if title == "steps":
                assert shows(cell, run.counts.steps)
                continue
            metrics = [run.metrics[metric] for metric in COLUMNS[title] if metric in run.metrics]
            assert shows(cell, *metrics) or (cell == "-" and not metrics), (label, title, cell, metrics)


def test_mnist_rows_are_not_like_for_like() -> None:
    rows = ("prior_sample", "class_mean", "classwise_linear", "ncf", "fixedpoint")
    assert {row for row in rows if not mnist(row, UNCONDITIONAL).reads_label} == {"prior_sample"}
    assert says(MNIST, "`ncf`, `fixedpoint` and the class-wise controls are told the class of the test image")
    assert {run.spec.seed for run in records("mnist")} == {0}
    table = published_table("mnist")
    accuracy = table[(table["pair"] == "fmnist-mnist") & (table["metric"] == "accuracy")].set_index("method")["value"]
    assert says(MNIST, f"NCF {accuracy['NCF']:.2f} % (its own VAE, a map that is not told the class)")
    assert says(MNIST, f"ImplicitOT {accuracy['ImplicitOT']:.2f} % with a decoder that reads the label")


def test_mnist_comparisons() -> None:
    def accuracy(solver: str, config: dict[str, str], steps: int | None = None) -> float:
        return mnist(solver, config, steps).metrics["accuracy"]

    cost = {s: mnist(s, UNCONDITIONAL).metrics["cost"] for s in ("ncf", "fixedpoint", "classwise_linear")}
    more = [100 * (cost[solver] / cost["classwise_linear"] - 1) for solver in ("ncf", "fixedpoint")]
    assert says(MNIST, f"in all distances, at {more[0]:.0f} to {more[1]:.0f} % more cost")
    below = accuracy("reconstruction", UNCONDITIONAL) - accuracy("fixedpoint", UNCONDITIONAL)
    linear = accuracy("classwise_linear", UNCONDITIONAL) - accuracy("ncf", UNCONDITIONAL)
    assert says(MNIST, f"`fixedpoint` is {below:.1f} points below the reconstructed images, `ncf` {linear:.1f} below")
    gain = accuracy("fixedpoint", CONDITIONAL) - accuracy("classwise_linear", CONDITIONAL)
    lost = [accuracy("classwise_linear", CONDITIONAL) - accuracy("ncf", CONDITIONAL, steps) for steps in (None, 6000)]
    assert says(
        MNIST,
        f"`fixedpoint` is {gain:.1f} points better, `ncf` {lost[0]:.1f} worse after five minutes"
        f" and {lost[1]:.1f} after 6000 steps",
    )
    for config in (UNCONDITIONAL, CONDITIONAL):
        control = mnist("classwise_linear", config).metrics
        for solver in ("ncf", "fixedpoint"):
            found = mnist(solver, config).metrics
            distances = [key for key in control if key.startswith(("fd_", "class_energy")) and not key.endswith("_bwd")]
            assert all(found[key] < control[key] for key in distances)
    prior = accuracy("prior_sample", CONDITIONAL)
    assert says(MNIST, f"decoded as the wanted digit in {prior:.0f} % of the draws only")


def test_sentences_of_the_page_of_images() -> None:
    def codes(solver: str) -> Mapping[str, float]:
        return mnist(solver, UNCONDITIONAL, folder="images").metrics

    def pixels(solver: str) -> Mapping[str, float]:
        return mnist(solver, PIXELS, folder="images").metrics

    real = [r.metrics["accuracy"] for f in ("images", "mnist") for r in records(f) if r.label == "real_images"]
    assert min(real) > 99
    told = {r.label for r in records("images") if r.reads_label}
    assert told == {"hjpinn", "class_mean", "classwise_linear"}
    keeps = {r.label for r in records("images") if r.keeps_rows}
    assert keeps == {"emd_class", "sinkhorn_lpl1", "otddflow"}
    right = [codes(one)["accuracy"] for one in ("hjpinn", "classwise_linear")]
    assert says(IMAGES_PAGE, f"{right[0]:.1f} against {right[1]:.1f} %, and less class energy.")
    assert codes("hjpinn")["class_energy"] < codes("classwise_linear")["class_energy"]
    assert says(IMAGES_PAGE, f"`otddflow` may exchange classes: {codes('otddflow')['accuracy']:.1f} % are right.")
    four = {one: pixels(one) for one in ("augcyclegan", "munit", "notweak", "otddflow")}
    ends = sorted(one["accuracy"] for one in four.values())
    assert says(IMAGES_PAGE, f"none keeps it: {ends[0]:.1f} to {ends[-1]:.1f} % are right, where a guess has 10")
    assert min(four, key=lambda one: four[one]["fd_pixel"]) == "otddflow"
    said = four["otddflow"]["fd_pixel"], pixels("linear")["fd_pixel"]
    assert says(IMAGES_PAGE, f"Of the four, `otddflow` is nearest to digits in FD pixel, {said[0]:.2f}")
    assert says(IMAGES_PAGE, f"`linear` has {said[1]:.2f}.")
    steps = mnist("notweak", PIXELS, folder="images").counts.steps
    whole = Registry().load(Registry().find("notweak", "solver")).presets["full"]["steps"]
    assert says(IMAGES_PAGE, f"`notweak` took {steps} of the {whole} steps that its preset has.")
    assert says(IMAGES_PAGE, f"Published for SinkhornLpL1, on pixels: {quoted('SinkhornLpL1', 'accuracy')[0]:.2f} %.")
    methods = ("AugCycleGAN", "MUNIT", "NOT weak", "OTDD")
    published = sorted(quoted(one, "accuracy")[0] for one in methods)
    assert says(IMAGES_PAGE, f"and the published rows of these methods {published[0]:.2f} to {published[-1]:.2f}.")
    distances = [quoted(one, "fd_pixel")[0] for one in ("MUNIT", "AugCycleGAN", "NOT weak")]
    assert says(IMAGES_PAGE, "Published: MUNIT {:.2f}, AugCycleGAN {:.2f}, NOT weak {:.2f}.".format(*distances))


def test_threes_to_eights() -> None:
    def of(solver: str) -> Mapping[str, float]:
        return mnist(solver, ONE_DIGIT, folder="images").metrics

    geodesic, linear, identity = of("geodesic"), of("linear"), of("identity")
    assert {r.spec.cpu_limit for r in kind("images") if r.spec.task_config["digit"] == 3} == {120}
    right = f"{geodesic['accuracy']:.1f} against {linear['accuracy']:.1f} %"
    assert says(IMAGES_PAGE, f"sees more eights than where `linear` does, {right}, and the intervals are apart.")
    assert geodesic["accuracy_low"] > linear["accuracy_high"]
    assert geodesic["accuracy_bwd_low"] < linear["accuracy_bwd_high"]
    assert geodesic["cost"] > 2 * linear["cost"]
    assert says(IMAGES_PAGE, f"in squared distance, {geodesic['cost']:.2f} against {linear['cost']:.3f}")
    assert geodesic["class_energy"] > linear["class_energy"]
    ends = f"{identity['accuracy']:.1f} and {identity['accuracy_bwd']:.1f} %"
    assert says(IMAGES_PAGE, f"Even `identity` has {ends}")


# The Wasserstein-2 benchmark


W2BENCH = REFERENCE / "w2bench" / "README.md"
CURVED_DIMS, CURVED = tables(README, "What we measured")[0]
(SEEDS_DIMS, FORWARD), (_, BACKWARD) = tables(W2BENCH, "Three seeds")
SIX = tuple(name(label) for label in FORWARD if name(label) not in ("identity", "linear"))
"""Solvers with three seeds on the pairs."""


@cache
def w2bench(solver: str, dim: int) -> Runs:
    """Return runs of the table: three seeds on one processor, at d = 64 one on a faster one."""
    return runs(lambda r: r.spec.solver == solver and r.spec.task_config["dim"] == dim, "w2bench")


@cache
def faster() -> dict[tuple[str, int], Record]:
    """Return the runs on the faster processor, by solver and dimension: those at d = 64 are in the reference set."""
    at_64 = (r for r in records("w2bench") if r.spec.task_config["dim"] == 64)
    return {(r.spec.solver, r.spec.task_config["dim"]): r for r in (*Store(TUNING / "epyc").all(), *at_64)}


def same_but_settings(one: Record, other: Record) -> bool:
    """Whether two runs were asked for alike, whatever the solver's parameters, of which later code has more."""
    one_spec, other_spec = (r.spec.model_copy(update={"solver_config": None}) for r in (one, other))
    return one_spec == other_spec


@pytest.mark.parametrize("label", CURVED)
def test_curved_maps(label: str) -> None:
    for dim, cell in zip(map(dimension, CURVED_DIMS), CURVED[label], strict=True):
        if label.startswith("published"):
            rows = published_table("w2bench")
            assert shows(cell, *rows[(rows["method"] == "ENOT") & (rows["dim"] == dim)]["value"]), dim
            continue
        found = w2bench(name(label), dim)
        if cell == "-":
            assert not found, dim
            continue
        assert sorted(found) == ([0, 1, 2] if dim < 64 else [0]), dim
        for run in found.values():
            assert run.spec.task_config["pool"] == "fresh"
            if run.spec.kind == "solver":
                assert run.spec.cpu_limit == (300 if dim < 16 else 570)
                assert (run.spec.steps, run.spec.time_limit, run.environment["threads"]) == (None, None, 1)
        assert shows(cell, mean(values(found, "uvp_fwd")), mean(values(found, "uvp_bwd"))), dim


@pytest.mark.parametrize(("rows", "metric"), [(FORWARD, "uvp_fwd"), (BACKWARD, "uvp_bwd")])
def test_spread_on_curved_maps(rows: Mapping[str, list[str]], metric: str) -> None:
    assert list(rows) == list(FORWARD)
    for label, cells in rows.items():
        for dim, cell in zip(map(dimension, SEEDS_DIMS), cells, strict=True):
            errors = values(w2bench(name(label), dim), metric)
            alike = name(label) in ("identity", "linear")
            assert shows(cell, mean(errors), *(() if alike else (min(errors), max(errors)))), (label, dim)


def test_rows_of_curved_maps_stand_in_the_order_of_their_errors() -> None:
    errors = {
        solver: mean(math.log(mean(values(w2bench(solver, dim), "uvp_fwd"))) for dim in (2, 4, 16)) for solver in SIX
    }
    assert sorted(SIX, key=errors.__getitem__) == list(SIX)
    assert says(W2BENCH, "rows by their mean forward error, in logarithms.")


def test_who_is_ahead_on_curved_maps() -> None:
    def ranked(dim: int, metric: str, seed: int) -> list[str]:
        return sorted(SIX, key=lambda solver: w2bench(solver, dim)[seed].metrics[metric])

    for dim, metric, seed in product((2, 4), ("uvp_fwd", "uvp_bwd"), range(3)):
        assert ranked(dim, metric, seed)[:3] == ["enot", "w2ot", "w2gn"], (dim, metric, seed)
    for seed in range(3):
        assert ranked(16, "uvp_fwd", seed)[0] == "enot"
        assert ranked(16, "uvp_bwd", seed)[0] == "fixedpoint"
    for page in (README, W2BENCH):
        assert says(
            page,
            "At d = 2 and 4 `enot` is first, `w2ot` second and `w2gn` third, both ways and with every seed."
            " At d = 16 `enot` is first forward and `fixedpoint` backward, with every seed.",
        )


def test_how_far_seeds_differ_on_curved_maps() -> None:
    found = [
        values(w2bench(solver, dim), metric)
        for solver in SIX
        for dim in (2, 4, 16)
        for metric in ("uvp_fwd", "uvp_bwd")
    ]
    times = [max(errors) / min(errors) for errors in found]
    assert says(
        W2BENCH,
        f"The most of three seeds is up to {max(times):.1f} times the least, in half of the cells up to"
        f" {median(times):.2f} times.",
    )


def test_cfm_levels_off() -> None:
    run = w2bench("cfm", 64)[0]
    *_, before, end = run.curve
    step = f"{before.step:,}".replace(",", " ")
    ends = f"{before.metrics['uvp_fwd']:.2f} after {step} steps and ends at {end.metrics['uvp_fwd']:.2f}."
    assert end.metrics["uvp_fwd"] > before.metrics["uvp_fwd"]
    assert says(W2BENCH, f"It pairs 2048 points at a time, and such pairs are biased: at d = 64 it had {ends}")
    assert run.spec.solver_config["pairing_batch"] == 2048


def test_sizes_of_networks_on_curved_maps() -> None:
    said = [f"{w2bench(solver, 16)[0].counts.parameters:,}".replace(",", " ") for solver in ("enot", "fixedpoint")]
    assert says(W2BENCH, f"`enot` has {said[0]} parameters in its two potentials, `fixedpoint` {said[1]} in one")


AGAINST = tables(W2BENCH, "On a faster core")[0][1]
METHODS = {"enot": "ENOT", "w2gn": "W2GN", "mmr": "MM:R", "w2ot": "w2ot, MLP, objective, L-BFGS", "mmv1": "MMv1"}


@pytest.mark.parametrize("label", AGAINST)
def test_curved_maps_against_published_numbers(label: str) -> None:
    rows = published_table("w2bench")
    for dim, ours, theirs in zip((2, 4, 16, 64), AGAINST[label][::2], AGAINST[label][1::2], strict=True):
        run = faster().get((name(label), dim))
        assert shows(ours, run.metrics["uvp_fwd"]) if run else ours == "-"
        method = METHODS.get(name(label))
        its = rows[(rows["method"] == method) & (rows["dim"] == dim) & (rows["metric"] == "uvp_fwd")]
        assert shows(theirs, *its["value"][:1]) or (theirs == "-" and not len(its))


# Entropic plans, and pools


EOT_PAGE = REFERENCE / "eot" / "README.md"


@pytest.mark.parametrize("label", tables(EOT_PAGE, "Reference runs of the task `eot`")[0][1])
def test_entropic_plans(label: str) -> None:
    titles, rows = tables(EOT_PAGE, "Reference runs of the task `eot`")[0]
    for title, cell in zip(titles, rows[label], strict=True):
        config = {"dim": dimension(title), "eps": 1.0, "pool": "fresh"}
        (run,) = (r for r in records("eot") if r.label == name(label) and config.items() <= r.spec.task_config.items())
        assert run.spec.cpu_limit == (300 if run.spec.kind == "solver" else None)
        assert shows(cell, run.metrics["cbw2_uvp"], run.metrics["bw2_uvp"]), (title, cell)


POOLS = REFERENCE / "pools" / "README.md"


@pytest.mark.parametrize("task", ["w2bench", "convex"])
def test_pools(task: str) -> None:
    heading = {"w2bench": "Official pairs", "convex": "Soft-max pairs"}[task]
    titles, rows = tables(POOLS, heading)[0]
    found = [r for r in records("pools") if r.spec.task == task]
    assert {name(label) for label in rows} == {r.label for r in found}
    for label, cells in rows.items():
        for title, cell in zip(titles, cells, strict=True):
            dim, pool = (int(word) for word in re.findall(r"\d+", title.replace(" ", "")))
            config = {"dim": dim, "pool": str(pool)}
            here = [r for r in found if r.label == name(label) and config.items() <= r.spec.task_config.items()]
            if cell == "-":
                assert not here
                continue
            (run,) = here
            assert run.spec.cpu_limit == (30 if run.spec.kind == "solver" else None)
            ends = [run.metrics[key] for key in ("uvp_fwd", "uvp_bwd") if key in run.metrics]
            assert shows(cell, *ends), (label, title, cell, ends)


def test_what_the_pools_say_in_words() -> None:
    def forward(label: str, task: str, dim: int, pool: int, way: str = "fwd") -> float:
        config = {"dim": dim, "pool": str(pool)}
        (run,) = (
            r
            for r in records("pools")
            if (r.label, r.spec.task) == (label, task) and config.items() <= r.spec.task_config.items()
        )
        return run.metrics.get(f"uvp_{way}", math.inf)

    def ranked(task: str, dim: int, pool: int) -> list[str]:
        labels = {r.label for r in records("pools") if r.spec.task == task}
        return sorted(labels, key=lambda label: forward(label, task, dim, pool))

    pairs = [(task, dim) for task in ("w2bench", "convex") for dim in (2, 16)]
    few, many = ({pair: ranked(*pair, pool) for pair in pairs} for pool in (1000, 10_000))
    assert few["w2bench", 2][0] == "entropic"
    assert (few["w2bench", 16].index("entropic"), few["w2bench", 16][0]) == (3, "w2ot")
    assert says(POOLS, "At d = 16 it is fourth, and `w2ot` has the least.")
    assert {few["convex", dim][0] for dim in (2, 16)} == {"otflow"}
    two_pools = {dim: [label for label in few["convex", dim] if label not in FLOWS] for dim in (2, 16)}
    assert (two_pools[2][:2], two_pools[16][:2]) == (["not", "entropic"], ["w2ot", "mmr"])
    assert says(POOLS, "`not` and the entropic map lead at d = 2, `w2ot` and `mmr` at d = 16.")
    assert [many[pair][0] for pair in pairs] == ["entropic", "enot", "otflow", "w2gn"]
    assert says(POOLS, "of `entropic` and `enot` on the official pairs at d = 2 and 16, and of `otflow` and `w2gn`")
    progot = "entropic[method=progot]"
    assert all(forward(progot, *p, n) > forward("entropic", *p, n) for p in pairs for n in (1000, 10_000))
    assert [pair for pair in pairs if forward("w2gn", *pair, 1000) > 1e6] == [("w2bench", 16)]
    away = {label for p in pairs for label in few[p] for n in (1000, 10_000) if forward(label, *p, n) > 1e6}
    assert away == {"w2gn"}
    assert says(POOLS, "`w2gn` runs away on 1000 points of the official pair at d = 16;")
    for way in ("fwd", "bwd"):
        assert forward("enot", "convex", 16, 1000, way) > forward("linear", "convex", 16, 1000, way)


# Mixtures


CONVEX_PAGE = REFERENCE / "convex" / "README.md"


VELOCITY = ("cfm", "geodesic", "ncf")
"""Solvers on the mixtures that have a velocity."""
MIXTURES = {2: "Mixtures in two dimensions", 10: "Mixtures in ten dimensions"}


@pytest.mark.parametrize(("dim", "title"), MIXTURES.items())
def test_mixtures(dim: int, title: str) -> None:
    families, rows = tables(CONVEX_PAGE, title)[0]
    metrics = ("uvp_fwd", "uvp_bwd", "uvp_half", "velocity_error")
    there = {r.label for r in records("convex") if r.spec.task_config["dim"] == dim}
    assert {name(label) for label in rows} == there - {"constant"}
    for label, cells in rows.items():
        for family, cell in zip(families, cells, strict=True):
            run = mixture(dim, name(label), family.strip("`"))
            assert run.spec.cpu_limit == (120 if run.spec.kind == "solver" else None)
            assert shows(cell, *(run.metrics[key] for key in metrics if key in run.metrics)), (
                family,
                cell,
                run.metrics,
            )


def mixture(dim: int, label: str, family: str) -> Record:
    """Return the one run of a row under one kind of map."""

    def asked(run: Record) -> bool:
        return (run.spec.task_config["dim"], run.label, run.spec.task_config["family"]) == (dim, label, family)

    (run,) = (run for run in records("convex") if asked(run))
    return run


def test_what_the_mixtures_say_in_words() -> None:
    def of(label: str, family: str, metric: str, dim: int = 10) -> float:
        return mixture(dim, label, family).metrics[metric]

    families, solvers = ("lse-mid", "lse-hard", "ridge-mid"), {r.label for r in kind("convex")}
    least = {
        (dim, family): {min(solvers, key=lambda label: of(label, family, way, dim)) for way in ("uvp_fwd", "uvp_bwd")}
        for dim in MIXTURES
        for family in families
    }
    assert all(least[10, family] == {"fixedpoint"} for family in families)
    assert [least[2, family] for family in families] == [{"fixedpoint"}, {"cfm"}, {"cfm"}]
    off_by = {label: sorted(of(label, family, "velocity_error", 2) for family in families) for label in VELOCITY}
    for family in families:
        assert min(VELOCITY, key=lambda label: of(label, family, "velocity_error", 2)) == "cfm"
    assert says(CONVEX_PAGE, f"it is off by {off_by['cfm'][0]:.3g} to {off_by['cfm'][-1]:.3g} %, that of")
    assert says(CONVEX_PAGE, f"`geodesic` by {off_by['geodesic'][0]:.3g} to {off_by['geodesic'][-1]:.3g} %.")
    assert says(
        CONVEX_PAGE, "`fixedpoint` has the least errors under `lse-mid`, `cfm` under the two others, both ways."
    )
    left = [of("linear", f, w, 2) / of("identity", f, w, 2) for f in families[:2] for w in ("uvp_fwd", "uvp_bwd")]
    assert min(left) > 0.8
    assert says(CONVEX_PAGE, "Under both maps named `lse`, `linear` has at least 80 % of the error of `identity`.")
    assert 5 < of("cfm", "lse-mid", "uvp_fwd") / of("geodesic", "lse-mid", "uvp_fwd") < 6
    off = " and ".join(f"{of(label, 'lse-mid', 'velocity_error'):.1f}" for label in ("geodesic", "cfm"))
    assert says(CONVEX_PAGE, f"and their velocities are off by {off} %.")
    worse = []
    for family in families:
        next_worst = max(of(label, family, "continuity") for label in ("geodesic", "cfm"))
        worse.append(of("ncf", family, "continuity") / next_worst)
    assert says(CONVEX_PAGE, f"its residual is {min(worse):.0f} to {max(worse):.0f} times that of the next.")


# Colours


COLOUR = REFERENCE / "colour" / "README.md"
CLASSICAL = ("reinhard", "histogram_matching")
SETS_OF_COLOURS = {
    "summer2winter": "Summer and winter",
    "monet2photo": "Monet and photographs",
    "scikit-learn": "The bundled pair",
}
TEN_PAIRS = ("summer2winter", "monet2photo")


def colours(chosen: str, label: str) -> dict[int, Mapping[str, float]]:
    """Return the metrics of a row on the pairs of a set."""
    found = [r for r in records("colour") if (r.spec.task_config["set"], r.label) == (chosen, label)]
    return {int(str(r.spec.task_config["pair"])): r.metrics for r in found}


def below_both(chosen: str, label: str) -> list[int]:
    """Return the pairs on which the energy distance is below those of the classical rows, both ways."""
    return [pair for pair, found in colours(chosen, label).items() if is_below_both(chosen, pair, found)]


def is_below_both(chosen: str, pair: int, found: Mapping[str, float]) -> bool:
    classical = [colours(chosen, one)[pair] for one in CLASSICAL]
    return all(found[way] < one[way] for one in classical for way in ("energy_fwd", "energy_bwd"))


@pytest.mark.parametrize("chosen", SETS_OF_COLOURS)
def test_colours(chosen: str) -> None:
    rows = tables(COLOUR, SETS_OF_COLOURS[chosen])[0][1]
    there = {r.label for r in records("colour") if r.spec.task_config["set"] == chosen}
    assert {name(label) for label in rows} == there - {"constant"}
    for label, (energy, below, *others) in rows.items():
        found = colours(chosen, name(label))
        assert sorted(found) == (list(range(1, 11)) if chosen in TEN_PAIRS else [1])
        cells = {"energy": (energy, 1000), "w1": (others[0], 1000), "hi": (others[1], 1), "tv": (others[2], 1)}
        for metric, (cell, factor) in (cells | {"cost": (others[3], 1000)}).items():
            ends = [factor * mean([one[f"{metric}_{way}"] for one in found.values()]) for way in ("fwd", "bwd")]
            assert shows(cell, *ends), (label, metric, cell, ends)
        assert below == ("" if name(label) in CLASSICAL else str(len(below_both(chosen, name(label)))))
    assert all(r.spec.cpu_limit == 30 for r in kind("colour"))


def test_what_the_colours_say_in_words() -> None:
    def wins(label: str) -> list[tuple[str, int]]:
        return [(chosen, pair) for chosen in TEN_PAIRS for pair in below_both(chosen, label)]

    cfm, fixedpoint, ncf, linear = (len(wins(label)) for label in ("cfm", "fixedpoint", "ncf", "linear"))
    assert says(COLOUR, f"`cfm` is below both on {cfm} pairs of 20, `fixedpoint` on {fixedpoint}, `ncf` on {ncf}.")
    assert linear == 2
    assert [len(below_both(chosen, "mmr")) for chosen in TEN_PAIRS] == [1, 5]
    assert says(
        COLOUR,
        "`mmr` does not get there in half a minute:"
        " it is below both on one pair of summer and winter and on five of Monet.",
    )
    assert says(COLOUR, f"is below both on {len(wins('enot'))} pairs of 20; `w2gn` is on {len(wins('w2gn'))}.")
    monet = {r.label for r in records("colour") if r.spec.task_config["set"] == "monet2photo"}
    for way in ("energy_fwd", "energy_bwd"):
        energy = {label: mean([one[way] for one in colours("monet2photo", label).values()]) for label in monet}
        assert min(energy, key=lambda label: energy[label]) == "enot"
    assert not [label for label in ("cfm", "fixedpoint", "ncf") if ("summer2winter", 7) in wins(label)]
    on_7 = {
        label: 1000 * colours("summer2winter", label)[7]["energy_fwd"]
        for label in ("histogram_matching", "cfm", "fixedpoint", "ncf")
    }
    matched, *ours = on_7.values()
    assert says(COLOUR, f"at {matched:.3f} there, and they are at {min(ours):.3f} to {max(ours):.3f}.")
    for chosen in TEN_PAIRS:
        of = {
            label: {
                m: mean([one[f"{m}_{way}"] for one in colours(chosen, label).values() for way in ("fwd", "bwd")])
                for m in ("w1", "hi")
            }
            for label in {r.label for r in records("colour") if r.spec.task_config["set"] == chosen}
        }
        lower = {label for label in of if of[label]["w1"] < of["histogram_matching"]["w1"]}
        assert lower == ({"enot"} if chosen == "monet2photo" else set())
        assert all(of[label]["hi"] > of["histogram_matching"]["hi"] for label in ("cfm", "fixedpoint", "ncf"))


def test_two_minutes_on_colours() -> None:
    """Every run of the three solvers that is not below both classical rows at half a minute, and no others."""
    longer = {
        (str(r.spec.task_config["set"]), int(str(r.spec.task_config["pair"])), r.label): r
        for r in Store(TUNING / "lengths").all()
        if r.spec.task == "colour"
    }
    assert {(r.spec.cpu_limit, r.spec.preset, r.spec.seed) for r in longer.values()} == {(120, "full", 0)}
    assert longer.keys() == {
        (chosen, pair, label)
        for chosen in TEN_PAIRS
        for label in ("cfm", "fixedpoint", "ncf")
        for pair in colours(chosen, label).keys() - set(below_both(chosen, label))
    }
    ((left, found),) = ((key, r.metrics) for key, r in longer.items() if not is_below_both(*key[:2], r.metrics))
    assert left == ("monet2photo", 7, "fixedpoint")
    matched = colours("monet2photo", "histogram_matching")[7]
    assert len(longer) == 6
    assert says(COLOUR, "With two minutes in place of half a minute, five of these six runs are below both")
    assert says(
        COLOUR,
        f"still has {1000 * found['energy_fwd']:.3f} and {1000 * found['energy_bwd']:.3f} there, where"
        f" `histogram_matching` has {1000 * matched['energy_fwd']:.3f} and {1000 * matched['energy_bwd']:.3f}",
    )


# Tuning


STUDIES = tables(TUNING / "README.md", "Tuning studies")[0][1]
ACCEPTED = tables(TUNING / "README.md", "Acceptance")[0][1]


@pytest.mark.parametrize("label", STUDIES)
def test_tuning_studies(label: str) -> None:
    before, best, values, outcome = STUDIES[label]
    study = read_study(study_path(TUNING, name(label)))
    assert study is not None
    assert study.proposal is not None
    assert len(study.trials) == 8
    won, first = study.trials[study.proposal.trial], study.trials[0]
    assert (shows(before, first.score), shows(best, won.score)) == (True, True)
    changed = {key: value for key, value in won.values.items() if value != first.values[key]}
    assert values == (f"`{','.join(f'{key}={value}' for key, value in changed.items())}`" if changed else "no change")
    wanted = dict(first.values)
    if outcome.startswith("as proposed"):
        wanted = won.values | dict(pair.split("=") for pair in re.findall(r"but `(\w+=\w+)`", outcome))
    kind = "images" if study.protocol.pairs[0].config.get("space") == "pixel" else "vectors"
    assert _full(name(label), wanted, kind) == wanted
    assert (outcome == "kept: gain below 5 %") == (first.score / won.score < 1.05)


def test_the_six_solvers_that_lead_in_their_studies() -> None:
    file = ROOT / "results" / "campaigns" / "convex.toml"
    said = "those whose presets had the least errors in the tuning studies, of those that take any source"
    assert said in " ".join(file.read_text(encoding="utf-8").replace("\n# ", " ").split())
    elsewhere = (*FLOWS, "augcyclegan", "gnot", "munit", "otddflow")  # these are for images
    scores = {}
    for label, (before, best, _, outcome) in STUDIES.items():
        if name(label) not in elsewhere:
            scores[name(label)] = float(best if outcome.startswith("as proposed") else before)
    six = tomllib.loads(file.read_text(encoding="utf-8"))["solvers"].split(",")
    assert sorted(six) == sorted(sorted(scores, key=scores.__getitem__)[:6])


def _full(solver: str, wanted: Mapping[str, object], kind: str) -> dict[str, object]:
    """Return what the preset `full` has for points of this kind, for the parameters of `wanted`."""
    registry = Registry()
    registration = registry.load(registry.find(solver, "solver"))
    values = preset_values(registration)
    rows = getattr(registration.cls, "rows", None)
    if rows is None or all(value is None for value in wanted.values()):
        return dict(values)
    return {key: getattr(rows["ours", kind], key) for key in wanted}


def test_scores_by_class_of_solvers_that_ignore_classes() -> None:
    page, scores = TUNING / "README.md", []
    for solver in ("augcyclegan", "munit", "otddflow"):
        study = read_study(study_path(TUNING, solver))
        assert study is not None
        assert study.protocol.cpu_seconds == 60
        scores += [trial.score for trial in study.trials if trial.score < 10_000]
        if solver == "otddflow":
            assert study.proposal is not None
            best = study.trials[study.proposal.trial]
            right = {f"{100 - run.score:.1f}" for run in best.runs}
            assert says(page, f"The best trial of `otddflow` had {right.pop()} % of the images right on both pairs;")
            assert not right
            (failed,) = (trial for trial in study.trials if trial.score >= 10_000)
            assert failed.values == best.values | {"n": 500}
            assert says(page, "with `n=500` the same weight diverged.")
    assert says(page, f"Their trials have {min(scores):.1f} to {max(scores):.1f} %, where a guess has 90")


def test_every_study_is_listed() -> None:
    assert {f"`{path.stem}`" for path in TUNING.glob("*.json")} == set(STUDIES)
    assert len(STUDIES) == 26
    assert says(
        RULES, f"Twenty-six solvers have gone through the protocol of [`otbench tune`](tuning.md): {listed(STUDIES)}."
    )
    taken = [label for label in STUDIES if STUDIES[label][-1].startswith("as proposed")]
    assert says(RULES, f"{listed(taken)} have what it proposed; the others keep their presets")


def listed(labels: Iterable[str]) -> str:
    *first, last = labels
    return f"{', '.join(first)} and {last}"


_OTHERWISE: dict[str, dict[str, object]] = {
    "`w2ot`, before": {"tol": 0.1, "max_inner": 20},
    "`w2ot`, proposed": {"tol": 0.01, "max_inner": 40},
    "`not`, before": {"optimiser": "adam", "lr": 3e-3, "inner": 5, "critic_rate": 2.0},
    "`notweak`, before": {"optimiser": "adam", "lr": 3e-3, "inner": 5, "critic_rate": 2.0},
}
"""What is compared where it is not what a study began with and what it proposed."""


def compared(label: str) -> list[Record]:
    """Return the records of a row of the table."""
    rows = [record for record in Store(TUNING / "acceptance").all() if record.spec.solver == name(label)]
    seed = int(label.rpartition("seed ")[2]) if "seed" in label else 100
    if "," in label:
        study = read_study(study_path(TUNING, name(label)))
        assert study is not None
        assert study.proposal is not None
        trial = study.trials[study.proposal.trial if "proposed" in label else 0]
        values = _OTHERWISE.get(label.partition(", seed")[0], trial.values)
        if "proposed" in label and (but := re.search(r"but `(\w+)=(\w+)`", STUDIES[f"`{name(label)}`"][-1])):
            values = values | {but[1]: but[2]}
        rows = [r for r in rows if all(r.spec.solver_config[key] == value for key, value in values.items())]
    return [record for record in rows if record.spec.seed == seed]


@pytest.mark.parametrize("label", ACCEPTED)
def test_acceptance(label: str) -> None:
    found = {r.spec.task: r.metrics for r in compared(label)}
    gaussian, forward, backward = ACCEPTED[label]
    assert shows(gaussian, *([found["gaussian"]["uvp_fwd"]] if gaussian else []))
    assert shows(forward, *([1000 * found["uci"]["mmd_fwd"]] if "uci" in found else []))
    assert shows(backward, *([1000 * found["uci"]["mmd_bwd"]] if backward else []))


DECAYS, BY_DECAY = tables(TUNING / "README.md", "Weight decay on pools")[0]


@pytest.mark.parametrize("label", BY_DECAY)
def test_weight_decay_on_pools(label: str) -> None:
    *cells, now = BY_DECAY[label]
    runs = [r for r in Store(TUNING / "decay").all() if r.spec.solver == name(label) and r.spec.task == "gaussian"]
    key = "pool_decay" if name(label) == "w2ot" else "weight_decay"
    found = {r.spec.solver_config[key]: r for r in runs}
    shown = {float(title): cell for title, cell in zip(DECAYS, cells, strict=False) if cell != "-"}
    assert shown.keys() == found.keys()
    for value, cell in shown.items():
        run = found[value]
        assert (run.spec.cpu_limit, run.spec.seed, run.spec.task_config["pair"]) == (120, 100, "100")
        assert shows(cell, run.metrics["uvp_fwd"], run.metrics["uvp_bwd"])
    registration = Registry().load(Registry().find(name(label), "solver"))
    assert registration.presets["full"].get(key, 0.0) == float(now)
    best = min(found, key=lambda value: found[value].metrics["uvp_fwd"] * found[value].metrics["uvp_bwd"])
    assert best == float(now) or name(label) in ("mmv1", "w2gn")  # the sentences below the table say why


def test_what_weight_decay_costs() -> None:
    kept = [*Store(TUNING / "decay").all(), *Store(TUNING / "acceptance").all()]
    page = TUNING / "README.md"

    def at(task: str, solver: str, decay: float) -> Mapping[str, float]:
        key = "pool_decay" if solver == "w2ot" else "weight_decay"
        full = preset_values(Registry().load(Registry().find(solver, "solver")))
        tol = {"tol": 0.01} if solver == "w2ot" else {}
        wanted = {**full, **tol, key: decay}
        mine = [r for r in kept if (r.spec.solver, r.spec.task, r.spec.seed) == (solver, task, 100)]
        (run, *_) = (r for r in mine if all(r.spec.solver_config.get(k, 0.0) == v for k, v in wanted.items()))
        assert run.spec.cpu_limit == 30
        return run.metrics

    said = []
    for solver in ("enot", "w2ot", "mmv1", "w2gn"):
        both = [at("toy2d", solver, decay)["sliced_w2_fwd"] for decay in (0.0, 0.3)]
        said.append(f"`{solver}` {both[0]:.3f} and {both[1]:.3f}")
        assert (both[1] > 1.1 * both[0]) == (solver in ("mmv1", "w2gn"))
    assert says(page, f"{said[0]}, {said[1]}, but {said[2]}, {said[3]}.")
    said, grown = [], []
    for solver in ("enot", "w2ot", "w2gn"):
        ends = [[1000 * at("uci", solver, decay)[f"mmd_{way}"] for way in ("fwd", "bwd")] for decay in (0.0, 0.3)]
        said.append(f"`{solver}` " + " and ".join(", ".join(f"{value:.3g}" for value in end) for end in ends))
        grown += [after / before for before, after in zip(*ends, strict=True)]
    assert says(page, f"{said[0]}, {said[1]}, {said[2]}.")
    assert says(page, f"no error grew by more than {100 * (max(grown) - 1):.0f} %")


# How the runs of a table were made


FOLDERS = ("", "uci", "mnist", "w2bench", "eot", "pools", "convex", "colour", "images")
"""Folders of the reference set; the Gaussian runs are in the first."""


def kind(folder: str) -> list[Record]:
    """Return the runs of solvers in a folder."""
    return [record for record in records(folder) if record.spec.kind == "solver"]


def test_how_the_runs_of_each_page_were_made() -> None:
    for folder in FOLDERS:
        assert all(record.spec.device == "cpu" and record.spec.threads == 1 for record in kind(folder)), folder
        recent = folder not in ("uci", "mnist")
        assert {record.spec.standardise for record in kind(folder)} == {recent}
        for record in kind(folder):
            on_epyc = folder == "eot" or (folder == "w2bench" and record.spec.task_config["dim"] == 64)
            made_on = "AMD EPYC" if on_epyc else "Xeon"
            assert made_on in str(record.environment["cpu"]), record.id
    assert says(GAUSSIAN_PAGE, "120 CPU seconds of training each on one core of an Intel Xeon")
    assert says(REFERENCE / "README.md", "Those of `uci` and `mnist` were made by earlier states of the code")
    verified = read_verified([REFERENCE / "ci"])
    assert {v.outcome for v in verified} == {Outcome.WITHIN}
    recorded = {record.id: record for record in Store(REFERENCE / "ci").all()}
    assert all(v.environment["cpu"] != recorded[v.id].environment["cpu"] for v in verified)
    assert says(
        REFERENCE / "README.md",
        f"of the {len(recorded)} of `ci` it ran {len(verified)} again on another processor,"
        " and all are within the spread of reruns.",
    )
    on_pairs = [r for r in kind("") if r.spec.task == "gaussian"]
    assert {(r.spec.preset, r.spec.time_limit, r.spec.cpu_limit) for r in on_pairs} == {("full", None, 120)}
    assert {r.spec.task_config["pool"] for r in on_pairs} == {"100000"}
    assert {(r.spec.preset, r.spec.time_limit) for r in kind("uci")} == {("quick", 300.0)}
    assert {r.spec.preset for r in [*kind("mnist"), *kind("w2bench")]} == {"full"}
    facts = [record.facts for folder in ("", "uci", "mnist") for record in kind(folder)]
    assert {fact["test_points"] for fact in facts if "test_points" in fact} == {16384}
    assert {fact["test_source"] for fact in facts if "test_source" in fact} == {10_000}
    assert {fact["source_vae_epoch"] for fact in facts if "source_vae_epoch" in fact} == {40.0}
    assert {fact["scored_points_at_most"] for fact in facts if "scored_points_at_most" in fact} == {32_768}
    assert says(GAUSSIAN_PAGE, "scored on the same 16 384 test points as every row.")
    assert says(UCI, "not of the 32 768 that were scored")
    assert says(MNIST, "all 10 000 test images")
    assert says(MNIST, "40 epochs)")
    own_length = {(r.spec.solver, r.counts.steps) for r in kind("mnist") if r.spec.time_limit is None}
    assert own_length == {("ncf", 6000)}
    limits = {(r.spec.task_config["space"], r.spec.time_limit) for r in kind("mnist") if r.spec.time_limit}
    assert limits == {("latent", 300.0), ("pixel", 480.0)}


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_commands_of_a_page_are_those_of_its_records(folder: str) -> None:
    """Solver, task with its parameters, preset, limits and seeds: of all that are typed, and no others."""
    page = (REFERENCE / folder / "README.md").read_text(encoding="utf-8")
    typed = set()
    for line in re.findall(r"^    python bench.py (--solvers.*)$", page, re.MULTILINE):
        words = dict(re.findall(r"--([\w-]+) (\"[^\"]+\"|\S+)", line))
        solvers = re.findall(r"[\w]+(?:\[[^\]]*\])?", words["solvers"].strip('"'))
        task, _, inside = words["task"].strip('"').rstrip("]").partition("[")
        choices = [(k, v.split("|")) for k, _, v in (part.partition("=") for part in inside.split(",")) if k]
        limit = float(words.get("time-limit", 0)), float(words.get("cpu-limit", 0))
        for solver, seed, *values in product(solvers, words.get("seeds", "0").split(","), *(v for _, v in choices)):
            config = tuple(zip((k for k, _ in choices), values, strict=True))
            typed.add((solver, task, config, words["preset"], *limit, int(seed)))

    def asked(r: Record) -> tuple[object, ...]:
        limit = r.spec.time_limit or 0.0, r.spec.cpu_limit or 0.0
        return r.label, r.spec.task, r.spec.preset, *limit, r.spec.seed

    made = kind(folder)
    closed = [r for r in records(folder) if r.spec.kind == "baseline"]
    for one in typed:
        config = dict(one[2])
        found = [r for r in made if asked(r) == (*one[:2], *one[3:]) and config.items() <= _texts(r).items()]
        found += [r for r in closed if (r.label, r.spec.task) == one[:2] and config.items() <= _texts(r).items()]
        assert found, one
    for r in made:
        assert any((*one[:2], *one[3:]) == asked(r) and dict(one[2]).items() <= _texts(r).items() for one in typed), (
            r.id
        )


def _texts(record: Record) -> dict[str, str]:
    return {name: str(value) for name, value in record.spec.task_config.items()}


OPEN_CELLS = tables(REFERENCE / "README.md", "Open cells")[0][1]


@pytest.mark.parametrize("label", [label for label in OPEN_CELLS if re.match(r"`\w+`.*\bd\b", label)])
def test_open_cells_of_the_gaussian_pairs_are_open(label: str) -> None:
    """A label is `solver`, d = 16, 32 with seeds 1, 2; after a semicolon, the seeds that are open at every d."""
    first, _, everywhere = label.partition(";")
    named, _, some = first.partition(" with seeds ")
    solvers = re.findall(r"`(\w+)`", named)
    dims, seeds, all_seeds = (
        {int(n) for n in re.findall(r"\d+", re.sub(r"`\w+`", "", part))} for part in (named, some, everywhere)
    )
    assert solvers
    assert dims or "all d" in named
    for record in kind(""):
        if record.spec.solver in solvers and record.spec.preset == "full":
            seed, there = record.spec.seed, record.spec.task_config["dim"] in dims or "all d" in named
            assert not (there and (seed in seeds or not some)), record.id
            assert seed not in all_seeds, record.id


def test_which_records_have_digests_of_all_code() -> None:
    for folder in FOLDERS:
        assert {"harness" in record.source for record in records(folder)} == {folder not in ("uci", "mnist")}
    assert says(
        RULES, "Those of `uci` and `mnist` in the [reference set](../results/reference/README.md) are such records."
    )


# Sentences


def test_the_floor_of_entropic_scores() -> None:
    found = {}
    for dim in (2, 16):
        task = EOT(build_config(EOTConfig, {"dim": dim, "eps": 1.0}, owner="task eot"))
        instance = task.build(seed=0, device=torch.device("cpu"), dtype=torch.float32)
        (found[dim],) = instance.task_rows().values()
    plain = " and ".join(f"{found[dim]['cbw2_uvp_plain']:.2f} %" for dim in found)
    assert says(RULES, f"a plain `cBW2-UVP` of {plain} at d = 2 and 16 (pair 0, epsilon = 1)")
    noise = max(abs(scores[name]) for scores in found.values() for name in ("cbw2_uvp", "bw2_uvp"))
    assert noise < 0.02
    assert says(RULES, "what noise is left, at most 0.02 % there.")


def test_linear_is_hard_to_beat_between_gaussians() -> None:
    assert says(README, "the exact map is linear, and `linear` is hard to beat.")
    for label in GAUSSIAN:
        for dim in SHOWN_DIMS:
            if found := gaussian(name(label), dim):
                assert found[0].metrics["uvp_fwd"] > 0.95 * gaussian("linear", dim)[0].metrics["uvp_fwd"], (label, dim)
    times = [ratio for solver in TEN for dim in SHOWN_DIMS for ratio in against_linear(solver, dim)]
    assert min(times) > 0.94
    assert sum(ratio < 1 for ratio in times) == 3


def test_not_has_no_way_back() -> None:
    assert "`not`, forward only" in GAUSSIAN
    assert not any("uvp_bwd" in run.metrics for dim in SHOWN_DIMS for run in gaussian("not", dim).values())


def test_hjpinn_against_ncf_on_gaussian_pairs() -> None:
    """What the docstring of `hjpinn` says."""
    text = " ".join((ROOT / "solvers" / "hjpinn.py").read_text(encoding="utf-8").split())
    ends = [[gaussian(solver, dim)[0].metrics["uvp_fwd"] for dim in DIMS] for solver in ("hjpinn", "ncf")]
    said = [", ".join(f"{value:.3f}" for value in end) for end in ends]
    assert f"it had {said[0]} % where `ncf` had {said[1]} (d = 2, 4, 8" in text
    settings = [[gaussian(s, 8)[0].spec.solver_config[k] for k in ("lr", "hj_weight")] for s in ("hjpinn", "ncf")]
    assert (
        f"with `lr={settings[0][0]},hj_weight={settings[0][1]}` and `lr={settings[1][0]},hj_weight={settings[1][1]}`"
        in text
    )
    table = published_table("gaussian")
    at_8 = table[table["dim"] == 8].set_index("method")["value"]
    assert f"forward UVP at d = 8: {at_8['HJ-PINN']:.3f} and {at_8['NCF']:.3f} %" in text


def test_uci_page_sentences() -> None:
    for table in SETS:
        for solver in ("otflow", "linear"):
            assert all("nll" in run.metrics for run in uci(solver, table).values())
        assert max(values(uci("otflow", table), "nll")) < min(values(uci("linear", table), "nll"))
        assert min(values(uci("ncf", table), "inverse_gap")) > 20
    assert not any("nll" in run.metrics for run in records("uci") if run.spec.solver not in ("otflow", "linear"))
    assert says(
        UCI, "`otflow` has by far better densities than `linear`, the only other row that has any, also on BSDS300"
    )
    samples = [values(uci(solver, "bsds300"), "mmd_fwd") for solver in ("otflow", "linear")]
    assert min(samples[0]) > max(samples[1])
    assert says(UCI, "where its samples are worse than those of `linear`")
    assert says(UCI, "`ncf`: its two maps do not belong together here.")
    assert max(values(uci("fixedpoint", "bsds300"), "novelty")) < 1


def test_mnist_page_sentences() -> None:
    def accuracy(solver: str, config: dict[str, str], steps: int | None = None) -> float:
        return mnist(solver, config, steps).metrics["accuracy"]

    real, all_right = (mnist(solver, CONDITIONAL).metrics for solver in ("real_images", "class_mean"))
    assert says(MNIST, f"a classifier with {real['accuracy']:.2f} % on real test images")
    assert says(
        MNIST,
        f"`class_mean` scores {all_right['accuracy']:.0f} % with ten images"
        f" (FD {all_right['fd_classifier_decoded']:.0f}), more than real test images ({real['accuracy']:.1f} %)",
    )
    below = all_right["accuracy"] - accuracy("fixedpoint", CONDITIONAL)
    assert says(MNIST, f"(`fixedpoint` is {below:.1f} below)")
    assert all(
        accuracy(solver, CONDITIONAL) < all_right["accuracy"] - 1 for solver in ("classwise_linear", "fixedpoint")
    )
    assert says(RULES, "(`prior_sample`: from half of those drawn at random)")
    assert 45 < accuracy("prior_sample", CONDITIONAL) < 55
    seconds = mnist("ncf", CONDITIONAL, 6000).times
    assert 9 < ((seconds.train_s or 0) + (seconds.warmup_s or 0)) / 60 < 12
    assert says(MNIST, "after 6000 steps (ten minutes, beside other work)")
    control = mnist("classwise_linear", PIXELS).metrics
    assert says(
        MNIST, f"in closed form, has {control['accuracy']:.1f} % and {control['fd_pixel']:.2f}. It sees all labels"
    )


@pytest.mark.parametrize("solver", ["not", "gnot"])
def test_mnist_accuracy_by_step(solver: str) -> None:
    points = [f"{point.step}: {point.metrics['accuracy']:.1f}" for point in mnist(solver, PIXELS).curve]
    assert f"* `{solver}`: {', '.join(points)}\n" in MNIST.read_text(encoding="utf-8")


def test_published_numbers_on_the_mnist_page() -> None:
    table = published_table("mnist")

    (ncf,), (implicit,) = quoted("NCF", "accuracy"), quoted("ImplicitOT", "accuracy")
    assert says(MNIST, f"Published: NCF {ncf:.2f} % (its own VAE, a map that is not told the class); ImplicitOT")
    assert says(MNIST, f"ImplicitOT {implicit:.2f} % with a decoder that reads the label")
    assert says(MNIST, f"Published: ImplicitOT {implicit:.2f} %. A code")
    there, back = (quoted("NCF", metric, "transfer")[0] for metric in ("accuracy", "accuracy_bwd"))
    assert says(MNIST, f"Published: NCF {there:.2f} % forward, {back:.2f} % backward")
    there, back = (quoted("NCF", metric, "shift")[0] for metric in ("accuracy", "accuracy_bwd"))
    assert says(MNIST, f"Published: NCF {there:.2f} % and {back:.2f} %.")
    papers = table[table["source"].str.contains("2605.10792")]
    gnot = papers[papers["method"].str.startswith("GNOT")]
    right, distance = (sorted(gnot[gnot["metric"] == metric]["value"]) for metric in ("accuracy", "fd_pixel"))
    said = f"GNOT with ten labelled targets a class {right[0]:.1f} to {right[-1]:.1f} %"
    assert says(MNIST, f"{said}, FD pixel {distance[-1]:.1f} to {distance[0]:.1f}")
    for method, words in (
        ("NOT", "NOT, which sees no labels, {:.2f} % and {:.2f}"),
        ("AugCycleGAN", "AugCycleGAN {:.2f} % and {:.2f}"),
        ("MUNIT", "MUNIT {:.2f} % and {:.2f}"),
    ):
        assert says(MNIST, words.format(quoted(method, "accuracy")[0], quoted(method, "fd_pixel")[0]))


def test_w2bench_page_sentences() -> None:
    errors = {key: run.metrics["uvp_fwd"] for key, run in faster().items()}
    assert says(W2BENCH, "At d = 2 and 4 all are within twice their own numbers but `enot` at d = 4, which gets closer")
    assert says(W2BENCH, "At d = 16 `enot` is a little beyond that in this run, not in")
    assert says(W2BENCH, "[the other one](#the-same-run-twice), and with no seed of the table above.")
    twice = 2 * 0.24
    assert max(values(w2bench("enot", 16), "uvp_fwd")) < twice
    (again,) = (
        r for r in Store(TUNING / "repeats").all() if (r.spec.solver, r.spec.task_config["dim"]) == ("enot", 16)
    )
    assert again.metrics["uvp_fwd"] < twice < errors["enot", 16] < 1.1 * twice
    rows = published_table("w2bench")
    behind = {
        (solver, dim)
        for solver, method in METHODS.items()
        for dim in (2, 4)
        if errors[solver, dim]
        > 2 * rows[(rows["method"] == method) & (rows["dim"] == dim) & (rows["metric"] == "uvp_fwd")]["value"].iloc[0]
    }
    assert behind == {("enot", 4)}


def test_the_same_seconds_on_another_processor() -> None:
    # `cfm` was not run on the other processor
    pairs = {key: (w2bench(*key)[0], run) for key, run in faster().items() if key[1] < 64 and key[0] != "cfm"}
    for ours, other in pairs.values():
        assert same_but_settings(ours, other)
        assert other.spec.solver_config.items() <= ours.spec.solver_config.items()
        assert "EPYC" in str(other.environment["cpu"])
    steps = sorted(other.counts.steps / ours.counts.steps for ours, other in pairs.values())
    errors = {key: other.metrics["uvp_fwd"] / ours.metrics["uvp_fwd"] for key, (ours, other) in pairs.items()}
    more = errors.pop(("enot", 16))
    less = sorted(errors.values())
    assert says(README, f"an AMD EPYC, which takes {steps[0]:.1f} to {steps[-1]:.1f} times the steps in the same time.")
    assert says(
        W2BENCH,
        f"these took {steps[0]:.1f} to {steps[-1]:.1f} times the steps that seed 0 of the table above took,"
        f" and have {less[0]:.2f} to {less[-1]:.2f} of its forward error,"
        f" but `enot` at d = 16 has {more:.2f} times as much.",
    )
    assert less[-1] < 1 < more


LENGTHS, BY_LENGTH = tables(TUNING / "README.md", "Length")[0]


def of_length(solver: str, dim: int) -> dict[float, Record]:
    """Return the runs on `w2bench` by their CPU seconds, of `full`, or of what the label's brackets set."""
    kept = (Store(TUNING / folder).all() for folder in ("epyc", "lengths", "tolerance"))
    runs = [r for found in kept for r in found if r.spec.task == "w2bench"]
    bare, _, inside = solver.rstrip("]").partition("[")
    asked = dict(pair.split("=") for pair in inside.split(",") if pair)
    if bare == "w2ot" and not asked:
        asked = {"tol": "0.01", "max_inner": "40"}
    found = [r for r in runs if r.spec.solver == bare and r.spec.task_config["dim"] == dim]
    found = [r for r in found if all(float(r.spec.solver_config[key]) == float(asked[key]) for key in asked)]
    assert {(r.spec.preset, r.spec.seed) for r in found} == {("full", 0)}
    assert all("EPYC" in str(r.environment["cpu"]) for r in found)
    return {r.spec.cpu_limit or 0.0: r for r in found}


@pytest.mark.parametrize("label", BY_LENGTH)
def test_lengths(label: str) -> None:
    solver, dim = name(label).partition("[")[0], int(label.rpartition(" ")[2])
    runs = of_length(name(label), dim)
    *measured, published = zip(LENGTHS, BY_LENGTH[label], strict=True)
    shown = {float(title.split()[0]): cell for title, cell in measured if cell != "-"}
    assert shown.keys() == runs.keys()
    for seconds, cell in shown.items():
        assert shows(cell, runs[seconds].metrics["uvp_fwd"], runs[seconds].metrics["uvp_bwd"])
    rows = published_table("w2bench")
    rows = rows[(rows["method"] == METHODS[solver]) & (rows["dim"] == dim) & (rows["metric"] == "uvp_fwd")]
    assert shows(published[1], rows["value"].iloc[0])


def test_what_the_lengths_say_in_words() -> None:
    page = TUNING / "README.md"
    runs = of_length("enot", 4)
    short, long = runs[300].metrics["uvp_fwd"], runs[570].metrics["uvp_fwd"]
    assert says(
        page, f"after 570 seconds instead of 300 the forward error is {long / short:.2f} of what it was, in one run"
    )
    steps = f"{runs[570].counts.steps:,}".replace(",", " ")
    assert says(page, f"`paper` takes 200 000 steps of 1024 points a side; ours took {steps} of 512 in 570 seconds.")
    registration = Registry().load(Registry().find("enot", "solver"))
    assert (registration.presets["paper"]["steps"], registration.presets["paper"]["batch_size"]) == (200_000, 1024)
    again = of_length("w2ot[tol=0.1,max_inner=20]", 2)
    assert again[300].metrics["uvp_fwd"] > 0.95 * again[150].metrics["uvp_fwd"]
    assert says(page, "twice the time left the forward error as it is.")


PAIRED, BY_PAIRING = tables(TUNING / "README.md", "Who is paired with whom")[0]


def paired(coupling: str, points: int) -> Record:
    """Return the run of `cfm` with these pairs."""
    config = {"coupling": coupling, "pairing_batch": points}
    (run,) = (r for r in Store(TUNING / "coupling").all() if config.items() <= r.spec.solver_config.items())
    assert (run.spec.preset, run.spec.seed, run.spec.cpu_limit) == ("full", 0, 120)
    assert (run.spec.task, run.spec.task_config["dim"], run.spec.task_config["pool"]) == ("w2bench", 16, "fresh")
    return run


@pytest.mark.parametrize("label", BY_PAIRING)
def test_who_is_paired_with_whom(label: str) -> None:
    for title, cell in zip(PAIRED, BY_PAIRING[label], strict=True):
        if cell != "-":
            run = paired(name(label), int(title))
            assert shows(cell, run.metrics["uvp_fwd"], run.metrics["uvp_bwd"]), (label, title)


def test_what_the_couplings_say_in_words() -> None:
    page = TUNING / "README.md"
    none = paired("independent", 2048).metrics
    assert says(page, f"Independent pairs end at {none['uvp_fwd']:.3g} and {none['uvp_bwd']:.3g}.")
    assert w2bench("identity", 16)[0].metrics["uvp_fwd"] < none["uvp_fwd"]  # "worse than the identity forward"
    assert none["uvp_bwd"] > 101  # "worse than a constant backward"
    few, many, most = (paired("minibatch", points) for points in (128, 2048, 4096))
    errors = [paired("minibatch", points).metrics["uvp_fwd"] for points in (128, 512, 2048, 4096)]
    assert min(errors) == errors[2]
    assert {r.environment["cpu"] for r in Store(TUNING / "coupling").all()} == {many.environment["cpu"]}
    assert "Xeon" in str(many.environment["cpu"])
    steps = [f"{run.counts.steps:,}".replace(",", " ") for run in (most, many)]
    assert says(page, f"4096 points leave time for {steps[0]} steps where 2048 leave it for {steps[1]}.")
    best = nearest(few)
    ends = f"{best.metrics['uvp_fwd']:.3g} after {best.step} steps and ends at {few.metrics['uvp_fwd']:.3g}"
    assert says(page, f"with 128 points it had {ends}")
    assert paired("sinkhorn", 2048).counts.steps == 1
    assert says(page, "One plan of 2048 points took the whole time")


def test_what_the_acceptance_table_says_in_words() -> None:
    def row(label: str) -> list[float]:
        return [float(cell) if cell else math.nan for cell in ACCEPTED[label]]

    page = TUNING / "README.md"
    factors: list[float] = []
    for label, (_, _, _, outcome) in STUDIES.items():
        if not outcome.startswith("kept: worse") or "8gaussians" in outcome or label in ("`cfm`", "`ffjord`"):
            continue
        for seed in ("", ", seed 101"):
            if f"{label}, before{seed}" not in ACCEPTED:
                continue
            before, after = row(f"{label}, before{seed}"), row(f"{label}, proposed{seed}")
            worse = [b / a for a, b in zip(before, after, strict=True)]
            where = max(worse[:1] if "Gaussian" in outcome else worse[1:])
            assert where > 1
            factors += [] if seed else [where]
    assert says(page, f"With seed 100, what is called worse is so by a factor of {min(factors):.1f} or more; where")
    assert says(page, "where seed 101 is shown, it is worse with that, too.")
    gains = float(STUDIES["`not`"][0]) / float(STUDIES["`not`"][1])
    ends = [row(f"`not`, {which}")[0] for which in ("proposed", "before")]
    assert says(page, f"a factor of {gains:.0f} in its study, is lost because a Gaussian pair says")
    assert says(page, pair := "0.02 instead of 0.01.")
    assert shows(pair.rstrip("."), *ends)
    idle = row("`identity`")
    assert sum(value > idle[k] for label in ACCEPTED for k, value in enumerate(row(label)) if k) > 3
    assert says(page, "several of these maps are worse than doing nothing")
    both = [row(f"`mmr`, {which}{seed}") for which in ("before", "proposed") for seed in ("", ", seed 101")]
    assert max(b[1] for b in both) / min(b[1] for b in both) > 3
    assert all(b > a for a, b in zip((both[0][2], both[1][2]), (both[2][2], both[3][2]), strict=True))
    assert says(page, "its backward map is worse with both")


def test_what_the_acceptance_of_flows_and_wganqc_says_in_words() -> None:
    page = TUNING / "README.md"

    def ends(solver: str, task: str, metric: str) -> list[list[float]]:
        """Return the values before and as proposed, for seed 100 and for seed 101."""
        found = []
        for seed in ("", ", seed 101"):
            rows = [compared(f"`{solver}`, {which}{seed}") for which in ("before", "proposed")]
            found.append([r.metrics[metric] for row in rows for r in row if r.spec.task == task])
        return found

    wganqc, rnode = (ends(solver, "toy2d", "sliced_w2_fwd") for solver in ("wganqc", "rnode"))
    assert all(after > 1.05 * before for before, after in wganqc)
    assert rnode[0][1] > rnode[0][0]
    assert rnode[1][1] < rnode[1][0]
    said = [f"{before:.3f} and {after:.3f}" for before, after in (*wganqc, *rnode)]
    assert says(page, f"on `8gaussians`: sliced W2 forward {said[0]} as proposed, with seed 101 {said[1]}.")
    assert says(page, f"`rnode` is level there: {said[2]}, with seed 101 {said[3]}.")
    (one, two) = ends("rnode", "toy2d", "cost_gap")
    assert says(page, f"from {one[0]:.3g} and {two[0]:.3g} % to {one[1]:.3g} and {two[1]:.3g} %")
    assert half([one[1] - one[0], two[1] - two[0]]) > mean([one[1] - one[0], two[1] - two[0]])
    worse = ends("cfm", "uci", "nll")
    assert all(after > before + 0.5 for before, after in worse)
    said = [f"{before:.1f} nats and {after:.1f}" for before, after in worse]
    assert says(page, f"by its likelihood, too: {said[0]} as proposed, with seed 101 {said[1].replace(' nats', '')}.")
    level = [f"{before:.3f} and {after:.3f}" for before, after in ends("cfm", "toy2d", "sliced_w2_fwd")]
    assert says(page, f"it is level: sliced W2 forward {level[0]}, with seed 101 {level[1]}.")
    lost = [after / before for before, after in ends("geodesic", "gaussian", "uvp_fwd")]
    assert lost[0] < 1.2, "not what is called worse"
    assert says(page, f"a factor of {lost[0]:.2f}, less than what is called worse, with seed 101 of {lost[1]:.2f}.")
    level = [f"{before:.3f} and {after:.3f}" for before, after in ends("geodesic", "toy2d", "sliced_w2_fwd")]
    assert says(page, f"it is level: sliced W2 forward {level[0]} as proposed, with seed 101 {level[1]}.")
    worse = ends("ffjord", "uci", "sliced_w2_fwd")
    assert all(after > 1.4 * before for before, after in worse)
    said = [f"{before:.3f} and {after:.3f}" for before, after in worse]
    assert says(page, f"by its sliced W2 forward, {said[0]} as proposed, with seed 101 {said[1]},")
    backward, nll = ends("ffjord", "uci", "mmd_bwd")[0], ends("ffjord", "uci", "nll")[0]
    gains = f"by a factor of {backward[0] / backward[1]:.1f} and its likelihood by {nll[0] - nll[1]:.1f} nats"
    assert says(page, f"although its backward map is better {gains}.")


def test_the_rate_proposed_for_enot_in_more_dimensions() -> None:
    runs = [r for r in Store(TUNING / "acceptance").all() if r.spec.task == "convex" and r.spec.solver == "enot"]
    assert {(r.spec.cpu_limit, r.spec.seed, *_texts(r).items()) for r in runs} == {
        (200.0, 100, *_texts(runs[0]).items())
    }
    assert _texts(runs[0]).items() >= {("family", "lse-mid"), ("dim", "64"), ("pair", "100")}
    settings = {(r.spec.solver_config["lr"], r.spec.solver_config["batch_size"]): r.metrics for r in runs}
    before, proposed, between = (settings[key] for key in ((5e-3, 512), (1e-2, 1024), (1e-2, 512)))
    page = TUNING / "README.md"
    ends = [f"{m['uvp_fwd']:.3g} and {m['uvp_bwd']:.3g}" for m in (before, proposed, between)]
    assert says(page, f"it had {ends[0]} before, {ends[1]} as proposed.")
    assert says(page, f"diverged, and ended at {ends[2]}.")
    means = [m["uvp_fwd"] * m["uvp_bwd"] for m in (before, proposed)]
    assert means[1] > means[0]  # "no better at d = 64"


def test_runs_at_64_dimensions() -> None:
    first = {solver: w2bench(solver, 64)[0] for solver in ("mmr", "w2gn")}
    best = nearest(first["mmr"])
    turn = f"{best.metrics['uvp_fwd']:.1f} forward after {best.step} steps"
    assert says(W2BENCH, f"`mmr` ran away at d = 64: {turn}, {first['mmr'].metrics['uvp_fwd']:.0f} at the end.")
    assert says(W2BENCH, f"`w2gn` diverged and ended at {first['w2gn'].metrics['uvp_fwd']:.0f}.")


def test_the_same_run_twice() -> None:
    rows = tables(W2BENCH, "The same run twice")[0][1]
    others = {f"`{r.spec.solver}`, d = {r.spec.task_config['dim']}": r for r in Store(TUNING / "repeats").all()}
    assert rows.keys() == others.keys()
    factors = []
    for label, other in others.items():
        ours = faster()[other.spec.solver, other.spec.task_config["dim"]]
        assert same_but_settings(ours, other)
        decay = {"weight_decay", "pool_decay"}  # off where all points are fresh, as here
        assert {*ours.spec.solver_config} - {*other.spec.solver_config} <= decay
        assert all(ours.spec.solver_config[key] == value for key, value in other.spec.solver_config.items())
        for cell, run in zip(rows[label], (ours, other), strict=True):
            assert shows(cell, run.metrics["uvp_fwd"], run.metrics["uvp_bwd"])
        ends = sorted(run.metrics["uvp_fwd"] for run in (ours, other))
        factors.append(ends[1] / ends[0])
    assert says(W2BENCH, f"the larger of the two is up to {max(factors):.1f} times the smaller")
    assert len(factors) == 7
    assert sum(factor > 2 for factor in factors) == 1
    assert says(README, f"of seven that were made twice, one differs by a factor of {max(factors):.1f}.")


def test_what_makes_w2gn_diverge() -> None:
    runs = {r.label: r for r in Store(TUNING / "stability").all()}
    assert {(r.spec.cpu_limit, r.spec.seed, r.spec.task_config["dim"]) for r in runs.values()} == {(30, 0, 64)}
    free = [runs[f"w2gn[{values}]"] for values in ("lr=3e-3", "optimiser=adam,lr=1e-3", "cycle=16.0")]
    numbers = [float(f"{r.metrics['uvp_fwd']:.3g}") for r in free]
    words = " and ".join((f"{numbers[0]:.0f}, {numbers[1]:.1e}".replace("e+0", "e"), f"{numbers[2]:.0f}"))
    assert says(W2BENCH, f"forward errors of {words}.")
    (clamped,) = (r for r in runs.values() if r.spec.solver_config["convex"])
    ends = f"{clamped.metrics['uvp_fwd']:.1f} forward and {clamped.metrics['uvp_bwd']:.2f} backward"
    assert says(W2BENCH, f"Clamped to be convex, it trains: {ends}. That run differs in more than the clamp")
    assert says(W2BENCH, f"`{clamped.label.partition('[')[2].rstrip(']')}`")


def test_what_held_w2ot() -> None:
    runs = {r.spec.task_config.get("family", "w2bench"): r for r in Store(TUNING / "tolerance").all()}
    adopted = Registry().load(Registry().find("w2ot", "solver")).presets["full"]
    for r in runs.values():
        for key in ("tol", "max_inner"):
            assert r.spec.solver_config[key] == adopted[key] == {"tol": 0.01, "max_inner": 40}[key]
    page = TUNING / "README.md"
    assert (runs["w2bench"].spec.task_config["dim"], runs["w2bench"].spec.cpu_limit) == (2, 150)
    found = runs["w2bench"].metrics
    assert says(page, f"it had {found['uvp_fwd']:.3g} and {found['uvp_bwd']:.3g} there after 150 seconds")
    study = read_study(study_path(TUNING, "w2ot"))
    assert study is not None
    before = {r.pair.partition(" ")[0]: r.metrics for r in study.trials[0].runs}
    for family, words in (
        ("lse-mid", "it had {} on `lse-mid` ({} in its study)"),
        ("ridge-mid", "and {} on `ridge-mid` ({})"),
    ):
        assert runs[family].spec.cpu_limit == 60
        both = [f"{m['uvp_fwd']:.3g} and {m['uvp_bwd']:.3g}" for m in (runs[family].metrics, before[family])]
        assert says(page, words.format(*both))
    better = [compared(f"`w2ot`, {which}{seed}") for seed in ("", ", seed 101") for which in ("before", "proposed")]
    for was, now in pairwise(better):
        if was[0].spec.seed == now[0].spec.seed:
            ends = [{r.spec.task: r.metrics for r in one} for one in (was, now)]
            for task, metric in (("gaussian", "uvp_fwd"), ("uci", "mmd_fwd"), ("uci", "mmd_bwd")):
                assert ends[1][task][metric] < ends[0][task][metric]
    assert says(page, "It is better on both, and the preset has it.")


def test_ncf_and_hjpinn_at_equal_settings() -> None:
    page, study = TUNING / "README.md", read_study(study_path(TUNING, "ncf"))
    assert study is not None
    wanted = {"lr": 5e-3, "optimiser": "soap", "hj_weight": 0.5, "formula": "start"}
    (trial,) = (t for t in study.trials if t.values == wanted)
    assert says(page, f"With `formula=start`, and all else as in its best trial, `ncf` scored {trial.score:.2f}")
    assert study.proposal is not None
    assert study.trials[study.proposal.trial].values == wanted | {"formula": "farther"}
    theirs = {run.pair.partition(" ")[0]: run.score for run in trial.runs}
    runs = {str(r.spec.task_config["family"]): r for r in Store(TUNING / "ablation").all()}
    ours = {}
    for family, run in runs.items():
        assert all(run.spec.solver_config[key] == value for key, value in wanted.items())
        assert run.spec.cpu_limit == study.protocol.cpu_seconds
        ours[family] = math.sqrt(run.metrics["uvp_fwd"] * run.metrics["uvp_bwd"])
    said = f"`hjpinn` had {ours['lse-mid']:.2f} on `lse-mid` and {ours['ridge-mid']:.2f} on `ridge-mid`"
    assert says(page, f"{said} where `ncf` had {theirs['lse-mid']:.2f} and {theirs['ridge-mid']:.2f}")
    assert ours["lse-mid"] > 1.1 * theirs["lse-mid"]
    assert ours["ridge-mid"] < 1.02 * theirs["ridge-mid"]


# Measurements without a record

MEASURED = re.compile(r"\bseed 10[01]\b|\bCPU seconds\b|\bafter \d+ seconds\b")


def _blocks(text: str) -> list[str]:
    """Return paragraphs, each with the list that follows it."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        if found and paragraph.lstrip().startswith("*"):
            found[-1] += "\n" + paragraph
        else:
            found.append(paragraph)
    return found


def test_docstrings_say_of_measurements_that_no_record_is_kept() -> None:
    """They explain a choice of ours, and rank nothing; what is compared in earnest has a record."""
    checked = 0
    for folder in ("solvers", "baselines", "datasets"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            for block in _blocks(text):
                if MEASURED.search(block):
                    assert re.search(r"no\s+records?\s+kept|no\s+records\s+are\s+kept", block), (path.name, block)
                    checked += 1
    assert checked > 8
