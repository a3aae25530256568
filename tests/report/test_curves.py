"""Error against time: which clocks are drawn, which published numbers are lines, and labels that keep apart."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from otbench.records.record import Record
from otbench.report.figures import labels
from otbench.report.figures.curves import _panels, _published, drawings
from otbench.report.figures.labels import Label
from otbench.report.files import Slugs
from otbench.report.rows import sections
from otbench.report.tables import families

from ..helpers.report_records import record


def with_clocks(solver: str, *clocks: str, seed: int = 0) -> Record:
    """Return a run whose curve has these clocks beside the wall's."""
    made = Record.model_validate(record(solver, 8, seed, 0.01))
    extra = {"train_cpu_s": 0.05, "samples": 10}
    made.curve = [
        point.model_copy(update={clock: extra[clock] * 2**index for clock in clocks})
        for index, point in enumerate(made.curve)
    ]
    return made


@pytest.mark.parametrize(
    ("have", "drawn"),
    [
        ([("train_cpu_s", "samples"), ("train_cpu_s", "samples")], ["samples", "train_cpu_s"]),
        ([("train_cpu_s", "samples"), ("samples",)], ["samples", "train_s"]),
        ([("train_cpu_s",), ("train_cpu_s",)], ["train_cpu_s"]),
        ([(), ("train_cpu_s", "samples")], ["train_s"]),
    ],
)
def test_time_is_the_processors_where_all_have_it_and_samples_are_beside(
    have: list[tuple[str, ...]], drawn: list[str]
) -> None:
    (section,) = sections([with_clocks(name, *clocks) for name, clocks in zip(("ncf", "mmr"), have, strict=True)])
    solvers = {row.label: row for row in section.rows if row.kind == "solver"}
    panels = _panels(solvers, section.metrics[0])
    assert [clock.key for clock, _ in panels] == drawn
    assert all(curves.keys() == {"ncf", "mmr"} for _, curves in panels)


def test_published_numbers_are_lines_unless_they_would_only_stretch_the_scale() -> None:
    (section,) = sections([with_clocks("ncf")])
    metric = section.metrics[0]
    everything, none = _published(section, metric, math.inf)
    assert none == 0
    assert ("MM-v1", 0.173) in {(label, value) for label, value, _ in everything}
    near, beyond = _published(section, metric, 0.05)
    assert near == [one for one in everything if one[1] <= 0.15]
    assert beyond == len(everything) - len(near) > 0


def test_one_figure_a_section_names_its_lines() -> None:
    runs = [with_clocks("ncf", "train_cpu_s", seed=seed) for seed in range(3)]
    runs.append(Record.model_validate(record("identity", 8, 0, 5.0, curve=[])))
    (family,) = families(sections(runs), Slugs())
    (drawing,) = drawings(family, ["svg"])
    assert drawing.name.endswith("--curves")
    assert drawing.data["svg"].startswith(b"<?xml")


@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=20))
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_labels_keep_their_distance_and_the_order_of_their_ends(ends: list[float]) -> None:
    margin = 1.0
    figure = Figure(figsize=(4, labels.height(len(ends), 3.0, margin)))
    axis = figure.subplots()
    axis.set_yscale("log")
    axis.set_ylim(1e-3, 1e3)
    labels.write(figure, axis, [Label(str(index), "k", (None, end)) for index, end in enumerate(ends)], margin)
    places = {int(text.get_text()): text.get_position()[1] for text in axis.texts}
    order = sorted(places, key=lambda index: places[index])
    assert [ends[index] for index in order] == sorted(ends)
    step = labels.LINE / (figure.get_figheight() - margin)
    gaps = [places[b] - places[a] for a, b in pairwise(order)]
    assert min(gaps) >= min(step, 1 / (len(ends) - 1)) - 1e-9
    assert 0 <= min(places.values()) <= max(places.values()) <= 1 + 1e-9
