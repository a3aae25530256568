"""What figures of lines must not do: make a small difference fill a panel, or lose a part of a label."""

from __future__ import annotations

import pytest

from otbench.records.record import Record
from otbench.report.figures import dimension
from otbench.report.figures.canvas import Drawing, Panel, save, theme
from otbench.report.figures.lines import Line, draw, name_upward
from otbench.report.figures.style import style
from otbench.report.files import Slugs
from otbench.report.rows import sections
from otbench.report.tables import families

from ..helpers.report_records import small

matplotlib = pytest.importorskip("matplotlib")


@pytest.mark.parametrize(("low", "high"), [(0.62, 0.93), (3.0, 3.0), (1e-6, 2e-6), (0.1, 50.0)])
def test_a_logarithmic_axis_spans_a_decade_around_the_values(low: float, high: float) -> None:
    from matplotlib.figure import Figure

    with theme():
        axis = Figure().subplots()
        draw(axis, [Line(style("ncf"), "-", [(2.0, low), (8.0, high)])], log_y=True)
        bottom, top = axis.get_ylim()
        assert bottom < low <= high < top
        assert top / bottom >= 10 * (1 - 1e-9)
        if high < 5 * low:  # in the middle, not at an edge
            assert (low * high) ** 0.5 == pytest.approx((bottom * top) ** 0.5, rel=0.1)


def test_a_long_label_stands_on_several_lines_and_is_not_clipped() -> None:
    from matplotlib.figure import Figure

    with theme():
        figure = Figure(figsize=(3.5, 2.9), layout="constrained")
        axis = figure.subplots()
        axis.plot([1, 2], [1, 2])
        name_upward(axis, "Frechet distance of the classifier to decoded (units)")
        figure.draw_without_rendering()
        box, panel = axis.yaxis.label.get_window_extent(), axis.get_window_extent()
        assert axis.get_ylabel().count("\n") >= 1
        assert box.height <= panel.height
        assert (box.y0, box.x0) > (0, 0)
        assert box.y1 < figure.bbox.y1


def test_labels_of_figures_by_dimension_lie_inside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    (family,) = families(sections([Record.model_validate(one) for one in small()]), Slugs())
    boxes = []

    def look(figure, drawing, formats, **more) -> None:  # type: ignore[no-untyped-def]
        save(figure, drawing, formats, **more)
        boxes.extend(
            (label.get_window_extent(), axis.get_window_extent(), figure.bbox)
            for axis in figure.axes
            for label in [axis.yaxis.label]
        )

    monkeypatch.setattr(dimension, "save", look)
    drawings = list(dimension.drawings(family, ["svg"]))
    assert len(drawings) == 2
    assert len(boxes) == 5
    for label, panel, whole in boxes:
        assert whole.y0 < label.y0 < label.y1 < whole.y1
        assert label.height <= panel.height


def test_the_words_in_place_of_a_figure_say_where_lines_end() -> None:
    lines = {"ncf": [(0.1, 0.2, 2.0, 5.0), (0.4, 0.6, 8.0, 0.5)], "mm": [(0.1, 0.2, 2.0, 0.25)], "none": []}
    drawing = Drawing("x", "gaussian: errors", panels=[Panel("dimension", "UVP (%)", lines)])
    assert drawing.alt == (
        "gaussian: errors. "
        "UVP (%) against dimension, where each line ends, from low to high: mm 0.25 at 2, ncf 0.5 at 8."
    )
    assert Drawing("x", "clouds", shown=["identity", "ncf"]).alt == "clouds. Shown: identity, ncf."


def test_panels_hold_the_points_of_named_lines_in_parts_of_the_figure() -> None:
    from matplotlib.figure import Figure

    with theme():
        figure = Figure(figsize=(4, 2))
        axis = figure.add_axes((0.25, 0.5, 0.5, 0.5))
        axis.plot([1, 3], [10, 30])  # has matplotlib's own name: left out
        draw(axis, [Line(style("ncf"), "-", [(1.0, 10.0), (3.0, 30.0)], name="_ncf")], log_y=False)
        axis.set(xlim=(1, 3), ylim=(10, 30), xlabel="a", ylabel="b\nc")
        drawing = Drawing("x", "y")
        save(figure, drawing, ["svg"])
    (panel,) = drawing.panels
    assert (panel.x, panel.y) == ("a", "b c")
    assert panel.lines == {" _ncf": [(0.25, 0.5, 1.0, 10.0), (0.75, 0.0, 3.0, 30.0)]}
