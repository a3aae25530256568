"""UCI tables: transport a standard normal to a real distribution of rows, and compare with held-out rows.

Source N(0, I), sampled without end; target the training rows of a set; quadratic cost. Sets: the five of the
density-estimation literature, preprocessed as the published numbers had them (`_uci_tables`), or as much of them as is
on this machine; and three small tables that come with scikit-learn, as a demonstration that works offline.

The run's seed decides nothing about the data: training rows, test rows and the normal sample for scoring are fixed; it
is the solver's. Test rows above 100 000 are thinned to 100 000 fixed ones.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from otbench.config import Value
from otbench.data.prepared import Prepared
from otbench.data.remote import RemoteFile
from otbench.data.sources import DataSource, size
from otbench.datasets.uci import files
from otbench.datasets.uci.demo import DEMO, demo
from otbench.datasets.uci.tables import PUBLISHED
from otbench.metrics.density import mean_nll
from otbench.metrics.two_sample import FINAL_POINTS, TEST_POINTS, v_floor
from otbench.metrics.two_sides import METRICS, TwoSides
from otbench.problem import Batch, FreshMeasure, PoolMeasure, Problem, QuadraticCost
from otbench.task import (
    Config,
    Field,
    Instance,
    Metric,
    Outputs,
    Picture,
    Published,
    Task,
    TestData,
    register_task,
)

REAL = tuple(PUBLISHED)
SETS = (*REAL, *DEMO)
SOURCE_POINTS = 2**14
MAX_TEST_ROWS = 100_000
_SOURCE, _THIN = 0, 1


class UCIConfig(Config):
    """Parameters of the UCI task."""

    set: Literal["power", "gas", "hepmass", "miniboone", "bsds300", "breast-cancer", "wine", "digits"] = Field(
        "wine", "power, gas, hepmass, miniboone, bsds300; small, bundled: breast-cancer, wine, digits"
    )
    scaling: Literal["zscore", "minmax"] = Field(
        "zscore", "zscore (OT-Flow's) or minmax to [-1, 1] (NCF's); bsds300 is never scaled"
    )
    pool_seed: int | None = Field(None, "as in other tasks; here the rows are the same for all seeds", ge=0, lt=10**9)


class UCISource(DataSource):
    """One of the five real sets; all come in one archive."""

    licence = "those of https://doi.org/10.5281/zenodo.1161203, of the UCI repository, and (BSDS300) of Berkeley"

    def __init__(self, name: str) -> None:
        """Name the set."""
        dim, train, _, _ = PUBLISHED[name]
        self.name = name
        self.what = f"{name.upper()}, {files.spaced(train)} training rows of {dim}; one download serves all five sets"
        self.files: tuple[RemoteFile, ...] = (files.ARCHIVE,)

    def find(self, data_dir: Path | None) -> str | None:
        """Return where the set is: in the user's folder, prepared in the cache, or in the archive."""
        return files.where(self.name, data_dir)

    def fetch(self, data_dir: Path | None) -> str:
        """Download the archive unless the whole set is here, and prepare the set in both scalings."""
        made = [files.load(self.name, scaling, data_dir, part=False) for scaling in ("zscore", "minmax")]
        assert made[0].manifest is not None
        return str(made[0].manifest.parent)


class UCIInstance(Instance):
    """One set with its training rows and its test data."""

    def __init__(self, problem: Problem, test: TestData, names: tuple[str, ...], facts: Mapping[str, Value]) -> None:
        """Hold the parts; `names` are those of the columns."""
        self.problem = problem
        self.test = test
        self.names = names
        self._sides = TwoSides(
            test.source.x,
            test.target.x,
            training=problem.target.pool,
            source_variance=float(problem.dim),  # N(0, I)
            vstat=True,
            plan=False,
        )
        self.facts = {**facts, **self._sides.facts()}

    def score(self, outputs: Outputs) -> dict[str, float]:
        """Return the metrics by name; those that need a backward map or a density are left out without one.

        Distances end in `_fwd` for T#source against test rows, in `_bwd` for S#test rows against the normal sample.
        """
        scores = self._sides.scores(outputs.forward, outputs.backward, outputs.roundtrip, final=outputs.final)
        return scores | ({} if outputs.log_prob is None else mean_nll(outputs.log_prob))

    def pictures(self, outputs: Outputs) -> Sequence[Picture]:
        """Return test rows, pushforward and normal sample, at most 2000 fixed points of each."""
        return (self._sides.picture(outputs.forward, self.names),)


@register_task(
    "uci",
    config=UCIConfig,
    reference="Papamakarios, Pavlakou, Murray, Masked Autoregressive Flow for Density Estimation, NeurIPS 2017, "
    "arXiv 1705.07057; data: https://doi.org/10.5281/zenodo.1161203",
    presets={
        "smoke": {"set": ["wine"]},
        "quick": {"set": list(REAL)},
        "full": {"set": list(REAL)},
        "paper": {"set": list(REAL)},
    },
)
class UCI(Task[UCIConfig]):
    """Standard normal to real tables: how well does the pushforward match held-out rows?"""

    metrics: ClassVar[tuple[Metric, ...]] = (
        *METRICS[:4],
        Metric("nll", "NLL", "nats", primary=True),
        Metric("nll_missing", "no density", "share", primary=True),
        *METRICS[4:],
        Metric("vstat_fwd", "V-statistic fwd"),
        Metric("vstat_floor_fwd", "its floor"),
        Metric("vstat_bwd", "V-statistic bwd"),
        Metric("vstat_floor_bwd", "its floor, bwd"),
    )

    def controls(self) -> tuple[str, ...]:
        """Return the row of copies of training rows: what memorising reaches."""
        return ("copies",)

    @classmethod
    def sources(cls) -> Sequence[DataSource]:
        """Return the five real sets."""
        return [UCISource(name) for name in REAL]

    @classmethod
    def choose(
        cls, preset: Mapping[str, Value | Sequence[Value]], *, typed: frozenset[str], data_dir: Path | None
    ) -> tuple[Mapping[str, Value | Sequence[Value]], Sequence[str]]:
        """Keep the real sets that are on this machine; where there are none, take the bundled tables.

        A set that the user types is downloaded if it is missing.
        """
        wanted = preset.get("set")
        if "set" in typed or wanted is None or isinstance(wanted, str) or not isinstance(wanted, Sequence):
            return preset, ()
        missing = [name for name in REAL if name in wanted and UCISource(name).find(data_dir) is None]
        here = [name for name in wanted if name not in missing]
        notes = [
            f"uci: {name} left out: not on this machine; `python bench.py data fetch {name}` downloads "
            f"{size(files.ARCHIVE)} (all five sets)"
            for name in missing
        ]
        if not here:
            notes.append(f"uci: no real set is here, so the bundled tables are taken as a demo: {', '.join(DEMO)}")
        return {**preset, "set": here or list(DEMO)}, notes

    def check(self) -> None:
        """Find and prepare the set.

        Raises:
            DataError: a file is missing, damaged or of another form, or a download failed.
        """
        _ = self._data

    def inputs(self) -> tuple[Path, ...]:
        """Return the manifest of a real set: it holds the digest of all that the set was made from."""
        manifest = self._data.manifest
        return () if manifest is None else (manifest,)

    def build(self, *, seed: int, device: torch.device, dtype: torch.dtype) -> UCIInstance:
        """Make the instance; it is the same for all seeds."""
        data = self._data
        train, validation, test = (data.arrays[name] for name in ("train", "validation", "test"))
        dim, number = train.shape[1], SETS.index(self.config.set)

        def tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Tensor:
            return torch.from_numpy(array).to(device, dtype)

        held_out = _thinned(test, number)
        points = min(SOURCE_POINTS, max(4 * len(held_out), 1000))
        noise = np.random.Generator(np.random.PCG64([_SOURCE, number])).standard_normal((points, dim))
        x = torch.from_numpy(noise).to(device, dtype)
        source = FreshMeasure((dim,), functools.partial(_normal, dim, device, dtype), is_standard_normal=True)
        target = PoolMeasure(tensor(train), validation=tensor(validation))
        facts: dict[str, Value] = {
            "set": self.config.set,
            "demo": self.config.set in DEMO,
            "dim": dim,
            "scaling": self._scaling(),
            "training_rows": len(train),
            "validation_rows": len(validation),
            "test_rows": len(test),
            "test_rows_used": len(held_out),
            "source_points": points,
            "vstat_floor": v_floor(min(points, FINAL_POINTS), min(len(held_out), FINAL_POINTS)),
            **data.facts,
        }
        problem = Problem(source, target, QuadraticCost(), device, dtype)
        return UCIInstance(problem, TestData(Batch(x), Batch(tensor(held_out))), data.names, facts)

    def describe(self) -> str:
        """Return set, dimension, scaling and size in a few words."""
        data = self._data
        train, test = data.arrays["train"], data.arrays["test"]
        demo_mark = "demo: " if self.config.set in DEMO else ""
        words = f"{demo_mark}{self.config.set}, d = {train.shape[1]}, {self._scaling()}, "
        words += f"{files.spaced(len(train))} training rows"
        words += f"; {data.facts['partial']}" if data.facts.get("partial") else ""
        words += self.pool_words()
        return words + (f"; p from {len(test)} points" if len(test) < TEST_POINTS else "")

    def published(self) -> Published | None:
        """Published rows were measured on the whole sets."""
        whole = self.config.set in REAL and not self._data.facts.get("partial")
        return Published("uci", {"set": self.config.set}) if whole else None

    def _scaling(self) -> str:
        return "unscaled" if self.config.set == "bsds300" else self.config.scaling

    @functools.cached_property
    def _data(self) -> Prepared:
        name, scaling = self.config.set, self.config.scaling
        if name not in DEMO:
            return files.load(name, scaling, self.data_dir)
        splits = demo(name, scaling)
        return Prepared({k: x.astype(np.float32) for k, x in splits.arrays.items()}, {}, splits.names)


def _normal(dim: int, device: torch.device, dtype: torch.dtype, n: int, generator: torch.Generator) -> Tensor:
    """Return `n` points of N(0, I), shape (n, dim)."""
    return torch.randn(n, dim, generator=generator, device=device, dtype=dtype)


def _thinned(
    rows: np.ndarray[tuple[int, ...], np.dtype[np.float32]], number: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return all rows, or 100 000 fixed ones of them, in their order."""
    if len(rows) <= MAX_TEST_ROWS:
        return rows
    chosen = np.random.Generator(np.random.PCG64([_THIN, number])).permutation(len(rows))[:MAX_TEST_ROWS]
    return np.asarray(rows[np.sort(chosen)])
