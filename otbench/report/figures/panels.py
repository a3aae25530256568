"""Draws pictures of one kind, all rows in one figure: clouds, transport lines, image grids, confusion matrices.

What is drawn of a cloud depends on the data alone, never on a solver, and is the same for all rows. Points and images
are pixels inside the vector formats, so that a page stays small.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from otbench.names import plain
from otbench.picture import Picture
from otbench.report.figures.canvas import grid, legend_below, safe_text
from otbench.report.figures.projection import INSIDE, Floats, spaced, telling_coordinates, telling_pairs
from otbench.report.figures.style import COLOURS, looks, style
from otbench.report.rows import Row

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINES, _COLUMNS = 150, 16
"""Transport lines, and images beside each other, of one row at most."""
_ALL_LINES, _ALL_POINTS = 720, 20_000
"""Transport lines, and points, of all panels of a figure at most: small panels hold fewer that can be told apart."""
_DOTS = (120, 150)
"""Pixels of a cloud, up and across; a point is a square of four."""
_PIXELS = 128
"""Side of an image at most; larger ones are thinned."""
_BLOCKS = 2
"""Pairs of photographs beside each other."""
_NAMED_CLASSES = 20
"""Classes whose counts are printed in a matrix."""
_DATA = "#3c3c3c"
_EXACT = "#e3b448"


@dataclass(frozen=True)
class Shown:
    """A row of a section with one of its pictures; `place` is that of the row in tables."""

    place: int
    row: Row
    picture: Picture


# -------------------------------------------------------------------------------------------------------------- clouds


def pairs(shown: Sequence[Shown]) -> Figure | None:
    """Draw the data and what each row makes of the source, on the most telling pairs of coordinates."""
    data = _float(shown[0].picture.arrays["data"])
    chosen = telling_pairs(data)
    if not chosen:
        return None
    names = _coordinates(shown[0].picture)
    clouds = [("data", _DATA, data)]
    clouds += [(one.row.label, style(one.row.solver).colour, _float(one.picture.arrays["mapped"])) for one in shown]
    wrapped = len(chosen) == 1  # one pair: clouds beside each other; else one line for each cloud
    columns = min(len(clouds), 4) if wrapped else len(chosen)
    lines = math.ceil(len(clouds) / columns) if wrapped else len(clouds)
    figure = _figure(2.4 * columns + 0.3, 1.9 * lines + 0.3)
    limits = [_limits(data[:, k]) for k in range(data.shape[1])]
    most = _ALL_POINTS // (len(clouds) * len(chosen))
    for place, ((label, colour, cloud), (i, j)) in enumerate(itertools.product(clouds, chosen)):
        axis = figure.add_subplot(lines, columns, place + 1)
        _scatter(axis, cloud[spaced(len(cloud), most)][:, [i, j]], colour, limits[i], limits[j])
        _quiet(axis)
        if place % len(chosen) == 0:
            axis.set_title(safe_text(label, 24 if wrapped else 60), loc="left", fontweight="bold", parse_math=False)
        if wrapped or place // columns == lines - 1:
            axis.set_xlabel(names[i], parse_math=False)
        else:
            axis.tick_params(labelbottom=False)
        axis.set_ylabel(names[j], parse_math=False)
        _outside(axis, cloud[:, [i, j]])
    return figure


def marginals(shown: Sequence[Shown]) -> Figure | None:
    """Draw the histograms of the least normal coordinates: the data filled, rows as lines."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    data = _float(shown[0].picture.arrays["data"])
    chosen = telling_coordinates(data)
    if not chosen:
        return None
    names = _coordinates(shown[0].picture)
    columns = min(len(chosen), 4)
    lines = math.ceil(len(chosen) / columns)
    figure = _figure(2.3 * max(columns, 2), 1.75 * lines + 0.7)
    bins = int(np.clip(2 * len(data) ** (1 / 3), 8, 40))
    styles = looks((one.row.kind, one.row.solver) for one in shown)
    for place, k in enumerate(chosen):
        axis = figure.add_subplot(lines, columns, place + 1)
        edges = np.linspace(*_limits(data[:, k]), bins + 1)
        own = _density(data[:, k], edges)
        axis.stairs(own, edges, fill=True, color="#d4d4d4")
        top = most = own.max()
        for one, (look, dashes) in zip(shown, styles, strict=True):
            heights = _density(_float(one.picture.arrays["mapped"])[:, k], edges)
            axis.stairs(heights, edges, baseline=None, color=look.colour, linestyle=dashes, linewidth=1.1)
            if one.row.kind != "baseline":  # the spike of a constant map leaves the panel, the rest stays legible
                top = max(top, min(heights.max(), 1.5 * most))
        axis.set(xlim=edges[[0, -1]], ylim=(0, 1.05 * top or 1))
        _quiet(axis)
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        axis.set_xlabel(names[k], parse_math=False)
    handles: list[Patch | Line2D] = [Patch(color="#d4d4d4")]
    handles += [Line2D([], [], color=look.colour, linestyle=dashes) for look, dashes in styles]
    _legend(figure, handles, ["data", *(one.row.label for one in shown)])
    return figure


def _density(values: Floats, edges: Floats) -> Floats:
    """Return the histogram of `values` as a density over all of them: what lies outside is missing, not spread."""
    counts, _ = np.histogram(values, edges)
    density: Floats = counts / (len(values) * np.diff(edges))
    return density


# -------------------------------------------------------------------------------------------------- lines in the plane


def arrows(shown: Sequence[Shown]) -> Figure | None:
    """Draw source, target and mapped points with lines between source and mapped, one panel for each row."""
    from matplotlib.lines import Line2D

    first = shown[0].picture
    lines, columns = grid(len(shown))
    both = np.concatenate([_float(first.arrays["source"]), _float(first.arrays["target"])])
    limits = [_limits(both[:, k], (0.001, 0.999), 0.06) for k in range(2)]
    sides = [high - low for low, high in limits]
    height = 3.0 * min(max(sides[1] / sides[0], 0.4), 1.6)
    figure = _figure(3.0 * max(columns, 2), (height + 0.3) * lines + 0.3)
    classes: set[int] = set()
    most = min(_LINES, _ALL_LINES // len(shown))
    for place, one in enumerate(shown):
        arrays = one.picture.arrays
        source, mapped, target = (_float(arrays[name]) for name in ("source", "mapped", "target"))
        some, dots = spaced(len(source), most), spaced(len(target), 3 * most)
        label = arrays["label"].astype(np.int64)[some] if "label" in arrays else np.full(len(some), -1)
        paths = np.stack([source[some], mapped[some], np.full((len(some), 2), np.nan)], axis=1)
        axis = figure.add_subplot(lines, columns, place + 1)
        for k in np.unique(label).tolist():  # one path for each class: a fifth of the size
            classes.add(k)
            x, y = paths[label == k].reshape(-1, 2).T
            axis.plot(x, y, color=_class_colour(k), alpha=0.45, linewidth=0.6, zorder=1)
        shades, n, m = [_class_colour(k) for k in label.tolist()], len(some), len(dots)
        x, y = np.concatenate([target[dots], source[some], mapped[some]]).T
        axis.scatter(  # target, source, mapped in one: a single image
            x,
            y,
            s=[5] * m + [7] * (2 * n),
            facecolor=["#c9c9c9"] * m + ["white"] * n + shades,
            edgecolor=["none"] * m + shades + ["none"] * n,
            linewidth=0.6,
            rasterized=True,
            zorder=2,
        )
        axis.set(xlim=limits[0], ylim=limits[1], aspect="equal", xticks=[], yticks=[])
        axis.spines[:].set(color="#bbbbbb", linewidth=0.6)
        axis.set_title(safe_text(one.row.label, 28), fontweight="bold", parse_math=False)
        _outside(axis, mapped)
    plain_dots = {"linestyle": "none", "marker": "o", "markersize": 4}
    handles = [
        Line2D([], [], color=_DATA, markerfacecolor="white", **plain_dots),  # type: ignore[arg-type]
        Line2D([], [], color=_DATA, markeredgewidth=0, **plain_dots),  # type: ignore[arg-type]
        Line2D([], [], color="#c9c9c9", markeredgewidth=0, **plain_dots),  # type: ignore[arg-type]
    ]
    labels = ["source", "mapped", "target"]
    named = sorted(k for k in classes if k >= 0)
    if first.names and 1 < len(named) <= len(COLOURS):  # a number says nothing that the colour does not
        handles += [Line2D([], [], color=_class_colour(k), linewidth=3) for k in named]
        labels += [first.names[k] if k < len(first.names) else f"class {k}" for k in named]
    _legend(figure, handles, labels)
    return figure


def way(shown: Sequence[Shown]) -> Figure | None:
    """Draw where the points of each row are at rising times, a line of panels each, over where they should be."""
    from matplotlib.lines import Line2D

    first = shown[0].picture.arrays
    columns = sum(name.startswith("exact-") for name in first)
    exact = [_float(first[f"exact-{k}"]) for k in range(columns)]
    limits = [_limits(np.concatenate(exact)[:, k], (0.001, 0.999), 0.06) for k in range(2)]
    figure = _figure(1.7 * columns + 0.2, 1.75 * len(shown) + 0.5)
    most = max(50, _ALL_POINTS // (2 * columns * len(shown)))
    for (line, one), k in itertools.product(enumerate(shown), range(columns)):
        axis = figure.add_subplot(len(shown), columns, line * columns + k + 1)
        places = _float(one.picture.arrays[f"place-{k}"])
        _scatter(axis, exact[k][spaced(len(exact[k]), most)], _EXACT, *limits)
        _scatter(axis, places[spaced(len(places), most)], style(one.row.solver).colour, *limits)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set(color="#bbbbbb", linewidth=0.6)
        if k == 0:
            axis.set_title(safe_text(one.row.label, 28), loc="left", fontweight="bold", parse_math=False)
        if line == len(shown) - 1:
            axis.set_xlabel(f"t = {k / (columns - 1):g}")
        _outside(axis, places)
    dots: dict[str, object] = {"linestyle": "", "marker": "o", "markersize": 3}
    handles = [Line2D([], [], color=colour, **dots) for colour in (_EXACT, style(shown[-1].row.solver).colour)]  # type: ignore[arg-type]
    _legend(figure, handles, ["exact", "by the maps of the row"])
    return figure


def _class_colour(label: int) -> str:
    return COLOURS[label % len(COLOURS)] if label >= 0 else "#666666"  # -1: not labelled


# ------------------------------------------------------------------------------------------------- images and matrices


def images(shown: Sequence[Shown]) -> Figure | None:
    """Draw one grid: a line of images for each array of each row; lines that are the same for all rows stand once."""
    first = shown[0].picture
    named = first.names if len(first.names) == len(first.arrays) else tuple(first.arrays)
    shared = {
        key: all(np.array_equal(one.picture.arrays[key], array) for one in shown) for key, array in first.arrays.items()
    }
    lines: list[tuple[str, bool, NDArray[np.uint8]]] = []
    for key, name in zip(first.arrays, named, strict=True):
        for one in shown[:1] if shared[key] else shown:
            alone = len(shown) == 1 or shared[key]
            label = plain(name, 40) if alone else one.row.label
            if not alone and sum(not same for same in shared.values()) > 1:
                label = f"{safe_text(one.row.label, 24)}, {plain(name, 40)}"
            lines.append((label, not alone, one.picture.arrays[key].astype(np.uint8)))
    board = _board([images for _, _, images in lines])
    figure = _figure(7.5, 6.3 * board.shape[0] / board.shape[1] + 0.15, room=0.2)
    axis = figure.add_subplot()
    axis.imshow(board, cmap="gray", vmin=0, vmax=255, interpolation="none")
    step = board.shape[0] / len(lines)
    middles = [(k + 0.5) * step - 0.5 for k in range(len(lines))]
    axis.set_yticks(middles, [safe_text(label) for label, _, _ in lines], parse_math=False)
    for tick, (_, of_row, _) in zip(axis.get_yticklabels(), lines, strict=True):
        tick.set_fontweight("bold" if of_row else "normal")
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


def _board(lines: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return lines of images, each of shape (n, height, width), as one image on white."""
    rows = [images[:_COLUMNS, :: _thinned(images.shape[1]), :: _thinned(images.shape[2])] for images in lines]
    height, width = (max(row.shape[axis] for row in rows) for axis in (1, 2))
    gap = max(1, max(height, width) // 16)
    count = max(len(row) for row in rows)
    board = np.full((len(rows) * (height + gap) - gap, count * (width + gap) - gap), 255, dtype=np.uint8)
    for line, row in enumerate(rows):
        for column, image in enumerate(row):
            top, left = line * (height + gap), column * (width + gap)
            board[top : top + image.shape[0], left : left + image.shape[1]] = image
    return board


def _thinned(pixels: int) -> int:
    return math.ceil(pixels / _PIXELS)


def photographs(shown: Sequence[Shown]) -> Figure | None:
    """Draw source and target, then what each row made of the two, always two photographs beside each other."""
    blocks = [("source", "target", shown[0].picture.arrays["source"], shown[0].picture.arrays.get("target"))]
    for one in shown:
        arrays = one.picture.arrays
        blocks.append((one.row.label, "", arrays["forward"], arrays.get("backward")))
    lines = math.ceil(len(blocks) / _BLOCKS)
    columns = 2 * _BLOCKS
    ratio = max(array.shape[0] / array.shape[1] for _, _, *pair in blocks for array in pair if array is not None)
    figure = _figure(7.5, lines * (7.3 / columns * min(ratio, 1.6) + 0.25) + 0.15)
    for place, (left, right, *pair) in enumerate(blocks):
        for side, (title, array) in enumerate(zip((left, right), pair, strict=True)):
            if array is None:
                continue
            axis = figure.add_subplot(lines, columns, 2 * place + side + 1)
            axis.imshow(array.astype(np.uint8), interpolation="none")
            axis.set_title(safe_text(title, 24), loc="left", fontweight="bold", parse_math=False)
            axis.set_axis_off()
    return figure


def matrix(shown: Sequence[Shown]) -> Figure | None:
    """Draw a confusion matrix for each row: shares of the wanted class as shades, counts as numbers."""
    lines, columns = grid(len(shown))
    classes = len(shown[0].picture.arrays["counts"])
    names = [plain(name, 40) for name in shown[0].picture.names]
    names = names if len(names) == classes else [str(k) for k in range(classes)]
    long = max(len(name) for name in names) > 2
    figure = _figure(3.2 * columns, 3.4 * lines)
    for place, one in enumerate(shown):
        counts = _float(one.picture.arrays["counts"])
        total = counts.sum(1, keepdims=True)
        share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
        axis = figure.add_subplot(lines, columns, place + 1)
        axis.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="none")
        right = np.trace(counts) / counts.sum() if counts.sum() > 0 else 0.0
        axis.set_title(f"{safe_text(one.row.label, 22)} ({100 * right:.1f} %)", fontweight="bold", parse_math=False)
        if classes <= _NAMED_CLASSES:
            size = min(7.0, 62 / classes)
            for i, j in zip(*np.nonzero(counts), strict=True):
                colour = "white" if share[i, j] > 0.55 else "#333333"
                text = _count(int(counts[i, j]))
                axis.text(
                    j, i, text, ha="center", va="center", color=colour, fontsize=size if len(text) < 4 else 0.8 * size
                )
            ticks = [safe_text(name, 12) for name in names]
            axis.set_xticks(range(classes), ticks, rotation=90 if long else 0, parse_math=False)
            axis.set_yticks(range(classes), ticks, parse_math=False)
        axis.tick_params(length=0, labelsize="x-small")
        axis.spines[:].set(color="#bbbbbb", linewidth=0.6)
        axis.set_xlabel("class found")
        axis.set_ylabel("class wanted")
    return figure


def _count(value: int) -> str:
    """Return a count in five characters at most."""
    return str(value) if value < 10_000 else f"{value / 1000:.0f}k" if value < 10_000_000 else f"{value:.0e}"


# -------------------------------------------------------------------------------------------------------------- pieces


def _figure(width: float, height: float, *, room: float = 0.08) -> Figure:
    """Return a figure, in inches, with `room` left and right: letters are wider in some formats than in others."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.set_layout_engine("constrained", w_pad=room, h_pad=0.06)
    return figure


def _float(array: NDArray[np.float32] | NDArray[np.uint8] | NDArray[np.int64]) -> Floats:
    return array.astype(np.float64)


def _limits(values: Floats, inside: tuple[float, float] = INSIDE, margin: float = 0.12) -> tuple[float, float]:
    """Return the limits of an axis from the bulk of the data, so that no far point squeezes the rest."""
    low, high = (float(value) for value in np.quantile(values, inside))
    room = margin * (high - low) or 0.5 * max(1.0, abs(low))
    return low - room, high + room


def _scatter(axis: Axes, points: Floats, colour: str, across: tuple[float, float], up: tuple[float, float]) -> None:
    """Draw points as a small image, darker where they lie on each other: a tenth of the size of as many markers."""
    from matplotlib.colors import ListedColormap, to_rgba

    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=_DOTS, range=(up, across))
    spread = np.pad(counts, ((1, 0), (1, 0)))
    spread = spread[1:, 1:] + spread[:-1, 1:] + spread[1:, :-1] + spread[:-1, :-1]
    shades = ListedColormap([to_rgba(colour, alpha) for alpha in (0.0, 0.45, 0.65, 0.8, 0.9, 1.0)])
    image = np.minimum(spread, shades.N - 1)
    box = (*across, *up)
    axis.imshow(
        image, shades, vmin=0, vmax=shades.N - 1, extent=box, origin="lower", aspect="auto", interpolation="none"
    )
    axis.set(xlim=across, ylim=up)


def _outside(axis: Axes, points: Floats) -> None:
    """Say how many points lie outside the panel, where they are more than a few."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    x, y = points.T
    share = 1 - float(((x >= left) & (x <= right) & (y >= low) & (y <= high)).mean())
    if share > 0.03:
        axis.text(
            0.98, 0.02, f"{100 * share:.0f} % outside", transform=axis.transAxes, ha="right", va="bottom",
            fontsize="xx-small", color="#444444", bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
        )  # fmt: skip


def _quiet(axis: Axes) -> None:
    """Few ticks, plain numbers, no frame."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for line in (axis.xaxis, axis.yaxis):
        line.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.tick_params(labelsize="x-small", length=2.5)
    axis.spines[["top", "right"]].set_visible(False)


def _coordinates(picture: Picture) -> list[str]:
    d = picture.arrays["data"].shape[1]
    names = [safe_text(plain(name, 40), 20) for name in picture.names]
    return names if len(names) == d else [f"x{k + 1}" for k in range(d)]


def _legend(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    legend_below(
        figure, handles, [safe_text(plain(label, 80)) for label in labels], columns=round(figure.get_figwidth() / 1.5)
    )
