"""Direct labels: the names of lines in a column to the right of a panel, near their ends and none over another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from otbench.report.figures.canvas import safe_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE = 0.155
"""Height of a label in inches."""
EDGE = 0.05
"""Inches left free at the right: the width of a text depends a little on the format."""
_LETTER = 0.075
"""Width of a letter of a label, at most."""
_GAP = 0.45
"""Width of the line from a panel to a label."""
_LONGEST = 30
"""Letters of a name."""


@dataclass(frozen=True)
class Label:
    """What stands beside a panel.

    Attributes:
        text: the label.
        colour: of text and line.
        end: where the line to it starts, in the coordinates of the data; None for x is the panel's right end.
        weak: whether it is set in italics, as what is not ours is.
    """

    text: str
    colour: str
    end: tuple[float | None, float]
    weak: bool = False


def short(label: str) -> str:
    """Leave out the middle of a long name: settings of one solver often differ at the end."""
    label = safe_text(label, 200)
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 13]}…{label[-12:]}"


def room(labels: Sequence[str]) -> float:
    """Return the inches that a column of `labels` takes."""
    return _GAP + _LETTER * max(map(len, labels), default=0)


def height(labels: int, panel: float, margin: float) -> float:
    """Return the height of a figure, in inches, whose panel has at least `panel` and room for so many labels."""
    return max(panel + margin, LINE * labels + margin)


def write(figure: Figure, axis: Axes, labels: Sequence[Label], margin: float) -> None:
    """Write `labels` to the right of `axis`, in the order of their ends.

    Args:
        figure: holds `axis`, in one line of panels.
        axis: with its final limits.
        labels: what to write.
        margin: inches of the figure's height that are not the panel's.
    """
    from scipy.optimize import isotonic_regression

    if not labels:
        return
    right = axis.get_xlim()[1]
    to_axes = axis.transData + axis.transAxes.inverted()
    ends = to_axes.transform([(right if one.end[0] is None else one.end[0], one.end[1]) for one in labels])
    order = np.argsort(np.nan_to_num(ends[:, 1], nan=0.0), kind="stable")
    wanted = np.clip(np.nan_to_num(ends[order, 1], nan=0.0), 0.0, 1.0)
    steps = np.arange(len(labels)) * min(LINE / (figure.get_figheight() - margin), 1 / max(len(labels) - 1, 1))
    places = isotonic_regression(wanted - steps).x.clip(0.0, 1.0 - steps[-1]) + steps
    for index, place in zip(order, places, strict=True):
        label, (x, y) = labels[index], ends[index]
        if 0 <= y <= 1:
            style = {"color": label.colour, "linewidth": 0.5, "transform": axis.transAxes, "clip_on": False}
            axis.plot([x, 1.02, 1.07], [y, y, place], **style)
        text = axis.text(1.08, place, label.text, color=label.colour, transform=axis.transAxes, va="center")
        text.set(fontsize="x-small", parse_math=False, style="italic" if label.weak else "normal")
