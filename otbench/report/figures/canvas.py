"""What all figures of a report share: the theme, the text that is safe to draw, and the files of all formats.

Everything is drawn once per format by matplotlib through seaborn, without any window or global state of pyplot.
Text out of records is drawn as it stands: never as a formula, and only with glyphs that the font has.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from otbench.names import few
from otbench.report.figures.svg import compact

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

_METADATA: dict[str, dict[str, object]] = {
    "svg": {"Date": None, "Creator": "otbench"},
    "pdf": {"CreationDate": None, "Creator": "otbench", "Producer": None},
    "png": {"Software": "otbench"},
}
"""What files of each format say of themselves: no date, so that the same records give the same bytes."""
_LABEL = 32
_SHOWN = 12
"""Rows that are named in place of a figure."""
_DPI = 160
_SETTINGS = {
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "otbench",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
    "figure.dpi": 100,
    "savefig.dpi": _DPI,
}


@dataclass(frozen=True)
class Panel:
    """What the lines of one panel say, and where it stands in the figure.

    Attributes:
        x: label of the axis.
        y: label of the axis.
        lines: by name, the points as (across, down, x, y); the first two in parts of the figure's width and height.
    """

    x: str
    y: str
    lines: dict[str, list[tuple[float, float, float, float]]]


@dataclass
class Drawing:
    """One figure in all formats that were asked for.

    Attributes:
        name: of the file, without folder and ending.
        title: what is drawn, in words.
        data: by format.
        left_out: rows and panels that did not fit.
        panels: of a figure of lines, for the page, which shows the values of a point under the mouse.
        shown: what a figure of pictures shows, in the order of its panels.
    """

    name: str
    title: str
    data: dict[str, bytes] = field(default_factory=dict)
    left_out: int = 0
    panels: list[Panel] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    @property
    def alt(self) -> str:
        """What the figure shows, for those who do not see it: where its lines end, or which rows have panels."""
        said = [f"{self.title}.", *map(_said, self.panels)]
        return " ".join([*said, f"Shown: {few(self.shown, _SHOWN)}."] if self.shown else said)


@contextmanager
def theme() -> Iterator[None]:
    """Draw in the style of the reports; the settings of the caller come back afterwards."""
    import matplotlib as mpl
    import seaborn as sns

    with sns.axes_style("ticks"), sns.plotting_context("paper"), mpl.rc_context(_SETTINGS):  # type: ignore[arg-type]
        yield


def grid(panels: int) -> tuple[int, int]:
    """Return lines and columns of so many panels."""
    columns = 2 if panels == 4 else min(panels, 3)
    return math.ceil(panels / columns), columns


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], *, columns: int) -> None:
    """Put a legend under the panels, in at most `columns` columns: as many as fit into the figure's width."""
    for count in range(max(1, min(columns, len(labels))), 0, -1):
        legend = figure.legend(list(handles), labels, loc="outside lower center", ncols=count, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
        if count == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def save(figure: Figure, drawing: Drawing, formats: Iterable[str], *, svg_dpi: int = _DPI) -> None:
    """Put the files of `figure` into `drawing`, in those of `formats` that are pictures; inside `theme` only.

    Args:
        figure: what is drawn.
        drawing: where the files go.
        formats: of a report; those that are no pictures are passed over.
        svg_dpi: pixels of an inch of what an SVG file holds as pixels.
    """
    wanted = set(formats)
    for fmt in (name for name in _METADATA if name in wanted):
        out = io.BytesIO()
        dpi = svg_dpi if fmt == "svg" else _DPI
        figure.savefig(out, format=fmt, metadata=_METADATA[fmt], facecolor="white", dpi=dpi)
        figure.set_layout_engine(None)  # the first drawing has placed everything; the next ones need not do it again
        drawing.data[fmt] = compact(out.getvalue()) if fmt == "svg" else out.getvalue()
    drawing.panels = list(_panels(figure))


def _panels(figure: Figure) -> Iterator[Panel]:
    """Yield the panels that have named lines (`set_label`); names that begin with _ are matplotlib's own."""
    width, height = figure.bbox.size
    for axis in figure.axes:
        lines: dict[str, list[tuple[float, float, float, float]]] = {}
        for line in axis.get_lines():
            points = np.asarray(line.get_xydata(), dtype=float)
            if line.get_label() and not str(line.get_label()).startswith("_") and len(points):
                places = axis.transData.transform(points)
                found = [
                    (round(across / width, 4), round(1 - up / height, 4), float(x), float(y))
                    for (across, up), (x, y) in zip(places.tolist(), points.tolist(), strict=True)
                    if math.isfinite(across) and math.isfinite(up)
                ]
                lines.setdefault(str(line.get_label()), []).extend(found)
        if lines:
            x, y = (" ".join(text.split()) for text in (axis.get_xlabel(), axis.get_ylabel()))
            yield Panel(x, y, lines)


def _said(panel: Panel) -> str:
    """Return in words where the lines of a panel end."""
    ends = sorted((points[-1][3], name, points[-1][2]) for name, points in panel.lines.items() if points)
    words = [f"{name} {y:.3g} at {x:.3g}" for y, name, x in ends]
    if not words:
        return ""
    return f"{panel.y} against {panel.x}, where each line ends, from low to high: {few(words, _SHOWN)}."


def safe_text(text: str, limit: int = _LABEL) -> str:
    """Return `text` as it can be drawn: glyphs of the font, not too long, not hidden by a leading underscore."""
    from matplotlib import font_manager

    known = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
    text = "".join(c if ord(c) in known else "?" for c in text)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return f" {text}" if text.startswith("_") else text
