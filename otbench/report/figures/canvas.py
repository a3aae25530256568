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


@dataclass
class Drawing:
    """One figure in all formats that were asked for.

    Attributes:
        name: of the file, without folder and ending.
        title: what is drawn, in words.
        data: by format.
        left_out: rows and panels that did not fit.
    """

    name: str
    title: str
    data: dict[str, bytes] = field(default_factory=dict)
    left_out: int = 0


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


def safe_text(text: str, limit: int = _LABEL) -> str:
    """Return `text` as it can be drawn: glyphs of the font, not too long, not hidden by a leading underscore."""
    from matplotlib import font_manager

    known = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
    text = "".join(c if ord(c) in known else "?" for c in text)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return f" {text}" if text.startswith("_") else text
