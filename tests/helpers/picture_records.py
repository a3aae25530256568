"""Records with pictures for the tests of reports: one task of each kind, three rows, made by closed formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from otbench.picture import Picture
from otbench.records.record import Record
from otbench.records.store import Store

from .report_records import record, spec

ROWS = ("identity", "linear", "fixedpoint", "ncf")


def moons(n: int, d: int, seed: int) -> np.ndarray:
    """Return two moons in coordinates 2 and 5 of `d`, an exponential in 1, normals elsewhere, shape (n, d)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    angle, lower = np.pi * rng.random(n), rng.random(n) < 0.5
    x[:, 2] = np.where(lower, 1 - np.cos(angle), np.cos(angle)) + 0.07 * rng.normal(size=n)
    x[:, 5] = np.where(lower, 0.5 - np.sin(angle), np.sin(angle)) + 0.07 * rng.normal(size=n)
    x[:, 1] = rng.exponential(size=n)
    return x


def cloud(row: str) -> Picture:
    """Return two moons in six dimensions, and what a row makes of a normal."""
    data = moons(2000, 6, 0)
    rng = np.random.default_rng(1)
    mapped = {
        "identity": rng.normal(size=data.shape),
        "linear": rng.multivariate_normal(data.mean(0), np.cov(data.T), len(data)),
        "fixedpoint": moons(2000, 6, 2) + 0.08 * rng.normal(size=data.shape),
        "ncf": moons(2000, 6, 3) + 0.2 * rng.normal(size=data.shape),
    }[row]
    return Picture("cloud", "points", "data and pushforward", {"data": single(data), "mapped": single(mapped)})


def lines(row: str) -> Picture:
    """Return four modes on a ring that move to the opposite side."""
    rng = np.random.default_rng(4)
    label = np.arange(400) % 4
    angle = 0.5 * np.pi * label
    centre = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    source = 2 * centre + 0.2 * rng.normal(size=(400, 2))
    target = 4 * centre + 0.3 * rng.normal(size=(400, 2))
    factor = {"identity": 1.0, "linear": 2.0, "fixedpoint": 2.0, "ncf": 1.9}[row]
    arrays = {"source": single(source), "mapped": single(factor * source), "target": single(target), "label": label}
    return Picture("lines", "arrows", "transport lines", arrays)


def grid(row: str) -> Picture:
    """Return three lines of images."""
    rng = np.random.default_rng(5)
    x, y = np.meshgrid(np.linspace(-1, 1, 28), np.linspace(-1, 1, 28))
    radius = rng.uniform(0.3, 0.8, (16, 1, 1))
    source = 255 * np.exp(-(((np.hypot(x, y) - radius) / 0.12) ** 2))
    target = 255 * np.exp(-(((np.abs(x) + np.abs(y) - radius) / 0.12) ** 2))
    share = {"identity": 0.0, "linear": 0.5, "fixedpoint": 1.0, "ncf": 0.9}[row]
    mapped = (1 - share) * source + share * target
    arrays = {name: a.astype(np.uint8) for name, a in (("source", source), ("mapped", mapped), ("target", target))}
    return Picture("digits", "images", "digits", arrays, ("source", "transported", "target"))


def confusion(row: str) -> Picture:
    """Return the confusion of ten classes."""
    rng = np.random.default_rng(6)
    share = {"identity": 0.1, "linear": 0.7, "fixedpoint": 0.95, "ncf": 0.9}[row]
    counts = np.stack([rng.multinomial(1000, share * np.eye(10)[k] + (1 - share) / 10) for k in range(10)])
    return Picture("confusion", "matrix", "classes of mapped images", {"counts": counts})


def photographs(row: str) -> Picture:
    """Return two photographs of other sizes, red and blue, and what a row makes of them; `linear` has no way back."""
    share = {"identity": 0.0, "linear": 0.5, "fixedpoint": 1.0, "ncf": 0.9}[row]
    shade = np.linspace(0, 255, 24)[:, None] * np.ones((24, 32))
    source, target = (np.stack([shade if k == channel else 0 * shade for k in range(3)], 2) for channel in (0, 2))
    target = target[:16]
    arrays = {"source": source, "target": target, "forward": (1 - share) * source + share * source[:, :, ::-1]}
    if row != "linear":
        arrays["backward"] = (1 - share) * target + share * target[:, :, ::-1]
    return Picture("pair", "photographs", "two photographs", {name: a.astype(np.uint8) for name, a in arrays.items()})


def way(row: str) -> Picture:
    """Return points of a normal that stretch along one axis and move along the other, at five times."""
    source = np.random.default_rng(7).normal(size=(1000, 2))
    share = {"identity": 0.0, "linear": 0.7, "fixedpoint": 1.0, "ncf": 0.95}[row]
    arrays = {}
    for k in range(5):
        for name, part in (("place", share), ("exact", 1.0)):
            arrays[f"{name}-{k}"] = single(source * [1 + part * k / 2, 1] + [0, part * k])
    return Picture("way", "way", "the way", arrays)


KINDS = {
    "points": cloud,
    "arrows": lines,
    "images": grid,
    "photographs": photographs,
    "matrix": confusion,
    "way": way,
}


def single(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32)


def fill(
    folder: Path,
    *,
    seeds: int = 1,
    reads_label: bool = False,
    keeps_rows: int = 0,
    kinds: tuple[str, ...] = tuple(KINDS),
) -> Store:
    """Write records of `ROWS` with pictures of `kinds` for each seed."""
    store = Store(folder)
    for row in ROWS:
        for seed in range(seeds):
            base = record(row, 6, seed, 0.5, curve=[], spec=spec(row, 6, seed, preset="quick"))
            made = Record.model_validate(base)
            if row == "ncf":
                made.reads_label, made.keeps_rows = reads_label, keeps_rows
            made.pictures = store.write_pictures(made.id, [KINDS[kind](row) for kind in kinds])
            store.write(made)
    return store
